"""Counting of what decides: from lines of the spool, and from what people say, to the tally of a rollout.

What comes from the spool is counted in the transaction that moves the spool's offset, what comes from feedback in the one that marks it
as counted. Which guardrail an event counts for depends on nothing but the event and the rules, which are fixed before a phase begins: who
counts again gets the same numbers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from hashlib import blake2b

import msgspec
import sqlalchemy as sa

from drivetrain.rollout.journal import Tallies
from drivetrain.rollout.measures import Observation, Told
from drivetrain.rollout.rules import Guard, RuleBook, Rules
from drivetrain.rollout.tally import Batch, Firsts, Place
from drivetrain.serving.capture import chosen
from drivetrain.store.counters import Counted
from drivetrain.store.sql import Database
from drivetrain.tracking.feedback import Feedback, Opinion, Said

CANARY, STABLE = 0, 1
MOST_ALIKE = 10_000
"""Kinds of answers of which it is remembered what they count for."""


class Counting:
    """The fold of rollouts (see `drivetrain.store.fold.Fold`), and the counting of feedback. One for each process: it keeps the tallies."""

    def __init__(self) -> None:
        self._rules = RuleBook()
        self._tallies = Tallies()

    def wants(self, event: Counted) -> bool:
        return bool(event.rollout)

    def add(self, connection: sa.Connection, lines: Sequence[tuple[Counted, bytes]]) -> None:
        by_rollout: defaultdict[str, list[tuple[Counted, bytes]]] = defaultdict(list)
        for line in lines:
            by_rollout[line[0].rollout].append(line)
        for rollout in sorted(by_rollout):
            rules = self._rules.of(connection, rollout)
            if rules is None:
                self._tallies.forget(rollout)
            elif batch := observed(rules, by_rollout[rollout]):
                self._tallies.add(connection, rules, batch)

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

    def batch(self, *, said: bool = False, corrected: Iterable[int] = ()) -> Batch:
        named = {place: dict(rows) for place, rows in self.named.items() if rows}
        return Batch(named, dict(self.alone), self.firsts, dict(self.requests), said=said, corrected=sorted(corrected))


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
        self.repeats = rules.repeats(phase)
        self.nameless = bool(self.repeats) or rules.by_request
        guards = rules.observing(phase)
        self.discrete = [(guard, observe) for guard, observe in guards if guard.measure.discrete]
        self.others = [
            (guard, observe, guard.fixed, (guard.slot.once(0), guard.slot.once(1)) if guard.slot.kind == "count" else None)
            for guard, observe in guards
            if not guard.measure.discrete
        ]
        self.known: dict[tuple[object, ...], int] = {}

    def told(self, event: Counted) -> int:
        """What guardrails on words and classes add for this event."""
        key = event.error, event.assigned, event.wrong, event.form, event.said
        delta = self.known.get(key)
        if delta is None:
            seen = [(guard, observe(event, guard.fixed)) for guard, observe in self.discrete]
            delta = sum(_added(guard, one) for guard, one in seen if one is not None)
            if len(self.known) < MOST_ALIKE:
                self.known[key] = delta
        return delta


def observed(rules: Rules, lines: Iterable[tuple[Counted, bytes]]) -> Batch:
    """What these lines of the spool say for the rollout. Every line of a rollout passes here, so this does little for each."""
    found = _Gathered()
    decoder = msgspec.json.Decoder(Told)
    outputs = any(guard.measure.needs_output for guard in rules.guards)
    exposure = rules.slots[0].once(0)
    sights: dict[tuple[str, int], _Sight] = {}
    names: dict[str, int] = {}
    for counted, line in lines:
        variant = counted.assigned or counted.variant
        sight = sights.get((variant, counted.phase))
        if sight is None:
            sight = sights[variant, counted.phase] = _Sight(rules, variant, counted.phase, found)
        if not sight.counts:
            continue
        # A repeated request is compared with itself, whoever asked: which of the two is worse says the same of each pair.
        name = "" if sight.nameless else counted.unit
        if counted.exposure:
            if name:
                unit = names.get(name) or names.setdefault(name, hashed(name))
                sight.named[unit] += exposure
            elif not sight.repeats:
                sight.alone[exposure] += 1
            continue
        # Of stable's requests, those count that were to be repeated on the canary; the rest have nothing to be compared with.
        repeats = sight.repeats
        if (repeats and not counted.shadow and not chosen(repeats, counted.id)) or (counted.shadow and not repeats):
            continue
        found.requests[counted.phase] += 1
        event: Counted = decoder.decode(line) if outputs else counted
        unit = (names.get(name) or names.setdefault(name, hashed(name))) if name else 0
        delta = sight.told(event)
        for guard, observe, fixed, either in sight.others:
            observation = observe(event, fixed)
            if observation is None:
                continue
            if either is not None:
                delta += either[observation.bad]
            else:
                delta += _added(guard, observation)
                if unit and guard.slot.kind == "mean":
                    found.firsts.append((guard.number, *sight.place, unit, counted.t, _amount(guard, observation)))
        if delta:
            if unit:
                sight.named[unit] += delta
            else:
                sight.alone[delta] += 1
    return found.batch()


def heard(rules: Rules, said: Iterable[Said]) -> Batch:
    """What feedback and labels say for the rollout. Several may be about one request, so that one is a unit too. Who says another thing
    than before takes the former back."""
    found = _Gathered()
    corrected: set[int] = set()
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
                found.named[about.phase, arm][unit] += _added(guard, now)
            if before is not None:
                found.named[about.phase, arm][unit] -= _added(guard, before)
    return found.batch(said=True, corrected=corrected)


def _opinion(guard: Guard, opinion: Opinion | None, phase: int) -> Observation | None:
    observe = guard.measure.observe_opinion
    if opinion is None or observe is None or guard.from_phase is None or phase < guard.from_phase:
        return None
    return observe(opinion, guard.fixed.line)


def unheard(rules: Rules, opinions: Iterable[Opinion]) -> dict[int, tuple[int, int]]:
    """Of each guardrail, how many opinions of the canary's answers and of stable's are not counted yet."""
    found: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])
    for opinion in opinions:
        about = opinion.about
        arm = rules.arm(about.variant) if about is not None else None
        if about is None or arm is None:
            continue
        for guard in rules.guards:
            if _opinion(guard, opinion, about.phase) is not None:
                found[guard.number][arm] += 1
    return {guard: (counts[CANARY], counts[STABLE]) for guard, counts in found.items()}


def _added(guard: Guard, observation: Observation) -> int:
    """What an observation adds to a unit's row."""
    if guard.slot.kind == "mean":
        return guard.slot.once(_amount(guard, observation))
    return guard.slot.once(observation.bad, observation.way)


def _amount(guard: Guard, observation: Observation) -> int:
    return max(0, round(observation.value * guard.measure.scale))


def hashed(unit: str) -> int:
    """The form in which a unit is kept: 64 bits of its blake2b, so that no name of a person is stored here; never 0."""
    return int.from_bytes(blake2b(unit.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") or 1
