"""`kill -9` in the middle of a retraining: it goes on where it was, and no stage is done twice."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from drivetrain.answers.retraining import WatchedRetraining
from drivetrain.client import Client
from drivetrain.store.sql import Database
from tests.chaos.common import alive, command, web_processes
from tests.conftest import Server, wait_for
from tests.rollout import drifted

pytestmark = pytest.mark.slow

PLAN = {
    "name": "slow",
    "steps": [{"share": 1000, "min_units": 1_000_000, "min_seconds": 0}, {"share": 10000}],
    "guardrails": [{"measure": "errors"}],
}
STAGES = ["training_set", "run", "training", "version", "gate", "rollout"]


class Chaos:
    """One retraining on a server, and those who are killed while it runs."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.trained = folder / "trained"
        """One line for each time that the script came to its end."""
        self.id = ""

    def begin(self, model: Path, folder: Path) -> None:
        with self.client() as client:
            drifted.deploy(client, model)
            drifted.ask(self.server.url, 250)
            # It stays a while after it has registered its model, so that it can be killed there.
            after = f"import time; time.sleep(3); open({str(self.trained)!r}, 'a').write('once\\n')"
            script = drifted.script(folder, pause="import time; time.sleep(1)", after=after)
            client.retrainings.set_policy("digits", script, plan=PLAN, gate={"min_rows": 20})
            self.id = client.retrainings.start("digits").id

    def client(self) -> Client:
        return Client(self.server.url, self.server.token, patience=30.0)

    def now(self) -> WatchedRetraining:
        with self.client() as client:
            return client.retrainings.get(self.id)

    def log(self) -> str:
        """What all attempts have printed."""
        return "".join(file.read_text() for file in (self.server.home / "logs").glob("job-*.log"))

    def jobs(self) -> list[psutil.Process]:
        return [p for p in self.server.family() if alive(p) and "drivetrain.compute.worker" in command(p)]

    def kill_job(self) -> None:
        for process in self.jobs():
            process.kill()

    def kill_web(self) -> None:
        for process in web_processes(self.server):
            process.kill()

    def kill_server(self) -> None:
        before = self.server.family()
        self.server.kill(signal.SIGKILL)
        wait_for(lambda: not [p for p in before if alive(p)], what="the children of a killed supervisor are gone")
        self.server.start()

    def ended(self) -> WatchedRetraining | None:
        one = self.now()
        return one if one.ended_ms is not None else None

    def check(self) -> None:
        """Everything is there once."""
        one = wait_for(self.ended, seconds=400, what="the retraining ends")
        assert one.state == "rolled_out", f"{one.why}\n{self.log()[-6000:]}"
        assert [stage.stage for stage in one.stages] == STAGES
        with self.client() as client:
            runs = client.runs.list(filter=f"tags.`drivetrain.retraining` = '{self.id}'")
            assert [run.id for run in runs] == [one.run_id]
            mine = [version for version in client.models.versions("digits") if version.run_id == one.run_id]
            assert [version.number for version in mine] == [one.version]
            rollouts = client.rollouts.list(deployment="digits")
            assert [rollout.id for rollout in rollouts] == [one.rollout_id]
            assert [job.kind for job in client.jobs.list() if job.kind == "retrain"] == ["retrain"]
            assert len(client.runs.get(one.run_id or "").inputs) == 1
        db = Database(f"sqlite:///{self.server.home / 'drivetrain.db'}")
        try:
            with db.read() as c:
                assert c.scalar(sa.text("SELECT count(*) FROM retrainings")) == 1
                assert c.scalar(sa.text("SELECT count(*) FROM variants")) == 2
        finally:
            db.close()
        scripts = [p for p in psutil.process_iter() if "retraining.attempt.script" in command(p) and str(self.server.home) in command(p)]
        assert not scripts


def test_killed_at_each_stage_no_stage_is_done_twice(new_server: Callable[..., Server], digits_model: Path, tmp_path: Path) -> None:
    chaos = Chaos(new_server(environ={"DRIVETRAIN_JOB_ATTEMPTS": "20"}), tmp_path)
    chaos.begin(digits_model, tmp_path)
    wait_for(lambda: "[training_set]" in chaos.log(), seconds=120, what="the training set is made")
    chaos.kill_job()
    wait_for(lambda: "rows " in chaos.log(), seconds=120, what="the script runs")
    chaos.kill_server()
    wait_for(lambda: chaos.log().count("rows ") > 1, seconds=120, what="the script runs again")
    chaos.kill_web()
    # Its version is registered; the script has not come to its end, and need not.
    wait_for(lambda: "Created version" in chaos.log(), seconds=200, what="the script registers its model")
    chaos.kill_job()
    wait_for(lambda: "[version]" in chaos.log(), seconds=120, what="the version is found")
    chaos.kill_server()
    chaos.check()
    assert not chaos.trained.exists(), "the script was run again after it had registered its model"


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments_no_stage_is_done_twice(
    new_server: Callable[..., Server], digits_model: Path, tmp_path: Path, seed: int
) -> None:
    chaos = Chaos(new_server(environ={"DRIVETRAIN_JOB_ATTEMPTS": "20"}), tmp_path)
    chaos.begin(digits_model, tmp_path)
    rng = random.Random(seed)
    for _ in range(5):
        time.sleep(rng.expovariate(1 / 6))  # the moment is the experiment: nothing is waited for
        if chaos.ended():
            break
        rng.choice([chaos.kill_job, chaos.kill_server, chaos.kill_web])()
    chaos.check()
