"""The unmodified mlflow client, in its own process: what it does, and that it has nothing to complain of."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients.scripts import environment
from tests.conftest import Server

pytestmark = pytest.mark.slow

HEAD = """
import json, math, os, sys
import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
client = MlflowClient()
"""


OWN_WARNINGS = (
    "Saving scikit-learn models in the pickle or cloudpickle format",
    "Passing a Python object as `python_model`",
    "`artifact_path` is deprecated",  # transformers' callback uses it
)
"""What the client says whatever the server."""


def mlflow(server: Server, script: str, *, cwd: Path, timeout: float = 240, key: str | None = None, uri: str = "") -> Any:
    """Run the script; the last line it prints, as JSON. Warnings, retries and tracebacks in its output fail the test."""
    environ = environment(server.url) | {
        "MLFLOW_TRACKING_URI": uri or f"{server.url}/mlflow",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    if key is not None:
        environ["MLFLOW_TRACKING_TOKEN"] = key
    done = subprocess.run(
        [sys.executable, "-c", HEAD + textwrap.dedent(script)],
        env=environ,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    for line in done.stderr.splitlines():
        if any(known in line for known in OWN_WARNINGS):
            continue
        assert not any(word in line for word in ("WARNING", "Traceback", "Retrying", "ERROR")), done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_an_ordinary_training_script_with_a_registered_model(server: Server, tmp_path: Path) -> None:
    told = mlflow(
        server,
        """
        import numpy as np, pandas as pd
        from mlflow.models import infer_signature
        from sklearn.datasets import load_iris
        from sklearn.linear_model import LogisticRegression
        x, y = load_iris(return_X_y=True, as_frame=True)
        mlflow.set_experiment("iris")
        data = mlflow.data.from_pandas(x, name="iris")
        with mlflow.start_run(run_name="first") as run:
            mlflow.log_param("C", 1.0)
            mlflow.log_params({"seed": 7, "solver": "lbfgs"})
            mlflow.log_input(data, context="training")
            for step in range(5):
                mlflow.log_metric("loss", 1 / (step + 1), step=step)
            mlflow.log_metrics({"acc": 0.9, "nan": float("nan"), "inf": float("inf")}, step=3)
            mlflow.set_tag("team", "red")
            mlflow.set_tags({"x y": "1"})
            with open("note.txt", "w") as file:
                file.write("hello")
            mlflow.log_artifact("note.txt")
            mlflow.log_artifact("note.txt", "sub dir/ü")
            mlflow.log_dict({"a": 1}, "conf/d.json")
            mlflow.log_text("text", "100%.txt")
            model = LogisticRegression(max_iter=1000).fit(x, y)
            info = mlflow.sklearn.log_model(
                model, name="model", signature=infer_signature(x), registered_model_name="iris", pip_requirements=["scikit-learn"]
            )
        client.set_registered_model_alias("iris", "champion", info.registered_model_version)
        found = client.get_run(run.info.run_id)
        expected = model.predict(x[:5]).tolist()
        uris = ["models:/iris@champion", "models:/iris/1", "models:/iris/latest", info.model_uri, f"runs:/{run.info.run_id}/model"]
        same = [mlflow.pyfunc.load_model(uri).predict(x[:5]).tolist() == expected for uri in uris]
        folder = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, dst_path="down")
        print(json.dumps({
            "metrics": {k: str(v) for k, v in found.data.metrics.items()},
            "params": found.data.params,
            "tags": {k: v for k, v in found.data.tags.items() if not k.startswith("mlflow.")},
            "user": found.data.tags["mlflow.user"], "name": found.info.run_name, "status": found.info.status,
            "inputs": [(i.dataset.name, i.tags[0].value) for i in found.inputs.dataset_inputs],
            "outputs": [o.model_id == info.model_id for o in found.outputs.model_outputs],
            "same": same,
            "root": sorted(f.path for f in client.list_artifacts(run.info.run_id)),
            "deep": [(f.path, f.file_size) for f in client.list_artifacts(run.info.run_id, "sub dir/ü")],
            "of file": [f.path for f in client.list_artifacts(run.info.run_id, "note.txt")],
            "nowhere": client.list_artifacts(run.info.run_id, "nowhere"),
            "dict": mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/conf/d.json"),
            "down": sorted(os.path.relpath(os.path.join(at, f), folder) for at, _, files in os.walk(folder) for f in files),
            "steps": [m.step for m in client.get_metric_history(run.info.run_id, "loss")],
            "version run": client.get_model_version("iris", "1").run_id == run.info.run_id,
            "by alias": client.get_model_version_by_alias("iris", "champion").version,
            "model tags": mlflow.get_logged_model(info.model_id).tags.get("mlflow.modelVersions"),
        }))
        """,
        cwd=tmp_path,
    )
    assert told["metrics"] == {"acc": "0.9", "inf": "inf", "loss": "0.2", "nan": "nan"}
    assert told["params"] == {"C": "1.0", "seed": "7", "solver": "lbfgs"}
    assert told["tags"] == {"team": "red", "x y": "1"}
    assert told["user"] and (told["name"], told["status"]) == ("first", "FINISHED")
    assert told["inputs"] == [["iris", "training"]] and told["outputs"] == [True]
    assert told["same"] == [True] * 5
    assert told["root"] == ["100%.txt", "conf", "note.txt", "sub dir"]
    assert told["deep"] == [["sub dir/ü/note.txt", 5]] and told["of file"] == [] and told["nowhere"] == []
    assert told["dict"] == {"a": 1}
    assert told["down"] == ["100%.txt", "conf/d.json", "note.txt", "sub dir/ü/note.txt"]
    assert told["steps"] == [0, 1, 2, 3, 4]
    assert told["version run"] is True and told["by alias"] == "1"
    assert json.loads(told["model tags"]) == [{"name": "iris", "version": "1"}]


def test_experiments_runs_and_searches(server: Server, tmp_path: Path) -> None:
    told = mlflow(
        server,
        """
        from mlflow.entities import Metric, Param, RunTag, ViewType
        one = client.create_experiment("search me", tags={"k": "v"})
        assert client.get_experiment_by_name("absent") is None
        client.set_experiment_tag(one, "k2", "v2")
        client.rename_experiment(one, "renamed")
        ids = []
        for n in range(12):
            run = client.create_run(one, run_name=f"r{n}", tags={"odd": str(n % 2)})
            ids.append(run.info.run_id)
            client.log_batch(
                run.info.run_id, [Metric("acc", n / 10, 5, 0), Metric("acc", n / 10, 5, 0)], [Param("n", str(n))], [RunTag("t", "x")]
            )
            client.set_terminated(run.info.run_id)
        client.delete_run(ids[0])
        names = lambda **more: [r.info.run_name for r in client.search_runs([one], **more)]
        first = client.search_runs([one], max_results=5, order_by=["metrics.acc DESC"])
        second = client.search_runs([one], max_results=5, order_by=["metrics.acc DESC"], page_token=first.token)
        third = client.search_runs([one], max_results=5, order_by=["metrics.acc DESC"], page_token=second.token)
        client.log_metric(ids[3], "many", 1.0, step=1)
        for step in range(3):
            client.log_batch(ids[3], [Metric("many", float(i), 10 * i, step * 1000 + i) for i in range(1000)])
        frame = mlflow.search_runs([one], filter_string="metrics.acc >= 0.9", order_by=["metrics.acc ASC"])
        client.delete_tag(ids[3], "t")
        client.update_run(ids[3], name="new name")
        experiment = client.get_experiment(one)
        client.delete_experiment(one)
        gone = [e.name for e in client.search_experiments(view_type=ViewType.DELETED_ONLY)]
        hidden = names()
        client.restore_experiment(one)
        print(json.dumps({
            "good": names(filter_string="metrics.acc > 0.75 and tags.odd = '1'", order_by=["params.n ASC"]),
            "like": names(filter_string="attributes.run_name LIKE 'r1%'", order_by=["start_time ASC"]),
            "in": names(filter_string=f"run_id IN ('{ids[4]}', '{ids[5]}')", order_by=["run_name DESC"]),
            "deleted": names(run_view_type=ViewType.DELETED_ONLY),
            "pages": [r.info.run_name for page in (first, second, third) for r in page], "more": third.token,
            "history": len(client.get_metric_history(ids[3], "many")),
            "latest": client.get_run(ids[3]).data.metrics["many"],
            "frame": frame["metrics.acc"].tolist(),
            "renamed": [client.get_run(ids[3]).info.run_name, client.get_run(ids[3]).data.tags["mlflow.runName"]],
            "tag gone": "t" not in client.get_run(ids[3]).data.tags,
            "experiment": [experiment.name, experiment.tags["k2"], experiment.lifecycle_stage],
            "gone": gone, "hidden": hidden,
            "found": [e.name for e in client.search_experiments(filter_string="name LIKE 'ren%' and tags.k = 'v'")],
        }))
        """,
        cwd=tmp_path,
    )
    assert told["good"] == ["r11", "r9"]
    assert told["like"] == ["r1", "r10", "r11"]
    assert told["in"] == ["r5", "r4"]
    assert told["deleted"] == ["r0"]
    assert told["pages"] == [f"r{n}" for n in range(11, 0, -1)] and not told["more"]
    assert told["history"] == 3001 and told["latest"] == 999.0
    assert told["frame"] == [0.9, 1.0, 1.1]
    assert told["renamed"] == ["new name", "new name"] and told["tag gone"]
    assert told["experiment"] == ["renamed", "v2", "active"]
    assert told["gone"] == ["renamed"] and told["hidden"] == [] and told["found"] == ["renamed"]


def test_the_registry_s_upkeep(server: Server, tmp_path: Path) -> None:
    told = mlflow(
        server,
        """
        os.makedirs("m", exist_ok=True)
        with mlflow.start_run() as run:
            mlflow.log_text("one", "model/weights.txt")
        client.create_registered_model("reg", tags={"a": "b"}, description="about")
        v1 = client.create_model_version("reg", f"{run.info.artifact_uri}/model", run.info.run_id, tags={"x": "1"}, description="first")
        with mlflow.start_run(run_id=run.info.run_id):
            mlflow.log_text("two", "model/weights.txt")
        v2 = client.create_model_version("reg", f"runs:/{run.info.run_id}/model", run.info.run_id)
        v3 = client.copy_model_version("models:/reg/1", "copied")
        read = lambda uri: open(os.path.join(mlflow.artifacts.download_artifacts(uri), "weights.txt")).read()
        frozen = [read("models:/reg/1"), read("models:/reg/2"), read("models:/copied/1")]
        client.set_registered_model_alias("reg", "prod", "1")
        client.set_registered_model_alias("reg", "prod", "2")
        client.set_model_version_tag("reg", "1", "y", "2")
        client.delete_model_version_tag("reg", "1", "x")
        client.update_model_version("reg", "1", description="changed")
        client.set_registered_model_tag("reg", "c", "d")
        client.delete_registered_model_tag("reg", "a")
        one = client.get_model_version("reg", "1")
        model = client.get_registered_model("reg")
        client.delete_model_version("reg", "2")
        v4 = client.create_model_version("reg", f"runs:/{run.info.run_id}/model", run.info.run_id)
        client.rename_registered_model("reg", "reg2")
        client.update_registered_model("reg2", description="new")
        found = [m.name for m in client.search_registered_models("name ILIKE 'REG%'", order_by=["name ASC"])]
        versions = [v.version for v in client.search_model_versions(f"name='reg2' and run_id IN ('{run.info.run_id}')")]
        numbers = [v.version for v in client.search_model_versions("name='reg2'", order_by=["version_number ASC"])]
        client.delete_registered_model("copied")
        left = [m.name for m in client.search_registered_models("name = 'copied'")]
        print(json.dumps({
            "numbers": [v1.version, v2.version, v3.version, v4.version], "frozen": frozen,
            "one": [one.description, one.tags, one.source], "model": [model.description, model.tags, model.aliases],
            "status": v1.status, "found": found, "versions": sorted(versions), "ordered": numbers, "left": left,
        }))
        """,
        cwd=tmp_path,
    )
    assert [int(n) for n in told["numbers"]] == [1, 2, 1, 3]
    assert told["frozen"] == ["one", "two", "one"]
    assert told["one"][:2] == ["changed", {"y": "2"}]
    assert told["model"] == ["about", {"c": "d"}, {"prod": "2"}]
    assert told["status"] == "READY" and told["found"] == ["reg2"] and told["left"] == []
    assert [int(n) for n in told["versions"]] == [1, 3] and [int(n) for n in told["ordered"]] == [1, 3]


def test_logged_models_prompts_and_autolog(server: Server, tmp_path: Path) -> None:
    told = mlflow(
        server,
        """
        from sklearn.datasets import load_iris
        from sklearn.tree import DecisionTreeClassifier
        mlflow.set_experiment("auto")
        mlflow.sklearn.autolog(log_datasets=True, log_model_signatures=False, log_input_examples=False)
        x, y = load_iris(return_X_y=True, as_frame=True)
        with mlflow.start_run() as run:
            DecisionTreeClassifier(max_depth=2, random_state=0).fit(x, y)
        auto = client.get_run(run.info.run_id)
        model = mlflow.initialize_logged_model(name="hand-made", params={"depth": "2"}, tags={"a": "b"}, model_type="tree")
        before = str(model.status)
        model = mlflow.finalize_logged_model(model.model_id, "READY")
        mlflow.set_logged_model_tags(model.model_id, {"c": "d"})
        mlflow.delete_logged_model_tag(model.model_id, "a")
        with mlflow.start_run():
            mlflow.log_metric("f1", 0.7, model_id=model.model_id)
        found = mlflow.search_logged_models(filter_string="metrics.f1 > 0.5 AND params.depth = '2'", output_format="list")
        again = mlflow.get_logged_model(model.model_id)
        prompt = mlflow.genai.register_prompt("greet", "Hello {{name}}")
        mlflow.genai.set_prompt_alias("greet", "live", prompt.version)
        loaded = mlflow.genai.load_prompt("prompts:/greet@live")
        print(json.dumps({
            "params": auto.data.params["max_depth"], "metrics": sorted(auto.data.metrics), "inputs": len(auto.inputs.dataset_inputs),
            "outputs": len(auto.outputs.model_outputs),
            "before": before, "status": str(again.status), "tags": again.tags, "found": [m.name for m in found],
            "metric": [(m.key, m.value) for m in again.metrics],
            "prompt": loaded.format(name="you"), "hidden": [m.name for m in client.search_registered_models("name = 'greet'")],
            "asked": [p.name for p in mlflow.genai.search_prompts("name = 'greet'")],
        }))
        """,
        cwd=tmp_path,
    )
    assert told["params"] == "2" and "training_score" in told["metrics"] and told["inputs"] == 1 and told["outputs"] == 1
    assert (told["before"], told["status"]) == ("PENDING", "READY") and told["tags"]["c"] == "d" and "a" not in told["tags"]
    assert told["found"] == ["hand-made"] and told["metric"] == [["f1", 0.7]]
    assert told["prompt"] == "Hello you" and told["hidden"] == [] and told["asked"] == ["greet"]


def test_mistakes_are_told_at_once_with_advice(server: Server, tmp_path: Path) -> None:
    told = mlflow(
        server,
        """
        import time
        run = client.create_run("0").info.run_id
        client.log_param(run, "lr", "1")
        client.create_registered_model("taken")
        began = time.time()

        def code(call):
            try:
                call()
            except MlflowException as error:
                return error.error_code
            return "fine"

        told = {
            "param": code(lambda: client.log_param(run, "lr", "2")),
            "again": code(lambda: client.log_param(run, "lr", "1")),
            "run": code(lambda: client.get_run("0" * 32)),
            "experiment": code(lambda: client.get_experiment("4711")),
            "taken": code(lambda: client.create_experiment("Default")),
            "model taken": code(lambda: client.create_registered_model("taken")),
            "model": code(lambda: client.get_registered_model("nothing")),
            "version": code(lambda: client.get_model_version("taken", "9")),
            "alias": code(lambda: client.get_model_version_by_alias("taken", "nope")),
            "filter": code(lambda: client.search_runs(["0"], "metrics.a > 'x'")),
            "or": code(lambda: client.search_runs(["0"], "params.a = 'x' OR params.b = 'y'")),
            "tag": code(lambda: client.delete_tag(run, "never")),
            "source": code(lambda: client.create_model_version("taken", "/etc/passwd")),
            "load": code(lambda: mlflow.pyfunc.load_model("models:/taken@nope")),
        }

        def said(call):
            try:
                call()
            except MlflowException as error:
                return str(error)

        told["said"] = [
            said(lambda: client.get_run("0" * 32)),
            said(lambda: client.create_experiment("Default")),
            said(lambda: client.search_runs(["0"], "metrics.a > 'x'")),
            said(lambda: client.get_model_version_by_alias("taken", "nope")),
        ]
        client.delete_run(run)
        told["deleted"] = code(lambda: client.log_metric(run, "a", 1.0))
        told["quick"] = time.time() - began < 30
        print(json.dumps(told))
        """,
        cwd=tmp_path,
    )
    invalid, absent = "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"
    assert told.pop("said") == [
        f"{absent}: There is no run '{'0' * 32}' in this workspace.",
        "RESOURCE_ALREADY_EXISTS: There is an experiment named 'Default' already. Use it, or choose another name.",
        f"{invalid}: The filter cannot be read: metric 'a' is compared with a number, without quotes, not with 'x'.",
        f"{invalid}: taken has no alias 'nope'. It has none yet.",
    ]
    assert told == {
        "param": invalid,
        "again": "fine",
        "run": absent,
        "experiment": absent,
        "taken": "RESOURCE_ALREADY_EXISTS",
        "model taken": "RESOURCE_ALREADY_EXISTS",
        "model": absent,
        "version": absent,
        "alias": invalid,
        "filter": invalid,
        "or": invalid,
        "tag": absent,
        "source": invalid,
        "load": invalid,
        "deleted": invalid,
        "quick": True,
    }


def test_a_workspace_is_chosen_by_the_environment(server: Server, tmp_path: Path) -> None:
    made = httpx.post(f"{server.url}/api/v1/workspaces", json={"slug": "green"}, headers={"authorization": f"Bearer {server.token}"})
    assert made.status_code < 300, made.text
    script = """
        os.environ["MLFLOW_WORKSPACE"] = "WHERE"
        mlflow.set_experiment("where am I")
        with mlflow.start_run() as run:
            mlflow.log_metric("m", 1.0)
            mlflow.log_text("text", "a.txt")
        text = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/a.txt")
        names = [e.name for e in client.search_experiments()]
        os.environ["MLFLOW_WORKSPACE"] = "OTHER"
        try:
            elsewhere = client.get_run(run.info.run_id).info.run_id
        except MlflowException as error:
            elsewhere = error.error_code
        print(json.dumps([names, text, elsewhere]))
        """
    there = mlflow(server, script.replace("WHERE", "green").replace("OTHER", "default"), cwd=tmp_path)
    assert there == [["where am I", "Default"], "text", "RESOURCE_DOES_NOT_EXIST"]


def test_an_asynchronous_flood_arrives_whole(server: Server, tmp_path: Path) -> None:
    told = mlflow(
        server,
        """
        mlflow.set_experiment("flood")
        with mlflow.start_run() as run:
            for step in range(300):
                mlflow.log_metric("m", step, step=step, synchronous=False)
                mlflow.log_param(f"p{step % 20}", str(step % 20), synchronous=False)
        mlflow.flush_async_logging()
        found = client.get_run(run.info.run_id)
        print(json.dumps([len(client.get_metric_history(run.info.run_id, "m")), found.data.metrics["m"], len(found.data.params)]))
        """,
        cwd=tmp_path,
    )
    assert told == [300, 299.0, 20]


def test_a_run_goes_on_after_the_server_was_killed(new_server: Any, tmp_path: Path) -> None:
    server = new_server()
    told = mlflow(
        server,
        """
        run = client.create_run("0").info.run_id
        for step in range(50):
            client.log_metric(run, "m", step, step=step)
        client.log_text(run, "kept", "a.txt")
        print(json.dumps(run))
        """,
        cwd=tmp_path,
    )
    server.kill()
    server.start()
    after = mlflow(
        server,
        f"""
        run = {told!r}
        client.log_metric(run, "m", 50, step=50)
        kept = mlflow.artifacts.load_text(client.get_run(run).info.artifact_uri + "/a.txt")
        print(json.dumps([len(client.get_metric_history(run, "m")), kept]))
        """,
        cwd=tmp_path,
    )
    assert after == [51, "kept"]
