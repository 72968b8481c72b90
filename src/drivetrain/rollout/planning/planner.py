"""What to expect of a plan before it starts: how long a good version takes, and when a worse one is seen.

People are counted, not requests: those who are known come back at a steady rate, and new ones come at another. When a worse version is
seen is the median of the moment at which one of the two streams of evidence crosses its threshold (see `case`), found from the counts to
be expected: of units as they come by the e-process of `statistics`, of people who come back by a look at what `looks` would then see.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

from drivetrain.rollout.judging import looks
from drivetrain.rollout.judging.case import STREAMS
from drivetrain.rollout.judging.looks import CAP, Alike
from drivetrain.rollout.judging.statistics import PhaseCounts, log_e, log_e_certify
from drivetrain.rollout.model import Detection, Forecast, People, Plan, Role, Step, StepForecast
from drivetrain.rollout.planning.pace import meetable
from drivetrain.words import span

WHOLE = 10_000
LONGEST = 10 * 365 * 86_400.0
"""Seconds after which the planner calls it never."""
OFTEN = 40
"""Requests of a person from which on more change little of what a look sees."""
GROWS = 1.05


def shared_alpha(plan: Plan) -> float:
    """What each guardrail may spend of the plan's α."""
    return plan.alpha / max(1, sum(one.role is Role.guardrail for one in plan.guardrails))


def plan_rollout(
    plan: Plan,
    *,
    units_per_second: float,
    base_rate: float,
    ratio: float = 2.0,
    alpha: float | None = None,
    known: float = 0.0,
    requests_per_second: float = 0.0,
) -> Forecast:
    """Forecast a plan, for a guardrail under which a share `base_rate` of the old version's answers is bad.

    `units_per_second`: new people (or requests that name nobody); `known`: people who come back, with `requests_per_second` together.
    `alpha`: what that guardrail may spend; by default its share of the plan's.
    """
    alpha = alpha if alpha is not None else shared_alpha(plan)
    tolerance = min((one.tolerance for one in plan.guardrails if one.role is Role.guardrail), default=1.0)
    certify = max((one.certify for one in plan.guardrails if one.certify is not None), default=None)
    need = math.log(STREAMS / alpha)
    people = People(fresh=units_per_second, known=known, requests=requests_per_second)
    good = _Traffic(people, base_rate, 1.0)
    worse = _Traffic(people, min(base_rate, 1.0 / ratio), ratio)
    steps: list[StepForecast] = []
    detected: Detection | None = None
    passed: float | None = 0.0
    before = 0.0
    for number, step in enumerate(plan.steps):
        if step.share == WHOLE:
            steps.append(StepForecast(share=step.share, shadow=step.shadow, seconds=0.0, units=0.0))
            continue
        seconds = _least(step, people)
        if certify is not None and seconds is not None:
            seconds = _extended(good, step, seconds, need, certify)
        if detected is None and passed is not None:
            at = _crossing(worse, step, LONGEST if seconds is None else seconds, need, tolerance)
            if at is not None:
                detected = worse.detection(number, step, passed + at, before + worse.canary(step, at), at)
        spent = seconds if seconds is not None else 0.0
        units = good.canary(step, spent)
        steps.append(StepForecast(share=step.share, shadow=step.shadow, seconds=seconds, units=units))
        good.spend(step, spent)
        worse.spend(step, spent)
        before += units
        passed = None if passed is None or seconds is None else passed + seconds
    last = max((step for step in plan.steps if step.share != WHOLE), key=lambda step: step.share, default=None)
    missing = _missing(last, base_rate, ratio, need, tolerance) if detected is None and last is not None else None
    found = Forecast(
        steps=tuple(steps),
        seconds=passed if plan.auto_promote else None,
        units_per_second=units_per_second,
        people=people,
        base_rate=base_rate,
        ratio=ratio,
        alpha=alpha,
        detected=detected,
        missing=missing,
        words="",
    )
    return Forecast(**{name: getattr(found, name) for name in Forecast.__struct_fields__ if name != "words"}, words=_words(found, plan))


class _Traffic:
    """Expected counts: of these people's answers the old version spoils a share `base` and the new one `ratio` times that."""

    def __init__(self, people: People, base: float, ratio: float) -> None:
        self.people = people
        self.base = base
        self._ratio = ratio
        self._answers = 0.0
        self._asked = 0.0
        self._share = 0.0
        self._phases: list[PhaseCounts] = []

    def canary(self, step: Step, seconds: float) -> float:
        """Units of the new version in a step of so many seconds."""
        return counted(self.people, (step.share or step.shadow) / WHOLE, seconds)

    def answers(self, step: Step, seconds: float) -> float:
        """Requests that the new version answers for somebody."""
        return (self.people.fresh + self.people.requests) * step.share / WHOLE * seconds

    def detection(self, number: int, step: Step, seconds: float, units: float, here: float) -> Detection:
        """What has happened when it is seen, `here` seconds into this step."""
        bad = (self._answers + self.answers(step, here)) * self.base * self._ratio
        return Detection(step=number, share=step.share, seconds=seconds, units=units, bad=bad, extra=bad * (1.0 - 1.0 / self._ratio))

    def after(self, step: Step, seconds: float) -> list[PhaseCounts]:
        return [*self._phases, *self._here(step, seconds)]

    def spend(self, step: Step, seconds: float) -> None:
        self._phases += self._here(step, seconds)
        self._answers += self.answers(step, seconds)
        self._asked += (self.people.fresh + self.people.requests) * seconds
        if seconds and step.share:
            self._share = step.share / WHOLE

    def _here(self, step: Step, seconds: float) -> list[PhaseCounts]:
        """Bad units of this step: of new people, and of the known ones who are not the canary's already."""
        people, share = self.people, step.share / WHOLE
        if step.share == 0:  # each repeated request meets its original
            repeated = (people.fresh + people.requests) * step.shadow / WHOLE * seconds
            return [PhaseCounts(0.5, repeated * self.base * self._ratio, repeated * self.base)]
        fresh = people.fresh * seconds
        found = [PhaseCounts(share, fresh * share * self.base * self._ratio, fresh * (1.0 - share) * self.base)]
        moved, left = (share - self._share) / (1.0 - self._share), people.known * (1.0 - self._share)
        if left > 0 and 0.0 < moved < 1.0:
            often = people.asked(seconds)
            canary, stable = (left * part * -math.expm1(-often * rate) for part, rate in ((moved, self._bad), (1.0 - moved, self.base)))
            found.append(PhaseCounts(moved, canary, stable))
        return found

    @property
    def _bad(self) -> float:
        return min(1.0, self.base * self._ratio)

    def looked(self, step: Step, seconds: float, tolerance: float) -> float:
        """log E of a look at the whole step, less what it spends, were all counts as they are to be expected."""
        often = self.people.asked(seconds)
        if not often or not step.share:
            return -math.inf
        share = step.share / WHOLE
        units = [
            *_alike(self.people.known * share, often, self._bad, canary=True),
            *_alike(self.people.known * (1.0 - share), often, self.base, canary=False),
        ]
        requests = self._asked + (self.people.fresh + self.people.requests) * seconds
        number = 1.0 + min(requests / 100, 20.0 + math.log(max(1.0, requests / 2_000)) / math.log(GROWS))
        # The whole step is one of three windows.
        return looks.log_e(units, share, tolerance=tolerance) - math.log(3.0 * number * (number + 1.0))


def counted(people: People, share: float, seconds: float) -> float:
    """What a step of so many seconds counts: of each known person up to `CAP` requests, of new ones one."""
    return share * (people.known * _capped(people.asked(seconds)) + people.fresh * seconds)


def _capped(often: float) -> float:
    """E min(n, `CAP`) of a Poisson number n with this mean."""
    left, chance = 1.0, math.exp(-often)
    found = 0.0
    for n in range(1, CAP + 1):
        left -= chance
        found += left
        chance *= often / n
    return max(0.0, found)


def _alike(count: float, often: float, rate: float, *, canary: bool) -> list[Alike]:
    """So many people, who have asked `often` times each, by how many of their answers were bad."""
    n = max(1, min(OFTEN, round(often)))
    came = count * (-math.expm1(-often) if often < 1 else 1.0)
    weight, found = min(n, CAP), []
    for bad in range(n + 1):
        some = came * math.comb(n, bad) * rate**bad * (1.0 - rate) ** (n - bad)
        if some > 1e-6:
            found.append(Alike(weight, bad / n, some if canary else 0.0, 0.0 if canary else some))
    return found


def people_of(requests: Sequence[str], per_second: float, *, by_request: bool = False) -> People:
    """Who asks, from the units of a deployment's newest requests, of which so many come in a second.

    How many of the next requests are of people whom nobody knows is estimated by the share of those who were seen once (Good, The
    population frequencies of species and the estimation of population parameters, Biometrika 40, 1953, equation 9).
    """
    seen = Counter(unit for unit in requests if unit and not by_request)
    named = seen.total()
    if not named:
        return People(fresh=per_second)
    once = sum(count == 1 for count in seen.values())
    of_named = per_second * named / len(requests)
    fresh = per_second - of_named + of_named * once / named
    return People(fresh=fresh, known=float(len(seen) - once), requests=per_second - fresh)


def _least(step: Step, people: People) -> float | None:
    """How long the step takes, by its least units and seconds."""
    share = (step.share or step.shadow) / WHOLE
    if step.min_units == 0 or counted(people, share, step.min_seconds) >= step.min_units:
        return step.min_seconds
    if not people.known:
        seconds = step.min_units / (people.fresh * share) if people.fresh else None
    else:
        seconds = _first(lambda at: counted(people, share, at) >= step.min_units, step.min_seconds, LONGEST)
    return seconds if seconds is None or seconds < LONGEST else None


def _extended(traffic: _Traffic, step: Step, seconds: float, need: float, certify: float) -> float | None:
    """The same, but not before the new version is certified no worse than `certify` times the old one."""
    return _first(lambda at: _likely(traffic.after(step, at), need, lambda some: log_e_certify(some, ratio=certify)), seconds, LONGEST)


def _crossing(traffic: _Traffic, step: Step, seconds: float, need: float, tolerance: float) -> float | None:
    """When in this step the evidence of harm crosses, in either stream; None if not within it."""
    fresh = _first(lambda at: _likely(traffic.after(step, at), need, lambda some: log_e(some, tolerance=tolerance)), 0.0, seconds)
    returning = _first(lambda at: traffic.looked(step, at, tolerance) >= need, 0.0, seconds) if traffic.people.known else None
    return min((at for at in (fresh, returning) if at is not None), default=None)


def _missing(step: Step, base: float, ratio: float, need: float, tolerance: float) -> float | None:
    """Units of the new version that this step alone would need."""
    traffic = _Traffic(People(fresh=1.0), min(base, 1.0 / ratio), ratio)
    found = _crossing(traffic, step, LONGEST, need, tolerance)
    return traffic.canary(step, found) if found is not None else None


def _likely(phases: Sequence[PhaseCounts], need: float, evidence: Callable[[Sequence[PhaseCounts]], float]) -> bool:
    """Whether the evidence has more likely than not crossed `need` by the time of these expected counts.

    As for a Brownian motion with a drift, of which P(first passage of b by t) = Φ((m − b)/s) + exp(2bm/s²) Φ((−b − m)/s) with mean m and
    variance s² at t (Siegmund, Sequential Analysis, 1985, equation 3.15); s² is that of Poisson counts, by the delta method.
    """
    mean = evidence(phases)
    if mean >= need:
        return True
    variance = 0.0
    for i, phase in enumerate(phases):
        more = PhaseCounts(phase.share, phase.canary + 1, phase.stable), PhaseCounts(phase.share, phase.canary, phase.stable + 1)
        for other, count in zip(more, (phase.canary, phase.stable), strict=True):
            variance += (evidence([*phases[:i], other, *phases[i + 1 :]]) - mean) ** 2 * count
    if variance <= 0.0:
        return False
    spread = math.sqrt(variance)
    return _normal((mean - need) / spread) + math.exp(min(0.0, 2 * need * mean / variance + _log_normal((-need - mean) / spread))) >= 0.5


def _normal(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


def _log_normal(z: float) -> float:
    """log Φ(z), also far out in the lower tail."""
    return math.log(_normal(z)) if z > -30.0 else -z * z / 2.0 - math.log(-z * math.sqrt(2.0 * math.pi))


def _first(holds: Callable[[float], bool], low: float, high: float) -> float | None:
    """The first moment between `low` and `high` from which on `holds`, which once true stays so; None if there is none."""
    if holds(low):
        return low
    if not holds(high):
        return None
    for _ in range(100):
        middle = (low + high) / 2
        if holds(middle):
            high = middle
        else:
            low = middle
        if high - low <= 1e-4 * high:
            break
    return high


def _words(found: Forecast, plan: Plan) -> str:
    """The forecast, said to people."""
    return f"{_pace(found, plan)} {_harm(found)}" if found.people.fresh + found.people.known > 0 else _pace(found, plan)


def _pace(found: Forecast, plan: Plan) -> str:
    stuck = next((i for i, one in enumerate(found.steps) if one.seconds is None), None)
    people = found.people
    if people.fresh + people.known <= 0 and stuck is not None:
        return "Without traffic it stays in its first step: steps wait for units."
    if stuck is not None and people.known:
        step = plan.steps[stuck]
        most = CAP * people.known * (step.share or step.shadow) / WHOLE
        return (
            f"It does not get beyond step {stuck + 1} by itself: it waits for {step.min_units:,} units, and the people who come back "
            f"({_count(people.known)}) are {_count(most)} at most, while new ones hardly come. {_way_out(plan, people)}"
        )
    if stuck is not None:
        return f"It does not get beyond step {stuck + 1} by itself: what that step waits for takes more than ten years of this traffic."
    if not plan.auto_promote:
        total = math.fsum(one.seconds or 0.0 for one in found.steps)
        return f"A version that is no worse waits for somebody after {span(total)}."
    return f"A version that is no worse has all traffic after {span(found.seconds or 0.0)}."


def _way_out(plan: Plan, people: People) -> str:
    options = meetable(plan, people.known)
    by_request = "let each request be a unit (drivetrain deploy --unit request)."
    return f"They could meet {options}; or {by_request}" if options else f"So few can meet no plan by people: {by_request}"


def _harm(found: Forecast) -> str:
    times = f"{found.ratio:g} times"
    rates = f"({_percent(found.base_rate)} → {_percent(min(1.0, found.base_rate * found.ratio))} bad)"
    if found.base_rate <= 0:
        return "Nothing is bad now, so there is no rate to be worse than: give one, to see when a worse version is caught."
    at = found.detected
    if at is not None:
        share = f"{at.share / 100:g} % of the traffic" if at.share else "its shadow, before anybody gets an answer of it"
        got = f", when {_count(at.bad)} units have had a bad answer of it, {_count(at.extra)} more than without it" if at.share else ""
        return f"One that is {times} worse {rates} is seen at {share}, after {span(at.seconds)} and {_count(at.units)} units{got}."
    more = f" Its largest step but the last would need {_count(found.missing)} units of the new version." if found.missing else ""
    return f"One that is {times} worse {rates} gets through unseen more often than not.{more}"


def _percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"


def _count(value: float) -> str:
    return f"{math.ceil(value):,}" if value < 100 else f"about {float(f'{value:.2g}'):,.0f}"
