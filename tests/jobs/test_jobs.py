"""The durable queue, on both databases."""

from __future__ import annotations

import importlib
import threading
from typing import get_type_hints

import pytest
import sqlalchemy as sa
from msgspec import Struct, structs

from drivetrain.errors import Forbidden, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.jobs import kinds
from drivetrain.jobs.handle import Handle
from drivetrain.jobs.kinds import Kind
from drivetrain.jobs.model import CANCELLED, FAILED, QUEUED, RUNNING, SUCCEEDED, Job
from drivetrain.jobs.service import Jobs
from drivetrain.jobs.tables import jobs as table
from drivetrain.store.sql import Database


class Anything(Struct):
    """Whatever is given fits, as fields that are not known are left out."""

    source: str = ""
    n: int = 0


KINDS = {kind: Kind(handler="nobody:nothing", spec=Anything, result=Anything) for kind in ("pull", "train")}
ME = Context(user_id="u1", user_name="ann", workspace_id="w1", workspace="default")
OTHER = Context(user_id="u2", user_name="bob", workspace_id="w2", workspace="bobs")


@pytest.fixture
def nudges() -> list[str]:
    return []


@pytest.fixture
def jobs(database: Database, nudges: list[str]) -> Jobs:
    return Jobs(database, KINDS, nudges.append)


def claimed(jobs: Jobs, server: str = "s1") -> Job:
    job = jobs.claim(server)
    assert job is not None
    return job


def test_a_job_goes_from_queued_to_succeeded(jobs: Jobs, nudges: list[str]) -> None:
    submitted = jobs.submit(ME, "pull", {"source": "pypi:x"})
    assert (submitted.state, submitted.spec, submitted.user_name) == (QUEUED, {"source": "pypi:x", "n": 0}, "ann")
    assert nudges == ["jobs"]
    job = claimed(jobs)
    assert (job.id, job.state, job.attempts, job.server_id) == (submitted.id, RUNNING, 1, "s1")
    assert jobs.claim("s1") is None
    told = jobs.progress(ME, job.id, done=3, total=10, message="downloading")
    assert (told.done, told.total, told.message) == (3, 10, "downloading")
    jobs.succeeded(job.id, {"version": 1})
    ended = jobs.get(ME, job.id)
    assert (ended.state, ended.result, ended.error) == (SUCCEEDED, {"version": 1}, "")
    assert ended.ended_ms is not None


def test_the_oldest_is_first(jobs: Jobs) -> None:
    ids = [jobs.submit(ME, "pull", {"n": n}).id for n in range(5)]
    assert [claimed(jobs).id for _ in ids] == ids
    assert [job.id for job in jobs.list(ME)] == ids[::-1]
    assert len(jobs.list(ME, limit=2)) == 2


def test_an_idempotency_key_submits_once(jobs: Jobs) -> None:
    first = jobs.submit(ME, "pull", {}, key="k")
    assert jobs.submit(ME, "pull", {"ignored": True}, key="k").id == first.id
    assert jobs.submit(ME, "train", {}, key="k").id != first.id
    assert jobs.submit(OTHER, "pull", {}, key="k").id != first.id
    assert jobs.submit(ME, "pull", {}).id != jobs.submit(ME, "pull", {}).id


def test_of_many_who_claim_one_gets_it(jobs: Jobs) -> None:
    for n in range(20):
        jobs.submit(ME, "pull", {"n": n})
    taken: list[str] = []

    def take(server: str) -> None:
        while (job := jobs.claim(server)) is not None:
            taken.append(job.id)

    threads = [threading.Thread(target=take, args=(f"s{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # PostgreSQL skips rows that others hold, so that a thread may see an empty queue too early; what is left is taken here.
    take("s9")
    assert sorted(taken) == sorted({job.id for job in jobs.list(ME)})
    assert {job.attempts for job in jobs.list(ME)} == {1}


def test_what_died_is_tried_again_but_not_for_ever(jobs: Jobs) -> None:
    submitted = jobs.submit(ME, "pull", {})
    for attempt in (1, 2, 3):
        job = claimed(jobs)
        assert (job.id, job.attempts) == (submitted.id, attempt)
        jobs.died(job.id, "Its process was killed.", most_attempts=3)
    ended = jobs.get(ME, submitted.id)
    assert (ended.state, ended.error) == (FAILED, "Its process was killed. It was tried 3 times.")
    assert jobs.claim("s1") is None


def test_what_failed_stays_failed(jobs: Jobs) -> None:
    jobs.submit(ME, "pull", {})
    job = claimed(jobs)
    jobs.failed(job.id, "There is no such package.")
    jobs.died(job.id, "late news", most_attempts=3)
    jobs.succeeded(job.id, {})
    ended = jobs.get(ME, job.id)
    assert (ended.state, ended.error, ended.result) == (FAILED, "There is no such package.", None)
    assert jobs.progress(ME, job.id, done=1, total=1, message="late").message == ""


def test_cancel(jobs: Jobs) -> None:
    waiting, running = jobs.submit(ME, "train", {}), jobs.submit(ME, "train", {})
    first = claimed(jobs)
    assert first.id == waiting.id
    assert jobs.cancel(ME, running.id).state == CANCELLED
    assert jobs.claim("s1") is None
    asked = jobs.cancel(ME, first.id)
    assert (asked.state, asked.cancel_requested) == (RUNNING, True)
    assert jobs.to_cancel("s1") == {first.id}
    assert jobs.to_cancel("s2") == set()
    jobs.cancelled(first.id)
    assert jobs.get(ME, first.id).state == CANCELLED
    assert jobs.cancel(ME, first.id).state == CANCELLED


def test_a_job_that_dies_while_it_is_cancelled_is_cancelled(jobs: Jobs) -> None:
    jobs.submit(ME, "train", {})
    job = claimed(jobs)
    jobs.cancel(ME, job.id)
    jobs.died(job.id, "killed", most_attempts=3)
    assert jobs.get(ME, job.id).state == CANCELLED


def test_who_runs_what(jobs: Jobs) -> None:
    for _ in range(3):
        jobs.submit(ME, "pull", {})
    mine, theirs = claimed(jobs, "s1"), claimed(jobs, "s2")
    assert jobs.running("s1") == {mine.id}
    assert jobs.others("s1") == {"s2"}
    jobs.succeeded(theirs.id, {}, by="s1")
    jobs.died(theirs.id, "late news", most_attempts=3, by="s1")
    assert jobs.running("s2") == {theirs.id}, "a server has a say only in what it runs"
    jobs.succeeded(theirs.id, {}, by="s2")
    assert jobs.others("s1") == set()


def test_other_workspaces_do_not_see_it(jobs: Jobs) -> None:
    job = jobs.submit(ME, "pull", {})
    assert jobs.list(OTHER) == []
    for verb in (jobs.get, jobs.cancel):
        with pytest.raises(NotFound):
            verb(OTHER, job.id)
    claimed(jobs)
    with pytest.raises(NotFound):
        jobs.progress(OTHER, job.id, done=1, total=1, message="mine now")
    assert jobs.get(ME, job.id).message == ""


def test_scopes(jobs: Jobs) -> None:
    reader = Context(user_id="u", user_name="r", workspace_id="w1", workspace="default", scopes=frozenset({Scope.read}))
    job = jobs.submit(ME, "pull", {})
    assert jobs.get(reader, job.id).id == job.id
    with pytest.raises(Forbidden):
        jobs.submit(reader, "pull", {})
    with pytest.raises(Forbidden):
        jobs.cancel(reader, job.id)
    assert jobs.get(ME, job.id).state == QUEUED


def test_an_unknown_kind_is_told_with_those_that_there_are(jobs: Jobs) -> None:
    with pytest.raises(Invalid, match=r"There is no kind of job 'nonsense'; there are: pull, train\."):
        jobs.submit(ME, "nonsense", {})


@pytest.mark.parametrize(
    ("kind", "spec", "words"),
    [
        ("pull", {}, "`source`"),
        ("pull", {"source": 7}, "Expected `str`, got `int` - at `$.source`"),
        ("pull", {"source": "pypi:x", "pip": "--index-url"}, "`pip`"),
        ("environment", {"requirements": "numpy"}, "Expected `array`, got `str` - at `$.requirements`"),
        ("environment", {"requirements": [1]}, "at `$.requirements[0]`"),
        ("retrain", {"retraining": None}, "`$.retraining`"),
    ],
)
def test_a_specification_that_does_not_fit_is_refused_at_the_door(
    database: Database, nudges: list[str], kind: str, spec: dict[str, object], words: str
) -> None:
    jobs = Jobs(database, kinds.KINDS, nudges.append)
    with pytest.raises(Invalid) as refused:
        jobs.submit(ME, kind, spec)
    assert words in refused.value.message and refused.value.param == "spec"
    assert f"It takes: {', '.join(f.name for f in structs.fields(kinds.KINDS[kind].spec) if f.required)}" in refused.value.message
    assert jobs.list(ME) == [] and nudges == []


def test_what_is_not_said_in_a_specification_is_not_kept(database: Database) -> None:
    jobs = Jobs(database, kinds.KINDS, lambda _: None)
    assert jobs.submit(ME, "pull", kinds.Pull(source="pypi:x")).spec == {"source": "pypi:x"}


@pytest.mark.parametrize("kind", sorted(kinds.KINDS))
def test_a_handler_takes_and_gives_what_its_row_says(kind: str) -> None:
    row = kinds.KINDS[kind]
    module, _, name = row.handler.partition(":")
    handler = getattr(importlib.import_module(module), name)
    assert get_type_hints(handler) == {"job": Handle[row.spec], "return": row.result}  # type: ignore[name-defined]


@pytest.mark.parametrize(("kind", "key"), [("nonsense", None), ("pull", ""), ("pull", "x" * 201), ("pull", "a\nb")])
def test_what_cannot_be_submitted(jobs: Jobs, database: Database, kind: str, key: str | None) -> None:
    with pytest.raises(Invalid):
        jobs.submit(ME, kind, {}, key=key)
    with database.read() as c:
        assert c.scalar(sa.select(sa.func.count()).select_from(table)) == 0
