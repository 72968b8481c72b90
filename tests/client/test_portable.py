"""Runs out of one server and into another: nothing is lost, doubled or changed, and nothing is read that should not be."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivetrain.client import Client
from drivetrain.errors import DrivetrainError, Invalid
from drivetrain.portable import folder
from drivetrain.portable.bring import Brought, Columns, ConsoleLine, File, LoggedModel, Row, bring
from drivetrain.portable.export import Exported, export
from drivetrain.portable.exported import ExportedRun, find
from drivetrain.store.ids import uuid7
from tests.conftest import Server

pytestmark = pytest.mark.slow
Json = dict[str, Any]


@dataclass
class Made:
    """A run out of nothing, as what can be brought in."""

    record: Json
    series: dict[str, list[tuple[int, int, float]]] = field(default_factory=dict)
    bodies: dict[int, Json] = field(default_factory=dict)
    console: list[ConsoleLine] = field(default_factory=list)
    files: Sequence[File] = ()
    models: Sequence[LoggedModel] = ()
    size: int = 1

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr((self.record, self.series, self.bodies, self.console)).encode("utf-8", "replace")).hexdigest()

    def points(self) -> Iterator[Columns]:
        for key, points in self.series.items():
            yield key, [one[0] for one in points], [one[1] for one in points], [one[2] for one in points]

    def rows(self) -> Iterator[Row]:
        yield from ((step, json.dumps(body)) for step, body in self.bodies.items())

    def lines(self) -> Iterator[ConsoleLine]:
        yield from self.console


def record(run_id: str | None = None, **more: Any) -> Json:
    known = {"id": run_id or uuid7(), "experiment": {"name": "moved", "tags": {"e": "1"}}, "name": "a run", "user": "ann"}
    return {**known, "status": "FINISHED", "start_ms": 1000, "end_ms": 2000, "tags": {"mlflow.runName": "a run"}, **more}


def said(run_id: str, **more: Any) -> Json:
    return {"client_id": run_id, "state": "finished", "sweep": None, "events": 0, "heartbeat_ms": 5, **more}


def exported(client: Client, run_id: str, target: Path, **more: Any) -> Exported:
    (done,) = export(client.connection, [run_id], target, **more)
    return done


def imported(client: Client, target: Path) -> Brought:
    (place,) = find(target)
    run = ExportedRun(place)
    run.verify()
    return bring(client.connection, run)


def tree(root: Path) -> dict[str, bytes]:
    return {one.relative_to(root).as_posix(): one.read_bytes() for one in sorted(root.rglob("*")) if one.is_file()}


@pytest.fixture(scope="module")
def here(server: Server) -> Iterator[Client]:
    with Client(server.url, "") as client:
        yield client


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    other = Server(tmp_path_factory.mktemp("other") / "home").start()
    with Client(other.url, "") as client:
        yield client
    other.stop()


letters = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
words = st.text(letters, min_size=1, max_size=12)
numbers = st.floats(allow_nan=True, allow_infinity=True)
leaves = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | numbers | st.text(letters, max_size=20)
nested = st.dictionaries(words, st.recursive(leaves, lambda below: st.lists(below, max_size=3) | st.dictionaries(words, below, max_size=3)))
steps = st.integers(-(2**63), 2**63 - 1)
# Few steps and times: so that many points share them.
points = st.lists(st.tuples(st.integers(-1, 3) | steps, st.integers(0, 2), numbers), min_size=1, max_size=30)


@given(
    series=st.dictionaries(words | words.map("system/".__add__), points, max_size=4),
    config=nested,
    summary=nested,
    bodies=st.dictionaries(st.integers(0, 2**63 - 1), nested.map(lambda one: {k: v for k, v in one.items() if k != "_step"}), max_size=5),
    texts=st.dictionaries(words, st.text(letters, max_size=40), max_size=4),
    lines=st.lists(st.text(letters, max_size=40), max_size=5),
    state=st.sampled_from([("finished", "FINISHED"), ("failed", "FAILED"), ("crashed", "FAILED"), ("killed", "KILLED")]),
    content=st.binary(max_size=100),
    name=st.text(string.ascii_letters + "é ", min_size=1, max_size=8).filter(str.strip),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_run_comes_back_as_it_went(
    here: Client,
    there: Client,
    tmp_path: Path,
    series: dict[str, list[tuple[int, int, float]]],
    config: Json,
    summary: Json,
    bodies: dict[int, Json],
    texts: dict[str, str],
    lines: list[str],
    state: tuple[str, str],
    content: bytes,
    name: str,
) -> None:
    base = tmp_path / uuid7()
    base.mkdir()
    (base / "file").write_bytes(content)
    run_id, model_id = uuid7(), f"m-{uuid7()}"
    client = said(run_id, state=state[0], config=config, summary=summary, private={"t": {}}, exit_code=3)
    data = {"name": "data", "digest": "d1", "source_type": "local", "source": "/x", "tags": {"mlflow.data.context": "train"}}
    known = record(
        run_id, status=state[1], params=texts, client=client, inputs=[data], models=[{"id": model_id, "role": "output", "step": 2}]
    )
    known["tags"] |= texts
    metric = {"key": "acc", "value": "NaN", "step": 1, "timestamp_ms": 2, "run_id": run_id}
    model = {"id": model_id, "experiment": known["experiment"], "name": "net", "status": "READY", "created_ms": 1, "updated_ms": 2}
    model |= {"source_run_id": run_id, "params": texts, "metrics": [metric]}
    file = File(f"a folder/{name}", base / "file", len(content))
    made = Made(known, series, bodies, [(n, "error", "now", text) for n, text in enumerate(lines)], [file], [LoggedModel(model, [file])])

    assert bring(here.connection, made).run_id == run_id
    first = exported(here, run_id, base / "first")
    assert imported(there, base / "first").state == "imported"
    assert imported(there, base / "first").state == "unchanged"
    second = exported(there, run_id, base / "second")
    assert tree(first.folder) == tree(second.folder)

    got = json.loads((second.folder / "run.json").read_text())
    assert repr(got["client"]["config"]) == repr(json.loads(json.dumps(config))) and got["params"] == dict(sorted(texts.items()))
    frames = [polars.read_parquet(one) for part in ("metrics", "system") for one in sorted((second.folder / part).glob("*.parquet"))]
    found = {(key, step, time, repr(value + 0.0)) for frame in frames for key, step, time, value in frame.iter_rows()}
    assert found == {
        (key, step, time, repr(math.nan if value != value else value + 0.0)) for key, all_ in series.items() for step, time, value in all_
    }
    if bodies:
        read = [json.loads(line) for line in (second.folder / "rows.jsonl").read_text().split("\n") if line]
        assert repr(read) == repr([{"_step": step, **json.loads(json.dumps(bodies[step]))} for step in sorted(bodies)])
    assert (second.folder / "models" / model_id / "files" / "a folder" / name).read_bytes() == content


def test_an_id_that_is_taken_in_another_workspace_becomes_a_tag(here: Client, tmp_path: Path) -> None:
    run_id, model_id = uuid7(), f"m-{uuid7()}"
    model = {"id": model_id, "experiment": {"name": "moved"}, "name": "net", "status": "READY", "created_ms": 1, "updated_ms": 2}
    links = [{"id": model_id, "role": "output"}]
    made = Made(record(run_id, models=links), {"x": [(0, 0, 1.0)]}, models=[LoggedModel(model | {"source_run_id": run_id})])
    bring(here.connection, made)
    exported(here, run_id, tmp_path)
    slug = f"w{uuid7()[-8:]}"
    here.workspaces.create(slug)
    with Client(here.url, "", workspace=slug) as other:
        done = imported(other, tmp_path)
        assert done.state == "imported" and done.run_id != run_id
        assert imported(other, tmp_path) == Brought(run_id, done.run_id, "a run", "unchanged")
        shown = other.runs.get(done.run_id)
        assert shown.tags["drivetrain.imported.run_id"] == run_id and shown.metrics == {"x": 1.0}
        (copy,) = shown.models
        assert copy.id != model_id
        known = other.connection.json("GET", f"/api/v1/runs/{done.run_id}/export")
        assert known["models"] == [{"id": copy.id, "role": "output", "step": 0}]
        assert known["logged_models"][0]["tags"] == {"drivetrain.imported.model_id": model_id}
        assert len(other.runs.list()) == 1
    assert here.runs.get(run_id).tags == {"mlflow.runName": "a run"}


def test_a_run_that_was_never_away_is_left_alone(here: Client, tmp_path: Path) -> None:
    run_id = uuid7()
    here.connection.json("PUT", f"/api/v1/runs/{run_id}", {"experiment": "moved"})
    exported(here, run_id, tmp_path)
    here.connection.json("POST", f"/api/v1/runs/{run_id}/log", {"params": {"later": "1"}})
    assert imported(here, tmp_path).state == "exists" and here.runs.get(run_id).params == {"later": "1"}


def test_deleted_runs_and_children_stay_what_they_are(here: Client, there: Client, tmp_path: Path) -> None:
    parent, child = uuid7(), uuid7()
    bring(here.connection, Made(record(parent, lifecycle="deleted")))
    bring(here.connection, Made(record(child, tags={"mlflow.parentRunId": parent})))
    list(export(here.connection, [parent, child], tmp_path))
    for place in find(tmp_path):
        bring(there.connection, ExportedRun(place))
    assert there.runs.get(parent).lifecycle == "deleted" and there.runs.get(child).tags["mlflow.parentRunId"] == parent


class CutError(Exception):
    pass


def test_an_export_and_an_import_go_on_where_they_were_cut_off(here: Client, there: Client, tmp_path: Path) -> None:
    run_id = uuid7()
    series = {f"m{n}": [(step, step, step / 7) for step in range(5000)] for n in range(10)}
    (tmp_path / "file").write_bytes(b"x" * 5000)
    bring(here.connection, Made(record(run_id), series, {1: {"text": "one"}}, files=[File("f", tmp_path / "file", 5000)]))

    def cut(limit: float, done: int, total: int, message: str) -> None:
        if done > limit * total:
            raise CutError

    with pytest.raises(CutError):
        exported(here, run_id, tmp_path / "out", part=7000, progress=lambda *told: cut(0.5, *told))
    part = tmp_path / "out" / f".{run_id}.part"
    before = {one.name: one.stat().st_ino for one in (part / "metrics").glob("*.parquet")}
    assert before and not (tmp_path / "out" / run_id).exists()
    done = exported(here, run_id, tmp_path / "out", part=7000)
    after = {one.name: one.stat().st_ino for one in (done.folder / "metrics").glob("*.parquet")}
    assert len(after) == 8 and before.items() <= after.items() and not part.exists()
    whole = exported(here, run_id, tmp_path / "whole", part=7000)
    assert tree(done.folder) == tree(whole.folder)
    assert exported(here, run_id, tmp_path / "out", part=7000).state == "unchanged"

    run = ExportedRun(done.folder)
    with pytest.raises(CutError):
        bring(there.connection, run, progress=lambda *told: cut(0.3, *told))
    assert bring(there.connection, run).state == "imported"
    assert tree(exported(there, run_id, tmp_path / "back", part=7000).folder) == tree(done.folder)

    # The run goes on: what is there is written again, and the copy grows.
    here.connection.json("POST", f"/api/v1/runs/{run_id}/log", {"metrics": [{"key": "m0", "value": 1, "step": 9000}]})
    assert exported(here, run_id, tmp_path / "out").state == "exported"
    assert imported(there, tmp_path / "out").state == "imported"
    assert there.runs.get(run_id).metrics["m0"] == 1


def test_what_was_tampered_with_is_refused(here: Client, there: Client, tmp_path: Path) -> None:
    run_id = uuid7()
    (tmp_path / "file").write_text("mine")
    bring(here.connection, Made(record(run_id), {"x": [(0, 0, 1.0)]}, files=[File("notes.txt", tmp_path / "file", 4)]))
    good = exported(here, run_id, tmp_path / "out").folder
    secret = tmp_path / "secret"
    secret.write_text("mine")

    def refused(name: str, change: Any) -> None:
        bad = tmp_path / name
        shutil.copytree(good, bad)
        change(bad)
        with pytest.raises(DrivetrainError):
            imported(there, bad)

    def link(bad: Path) -> None:
        (bad / "artifacts/notes.txt").unlink()
        (bad / "artifacts/notes.txt").symlink_to(secret)

    def link_folder(bad: Path) -> None:
        shutil.move(bad / "artifacts", bad / "elsewhere")
        (bad / "artifacts").symlink_to(bad / "elsewhere")

    def climb(bad: Path) -> None:
        listed = json.loads((bad / "manifest.json").read_text())
        run = json.loads((bad / "run.json").read_text())
        run["artifacts"][0]["file"] = "../secret"
        (bad / "run.json").write_text(json.dumps(run))
        listed["files"]["../secret"] = listed["files"]["artifacts/notes.txt"]
        size, sha256 = folder.digest(bad / "run.json")
        listed["files"]["run.json"] = {"size": size, "sha256": sha256}
        (bad / "manifest.json").write_text(json.dumps(listed))

    refused("changed", lambda bad: (bad / "artifacts/notes.txt").write_text("your"))
    refused("shorter", lambda bad: (bad / "metrics/part-00000.parquet").write_bytes(b"PAR1"))
    refused("missing", lambda bad: (bad / "artifacts/notes.txt").unlink())
    refused("link", link)
    refused("links", link_folder)
    refused("climb", climb)
    refused("future", lambda bad: (bad / "manifest.json").write_text('{"format": "drivetrain run", "version": 2, "files": {}}'))
    assert all(one.id != run_id for one in there.runs.list(limit=1000))
    for path in ("/etc/passwd", "a/../../b", "a//b", "c:/x", "a\\b", "", "."):
        assert not folder.safe(path)
    long = folder.place("artifacts", "x" * 300)
    assert len(long) < 100 and folder.place("artifacts", "a/b.png") == "artifacts/a/b.png"


def test_records_that_cannot_be_are_refused(here: Client) -> None:
    wrong: list[Json] = [
        {"id": "x"},
        {"status": "BEST"},
        {"tags": {"k": "\x00"}},
        {"params": {"": "v"}},
        {"start_ms": 2**63},
        {"client": said("c", state="happy")},
        {"models": [{"id": "m", "role": "friend"}]},
        {"inputs": [{"name": "", "digest": ""}]},
        {"lifecycle": "gone"},
    ]
    for change in wrong:
        with pytest.raises(Invalid):
            bring(here.connection, Made(record(**change)))
    at = f"/api/v1/imports/runs/{bring(here.connection, Made(record())).run_id}/data"
    for data in (
        {"series": [{"key": "x", "steps": [1], "times": [], "values": [1]}]},
        {"series": [{"key": "x", "steps": [1], "times": [1], "values": ["many"]}]},
        {"series": [{"key": "", "steps": [1], "times": [1], "values": [1]}]},
        {"rows": [[-1, "{}"]]},
        {"rows": [[1, "[]"]]},
    ):
        with pytest.raises(Invalid):
            here.connection.json("POST", at, data)
