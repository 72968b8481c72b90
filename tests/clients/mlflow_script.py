"""What a client can do with experiments, runs, logged models, the registry and files, told as JSON. See test_mlflow_peer.py."""

import json
import os
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput, LoggedModelOutput, Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException

warnings.simplefilter("ignore", FutureWarning)  # stages are deprecated, and said to be
client = MlflowClient()
seen: dict[str, Any] = {}


def shown(error: Any) -> list[Any]:
    return [error.error_code, error.get_http_status_code()]


def tried(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except MlflowException as error:
        return shown(error)


def names(runs: Sequence[Any]) -> list[str]:
    return [run.info.run_name for run in runs]


def paged(ask: Callable[..., Any], *what: Any, **asked: Any) -> list[list[str]]:
    """The names of all that there is, two at a time."""
    pages: list[list[str]] = []
    token = None
    while True:
        page = ask(*what, max_results=2, page_token=token, **asked)
        pages.append([one.info.run_name if hasattr(one, "info") else str(getattr(one, "version", one.name)) for one in page])
        token = page.token
        if not token:
            return pages


# --- experiments
for name in ("alpha", "Beta", "gamma", "delta_1", "d%"):
    client.create_experiment(name, tags={"first": name[0], "odd key/x": "1"})
one = client.get_experiment_by_name("alpha").experiment_id
two = client.get_experiment_by_name("Beta").experiment_id
client.set_experiment_tag(one, "note", "n" * 20000)
client.delete_experiment(two)
mine = "tags.`odd key/x` = '1'"


def experiments(text: str = mine, view: Any = ViewType.ACTIVE_ONLY, order: Sequence[str] = ("name ASC",)) -> Any:
    return tried(lambda: [e.name for e in client.search_experiments(view, filter_string=text, order_by=list(order))])


seen["experiments"] = {
    "active": experiments(),
    "deleted": experiments(view=ViewType.DELETED_ONLY),
    "all": experiments(view=ViewType.ALL),
    "like": experiments("name LIKE 'd%'"),
    "ilike": experiments("name ILIKE 'A%'"),
    "tag": experiments("tags.first = 'g'"),
    "null": experiments("tags.nothing IS NULL AND " + mine),
    "not null": experiments("tags.first IS NOT NULL"),
    "down": experiments(order=("name DESC",)),
    "both": experiments("name LIKE '%a' AND tags.first != 'g'"),
    "bad": [experiments("name > 'a'"), experiments("x = 'a'"), experiments("name = 'a' OR name = 'b'"), experiments(order=("tags.a",))],
    "pages": paged(client.search_experiments, filter_string=mine, order_by=["name DESC"]),
    "none": client.get_experiment_by_name("nobody"),
    "gone by name": client.get_experiment_by_name("Beta").lifecycle_stage,
    "again": tried(lambda: client.create_experiment("Beta")),
    "run": tried(lambda: client.create_run(two)),
    "long tag": tried(lambda: client.set_experiment_tag(one, "k", "v" * 20001)),
    "absent": tried(lambda: client.get_experiment("999999")),
    "empty": tried(lambda: client.create_experiment("")),
}
client.restore_experiment(two)
client.rename_experiment(two, "beta")
seen["experiments"]["renamed"] = [client.get_experiment(two).name, experiments()]

# --- runs
runs = []
points: list[tuple[float | None, str | None]] = [
    (0.5, "0.1"),
    (float("nan"), "0.10"),
    (None, None),
    (0.25, "A"),
    (float("inf"), "a"),
    (-1.0, ""),
    (0.5, "b"),
]
for n, (acc, lr) in enumerate(points):
    run = client.create_run(one, start_time=1000 + n, run_name=f"r{n}", tags={"team": "red" if n % 2 else "Blue", "a b": str(n)})
    me = run.info.run_id
    runs.append(me)
    batch = [Metric("acc", acc, 10, 1), Metric("acc", acc, 10, 1)] if acc is not None else []
    client.log_batch(me, batch + [Metric("loss", n / 2, 5, s) for s in range(3)], [Param("lr", lr)] if lr is not None else [])
    if n < 4:
        client.set_terminated(me, "FAILED" if n == 1 else "FINISHED", end_time=2000 + n)
data = DatasetInput(Dataset("iris", "d1", "local", "here", schema="s", profile="p"), [InputTag("mlflow.data.context", "train")])
client.log_inputs(runs[0], [data, DatasetInput(Dataset("wine", "d2", "local", "there"), [])])
client.delete_run(runs[6])


def found(text: str = "", order: Sequence[str] = (), view: Any = ViewType.ACTIVE_ONLY) -> Any:
    return tried(lambda: names(client.search_runs([one], text, view, order_by=list(order))))


seen["runs"] = {
    text: found(text.replace("RUN0", runs[0]).replace("RUN3", runs[3]))
    for text in [
        "",
        "metrics.acc > 0.3",
        "metrics.acc != 0.5",
        "metrics.acc <= 0.5 and params.lr = '0.1'",
        "metrics.never > 0",
        "params.lr LIKE '0.%'",
        "params.lr ILIKE 'A'",
        "params.lr = 'a'",
        "params.lr = ''",
        "params.lr IS NULL",
        "params.lr IS NOT NULL",
        "tags.team != 'red'",
        "tags.`a b` = '3'",
        "tags.team ILIKE 'b%'",
        "run_name = 'r3'",
        "attributes.run_name LIKE 'r%'",
        "status = 'FAILED'",
        "status != 'RUNNING'",
        "start_time >= 1003",
        "end_time < 2002",
        "attributes.end_time != 2000",
        "run_id IN ('RUN0', 'RUN3')",
        "run_id NOT IN ('RUN0')",
        "datasets.name = 'iris'",
        "dataset.digest LIKE 'd%'",
        "datasets.context = 'train'",
        "metrics.acc > '1'",
        "metrics.acc LIKE '1'",
        "params.lr > '1'",
        "params.lr = 1",
        "tags.x IN ('a')",
        "status = FAILED",
        "nothing = 'x'",
        "params.a = 'x' OR params.b = 'x'",
        "(params.a = 'x')",
        "start_time = 'x'",
        "datasets.size = 'x'",
        "params.lr",
    ]
}
seen["orders"] = {
    " ".join(order): found(order=order)
    for order in [
        ["metrics.acc ASC"],
        ["metrics.acc DESC"],
        ["metrics.acc"],
        ["params.lr ASC"],
        ["params.lr DESC"],
        ["tags.team", "start_time ASC"],
        ["run_name DESC"],
        ["end_time ASC"],
        ["end_time DESC"],
        ["status", "metrics.loss DESC"],
        ["metrics.never DESC"],
        ["start_time ASC"],
        ["metrics.acc UP"],
        ["nothing"],
        ["attributes.nothing"],
    ]
}
seen["views"] = [found(view=view) for view in (ViewType.DELETED_ONLY, ViewType.ALL)]
seen["pages"] = [
    paged(client.search_runs, [one], order_by=order) for order in (["metrics.acc DESC"], ["params.lr ASC"], ["start_time ASC"])
]
whole = client.get_run(runs[0])
seen["whole"] = {
    "metrics": whole.data.metrics,
    "params": whole.data.params,
    "tags": whole.data.tags,
    "status": whole.info.status,
    "times": [whole.info.start_time, whole.info.end_time],
    "stage": whole.info.lifecycle_stage,
    "uri": whole.info.artifact_uri.replace(runs[0], "ID").split("/", 1)[1].split("/", 1)[1],
    "inputs": [[i.dataset.name, i.dataset.digest, i.dataset.schema, {t.key: t.value for t in i.tags}] for i in whole.inputs.dataset_inputs],
    "outputs": whole.outputs.model_outputs,
    "new": client.create_run(one).outputs is None,
}
history = client.get_metric_history(runs[0], "loss")
seen["history"] = [[m.value, m.timestamp, m.step] for m in history] + client.get_metric_history(runs[0], "never")
me = client.create_run(one).info.run_id
many = [Metric("many", float(n), n, n) for n in range(1000)]
client.log_batch(me, many)
client.log_batch(me, many)
client.log_metric(me, "late", 1.0, timestamp=5, step=10)
client.log_metric(me, "late", 2.0, timestamp=9, step=1)
client.log_param(me, "once", "1")
client.set_tag(me, "long", "t" * 9000)
client.log_param(me, "long", "p" * 7000)
client.log_batch(me, params=[Param("long too", "q" * 6001)], tags=[RunTag("mlflow.runName", "by tag")])
after = client.get_run(me)
seen["writes"] = {
    "many": len(client.get_metric_history(me, "many")),
    "late": after.data.metrics["late"],
    "name": after.info.run_name,
    "long": [len(after.data.tags["long"]), len(after.data.params["long"]), len(after.data.params["long too"])],
    "same": tried(lambda: client.log_param(me, "once", "1")),
    "other": tried(lambda: client.log_param(me, "once", "2")),
    "batch": tried(lambda: client.log_batch(me, params=[Param("once", "3"), Param("new", "1")])),
    "nothing of it": "new" in client.get_run(me).data.params,
    "much": tried(lambda: client.log_batch(me, [Metric("m", 1.0, 1, s) for s in range(1001)])),
    "params": tried(lambda: client.log_batch(me, params=[Param(f"p{n}", "1") for n in range(101)])),
    "tags": tried(lambda: client.log_batch(me, tags=[RunTag(f"p{n}", "1") for n in range(101)])),
    "keys": [tried(partial(client.log_metric, me, key, 1.0)) for key in ("", "a" * 251, "../a", "a//b", "/a", "a#", "a..b", "ü:/ .-")],
    "tag": tried(lambda: client.delete_tag(me, "never")),
    "absent": [tried(lambda: client.get_run("0" * 32)), tried(lambda: client.log_metric("0" * 32, "a", 1.0))],
}
client.delete_run(me)
seen["deleted"] = [
    client.get_run(me).info.lifecycle_stage,
    tried(lambda: client.log_metric(me, "a", 1.0)),
    tried(lambda: client.log_param(me, "a", "1")),
    tried(lambda: client.set_tag(me, "a", "1")),
    tried(lambda: client.update_run(me, name="x")),
    tried(lambda: client.log_batch(me)),
]
client.restore_run(me)
seen["restored"] = client.get_run(me).info.lifecycle_stage

# --- logged models
models = {}
for n, name in enumerate(["tree", "net", "Tree"]):
    model = client.create_logged_model(
        one, name=name, source_run_id=runs[n], params={"depth": str(n)}, tags={"team": "red"}, model_type="m"
    )
    models[name] = model.model_id
    client.log_metric(runs[n], "f1", n / 4, step=1, model_id=model.model_id, dataset_name="iris", dataset_digest="d1")
    client.log_outputs(runs[n], [LoggedModelOutput(model.model_id, 3)])
client.log_inputs(runs[3], models=[LoggedModelInput(models["net"])])
client.finalize_logged_model(models["tree"], "READY")
client.finalize_logged_model(models["net"], "FAILED")
client.set_logged_model_tags(models["tree"], {"team": "blue", "x": "y"})
client.delete_logged_model_tag(models["tree"], "x")
tree = client.get_logged_model(models["tree"])


def modelled(text: str | None = None, **more: Any) -> Any:
    return tried(lambda: [m.name for m in client.search_logged_models([one], text, **more)])


seen["models"] = {
    "tree": [
        tree.name,
        str(tree.status),
        tree.params,
        tree.tags,
        tree.model_type,
        tree.source_run_id == runs[0],
        [[m.key, m.value, m.step, m.dataset_name, m.dataset_digest] for m in tree.metrics],
    ],
    "texts": [
        modelled(text)
        for text in [
            "name = 'tree'",
            "name ILIKE 'TREE'",
            "params.depth = '1'",
            "params.depth IN ('1', '2')",
            "tags.team = 'red'",
            "metrics.f1 > 0.1",
            "metrics.f1 > 0.1 AND name = 'net'",
            "model_type = 'm'",
            "name = 'x' OR name = 'y'",
            f"source_run_id = '{runs[1]}'",
            f"model_id = '{models['net']}'",
            "creation_timestamp > 0",
        ]
    ],
    "data": [modelled("metrics.f1 > 0.1", datasets=[{"dataset_name": "iris", "dataset_digest": d}]) for d in ("d1", "d2")],
    "orders": [
        modelled(order_by=[{"field_name": field, "ascending": up}])
        for field in ("name", "metrics.f1", "creation_timestamp")
        for up in (True, False)
    ],
    "bad": [modelled(order_by=[{"field_name": "nothing"}]), modelled("nothing LIKE")],
    "links": [
        [[o.model_id == models["tree"], o.step] for o in client.get_run(runs[0]).outputs.model_outputs],
        [i.model_id == models["net"] for i in client.get_run(runs[3]).inputs.model_inputs],
    ],
    "names": [tried(partial(client.create_logged_model, one, name=name)) for name in ("a/b", "a.b", "a:b")],
    "absent": tried(lambda: client.get_logged_model("m-" + "0" * 32)),
    "pages": paged(client.search_logged_models, [one], order_by=[{"field_name": "name", "ascending": True}]),
}
client.delete_logged_model(models["Tree"])
seen["models"]["left"] = [modelled(order_by=[{"field_name": "name"}]), tried(lambda: client.get_logged_model(models["Tree"]))]

# --- the registry
Path("w.txt").write_text("weights")
client.log_artifact(runs[0], "w.txt", "model")
source = f"runs:/{runs[0]}/model"
for name in ("reg", "Reg 2", "other"):
    client.create_registered_model(name, tags={"first": name[0]}, description=f"about {name}")
for n in range(3):
    if n == 1:
        client.create_model_version("reg", f"models:/{models['tree']}", runs[0], model_id=models["tree"])
    else:
        client.create_model_version("reg", source, runs[0], tags={"n": str(n)}, description=f"v{n}")
client.set_registered_model_alias("reg", "champion", "1")
client.set_registered_model_alias("reg", "champion", "2")
client.set_registered_model_alias("reg", "old", "1")
client.transition_model_version_stage("reg", "1", "Production")
client.transition_model_version_stage("reg", "2", "Production", archive_existing_versions=True)
client.transition_model_version_stage("reg", "3", "staging")
copied = client.copy_model_version("models:/reg/1", "copied")


def versions(text: str = "name = 'reg'", order: Sequence[str] = ("version_number ASC",), **more: Any) -> Any:
    return tried(lambda: [int(v.version) for v in client.search_model_versions(text, order_by=list(order), **more)])


def registered(text: str | None = None, order: Sequence[str] = ("name ASC",)) -> Any:
    return tried(lambda: [m.name for m in client.search_registered_models(text, order_by=list(order))])


reg = client.get_registered_model("reg")
first = client.get_model_version("reg", "1")
seen["registry"] = {
    "reg": [reg.name, reg.description, reg.tags, reg.aliases, sorted([v.current_stage, v.version] for v in reg.latest_versions)],
    "first": [
        first.version,
        first.current_stage,
        first.status,
        first.tags,
        first.description,
        sorted(first.aliases),
        first.source == source,
    ],
    "latest": [
        sorted([v.current_stage, int(v.version)] for v in client.get_latest_versions("reg", stages))
        for stages in (None, ["Production"], ["staging", "Archived"])
    ],
    "alias": [client.get_model_version_by_alias("reg", name).version for name in ("champion", "old", "latest")],
    "copied": [copied.name, copied.version, copied.source],
    "read": [
        (Path(mlflow.artifacts.download_artifacts(uri)) / "w.txt").read_text()
        for uri in ("models:/reg/1", "models:/reg@old", "models:/copied/1", "models:/reg/3")
    ],
    "models": [
        registered(text)
        for text in [
            None,
            "name = 'reg'",
            "name LIKE 'R%'",
            "name ILIKE 'r%'",
            "tags.first = 'o'",
            "name != 'reg'",
            "name IN ('reg', 'other')",
            "name > 'a'",
            "x = 'y'",
            "name = 'a' OR name = 'b'",
        ]
    ]
    + [registered(order=("name DESC",))],
    "versions": [
        versions(text)
        for text in [
            "name = 'reg'",
            "name LIKE 're%'",
            f"run_id = '{runs[0]}' and name = 'reg'",
            f"run_id IN ('{runs[0]}') and name = 'reg'",
            "version_number > 1 and name = 'reg'",
            "version_number != 2 and name = 'reg'",
            "tags.n = '0'",
            "source_path LIKE 'runs:%' and name = 'reg'",
            "version_number LIKE '1'",
            "stage = 'Production'",
        ]
    ],
    "pages": paged(client.search_model_versions, "name = 'reg'", order_by=["version_number DESC"]),
    "bad": [
        tried(call)
        for call in [
            lambda: client.create_registered_model("reg"),
            lambda: client.create_registered_model("a/b"),
            lambda: client.create_registered_model("."),
            lambda: client.get_registered_model("nobody"),
            lambda: client.get_model_version("reg", "9"),
            lambda: client.get_model_version("nobody", "1"),
            lambda: client.get_model_version_by_alias("reg", "nobody"),
            lambda: client.set_registered_model_alias("reg", "latest", "1"),
            lambda: client.set_registered_model_alias("reg", "v1", "1"),
            lambda: client.set_registered_model_alias("reg", "a", "9"),
            lambda: client.rename_registered_model("reg", "other"),
            lambda: client.rename_registered_model("nobody", "x"),
            lambda: client.transition_model_version_stage("reg", "1", "Shelf"),
            lambda: client.update_model_version("reg", "9", "x"),
            lambda: client.create_model_version("reg", "/etc/passwd"),
            lambda: client.create_model_version("reg", "file:///etc"),
            lambda: client.create_model_version("reg", "models:/reg/1", run_id=runs[3]),
            lambda: client.create_model_version("reg", "mlflow-artifacts:/../../x"),
            lambda: client.set_registered_model_tag("nobody", "a", "b"),
            lambda: client.set_model_version_tag("reg", "9", "a", "b"),
            lambda: client.delete_model_version("reg", "9"),
            lambda: client.delete_registered_model("nobody"),
        ]
    ],
}
client.delete_model_version_tag("reg", "1", "never")
client.delete_registered_model_tag("reg", "never")
client.delete_registered_model_alias("reg", "never")
client.delete_model_version("reg", "3")
client.rename_registered_model("reg", "renamed")
client.update_registered_model("renamed", "new words")
client.update_model_version("renamed", "1", "new words too")
again = client.create_model_version("renamed", source, runs[0])
seen["registry"]["after"] = [
    versions("name = 'renamed'"),
    int(again.version),
    client.get_registered_model("renamed").description,
    client.get_model_version("renamed", "1").description,
    client.get_model_version_by_alias("renamed", "champion").version,
    tried(lambda: client.get_registered_model("reg")),
]
client.delete_registered_model("renamed")
seen["registry"]["end"] = [registered(), tried(lambda: client.get_model_version("renamed", "1"))]

# --- files
Path("tree/deep er/ü").mkdir(parents=True)
for path, text in (("tree/a.txt", "a"), ("tree/deep er/b%20.txt", "bb"), ("tree/deep er/ü/c", "ccc")):
    Path(path).write_text(text)
Path("big.bin").write_bytes(os.urandom(12_000_000))
me = runs[4]
client.log_artifacts(me, "tree", "t")
client.log_artifact(me, "big.bin")
client.log_dict(me, {"a": [1]}, "d/x.json")
Path("down").mkdir()
down = Path(client.download_artifacts(me, "t", "."))
repo = mlflow.store.artifact.artifact_repository_registry.get_artifact_repository(client.get_run(me).info.artifact_uri)
seen["files"] = {
    "listed": [
        [[f.path, f.is_dir, f.file_size] for f in client.list_artifacts(me, path)]
        for path in (None, "t", "t/deep er", "t/deep er/ü", "t/a.txt", "nowhere")
    ],
    "down": sorted([str(one.relative_to(down)), one.stat().st_size] for one in down.rglob("*") if one.is_file()),
    "same": Path(client.download_artifacts(me, "big.bin", "down")).read_bytes() == Path("big.bin").read_bytes(),
    "dict": mlflow.artifacts.load_dict(f"runs:/{me}/d/x.json"),
    "absent": tried(lambda: client.download_artifacts(me, "nowhere", "down")) and "refused",
}
repo.delete_artifacts("t/deep er")
repo.delete_artifacts("t/deep er")
seen["files"]["less"] = [f.path for f in client.list_artifacts(me, "t")]
repo.delete_artifacts()
seen["files"]["none"] = client.list_artifacts(me)
print(json.dumps(seen, sort_keys=True, default=str))
