"""What the charts of a rollout draw: the evidence of each guardrail over time, the traffic of both arms, and flags for decisions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.rollout.model import OPEN, CurvePoint, Decision, Phase, Rollout, State
from drivetrain.store.ids import now_ms
from drivetrain.web import format as fmt

MOST = 600
_FLAGS = {
    "advanced": "{share}",
    "paused": "paused",
    "resumed": "resumed",
    "promoted": "100\u00a0%",
    "rolled_back": "taken back",
    "aborted": "aborted",
}


def curves(platform: Platform, ctx: Context, rollout_id: str) -> dict[str, Any]:
    book = platform.rollouts.book(ctx, rollout_id)
    rollout = book.rollout
    decided = platform.rollouts.decisions(ctx, rollout_id)
    begun = book.phases[0].started_ms if book.phases else rollout.created_ms
    end, until = _ends(rollout, decided, begun)
    guards = []
    by_guard: dict[int, list[CurvePoint]] = {}
    for point in platform.rollouts.curves(ctx, rollout_id):
        by_guard.setdefault(point.guard, []).append(point)
    for number, guardrail in enumerate(rollout.plan.guardrails):
        points = _thin(by_guard.get(number, []))
        mean = guardrail.measure.endswith("_mean")
        threshold = next((point.threshold for point in reversed(points) if point.threshold is not None), None)
        guards.append(
            {
                "number": number,
                "mean": mean,
                "threshold": _height(threshold, mean),
                "points": _line(points, begun, end, mean),
            }
        )
    return {
        "since_ms": begun - max(500, (until - begun) // 40),
        "until_ms": until,
        "guards": guards,
        "share": _shares(book.phases, rollout, end, until),
        "flags": [_flag(one) for one in decided if one.action in _FLAGS],
    }


def _ends(rollout: Rollout, decided: Sequence[Decision], begun: int) -> tuple[int, int]:
    """When there is nothing more to draw, and where the axis ends: with a little room for the last flag. A version that has all traffic
    stays as it is, however long the one before is kept warm."""
    end = rollout.ended_ms or now_ms()
    over = rollout.state not in OPEN
    promoted = next((one.at_ms for one in decided if one.action == "promoted"), None)
    if promoted is not None and rollout.state is not State.rolled_back:
        end, over = min(end, promoted + max(5000, (promoted - begun) // 10)), True
    return end, end + (max(1000, (end - begun) // 50) if over else 0)


def _thin(points: list[CurvePoint]) -> list[CurvePoint]:
    """At most so many that a chart can show, the last one always."""
    if len(points) <= MOST:
        return points
    step = len(points) / MOST
    return [points[int(i * step)] for i in range(MOST - 1)] + [points[-1]]


def _line(points: list[CurvePoint], begun: int, until: int, mean: bool) -> list[tuple[int, float | None]]:
    """From odds of one to one at the beginning to what is known now: a point is written down only when something has changed."""
    found = [(point.at_ms, _height(point.value, mean)) for point in points]
    if found and not mean:
        found = [(min(begun, found[0][0]), 0.0), *(one for one in found if one[1] is not None)]
    if found and found[-1][1] is not None and until > found[-1][0]:
        found.append((until, found[-1][1]))
    return found


def _height(value: float | None, mean: bool) -> float | None:
    """Decades of an e-value that is kept as its natural logarithm; a mean's bound as it is."""
    if value is None or not math.isfinite(value):
        return None
    return value if mean else value / math.log(10)


def _flag(one: Decision) -> dict[str, Any]:
    return {"at": one.at_ms, "text": _FLAGS[one.action].format(share=fmt.percent(one.share / 10_000))}


def _shares(phases: Sequence[Phase], rollout: Rollout, end: int, until: int) -> list[tuple[int, float]]:
    """The canary's share as steps in time."""
    found: list[tuple[int, float]] = [(rollout.created_ms, 0.0)]
    for phase in phases:
        found += [(phase.started_ms, found[-1][1]), (phase.started_ms, phase.share / 10_000)]
    found.append((max(end, found[-1][0]), found[-1][1]))
    if rollout.ended_ms == end:
        found += [(end, rollout.share / 10_000), (until, rollout.share / 10_000)]
    return found
