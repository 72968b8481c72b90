"""One guardrail's case: from what was counted to its evidence, in words. Pure: no I/O, no clock.

Harm is judged by two streams of evidence, which share its α in halves: units as they come (`statistics`: each unit's first bad event in a
phase, by stratum), and units that come back (`looks`). Before it is called safe it must have been able to see harm: else it is blind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from drivetrain.errors import Invalid
from drivetrain.rollout.counting.measures import Measure, nearest, parse
from drivetrain.rollout.judging import looks
from drivetrain.rollout.judging.statistics import (
    ArmSums,
    MeanPhase,
    PhaseCounts,
    certified_ratio,
    difference,
    log_e,
    log_e_certify,
    log_e_mismatch,
)
from drivetrain.rollout.ledger import Book
from drivetrain.rollout.model import Count, Evidence, Looked, Phase, Role, Verdict

STREAMS = 2
MISMATCH_ALPHA = 0.001
FEWEST = 20
"""Units of each arm that a guardrail must have seen before a step may be left, if the step wants so many at all."""
OTHERWISE = -1
"""A way that predictions do not go."""
WHOLE = 10_000
ASSIGNMENT = "assignment"
MOSTLY = 0.9
"""Share of bad requests of stable from which on there is little left to be worse."""
RETURNING = 1.2
"""Requests a unit from which on units are said to come back."""
_MOST = 700.0  # what exp() can hold


def share_of(phase: Phase) -> float:
    """The canary's share of what is compared: each repeated request meets its original, one to one."""
    return 0.5 if phase.share == 0 and phase.shadow else phase.share / WHOLE


class Strata:
    """The canary's share among the units of a phase, by what was known of them before: of those that were stable's at a share v, at w > v
    a part of (w − v)/(1 − v) comes to the canary; those that were the canary's stay."""

    def __init__(self, phases: Iterable[Phase]) -> None:
        self._shares = {phase.number: share_of(phase) for phase in phases}

    def share(self, count: Count) -> float:
        """0 or 1 where nothing is left to chance."""
        now = self._shares.get(count.phase, 0.0)
        if count.since < 0:
            return 1.0
        before = self._shares.get(count.since, 0.0) if count.since else 0.0
        return max(0.0, (now - before) / (1.0 - before)) if before < 1.0 else 0.0

    def told(self, counts: Iterable[Count]) -> list[Count]:
        """Those that say something of the versions."""
        return [count for count in counts if 0.0 < self._shares.get(count.phase, 0.0) < 1.0]

    def pairs(self, counts: Iterable[Count], amount: Callable[[Count], float]) -> list[PhaseCounts]:
        """An amount of both arms, by stratum."""
        found: dict[tuple[int, int], list[float]] = {}
        shares: dict[tuple[int, int], float] = {}
        for count in counts:
            share = self.share(count)
            if 0.0 < share < 1.0:
                key = count.phase, count.since
                shares[key] = share
                found.setdefault(key, [0.0, 0.0])[count.arm == "stable"] += amount(count)
        return [PhaseCounts(shares[key], canary, stable) for key, (canary, stable) in sorted(found.items())]


class Case:
    """The case of guardrail `number`; `alpha`: what it may spend."""

    def __init__(self, book: Book, number: int, alpha: float) -> None:
        self._book = book
        self._rollout = book.rollout
        self._guardrail = book.rollout.plan.guardrails[number]
        self._guard = book.guards[number]
        self._alpha = alpha
        self._need = math.log(STREAMS / alpha)
        self._strata = Strata(book.phases)
        self._told = self._strata.told(book.counts(number))
        self._looked = book.tallied.looked.get(number, Looked())
        self._here = {phase.number for phase in book.phases if phase.step == book.rollout.step}
        self._unheard = book.unheard.get(number)
        self._bad_way = 0

    def evidence(self, said: Callable[[str], bool]) -> Evidence:
        """`said`: whether anybody has given feedback of this name on the deployment."""
        try:
            measure = parse(self._guardrail.measure)
        except Invalid as error:
            return self._made(Verdict.no_measure, error.message)
        heard = bool(self._told)
        if measure.custom and not heard and not said(measure.custom):
            near = nearest(measure.custom)
            meant = f" Did you mean {near}?" if near is not None and near != measure.custom else ""
            words = f"{measure.name}: nobody has ever said anything of that name of this deployment's answers.{meant}"
            return self._made(Verdict.no_measure, words)
        if measure.source == "feedback" and heard and (odd := self._mismatch()) is not None:
            return odd
        return {"count": self._count, "mean": self._mean, "mix": self._mix}[measure.kind](measure)

    def _mismatch(self) -> Evidence | None:
        value = log_e_mismatch(self._strata.pairs(self._told, lambda count: count.units))
        if value < -math.log(MISMATCH_ALPHA):
            return None
        words = (
            f"{self._guardrail.measure}: the two versions do not get feedback in proportion to their traffic "
            f"({self._sum('canary', 'units'):,} and {self._sum('stable', 'units'):,} units), so what is said of them cannot be compared."
        )
        return self._made(Verdict.mismatch, words, value=_exp(value), threshold=1 / MISMATCH_ALPHA)

    # Yes or no.

    def _count(self, measure: Measure) -> Evidence:
        tolerance = self._guardrail.tolerance
        bad = self._strata.pairs(self._told, lambda count: count.bad)
        fresh = log_e(bad, tolerance=tolerance)
        value = self._stronger(fresh)
        certified = certified_ratio(bad, self._alpha) if not self._returning else None
        numbers: dict[str, Any] = {"value": _exp(value), "threshold": math.exp(self._need)}
        if value >= self._need:
            return self._made(Verdict.harm, f"{measure.name}: harm. {self._rates()} {self._sure(value)}", **numbers)
        could = log_e(self._strata.pairs(self._told, self._failing), tolerance=tolerance)
        if (unsure := self._unsure(measure, could)) is not None:
            return self._made(*unsure, certified=certified, **numbers)
        wanted = self._guardrail.certify if self._guardrail.certify is not None else tolerance if tolerance > 1.0 else None
        if wanted is not None and not self._returning and log_e_certify(bad, ratio=wanted) >= self._need:
            words = f"{measure.name}: certified no worse than {wanted:g} times {self._rollout.stable_name}. {self._rates()}"
            return self._made(Verdict.certified, words, certified=certified, **numbers)
        more = self._uncertain() if self._guardrail.certify is not None else ""
        return self._made(Verdict.safe, f"{measure.name}: no harm seen. {self._rates()}{more}", certified=certified, **numbers)

    def _failing(self, count: Count) -> float:
        """Bad units, had everybody whom the canary has in the present step met something bad."""
        return count.units if count.arm == "canary" and count.phase in self._here else count.bad

    def _uncertain(self) -> str:
        why = "; of people who come back, that cannot be certified" if self._returning else ""
        return f" It is not yet certain that it is no worse than {self._guardrail.certify:g} times {self._rollout.stable_name}{why}."

    # Means.

    def _mean(self, measure: Measure) -> Evidence:
        tolerance, scale = self._guardrail.tolerance, measure.scale
        found = difference(self._sums(scale), alpha=self._alpha / STREAMS, tolerance=tolerance)
        looked = self._looked.best if self._looked.best is not None else -math.inf
        stable = self._average("stable", scale)
        numbers: dict[str, Any] = {"mean": scale}
        if found is not None and stable is not None:
            # As a ratio to stable's mean, where there is one: then it can be drawn beside the tolerance.
            numbers["value"] = found.low / stable + tolerance if stable > 0 else found.low
            numbers["threshold"] = tolerance if stable > 0 else 0.0
        if (found is not None and found.low > 0) or looked >= self._need:
            by = f" {self._sure(looked)}" if looked >= self._need else ""
            return self._made(Verdict.harm, f"{measure.name}: harm. {self._averages(scale)}{by}", **numbers)
        if found is None and not self._sees:
            little = self._too_little(measure)
            words = f"{measure.name}: not enough data: {self._seen()}; means need 100 of each, or people who come back."
            return self._made(*(little or (Verdict.not_enough_data, words)), **numbers)
        if (unsure := self._unsure(measure, math.inf if found is not None else -math.inf)) is not None:
            return self._made(*unsure, **numbers)
        certify = self._guardrail.certify
        if certify is not None:
            bound = difference(self._sums(scale), alpha=self._alpha / STREAMS, tolerance=certify)
            if bound is not None and bound.high < 0:
                words = f"{measure.name}: certified no more than {certify:g} times {self._rollout.stable_name}'s. {self._averages(scale)}"
                return self._made(Verdict.certified, words, certified=certify, **numbers)
        return self._made(Verdict.safe, f"{measure.name}: no harm seen. {self._averages(scale)}", **numbers)

    def _sums(self, scale: int) -> list[MeanPhase]:
        by: dict[tuple[int, int], dict[str, ArmSums]] = {}
        shares: dict[tuple[int, int], float] = {}
        for count in self._told:
            share = self._strata.share(count)
            if 0.0 < share < 1.0:
                key = count.phase, count.since
                shares[key] = share
                by.setdefault(key, {})[count.arm] = ArmSums(count.units, count.total / scale, count.squares / scale / scale)
        nothing = ArmSums(0, 0.0, 0.0)
        return [MeanPhase(shares[key], arms.get("canary", nothing), arms.get("stable", nothing)) for key, arms in sorted(by.items())]

    def _average(self, arm: str, scale: int) -> float | None:
        units = self._sum(arm, "units")
        return math.fsum(count.total for count in self._told if count.arm == arm) / scale / units if units else None

    # Predictions.

    def _mix(self, measure: Measure) -> Evidence:
        by_way: dict[int, list[Count]] = {}
        for count in self._told:
            by_way.setdefault(count.way, []).append(count)
        logs = self._mixed(by_way, lambda count: count.bad)
        # Were it to say one thing to all: what stable says most, or what it hardly says.
        said = {way: sum(count.bad_requests for count in counts if count.arm == "stable") for way, counts in by_way.items()}
        ways = (max(said, key=said.__getitem__), min(said, key=said.__getitem__) if len(said) > 1 else OTHERWISE) if said else ()
        could = max((looks.together(self._mixed(*self._saying(by_way, way))) for way in ways), default=-math.inf)
        value = self._stronger(looks.together(logs))
        numbers: dict[str, Any] = {"value": _exp(value), "threshold": math.exp(self._need)}
        told = self._moved(by_way)
        if value >= self._need:
            return self._made(Verdict.harm, f"{measure.name}: harm. {told} {self._sure(value)}", **numbers)
        if (unsure := self._unsure(measure, could)) is not None:
            return self._made(*unsure, **numbers)
        return self._made(Verdict.safe, f"{measure.name}: no harm seen. {told}", **numbers)

    def _saying(self, by_way: dict[int, list[Count]], one: int) -> tuple[dict[int, list[Count]], Callable[[Count], float]]:
        """The same units, were the canary's of the present step to have all their requests go this way, and none another."""
        units = {(count.phase, count.since, count.arm): count.units for count in by_way[0]} if 0 in by_way else {}
        ways = by_way if one in by_way else {**by_way, one: [msgspec.structs.replace(count, way=one, bad=0) for count in by_way.get(0, ())]}

        def bad(count: Count) -> float:
            if count.arm == "stable" or count.phase not in self._here:
                return count.bad
            return units.get((count.phase, count.since, count.arm), 0) if count.way == one else 0

        return ways, bad

    def _mixed(self, by_way: dict[int, list[Count]], amount: Callable[[Count], float]) -> list[float]:
        """log E of each way's having become more common than is allowed, and of its having become as much rarer."""
        tolerance = max(self._guardrail.tolerance, 1.0)
        logs = []
        for counts in by_way.values():
            pairs = self._strata.pairs(counts, amount)
            logs += [log_e(pairs, tolerance=tolerance), log_e_certify(pairs, ratio=1.0 / tolerance)]
        return logs

    def _moved(self, by_way: dict[int, list[Count]]) -> str:
        """The kind of prediction whose share of the requests differs most. It is what is shown of all from here on."""
        requests = {arm: self._sum(arm, "requests") for arm in ("canary", "stable")}
        if not all(requests.values()):
            return "Nothing can be compared yet."
        shares = {
            way: [sum(count.bad_requests for count in counts if count.arm == arm) / requests[arm] for arm in ("canary", "stable")]
            for way, counts in by_way.items()
        }
        way, (canary, stable) = max(shares.items(), key=lambda item: abs(item[1][0] - item[1][1]))
        self._bad_way = way
        names = self._rollout.canary_name, self._rollout.stable_name
        return f"{self._way(way)}: {canary:.1%} of {names[0]}'s answers, {stable:.1%} of {names[1]}'s."

    def _way(self, way: int) -> str:
        known = self._guard.known
        if known is not None and known.edges:
            low = f"over {known.edges[way - 1]:.4g}" if way else ""
            high = f"up to {known.edges[way]:.4g}" if way < len(known.edges) else ""
            return " ".join(part for part in (low, high) if part).capitalize()
        if known is not None and way < len(known.common):
            return known.common[way]
        return "Others"

    # What it takes.

    def _stronger(self, fresh: float) -> float:
        return fresh if self._looked.best is None else max(fresh, self._looked.best)

    def _unsure(self, measure: Measure, could: float) -> tuple[Verdict, str] | None:
        """Why it cannot be called safe; None if it can. `could`: log E of units as they come, had the canary failed all that it has."""
        if (little := self._too_little(measure)) is not None:
            return little
        if could >= self._need or self._sees:
            return None
        canary, stable = (self._effective(arm) for arm in ("canary", "stable"))
        requests = self._sum("stable", "requests")
        if requests and self._sum("stable", "bad_requests") > MOSTLY * requests and measure.kind != "mix":
            words = (
                f"{measure.name}: blind. Nearly all of {self._rollout.stable_name}'s own are bad, so none of "
                f"{self._rollout.canary_name}'s could be worse. {self._rates()} Leave this guardrail out, or give it another line."
            )
            return Verdict.blind, words
        words = (
            f"{measure.name}: blind. Even if {self._rollout.canary_name} had failed everybody whom it has now, that could not be told from "
            f"chance: it is seen by {canary:,.0f} units and {self._rollout.stable_name} by {stable:,.0f} (effective number). It takes more "
            "people, a larger share, or rollouts by request (drivetrain deploy --unit request)."
        )
        return Verdict.blind, words

    def _too_little(self, measure: Measure) -> tuple[Verdict, str] | None:
        """What is missing, in words; None if there is enough for a step to end."""
        name = measure.name
        if self._guard.from_phase is None:
            stable = self._rollout.stable_name
            if (measure.warm and not settled(self._book)) or not measure.needs_line or self._line is not None:
                why = f"it begins to count when {self._rollout.canary_name} has settled."
                if measure.needs_answers:
                    why = f"it is not known yet what answers of {stable} are like."
                return Verdict.not_enough_data, f"{name}: not enough data: {why}"
            return Verdict.not_enough_data, f"{name}: not enough data: its line is not fixed yet, for want of answers of {stable}."
        wanted = max(1, min(FEWEST, self._rollout.plan.steps[self._rollout.step].min_units))
        here = [count for count in self._told if count.phase in self._here and not count.way]
        if all(sum(count.weight for count in here if count.arm == arm) >= wanted for arm in ("canary", "stable")):
            return None
        if self._unheard is not None:
            words = (
                f"{name}: waiting. Opinions are compared at equal age, so those of {self._unheard[0]:,} answers of "
                f"{self._rollout.canary_name} and {self._unheard[1]:,} of {self._rollout.stable_name} wait for the slower version's."
            )
            return Verdict.waiting, words
        of = {"event": "answered", "feedback": "judged or labelled"}[measure.source]
        why = ""
        if not self._sum("canary", "units"):
            why = " The deployment must keep outputs for it (capture)." if measure.needs_output else ""
        return Verdict.not_enough_data, f"{name}: not enough data: {self._seen()} {of}; it takes {wanted} of each.{why}"

    @property
    def _sees(self) -> bool:
        """Whether a look at the present step could see harm."""
        return self._looked.phase in self._here and self._looked.could >= self._need

    @property
    def _line(self) -> float | None:
        return self._guardrail.line if self._guardrail.line is not None else self._guard.line

    @property
    def _returning(self) -> bool:
        units = self._sum("canary", "units") + self._sum("stable", "units")
        return self._sum("canary", "requests") + self._sum("stable", "requests") > RETURNING * units

    def _sum(self, arm: str, field: str) -> int:
        way = self._bad_way if field in ("bad", "bad_requests") else 0
        return sum(getattr(count, field) for count in self._told if count.arm == arm and count.way == way)

    def _effective(self, arm: str) -> float:
        """Of the present phase."""
        here = [count for count in self._told if count.arm == arm and count.phase == self._rollout.phase and not count.way]
        return looks.effective(sum(count.weight for count in here), sum(count.weights for count in here))

    def _seen(self) -> str:
        names = self._rollout.canary_name, self._rollout.stable_name
        return f"{self._sum('canary', 'units'):,} units of {names[0]} and {self._sum('stable', 'units'):,} of {names[1]}"

    def _rates(self) -> str:
        def part(arm: str, name: str) -> str:
            units, bad = self._sum(arm, "units"), self._sum(arm, "bad")
            told = f"{name} {bad:,} of {units:,} units{f' ({100 * bad / units:.3g} %)' if units else ''}"
            if self._returning and (requests := self._sum(arm, "requests")):
                failed = self._sum(arm, "bad_requests")
                told += f", {failed:,} of {requests:,} requests ({100 * failed / requests:.3g} %)"
            return told

        line = f" (over {self._line:.4g})" if self._line is not None else ""
        between = "; " if self._returning else ", "
        return f"Bad{line}: {part('canary', self._rollout.canary_name)}{between}{part('stable', self._rollout.stable_name)}."

    def _averages(self, scale: int) -> str:
        shown = [
            f"{value:.4g}" if value is not None else "nothing" for value in (self._average(arm, scale) for arm in ("canary", "stable"))
        ]
        return f"On average {self._rollout.canary_name} {shown[0]}, {self._rollout.stable_name} {shown[1]}; {self._seen()}."

    def _sure(self, value: float) -> str:
        tolerance = self._guardrail.tolerance
        than = (
            f"more than {tolerance:g} times {self._rollout.stable_name}" if tolerance != 1.0 else f"worse than {self._rollout.stable_name}"
        )
        return f"Were it not {than}, chance alone would show this at most once in {_large(_exp(value))} rollouts."

    def _made(
        self,
        verdict: Verdict,
        words: str,
        *,
        value: float | None = None,
        threshold: float | None = None,
        certified: float | None = None,
        mean: int = 0,
    ) -> Evidence:
        canary, stable = (
            (self._average("canary", mean), self._average("stable", mean))
            if mean
            else (self._sum("canary", "bad"), self._sum("stable", "bad"))
        )
        return Evidence(
            measure=self._guardrail.measure,
            role=self._guardrail.role,
            verdict=verdict,
            words=words,
            line=self._line,
            value=value,
            threshold=threshold,
            canary_units=self._sum("canary", "units"),
            canary_bad=canary or 0.0,
            stable_units=self._sum("stable", "units"),
            stable_bad=stable or 0.0,
            canary_requests=self._sum("canary", "requests"),
            canary_bad_requests=self._sum("canary", "bad_requests"),
            stable_requests=self._sum("stable", "requests"),
            stable_bad_requests=self._sum("stable", "bad_requests"),
            people=round(self._effective("canary") + self._effective("stable"), 1),
            certified_ratio=certified,
        )


def assignment(book: Book) -> Evidence:
    """Whether units come to the versions in the proportion of the traffic: without that, nothing can be compared."""
    strata = Strata(book.phases)
    told = [count for count in strata.told(book.counts(-1)) if 0.0 < strata.share(count) < 1.0]
    counts = strata.pairs(told, lambda count: count.units)
    canary, stable = (sum(count.units for count in told if count.arm == arm) for arm in ("canary", "stable"))
    value = log_e_mismatch(counts)
    expected = math.fsum(one.share * (one.canary + one.stable) for one in counts)
    seen = f"{canary:,} of {canary + stable:,} units came to {book.rollout.canary_name}; by the shares it would be about {expected:,.0f}."
    if value >= -math.log(MISMATCH_ALPHA):
        verdict = Verdict.mismatch
        words = f"Mismatch: {seen} Something sends units to the versions by another rule, so they cannot be compared."
    elif canary + stable == 0:
        verdict, words = Verdict.not_enough_data, "No unit has come yet."
    else:
        verdict, words = Verdict.safe, seen
        if book.rollout.plan.by == "request":
            words += " Each request is a unit of its own, as the deployment says."
        elif not book.tallied.people:
            words += " No request says whose it is (header X-Drivetrain-Unit, or the body's user), so each counts as a unit of its own."
        if book.tallied.level:
            words += f" There are so many that one in {2**book.tallied.level} of those who come back is counted, chosen by their hash."
    return Evidence(
        measure=ASSIGNMENT,
        role=Role.signal,
        verdict=verdict,
        words=words,
        value=_exp(value),
        threshold=1 / MISMATCH_ALPHA,
        canary_units=canary,
        stable_units=stable,
    )


def settled(book: Book) -> bool:
    """Whether the version has had traffic for so long that its latencies are its own."""
    rollout = book.rollout
    return rollout.step > 0 or rollout.elapsed_ms >= rollout.plan.settle_seconds * 1000


def evidence(book: Book, said: Callable[[str], bool]) -> tuple[Evidence, ...]:
    """Each guardrail's case, and the assignment's."""
    plan = book.rollout.plan
    sharing = {role: max(1, sum(one.role is role for one in plan.guardrails)) for role in Role}
    cases = (Case(book, number, plan.alpha / sharing[one.role]) for number, one in enumerate(plan.guardrails))
    return (*(case.evidence(said) for case in cases), assignment(book))


def _exp(value: float) -> float:
    return math.exp(min(value, _MOST))


def _large(odds: float) -> str:
    return f"{odds:,.0f}" if odds < 1e6 else "more than a million"


def exposed(book: Book) -> int:
    """Units that came to the canary in the present step, with up to five requests of each; where all its requests are repeated ones,
    requests that were repeated."""
    here = {phase.number for phase in book.phases if phase.step == book.rollout.step}
    if book.rollout.plan.steps[book.rollout.step].share == 0:
        return max((_came(counts, here) for counts in book.tallied.counts.values()), default=0)
    return _came(book.counts(-1), here)


def _came(counts: Sequence[Count], phases: set[int]) -> int:
    return sum(count.weight for count in counts if count.arm == "canary" and count.phase in phases and not count.way)
