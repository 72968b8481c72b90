"""From an answer back to its data, with real parts, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from drivetrain.errors import NotFound
from drivetrain.feedback.service import Feedback
from drivetrain.identity.model import Context
from drivetrain.lineage.service import Lineage
from drivetrain.registry.service import Registry
from drivetrain.serving.lineage import Lineages
from drivetrain.store.blobs import Blobs
from drivetrain.store.events.lookup import Events
from drivetrain.store.events.model import Event
from drivetrain.store.events.spool import Spool
from drivetrain.store.home import Home
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database
from drivetrain.tracking.deletion.purging import Purger
from drivetrain.tracking.deletion.service import Deletion
from drivetrain.tracking.model import Dataset, Input
from drivetrain.tracking.service import Tracking

ADA = Context("u1", "ada", "w1", "vision")
BOB = Context("u2", "bob", "w2", "speech")


@dataclass
class Parts:
    registry: Registry
    tracking: Tracking
    lineages: Lineages
    spool: Spool

    def model(self) -> tuple[str, str]:
        """A registered version that a run made: (run id, commit id)."""
        run = self.tracking.runs.create(ADA, name="forest", tags={"mlflow.source.git.commit": "abc123"})
        self.tracking.metrics.log(ADA, run.id, params={"seed": "7", "depth": "3"})
        data = Dataset(name="iris", digest="d1", source_type="local", source="iris.csv")
        self.tracking.inputs.log(ADA, run.id, [Input(data, {"mlflow.data.context": "training"})])
        self.registry.create_repo(ADA, "iris")
        blob = self.registry.blobs.put([b"weights"])
        commit = self.registry.commit(ADA, "iris", {"model.bin": blob.sha256}, message="m")
        self.registry.register(ADA, "iris", commit.id, run_id=run.id)
        return run.id, commit.id

    def answer(self, **fields: object) -> str:
        values: dict[str, object] = {"id": uuid7(), "t": now_ms() * 1_000_000, "workspace": "w1", "deployment_name": "iris", "variant": "v"}
        event = Event(**(values | fields))  # type: ignore[arg-type]
        self.spool.append(event)
        return event.id


@pytest.fixture
def parts(database: Database, home: Home) -> Iterator[Parts]:
    blobs = Blobs(database, str(home.blobs), min_free=0, scratch=home.cache / "scratch")
    registry, tracking = Registry(database, blobs), Tracking.of(database, blobs)
    spool = Spool(home.spool / uuid7(), fsync_s=0.1)
    yield Parts(
        registry, tracking, Lineages(Events(database, blobs, home), registry, tracking, Feedback(database), Lineage(database)), spool
    )
    spool.close()


def test_everything_behind_an_answer(parts: Parts) -> None:
    run_id, commit_id = parts.model()
    request = parts.answer(repo="vision/iris", version=1, commit=commit_id)
    parts.lineages.say(ADA, request, "label", 2, kind="label", source="", comment="")
    found = parts.lineages.of(ADA, request)
    assert found.version is not None
    assert found.run is not None
    assert found.commit is not None
    assert found.experiment is not None
    assert (found.version.number, found.commit.id, found.run.id) == (1, commit_id, run_id)
    assert (found.git_commit, found.seed, found.experiment.name) == ("abc123", "7", "Default")
    assert [(one.dataset.name, one.dataset.digest, one.context) for one in found.datasets] == [("iris", "d1", "training")]
    assert set(found.files) == {"model.bin"}
    assert [said.value for said in found.feedback] == [2]
    assert found.notes == []


def test_what_was_deleted_is_told(parts: Parts) -> None:
    _, commit_id = parts.model()
    request = parts.answer(repo="vision/iris", version=1, commit=commit_id)
    parts.registry.delete_repo(ADA, "iris")
    found = parts.lineages.of(ADA, request)
    assert (found.version, found.commit, found.run, found.files) == (None, None, None, {})
    assert any("deleted" in note for note in found.notes)


def test_a_run_that_was_deleted_for_good_is_told_and_its_version_stays(parts: Parts) -> None:
    run_id, commit_id = parts.model()
    request = parts.answer(repo="vision/iris", version=1, commit=commit_id)
    parts.tracking.runs.delete(ADA, run_id)
    assert parts.lineages.of(ADA, request).run is not None  # it can be restored still
    db, blobs = parts.tracking.runs.db, parts.tracking.artifacts.blobs
    Deletion(db, parts.registry.live_blobs, lambda _: None).collect(ADA, older_than_ms=0)
    purger = Purger(db, blobs, lambda: parts.registry.live_blobs() | parts.tracking.artifacts.live_blobs(), sleep=lambda _: None)
    while purger.step():
        pass
    found = parts.lineages.of(ADA, request)
    assert found.version is not None and found.version.run_id == run_id
    assert (found.run, found.experiment, found.datasets, found.seed) == (None, None, (), None)
    assert [*found.notes] == [f"The run {run_id} has been deleted."]
    assert blobs.read_bytes(found.files["model.bin"].sha256) == b"weights"


def test_another_model_under_the_same_name_is_not_taken_for_it(parts: Parts) -> None:
    _, commit_id = parts.model()
    request = parts.answer(repo="vision/iris", version=1, commit=commit_id)
    parts.registry.delete_repo(ADA, "iris")
    parts.model()
    assert parts.lineages.of(ADA, request).version is None


def test_a_model_that_no_run_made_says_where_it_is_from(parts: Parts) -> None:
    parts.registry.create_repo(ADA, "gguf")
    commit = parts.registry.commit(ADA, "gguf", {"m.gguf": parts.registry.blobs.put([b"x"]).sha256}, message="m")
    parts.registry.register(ADA, "gguf", commit.id, source="pypi:m==1")
    request = parts.answer(repo="vision/gguf", version=1, commit=commit.id)
    found = parts.lineages.of(ADA, request)
    assert found.run is None
    assert "pypi:m==1" in " ".join(found.notes)


def test_a_refused_request_has_no_version(parts: Parts) -> None:
    request = parts.answer(error="overloaded", status=429)
    found = parts.lineages.of(ADA, request)
    assert found.version is None
    assert found.notes


def test_another_workspace_has_never_seen_it(parts: Parts) -> None:
    request = parts.answer()
    with pytest.raises(NotFound):
        parts.lineages.of(BOB, request)
    with pytest.raises(NotFound):
        parts.lineages.say(BOB, request, "thumbs", True, kind="feedback", source="", comment="")


def test_feedback_for_an_answer_that_was_never_given_is_refused(parts: Parts) -> None:
    with pytest.raises(NotFound, match="x-request-id"):
        parts.lineages.say(ADA, "0190000000007000800000000000000a", "thumbs", True, kind="feedback", source="", comment="")


def test_what_is_said_is_joined_with_the_answer_at_once(parts: Parts) -> None:
    of = {"deployment": "d1", "variant": "v1", "unit": "ann", "rollout": "r1", "phase": 2, "output": '{"outputs":[{"data":[3]}]}'}
    request = parts.answer(**of)
    for value, correct in ((3, True), ("3", True), (4, False)):
        said = parts.lineages.say(ADA, request, "label", value, kind="label", source="", comment="")
        (stored,) = parts.lineages.feedback.of(ADA, request)
        for one in (said, stored):
            assert one.about is not None
            assert (one.about.deployment, one.about.variant, one.about.unit) == ("d1", "v1", "ann")
            assert (one.about.rollout, one.about.phase, one.correct) == ("r1", 2, correct)
            assert one.about.event_ms <= now_ms()


def test_what_is_said_of_an_answer_that_another_one_gave_is_said_of_whom_it_was_for(parts: Parts) -> None:
    request = parts.answer(deployment="d1", variant="stable", assigned="canary", rollout="r1", phase=1)
    said = parts.lineages.say(ADA, request, "thumbs", False, kind="feedback", source="", comment="")
    assert said.about is not None and said.about.variant == "canary"


def test_what_is_said_before_its_event_can_be_seen_is_joined_later(parts: Parts) -> None:
    request = uuid7()  # another server's, which has it in a spool of its own
    said = parts.lineages.say(ADA, request, "label", 3, kind="label", source="", comment="")
    assert said.about is None and said.correct is None
    feedback = parts.lineages.feedback
    assert parts.lineages.join(since_ms=0) == 0
    assert not feedback.said("d1", "label")
    parts.answer(id=request, deployment="d1", variant="v1", rollout="r1", phase=1, output='{"outputs":[{"data":[3]}]}')
    assert parts.lineages.join(since_ms=0) == 1
    (stored,) = feedback.of(ADA, request)
    assert stored.about is not None and (stored.about.rollout, stored.correct) == ("r1", True)
    assert feedback.said("d1", "label")
    assert parts.lineages.join(since_ms=0) == 0
