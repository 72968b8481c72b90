"""`drivetrain runs export` and `import`, and `drivetrain import` of stores and folders that the real mlflow and wandb clients have made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivetrain.client import Client
from tests.cli.conftest import run
from tests.clients.wandb_script import command, script
from tests.conftest import Server

pytestmark = pytest.mark.slow
Json = dict[str, Any]

LOG = """
import pathlib, sys
import mlflow, numpy as np
from sklearn.linear_model import LinearRegression
mlflow.set_experiment("digits")
with mlflow.start_run(run_name="one", tags={"k": "v ü"}) as run:
    mlflow.log_params({"lr": 0.1, "note": "two\\nlines: 'x'", "empty": ""})
    for step in range(5):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.log_metric("a/b", float("nan") if step == 2 else step, step=step)
    mlflow.log_metric("loss", 7, step=1)
    pathlib.Path("f.txt").write_text("hello")
    mlflow.log_artifact("f.txt", "sub folder")
    mlflow.log_input(mlflow.data.from_numpy(np.arange(4), name="nums"), context="training", tags={"q": "1"})
    model = LinearRegression().fit([[1], [2]], [1, 2])
    info = mlflow.sklearn.log_model(model, name="lin", registered_model_name="reg", pip_requirements=["scikit-learn"])
    with mlflow.start_run(run_name="child", nested=True):
        mlflow.log_metric("m", 1)
client = mlflow.MlflowClient()
mlflow.register_model(info.model_uri, "reg")
client.create_model_version("reg", info.model_uri, run.info.run_id, description="third", tags={"vt": "1"})
client.delete_model_version("reg", "2")
client.set_registered_model_alias("reg", "champion", 3)
client.set_registered_model_tag("reg", "rt", "x")
with mlflow.start_run(run_name="gone") as gone:
    pass
client.delete_run(gone.info.run_id)
with mlflow.start_run(run_name="bad"):
    pass
client.set_terminated(mlflow.last_active_run().info.run_id, "FAILED")
old = mlflow.create_experiment("old", tags={"et": "1"})
with mlflow.start_run(experiment_id=old):
    mlflow.log_param("p", 1)
mlflow.delete_experiment(old)
if not mlflow.get_tracking_uri().startswith("file:"):
    mlflow.genai.register_prompt(name="greet", template="Hi {{x}}")
"""
TELL = """
import json, mlflow
from mlflow.entities import ViewType
client = mlflow.MlflowClient()

def files(run_id, path=None):
    for one in client.list_artifacts(run_id, path):
        if one.is_dir:
            yield from files(run_id, one.path)
        else:
            yield [one.path, one.file_size]

experiments = {e.experiment_id: e for e in client.search_experiments(ViewType.ALL)}
runs = {}
for e in experiments.values():
    for run in client.search_runs([e.experiment_id], run_view_type=ViewType.ALL):
        i = run.info
        runs[i.run_id] = {
            "experiment": e.name, "name": i.run_name, "status": i.status, "start": i.start_time, "end": i.end_time,
            "lifecycle": i.lifecycle_stage, "user": i.user_id, "params": run.data.params, "tags": run.data.tags,
            "metrics": {k: sorted(set(map(repr, ((p.step, p.timestamp, float(p.value)) for p in client.get_metric_history(i.run_id, k)))))
                        for k in run.data.metrics},
            "inputs": [[d.dataset.name, d.dataset.digest, d.dataset.source, d.dataset.schema, {t.key: t.value for t in d.tags}]
                       for d in run.inputs.dataset_inputs],
            "outputs": [[m.model_id, m.step] for m in run.outputs.model_outputs] if run.outputs else [],
            "files": sorted(files(i.run_id)),
        }
models = {m.model_id: [m.name, m.status, m.source_run_id, m.params, m.creation_timestamp]
          for m in client.search_logged_models([e for e in experiments])}
versions = {}
for model in client.search_registered_models():
    for v in client.search_model_versions(f"name = '{model.name}'"):
        aliases = {alias: str(number) for alias, number in model.aliases.items()}
        versions[f"{v.name}/{v.version}"] = [v.run_id, v.description or "", v.tags, v.source, aliases, model.tags]
kept = {e.name: [e.lifecycle_stage, e.tags] for e in experiments.values()}
loaded = float(mlflow.sklearn.load_model("models:/reg@champion").predict([[3]])[0])
print(json.dumps({"runs": runs, "models": models, "versions": versions, "experiments": kept, "loaded": round(loaded, 6)}))
"""


def mlflow(code: str, uri: str, folder: Path) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DRIVETRAIN_"))}
    own = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONWARNINGS": "ignore"}
    more = {"GIT_PYTHON_REFRESH": "quiet", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    folder.mkdir(exist_ok=True)
    done = subprocess.run([sys.executable, "-c", code], env=clean | own | more, cwd=folder, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["files", "database"])
def test_an_mlflow_store_is_the_same_here(new_server: Callable[..., Server], tmp_path: Path, kind: str) -> None:
    server = new_server()
    store = tmp_path / "store" / ("mlruns" if kind == "files" else "mlflow.db")
    uri = f"file:{store}" if kind == "files" else f"sqlite:///{store}"
    mlflow(LOG, uri, store.parent)
    was = json.loads(mlflow(TELL, uri, store.parent).splitlines()[-1])
    before = {one: (one.stat().st_size, one.stat().st_mtime_ns) for one in sorted(store.parent.rglob("*")) if one.is_file()}
    first = run("import", "mlflow", store, "--json", DRIVETRAIN_URL=server.url).ok().json
    assert {one["state"] for one in first["runs"]} == {"imported"} and first["warnings"] == []
    assert {"reg/1", "reg/3"} <= set(first["versions"])
    again = run("import", "mlflow", store, "--json", DRIVETRAIN_URL=server.url).ok().json
    assert {one["state"] for one in again["runs"]} == {"unchanged"} and again["versions"] == first["versions"]
    assert before == {one: (one.stat().st_size, one.stat().st_mtime_ns) for one in sorted(store.parent.rglob("*")) if one.is_file()}
    now = json.loads(mlflow(TELL, f"{server.url}/mlflow", tmp_path / "here").splitlines()[-1])
    assert now["runs"] == was["runs"]
    assert now == was
    one = next(run_id for run_id, known in was["runs"].items() if known["name"] == "one")
    more = f"import mlflow\nwith mlflow.start_run('{one}'):\n    mlflow.log_metric('more', 1)"
    mlflow(more, f"{server.url}/mlflow", store.parent)


def test_artifacts_of_a_moved_store_are_found_and_others_are_not_read(server: Server, tmp_path: Path) -> None:
    where = tmp_path / "away"
    code = "import mlflow, pathlib\npathlib.Path('f').write_text('x')\nwith mlflow.start_run():\n    mlflow.log_artifact('f')"
    mlflow(code, f"sqlite:///{where}/mlflow.db", where)
    remote = "import mlflow\nmlflow.create_experiment('far', artifact_location='s3://bucket/a')\nmlflow.set_experiment('far')\nmlflow.start_run()"
    mlflow(remote, f"sqlite:///{where}/mlflow.db", where)
    outside = f"import mlflow\nmlflow.create_experiment('out', artifact_location='{tmp_path}/other')\nmlflow.set_experiment('out')\n" + code
    mlflow(outside, f"sqlite:///{where}/mlflow.db", where)
    where.rename(tmp_path / "moved")
    found = run("import", "mlflow", tmp_path / "moved/mlflow.db", "--json", DRIVETRAIN_URL=server.url).ok().json
    assert len(found["runs"]) == 3
    assert any("s3://bucket" in text for text in found["warnings"]) and any("--artifacts" in text for text in found["warnings"])
    with Client(server.url, "") as client:

        def files() -> list[int]:
            ids = [one["run_id"] for one in found["runs"]]
            return [len(client.connection.json("GET", f"/api/v1/runs/{one}/artifacts")["artifacts"]) for one in ids]

        assert sorted(files()) == [0, 0, 1]
        allowed = ("--artifacts", tmp_path / "other", "--json")
        run("import", "mlflow", tmp_path / "moved/mlflow.db", *allowed, DRIVETRAIN_URL=server.url).ok()
        assert sorted(files()) == [0, 1, 1]


def told(client: Client, project: str) -> Json:
    """All of a project's one run but what differs by when and by whom it was sent."""
    (one,) = client.runs.list(experiment=project)
    at = f"/api/v1/runs/{one.id}/export"
    found: Json = client.connection.json("GET", at)
    for name in ("id", "experiment", "start_ms", "end_ms", "source", "counts"):
        found.pop(name)
    found["tags"].pop("mlflow.source.name", None)
    found["client"] = {key: value for key, value in found["client"].items() if key not in ("private", "heartbeat_ms")}
    made = ("config.yaml", "wandb-metadata.json", "wandb-summary.json")
    found["artifacts"] = {file["path"]: None if file["path"] in made else file["sha256"] for file in found["artifacts"]}
    for name, system in (("points", False), ("system", True)):
        series = client.connection.json("GET", f"{at}/points", params={"system": system})["series"]
        # A value that only the summary has got the time at which that was sent.
        times = {s["key"]: [time for step, time in zip(s["steps"], s["times"], strict=True) if step >= 0] for s in series}
        found[name] = {one["key"]: [one["steps"], times[one["key"]], one["values"]] for one in series}
    found["rows"] = {step: json.loads(text) for step, text in client.connection.json("GET", f"{at}/rows")["rows"]}
    found["lines"] = [[number, level, text] for number, level, _, text in client.connection.json("GET", f"{at}/lines")["lines"]]
    return found


def offline(server: Server, folder: Path, *, end: str = "") -> Path:
    script(
        server,
        f"""
        import numpy as np
        settings = wandb.Settings(console="wrap", x_stats_sampling_interval=0.5)
        config = {{"a": 1, "net": {{"d": [1, 2]}}, "none": None}}
        with wandb.init(id="away", name="nice", mode="offline", config=config, tags=["x", "y"], notes="why", group="g", job_type="train",
                        settings=settings) as run:
            for x in range(300):
                run.log({{"x": x, "kind": "odd" if x % 2 else "even", "nest": {{"y": x / 3}}}})
            run.log({{"nan": math.nan, "inf": -math.inf, "big": 2**60, "image": wandb.Image(np.zeros((8, 9, 3), dtype=np.uint8)),
                     "h": wandb.Histogram(np.arange(10)), "long": "z" * 100_000}})
            run.log({{"late": 1}}, step=800)
            print("a line\\nsecond ü")
            print("at 1", end="\\r")
            print("at 2")
            print("bad", file=sys.stderr)
            run.summary["best"] = 0.99
            run.summary["deep"] = {{"z": {{"q": 1}}}}
            run.config.update({{"a": 2, "more": "yes"}}, allow_val_change=True)
            run.define_metric("nest.y", summary="max")
            open("kept.txt", "w").write("kept")
            run.save("kept.txt")
            time.sleep(1.2)
            {end}
        done()
        """,
        folder,
    )
    (place,) = (folder / "wandb").glob("offline-run-*")
    return place


def test_an_imported_run_of_wandb_is_as_a_synced_one(server: Server, tmp_path: Path) -> None:
    place = offline(server, tmp_path)
    for state in ("imported", "unchanged"):
        said = run("import", "wandb", tmp_path, "--project", "brought", "--json", DRIVETRAIN_URL=server.url).ok().json
        assert [(one["source"], one["state"]) for one in said["runs"]] == [("away", state)] and said["warnings"] == []
    command(server, tmp_path, "sync", "--project", "synced", str(place), WANDB_CONSOLE="wrap")
    with Client(server.url, "") as client:
        brought, synced = told(client, "brought"), told(client, "synced")
        # As texts: NaN is no equal of itself.
        assert json.dumps(brought, sort_keys=True) == json.dumps(synced, sort_keys=True)
        assert len(brought["points"]["x"][0]) == 300 and len(brought["system"]) > 5 and len(brought["lines"]) == 4
        assert (brought["config"]["a"], brought["summary"]["best"], brought["client"]["exit_code"]) == (2, 0.99, 0)
        (shown,) = client.runs.list(experiment="brought")
        assert shown.end_ms is not None and 0 < shown.end_ms - shown.start_ms < 60_000
    # Both ways, one run.
    command(server, tmp_path, "sync", "--include-synced", "--project", "brought", str(place), WANDB_CONSOLE="wrap")
    with Client(server.url, "") as client:
        again = told(client, "brought")
        assert again["points"]["x"] == brought["points"]["x"] and again["lines"] == brought["lines"]


def test_artifacts_of_an_offline_run_come_too(server: Server, tmp_path: Path) -> None:
    script(
        server,
        """
        import pathlib
        pathlib.Path("data").mkdir()
        pathlib.Path("data/a.txt").write_text("first")
        with wandb.init(id="off", mode="offline") as run:
            table = wandb.Table(columns=["a", "b"], data=[[1, "x"], [2, "y"]])
            for text in ("first", "second"):
                pathlib.Path("data/a.txt").write_text(text)
                made = wandb.Artifact("set", type="dataset", description="d", metadata={"text": text})
                made.add_dir("data"); made.add(table, "table"); made.add_reference("s3://bucket/far", checksum=False, name="far")
                run.log_artifact(made, aliases=["latest", text], tags=["t"])
            many = wandb.Artifact("many", type="dataset")
            for n in range(1001):
                with many.new_file(f"{n}.txt") as file:
                    file.write(str(n % 7))
            run.log_artifact(many)
            run.log({"shown": table})
        done()
        """,
        tmp_path,
    )
    for state in ("imported", "unchanged"):
        said = run("import", "wandb", tmp_path, "--project", "brought2", "--json", DRIVETRAIN_URL=server.url).ok().json
        assert [one["state"] for one in said["runs"]] == [state] and said["warnings"] == []
    # Nothing is doubled by the client's own sync either.
    (place,) = (tmp_path / "wandb").glob("offline-run-*")
    command(server, tmp_path, "sync", "--project", "brought2", str(place))
    told = script(
        server,
        """
        import pathlib
        api = wandb.Api()
        first = api.artifact("brought2/set:first")
        got = pathlib.Path(first.get_entry("a.txt").download(root="got")).read_text()
        run = api.run("brought2/off")
        done(got=got, version=first.version, aliases=sorted(api.artifact("brought2/set:v1").aliases), meta=first.metadata,
             tags=first.tags, description=first.description, far=first.get_entry("far").ref,
             table=first.get("table").data, versions=[one.version for one in api.artifacts("dataset", "brought2/set")],
             many=len(api.artifact("brought2/many:latest").manifest.entries), by=first.logged_by().id,
             logged=sorted(one.type for one in run.logged_artifacts()))
        """,
        tmp_path,
    )
    assert (told["got"], told["version"], told["aliases"], told["meta"]) == ("first", "v0", ["latest", "second"], {"text": "first"})
    assert (told["tags"], told["description"], told["far"], told["by"]) == (["t"], "d", "s3://bucket/far", "off")
    assert (told["table"], told["versions"], told["many"]) == ([[1, "x"], [2, "y"]], ["v1", "v0"], 1001)
    assert told["logged"] == ["dataset", "dataset", "dataset", "run_table"]


def test_a_run_of_wandb_that_was_cut_off_is_read_to_its_end(server: Server, tmp_path: Path) -> None:
    place = offline(server, tmp_path)
    (log,) = place.glob("run-*.wandb")
    data = log.read_bytes()
    log.write_bytes(data[: 7 + 20_000])
    said = run("import", "wandb", place, "--project", "cut", "--json", DRIVETRAIN_URL=server.url).ok().json
    assert "crashed" in said["warnings"][0]
    with Client(server.url, "") as client:
        (cut,) = client.runs.list(experiment="cut")
        assert cut.status == "FAILED"
        some = client.connection.json("GET", f"/api/v1/runs/{cut.id}/metrics/x")["points"]
        assert 10 < len(some) < 300 and [point[2] for point in some] == list(range(len(some)))
    log.write_bytes(data)
    run("import", "wandb", place, "--project", "cut", DRIVETRAIN_URL=server.url).ok()
    with Client(server.url, "") as client:
        (whole,) = client.runs.list(experiment="cut")
        assert (whole.id, whole.status) == (cut.id, "FINISHED")
        assert len(client.connection.json("GET", f"/api/v1/runs/{cut.id}/metrics/x")["points"]) == 300


def test_an_experiment_moves_to_another_server(server: Server, new_server: Callable[..., Server], tmp_path: Path) -> None:
    with Client(server.url, "") as client:
        for n in range(3):
            made = client.connection.json("POST", "/api/v1/runs", {"experiment": "many", "name": f"run {n}"})
            client.connection.json("POST", f"/api/v1/runs/{made['id']}/log", {"metrics": [{"key": "loss", "value": n}]})
    out = run("runs", "export", "--experiment", "many", tmp_path / "out", "--json", DRIVETRAIN_URL=server.url).ok().json
    assert [one["state"] for one in out] == ["exported"] * 3
    again = run("runs", "export", out[0]["run_id"], tmp_path / "out", "--json", DRIVETRAIN_URL=server.url).ok().json
    assert [one["state"] for one in again] == ["unchanged"]
    other = new_server()
    said = run("runs", "import", tmp_path / "out", "--json", DRIVETRAIN_URL=other.url).ok().json
    assert [one["name"] for one in said["runs"]] == ["run 0", "run 1", "run 2"]
    with Client(other.url, "") as client:
        assert {one.id: one.metrics["loss"] for one in client.runs.list(experiment="many")} == {
            one["run_id"]: n for n, one in enumerate(out)
        }
    assert "run 0" in run("runs", "import", tmp_path / "out", DRIVETRAIN_URL=other.url).ok().out


def test_what_is_no_store_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "no.db").write_text("no database")
    (tmp_path / "run-x.wandb").write_bytes(b"something else")
    asked: list[tuple[str, ...]] = [
        ("runs", "import", str(tmp_path)),
        ("runs", "export", "nobody", str(tmp_path / "out")),
        ("runs", "export", str(tmp_path / "out")),
        ("import", "mlflow", str(tmp_path)),
        ("import", "mlflow", str(tmp_path / "no.db")),
        ("import", "mlflow", str(tmp_path / "missing")),
        ("import", "wandb", str(tmp_path / "missing")),
        ("import", "wandb", str(tmp_path)),
    ]
    for arguments in asked:
        said = run(*arguments, DRIVETRAIN_URL=server.url)
        assert said.code in (1, 3) and said.err.startswith("error:") and "Traceback" not in said.err, said
