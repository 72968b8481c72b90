"""MLflow's scoring protocol over HTTP, and the laws of its conversion."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from drivetrain.dialects.invocations.convert import canonical, canonical_csv, predictions, shaped
from tests.serving.plane import Plane, deployment, running, variant


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    with running(Path(tmp_path_factory.mktemp("plane"))) as it:
        it.routes(deployment("m", variant("a", [it.replica()])), deployment("cold", variant("c", [])))
        yield it


def invoke(plane: Plane, body: Any, kind: str = "application/json", name: str = "m") -> httpx.Response:
    content = body if isinstance(body, (str, bytes)) else json.dumps(body)
    return httpx.post(f"{plane.url}/invoke/{name}/invocations", content=content, headers={"content-type": kind}, timeout=20)


SAME: list[tuple[Any, str]] = [
    ({"dataframe_split": {"columns": ["a", "b"], "index": [0, 1], "data": [[1, 2.5], [3, 4]]}}, "application/json"),
    ({"dataframe_records": [{"a": 1, "b": 2.5}, {"a": 3, "b": 4}]}, "application/json"),
    ({"inputs": {"a": [1, 3], "b": [2.5, 4]}}, "application/json; charset=utf-8"),
    ({"instances": [{"a": 1, "b": 2.5}, {"a": 3, "b": 4}]}, "application/json"),
    ("a,b\n1,2.5\n3,4\n", "text/csv"),
    ("\ufeffa,b\r\n1,2.5\r\n3,4", "text/csv; charset=utf-8"),
]


@pytest.mark.parametrize(("body", "kind"), SAME, ids=range(len(SAME)))
def test_tables_in_every_form(plane: Plane, body: Any, kind: str) -> None:
    answer = invoke(plane, body, kind)
    assert answer.json() == {"predictions": [3.5, 7.0]}
    sent = plane.replicas[0].bodies[-1]
    assert sent["parameters"] == {"content_type": "pd"}
    assert [(item["name"], item["datatype"], item["shape"]) for item in sent["inputs"]] == [("a", "INT64", [2]), ("b", "FP64", [2])]
    assert plane.events()[-1].dialect == "invocations"


def test_tensors(plane: Plane) -> None:
    for kind in ("inputs", "instances"):
        assert invoke(plane, {kind: [[1.0, 2.0], [3.0, 4.0]]}).json() == {"predictions": [[1.0, 2.0], [3.0, 4.0]]}
    assert invoke(plane, {"inputs": "hello"}).json() == {"predictions": ["hello"]}
    got = invoke(plane, {"inputs": {"a": [[1]], "b": [2, 3]}, "params": {"method": "predict_proba"}}).json()
    assert got == {"predictions": {"a": [[1]], "b": [2, 3]}}
    assert plane.replicas[0].bodies[-1]["parameters"] == {"method": "predict_proba"}


def test_large_tables(plane: Plane) -> None:
    rows = [[i, i] for i in range(30_000)]
    assert invoke(plane, {"dataframe_split": {"columns": ["a", "b"], "data": rows}}).json()["predictions"][-1] == 59_998.0


def test_about(plane: Plane) -> None:
    assert httpx.get(f"{plane.url}/invoke/m/ping").status_code == 200
    assert httpx.get(f"{plane.url}/invoke/m/health").status_code == 200
    assert httpx.get(f"{plane.url}/invoke/m/version").text == "0"
    assert httpx.get(f"{plane.url}/invoke/cold/ping").status_code == 503
    assert httpx.get(f"{plane.url}/invoke/none/ping").status_code == 404


BAD: list[tuple[Any, str]] = [
    ("{", "JSON"),
    ([1], "dataframe_split"),
    ({}, "none of them"),
    ({"inputs": [1], "instances": [1]}, "exactly one"),
    ({"dataframe_split": [1]}, "columns"),
    ({"dataframe_split": {"columns": ["a"], "data": []}}, "no rows"),
    ({"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}, "Row 0"),
    ({"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}, "same name"),
    ({"dataframe_split": {"columns": ["a"], "data": [[1], ["x"]]}}, "mixes"),
    ({"dataframe_records": {"a": 1}}, "list of objects"),
    ({"dataframe_records": [1]}, "list of objects"),
    ({"inputs": [[1, 2], [3]]}, "ragged"),
    ({"inputs": []}, "empty"),
    ({"inputs": None}, "number"),
    ({"instances": [10**30]}, "64 bits"),
    ({"inputs": [1], "params": 5}, "params"),
]


@pytest.mark.parametrize(("body", "hint"), BAD, ids=range(len(BAD)))
def test_bad_input(plane: Plane, body: Any, hint: str) -> None:
    answer = invoke(plane, body)
    assert answer.status_code == 400
    assert answer.json()["error_code"] == "BAD_REQUEST"
    assert hint in answer.json()["message"]


def test_bad_csv(plane: Plane) -> None:
    assert invoke(plane, "a,b\n1\n", "text/csv").status_code == 400
    assert invoke(plane, "a,b\n", "text/csv").status_code == 400
    assert invoke(plane, b"a\n\xff\n", "text/csv").status_code == 400
    assert invoke(plane, "x", "image/png").status_code == 400
    assert invoke(plane, {"inputs": [1]}, name="none").status_code == 404


@given(arrays(np.float64, array_shapes(max_dims=4, max_side=4), elements=st.floats(-1e6, 1e6)))
def test_tensors_keep_their_shape_and_values(array: Any) -> None:
    (sent,) = canonical({"inputs": array.tolist()})["inputs"]
    assert sent["shape"] == list(array.shape)
    assert shaped(sent["data"], sent["shape"]) == array.tolist()


cells = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), st.none())


@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(cells, min_size=n, max_size=n), min_size=1, max_size=5)))
def test_split_and_records_say_the_same(rows: list[list[Any]]) -> None:
    names = [f"c{i}" for i in range(len(rows[0]))]
    records = [dict(zip(names, row, strict=True)) for row in rows]
    assert canonical({"dataframe_split": {"columns": names, "data": rows}}) == canonical({"dataframe_records": records})


@given(st.lists(st.tuples(st.integers(-1000, 1000), st.text(alphabet='abc ,"\n', min_size=1).filter(str.strip)), min_size=1, max_size=5))
def test_csv_columns_are_typed(rows: list[tuple[int, str]]) -> None:
    import csv
    import io

    out = io.StringIO()
    csv.writer(out).writerows([("n", "s"), *rows])
    numbers, texts = canonical_csv(out.getvalue())["inputs"]
    assert (numbers["datatype"], numbers["data"]) == ("INT64", [row[0] for row in rows])
    assert texts["datatype"] == "BYTES"
    assert texts["data"] == [row[1] for row in rows]


def test_answers_with_several_columns_are_records() -> None:
    outputs = [{"name": "a", "shape": [2], "data": [1, 2]}, {"name": "b", "shape": [2], "data": [3, 4]}]
    assert predictions({"outputs": outputs, "parameters": {"content_type": "pd"}}) == [{"a": 1, "b": 3}, {"a": 2, "b": 4}]
    assert predictions({"outputs": outputs}) == {"a": [1, 2], "b": [3, 4]}
