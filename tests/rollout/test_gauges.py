"""What Prometheus hears of rollouts."""

from __future__ import annotations

import math
import re
import subprocess
from pathlib import Path

from drivetrain.rollout.judging.gauges import exposition
from drivetrain.rollout.model import Rollout
from drivetrain.serving.gateway import meters
from drivetrain.wire import meter
from tests.rollout.parts import ME, World, plan

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"


def value(lines: list[str], start: str) -> float:
    (found,) = [line for line in lines if line.startswith(start)]
    return float(found.rpartition(" ")[2])


def watched(world: World, rollout: Rollout) -> list[str]:
    world.traffic(rollout, canary=5, stable=45, bad_canary=2)
    world.steps.step(rollout.id, 1000.0)
    return exposition(world.db, ME.workspace_id)


def test_the_evidence_of_open_rollouts(world: World) -> None:
    lines = watched(world, world.begun(of=plan("errors", "cost_mean")))
    of = 'workspace="default",deployment="live"'
    assert value(lines, f"drivetrain_rollout_share{{{of}}}") == 0.1
    assert value(lines, f'drivetrain_rollout_evidence_log{{{of},measure="errors"}}') > 0
    assert math.isclose(value(lines, f'drivetrain_rollout_threshold_log{{{of},measure="errors"}}'), math.log(2 * 2 / 0.05), rel_tol=1e-4)
    assert value(lines, f'drivetrain_rollout_threshold_log{{{of},measure="assignment"}}') > 6
    assert not [line for line in lines if "cost_mean" in line], "a mean has no e-value"


def test_others_rollouts_and_ended_ones_are_not_told(world: World) -> None:
    rollout = world.begun()
    assert value(watched(world, rollout), "drivetrain_rollout_share{") == 0.1
    assert not [line for line in exposition(world.db, "another workspace") if not line.startswith("#")]
    assert value(exposition(world.db), "drivetrain_rollout_share{") == 0.1
    world.rollouts.abort(ME, rollout.id, why="enough")
    assert not [line for line in exposition(world.db) if not line.startswith("#")]


def test_every_metric_is_documented_and_in_the_format(world: World) -> None:
    lines = meter.exposition({"openai": {"200": meter.Line(1, 0.1)}})
    lines += meters.exposition([meters.Series("w", "w", "d", "v", {"ok": 1})], [meters.Now("w", "w", "d", "v", 1, 0)], [])
    lines += watched(world, world.begun())
    documented = DOCS.read_text()
    names = {line.split(" ")[2] for line in lines if line.startswith("# TYPE")}
    assert len(names) > 12
    assert {name for name in names if f"`{name}`" not in documented} == set()
    told = set(re.findall(r"`(drivetrain_\w+)`", documented)) - {"drivetrain_events_lost_total"}
    assert told <= names, "nothing is documented that is not there"
    linted = subprocess.run(
        ["promtool", "check", "metrics"], input="\n".join([*lines, ""]).encode(), capture_output=True, timeout=60, check=False
    )
    assert (linted.returncode, linted.stdout, linted.stderr) == (0, b"", b"")
