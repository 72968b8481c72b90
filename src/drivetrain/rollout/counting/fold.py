"""Counting of what decides: from lines of the spool, and from what people say, to the tally of a rollout.

What comes from the spool is counted in the transaction that moves the spool's offset, what comes from feedback in the one that marks it
as counted. Which guardrail an event counts for depends on nothing but the event and the rules, which are fixed before a phase begins: who
counts again gets the same numbers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from hashlib import blake2b

import msgspec
import sqlalchemy as sa

from drivetrain.feedback.model import Opinion
from drivetrain.feedback.service import Feedback, Said
from drivetrain.rollout.counting.batch import Batch, Firsts, Place
from drivetrain.rollout.counting.journal import Tallies
from drivetrain.rollout.counting.measures import Observation, Told
from drivetrain.rollout.counting.rules import Guard, RuleBook, Rules
from drivetrain.serving.gateway.capture import chosen
from drivetrain.store.events.counters import Counted
from drivetrain.store.sql import Database

CANARY, STABLE = 0, 1
MOST_NAMES = 20_000
MOST_ALIKE = 10_000
"""Kinds of answers of which it is remembered what they count for."""
GREATEST = 1 << 50
"""Of one value, in the steps of its measure: engines say what they like, and counters must not run over."""


class Counting:
    """The fold of rollouts (a `Fold` of `store.events.fold`), and the counting of feedback. One for each process: it keeps the tallies."""

    def __init__(self) -> None:
        self._rules = RuleBook()
        self._tallies = Tallies()
        self._names: dict[str, int] = {}

    def add(self, connection: sa.Connection, events: Sequence[Counted], lines: Callable[[], Sequence[bytes]]) -> None:
        for rollout in sorted({event.rollout for event in events} - {""}):
            rules = self._rules.of(connection, rollout)
            if rules is not None and (batch := observed(rules, events, lines, self._names)):
                self._tallies.add(connection, rules, batch)
        if len(self._names) > MOST_NAMES:
            self._names.clear()

    def keep(self, rollouts: Collection[str]) -> None:
        """Keep in memory what is known of these rollouts, and nothing of others: they have ended."""
        self._rules.keep(rollouts)
        self._tallies.keep(rollouts)

    def count_feedback(self, db: Database, feedback: Feedback, rollout: str) -> int:
        """Count what was said of the rollout's answers and has not been counted, or has changed since; how much that was."""
        with db.write() as connection:
            rules = self._rules.of(connection, rollout)
            said = feedback.take(connection, rollout) if rules is not None else []
            if rules is not None and (batch := heard(rules, said)):
                self._tallies.add(connection, rules, batch)
        return len(said)


class _Gathered:
    """Observations on the way to a batch."""

    def __init__(self) -> None:
        self.named: defaultdict[Place, defaultdict[int, int]] = defaultdict(_numbers)
        self.alone: defaultdict[Place, Counter[int]] = defaultdict(Counter)
        self.firsts: Firsts = []
        self.requests: Counter[int] = Counter()

    def batch(self) -> Batch:
        return Batch(
            {place: dict(rows) for place, rows in self.named.items() if rows},
            {place: some for place, some in self.alone.items() if some},
            self.firsts,
            {phase: count for phase, count in self.requests.items() if count},
        )


def _numbers() -> defaultdict[int, int]:
    return defaultdict(int)


class _Sight:
    """What is looked at of one variant in one phase, at hand for each of its lines. What a guardrail that looks at words and classes alone
    makes of them is remembered: nearly all answers are alike."""

    def __init__(self, rules: Rules, variant: str, phase: int, found: _Gathered) -> None:
        arm = rules.arm(variant)
        self.counts = arm is not None and rules.compares(phase)
        self.place = place = (phase, arm or 0)
        self.named, self.alone = found.named[place], found.alone[place]
        self.requests = 0
        self.repeats = rules.repeats(phase)
        self.nameless = bool(self.repeats) or rules.by_request
        guards = rules.observing(phase)
        self.discrete = [(guard, observe) for guard, observe in guards if guard.measure.discrete]
        others = [one for one in guards if not one[0].measure.discrete]
        self.lines = [(guard.slot.once(0), guard.slot.once(1), line) for guard, _ in others if (line := _latency_line(guard)) is not None]
        self.others = [(guard, observe, guard.fixed) for guard, observe in others]
        self.rest = [one for one in self.others if _latency_line(one[0]) is None]
        self.known: dict[tuple[object, ...], int] = {}

    def tell(self, event: Counted, key: tuple[object, ...]) -> int:
        """What guardrails on words and classes add for such an event."""
        seen = [(guard, observe(event, guard.fixed)) for guard, observe in self.discrete]
        delta = sum(_added(guard, one) for guard, one in seen if one is not None)
        if len(self.known) < MOST_ALIKE:
            self.known[key] = delta
        return delta


def observed(rules: Rules, events: Sequence[Counted], lines: Callable[[], Sequence[bytes]], names: dict[str, int]) -> Batch:
    """What these events say for the rollout. Every one of them passes here, so this does little for each. `names`: of units, and how they
    are kept, so that who comes back is not hashed again and again."""
    found = _Gathered()
    rollout = rules.id
    if any(guard.measure.needs_output for guard in rules.guards):
        decoder = msgspec.json.Decoder(Told)
        events = [decoder.decode(line) for event, line in zip(events, lines(), strict=True) if event.rollout == rollout]
    exposure = rules.slots[0].once(0)
    sights: dict[tuple[str, int], _Sight] = {}
    for counted in events:
        if counted.rollout != rollout:
            continue
        variant = counted.assigned or counted.variant
        sight = sights.get((variant, counted.phase))
        if sight is None:
            sight = sights[variant, counted.phase] = _Sight(rules, variant, counted.phase, found)
        if not sight.counts:
            continue
        # A repeated request is compared with itself, whoever asked: which of the two is worse says the same of each pair.
        name = "" if sight.nameless else counted.unit
        unit = 0
        if name:
            unit = names.get(name, 0)
            if not unit:
                unit = names[name] = hashed(name)
        if counted.exposure:
            if unit:
                sight.named[unit] += exposure
            elif not sight.repeats:
                sight.alone[exposure] += 1
            continue
        if (counted.shadow or sight.repeats) and not _compared(counted, sight.repeats):
            continue
        sight.requests += 1
        key = counted.error, counted.assigned, counted.wrong, counted.form, counted.said
        delta = sight.known.get(key, -1)
        if delta < 0:
            delta = sight.tell(counted, key)
        if counted.exposed and not sight.repeats:
            delta += exposure
        if counted.error or counted.assigned:
            others = sight.others
        else:
            others, latency = sight.rest, counted.latency_ms
            for good, bad, at in sight.lines:
                delta += bad if latency > at else good
        for guard, observe, fixed in others:
            observation = observe(counted, fixed)
            if observation is None:
                continue
            delta += _added(guard, observation)
            if unit and guard.slot.kind == "mean":
                found.firsts.append((guard.number, *sight.place, unit, counted.t, _amount(guard, observation)))
        if delta:
            if unit:
                sight.named[unit] += delta
            else:
                sight.alone[delta] += 1
    for (_, phase), sight in sights.items():
        found.requests[phase] += sight.requests
    return found.batch()


def _latency_line(guard: Guard) -> float | None:
    """The line of a guardrail on latencies, of which every success is on one side or the other; None of any other guardrail."""
    measure = guard.measure
    if measure.kind != "count" or not measure.name.startswith("latency"):
        return None
    return measure.line if measure.line is not None else guard.fixed.line


def _compared(event: Counted, repeats: float) -> bool:
    """Whether a request counts where requests are repeated: of stable's, those that were to be; the rest have nothing to be compared with.
    And repetitions count where there is nothing else."""
    return repeats > 0 and (bool(event.shadow) or chosen(repeats, event.id))


def heard(rules: Rules, said: Iterable[Said]) -> Batch:
    """What feedback and labels say for the rollout. Several may be about one request, so that one is a unit too. Who says another thing
    than before takes the former back."""
    found = _Gathered()
    corrected: set[int] = set()
    opinions: Counter[tuple[int, int]] = Counter()
    for one in said:
        about = one.opinion.about
        arm = rules.arm(about.variant) if about is not None else None
        if about is None or arm is None or not rules.compares(about.phase) or rules.repeats(about.phase):
            continue  # nobody saw the answers to repeated requests, so nobody speaks of them
        unit = hashed(about.unit if about.unit and not rules.by_request else one.opinion.request_id)
        for guard in rules.guards:
            now, before = _opinion(guard, one.opinion, about.phase), _opinion(guard, one.before, about.phase)
            if before is not None and before != now:
                corrected.add(guard.number)
            if now is not None:
                opinions[guard.number, about.phase] += before is None
                found.named[about.phase, arm][unit] += _added(guard, now)
            if before is not None:
                found.named[about.phase, arm][unit] -= _added(guard, before)
    batch = found.batch()
    batch.said, batch.corrected = True, sorted(corrected)
    batch.heard = [(*place, count) for place, count in opinions.items()]
    return batch


def _opinion(guard: Guard, opinion: Opinion | None, phase: int) -> Observation | None:
    observe = guard.measure.observe_opinion
    if opinion is None or observe is None or guard.from_phase is None or phase < guard.from_phase:
        return None
    return observe(opinion, guard.fixed.line)


def unheard(rules: Rules, waiting: Iterable[tuple[Opinion, int]]) -> dict[int, tuple[int, int]]:
    """Of each guardrail, how many opinions of the canary's answers and of stable's are not counted yet. `waiting`: opinions, and how many
    there are of the like."""
    found: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])
    for opinion, count in waiting:
        about = opinion.about
        arm = rules.arm(about.variant) if about is not None else None
        if about is None or arm is None or not rules.compares(about.phase) or rules.repeats(about.phase):
            continue
        for guard in rules.guards:
            if _opinion(guard, opinion, about.phase) is not None:
                found[guard.number][arm] += count
    return {guard: (counts[CANARY], counts[STABLE]) for guard, counts in found.items()}


def _added(guard: Guard, observation: Observation) -> int:
    """What an observation adds to a unit's row."""
    if guard.slot.kind == "mean":
        return guard.slot.once(_amount(guard, observation))
    return guard.slot.once(observation.bad, observation.way)


def _amount(guard: Guard, observation: Observation) -> int:
    return min(max(0, round(observation.value * guard.measure.scale)), GREATEST)


def hashed(unit: str) -> int:
    """The form in which a unit is kept: 64 bits of its blake2b, so that no name of a person is stored here; never 0."""
    digest = _begun()  # a copy is made in half the time of a new one
    digest.update(unit.encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest(), "big") or 1


_begun = blake2b(digest_size=8).copy
