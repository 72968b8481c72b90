"""Events as tables: every form in which inputs and outputs are kept."""

from __future__ import annotations

import json
from typing import Any

from drivetrain.monitoring.drift.features import confidences, table
from drivetrain.store.events.model import Event


def event(asked: Any, said: Any = None, *, task: str = "infer", **more: Any) -> Event:
    output = said if said is None or isinstance(said, str) else json.dumps(said)
    return Event(id="1", t=0, task=task, input=asked if isinstance(asked, str) else json.dumps(asked), output=output, **more)


def tensors(*given: tuple[str, list[int], list[Any]]) -> dict[str, Any]:
    return {"inputs": [{"name": name, "shape": shape, "datatype": "FP64", "data": data} for name, shape, data in given]}


def outputs(shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"outputs": [{"name": "predict", "shape": shape, "datatype": "FP64", "data": data}]}


def test_one_tensor_is_a_table_without_names() -> None:
    found, rows = table([event(tensors(("x", [2, 3], [1, 2, 3, 4, 5, 6])), outputs([2], [7, 8]))])
    assert rows == 2
    assert found == {"column_0": [1, 4], "column_1": [2, 5], "column_2": [3, 6], "prediction": [7, 8]}


def test_nested_data_are_flattened() -> None:
    found, _ = table([event(tensors(("x", [2, 2], [[1, 2], [3, 4]])), outputs([2, 1], [[5], [6]]))])
    assert found == {"column_0": [1, 3], "column_1": [2, 4], "prediction": [5, 6]}


def test_one_tensor_a_column() -> None:
    asked = tensors(("age", [2], [30, 40]), ("city", [2, 1], ["Ulm", "Bonn"]))
    found, rows = table([event(asked, outputs([2, 1], [0.5, 0.25])), event(asked)])
    assert rows == 4
    assert found == {"age": [30, 40] * 2, "city": ["Ulm", "Bonn"] * 2, "prediction": [0.5, 0.25, None, None]}


def test_conversations_and_prompts() -> None:
    chat = {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": [{"type": "text", "text": "Why?"}]}]}
    said = [
        event(chat, "Because.", task="chat"),
        event({"prompt": "Once"}, "upon a time", task="completion"),
        event({"input": ["a", "b"]}, "[0.1]", task="embeddings"),
    ]
    found, rows = table(said)
    assert rows == 3
    assert found == {"prompt": ["Why?", "Once", "a\nb"], "prediction": ["Because.", "upon a time", None]}


def test_what_holds_no_rows_is_passed_over() -> None:
    good = tensors(("x", [1, 1], [1]))
    passed = [
        event(good, error="upstream"),
        event(good, shadow="another"),
        event("sha256:abc"),
        event('{"inputs": [{"name": "x", "shape": [1, 3], "data": [1… (900 more)'),
        event(tensors(("x", [2, 3], [1, 2]))),
        event({"inputs": "no list"}),
        event({}),
        Event(id="1", t=0, task="infer"),
    ]
    assert table(passed) == ({}, 0)


def test_confidences_of_probabilities_only() -> None:
    asked = tensors(("x", [2, 1], [1, 2]))
    assert confidences([event(asked, outputs([2, 2], [0.25, 0.75, 0.5, 0.5]))]) == [0.75, 0.5]
    assert confidences([event(asked, outputs([2], [0.25, 0.75]))]) == []  # numbers, not probabilities
    assert confidences([event(asked, outputs([2, 2], [3, 4, 5, 6]))]) == []
    assert confidences([event(asked, outputs([1, 3], ["a", "b", "c"])), event(asked, "sha256:1"), event(asked)]) == []
