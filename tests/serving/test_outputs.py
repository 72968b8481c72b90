"""What is seen of an answer when it is given."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from drivetrain.profiles.model import Column, Profile
from drivetrain.profiles.sketch import Sketch
from drivetrain.rollout.counting.outputs import FEWEST, Known, learned
from drivetrain.serving.gateway.outputs import MOST, Seen, hidden, look


def tensor(data: Any, *, datatype: str = "FP64", shape: list[int] | None = None) -> bytes:
    return msgspec.json.encode({"outputs": [{"name": "y", "datatype": datatype, "shape": shape or [len(data)], "data": data}]})


@pytest.mark.parametrize(
    ("output", "seen"),
    [
        (tensor([1.5]), Seen("", "FP64[]", 1.5)),
        (tensor([3], datatype="INT64"), Seen("", "INT64[]", 3.0)),
        (tensor(["cat"], datatype="BYTES"), Seen("", "BYTES[]", "cat")),
        (tensor([True], datatype="BOOL"), Seen("", "BOOL[]", 1.0)),
        (tensor([0.1, 0.7, 0.2], shape=[1, 3]), Seen("", "FP64[3]", "greatest: 1")),
        (tensor([[0.1, 0.7], [0.9, 0.1]], shape=[2, 2]), Seen("", "FP64[2]", "greatest: 1")),
        (tensor([None]), Seen("null", "FP64[]")),
        (tensor([1.0, None]), Seen("null", "FP64[]")),
        (tensor(["NaN"]), Seen("nan", "FP64[]")),
        (tensor(["-Infinity"], datatype="FP32"), Seen("infinite", "FP32[]")),
        (tensor(["cat"]), Seen("type", "FP64[]")),
        (tensor([""], datatype="BYTES"), Seen("empty", "BYTES[]")),
        (tensor([], shape=[0]), Seen("empty", "FP64[]")),
        (tensor([1.0], shape=[2]), Seen("shape", "FP64[]")),
        (b'{"outputs":[]}', Seen("empty", "nothing")),
        (b"no json", Seen("shape", "unreadable")),
        (b"[" * 50_000, Seen("shape", "unreadable")),
    ],
)
def test_tensors(output: bytes, seen: Seen) -> None:
    assert look("infer", output) == seen


def test_sentences_in_tensors_are_not_kept_and_words_only_where_texts_are() -> None:
    def said(text: str, *, plain: bool) -> object:
        return look("infer", tensor([text], datatype="BYTES"), plain=plain).said

    assert said("not spam", plain=True) == "not spam"
    assert said("not spam", plain=False) == hidden("not spam") != hidden("spam")
    for text in ("call me at home", "x" * 33, "two\nlines", "\x1b[31m"):
        assert said(text, plain=True) == said(text, plain=False) == float(len(text))


def test_texts_and_what_is_not_looked_at() -> None:
    assert look("chat", "Hello") == Seen("", "text", 5.0)
    assert look("completion", " \n") == Seen("empty", "text", 2.0)
    assert look("embeddings", b"[1]") == look("chat", None) == Seen()
    assert look("infer", b" " * (MOST + 1)) == Seen("", "large", float(MOST + 1))


def test_what_stable_answers_is_learned_and_what_is_strange_is_seen() -> None:
    numbers = learned([Seen("", "FP64[]", float(i)) for i in range(100)], None)
    assert numbers.forms == ("FP64[]",)
    assert [numbers.way(float(i)) for i in (-5, 5, 55, 500)] == [0, 0, 5, 9]
    assert numbers.strange("INT64[]", 3.0) and not numbers.strange("FP64[]", 1e9)
    words = learned([Seen("", "BYTES[]", "ab"[i % 2]) for i in range(FEWEST)], None)
    assert [words.way(one) for one in ("a", "b", "never")] == [0, 1, 2]
    few = learned([Seen("", "FP64[]", 1.0)] * (FEWEST - 1), None)
    assert few == Known()


def test_the_training_data_say_what_can_be_an_answer() -> None:
    sketch = Sketch(count=10, low=0.0, high=9.0)
    regression = Profile(rows=10, columns=[Column(name="y", kind="numeric", rows=10, sketch=sketch)], target="y")
    known = learned([], regression)
    assert known.strange("FP64[]", 9.1) and known.strange("FP64[]", -0.1) and not known.strange("FP64[]", 9.0)
    classes = Profile(rows=10, columns=[Column(name="y", kind="categorical", rows=10, counts={"0": 5, "1": 5})], target="y")
    known = learned([], classes)
    assert known.strange("INT64[]", 2.0) and not known.strange("INT64[]", 1.0)
    assert known.strange("BYTES[]", hidden("2")) and not known.strange("BYTES[]", hidden("1"))
    scores = [Seen("", "FP64[2]", "greatest: 1")] * FEWEST
    known = learned(scores, classes)
    assert not known.classes and not known.strange("FP64[2]", "greatest: 1")
