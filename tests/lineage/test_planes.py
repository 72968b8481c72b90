"""Each plane tells what happens in the transaction in which it happens, on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivetrain.identity.model import Context
from drivetrain.lineage.model import Thing
from drivetrain.lineage.service import Lineage
from drivetrain.registry.service import Registry
from drivetrain.store.blobs import Blobs
from drivetrain.store.sql import Database
from drivetrain.tracking.deletion.purging import Purger
from drivetrain.tracking.deletion.service import Deletion
from drivetrain.tracking.model import Dataset, Input, ModelLink
from drivetrain.tracking.service import Tracking
from drivetrain.tracking.transfer.records import ExperimentRecord, LinkRecord, ModelRecord, RunRecord

ADA = Context("u1", "ada", "w1", "vision")
BOB = Context("u2", "bob", "w2", "speech")


class Parts:
    def __init__(self, database: Database, folder: Path) -> None:
        self.db = database
        self.blobs = Blobs(database, str(folder / "blobs"), min_free=0, scratch=folder / "scratch")
        self.registry = Registry(database, self.blobs)
        self.tracking = Tracking.of(database, self.blobs)
        self.lineage = Lineage(database)

    def told(self, ctx: Context, kind: str, id_: str) -> set[tuple[str, str, str, str]]:
        """(role, kind, id, way) of all that a thing did, and that happened to it."""
        mine = Thing(kind, id_)  # type: ignore[arg-type]
        return {
            (one.role, other.kind, other.id, "did" if one.subject == mine else "was")
            for one in self.lineage.of(ctx, mine)
            for other in (one.object if one.subject == mine else one.subject,)
        }


@pytest.fixture
def parts(database: Database, tmp_path: Path) -> Parts:
    return Parts(database, tmp_path)


def test_runs_models_and_versions(parts: Parts) -> None:
    tracking, registry = parts.tracking, parts.registry
    run = tracking.runs.create(ADA, name="forest")
    before = tracking.models.create(ADA, run.experiment_id, name="before")
    made = tracking.models.create(ADA, run.experiment_id, name="after", source_run_id=run.id)
    for _ in range(2):  # the same again changes nothing
        links = [ModelLink(before.id, "input", 0), ModelLink(made.id, "output", 3)]
        tracking.inputs.log(ADA, run.id, [Input(Dataset(name="iris", digest="d"))], links)
    (used,) = [str(one.dataset.id) for one in tracking.runs.get(ADA, run.id).inputs]
    registry.create_repo(ADA, "net")
    commit = registry.commit(ADA, "net", {"m": parts.blobs.put([b"m"]).sha256}, message="m")
    first = registry.register(ADA, "net", commit.id, run_id=run.id, model_id=made.id)
    second = registry.register(ADA, "net", commit.id, run_id=run.id, derived_from=first.id)
    assert parts.told(ADA, "run", run.id) == {
        ("used", "dataset", used, "did"),
        ("used", "model", before.id, "did"),
        ("made", "model", made.id, "did"),
        ("made", "version", first.id, "did"),
        ("made", "version", second.id, "did"),
    }
    assert parts.told(ADA, "version", first.id) == {
        ("made", "run", run.id, "was"),
        ("derived", "model", made.id, "did"),
        ("derived", "version", second.id, "was"),
    }
    assert parts.lineage.makers(ADA, [first.id, second.id, "0" * 32]) == dict.fromkeys([first.id, second.id], run.id)
    assert parts.lineage.makers(BOB, [first.id]) == {} and parts.told(BOB, "run", run.id) == set()

    # Deleted for good, the run is still what made the versions; what it used is forgotten with it.
    tracking.runs.delete(ADA, run.id)
    Deletion(parts.db, registry.live_blobs, lambda _: None).collect(ADA, older_than_ms=0)
    purger = Purger(parts.db, parts.blobs, lambda: registry.live_blobs() | tracking.artifacts.live_blobs(), sleep=lambda _: None)
    while purger.step():
        pass
    assert {one[0] for one in parts.told(ADA, "run", run.id)} == {"made"}
    assert parts.lineage.maker(ADA, first.id) == run.id and parts.told(ADA, "dataset", used) == set()
    registry.delete_version(ADA, "net", 1)
    assert parts.told(ADA, "version", first.id) == set()
    registry.delete_repo(ADA, "net")
    assert parts.told(ADA, "version", second.id) == set()


def test_what_is_imported_is_told_by_its_ids_here(parts: Parts) -> None:
    taken = parts.tracking.models.create(BOB, "0", name="taken")
    experiment = ExperimentRecord("e")
    run = RunRecord("a" * 32, experiment, "r", "ada", "FINISHED", 1, models=[LinkRecord(taken.id, "output", 0)])
    made, _ = parts.tracking.imports.begin_run(ADA, run, "0" * 64)
    model = parts.tracking.imports.model(ADA, ModelRecord(taken.id, experiment, "m", "READY", 1, 1, source_run_id="a" * 32))
    assert model != taken.id
    assert parts.told(ADA, "run", made) == {("made", "model", model, "did")}
    assert parts.told(BOB, "model", taken.id) == set()
