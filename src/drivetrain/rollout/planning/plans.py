"""Plans: the presets, and reading one from what people write."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from drivetrain.errors import Invalid
from drivetrain.rollout.counting.measures import parse
from drivetrain.rollout.model import Guardrail, Plan, Role, Step

WHOLE = 10_000
MOST_STEPS, MOST_GUARDRAILS = 50, 60
MOST = 10**9
"""Of units and of seconds."""
DEFAULT = (
    Guardrail(measure="errors"),
    Guardrail(measure="latency_p95", tolerance=1.5),
    Guardrail(measure="invalid_output"),
    Guardrail(measure="predictions", tolerance=3.0),
)
"""What every preset watches. Slower by less than half as many more slow answers is not worth a rollback at night; and a better version may
well say something three times as often as the one before, but not ten times, nor nothing else."""

PRESETS: dict[str, Plan] = {
    "safe": Plan(
        name="safe",
        steps=(
            Step(share=100, min_units=100, min_seconds=300),
            Step(share=500, min_units=300, min_seconds=300),
            Step(share=2_500, min_units=1_000, min_seconds=600),
            Step(share=5_000, min_units=2_000, min_seconds=600),
            Step(share=WHOLE),
        ),
        guardrails=DEFAULT,
    ),
    "fast": Plan(
        name="fast",
        steps=(
            Step(share=1_000, min_units=100, min_seconds=60),
            Step(share=5_000, min_units=300, min_seconds=60),
            Step(share=WHOLE),
        ),
        guardrails=DEFAULT,
        warm_seconds=600.0,
    ),
    "shadow": Plan(
        name="shadow",
        steps=(
            Step(share=0, shadow=WHOLE, min_units=300, min_seconds=300),
            Step(share=500, min_units=300, min_seconds=300),
            Step(share=5_000, min_units=1_000, min_seconds=600),
            Step(share=WHOLE),
        ),
        guardrails=DEFAULT,
    ),
}
_GUARDRAIL = re.compile(
    r"(?P<measure>.+?)(?:@(?P<tolerance>\d+(?:\.\d+)?))?(?:!(?P<role>guardrail|signal))?(?:~(?P<certify>\d+(?:\.\d+)?))?"
)


def preset(name: str, /, **changes: Any) -> Plan:
    """The preset of this name, with changes to its fields. Raises `Invalid` for an unknown name."""
    if name not in PRESETS:
        raise Invalid(f"There is no plan {name!r}; there are: {', '.join(PRESETS)}. Or give the steps: 1,10,50,100", param="plan")
    return checked(msgspec.structs.replace(PRESETS[name], **changes))


def parse_plan(text: str | Mapping[str, Any]) -> Plan:
    """A plan from a preset's name, from shares in percent (`1,10,50,100`), or from a mapping: the fields of `Plan`, or `preset` and
    what differs from it. Raises `Invalid` with the reason."""
    if isinstance(text, str):
        if re.fullmatch(r"[\d., %]+", text):
            return preset("safe", name="custom", steps=_steps(text))
        return preset(text)
    given = dict(text)
    base = preset(str(given.pop("preset"))) if "preset" in given else PRESETS["safe"]
    for key, read in (("steps", _steps_given), ("guardrails", _guardrails_given)):
        if key in given:
            given[key] = read(given[key])
    unknown = given.keys() - {field.name for field in msgspec.structs.fields(Plan)}
    if unknown:
        raise Invalid(f"A plan has no field {min(unknown)!r}.", param="plan")
    try:
        return checked(msgspec.convert({**msgspec.to_builtins(base), **given}, Plan))
    except msgspec.ValidationError as error:
        raise Invalid(f"The plan cannot be read: {error}", param="plan") from error


def guardrail(text: str) -> Guardrail:
    """One guardrail as people write it: `errors`, `latency_p95@1.5` (tolerance), `cost!signal` (role), `label_error~1.2` (must be
    certified no worse than 1.2 times stable)."""
    found = _GUARDRAIL.fullmatch(text.strip())
    if found is None:
        raise Invalid(
            f"{text!r} is no guardrail. Write it as MEASURE, MEASURE@TOLERANCE, MEASURE!signal or MEASURE~RATIO.", param="guardrails"
        )
    return Guardrail(
        measure=found["measure"].strip(),
        tolerance=float(found["tolerance"] or 1.0),
        role=Role(found["role"] or "guardrail"),
        certify=float(found["certify"]) if found["certify"] else None,
    )


def with_guardrails(plan: Plan, more: Iterable[Guardrail]) -> Plan:
    """The plan with these guardrails too; one of the same measure takes the place of the plan's."""
    chosen: dict[str, Guardrail] = {one.measure: one for one in plan.guardrails}
    chosen.update({one.measure: one for one in more})
    return checked(msgspec.structs.replace(plan, guardrails=tuple(chosen.values())))


def checked(plan: Plan) -> Plan:
    """The plan, if it makes sense. Raises `Invalid`."""
    steps = plan.steps
    if not 1 <= len(steps) <= MOST_STEPS:
        raise Invalid(f"A plan has 1 to {MOST_STEPS} steps.", param="steps")
    if any(not 0 <= step.share <= WHOLE or not 0 <= step.shadow <= WHOLE for step in steps):
        raise Invalid("A step's share is between 0 and 100 %.", param="steps")
    if any(step.share == 0 and step.shadow == 0 for step in steps):
        raise Invalid("A step gives the canary some traffic, or repeats some on it (shadow).", param="steps")
    if any(later.share <= earlier.share for earlier, later in pairwise(steps)):
        raise Invalid("Each step gives the canary a larger share than the one before.", param="steps")
    if steps[-1].share != WHOLE and plan.auto_promote:
        raise Invalid("The last step is 100 %; or say auto_promote = false, to stop before it and wait for somebody.", param="steps")
    if not all(0 <= step.min_units <= MOST and 0 <= step.min_seconds <= MOST for step in steps):
        raise Invalid(f"A step's least units and seconds are not negative, and at most {MOST:,}.", param="steps")
    if not 1 <= len(plan.guardrails) <= MOST_GUARDRAILS:
        raise Invalid(f"A plan has 1 to {MOST_GUARDRAILS} guardrails: nothing goes live unwatched.", param="guardrails")
    if len({one.measure for one in plan.guardrails}) != len(plan.guardrails):
        raise Invalid("Each measure guards once.", param="guardrails")
    for one in plan.guardrails:
        parse(one.measure)
        if not 0.1 <= one.tolerance <= 100 or (one.certify is not None and not 1 < one.certify <= 100):
            raise Invalid(f"{one.measure}: the tolerance is between 0.1 and 100; a ratio to certify is above 1.", param="guardrails")
    if not 1e-6 <= plan.alpha <= 0.5:
        raise Invalid("alpha, the chance to take a good version back, is between 0.000001 and 0.5.", param="alpha")
    if not 0 <= plan.settle_seconds <= MOST or not 0 <= plan.warm_seconds <= MOST:
        raise Invalid(f"Times are not negative, and at most {MOST:,} seconds.", param="plan")
    return plan


def _steps_given(steps: Any) -> Any:
    """Steps as text or as a list of percents, as fields; anything else as it is."""
    if isinstance(steps, (list, tuple)) and steps and not any(isinstance(step, Mapping) for step in steps):
        steps = ",".join(str(step) for step in steps)
    return msgspec.to_builtins(_steps(steps)) if isinstance(steps, str) else steps


def _guardrails_given(guardrails: Any) -> Any:
    if isinstance(guardrails, str):
        guardrails = guardrails.split(",")
    if not isinstance(guardrails, (list, tuple)):
        return guardrails
    return [msgspec.to_builtins(guardrail(one)) if isinstance(one, str) else one for one in guardrails]


def _steps(text: str) -> tuple[Step, ...]:
    shares: Sequence[str] = [part.strip().rstrip("%").strip() for part in text.split(",") if part.strip()]
    try:
        percents = [float(share) for share in shares]
        if not all(0 <= percent <= 100 for percent in percents):
            raise Invalid("A step's share is between 0 and 100 %.", param="steps")
    except ValueError:
        raise Invalid(f"{text!r}: write the steps as percents: 1,10,50,100", param="steps") from None
    return tuple(
        Step(share=round(percent * 100), min_units=100 if percent < 100 else 0, min_seconds=60 if percent < 100 else 0)
        for percent in percents
    )
