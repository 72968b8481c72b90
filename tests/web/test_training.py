"""Scripts of three clients train against a real server while somebody looks at their runs in Chromium."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.clients.wandb_script import environment
from tests.conftest import Server

pytestmark = pytest.mark.slow
# Each logs a point whenever it is told to by a line, so that the test decides how far a run is.
MLFLOW = """
import sys, mlflow
mlflow.set_experiment("watched")
with mlflow.start_run(run_name="by-mlflow"):
    for step, line in enumerate(sys.stdin):
        mlflow.log_metric("loss", float(line), step=step)
"""
WANDB = """
import sys, wandb
with wandb.init(project="watched", name="by-wandb") as run:
    for line in sys.stdin:
        run.log({"loss": float(line)})
"""
NATIVE = """
import sys, drivetrain as dt
with dt.init("watched", name="by-us") as run:
    for line in sys.stdin:
        run.log({"loss": float(line)})
"""


class Training:
    """A script that waits for what to log."""

    def __init__(self, script: str, server: Server, folder: Path) -> None:
        home = {"DRIVETRAIN_URL": server.url, "DRIVETRAIN_HOME": str(folder / "home"), "DRIVETRAIN_API_KEY": server.token}
        self.process = subprocess.Popen(
            [sys.executable, "-c", script],
            env=environment(server, folder, **home),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def say(self, value: float) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{value}\n")
        self.process.stdin.flush()

    def end(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(120)


@pytest.fixture
def trainings(server: Server, tmp_path: Path) -> Iterator[list[Training]]:
    some = []
    for name, script in (("mlflow", MLFLOW), ("wandb", WANDB), ("native", NATIVE)):
        (tmp_path / name).mkdir()
        some.append(Training(script, server, tmp_path / name))
    yield some
    for one in some:
        one.process.kill()
        one.process.wait(30)


def test_the_table_and_the_curves_follow_three_clients(server: Server, browser: Browser, trainings: list[Training]) -> None:
    page = browser.new_page(base_url=server.url)
    page.goto("/runs?col=status&col=metrics.loss")
    expect(page.locator(".live")).to_have_text("Live")
    for n, training in enumerate(trainings):
        training.say(0.5 + n)
    for name, value in (("by-mlflow", "0.5"), ("by-wandb", "1.5"), ("by-us", "2.5")):
        expect(page.locator("#rows tr", has_text=name)).to_contain_text(value, timeout=60_000)
    for name in ("by-mlflow", "by-wandb", "by-us"):
        page.get_by_label(f"Draw {name}").check()
    page.get_by_role("link", name="Compare").click()
    chart = page.locator('.chart[data-key="loss"]')
    expect(page.locator(".live")).to_have_text("Live")
    for n, training in enumerate(trainings):
        training.say(0.25 + n)
    for said in ("by-mlflow 0.25", "by-wandb 1.25", "by-us 2.25"):
        expect(chart).to_have_attribute("aria-label", re.compile(re.escape(said)), timeout=60_000)
    assert [training.end() for training in trainings] == [0, 0, 0]
    expect(page.locator(".chosen .state")).to_have_count(0, timeout=60_000)
    page.close()
