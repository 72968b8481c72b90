"""The checks of errors, latency and quality: what they read, and what they find with what they remember."""

from __future__ import annotations

from drivetrain.monitoring import accuracy, cohorts, shares
from drivetrain.monitoring.kinds import Errors, Finding, Latency, Quality
from drivetrain.store.events.counters import bucket
from drivetrain.store.events.lookup import Events
from drivetrain.store.ids import first_id
from drivetrain.store.sql import Database

MINUTE_MS, DAY_MS = 60_000, 86_400_000
SLOW = 0.05
"""What may be slower than the line, which is a 95th percentile."""
RENEWED_MS = 60 * MINUTE_MS
"""How long a line that was measured holds."""
SETTLED_MS = 10_000
"""How long a label may take to find its answer: it is taken when it has, and labels are taken in the order in which they came."""
_IDLE_MS = 10 * MINUTE_MS
MOST_LABELS = 20_000
"""What one look reads; the next goes on there."""


def errors(events: Events, deployment: str, config: Errors, memory: shares.Memory, now_ms: int) -> Finding:
    """Are surely more than `share` of the requests errors?"""
    shares.against(memory, config.share)
    since = shares.begin(memory, now_ms)
    found = events.by_minute(deployment, since_ms=since, until_ms=now_ms + 1, measures=("requests", "errors."))
    minutes = [
        shares.Minute(at, counted.get("requests", 0), sum(value for name, value in counted.items() if name.startswith("errors.")))
        for at, counted in found.items()
    ]
    seen = shares.take(memory, minutes, now_ms=now_ms, needed=config.false_alarm_days * shares.DAY_MINUTES)
    line = f"the line is {config.share:.1%}"
    return shares.finding(memory, seen, what="requests", were="were errors", line=line, days=config.false_alarm_days)


def latency(events: Events, deployment: str, config: Latency, memory: shares.Memory, now_ms: int) -> Finding:
    """Are surely more than 5 % of the answers slower than the line? A histogram's bucket that the line divides is on its good side."""
    line = config.p95_ms
    if line is None:
        line = _measured(events, deployment, config, memory, now_ms)
        if line is None:
            memory.line_ms = None
            return Finding(state="waiting", words="There is no day before to compare with; set p95_ms for a line of your own.")
    else:
        memory.line_at_ms = 0
    shares.against(memory, SLOW, line)
    since = shares.begin(memory, now_ms)
    found = events.by_minute(deployment, since_ms=since, until_ms=now_ms + 1, measures=("latency.",))
    minutes = [
        shares.Minute(at, sum(counted.values()), sum(value for name, value in counted.items() if int(name[8:]) > bucket(line)))
        for at, counted in found.items()
    ]
    seen = shares.take(memory, minutes, now_ms=now_ms, needed=config.false_alarm_days * shares.DAY_MINUTES)
    told = "set" if config.p95_ms is not None else f"{config.times:g} times the 95th percentile of the day before"
    return shares.finding(
        memory,
        seen,
        what="answers",
        were=f"took longer than {line:,.0f} ms ({told})",
        line=f"{SLOW:.0%} may",
        days=config.false_alarm_days,
    )


def _measured(events: Events, deployment: str, config: Latency, memory: shares.Memory, now_ms: int) -> float | None:
    """`times` the 95th percentile of the day before, measured once an hour; not during an alarm, whose slowness would become the line."""
    if memory.line_ms is not None and memory.line_at_ms and (memory.alarm is not None or now_ms - memory.line_at_ms < RENEWED_MS):
        return memory.line_ms
    until = (now_ms - shares.SHOWN_MS) // MINUTE_MS * MINUTE_MS
    day = events.total([deployment], since_ms=now_ms - DAY_MS, until_ms=until)
    if day.latency_p95_ms is None or day.requests < config.least:
        return None
    memory.line_at_ms = now_ms
    return config.times * day.latency_p95_ms


def quality(db: Database, deployment: str, variant: str, config: Quality, memory: accuracy.Memory, *, until_ms: int) -> Finding:
    """Have the labelled answers of this version surely become worse, by the labels that came before `until_ms`?"""
    labels = cohorts.arrived(db, deployment, variant, after=memory.cursor, until_ms=until_ms, most=MOST_LABELS)
    accuracy.take(config, memory, labels)
    if not labels and memory.cursor < first_id(until_ms - _IDLE_MS):
        memory.cursor = first_id(until_ms)  # so that labels of other versions are not read again and again
    return accuracy.finding(config, memory)
