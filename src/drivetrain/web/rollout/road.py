"""The road of a rollout: the steps side by side, and above them the traffic as a river whose lower part flows to the canary."""

from __future__ import annotations

from collections.abc import Sequence

from drivetrain.rollout.model import Plan, Rollout, State
from drivetrain.web import format as fmt
from drivetrain.web.rollout.views import Road, Station

STEP = 100.0
HEIGHT = 100.0
TURN = 24.0
"""How much of a step's width the river takes to change its course."""
SPRING = 5.0
"""The same where it begins."""
LEAST = 2.5
"""A share that is not nothing is seen."""


def road(rollout: Rollout, *, units: int, needs: Sequence[str]) -> Road:
    """`units`: exposed to the canary in the present step; `needs`: what each step asks for, in words."""
    plan, ended = rollout.plan, rollout.state in (State.rolled_back, State.aborted)
    shares = [_thickness(step.share) for step in plan.steps]
    progress = _progress(rollout, units)
    arrived = rollout.state in (State.promoted, State.closed)
    now = len(shares) * STEP if arrived else 0.0 if rollout.state is State.starting else (rollout.step + progress) * STEP
    width = len(shares) * STEP
    passed = _course(shares, 0.0, now)
    if ended and passed:
        # It was taken back: the river returns to its bed at once.
        passed = [*passed, (min(width, now + 3.0), 0.0)]
    planned = _course(shares, now, width)
    return Road(
        width=width,
        canary=_area(passed),
        ahead="" if ended else _area(planned),
        edge=_line(passed),
        ahead_edge=_line(planned),
        now=now,
        stations=_stations(rollout, units, progress, needs),
        words=_words(rollout),
        here=f"At {fmt.percent(rollout.share / 10_000)}: {here(rollout, units)}" if rollout.state in (State.running, State.paused) else "",
    )


def _thickness(share: int) -> float:
    return 0.0 if share == 0 else max(LEAST, share / 10_000 * HEIGHT)


def _progress(rollout: Rollout, units: int) -> float:
    """How much of the present step is behind: its slower demand counts."""
    step = rollout.plan.steps[rollout.step]
    parts = []
    if step.min_units:
        parts.append(units / step.min_units)
    if step.min_seconds:
        parts.append(rollout.elapsed_ms / 1000 / step.min_seconds)
    return max(0.06, min(0.94, min(parts, default=0.5)))


def _at(shares: Sequence[float], x: float) -> float:
    """The thickness at a place: a step's own, and a smooth turn at its beginning."""
    i = min(len(shares) - 1, int(x // STEP))
    before = shares[i - 1] if i else 0.0
    t = min(1.0, max(0.0, (x - i * STEP) / (TURN if i else SPRING)))
    return before + (shares[i] - before) * t * t * (3 - 2 * t)


def _course(shares: Sequence[float], start: float, end: float) -> list[tuple[float, float]]:
    """Points of the edge from `start` to `end`, closer where it turns."""
    if end <= start:
        return []
    places = {start, end}
    for i in range(len(shares)):
        places |= {i * STEP + (TURN if i else SPRING) * k / 12 for k in range(13)} | {(i + 1) * STEP}
    return [(x, _at(shares, min(x, end - 1e-9))) for x in sorted(places) if start <= x <= end]


def _line(points: Sequence[tuple[float, float]]) -> str:
    return "M" + " ".join(f"{x:.1f} {HEIGHT - y:.2f}" for x, y in points) if points else ""


def _area(points: Sequence[tuple[float, float]]) -> str:
    return f"{_line(points)} {points[-1][0]:.1f} {HEIGHT:.0f} {points[0][0]:.1f} {HEIGHT:.0f}Z" if points else ""


def _stations(rollout: Rollout, units: int, progress: float, needs: Sequence[str]) -> list[Station]:
    found = []
    arrived = rollout.state in (State.promoted, State.closed)
    ended = rollout.state in (State.rolled_back, State.aborted)
    for i, step in enumerate(rollout.plan.steps):
        share = f"{fmt.percent(step.shadow / 10_000)} shadowed" if step.shadow and not step.share else fmt.percent(step.share / 10_000)
        if arrived or i < rollout.step:
            found.append(Station(share, "done", "", needs[i]))
        elif i > rollout.step:
            found.append(Station(share, "ahead", "", needs[i]))
        elif ended:
            word = "taken back here" if rollout.state is State.rolled_back else "stopped here"
            found.append(Station(share, "left", word, needs[i], tone="bad" if rollout.state is State.rolled_back else "idle"))
        elif rollout.state is State.starting:
            found.append(Station(share, "ahead", "starts when it is ready", needs[i]))
        else:
            tone = "warn" if rollout.state is State.paused else "busy"
            found.append(Station(share, "here", here(rollout, units), needs[i], progress, tone))
    return found


def here(rollout: Rollout, units: int) -> str:
    """What the present step still asks for: `120 of 300 units, 40 s of 5 min`."""
    step = rollout.plan.steps[rollout.step]
    words = []
    if step.min_units:
        words.append(f"{fmt.number(units)} of {fmt.number(step.min_units)} units")
    if step.min_seconds:
        words.append(f"{fmt.span(rollout.elapsed_ms // 1000)} of {fmt.span(step.min_seconds)}")
    return ", ".join(words) or "nothing more is asked"


def needs(plan: Plan) -> list[str]:
    """What each step asks for before it may be left."""
    found = []
    for step in plan.steps:
        words = []
        if step.min_units:
            words.append(f"{fmt.number(step.min_units)} units")
        if step.min_seconds:
            words.append(fmt.span(step.min_seconds))
        found.append(", ".join(words) or ("all traffic" if step.share == 10_000 else "passes at once"))
    return found


def _words(rollout: Rollout) -> str:
    """The road for those who cannot see it."""
    steps = ", ".join(fmt.percent(step.share / 10_000) for step in rollout.plan.steps)
    return f"Steps: {steps}. Now at step {rollout.step + 1} with {fmt.percent(rollout.share / 10_000)} of the traffic."
