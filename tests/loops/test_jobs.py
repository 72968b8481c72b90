"""The jobs loop with real processes, on both databases."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from msgspec import Struct

from drivetrain.compute.local import Local
from drivetrain.config import Settings
from drivetrain.identity.model import Context
from drivetrain.identity.service import Identity
from drivetrain.jobs.kinds import Kind, Resources
from drivetrain.jobs.model import CANCELLED, FAILED, QUEUED, RUNNING, SUCCEEDED, Job
from drivetrain.jobs.service import Jobs
from drivetrain.loops.jobs import JobRunner, lease_of
from drivetrain.loops.loop import Loop
from drivetrain.store.home import Home
from drivetrain.store.ids import uuid7
from drivetrain.store.leases import Leases
from drivetrain.store.sql import Database
from tests.chaos.common import alive
from tests.conftest import wait_for
from tests.loops.handlers import Addition, Nothing, Staged

ME = Context(user_id="u1", user_name="ann", workspace_id="w1", workspace="default")
SPECS: dict[str, type[Struct]] = {"add": Addition, "staged": Staged}
NAMES = ("add", "refuse", "crash", "resume", "die", "sleep", "lie_down", "staged")
KINDS = {
    name: Kind(
        handler=f"tests.loops.handlers:{name}",
        spec=SPECS.get(name, Nothing),
        result=Struct,
        resources=Resources(places=2 if name == "lie_down" else 1),
    )
    for name in NAMES
}


class Host:
    """One server's half that runs jobs."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.home = Home.open(folder)
        self.jobs = Jobs(database, {**KINDS, "unknown": KINDS["die"]}, lambda _: None)
        self._local = Local(self.home.logs, self.home.runtime)
        self.runner = JobRunner(
            self.jobs,
            KINDS,
            Identity(database, self.home.secret),
            self.home,
            self._local,
            Leases(database, self.home.server_id),
            Settings(home=folder),
            url="http://127.0.0.1:1",
        )
        self.loop = Loop("jobs", self._step, interval=1.0, first=0.0, end=self.runner.end)
        self.jobs = Jobs(database, {**KINDS, "unknown": KINDS["die"]}, lambda _: self.loop.poke())
        self._looks = 0
        self._thread = threading.Thread(target=self.loop.run)
        self._thread.start()

    def _step(self, loop: Loop) -> float:
        seconds = self.runner.step(loop)
        self._looks += loop.news
        return seconds

    def look(self) -> None:
        """Let the loop look at the queue, and wait until it has. Twice: a look may have been about to end."""
        for _ in range(2):
            before = self._looks
            self.loop.poke()
            wait_for(lambda before=before: self._looks > before, what="a look at the queue")  # type: ignore[misc]

    def stop(self) -> None:
        if self._thread.is_alive():
            self.loop.stop()
            self._thread.join(30)
            self._local.close()

    def ended(self, job: Job) -> Job:
        def look() -> Job | None:
            now = self.jobs.get(ME, job.id)
            return now if now.state not in (QUEUED, RUNNING) else None

        return wait_for(look, seconds=30, what="the end of the job")

    def process(self, job: Job) -> psutil.Process:
        file = self.runner.folder(job.id) / "pid"
        wait_for(lambda: file.exists() and file.read_text(), seconds=30, what="the job's process")
        return psutil.Process(int(file.read_text()))


@pytest.fixture
def new_host(database: Database, tmp_path: Path) -> Iterator[Callable[[str], Host]]:
    hosts: list[Host] = []

    def new(name: str) -> Host:
        hosts.append(Host(database, tmp_path / name))
        return hosts[-1]

    yield new
    for host in hosts:
        host.stop()


def test_a_job_runs_in_a_process_of_its_own(new_host: Callable[[str], Host]) -> None:
    host = new_host("one")
    job = host.ended(host.jobs.submit(ME, "add", {"a": 2, "b": 3}))
    assert job.state == SUCCEEDED
    assert job.result is not None
    assert job.result["sum"] == 5
    assert job.result["pid"] != psutil.Process().pid
    assert "adding" in (host.home.logs / f"job-{job.id}.log").read_text()
    wait_for(lambda: not host.runner.folder(job.id).exists(), seconds=5)


def test_what_a_handler_says_is_the_error(new_host: Callable[[str], Host]) -> None:
    host = new_host("one")
    refused, crashed, unknown = (host.jobs.submit(ME, kind, {}) for kind in ("refuse", "crash", "unknown"))
    assert (host.ended(refused).state, host.ended(refused).error) == (FAILED, "There is no such package.")
    assert host.ended(refused).attempts == 1
    assert "a bug in the handler" in host.ended(crashed).error
    assert host.ended(crashed).attempts == Settings().job_attempts
    assert "knows no jobs of kind 'unknown'" in host.ended(unknown).error


def test_a_killed_job_goes_on_where_it_was(new_host: Callable[[str], Host]) -> None:
    host = new_host("one")
    job = host.ended(host.jobs.submit(ME, "resume", {}))
    assert (job.state, job.attempts, job.result) == (SUCCEEDED, 2, {"steps": ["0", "1", "2", "3", "4", "5"]})


def test_stages_are_done_once_however_often_the_process_is_killed(new_host: Callable[[str], Host], database: Database) -> None:
    host = new_host("one")
    url = database.url.render_as_string(hide_password=False)
    job = host.ended(host.jobs.submit(ME, "staged", {"url": url, "work": uuid7()}))
    assert (job.state, job.attempts) == (SUCCEEDED, 3)
    assert job.result == {
        "words": ["one, in attempt 1", "two, in attempt 2", "three, in attempt 2"],
        "effects": ["one", "two", "three"],
    }


def test_a_job_that_always_dies_fails(new_host: Callable[[str], Host]) -> None:
    host = new_host("one")
    job = host.ended(host.jobs.submit(ME, "die", {}))
    assert (job.state, job.attempts) == (FAILED, Settings().job_attempts)
    assert f"status {-signal.SIGKILL}" in job.error


def test_cancel_ends_the_process(new_host: Callable[[str], Host]) -> None:
    host = new_host("one")
    job = host.jobs.submit(ME, "sleep", {})
    process = host.process(job)
    host.jobs.cancel(ME, job.id)
    assert host.ended(job).state == CANCELLED
    assert not alive(process)


def test_only_so_many_at_once(new_host: Callable[[str], Host]) -> None:
    host = new_host("one")
    jobs = [host.jobs.submit(ME, "sleep", {}) for _ in range(4)]
    for job in jobs[: Settings().jobs]:
        host.process(job)
    assert [host.jobs.get(ME, job.id).state for job in jobs] == [RUNNING, RUNNING, QUEUED, QUEUED]
    host.jobs.cancel(ME, jobs[0].id)
    host.process(jobs[2])
    assert host.jobs.get(ME, jobs[3].id).state == QUEUED


def test_what_needs_many_places_waits_for_them_and_is_not_overtaken(new_host: Callable[[str], Host]) -> None:
    host = new_host("one")
    first, heavy, last = (host.jobs.submit(ME, kind, {}) for kind in ("sleep", "lie_down", "sleep"))
    host.process(first)
    host.look()
    assert [host.jobs.get(ME, job.id).state for job in (first, heavy, last)] == [RUNNING, QUEUED, QUEUED]
    host.jobs.cancel(ME, first.id)
    host.process(heavy)
    host.look()
    assert host.jobs.get(ME, last.id).state == QUEUED
    host.jobs.cancel(ME, heavy.id)
    host.process(last)


def test_a_stopped_server_leaves_its_jobs_to_the_others(new_host: Callable[[str], Host]) -> None:
    one = new_host("one")
    job = one.jobs.submit(ME, "sleep", {})
    process = one.process(job)
    one.stop()
    assert not alive(process)
    assert one.jobs.get(ME, job.id).state == QUEUED
    other = new_host("other")
    other.process(job)
    taken = other.jobs.get(ME, job.id)
    assert (taken.server_id, taken.attempts) == (other.home.server_id, 2)


def test_after_a_crash_the_same_server_goes_on(new_host: Callable[[str], Host], database: Database, tmp_path: Path) -> None:
    """A row that says running, without a process: what a killed server leaves. An outcome that was written in time counts."""
    home = Home.open(tmp_path / "one")
    jobs = Jobs(database, KINDS, lambda _: None)
    again, finished = jobs.submit(ME, "add", {"a": 1, "b": 1}), jobs.submit(ME, "sleep", {})
    assert jobs.claim(home.server_id) is not None
    assert jobs.claim(home.server_id) is not None
    folder = home.path / "jobs" / finished.id
    folder.mkdir(parents=True)
    (folder / "outcome.json").write_text('{"result": {"kept": true}}')
    host = new_host("one")
    assert host.ended(again).attempts == 2
    assert host.ended(finished).result == {"kept": True}
    assert host.ended(finished).attempts == 1


def test_the_jobs_of_a_server_that_is_gone_are_taken_over(new_host: Callable[[str], Host], database: Database) -> None:
    jobs = Jobs(database, KINDS, lambda _: None)
    orphan, held = jobs.submit(ME, "add", {"a": 1, "b": 1}), jobs.submit(ME, "add", {"a": 1, "b": 2})
    assert jobs.claim("dead") is not None
    assert jobs.claim("alive") is not None
    assert Leases(database, "dead").acquire(lease_of("dead"), 0.1)  # it has died a moment later
    assert Leases(database, "alive").acquire(lease_of("alive"), 600)
    host = new_host("other")
    taken = host.ended(orphan)
    assert (taken.state, taken.server_id, taken.attempts) == (SUCCEEDED, host.home.server_id, 2)
    assert jobs.get(ME, held.id).state == RUNNING
