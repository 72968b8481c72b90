"""People who come back: rollouts simulated request by request through the real tally and the real judge.

False alarms over whole ramps with a look at every moment at which there is one, and detection where counting each person once was blind.
Seeds are fixed; bounds of rates leave room for the error of the simulation (three standard errors).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import median

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from drivetrain.rollout.counting.batch import Batch, layout
from drivetrain.rollout.counting.tally import Tally
from drivetrain.rollout.judging.case import evidence
from drivetrain.rollout.ledger import Book, GuardState
from drivetrain.rollout.model import Guardrail, Phase, Step, Verdict
from tests.rollout.test_judge import rollout
from tests.rollout.test_tally import named

Floats = npt.NDArray[np.float64]
ALPHA = 0.05
EVERY = 50
"""Requests that a fold counts at once."""


class Simulated:
    """A ramp of a deployment whose people come back. `rates`: of each person, how often stable fails them."""

    def __init__(
        self,
        rng: np.random.Generator,
        rates: Floats,
        activity: Floats,
        *,
        shares: tuple[float, ...] = (0.1, 0.5),
        guards: int = 1,
        tolerance: float = 1.0,
    ) -> None:
        self.rng, self.rates = rng, rates
        self.activity = activity / activity.sum()
        self.shares, self.guards, self.tolerance = shares, guards, tolerance
        self.slots = layout([(guard, "count", tolerance, False) for guard in range(guards)])
        self.tally = Tally(self.slots, dict(enumerate(shares, 1)))
        self.place = rng.random(len(rates))
        self.canary_asked = 0
        self.asked = 0
        guardrails = tuple(Guardrail(measure=f"outcome{guard}", tolerance=tolerance) for guard in range(guards))
        steps = tuple(Step(share=round(share * 10_000), min_units=20) for share in shares)
        self.rollout = rollout(*guardrails, steps=(*steps, Step(share=10_000)))
        self.phases = tuple(Phase(number=i + 1, step=i, share=step.share, shadow=0, started_ms=0) for i, step in enumerate(steps))

    def verdicts(self, phase: int) -> list[Verdict]:
        book = Book(
            rollout=msgspec.structs.replace(self.rollout, phase=phase, step=phase - 1),
            phases=self.phases[:phase],
            guards=tuple(GuardState(number=guard, from_phase=1) for guard in range(self.guards)),
            tallied=self.tally.told(),
        )
        return [one.verdict for one in evidence(book, lambda _: True)[:-1]]

    def run(
        self, each: int | tuple[int, ...], chance: Callable[[Floats, npt.NDArray[np.bool_], npt.NDArray[np.int64]], Floats]
    ) -> int | None:
        """How many requests the canary had when it was taken back; None if it never was. `each`: requests in each step. `chance`: of each
        request to be bad, by stable's chance, whether the canary has it, and how many requests the canary has had."""
        for phase, share in enumerate(self.shares, 1):
            canary = self.place < share
            for _ in range(0, each if isinstance(each, int) else each[phase - 1], EVERY):
                who = self.rng.choice(len(self.rates), EVERY, p=self.activity)
                of_canary = canary[who]
                number = self.canary_asked + of_canary.cumsum()
                bad = self.rng.random((self.guards, EVERY)) < chance(self.rates[who], of_canary, number)
                self._count(phase, who, of_canary, bad)
                self.canary_asked += int(of_canary.sum())
                self.asked += EVERY
                if Verdict.harm in self.verdicts(phase):
                    return self.canary_asked
        return None

    def _count(self, phase: int, who: npt.NDArray[np.int64], canary: npt.NDArray[np.bool_], bad: npt.NDArray[np.bool_]) -> None:
        rows = []
        for i, unit in enumerate(who.tolist()):
            delta = self.slots[0].once(0) + sum(self.slots[1 + guard].once(int(bad[guard, i])) for guard in range(self.guards))
            rows.append((phase, int(not canary[i]), unit + 1, delta))
        self.tally.add(Batch(named(rows), requests={phase: EVERY}))
        if self.tally.due:
            self.tally.look()


def zipf(people: int) -> Floats:
    return np.array([1.0 / rank**1.2 for rank in range(1, people + 1)])


def people(rng: np.random.Generator, count: int, base: float, activity: str) -> tuple[Floats, Floats]:
    """How often each is failed (widely spread: one in some is failed often), and how active each is."""
    rates: Floats = np.clip(base * rng.gamma(0.5, 2.0, count), 0.0, 1.0)
    active: Floats = rng.permutation(zipf(count)) if activity == "zipf" else np.ones(count)
    return rates, active


def equal(rates: Floats, _canary: object, _number: object) -> Floats:
    return rates


def within(alarms: int, runs: int, of: float = ALPHA) -> bool:
    return alarms / runs <= of + 3 * math.sqrt(of * (1 - of) / runs)


@pytest.mark.parametrize("activity", ["equal", "zipf"])
@pytest.mark.parametrize(("count", "base"), [(20, 0.3), (60, 0.1), (60, 0.02), (300, 0.3), (300, 0.001), (10_000, 0.1)])
def test_equal_versions_are_rarely_taken_back(count: int, base: float, activity: str) -> None:
    alarms, runs = 0, 12
    for run in range(runs):
        rng = np.random.default_rng(1000 * count + run)
        simulated = Simulated(rng, *people(rng, count, base, activity), shares=(0.01, 0.05, 0.25, 0.5))
        alarms += simulated.run(500, equal) is not None
    assert alarms <= 2  # P(more of 12 at 5 %) = 2 %; all together are judged below


@pytest.mark.slow
@pytest.mark.parametrize("activity", ["equal", "zipf"])
@pytest.mark.parametrize("swing", [False, True], ids=["steady", "swinging-tenfold"])
def test_equal_versions_are_rarely_taken_back_in_many_rollouts(activity: str, swing: bool) -> None:
    """20 to 10,000 people, 0.1 to 30 % bad, outcomes that people share, three guardrails: at most 5 % of all."""
    alarms, runs = 0, 0
    for count in (20, 60, 300, 10_000):
        for base in (0.001, 0.02, 0.1, 0.3):
            for run in range(10):
                rng = np.random.default_rng(hash((count, round(1000 * base), run)) % 2**32)
                simulated = Simulated(rng, *people(rng, count, base, activity), shares=(0.01, 0.05, 0.25, 0.5), guards=3)

                def swinging(rates: Floats, _c: object, _n: object, of: Simulated = simulated) -> Floats:
                    found: Floats = np.clip(rates * 10 ** (0.5 * math.sin(of.asked / 300)), 0.0, 1.0)
                    return found

                alarms += simulated.run(500, swinging if swing else equal) is not None
                runs += 1
    assert within(alarms, runs), f"{alarms} of {runs}"


@pytest.mark.parametrize("activity", ["equal", "zipf"])
def test_a_canary_that_begins_to_fail_everybody_is_taken_back(activity: str) -> None:
    """60 people, of whom stable fails 10 %; the canary as many for 100 requests, then all. Counting each person once saw nothing."""

    def chance(rates: Floats, canary: npt.NDArray[np.bool_], number: npt.NDArray[np.int64]) -> Floats:
        return np.where(canary & (number > 100), 1.0, rates)

    after = []
    for run in range(15):
        rng = np.random.default_rng(run)
        rates: Floats = np.clip(0.1 * rng.gamma(2.0, 0.5, 60), 0.0, 1.0)
        simulated = Simulated(rng, rates, rng.permutation(zipf(60)) if activity == "zipf" else np.ones(60))
        found = simulated.run((500, 4_000), chance)  # it begins in the step of 50 %
        assert found is not None
        after.append(found - 100)
    assert median(after) <= (80 if activity == "equal" else 150)
    if activity == "equal":
        assert max(after) <= 150


@pytest.mark.slow
def test_a_slower_version_is_seen_by_people_who_come_back() -> None:
    """40 requests of each of 60 people in a step; 5 % of stable's answers are over the line, of the canary's 25 %, and half as many more
    are allowed."""

    def chance(rates: Floats, canary: npt.NDArray[np.bool_], _number: object) -> Floats:
        return np.where(canary, 5 * rates, rates)

    runs = 40
    seen = 0
    for run in range(runs):
        rng = np.random.default_rng(100 + run)
        simulated = Simulated(rng, np.full(60, 0.05), np.ones(60), tolerance=1.5)
        seen += simulated.run(60 * 40, chance) is not None
    assert seen >= 0.95 * runs


@pytest.mark.slow
def test_a_version_that_is_as_slow_as_allowed_is_rarely_taken_back() -> None:
    def chance(rates: Floats, canary: npt.NDArray[np.bool_], _number: object) -> Floats:
        return np.where(canary, 1.5 * rates, rates)

    alarms, runs = 0, 40
    for run in range(runs):
        rng = np.random.default_rng(200 + run)
        simulated = Simulated(rng, *people(rng, 60, 0.1, "equal"), tolerance=1.5)
        alarms += simulated.run(1_500, chance) is not None
    assert within(alarms, runs)


def test_three_people_are_blind_and_never_safe() -> None:
    rng = np.random.default_rng(5)
    simulated = Simulated(rng, np.full(6, 0.3), np.ones(6), shares=(0.5,))
    simulated.place = np.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.8])
    for _ in range(40):
        simulated._count(1, rng.choice(6, EVERY), np.repeat(False, EVERY), rng.random((1, EVERY)) < 0.3)
        simulated.tally.look()
    assert simulated.run(1_000, equal) is None
    assert simulated.verdicts(1) == [Verdict.not_enough_data]  # 15 of 20 units
    assert simulated.tally.told().looked[0].could < math.log(40)
