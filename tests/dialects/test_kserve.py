"""Open Inference v2 over HTTP, with tritonclient where it can do it."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton

from tests.serving.plane import Plane, deployment, running, variant


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    with running(Path(tmp_path_factory.mktemp("plane"))) as it:
        it.routes(deployment("m", variant("a", [it.replica()], version=3)), deployment("cold", variant("c", [], problem="starting")))
        yield it


@pytest.fixture
def client(plane: Plane) -> Iterator[Any]:
    client = triton.InferenceServerClient(plane.url.removeprefix("http://") + "/kserve")
    yield client
    client.close()


def infer(plane: Plane, body: Any, path: str = "/kserve/v2/models/m/infer", **more: Any) -> httpx.Response:
    return httpx.post(plane.url + path, json=body, timeout=20, **more)


X = {"name": "x", "shape": [2, 2], "datatype": "FP64", "data": [[1.0, 2.0], [3.0, 4.0]]}


@pytest.mark.parametrize("path", ["/kserve/v2/models/m/infer", "/v2/models/m/infer", "/v2/models/m/versions/3/infer"])
def test_json(plane: Plane, path: str) -> None:
    got = infer(plane, {"id": "7", "inputs": [X]}, path).json()
    assert got == {"model_name": "m", "model_version": "3", "id": "7", "outputs": [X]}
    event = plane.events()[-1]
    assert (event.dialect, event.task, event.version, event.error) == ("kserve", "infer", 3, "")
    assert "outputs" in (event.output or "")


ARRAYS = [
    np.array([[1.5, -2.0]], dtype=np.float32),
    np.array([1.5, np.nan], dtype=np.float64),
    np.array([1, -2], dtype=np.int64),
    np.array([1, 250], dtype=np.uint8),
    np.array([[True], [False]]),
    np.array(["ä", "", "xyz"], dtype=np.object_),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.dtype))
@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_round_trip(client: Any, array: Any, binary: bool) -> None:
    tensor = triton.InferInput("x", list(array.shape), triton.np_to_triton_dtype(array.dtype))
    if not binary and array.dtype == np.float64:
        array = np.nan_to_num(array)
    tensor.set_data_from_numpy(array, binary_data=binary)
    outputs = None if binary else [triton.InferRequestedOutput("x", binary_data=False)]
    got = client.infer("m", [tensor], outputs=outputs).as_numpy("x")
    if array.dtype == np.object_:
        got = np.array([x.decode() if isinstance(x, bytes) else x for x in got], dtype=np.object_)
        assert list(got) == list(array)
    else:
        np.testing.assert_array_equal(got, array)


def test_half_precision_comes_in_binary(client: Any) -> None:
    array = np.array([0.5, 2.0], dtype=np.float16)
    tensor = triton.InferInput("x", [2], "FP16")
    tensor.set_data_from_numpy(array)
    np.testing.assert_array_equal(client.infer("m", [tensor]).as_numpy("x"), array.astype(np.float32))


def test_compressed(client: Any) -> None:
    array = np.arange(100, dtype=np.int32)
    tensor = triton.InferInput("x", [100], "INT32")
    tensor.set_data_from_numpy(array)
    for algorithm in ("gzip", "deflate"):
        got = client.infer("m", [tensor], request_compression_algorithm=algorithm).as_numpy("x")
        np.testing.assert_array_equal(got, array)


def test_large_tensors_are_converted_beside_the_loop(client: Any) -> None:
    array = np.arange(100_000, dtype=np.float32)
    tensor = triton.InferInput("x", [100_000], "FP32")
    tensor.set_data_from_numpy(array)
    np.testing.assert_array_equal(client.infer("m", [tensor]).as_numpy("x"), array)


def test_about(client: Any, plane: Plane) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("m")
    assert not client.is_model_ready("cold")
    assert not client.is_model_ready("none")
    assert client.get_server_metadata()["name"] == "drivetrain"
    about = client.get_model_metadata("m")
    assert (about["name"], about["versions"], about["inputs"][0]["name"]) == ("m", ["3"], "x")
    assert client.get_model_config("m")["input"][0]["data_type"] == "TYPE_FP64"
    index = client.get_model_repository_index()
    assert [(item["name"], item["state"], item["reason"]) for item in index] == [("m", "READY", ""), ("cold", "UNAVAILABLE", "starting")]
    client.load_model("m")
    before = len(plane.events())
    client.get_model_metadata("m")
    assert len(plane.events()) == before


BAD: list[tuple[Any, int, str]] = [
    ({}, 400, "inputs"),
    ({"inputs": []}, 400, "inputs"),
    ({"inputs": [{"name": "x"}]}, 400, "shape"),
    ({"inputs": [X | {"datatype": "FLOAT"}]}, 400, "FP32"),
    ({"inputs": [X | {"shape": ["a"]}]}, 400, "shape"),
    ({"inputs": [X | {"shape": [-1]}]}, 400, "shape"),
    ({"inputs": [{k: v for k, v in X.items() if k != "data"}]}, 400, "no data"),
    ({"inputs": [X], "outputs": [{"name": "y"}]}, 400, "no output"),
    ({"inputs": [X | {"parameters": {"binary_data_size": 99}}]}, 400, "binary_data_size"),
]


@pytest.mark.parametrize(("body", "status", "hint"), BAD, ids=range(len(BAD)))
def test_bad_input(plane: Plane, body: Any, status: int, hint: str) -> None:
    answer = infer(plane, body)
    assert answer.status_code == status
    assert hint in answer.json()["error"]


def test_other_refusals(plane: Plane) -> None:
    assert infer(plane, {"inputs": [X]}, "/v2/models/none/infer").status_code == 404
    assert infer(plane, {"inputs": [X]}, "/v2/models/m/versions/9/infer").status_code == 404
    for wrong in ("99999", "9" * 5000, "x"):
        assert infer(plane, {"inputs": [X]}, headers={"inference-header-content-length": wrong}).status_code == 400
    bomb = gzip.compress(b" " * (8 << 20))
    answer = httpx.post(f"{plane.url}/v2/models/m/infer", content=bomb, headers={"content-encoding": "gzip"})
    assert answer.status_code == 413
    assert httpx.post(f"{plane.url}/v2/models/m/infer", content=b"xx", headers={"content-encoding": "gzip"}).status_code == 400
    assert httpx.post(f"{plane.url}/v2/models/m/infer", content=b"xx", headers={"content-encoding": "br"}).status_code == 400
    assert httpx.get(f"{plane.url}/v2/systemsharedmemory/status").status_code == 404
