"""One run, as each client sees it: the table of docs/reference/tracking.md, line by line, on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clients.scripts import cli
from tests.clients.wandb_script import script
from tests.conftest import Server

pytestmark = pytest.mark.slow


def test_what_wandb_logs_is_complete_for_the_others(either_server: Server, tmp_path: Path) -> None:
    told = script(
        either_server,
        """
        import pathlib
        project = os.environ["WANDB_PROJECT"]
        config = {"lr": 0.5, "net": {"depth": 3}, "sizes": [1, 2], "none": None, "flag": True, "word": "x"}
        with wandb.init(id="mine", name="shown", config=config, tags=["a", "b"], notes="why", group="g", job_type="train") as run:
            for step in range(3):
                run.log({"loss": 3.0 - step, "nested": {"x": step}})
            run.log({"bad": float("nan"), "high": float("inf"), "low": float("-inf"), "text": "hi"})
            run.log({"loss": 9.0}, step=7)
            run.summary["best"] = 0.9
            run.summary["loss"] = 1.5
            run.config.update({"lr": 0.25}, allow_val_change=True)
            pathlib.Path("kept.txt").write_text("kept")
            run.save("kept.txt")

        import mlflow
        client = mlflow.MlflowClient()
        wanted = "params.lr = '0.25' AND metrics.loss > 8"
        (found,) = mlflow.search_runs(experiment_names=[project], filter_string=wanted, output_format="list")
        history = client.get_metric_history(found.info.run_id, "loss")
        done(id=found.info.run_id, name=found.info.run_name, status=found.info.status, params=found.data.params, tags=dict(found.data.tags),
             metrics={k: str(v) for k, v in found.data.metrics.items() if not k.startswith("system/")},
             system=any(k.startswith("system/") for k in found.data.metrics),
             history=[[m.step, m.value] for m in history], best=[m.step for m in client.get_metric_history(found.info.run_id, "best")],
             files=[f.path for f in client.list_artifacts(found.info.run_id)],
             kept=mlflow.artifacts.load_text(f"runs:/{found.info.run_id}/kept.txt"))
        """,
        tmp_path,
    )
    assert (told["name"], told["status"], told["kept"]) == ("shown", "FINISHED", "kept")
    assert told["params"] == {
        "lr": "0.25", "net.depth": "3", "sizes": "[1, 2]", "none": "None", "flag": "True", "word": "x"
    }  # fmt: skip
    assert told["metrics"] == {
        "loss": "9.0", "nested.x": "2.0", "bad": "nan", "high": "inf", "low": "-inf", "best": "0.9"
    }  # fmt: skip
    assert told["history"] == [[0, 3.0], [1, 2.0], [2, 1.0], [7, 9.0]] and told["best"] == [-1]
    tags = told["tags"]
    assert tags["wandb.tag.a"] == tags["wandb.tag.b"] == "" and tags["mlflow.note.content"] == "why"
    assert (tags["wandb.group"], tags["wandb.job_type"], tags["mlflow.runName"]) == ("g", "train", "shown")
    assert {"kept.txt", "config.yaml"} <= set(told["files"])

    native = json.loads(cli(either_server, "runs", "show", told["id"], "--json"))
    assert native["params"]["net.depth"] == "3" and native["metrics"]["loss"] == 9.0


def test_what_mlflow_logs_is_complete_for_wandb(either_server: Server, tmp_path: Path) -> None:
    told = script(
        either_server,
        """
        import mlflow
        project = os.environ["WANDB_PROJECT"]
        mlflow.set_experiment(project)
        with mlflow.start_run(run_name="theirs", description="why", tags={"team": "x", "wandb.tag.blue": ""}) as made:
            mlflow.log_params({"lr": 0.5, "net.depth": 3, "opt": "adam", "flag": True, "none": None})
            for step in range(4):
                mlflow.log_metric("loss", 4.0 - step, step=step)
            mlflow.log_metric("loss", 7.0, step=2)
            mlflow.log_metric("bad", float("nan"), step=1)
            mlflow.log_metric("high", float("inf"), step=1)
            mlflow.log_metric("system/cpu", 12.5, step=0)
            mlflow.log_text("kept", "notes/kept.txt")
        api = wandb.Api()
        run = api.run(f"{project}/{made.info.run_id}")
        rows = list(run.scan_history())
        run.file("notes/kept.txt").download(root="got")
        done(name=run.name, state=run.state, config=run.config, tags=run.tags, notes=run.notes,
             summary={k: str(v) for k, v in run.summary.items()},
             loss=[[row["_step"], row["loss"]] for row in run.scan_history(keys=["_step", "loss"])], steps=[row["_step"] for row in rows],
             special=[str(rows[1]["bad"]), str(rows[1]["high"])], system=run.history(stream="system", pandas=False)[0]["system.cpu"],
             files=[f.name for f in run.files()], kept=open("got/notes/kept.txt").read(), last=run.lastHistoryStep,
             found=[one.id == made.info.run_id for one in api.runs(project, filters={"config.lr": 0.5, "summary_metrics.loss": 1})])
        """,
        tmp_path,
    )
    assert (told["name"], told["state"], told["notes"], told["tags"]) == ("theirs", "finished", "why", ["blue"])
    assert told["config"] == {"lr": 0.5, "net.depth": 3, "opt": "adam", "flag": True, "none": None}
    assert told["summary"]["loss"] == "1" and told["summary"]["bad"].lower() == "nan"
    assert told["loss"] == [[0, 4], [1, 3], [2, 7], [3, 1]] and told["steps"] == [0, 1, 2, 3] and told["last"] == 3
    assert [one.lower() for one in told["special"]] == ["nan", "inf"] or told["special"] == ["NaN", "Infinity"]
    assert (told["system"], told["files"], told["kept"], told["found"]) == (12.5, ["notes/kept.txt"], "kept", [True])


def test_either_client_goes_on_with_the_run_of_the_other(either_server: Server, tmp_path: Path) -> None:
    told = script(
        either_server,
        """
        import mlflow
        project = os.environ["WANDB_PROJECT"]
        mlflow.set_experiment(project)
        with wandb.init(id="shared") as run:
            run.log({"a": 1})
        (found,) = mlflow.search_runs(experiment_names=[project], output_format="list")
        with mlflow.start_run(run_id=found.info.run_id):
            mlflow.log_metric("b", 2, step=5)
            mlflow.log_param("later", "p")
        with mlflow.start_run() as made:
            mlflow.log_metric("a", 1, step=3)
        with wandb.init(id=made.info.run_id, resume="must") as run:
            begins = run.starting_step
            run.log({"a": 2})
        api = wandb.Api()
        one, two = api.run(f"{project}/shared"), api.run(f"{project}/{made.info.run_id}")
        rows = [[row["_step"], row.get("a"), row.get("b")] for row in one.scan_history()]
        config = one.config
        mlflow.MlflowClient().delete_run(found.info.run_id)
        done(rows=rows, config=config, begins=begins,
             history=[[m.step, m.value] for m in mlflow.MlflowClient().get_metric_history(made.info.run_id, "a")],
             left=[run.id for run in wandb.Api().runs(project)], id=made.info.run_id, status=mlflow.get_run(made.info.run_id).info.status)
        """,
        tmp_path,
    )
    assert told["rows"] == [[0, 1, None], [5, None, 2]] and told["config"] == {"later": "p"}
    assert told["begins"] == 4 and told["history"] == [[3, 1.0], [4, 2.0]]
    assert told["left"] == [told["id"]] and told["status"] == "FINISHED"
