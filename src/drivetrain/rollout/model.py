"""The nouns of rollouts: plan, step, guardrail, phase, evidence, decision."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct


class State(StrEnum):
    """Where a rollout is. `starting`: the canary has no ready replica yet. `promoted`: it has all traffic, and the version before is kept
    warm. The last three are ends: then only one variant is left."""

    starting = "starting"
    running = "running"
    paused = "paused"
    promoted = "promoted"
    closed = "closed"
    rolled_back = "rolled_back"
    aborted = "aborted"


OPEN = (State.starting, State.running, State.paused, State.promoted)


class Verdict(StrEnum):
    """What a guardrail says now. `blind`: with the units that it has, it could not see harm if there were any; `waiting`: labels come later
    for one version than for the other; `safe`: no harm at the step's least exposure; `certified`: surely no worse than the tolerance."""

    not_enough_data = "not_enough_data"
    blind = "blind"
    waiting = "waiting"
    no_measure = "no_measure"
    harm = "harm"
    safe = "safe"
    certified = "certified"
    mismatch = "mismatch"


class Role(StrEnum):
    """What harm to a guardrail does: a guardrail rolls the rollout back, a signal pauses it."""

    guardrail = "guardrail"
    signal = "signal"


class Step(Struct, frozen=True, kw_only=True):
    """`share`: the canary's traffic in parts of 10,000; `shadow`: the share of stable's requests repeated on it instead.

    The step may be left after `min_units` units were exposed to the canary in it and after `min_seconds` of running. People who come back
    count for up to five units, by their requests: see `rollout.looks`.
    """

    share: int
    min_units: int = 0
    min_seconds: float = 0.0
    shadow: int = 0


class Guardrail(Struct, frozen=True, kw_only=True):
    """One measured promise. `measure` is a name of `rollout.measures`; `tolerance` the ratio of bad units (or of means) to stable's that
    is still allowed: 1.0 means no worse. `line` is where a value begins to be bad; None: it is fixed from stable's own values.
    `certify`: advance only when certified no worse than `certify` times stable."""

    measure: str
    role: Role = Role.guardrail
    tolerance: float = 1.0
    line: float | None = None
    certify: float | None = None


class Plan(Struct, frozen=True, kw_only=True):
    """How a rollout goes. `alpha`: the chance that a whole rollout of a version that is no worse is taken back, over all guardrails.

    `warm_seconds`: how long the version before is kept ready after the last step. `settle_seconds`: the canary's first seconds of
    traffic, in which latencies do not count. `by`: whom the deployment assigns to a version, a person or each request; it is the
    deployment's, and taken from there."""

    name: str
    steps: tuple[Step, ...]
    guardrails: tuple[Guardrail, ...]
    alpha: float = 0.05
    settle_seconds: float = 10.0
    warm_seconds: float = 3600.0
    auto_promote: bool = True
    by: str = "person"


class Phase(Struct, frozen=True, kw_only=True):
    """A time of constant weights. Each event carries the number of its phase, so counts belong to the weights that produced them."""

    number: int
    step: int
    share: int
    shadow: int
    started_ms: int


class Count(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one guardrail saw of one arm (`canary`, `stable`) in one phase, of the units of one stratum: those that were stable's in the
    phase `since` before (0: that nobody knew; -1: that were the canary's already, whose coming back says nothing of the assignment).

    `units`, and those of them with something `bad`; `requests` and `bad_requests`. `weight` is Σ c and `weights` Σ c² of their requests,
    of which up to five count of each (c). Of means, `total` and `squares` of each unit's first value, in parts of the measure's own. `way`:
    of predictions, which kind."""

    phase: int
    arm: str
    since: int = 0
    way: int = 0
    units: int = 0
    bad: int = 0
    requests: int = 0
    bad_requests: int = 0
    weight: int = 0
    weights: int = 0
    total: float = 0.0
    squares: float = 0.0


class Looked(Struct, frozen=True, kw_only=True):
    """The looks of one guardrail: how many; the greatest log E, less what looking again and again costs; the last one, and in which
    `phase`; and what the next one could reach there, had the canary failed everybody whom it has."""

    number: int = 0
    best: float | None = None
    last: float = 0.0
    could: float = 0.0
    phase: int = 0


class Tallied(Struct, frozen=True, kw_only=True):
    """What was counted of a rollout. `people`: units that said who they are. `recent`: requests since the look before the last,
    of which `recent_new` were of people whom nobody knew. At `level` n, one in 2^n of the units is kept. `problem`: why nothing is counted
    any more."""

    counts: dict[int, list[Count]] = {}
    looked: dict[int, Looked] = {}
    people: int = 0
    recent: int = 0
    recent_new: int = 0
    level: int = 0
    problem: str = ""


class Evidence(Struct, frozen=True, kw_only=True):
    """A guardrail's case at one moment. `value` is the stronger one of its two e-values (of units as they come, and of units that come
    back; log scale is natural for it), `threshold` what either must reach: 2/α. For means of units as they come both are the difference's
    lower bound and the tolerance. `words` says it to people.

    Units are counted once in each phase; `…_requests` and `…_bad_requests` are all that they asked. `people`: how many units of equal
    weight would tell as much (effective number)."""

    measure: str
    role: Role
    verdict: Verdict
    words: str
    line: float | None = None
    value: float | None = None
    threshold: float | None = None
    canary_units: int = 0
    canary_bad: float = 0.0
    stable_units: int = 0
    stable_bad: float = 0.0
    canary_requests: int = 0
    canary_bad_requests: int = 0
    stable_requests: int = 0
    stable_bad_requests: int = 0
    people: float = 0.0
    certified_ratio: float | None = None


class Decision(Struct, frozen=True, kw_only=True):
    """One thing that was done to a rollout: who, when, why, on which numbers. `actor` is a user's name, or drivetrain.

    `action`: started, advanced, measuring (a new phase for the measures' sake), paused, resumed, held, promoted, rolled_back, aborted,
    closed."""

    id: str
    rollout_id: str
    at_ms: int
    actor: str
    action: str
    why: str
    step: int
    phase: int
    share: int
    evidence: tuple[Evidence, ...] = ()
    undo: str = ""


class Rollout(Struct, frozen=True, kw_only=True):
    """One rollout. `revision` grows with each change; whoever changes it names the revision it has seen.

    `elapsed_ms`: running time of the present step, summed from a monotonic clock; no wall clock decides anything."""

    id: str
    workspace_id: str
    workspace: str
    deployment_id: str
    deployment: str
    stable: str
    canary: str
    stable_name: str
    canary_name: str
    plan: Plan
    state: State
    step: int
    phase: int
    elapsed_ms: int
    revision: int
    why: str
    created_ms: int
    created_by: str
    ended_ms: int | None = None
    origin: dict[str, Any] = {}
    """What started it: {"retraining": id} for an automatic one."""

    @property
    def share(self) -> int:
        """The canary's share of the traffic now, in parts of 10,000."""
        if self.state in (State.promoted, State.closed):
            return 10_000
        if self.state in (State.starting, State.rolled_back, State.aborted):
            return 0
        return self.plan.steps[self.step].share


class CurvePoint(Struct, frozen=True, kw_only=True):
    """A guardrail's evidence at one moment. `guard` is its number in the plan, -1 the assignment; `value` as in `Evidence`, and of an
    e-value its natural logarithm."""

    guard: int
    at_ms: int
    phase: int
    verdict: str
    value: float | None
    threshold: float | None
    canary_units: int
    canary_bad: float
    stable_units: int
    stable_bad: float


class StepForecast(Struct, frozen=True, kw_only=True):
    """One step of a version that is no worse. `seconds`: how long it takes, None if it would never end; `units`: units of the new version
    in it (in a shadow step, requests that are repeated on it)."""

    share: int
    shadow: int
    seconds: float | None
    units: float


class Detection(Struct, frozen=True, kw_only=True):
    """When a worse version is seen, at the median. `step` as in `Rollout`, from 0; `seconds` and `units` (of the new version) from the
    start on; `bad`: bad answers that its users get until then, `extra`: how many of them the old version would not have given."""

    step: int
    share: int
    seconds: float
    units: float
    bad: float
    extra: float


class People(Struct, frozen=True, kw_only=True):
    """Who asks: `fresh` new people a second (requests that name nobody are one each), and `known` ones, who come back and ask `requests`
    times a second together."""

    fresh: float
    known: float = 0.0
    requests: float = 0.0

    def asked(self, seconds: float) -> float:
        """How often each known one has asked by then."""
        return self.requests * seconds / self.known if self.known > 0 else 0.0


class Forecast(Struct, frozen=True, kw_only=True):
    """`people`: of whom that holds. `seconds`: from the start to all traffic, for a version that is no worse; None: it does not get there.
    `detected`: None if a version that is `ratio` times worse gets through; then `missing` is how many units of the new version the plan's
    largest partial step would need in order to see it."""

    steps: tuple[StepForecast, ...]
    seconds: float | None
    units_per_second: float
    people: People
    base_rate: float
    ratio: float
    alpha: float
    detected: Detection | None
    missing: float | None
    words: str
