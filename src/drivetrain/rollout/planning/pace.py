"""Whether the present step can end: how many people there are, how many new ones come, and which plan they could meet."""

from __future__ import annotations

import math

from drivetrain.rollout.judging.looks import CAP
from drivetrain.rollout.ledger import Book
from drivetrain.rollout.model import Plan
from drivetrain.words import span

WHOLE = 10_000
TELLS = 100
"""Requests that tell who comes."""
LONGEST = 86_400.0
"""Seconds after which a step is said not to end."""
PART = 0.8
"""Of what the people who are known could be at most, what a plan may ask."""
FEWEST = 20


def endless(book: Book, units: int) -> str:
    """What to say of a step that these people cannot meet; "" while it looks as if they could. `units`: those that it has."""
    rollout, tallied = book.rollout, book.tallied
    step = rollout.plan.steps[rollout.step]
    seconds = rollout.elapsed_ms / 1000
    if step.share == 0 or tallied.recent < TELLS or seconds <= 0:
        return ""
    here = {phase.number for phase in book.phases if phase.step == rollout.step}
    requests = sum(count.requests for count in book.counts(-1) if count.phase in here)
    per_second, share = requests / seconds, step.share / WHOLE
    fresh = per_second * tallied.recent_new / tallied.recent
    most = CAP * share * tallied.people
    by_people = (step.min_units / (CAP * share) - tallied.people) / fresh if fresh > 0 else math.inf
    by_requests = (step.min_units - units) / (per_second * share) if per_second else math.inf
    lasts = max(by_requests, by_people if step.min_units > most else 0.0)
    if lasts <= max(LONGEST, 10 * step.min_seconds):
        return ""
    when = "It will not end" if math.isinf(lasts) else f"At this rate that takes {span(lasts)}"
    why = (
        f"{when}: {tallied.people:,} people have come, {span_rate(fresh)} new ones do, and at {step.share / 100:g} % they are "
        f"{most:,.0f} units at most (up to {CAP} requests of each count)."
    )
    return f"{why} {_advice(book)}"


def _advice(book: Book) -> str:
    rollout = book.rollout
    options = meetable(rollout.plan, book.tallied.people)
    if not options:
        return (
            "So few can meet no plan by people. Let each request be a unit of its own: "
            f"drivetrain rollout abort {rollout.deployment}, then drivetrain deploy {rollout.deployment} … --unit request."
        )
    start = f"drivetrain rollout start {rollout.deployment} {book.source} {options}"
    return f"A plan that they can meet: drivetrain rollout abort {rollout.deployment}, then {start}."


def meetable(plan: Plan, people: float) -> str:
    """The plan that so many people could meet, as options of the command line: its larger steps, and fewer units. "" if there is none."""
    shares = [step.share for step in plan.steps if 0 < step.share < WHOLE and PART * CAP * step.share / WHOLE * people >= FEWEST]
    if not shares:
        return ""
    least = int(PART * CAP * shares[0] / WHOLE * people)
    return f"--plan {','.join(f'{share / 100:g}' for share in shares)},100 --min-units {least}"


def span_rate(per_second: float) -> str:
    """How many come, in words."""
    if per_second <= 0:
        return "no"
    for length, name in ((60.0, "a minute"), (3600.0, "an hour"), (LONGEST, "a day")):
        if per_second * length >= 1:
            return f"{per_second * length:,.3g} {name}"
    return "hardly any"
