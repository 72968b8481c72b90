"""`drivetrain retrain` against a real server: policies, and retrainings as people see them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.conftest import Said, run
from tests.conftest import Server, wait_for

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Here:
    server: Server

    def __call__(self, *arguments: str | Path) -> Said:
        return run(*arguments, DRIVETRAIN_HOME=str(self.server.home), DRIVETRAIN_URL=self.server.url)


@pytest.fixture(scope="module")
def here(server: Server, digits_model: Path) -> Iterator[Here]:
    made = Here(server)
    made("pull", digits_model, "--name", "digits").ok()
    made("deploy", "digits", "digits@1", "--wait").ok()
    yield made


def test_a_policy_is_set_shown_paused_and_deleted(here: Here, tmp_path: Path) -> None:
    script, base = tmp_path / "learn.py", tmp_path / "base.csv"
    script.write_text("print()")
    base.write_text("a,b\n")
    missing = here("retrain", "policy", "digits")
    assert missing.code == 3 and "has no policy of retraining" in missing.err
    options = ("--labels", "7", "--plan", "fast", "--time-limit", "90")
    set_ = here("retrain", "policy", "digits", "--script", script, "--base", base, *options, "--json").ok().json
    assert set_["entry"] == "learn.py" and set_["script"].startswith("digits-training@") and set_["base"].startswith("digits-base@")
    assert set_["time_limit"] == 90 and set_["trigger"]["sustained_seconds"] == 600
    assert set_["trigger"]["min_labels"] == 7 and set_["model"] == "digits" and set_["plan"] == "fast"
    shown = here("retrain", "policy", "digits").ok().out
    assert "learn.py of digits-training" in shown and "with 7 new labels" in shown and "by the plan fast" in shown
    assert "90 s, then the script is stopped" in shown
    assert here("retrain", "pause", "digits", "--json").ok().json["paused"] is True
    assert "(paused)" in here("retrain", "policy", "digits").ok().out
    assert "is trained again by itself" in here("retrain", "resume", "digits").ok().out
    here("retrain", "policy", "digits", "--delete").ok()
    assert here("retrain", "policy", "digits").code == 3


def test_one_is_begun_listed_shown_and_cancelled(here: Here, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("print()")
    here("retrain", "policy", "digits", "--script", script).ok()
    assert here("retrain", "show", "digits").code == 3
    assert "Nothing was trained again" in here("retrain", "list").ok().out
    begun = here("retrain", "now", "digits", "--why", "to see", "--json").ok().json
    # There is nothing to train on: it says so.
    ended = wait_for(lambda: one if (one := here("retrain", "show", "digits", "--json").ok().json)["ended_ms"] else None, what="its end")
    assert ended["id"] == begun["id"] and ended["state"] == "failed" and "0 labelled answers" in ended["why"]
    assert [one["id"] for one in here("retrain", "list", "digits", "--json").ok().json] == [begun["id"]]
    shown = here("retrain", "show", begun["id"]).ok().out
    assert (
        "training set" in shown and "0 labelled answers" in shown.replace("\n", " ") and f"drivetrain jobs log {ended['job_id']}" in shown
    )
    here("jobs", "log", ended["job_id"]).ok()
    assert here("retrain", "now", "digits", "--watch").code == 1
    assert here("retrain", "cancel", "digits").ok()
