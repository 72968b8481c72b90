"""`drivetrain rollout` against a real server with real replicas."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.conftest import Said, run
from tests.conftest import Server, wait_for

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Here:
    server: Server

    def __call__(self, *arguments: str | Path) -> Said:
        return run(*arguments, DRIVETRAIN_HOME=str(self.server.home), DRIVETRAIN_URL=self.server.url)

    def status(self, target: str) -> Any:
        return self("rollout", "status", target, "--json").ok().json

    def reaches(self, target: str, state: str) -> Any:
        return wait_for(lambda: found if (found := self.status(target))["state"] == state else None, what=f"{target}: {state}")


@pytest.fixture(scope="module")
def here(server: Server, digits_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    """A server with the deployment `digits`, and two more versions to come."""
    made = Here(server)
    folder = tmp_path_factory.mktemp("versions")
    for number in (1, 2, 3):
        shutil.copytree(digits_model, folder / str(number))
        (folder / str(number) / "note.txt").write_text(str(number))
        made("pull", folder / str(number), "--name", "digits").ok()
    made("deploy", "digits", "digits@1", "--wait").ok()
    yield made


@pytest.fixture
def clean(here: Here) -> Iterator[Here]:
    """No rollout is open before or after."""
    yield here
    here("rollout", "rollback", "digits")


def test_nothing_yet(here: Here) -> None:
    assert "drivetrain rollout start" in here("rollout", "list").ok().out
    said = here("rollout", "status", "digits", "--json")
    assert (said.code, said.json["error"]["type"]) == (3, "NotFound")


def test_a_plan_is_told_before_it_starts(here: Here) -> None:
    said = here("rollout", "plan", "--rate", "20", "--base", "0.04", "--ratio", "2.5").ok().out
    assert "2.5 times worse (4 % → 10 % bad) is seen at" in said
    assert "A version that is no worse has all traffic after" in said
    told = here("rollout", "plan", "--plan", "shadow", "--json").ok().json
    assert [one["share"] for one in told["steps"]] == [0, 500, 5000, 10000]
    quiet = here("rollout", "plan", "digits", "--json")
    assert (quiet.code, quiet.json["error"]["type"]) == (1, "Invalid")


def test_by_hand(clean: Here) -> None:
    begun = clean("rollout", "start", "digits", "digits@2", "--plan", "10,100", "--why", "a try", "--json").ok().json
    assert (begun["state"], begun["canary_name"], begun["plan"]["name"]) == ("starting", "v2", "custom")
    running = clean.reaches("digits", "running")
    assert (running["share"], running["decisions"][0]["why"]) == (1000, "a try")
    assert {one["measure"] for one in running["evidence"]} == {"errors", "latency_p95", "invalid_output", "predictions", "assignment"}
    shown = clean("rollout", "status", begun["id"]).ok().out
    for part in ("digits", "v1 → v2", "running", "10 %", "errors", "drivetrain"):
        assert part in shown, shown
    assert "v1 → v2" in clean("rollout", "list").ok().out
    refused = clean("deploy", "digits", "digits@3", "--json")
    assert (refused.code, refused.json["error"]["type"]) == (1, "Conflict")
    assert "paused, v2 has 10 %" in clean("rollout", "pause", "digits", "--why", "lunch").ok().out
    assert clean("rollout", "resume", "digits", "--json").ok().json["state"] == "running"
    assert clean("rollout", "promote", "digits", "--json").ok().json["state"] == "promoted"
    answer = httpx.post(f"{clean.server.url}/invoke/digits/invocations", json={"inputs": [[0.0] * 64]}, timeout=60)
    assert answer.status_code == 200
    assert clean("rollout", "rollback", "digits", "--why", "enough", "--json").ok().json["state"] == "rolled_back"
    assert [one["state"] for one in clean("rollout", "list", "digits", "--json").ok().json] == ["rolled_back"]
    assert clean("rollout", "close", "digits").code == 1


def test_followed_to_its_end(clean: Here) -> None:
    guards = ("-g", "errors", "-g", "latency_p95@100!signal")
    done = clean("rollout", "start", "digits", "digits@2", "--plan", "50,100", "--min-units", "0", "--min-seconds", "0", *guards, "--json")
    assert done.ok().json["state"] == "starting"
    clean.reaches("digits", "running")
    for i in range(120):
        answer = httpx.post(
            f"{clean.server.url}/invoke/digits/invocations",
            json={"inputs": [[0.0] * 64]},
            headers={"X-Drivetrain-Unit": f"u{i}"},
            timeout=60,
        )
        assert answer.status_code == 200
    held = wait_for(lambda: found if (found := clean.status("digits"))["evidence"][0]["canary_units"] else None, what="counts")
    assert held["evidence"][-1]["measure"] == "assignment"
    clean("rollout", "promote", "digits").ok()
    watched = clean("rollout", "status", "digits", "--watch", "--json").ok().json
    assert watched["state"] == "promoted"
    assert clean("rollout", "abort", "digits").code == 1


def test_a_deployment_s_new_version_by_steps(clean: Here) -> None:
    begun = clean("deploy", "digits", "digits@3", "--rollout", "fast", "--price", "request=0.01", "--json").ok().json
    assert (begun["canary_name"], begun["plan"]["name"]) == ("v3", "fast")
    shown = clean("ps", "--json").ok().json
    (canary,) = [one for one in shown[0]["variants"] if one["name"] == "v3" and one["retired_ms"] is None]
    assert canary["prices"] == {"request": 0.01}
    assert clean("rollout", "abort", "digits", "--json").ok().json["state"] == "aborted"
    assert clean("rollout", "status", "digits", "--watch", "--json").code == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--plan", "slow"), "There is no plan 'slow'"),
        (("--plan", "50,10,100"), "larger share"),
        (("-g", "latency_p95@@"), "is no measure"),
        (("--plan", "nothing.json"), "nothing.json"),
    ],
)
def test_what_cannot_be_meant_is_refused(here: Here, arguments: tuple[str, ...], says: str) -> None:
    said = here("rollout", "start", "digits", "digits@2", *arguments, "--json")
    assert said.code == 1
    assert says in said.json["error"]["message"]
