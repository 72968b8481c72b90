"""Are more requests bad than should be? Counted by minutes: errors of requests, and answers slower than a line.

Each minute is one observation of an e-detector, so run lengths are in minutes with requests; within a minute the evidence may be looked at
all the time, since it is a product over requests. A minute is taken into the memory once its counts are settled: those that servers add a
little later are seen too, and nothing is read twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from drivetrain.monitoring.accuracy import PERHAPS, figure, moment
from drivetrain.monitoring.evidence import FEWER, MORE, Bet, counts, evidence, strongest
from drivetrain.monitoring.kinds import Finding

MINUTE_MS = 60_000
DAY_MINUTES = 1440
SHOWN_MS = 5 * MINUTE_MS
"""What is told as the present."""
SETTLED_MS = MINUTE_MS
"""How long after its end a minute's counts may still grow."""
LONGEST_MS = 60 * MINUTE_MS
"""Minutes that are longer past are not looked at any more: nobody looked at the time."""
CLEAR = 60
"""An alarm of what stays bad is taken back falsely after so many minutes on average, or more."""


class Minute(Struct, frozen=True):
    """Of the `count` requests of a minute, `bad` were bad."""

    at_ms: int
    count: int
    bad: int


class Alarm(Struct, frozen=True):
    since_ms: int
    count: int
    bad: int
    evidence: float
    needed: float


class Memory(Struct):
    """What the minutes before `at_ms` have shown. `share`: what may be bad. `line_ms`: of latency, what is slow; `line_at_ms`: since when,
    where it was measured. `bets`: against the null that no more than `share` are bad; during an alarm, that no fewer are."""

    at_ms: int = 0
    share: float = 0.0
    line_ms: float | None = None
    line_at_ms: int = 0
    bets: list[Bet] = []
    alarm: Alarm | None = None


class Seen(Struct, frozen=True):
    """`evidence`: with the open minutes. `count`, `bad`: of the last minutes."""

    evidence: float
    needed: float
    bets: list[Bet]
    count: int
    bad: int


def against(memory: Memory, share: float, line_ms: float | None = None) -> None:
    """Set what is asked. Evidence against something else is none: where the question has changed, it begins anew. A line that was measured
    again is the same question."""
    if memory.share != share or (memory.line_ms is None) != (line_ms is None):
        memory.bets, memory.alarm = [], None
    memory.share, memory.line_ms = share, line_ms


def begin(memory: Memory, now_ms: int) -> int:
    """From when on minutes are to be read: what is new, and what is told as the present."""
    return min(_first(memory, now_ms), (now_ms - SHOWN_MS) // MINUTE_MS * MINUTE_MS)


def _first(memory: Memory, now_ms: int) -> int:
    return max(memory.at_ms, (now_ms - LONGEST_MS) // MINUTE_MS * MINUTE_MS)


def take(memory: Memory, minutes: Sequence[Minute], *, now_ms: int, needed: float) -> Seen:
    """See what the minutes since `begin` have brought. `needed`: the run length to a false alarm, in minutes."""
    settled, first = (now_ms - SETTLED_MS) // MINUTE_MS * MINUTE_MS, _first(memory, now_ms)
    bets = _copy(memory.bets)
    for minute in sorted(minutes, key=lambda one: one.at_ms):
        if minute.at_ms < max(first, memory.at_ms) or not minute.count:
            continue
        ratios = MORE if memory.alarm is None else FEWER
        counts(bets, memory.share, ratios, at=minute.at_ms, count=minute.count, bad=minute.bad)
        found = evidence(bets)
        turned = found >= (needed if memory.alarm is None else CLEAR)
        if turned:
            bet = strongest(bets)
            memory.alarm = Alarm(bet.at, bet.count, bet.bad, found, needed) if memory.alarm is None else None
            bets = []
        if turned or minute.at_ms < settled:
            # What turned it in an open minute has turned it: the rest of that minute is not looked at.
            memory.at_ms = minute.at_ms + MINUTE_MS
            memory.bets = _copy(bets)
    shown = [minute for minute in minutes if minute.at_ms >= now_ms - SHOWN_MS - MINUTE_MS]
    return Seen(evidence(bets), needed, bets, sum(one.count for one in shown), sum(one.bad for one in shown))


def _copy(bets: Sequence[Bet]) -> list[Bet]:
    return [msgspec.structs.replace(bet) for bet in bets]


def finding(memory: Memory, seen: Seen, *, what: str, were: str, line: str, days: float) -> Finding:
    """In words: `seen.bad` of so many `what` `were` so; `line` says what is allowed."""
    facts: dict[str, float | int] = {
        "count": seen.count,
        "bad": seen.bad,
        "allowed": memory.share,
        "evidence": seen.evidence,
        "evidence_needed": round(seen.needed),
    }
    if memory.line_ms is not None:
        facts["line_ms"] = memory.line_ms
    now = (
        f"{seen.bad / seen.count:.1%} of {seen.count:,} {what} in the last minutes {were}"
        if seen.count
        else f"no {what} in the last minutes"
    )
    alarm = memory.alarm
    if alarm is not None:
        facts |= {"since_ms": alarm.since_ms, "share": alarm.bad / alarm.count, "evidence": alarm.evidence, "now": seen.evidence}
        words = (
            f"Since {moment(alarm.since_ms)}, {alarm.bad / alarm.count:.1%} of {alarm.count:,} {what} {were} when it was seen; {line}. "
            f"Evidence {figure(alarm.evidence)} of {alarm.needed:,.0f}: a false alarm once in {days:g} days or less often. "
            f"Now: {now}; it ends with evidence {seen.evidence:,.0f} of {CLEAR} that it is well."
        )
        return Finding(state="alarm", words=words, evidence=facts)
    if not seen.count:
        return Finding(state="waiting", words=f"{now[0].upper()}{now[1:]}.", evidence=facts)
    words = f"{now}; {line}. "
    if seen.evidence >= seen.needed * PERHAPS:
        bet = strongest(seen.bets)
        words += f"Perhaps more than that since {moment(bet.at)} ({bet.bad:,} of {bet.count:,}); evidence "
    else:
        words += "No sign of more: evidence "
    words += f"{seen.evidence:,.0f} of {seen.needed:,.0f}, a false alarm once in {days:g} days or less often."
    return Finding(state="ok", words=words, evidence=facts)
