"""The tally against a naive count of the same lines, in any order and in any pieces; and within its bound of memory."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.rollout.counting import tally as tallies
from drivetrain.rollout.counting.batch import Batch, layout
from drivetrain.rollout.counting.tally import ARMS, NEW, OURS, Tally
from drivetrain.rollout.model import Tallied

SLOTS = layout([(0, "count", 1.0, False), (1, "mean", 1.0, False), (2, "mix", 2.0, False), (3, "count", 1.0, True)])
SHARES = {1: 0.1, 2: 0.3, 3: 0.6, 4: 1.0}


class Line(NamedTuple):
    """A request of a unit (0: of nobody) in a phase: whether it was bad, a value, and which way it went."""

    phase: int
    unit: int
    bad: bool
    value: int
    way: int
    at: int

    @property
    def arm(self) -> int:
        """By the unit's place between 0 and 1; who belongs to the canary stays."""
        place = (self.unit * 2654435761 % 997) / 997 if self.unit else (self.at * 40503 % 997) / 997
        return int(place >= SHARES[self.phase])

    @property
    def delta(self) -> int:
        _, errors, mean, mix, _ = SLOTS
        return SLOTS[0].once(0) + errors.once(self.bad) + mean.once(self.value) + mix.once(1, self.way)


def batch(lines: Sequence[Line]) -> Batch:
    alone: defaultdict[tuple[int, int], Counter[int]] = defaultdict(Counter)
    for one in lines:
        if not one.unit:
            alone[one.phase, one.arm][one.delta] += 1
    made = Batch(
        named([(one.phase, one.arm, one.unit, one.delta) for one in lines if one.unit]),
        dict(alone),
        [(1, one.phase, one.arm, one.unit, one.at, one.value) for one in lines if one.unit],
        dict(Counter(one.phase for one in lines)),
    )
    return Batch.unpack(made.pack())  # as it is read again


def named(rows: Iterable[tuple[int, int, int, int]]) -> dict[tuple[int, int], dict[int, int]]:
    """Phase, arm, unit and what is added, as a batch has it."""
    found: defaultdict[tuple[int, int], dict[int, int]] = defaultdict(dict)
    for phase, arm, unit, delta in rows:
        found[phase, arm][unit] = found[phase, arm].get(unit, 0) + delta
    return dict(found)


def naive(lines: Sequence[Line]) -> Counter[tuple[object, ...]]:
    """(field, guard, way, phase, since, arm) → number, by looking at all lines of each unit."""
    found: Counter[tuple[object, ...]] = Counter()
    by_unit: dict[object, list[Line]] = {}
    for number, line in enumerate(lines):
        by_unit.setdefault(line.unit or ("alone", number), []).append(line)
    for some in by_unit.values():
        for phase in {line.phase for line in some}:
            here = sorted((line for line in some if line.phase == phase), key=lambda line: (line.at, line.value))
            earlier = {line.phase: line.arm for line in some if line.phase < phase}
            since = NEW if not earlier else max(earlier) if all(earlier.values()) else OURS
            arm = ARMS[here[0].arm]
            for guard, bad in ((-1, 0), (0, sum(line.bad for line in here))):
                found["units", guard, 0, phase, since, arm] += 1
                found["bad", guard, 0, phase, since, arm] += bad > 0
                found["requests", guard, 0, phase, since, arm] += len(here)
                found["bad_requests", guard, 0, phase, since, arm] += bad
                found["weight", guard, 0, phase, since, arm] += min(5, len(here))
                found["weights", guard, 0, phase, since, arm] += min(5, len(here)) ** 2
            found["total", 1, 0, phase, since, arm] += here[0].value
            found["squares", 1, 0, phase, since, arm] += here[0].value ** 2
            for way in {line.way for line in here}:
                found["bad", 2, way, phase, since, arm] += 1
                found["bad_requests", 2, way, phase, since, arm] += sum(line.way == way for line in here)
    return found


def counted(told: Tallied) -> Counter[tuple[object, ...]]:
    found: Counter[tuple[object, ...]] = Counter()
    for guard, counts in told.counts.items():
        for one in counts:
            for field in ("units", "bad", "requests", "bad_requests", "weight", "weights", "total", "squares"):
                found[field, guard, one.way, one.phase, one.since, one.arm] += int(getattr(one, field))
    return found


def agree(told: Tallied, lines: Sequence[Line]) -> None:
    right, found = naive(lines), counted(told)
    assert {key: found[key] for key in right if right[key]} == {key: value for key, value in right.items() if value}
    for field, guard, way, phase, since, arm in found:
        if (guard, field) in {(0, "units"), (0, "bad"), (2, "bad")}:
            key = field, guard, way, phase, since, arm
            assert found[key] == right[key]


lines_of = st.lists(
    st.builds(
        Line,
        phase=st.integers(1, 3),
        unit=st.integers(0, 12),
        bad=st.booleans(),
        value=st.integers(0, 50),
        way=st.integers(0, 3),
        at=st.integers(0, 100),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=150)
@given(lines_of, st.randoms(use_true_random=False))
def test_in_any_order_and_in_any_pieces(lines: list[Line], drawn: random.Random) -> None:
    shuffled = lines[:]
    drawn.shuffle(shuffled)
    tally = Tally(SLOTS, SHARES)
    while shuffled:
        some, shuffled = shuffled[: (n := drawn.randrange(1, 20))], shuffled[n:]
        tally.add(batch(some))
        if drawn.random() < 0.3:
            tally.look()
        if drawn.random() < 0.3:  # as after a restart
            again = Tally(SLOTS, SHARES)
            again.unpack(tally.pack())
            assert again.told() == tally.told()
            tally = again
    agree(tally.told(), lines)


def drawn_lines(count: int, units: int, seed: int) -> list[Line]:
    drawn = random.Random(seed)
    return [
        Line(1 + i * 3 // count, 1 + drawn.randrange(units), drawn.random() < 0.1, drawn.randrange(9), drawn.randrange(3), i)
        for i in range(count)
    ]


def test_memory_has_a_bound_and_what_is_kept_is_counted_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "MOST", 500)
    lines = drawn_lines(6_000, 2_000, 4)
    tally = Tally(SLOTS, SHARES)
    for start in range(0, len(lines), 400):
        tally.add(batch(lines[start : start + 400]))
    told = tally.told()
    assert told.level >= 3
    assert sum(one.units for one in told.counts[-1]) <= 500
    agree(told, [line for line in lines if not line.unit & ((1 << told.level) - 1)])
    other = Tally(SLOTS, SHARES)
    other.add(batch(lines[::-1]))
    assert counted(other.told()) == counted(told)


def test_looks_see_people_who_come_back_and_fail() -> None:
    """Everybody has failed once before; from then on the canary fails all."""
    tally = Tally(SLOTS, {1: 0.5})
    drawn = random.Random(2)
    units = range(1, 61)
    canary = {unit for unit in units if drawn.random() < 0.5}

    def ask(bad_canary: float) -> None:
        rows = []
        for _ in range(100):
            unit = drawn.choice(units)
            arm = int(unit not in canary)
            bad = drawn.random() < (0.1 if arm else bad_canary)
            rows.append((1, arm, unit, SLOTS[0].once(0) + SLOTS[1].once(bad)))
        tally.add(Batch(named(rows), requests={1: 100}))
        if tally.due:
            tally.look()

    for _ in range(20):
        ask(0.1)
    before = tally.told().looked[0]
    assert before.best is not None
    assert before.best < 3.7
    assert before.could > 5  # it could see that
    for _ in range(4):
        ask(1.0)
    after = tally.told().looked[0]
    assert after.best is not None
    assert after.best > 5


def test_few_people_can_show_nothing() -> None:
    tally = Tally(SLOTS, {1: 0.5})
    for _ in range(10):
        rows = [(1, unit % 2, unit, SLOTS[0].once(0) + SLOTS[1].once(0)) for unit in range(1, 5)] * 30
        tally.add(Batch(named(rows), requests={1: 120}))
        tally.look()
    assert tally.told().looked[0].could < 0
