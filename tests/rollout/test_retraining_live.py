"""Retraining on a real server: drifted requests with labels, an unmodified mlflow script, a gate, a rollout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from drivetrain.answers.retraining import LiveRetraining, WatchedRetraining
from drivetrain.answers.rollouts import LiveRollout
from drivetrain.client import Client
from tests.chaos.common import command
from tests.conftest import Server, wait_for
from tests.rollout import drifted

pytestmark = pytest.mark.slow

PLAN = {
    "name": "quick",
    "steps": [{"share": 5000, "min_units": 5, "min_seconds": 0}, {"share": 10000}],
    "guardrails": [{"measure": "errors"}],
    "settle_seconds": 0,
    "warm_seconds": 0,
}


@pytest.fixture(scope="module")
def client(server: Server, digits_model: Path) -> Iterator[Client]:
    with Client(server.url, server.token) as it:
        drifted.deploy(it, digits_model)
        drifted.ask(server.url, 400)
        yield it


Live = TypeVar("Live", LiveRetraining, LiveRollout)


def stages(one: WatchedRetraining) -> list[str]:
    return [stage.stage for stage in one.stages]


def test_a_version_that_learned_what_users_send_is_rolled_out(server: Server, client: Client, tmp_path: Path) -> None:
    client.retrainings.set_policy("digits", drifted.script(tmp_path), base=drifted.base(tmp_path), plan=PLAN, gate={"min_rows": 30})
    one = client.retrainings.wait(client.retrainings.start("digits", why="to see").id, timeout=240)
    assert one.job_id
    log = client.jobs.log(one.job_id)
    assert one.state == "rolled_out", f"{one.why}\n{log}"
    assert stages(one) == ["training_set", "run", "training", "version", "gate", "rollout"]
    assert one.gate and one.gate.recent and one.training_set and one.version and one.run_id and one.rollout_id
    assert one.gate.recent.challenger > one.gate.recent.champion
    assert one.gate.recent.low > 0
    assert one.training_set.rows + one.training_set.held_out_rows == 400
    assert "rows 599" in log and "done" in log
    assert client.models.version("digits", one.version).run_id == one.run_id
    run = client.runs.get(one.run_id)
    assert run.status == "FINISHED" and [data.name for data in run.inputs] == ["labelled answers of digits", "base data"]
    rollout = client.rollouts.get(one.rollout_id)
    assert rollout.origin["retraining"] == one.id and rollout.canary_name == f"v{one.version}"
    assert rollout.plan.name == "quick"


def test_a_model_that_was_only_logged_is_registered_and_waits_for_the_open_rollout(server: Server, client: Client, tmp_path: Path) -> None:
    client.retrainings.set_policy("digits", drifted.script(tmp_path, register=False), plan=PLAN, gate={"min_rows": 30})
    before = len(client.models.versions("digits"))
    one = client.retrainings.wait(client.retrainings.start("digits").id, timeout=240)
    assert one.state == "waiting" and stages(one) == ["training_set", "run", "training", "version", "gate"], one.why
    assert len(client.models.versions("digits")) == before + 1
    assert one.version is not None and client.models.version("digits", one.version).run_id == one.run_id
    first = wait_for(lambda: _state(client.rollouts.get("digits"), "running"), what="the first rollout runs")
    client.rollouts.promote("digits")
    done = wait_for(lambda: _state(client.retrainings.get(one.id), "rolled_out"), what="its own rollout begins")
    rollout = client.rollouts.get(done.rollout_id or "")
    assert rollout.stable_name == first.canary_name and rollout.origin["retraining"] == one.id
    assert [each.id for each in client.rollouts.list(deployment="digits")] == [rollout.id, first.id]


def test_a_script_that_fails_says_why(server: Server, client: Client, tmp_path: Path) -> None:
    client.retrainings.set_policy("digits", drifted.script(tmp_path, pause="raise SystemExit('no luck today')"), plan=PLAN)
    one = client.retrainings.wait(client.retrainings.start("digits").id, timeout=240)
    assert one.state == "failed"
    assert "no luck today" in one.why and "ended with status 1" in one.why
    assert client.retrainings.policy("digits").failures == 1


def test_a_script_is_stopped_at_its_time_limit_with_all_that_it_has_started(server: Server, client: Client, tmp_path: Path) -> None:
    started = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3601)']); time.sleep(3600)"
    client.retrainings.set_policy("digits", drifted.script(tmp_path, pause=started), plan=PLAN, time_limit=8)
    begun = client.retrainings.start("digits").id
    wait_for(lambda: "train.py is running" in client.retrainings.get(begun).doing, seconds=120, what="it says that the script runs")
    one = client.retrainings.wait(begun, timeout=240)
    assert one.state == "failed" and "stopped after its time limit of 8 seconds" in one.why, one.why
    assert "--time-limit 16" in one.why and "rows" in one.why
    wait_for(lambda: not _sleeping(), what="what the script has started is gone")


def test_too_few_held_out_answers_are_found_before_the_script_runs(server: Server, client: Client, tmp_path: Path) -> None:
    client.retrainings.set_policy("digits", drifted.script(tmp_path), plan=PLAN, gate={"min_rows": 400, "recent": 500})
    one = client.retrainings.wait(client.retrainings.start("digits").id, timeout=240)
    assert one.state == "failed" and stages(one) == [] and "the gate needs 400" in one.why
    client.retrainings.delete_policy("digits")


def test_cancelling_stops_the_script(server: Server, client: Client, tmp_path: Path) -> None:
    client.retrainings.set_policy("digits", drifted.script(tmp_path, pause="import time; time.sleep(3600)"), plan=PLAN)
    begun = client.retrainings.start("digits").id
    wait_for(lambda: "rows" in _log(client, begun), seconds=120, what="the script runs")
    client.retrainings.cancel(begun, why="not today")
    wait_for(lambda: client.jobs.get(client.retrainings.get(begun).job_id or "").state == "cancelled", what="the job ends")
    one = client.retrainings.get(begun)
    assert one.state == "cancelled" and one.why == "not today" and one.version is None
    wait_for(lambda: not [p for p in server.family() if "retraining.attempt.script" in command(p)], what="the script is gone")


def _sleeping() -> list[psutil.Process]:
    return [p for p in psutil.process_iter() if "time.sleep(3601)" in command(p)]


def _log(client: Client, retraining: str) -> str:
    job = client.retrainings.get(retraining).job_id
    return client.jobs.log(job) if job else ""


def _state(one: Live, state: str) -> Live | None:
    return one if one.state == state else None
