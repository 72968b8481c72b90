"""Replicas as processes of their own: what the deployments loop and the gateway rely on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from drivetrain.config import Settings
from drivetrain.engines import table
from drivetrain.engines.model import BAD_MODEL, ReplicaSpec
from drivetrain.engines.options import read
from drivetrain.loops.replicas import healthy
from tests.conftest import free_port, wait_for

pytestmark = pytest.mark.slow
INFER = "/v2/models/model/infer"


class Replica:
    def __init__(self, engine: str, folder: Path, at: Path, *, port: int = 0, **options: Any) -> None:
        self.order = at / "r.json"
        self.socket = at / "r.sock"
        self.address = f"http://127.0.0.1:{port}" if port else f"unix:{self.socket}"
        spec = ReplicaSpec(
            id="r",
            name="m",
            engine=engine,
            tasks=("infer",),
            model_dir=str(folder),
            address=self.address,
            options=asdict(read(table.find(engine).options, options, Settings(context_tokens=512, threads=2))),
            slots=2,
        )
        self.order.write_bytes(msgspec.json.encode(spec))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "drivetrain.engines.replica", str(self.order)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "OMP_WAIT_POLICY": "passive"},
        )
        at_socket = httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket)), base_url="http://replica", timeout=120)
        self.http = httpx.Client(base_url=self.address, timeout=120) if port else at_socket

    def ready(self) -> bool:
        assert self.process.poll() is None, self.words()
        return healthy(self.address)

    def words(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def infer(self, *inputs: dict[str, Any], **parameters: Any) -> httpx.Response:
        return self.http.post(INFER, json={"inputs": list(inputs), "parameters": parameters})

    def end(self) -> None:
        self.http.close()
        self.process.kill()
        self.process.wait(20)
        if self.process.stderr is not None:
            self.process.stderr.close()


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Replica]]:
    made: list[Replica] = []

    def new(engine: str, folder: Path, *, wait: bool = True, **options: Any) -> Replica:
        replica = Replica(engine, folder, tmp_path_factory.mktemp("r"), **options)
        made.append(replica)
        if wait:
            wait_for(replica.ready, seconds=120, what="a ready replica")
        return replica

    yield new
    for replica in made:
        replica.end()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that a real mlflow wrote: a pipeline over mixed columns with text labels, and a function of one's own."""
    folder = tmp_path_factory.mktemp("saved")
    code = """
import sys, mlflow, numpy as np, pandas as pd
from mlflow.models import infer_signature
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
x = pd.DataFrame({"size": [1.0, 2.0, 3.0, 4.0] * 5, "rooms": [1, 2, 3, 4] * 5, "city": ["a", "b"] * 10})
y = ["cheap", "cheap", "dear", "dear"] * 5
model = make_pipeline(make_column_transformer((OneHotEncoder(), ["city"]), remainder="passthrough"), LogisticRegression()).fit(x, y)
mlflow.sklearn.save_model(model, sys.argv[1] + "/mixed", signature=infer_signature(x, y), serialization_format="cloudpickle")

from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV
both = np.array([["a", "x"], ["b", "y"]] * 10)
forest = RandomForestClassifier(3, random_state=0).fit(x[["size", "rooms"]], both)
mlflow.sklearn.save_model(forest, sys.argv[1] + "/targets", signature=infer_signature(x[["size", "rooms"]], both),
    skops_trusted_types=["sklearn.tree._tree.Tree"])
search = GridSearchCV(model, {"logisticregression__C": [1.0]}, cv=2).fit(x, y)
mlflow.sklearn.save_model(search, sys.argv[1] + "/unsigned", serialization_format="pickle")

class Doubler(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input * (params or {}).get("by", 2)

signature = infer_signature(np.zeros((2, 3)), np.zeros((2, 3)), params={"by": 2})
mlflow.pyfunc.save_model(sys.argv[1] + "/own", python_model=Doubler(), signature=signature)
"""
    environ = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(folder)], capture_output=True, text=True, env=environ)
    assert done.returncode == 0, done.stderr
    return folder


def column(name: str, datatype: str, *values: Any) -> dict[str, Any]:
    return {"name": name, "shape": [len(values)], "datatype": datatype, "data": list(values)}


def test_digits_as_array_and_as_the_estimator_says(start: Callable[..., Replica], digits_model: Path) -> None:
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    x, y = load_digits(return_X_y=True)
    expected = LogisticRegression(C=0.01, max_iter=5000, tol=0.01, random_state=7).fit(x, y).predict(x[:200]).tolist()
    replica = start("pyfunc", digits_model)
    answer = replica.infer({"name": "x", "shape": [200, 64], "datatype": "FP64", "data": x[:200].ravel().tolist()})
    assert answer.json()["outputs"][0]["data"] == expected
    # Many at once, which are put together, give each its own.
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda row: replica.infer({"name": "x", "shape": [1, 64], "datatype": "FP64", "data": row.tolist()}), x[:200]))
    assert [row.json()["outputs"][0]["data"][0] for row in rows] == expected
    told = dict(line.split() for line in replica.http.get("/metrics").text.splitlines())
    assert int(told["replica_requests_total"]) == 201
    assert int(told["replica_batches_total"]) <= 201
    probabilities = replica.infer({"name": "x", "shape": [1, 64], "datatype": "FP64", "data": x[0].tolist()}, method="predict_proba")
    assert probabilities.json()["outputs"][0]["shape"] == [1, 10]


def test_a_table_of_mixed_columns(start: Callable[..., Replica], saved: Path) -> None:
    replica = start("pyfunc", saved / "mixed")
    table = [column("city", "BYTES", "a", "b"), column("size", "FP64", 1.0, 4.0), column("rooms", "INT64", 1, 4)]
    assert replica.infer(*table, content_type="pd").json()["outputs"][0]["data"] == ["cheap", "dear"]
    # Whole numbers do for a column of doubles; columns come in any order; more columns than needed do no harm.
    more = [column("extra", "FP64", 9.0), column("rooms", "INT64", 4), column("size", "INT64", 4), column("city", "BYTES", "b")]
    assert replica.infer(*more, content_type="pd").json()["outputs"][0]["data"] == ["dear"]
    described = replica.http.get("/v2/models/model").json()
    assert [(one["name"], one["datatype"]) for one in described["inputs"]] == [("size", "FP64"), ("rooms", "INT64"), ("city", "BYTES")]


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ([column("size", "FP64", 1.0), column("rooms", "INT64", 1)], "lacks 1 of the model's 3 columns: city"),
        ([column("size", "BYTES", "big"), column("rooms", "INT64", 1), column("city", "BYTES", "a")], "'size' takes double"),
        ([column("size", "FP64", 1.0), column("rooms", "FP64", 1.5), column("city", "BYTES", "a")], "'rooms' takes long"),
        ([column("size", "FP64", 1.0), column("rooms", "INT64", 1), column("city", "FP64", 1.0)], "'city' takes texts"),
        ([column("size", "FP64", 1.0, 2.0), column("rooms", "INT64", 1), column("city", "BYTES", "a")], "different lengths"),
        ([column("size", "WRONG", 1.0), column("rooms", "INT64", 1), column("city", "BYTES", "a")], "datatype 'WRONG'"),
        ([], "no inputs"),
    ],
)
def test_what_does_not_fit_is_refused_with_advice(mixed: Replica, inputs: list[dict[str, Any]], says: str) -> None:
    answer = mixed.infer(*inputs, content_type="pd")
    assert answer.status_code == 400
    assert says in answer.json()["error"]


@pytest.fixture(scope="module")
def mixed(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    replica = Replica("pyfunc", saved / "mixed", tmp_path_factory.mktemp("r"))
    try:
        wait_for(replica.ready, seconds=120)
        yield replica
    finally:
        replica.end()


def test_a_function_of_ones_own_through_mlflow(start: Callable[..., Replica], saved: Path) -> None:
    replica = start("pyfunc", saved / "own")
    tensor = {"name": "x", "shape": [2, 3], "datatype": "FP64", "data": [1, 2, 3, 4, 5, 6]}
    assert replica.infer(tensor).json()["outputs"][0]["data"] == [2, 4, 6, 8, 10, 12]
    assert replica.infer(tensor, by=3).json()["outputs"][0]["data"] == [3, 6, 9, 12, 15, 18]
    wrong = replica.infer({"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]})
    assert wrong.status_code == 400
    assert "[-1, 3]" in wrong.json()["error"]


def test_several_targets_and_text_labels_as_mlflow_saves_them(start: Callable[..., Replica], saved: Path) -> None:
    replica = start("pyfunc", saved / "targets", method="predict_proba")
    table = [column("rooms", "INT64", 1, 2, 3), column("size", "FP64", 1.0, 2.0, 3.0)]
    output = replica.infer(*table, content_type="pd", method="predict").json()["outputs"][0]
    assert (output["shape"], output["datatype"], len(output["data"])) == ([3, 2], "BYTES", 6)
    # The deployment's default method here; one array for each target.
    outputs = replica.infer(*table, content_type="pd").json()["outputs"]
    assert [(one["name"], one["shape"]) for one in outputs] == [("predict_proba-0", [3, 2]), ("predict_proba-1", [3, 2])]
    with ThreadPoolExecutor(8) as pool:
        many = list(pool.map(lambda _: replica.infer(*table, content_type="pd").json()["outputs"], range(50)))
    assert all(one == outputs for one in many)


@pytest.mark.parametrize("method", ["fit", "set_params", "__class__", "nothing"])
def test_a_model_cannot_be_changed_from_outside(mixed: Replica, method: str) -> None:
    answer = mixed.infer(
        column("size", "FP64", 1.0), column("rooms", "INT64", 1), column("city", "BYTES", "a"), method=method, content_type="pd"
    )
    assert answer.status_code == 400
    assert "predict_proba" in answer.json()["error"]


def test_a_model_without_a_signature_is_checked_by_what_it_was_trained_with(start: Callable[..., Replica], saved: Path) -> None:
    replica = start("pyfunc", saved / "unsigned")
    table = [column("city", "BYTES", "a", "b"), column("size", "FP64", 1.0, 4.0), column("rooms", "INT64", 1, 4)]
    assert replica.infer(*table, content_type="pd").json()["outputs"][0]["data"] == ["cheap", "dear"]
    lacking = replica.infer(*table[:2], content_type="pd")
    assert lacking.status_code == 400
    assert "lacks 1 of the model's 3 columns: rooms" in lacking.json()["error"]


def test_one_bad_request_does_not_fail_those_beside_it(mixed: Replica) -> None:
    def ask(number: int) -> httpx.Response:
        city = "nowhere" if number % 5 == 0 else "a"  # the encoder knows only a and b
        return mixed.infer(column("size", "FP64", 1.0), column("rooms", "INT64", 1), column("city", "BYTES", city), content_type="pd")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(60)))
    assert [one.status_code for one in answers] == [400 if i % 5 == 0 else 200 for i in range(60)]
    assert "nowhere" in answers[0].json()["error"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"not json", "not a valid inference request"),
        (b'{"inputs": "x"}', "not a valid inference request"),
        (b'{"inputs": [{"name": "x", "shape": [-1], "datatype": "FP64", "data": [1]}]}', "not a valid inference request"),
        (b'{"inputs": [{"name": "x", "shape": [1, 64], "datatype": "FP64", "data": [1, 2]}]}', "does not fit"),
        (b'{"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP64", "data": [[1, 2, 3], [4]]}]}', "ragged"),
        (b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": ["1"]}]}', "float"),
        (b'{"inputs": [{"name": "x", "shape": [1], "datatype": "UINT8", "data": [300]}]}', "does not fit"),
        (b'{"inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [1.5]}]}', "int"),
        (b'{"inputs": [{"name": "x", "shape": [1], "datatype": "BOOL", "data": [1]}]}', "bool"),
    ],
)
def test_bodies_that_cannot_be_read_are_refused(mixed: Replica, body: bytes, says: str) -> None:
    answer = mixed.http.post(INFER, content=body)
    assert answer.status_code == 400
    assert says in answer.json()["error"]


def test_sigterm_finishes_what_has_begun(start: Callable[..., Replica], digits_model: Path) -> None:
    replica = start("pyfunc", digits_model)
    big = {"name": "x", "shape": [20_000, 64], "datatype": "FP64", "data": [0.0] * 64 * 20_000}
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(replica.infer(big)))
    asking.start()
    wait_for(lambda: "replica_requests_total 1" in replica.http.get("/metrics").text or answers, what="work that has begun")
    replica.process.send_signal(signal.SIGTERM)
    asking.join(60)
    assert answers[0].status_code == 200
    assert replica.process.wait(30) == 0


def test_llamacpp_answers(start: Callable[..., Replica], gguf_model: Path) -> None:
    replica = start("llamacpp", gguf_model.parent)
    body = {"messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 5, "temperature": 0}
    answer = replica.http.post("/v1/chat/completions", json=body).json()
    assert answer["usage"]["completion_tokens"] == 5
    with replica.http.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as stream:
        lines = [line for line in stream.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert json.loads(lines[0][6:])["object"] == "chat.completion.chunk"


def test_replicas_may_listen_on_ports(start: Callable[..., Replica], digits_model: Path, gguf_model: Path) -> None:
    rows = start("pyfunc", digits_model, port=free_port())
    assert rows.infer({"name": "x", "shape": [1, 64], "datatype": "FP64", "data": [0.0] * 64}).status_code == 200
    texts = start("llamacpp", gguf_model.parent, port=free_port())
    body = {"prompt": "Say hi.", "max_tokens": 2, "temperature": 0}
    assert texts.http.post("/v1/completions", json=body).json()["usage"]["completion_tokens"] == 2


def test_llamacpp_embeds(start: Callable[..., Replica], gguf_model: Path) -> None:
    replica = start("llamacpp", gguf_model.parent, pooling="mean")
    words = ["a cat", "a kitten", "the stock market fell"]
    answer = replica.http.post("/v1/embeddings", json={"input": [*words, "long " * 450]}).json()
    cat, kitten, market, _ = [one["embedding"] for one in answer["data"]]

    def near(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert near(cat, cat) == pytest.approx(1, abs=1e-3)
    assert near(cat, kitten) > near(cat, market)


@pytest.mark.parametrize("damage", ["truncated", "noise"])
def test_a_damaged_model_says_so_and_is_not_tried_again(
    start: Callable[..., Replica], gguf_model: Path, tmp_path: Path, damage: str
) -> None:
    data = gguf_model.read_bytes()
    (tmp_path / "m.gguf").write_bytes(data[: len(data) // 2] if damage == "truncated" else b"GGUF" + os.urandom(1000))
    replica = start("llamacpp", tmp_path, wait=False)
    assert replica.process.wait(60) == BAD_MODEL
    status = json.loads(replica.order.with_suffix(".status").read_text())
    assert status["state"] == "failed"
    assert "m.gguf" in status["message"]


def test_types_that_nobody_vouches_for_are_not_loaded(start: Callable[..., Replica], saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved / "targets", tmp_path / "model")
    file = tmp_path / "model" / "MLmodel"
    file.write_text(file.read_text().replace("- sklearn.tree._tree.Tree", "- sklearn.tree._tree.Other"))
    replica = start("pyfunc", tmp_path / "model", wait=False)
    assert replica.process.wait(60) == BAD_MODEL
    assert "sklearn.tree._tree.Tree" in json.loads(replica.order.with_suffix(".status").read_text())["message"]


def test_a_missing_package_is_named(start: Callable[..., Replica], digits_model: Path, tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {python_function: {loader_module: no_such_package}}\n")
    replica = start("pyfunc", tmp_path, wait=False)
    assert replica.process.wait(60) == BAD_MODEL
    assert "no_such_package" in json.loads(replica.order.with_suffix(".status").read_text())["message"]
