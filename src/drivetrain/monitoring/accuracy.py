"""Have a version's answers become worse? By the labels that came for them, each taken once, in the order in which they came.

What was seen is a small memory, so that a look reads new labels only. It is a function of the labels: read again from the first one, they
give the same answer, however often somebody looks in between.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime

from msgspec import Struct, field

from drivetrain.monitoring.evidence import FEWER, MORE, Bet, Usual, counts, evidence, strongest
from drivetrain.monitoring.kinds import Finding, Quality

DAY_MS = 86_400_000
LEAST_RUN = 10_000
"""A false alarm takes so many labels on average, or more, however seldom labels come."""
LEAST_DAYS = 1 / 24
"""A rate is measured over an hour, or longer."""
CLEAR = 1_000
"""An alarm of answers that stay bad is taken back falsely after so many labels on average, or more."""
PERHAPS = 0.01
"""The part of the evidence for an alarm from which on it is told as perhaps a change."""


class Label(Struct, frozen=True):
    """A label of an answer: its id, when the answer was given, when the label came, and whether the answer was wrong."""

    id: str
    at_ms: int
    came_ms: int
    wrong: bool


class Alarm(Struct):
    """`line`: the share of wrong answers below which it is over; `bets` against that. `count`, `wrong`: labels since it was raised."""

    since_ms: int
    since_labels: int
    since: float
    before: float | None
    labels_before: int
    line: float
    evidence: float
    needed: float
    count: int = 0
    wrong: int = 0
    bets: list[Bet] = []


class Memory(Struct):
    """What the labels of `variant` up to `cursor` (a label's id) have shown."""

    variant: str = ""
    cursor: str = ""
    labels: int = 0
    wrong: int = 0
    first_ms: int = 0
    last_ms: int = 0
    usual: Usual = field(default_factory=Usual)
    line: float | None = None
    below: list[Bet] = []
    """Bets on more wrong answers than `line`, which is 1 − least_accuracy."""
    alarm: Alarm | None = None


def run_length(config: Quality, memory: Memory) -> float:
    """How many labels a false alarm takes on average, or more: those of `false_alarm_days` at the deployment's own rate."""
    days = max(LEAST_DAYS, (memory.last_ms - memory.first_ms) / DAY_MS)
    return max(float(LEAST_RUN), config.false_alarm_days * memory.labels / days)


def take(config: Quality, memory: Memory, labels: Iterable[Label]) -> None:
    """See more labels."""
    line = None if config.least_accuracy is None else 1.0 - config.least_accuracy
    if line != memory.line:
        memory.line, memory.below = line, []
    for label in labels:
        memory.cursor = label.id
        memory.labels += 1
        memory.wrong += label.wrong
        memory.first_ms = memory.first_ms or label.came_ms
        memory.last_ms = label.came_ms
        if memory.alarm is None:
            _watch(config, memory, label)
        else:
            _wait(memory, memory.alarm, label)


def _watch(config: Quality, memory: Memory, label: Label) -> None:
    needed = run_length(config, memory)
    if memory.line is not None:
        counts(memory.below, memory.line, MORE, at=label.at_ms, count=1, bad=int(label.wrong))
        found = evidence(memory.below)
        if found >= needed:
            bet = strongest(memory.below)
            memory.alarm = Alarm(bet.at, bet.count, bet.bad / bet.count, None, 0, memory.line, found, needed)
            memory.below = []
    memory.usual.add(label.wrong, least=config.least, seed=f"{memory.variant}:{memory.labels}", at=label.at_ms)
    found = memory.usual.evidence
    if memory.alarm is None and found >= needed:
        bet, before, since = memory.usual.since()
        if since - before < config.drop:
            return
        memory.usual.forget(bet)
        line = before + max(config.drop, (since - before) / 2)
        memory.alarm = Alarm(bet.at, bet.count, since, before, memory.usual.known, min(0.999, line), found, needed)


def _wait(memory: Memory, alarm: Alarm, label: Label) -> None:
    alarm.count += 1
    alarm.wrong += label.wrong
    counts(alarm.bets, alarm.line, FEWER, at=label.at_ms, count=1, bad=int(label.wrong))
    if evidence(alarm.bets) >= CLEAR:
        memory.alarm = None
        memory.below = []
        memory.usual.bets = []


def finding(config: Quality, memory: Memory) -> Finding:
    """What is known by now, in words."""
    needed = run_length(config, memory)
    right = 1.0 - memory.wrong / memory.labels if memory.labels else 0.0
    facts: dict[str, float | int] = {"labelled": memory.labels, "evidence_needed": round(needed)}
    if memory.labels:
        facts["accuracy_of_all"] = right
    if memory.alarm is not None:
        return _alarm(memory.alarm, config, facts)
    if memory.usual.known < config.least or not memory.usual.count:
        left = config.least + 1 - memory.usual.known
        words = f"{_many(memory.labels)} of this version; {left} more are needed to know what is usual."
        return Finding(state="waiting", words=words, evidence=facts)
    found = max(memory.usual.evidence, evidence(memory.below))
    facts["evidence"] = found
    told = f"{right:.1%} of {_many(memory.labels)} of this version were right."
    if not memory.usual.bets:
        return Finding(state="ok", words=f"{told} It was worse for a while, and is well again.", evidence=facts)
    bet, before, since = memory.usual.since()
    seen = memory.usual.evidence
    promised = f"evidence {figure(found)} of {needed:,.0f}, {_promise(config)}"
    if seen < needed * PERHAPS:
        return Finding(state="ok", words=f"{told} No sign that this has changed ({promised}).", evidence=facts)
    facts["since_ms"] = bet.at
    change = f"{1 - since:.1%} of {_many(bet.count)} since {moment(bet.at)}, {1 - before:.1%} before"
    if since - before < config.drop:
        sure = "Surely" if seen >= needed else "Perhaps"
        less = f"less than the drop of {config.drop * 100:g} points that alarms"
        return Finding(state="ok", words=f"{told} {sure} fewer now, by {less}: {change} ({promised}).", evidence=facts)
    more = _more(before, since, needed / seen)
    words = f"{told} Perhaps fewer now: {change}. That is not sure yet ({promised}): should it stay so, about {more:,} more labels show it."
    return Finding(state="ok", words=words, evidence=facts)


def _alarm(alarm: Alarm, config: Quality, facts: dict[str, float | int]) -> Finding:
    now = 1.0 - alarm.since
    facts |= {
        "accuracy": now,
        "since_ms": alarm.since_ms,
        "since_labels": alarm.since_labels,
        "evidence": alarm.evidence,
        "evidence_needed": round(alarm.needed),
        "labels_since_alarm": alarm.count,
    }
    words = f"Since about {moment(alarm.since_ms)}, {now:.1%} of {_many(alarm.since_labels)} were right; "
    if alarm.before is None:
        words += f"the line is {1 - alarm.line:.1%}."
    else:
        words += f"before, {1 - alarm.before:.1%} of {alarm.labels_before:,} were."
        facts |= {"before": 1.0 - alarm.before, "labelled_before": alarm.labels_before}
    words += f" Evidence {figure(alarm.evidence)} of {alarm.needed:,.0f}, {_promise(config)}."
    if alarm.count:
        cleared = evidence(alarm.bets)
        facts["evidence_of_recovery"] = cleared
        words += f" Of {_many(alarm.count)} since the alarm, {1 - alarm.wrong / alarm.count:.1%} were right;"
    else:
        cleared = 0.0
    words += f" it ends when labels show more than {1 - alarm.line:.1%} (evidence {figure(cleared)} of {CLEAR:,})."
    return Finding(state="alarm", words=words, evidence=facts)


def _more(before: float, since: float, times: float) -> int:
    """About how many labels it takes for evidence to grow so many `times`: at the rate of the Kullback–Leibler distance of the shares."""
    p, q = min(0.999, max(0.001, since)), min(0.999, max(0.001, before))
    rate = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    return max(1, math.ceil(math.log(max(1.0, times)) / max(rate, 1e-6)))


def _promise(config: Quality) -> str:
    return f"which unchanged answers reach once in {config.false_alarm_days:g} days at most"


def _many(labels: int) -> str:
    return f"{labels:,} labelled answer{'' if labels == 1 else 's'}"


def figure(value: float) -> str:
    return f"{value:,.0f}" if value < 1e7 else f"{value:.1e}"


def moment(ms: int) -> str:
    """A time in words, in UTC."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
