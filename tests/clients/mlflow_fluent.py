"""What a training script does with `mlflow.…` itself, and the command line after it, told as JSON. See test_mlflow_peer.py."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient

client = MlflowClient()
seen: dict[str, Any] = {}
mlflow.set_experiment("fluent")
mlflow.set_experiment_tags({"a": "b"})
frame = mlflow.data.from_pandas(pd.DataFrame({"x": [1.0, 2.0], "y": [0, 1]}), source="here.csv", name="frame", targets="y")
with mlflow.start_run(run_name="outer", description="what it is", tags={"k": "v"}) as outer:
    mlflow.log_params({f"p{n}": n for n in range(150)})  # more than fit in one batch
    mlflow.log_metrics({f"m{n}": n for n in range(1200)}, step=3)
    mlflow.set_tags({f"t{n}": n for n in range(120)})
    for rows in ({"a": [1, 2], "b": ["x", "y"]}, {"a": [3], "b": ["z"]}):
        mlflow.log_table(rows, "t.json")
    mlflow.log_image(np.zeros((4, 4, 3), dtype=np.uint8), key="dogs", step=1)
    mlflow.log_image(np.zeros((4, 4, 3), dtype=np.uint8), "plain.png")
    mlflow.log_text("hi", "dir/x y.txt")
    mlflow.log_input(frame, context="train", tags={"q": "r"})
    for n in range(2):
        with mlflow.start_run(nested=True, run_name=f"inner{n}"):
            mlflow.log_metric("x", n)
    mlflow.delete_tag("t1")
me = outer.info.run_id
run = mlflow.get_run(me)
seen["experiment"] = mlflow.get_experiment_by_name("fluent").tags
seen["run"] = [len(run.data.params), run.data.params["p149"], len(run.data.metrics), len([key for key in run.data.tags if key[0] == "t"])]
seen["kept"] = [run.data.tags["mlflow.note.content"], run.data.tags["mlflow.loggedArtifacts"], run.data.tags["k"]]
seen["table"] = mlflow.load_table("t.json", run_ids=[me]).to_dict("list")
files = [file.path for folder in (None, "images", "dir") for file in client.list_artifacts(me, folder)]
seen["files"] = sorted(f"images/*{Path(path).suffix}" if path.startswith("images/") else path for path in files)
seen["input"] = [
    [one.dataset.name, one.dataset.source, one.dataset.profile, {tag.key: tag.value for tag in one.tags}]
    for one in run.inputs.dataset_inputs
]
children = mlflow.search_runs(filter_string=f"tags.mlflow.parentRunId = '{me}'", order_by=["metrics.x"])
seen["children"] = children["tags.mlflow.runName"].tolist()
try:
    with mlflow.start_run(run_name="broken") as broken:
        raise ValueError("no")
except ValueError:
    seen["failed"] = mlflow.get_run(broken.info.run_id).info.status
with mlflow.start_run(run_id=broken.info.run_id):  # begun again
    mlflow.log_metric("more", 1)
seen["again"] = [mlflow.get_run(broken.info.run_id).info.status, mlflow.last_active_run().info.run_name]


class Add(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def predict(self, context: Any, model_input: list[float], params: Any = None) -> list[float]:
        return [x + 1 for x in model_input]


with mlflow.start_run() as made:
    info = mlflow.pyfunc.log_model(name="add", python_model=Add(), pip_requirements=[], metadata={"m": 1}, input_example=[1.0])
one = mlflow.register_model(info.model_uri, "adder", tags={"x": "y"}, await_registration_for=5)
two = mlflow.register_model("models:/adder/1", "adder")
client.set_registered_model_alias("adder", "live", 1)
uris = ["models:/adder/1", "models:/adder/2", "models:/adder/latest", "models:/adder@live", info.model_uri, f"runs:/{made.info.run_id}/add"]
seen["versions"] = [int(one.version), int(two.version), client.get_model_version("adder", "1").tags]
seen["loaded"] = [mlflow.pyfunc.load_model(uri).predict([1.0, 2.0]) for uri in uris]
seen["info"] = [mlflow.models.get_model_info(uri).metadata for uri in uris[:2]]
with mlflow.start_run():
    mlflow.log_metric("acc", 1.0, model_id=info.model_id, dataset=frame)
seen["model"] = [
    mlflow.last_logged_model().name,
    [[m.key, m.value, m.dataset_name] for m in mlflow.get_logged_model(info.model_id).metrics],
]
os.environ["MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"] = "0.2"
with mlflow.start_run(log_system_metrics=True) as watched:
    while "system/cpu_utilization_percentage" not in mlflow.get_run(watched.info.run_id).data.metrics:
        pass
seen["system"] = sorted(key for key in mlflow.get_run(watched.info.run_id).data.metrics if "cpu" in key or "memory" in key)


def cli(*arguments: str) -> list[Any]:
    done = subprocess.run([sys.executable, "-m", "mlflow", *arguments], capture_output=True, text=True)
    return [done.returncode, done.stdout.replace(me, "ME")]


Path("file.txt").write_text("text")
seen["commands"] = [
    cli("artifacts", "log-artifact", "-l", "file.txt", "-r", me, "-a", "by hand"),
    [file.path for file in client.list_artifacts(me, "by hand")],
    cli("runs", "delete", "--run-id", me),
    client.get_run(me).info.lifecycle_stage,
]
print(json.dumps(seen, sort_keys=True, default=str))
