"""The one router: laws of its table against a reader of one pattern, and the whole server's table in any order."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.app import Application
from drivetrain.reserved import RESERVED
from drivetrain.serving.routes import RoutesHolder
from drivetrain.store.events.spool import Spool
from drivetrain.wire.routing import Ambiguous, Match, Table, segments
from tests.web.stage import Stage

METHODS = ("GET", "POST")
words = st.sampled_from(["a", "b", "c"])


@st.composite
def patterns(draw: st.DrawFn) -> str:
    parts = draw(st.lists(words | st.just("{x}"), max_size=3))
    if draw(st.booleans()):
        parts.insert(draw(st.integers(0, len(parts))), "{p:path}")
    return "/" + "/".join(re.sub(r"x\}", f"x{number}}}", part) for number, part in enumerate(parts))


rows = st.lists(st.tuples(st.sampled_from(METHODS), patterns()), max_size=12)
paths = st.lists(words | st.sampled_from(["a/b", "", "é", "%2f"]), min_size=1, max_size=6)


def shape(pattern: str) -> str:
    return re.sub(r"\{\w+", "{", pattern)


def table(given: Iterable[tuple[str, str]]) -> Table[str]:
    """A table of what has no twin among these; what a path leads to says its pattern."""
    made: Table[str] = Table()
    seen = set()
    for method, pattern in given:
        if (method, shape(pattern)) not in seen:
            seen.add((method, shape(pattern)))
            made.add((method,), pattern, f"{method} {shape(pattern)}")
    return made


def fits(pattern: str, parts: list[str]) -> list[dict[str, str]]:
    """All ways in which one pattern takes a path."""

    def ways(left: list[str], rest: list[str]) -> Iterator[dict[str, str]]:
        if not left:
            if not rest:
                yield {}
            return
        name = left[0].strip("{}").removesuffix(":path")
        if left[0].endswith(":path}"):
            for end in range(1, len(rest) + 1):
                if text := "/".join(rest[:end]):
                    yield from ({name: text, **more} for more in ways(left[1:], rest[end:]))
        elif rest and (left[0] == rest[0] or (left[0].startswith("{") and rest[0])):
            yield from ({**({name: rest[0]} if left[0].startswith("{") else {}), **more} for more in ways(left[1:], rest[1:]))

    return list(ways(pattern[1:].split("/"), parts))


@settings(max_examples=300, deadline=None)
@given(rows, paths, st.randoms(use_true_random=False))
def test_the_order_of_rows_means_nothing(given: list[tuple[str, str]], path: list[str], dice: random.Random) -> None:
    given = list({(method, shape(pattern)): (method, pattern) for method, pattern in given}.values())
    mixed = dice.sample(given, len(given))
    for method in METHODS:
        assert table(given).find(method, path) == table(mixed).find(method, path)


@settings(max_examples=300, deadline=None)
@given(rows, paths)
def test_what_is_found_fits_and_nothing_that_fits_is_missed(given: list[tuple[str, str]], path: list[str]) -> None:
    made = table(given)
    for method in METHODS:
        found = made.find(method, path)
        able = {pattern for _, pattern in given if fits(pattern, path)}
        assert (found is not None) == bool(able)
        if found is None:
            continue
        assert found.pattern in able
        assert set(found.allowed) == {m for m, pattern in given if shape(pattern) == shape(found.pattern)}
        assert (found.target is not None) == (method in found.allowed)
        if found.target is not None:
            assert found.params in fits(found.pattern, path)
        if any("{" not in pattern for pattern in able):
            assert "{" not in found.pattern, "a word is meant before a parameter"


@given(st.lists(st.text(max_size=6), min_size=1, max_size=4))
def test_each_segment_is_decoded_once(parts: list[str]) -> None:
    assert segments(("/" + "/".join(quote(part, safe="") for part in parts)).encode()) == parts


def test_the_most_specific_pattern_is_meant() -> None:
    made = table(("GET", one) for one in ("/m/{n:path}", "/m/{n}", "/m/new", "/m/{n:path}/infer", "/m/{n:path}/versions/{v}/infer"))

    def found(path: str) -> tuple[str | None, dict[str, str]]:
        match = made.find("GET", path.split("/"))
        assert match is not None
        return match.pattern, match.params

    assert found("m/new") == ("/m/new", {})
    assert found("m/old") == ("/m/{n}", {"n": "old"})
    assert found("m/a/b") == ("/m/{n:path}", {"n": "a/b"})
    assert found("m/a/b/infer") == ("/m/{n:path}/infer", {"n": "a/b"})
    assert found("m/a/b/versions/3/infer") == ("/m/{n:path}/versions/{v}/infer", {"n": "a/b", "v": "3"})


def test_two_that_take_the_same_paths_are_named() -> None:
    made: Table[int] = Table()
    made.add(("GET",), "/runs/{id}/{act}", 1)
    made.add(("POST",), "/runs/{run}/{act}", 2)
    with pytest.raises(Ambiguous, match=r"GET /runs/\{id\}/\{act\} and GET /runs/\{run\}/\{what\}"):
        made.add(("GET",), "/runs/{run}/{what}", 3)
    with pytest.raises(ValueError, match="only one parameter"):
        made.add(("GET",), "/{a:path}/x/{b:path}", 4)
    with pytest.raises(ValueError, match="neither a word nor a parameter"):
        made.add(("GET",), "/runs/{id:int}", 5)


def test_a_path_of_thousands_of_segments_costs_little() -> None:
    made = table([("GET", "/{p:path}/a/{x}"), ("GET", "/{x}/b/{p:path}"), ("POST", "/a/{x}/b/{p:path}")])
    assert made.find("GET", ["a"] * 100_000) is not None


class Mixed(Application):
    """The whole server, its dialects and routes handed to the table in an order of chance."""

    dice = random.Random(0)

    def _make_door(self, at: dict[str, Any], *, whole: bool = True) -> Any:
        self.dice.shuffle(self._native._routes)
        return super()._make_door(dict(self.dice.sample(list(at.items()), len(at))), whole=whole)


def probes(door: Any) -> list[tuple[str, str]]:
    """A request for every known path, and some that lead nowhere."""
    known = [pattern for pattern, _ in door_rows(door)]
    filled = [re.sub(r"\{\w+\}", "x", re.sub(r"\{\w+:path\}", "y/z", pattern)) for pattern in known]
    wrong = [f"{path}/nothing/of/the/kind" for path in filled] + [re.sub(r"x|y/z", "a%2Fb", path) for path in filled]
    return [(method, path) for path in (*filled, *wrong) for method in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS")]


def door_rows(door: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    def below(node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        if node.methods:
            yield next(iter(node.methods.values()))[0], node.methods
        for further in (*node.words.values(), node.one, node.many):
            if further is not None:
                yield from below(further)

    return below(door._table._root)


def test_the_whole_server_answers_alike_in_any_order(tmp_path: Path) -> None:
    stage, spool = Stage(tmp_path), Spool(tmp_path / "spool")

    def answers(kind: type[Application]) -> dict[tuple[str, str], Any]:
        door = kind(stage, RoutesHolder(), spool, lambda _: None)._door
        asked = sorted({*probes(door)})
        out: dict[tuple[str, str], Any] = {}
        for method, path in asked:
            found = door._find(method, path.encode())
            match: Match[Any] | None = found.match
            out[method, path] = (
                found.dialect.name if found.dialect is not None else "native",
                found.path,
                found.moved,
                match and (match.pattern, match.params, match.allowed, match.target is not None),
            )
        return out

    plain = answers(Application)
    assert len(plain) > 5000
    assert {owner for owner, *_ in plain.values()} == {"openai", "ollama", "kserve", "invocations", "mlflow", "otlp", "wandb", "native"}
    for seed in range(3):
        Mixed.dice = random.Random(seed)
        assert answers(Mixed) == plain
    spool.close()
    stage.db.close()


def test_no_name_can_hide_a_word_of_an_address(tmp_path: Path) -> None:
    """Where the name of a workspace, repo or deployment may stand, and at the root, each word is reserved."""
    stage, spool = Stage(tmp_path), Spool(tmp_path / "spool")
    door = Application(stage, RoutesHolder(), spool, lambda _: None)._door
    named = re.compile(r"/wandb|/invoke|(/api/v1|/data)?/(deployments|models|repos|workspaces)")
    places = [""] + [place for pattern, _ in door_rows(door) for place, _, _ in [pattern.rpartition("/{")] if named.fullmatch(place)]
    assert {"", "/wandb", "/invoke", "/deployments", "/models", "/api/v1/deployments", "/api/v1/repos"} <= {*places}
    for place in {*places}:
        node = door._table._root
        for part in place.split("/")[1:]:
            node = node.words[part]
        assert {word.lower() for word in node.words} - {""} <= RESERVED, place
    spool.close()
    stage.db.close()
