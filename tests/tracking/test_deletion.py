"""Delete, restore, and gone for good: rows and bytes, on both databases."""

from __future__ import annotations

import importlib
import math
import pkgutil
from pathlib import Path

import pytest
import sqlalchemy as sa

import drivetrain
from drivetrain.errors import Conflict, Forbidden, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.registry.service import Registry
from drivetrain.store.blobs import Blob, blobs_table
from drivetrain.store.ids import now_ms
from drivetrain.store.sql import Database, metadata
from drivetrain.tracking import tables as t
from drivetrain.tracking.deletion import purging
from drivetrain.tracking.deletion import tables as g
from drivetrain.tracking.deletion.dependants import LOOSE, ROOTS, dependants, undeclared
from drivetrain.tracking.deletion.model import DAY_MS, GRACE_MS
from drivetrain.tracking.deletion.purging import Purger
from drivetrain.tracking.deletion.service import Deletion
from drivetrain.tracking.model import Dataset, Input, Line, Metric, ModelLink, Owner, View
from drivetrain.tracking.service import Tracking
from tests.conftest import wait_for

HOUR_MS = 3600 * 1000


class Parts:
    def __init__(self, tracking: Tracking, ctx: Context, folder: Path) -> None:
        self.tracking = tracking
        self.ctx = ctx
        self.db = tracking.runs.db
        self.folder = folder
        self.registry = Registry(tracking.runs.db, tracking.artifacts.blobs)
        self.nudges: list[str] = []
        self.deletion = Deletion(self.db, self.registry.live_blobs, self.nudges.append)
        self.purger = Purger(self.db, tracking.artifacts.blobs, self.named, sleep=lambda _: None)

    def named(self) -> set[str]:
        return self.registry.live_blobs() | self.tracking.artifacts.live_blobs()

    def purge(self) -> None:
        while self.purger.step():
            pass

    def collect(self, *, older_than_ms: int | None = 0, runs: tuple[str, ...] = ()) -> None:
        self.deletion.collect(self.ctx, older_than_ms=older_than_ms, runs=runs)
        self.purge()

    def put(self, owner: str, path: str, data: bytes, kind: Owner = Owner.run) -> Blob:
        blob = self.tracking.artifacts.blobs.put([data])
        self.tracking.artifacts.put(self.ctx, kind, owner, path, blob)
        return blob

    def bytes_of(self, blob: Blob) -> Path:
        return self.folder / "sha256" / blob.sha256[:2] / blob.sha256

    def rows(self) -> dict[str, int]:
        """Rows of each table of the tracking store, less those that say what was deleted."""
        skipped = {"audit", "gc_collections", "experiment_numbers", "retention_policies", "alembic_version", "blobs"}
        with self.db.read() as c:
            there = set(sa.inspect(c).get_table_names()) & set(metadata.tables) - skipped
            counts = {name: int(c.scalar(sa.select(sa.func.count()).select_from(metadata.tables[name])) or 0) for name in sorted(there)}
        return {name: count for name, count in counts.items() if count}


@pytest.fixture
def parts(tracking: Tracking, ctx: Context, tmp_path: Path) -> Parts:
    return Parts(tracking, ctx, tmp_path / "blobs")


def full_run(parts: Parts, experiment: str, name: str) -> str:
    """A run with something in every table that has to do with runs."""
    tracking, ctx = parts.tracking, parts.ctx
    run, _ = tracking.reports.begin(ctx, experiment, name, name=name, config={"lr": 0.1})
    tracking.reports.append(
        ctx, run.id, rows=['{"loss": 1.5, "_step": 0, "picture": {"_type": "image"}}'], lines=[Line(0, "", "", "hello")]
    )
    points = [Metric("acc", math.nan if step == 3 else step / 10, 1000 + step, step) for step in range(50)]
    tracking.metrics.log(ctx, run.id, metrics=points, params={"seed": "7"}, tags={"team": "red"})
    tracking.inputs.log(ctx, run.id, [Input(Dataset("iris", "d1", "local", "{}"), {"mlflow.data.context": "training"})])
    model = tracking.models.create(ctx, experiment, name="net", source_run_id=run.id, params={"k": "v"}, tags={"a": "b"})
    tracking.inputs.log(ctx, run.id, models=[ModelLink(model.id, "output", 1)])
    tracking.metrics.log(ctx, run.id, metrics=[Metric("f1", 0.5, 1, 0, model_id=model.id)])
    parts.put(run.id, "plots/a.txt", f"of {name}".encode())
    return run.id


def test_a_run_and_all_that_hangs_on_it_are_gone_with_their_bytes(parts: Parts) -> None:
    tracking, ctx = parts.tracking, parts.ctx
    experiment = tracking.experiments.create(ctx, "digits").id
    other = tracking.runs.create(ctx, experiment, name="other")
    tracking.metrics.log(ctx, other.id, metrics=[Metric("acc", 1.0, 1, 0)])
    shared = parts.put(other.id, "shared.bin", b"both have it")
    before = parts.rows()
    run_id = full_run(parts, experiment, "doomed")
    own = parts.put(run_id, "own.bin", b"mine alone")
    parts.put(run_id, "copy.bin", b"both have it")
    model = tracking.models.of_run(ctx, run_id)[0].id
    tracking.models.delete(ctx, model)
    tracking.runs.delete(ctx, run_id)
    assert parts.bytes_of(own).exists()

    shown = parts.deletion.preview(ctx, older_than_ms=0)
    assert (shown.runs, shown.models, shown.experiments) == (1, 1, 0)
    assert (shown.files, shown.bytes) == (3, 9 + 10 + 12)
    assert (shown.blobs, shown.freed_bytes) == (2, 19)
    assert [(one.id, one.name, one.of) for one in shown.some_runs] == [(run_id, "doomed", "digits")]
    assert tracking.runs.get(ctx, run_id).lifecycle == "deleted"  # looking changed nothing

    begun = parts.deletion.collect(ctx, older_than_ms=0)
    assert begun.waiting == 2 and begun.ended_ms is None and parts.nudges == ["purging"]
    parts.purge()
    ended = parts.deletion.collection(ctx, begun.id)
    assert (ended.runs, ended.models, ended.files, ended.blobs, ended.bytes, ended.waiting) == (1, 1, 3, 2, 19, 0)
    assert ended.ended_ms is not None and ended.later_blobs == 0 and ended.user == "ann"
    assert parts.deletion.collections(ctx) == [ended]

    with pytest.raises(NotFound):
        tracking.runs.get(ctx, run_id)
    left = parts.rows()
    assert left.pop("datasets") == 1  # the experiment's: other runs may have read it
    assert left == before
    assert not parts.bytes_of(own).exists()
    assert parts.bytes_of(shared).read_bytes() == b"both have it"
    assert b"".join(tracking.artifacts.blobs.read(shared.sha256)) == b"both have it"
    assert [one.id for one in tracking.runs.search(ctx, [experiment], view=View.all).items] == [other.id]


def test_an_experiment_goes_with_its_runs_and_models_and_its_number_is_not_given_again(parts: Parts) -> None:
    tracking, ctx = parts.tracking, parts.ctx
    tracking.experiments.create(ctx, "stays")
    before = parts.rows()
    doomed = tracking.experiments.create(ctx, "doomed", tags={"a": "b"}).id
    run_id = full_run(parts, doomed, "one")
    full_run(parts, doomed, "two")
    tracking.artifacts.put(
        ctx, Owner.model, tracking.models.of_run(ctx, run_id)[0].id, "model.pkl", tracking.artifacts.blobs.put([b"weights"])
    )
    tracking.experiments.delete(ctx, doomed)
    shown = parts.deletion.preview(ctx, older_than_ms=0, experiments=[doomed])
    assert (shown.experiments, shown.runs, shown.models, shown.files) == (1, 2, 2, 3)
    assert [one.name for one in shown.some_experiments] == ["doomed"]
    begun = parts.deletion.collect(ctx, older_than_ms=0, experiments=[doomed])
    with pytest.raises(Conflict, match="for good"):
        tracking.experiments.restore(ctx, doomed)
    with pytest.raises(Conflict, match="for good"):
        tracking.runs.restore(ctx, run_id)
    with pytest.raises(Conflict, match="free in a moment"):
        tracking.experiments.create(ctx, "doomed")
    parts.purge()
    ended = parts.deletion.collection(ctx, begun.id)
    assert (ended.experiments, ended.runs, ended.models, ended.files) == (1, 2, 2, 3)
    assert parts.rows() == before
    assert not [path for path in parts.folder.rglob("*") if path.is_file()]
    again = tracking.experiments.create(ctx, "doomed")
    assert int(again.id) > int(doomed)


def test_what_can_be_restored_still_stays(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking, ctx = parts.tracking, parts.ctx
    run_id = full_run(parts, "0", "precious")
    tracking.runs.delete(ctx, run_id)
    assert parts.deletion.preview(ctx).runs == 0
    parts.collect(older_than_ms=None)
    with pytest.raises(Conflict, match="too short a time ago"):
        parts.deletion.collect(ctx, runs=[run_id])
    assert parts.deletion.due() == 0
    tracking.runs.restore(ctx, run_id)
    assert len(tracking.metrics.history(ctx, run_id, "acc").items) == 50
    with pytest.raises(Conflict, match="delete it first"):
        parts.deletion.collect(ctx, older_than_ms=0, runs=[run_id])
    with pytest.raises(NotFound):
        parts.deletion.collect(ctx, older_than_ms=0, runs=["nothing"])
    with pytest.raises(NotFound):
        parts.deletion.collect(ctx, older_than_ms=0, experiments=["77"])
    with pytest.raises(Invalid):
        parts.deletion.preview(ctx, older_than_ms=-1)
    parts.collect()
    assert tracking.runs.get(ctx, run_id).metrics["acc"].step == 49


def test_the_policy_of_a_workspace(parts: Parts, stranger: Context) -> None:
    tracking, ctx, deletion = parts.tracking, parts.ctx, parts.deletion
    first = deletion.policy(ctx)
    assert (first.grace_ms, first.automatic) == (GRACE_MS, False)
    old, young = full_run(parts, "0", "old"), full_run(parts, "0", "young")
    for run_id in (old, young):
        tracking.runs.delete(ctx, run_id)
    with parts.db.write() as c:
        c.execute(t.runs.update().where(t.runs.c.id == old).values(deleted_ms=now_ms() - 3 * DAY_MS))
    assert deletion.due() == 0
    changed = deletion.set_policy(ctx, grace_ms=2 * DAY_MS)
    assert (changed.grace_ms, changed.automatic, changed.updated_by) == (2 * DAY_MS, False, "ann")
    assert deletion.due() == 0  # nobody has said that it should go by itself
    deletion.set_policy(ctx, automatic=True)
    deletion.set_policy(stranger, grace_ms=0)
    assert deletion.policy(ctx).grace_ms == 2 * DAY_MS
    assert deletion.due() == 1
    parts.purge()
    assert deletion.due() == 0
    assert deletion.collections(ctx)[0].user == "drivetrain"
    with pytest.raises(NotFound):
        tracking.runs.get(ctx, old)
    assert tracking.runs.get(ctx, young).lifecycle == "deleted"
    with pytest.raises(Invalid):
        deletion.set_policy(ctx, grace_ms=-1)


def test_workspaces_and_scopes(parts: Parts, stranger: Context) -> None:
    run_id = full_run(parts, "0", "mine")
    parts.tracking.runs.delete(parts.ctx, run_id)
    assert parts.deletion.preview(stranger, older_than_ms=0).runs == 0
    with pytest.raises(NotFound):
        parts.deletion.collect(stranger, older_than_ms=0, runs=[run_id])
    begun = parts.deletion.collect(stranger, older_than_ms=0)
    parts.purge()
    assert parts.tracking.runs.get(parts.ctx, run_id).lifecycle == "deleted"
    with pytest.raises(NotFound):
        parts.deletion.collection(parts.ctx, begun.id)
    writer = Context("u3", "eve", "w1", "red", scopes=frozenset({Scope.read, Scope.write}))
    assert parts.deletion.preview(writer, older_than_ms=0).runs == 1
    with pytest.raises(Forbidden):
        parts.deletion.collect(writer, older_than_ms=0)
    with pytest.raises(Forbidden):
        parts.deletion.set_policy(writer, automatic=True)


def test_a_run_that_goes_can_be_neither_restored_nor_written_to(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle, with half of its points gone."""
    tracking, ctx = parts.tracking, parts.ctx
    run_id = full_run(parts, "0", "half")
    tracking.runs.delete(ctx, run_id)
    monkeypatch.setattr(purging, "PIECE", {parts.db.kind: 20})
    monkeypatch.setattr(purging, "BUDGET_SECONDS", {parts.db.kind: 0.0})
    begun = parts.deletion.collect(ctx, older_than_ms=0)
    assert parts.purger.step() and parts.purger.step()
    with parts.db.read() as c:
        points = c.scalar(sa.select(sa.func.count()).select_from(t.metrics)) or 0
    assert 0 < points < 50
    with pytest.raises(Conflict, match="for good"):
        tracking.runs.restore(ctx, run_id)
    tracking.runs.delete(ctx, run_id)  # again: it stays as it is
    with pytest.raises(Invalid):
        tracking.metrics.log(ctx, run_id, metrics=[Metric("acc", 1.0, 1, 1000)])
    assert tracking.runs.get(ctx, run_id).lifecycle == "deleted"
    fresh, made = tracking.reports.begin(ctx, "0", "half")
    assert made and fresh.id != run_id  # the client's own id is free
    assert parts.deletion.collect(ctx, older_than_ms=0, runs=[run_id]).waiting == 0
    # Another process goes on where this one was.
    Parts(tracking, ctx, parts.folder).purge()
    assert parts.deletion.collection(ctx, begun.id).runs == 1
    with pytest.raises(NotFound):
        tracking.runs.get(ctx, run_id)


def test_registered_versions_and_models_keep_what_they_have(parts: Parts) -> None:
    tracking, ctx, registry = parts.tracking, parts.ctx, parts.registry
    run_id = full_run(parts, "0", "made it")
    weights = parts.put(run_id, "model/weights.bin", b"weights")
    model = tracking.models.of_run(ctx, run_id)[0]
    kept = parts.put(model.id, "model.pkl", b"pickle", Owner.model)
    registry.ensure_repo(ctx, "net")
    commit = registry.commit(ctx, "net", {"weights.bin": weights.sha256}, message="from the run")
    registry.register(ctx, "net", commit.id, run_id=run_id, model_id=model.id)
    tracking.runs.delete(ctx, run_id)
    assert parts.deletion.preview(ctx, older_than_ms=0).blobs == 1  # its plot
    parts.collect()
    version = registry.get_version(ctx, "net", 1)
    assert (version.run_id, version.commit_id) == (run_id, commit.id)
    assert parts.bytes_of(weights).exists() and parts.bytes_of(kept).exists()
    assert tracking.models.get(ctx, model.id).source_run_id == run_id
    with pytest.raises(NotFound):
        tracking.runs.get(ctx, run_id)


def test_the_models_that_runs_made_go_with_them_if_one_says_so(parts: Parts) -> None:
    tracking, ctx = parts.tracking, parts.ctx
    run_id, other = full_run(parts, "0", "made one"), full_run(parts, "0", "made another")
    model, stays = tracking.models.of_run(ctx, run_id)[0].id, tracking.models.of_run(ctx, other)[0].id
    weights = parts.put(model, "model.pkl", b"weights", Owner.model)
    tracking.runs.delete(ctx, run_id)
    shown = parts.deletion.preview(ctx, older_than_ms=0)
    assert (shown.models, shown.made_models, shown.files) == (0, 1, 1)
    shown = parts.deletion.preview(ctx, older_than_ms=0, made_models=True)
    assert (shown.models, shown.made_models, shown.files) == (1, 0, 2)
    begun = parts.deletion.collect(ctx, older_than_ms=0, made_models=True)
    parts.purge()
    ended = parts.deletion.collection(ctx, begun.id)
    assert (ended.runs, ended.models, ended.files) == (1, 1, 2)
    assert not parts.bytes_of(weights).exists()
    with pytest.raises(NotFound):
        tracking.models.get(ctx, model)
    assert tracking.models.get(ctx, stays).source_run_id == other


def test_an_upload_on_its_way_is_not_eaten(parts: Parts) -> None:
    tracking, ctx, registry = parts.tracking, parts.ctx, parts.registry
    run_id = full_run(parts, "0", "doomed")
    data = {name: name.encode() * 100 for name in ("sent again", "asked for", "being sent", "alone", "long ago")}
    blobs = {name: parts.put(run_id, name, text) for name, text in data.items()}
    tracking.runs.delete(ctx, run_id)
    # Somebody sends one of them again, somebody is told of another that it need not be sent; both will name them later.
    tracking.artifacts.blobs.put([data["sent again"]])
    assert tracking.artifacts.blobs.known([blobs["asked for"].sha256, blobs["long ago"].sha256])
    with parts.db.write() as c:
        seen = now_ms() - 25 * HOUR_MS
        c.execute(blobs_table.update().where(blobs_table.c.sha256 == blobs["long ago"].sha256).values(seen_ms=seen))
    upload = tracking.artifacts.blobs.begin()
    upload.write(data["being sent"])
    parts.collect()
    assert {name: parts.bytes_of(blob).exists() for name, blob in blobs.items()} == {
        "sent again": True,
        "asked for": True,
        "being sent": False,
        "alone": False,
        "long ago": False,
    }
    done = parts.deletion.collections(ctx)[0]
    assert (done.later_blobs, done.later_bytes) == (2, 1000 + 900)
    # All three are whole when they are named at last.
    finished = upload.finish()
    registry.ensure_repo(ctx, "net")
    named = [blobs["sent again"].sha256, blobs["asked for"].sha256, finished.sha256]
    registry.commit(ctx, "net", {f"f{n}": digest for n, digest in enumerate(named)}, message="at last")
    assert [tracking.artifacts.blobs.read_bytes(digest) for digest in named] == [data["sent again"], data["asked for"], data["being sent"]]


def test_what_was_sent_after_the_order_is_not_what_was_ordered(parts: Parts) -> None:
    """The purger was killed after it had deleted a blob and before it had noted that; then somebody sends the same bytes."""
    tracking, ctx = parts.tracking, parts.ctx
    run_id = tracking.runs.create(ctx, "0").id
    blob = parts.put(run_id, "a", b"same")
    tracking.runs.delete(ctx, run_id)
    begun = parts.deletion.collect(ctx, older_than_ms=0)
    parts.purger.step()
    assert tracking.artifacts.blobs.discard([blob.sha256], sent_until_ms=begun.created_ms, older_than_s=3600)
    wait_for(lambda: now_ms() > begun.created_ms, what="a later millisecond")
    tracking.artifacts.blobs.put([b"same"])
    parts.purge()
    assert parts.bytes_of(blob).exists()
    assert parts.deletion.collection(ctx, begun.id).later_blobs == 1


def test_what_an_upload_brought_twice_at_once_is_not_taken_for_one(parts: Parts) -> None:
    tracking = parts.tracking
    run = tracking.runs.create(parts.ctx, "0")
    first, second = tracking.artifacts.blobs.begin(), tracking.artifacts.blobs.begin()
    first.write(b"same")
    second.write(b"same")
    first.finish()
    blob = second.finish()
    tracking.artifacts.put(parts.ctx, Owner.run, run.id, "a", blob)
    tracking.runs.delete(parts.ctx, run.id)
    parts.collect()
    assert parts.bytes_of(blob).exists()
    assert parts.deletion.collections(parts.ctx)[0].later_blobs == 1


@pytest.mark.slow
def test_many_runs_are_gone_in_few_transactions(parts: Parts) -> None:
    tracking, ctx = parts.tracking, parts.ctx
    ids = [tracking.runs.create(ctx, "0").id for _ in range(230)]
    for run_id in ids:
        tracking.runs.delete(ctx, run_id)
    parts.deletion.collect(ctx, older_than_ms=0)
    steps = 1
    while parts.purger.step():
        steps += 1
    assert steps < 30
    assert "runs" not in parts.rows()


def every_table() -> None:
    for module in pkgutil.walk_packages(drivetrain.__path__, "drivetrain."):
        if module.name.rpartition(".")[2].startswith("tables"):
            importlib.import_module(module.name)
    dependants.cache_clear()  # a test before this one may have asked when not all were imported


def test_no_table_is_forgotten() -> None:
    """Whoever adds a table that refers to a run, a logged model or an experiment says what becomes of its rows."""
    every_table()
    assert undeclared() == [], "declare these in tracking/dependants.py, or give them a foreign key"
    covered = {one.table for kind in ROOTS for one in dependants(kind)} | {table for table, _ in ROOTS.values()}
    for table in metadata.tables.values():
        for key in table.foreign_keys:
            if key.column.table.name in covered:
                assert table.name in covered, f"{table.name} refers to {key.column.table.name}, and nobody deletes its rows"
    for place, _, fate in LOOSE:
        table_name, _, column = place.partition(".")
        assert table_name not in metadata.tables or column in metadata.tables[table_name].c, f"{place} is no more"
        assert fate in ("delete", "keep")


def test_every_table_that_names_blobs_is_asked() -> None:
    """A blob that is named in a table that nobody looks at would be deleted."""
    every_table()
    asked = {"artifacts", "commit_files", "draft_manifests", "multipart_parts", "draft_blobs"}
    not_blobs = {"blobs", "gc_blobs", "uploads", "keys"}
    texts = [column for table in metadata.tables.values() for column in table.columns if isinstance(column.type, sa.String)]
    digests = {column.table.name for column in texts if "sha256" in column.name or "blob" in column.name}
    assert digests - not_blobs == asked, "let live_blobs() of the table's room name its blobs, and add it here"


def test_everything_that_is_to_go_is_written_down_first(parts: Parts, database: Database) -> None:
    run_id = full_run(parts, "0", "doomed")
    parts.tracking.runs.delete(parts.ctx, run_id)
    parts.deletion.collect(parts.ctx, older_than_ms=0)
    with database.read() as c:
        orders = [tuple(row) for row in c.execute(sa.select(g.purges.c.kind, g.purges.c.id))]
        assert orders == [("run", run_id)]
        assert c.scalar(sa.select(t.runs.c.lifecycle)) == "purging"
    parts.purge()
    with database.read() as c:
        assert c.scalar(sa.select(sa.func.count()).select_from(g.purges)) == 0
