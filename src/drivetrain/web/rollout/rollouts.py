"""Rollouts: may this version go on? The road, each guardrail's evidence, what was decided and why, and the button that takes it back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse
from markupsafe import Markup, escape

from drivetrain.errors import DrivetrainError, Invalid, NotFound
from drivetrain.identity.model import Context
from drivetrain.lineage.model import Thing
from drivetrain.platform import Platform
from drivetrain.rollout.judging.case import exposed
from drivetrain.rollout.model import OPEN, Decision, Evidence, Guardrail, Role, Rollout, Verdict
from drivetrain.rollout.model import State as Stage
from drivetrain.rollout.planning.plans import parse_plan
from drivetrain.serving.model import Variant
from drivetrain.web import format as fmt
from drivetrain.web import naming
from drivetrain.web.render import HEADERS, Pages, viewer
from drivetrain.web.rollout import acts as rollout_acts
from drivetrain.web.rollout import summary as rollout_summary
from drivetrain.web.rollout.curves import curves
from drivetrain.web.rollout.road import needs, road
from drivetrain.web.rollout.views import Arm, ArmCount, DecisionRow, Guard, RolloutPage, Side, Told
from drivetrain.web.views import Pair, State

Viewer = Annotated[Context, Depends(viewer)]
_VERDICTS: dict[Verdict, State] = {
    Verdict.not_enough_data: State("Not yet", "idle", "Not enough data for a verdict; harm would still be acted on"),
    Verdict.blind: State("Blind", "warn", "With the people whom it has, it could not see harm if there were any, so the rollout waits"),
    Verdict.waiting: State("Waiting", "idle", "What people say comes later for one version, and is compared at equal age"),
    Verdict.no_measure: State("No measure", "warn", "Nothing is measured by this name, so the rollout waits"),
    Verdict.harm: State("Harm", "bad", "The evidence has reached its threshold"),
    Verdict.safe: State("Safe", "good", "Enough was seen for this step, and no harm in it"),
    Verdict.certified: State("Certified", "good", "Surely no worse than the tolerance"),
    Verdict.mismatch: State("Mismatch", "bad", "The versions do not get the units that they should, so nothing can be compared"),
}
_RISING = 10.0
"""Odds at which one begins to watch."""

_SAID: dict[str, tuple[str, str]] = {
    "started": ("Started", "busy"),
    "advanced": ("Advanced to {share}", "good"),
    "measuring": ("Began to measure", "idle"),
    "paused": ("Paused at {share}", "warn"),
    "resumed": ("Resumed at {share}", "busy"),
    "held": ("Held at {share}", "warn"),
    "promoted": ("Gave it all traffic", "good"),
    "rolled_back": ("Took it back", "bad"),
    "aborted": ("Aborted", "bad"),
    "closed": ("Closed", "idle"),
}


def view(platform: Platform, ctx: Context, rollout_id: str, *, problem: str = "") -> RolloutPage:
    book = platform.rollouts.book(ctx, rollout_id)
    rollout = book.rollout
    judged = platform.rollouts.evidence(ctx, rollout_id)
    decided = platform.rollouts.decisions(ctx, rollout_id)
    variants = rollout_summary.variants_of(platform, ctx, rollout)
    names = {
        "stable": rollout_summary.arm_name(variants, rollout.stable, rollout.stable_name),
        "canary": rollout_summary.arm_name(variants, rollout.canary, rollout.canary_name),
    }
    colours = fmt.colours([names["stable"], names["canary"]])
    units = exposed(book)
    found = [_guard(i, one, _guardrail(rollout, i), names, colours) for i, one in enumerate(judged) if i < len(rollout.plan.guardrails)]
    assignment = next((_guard(-1, one, None, names, colours) for one in judged[len(rollout.plan.guardrails) :]), None)
    acts = rollout_acts.acts(rollout, names["stable"], names["canary"])
    return RolloutPage(
        id=rollout.id,
        deployment=rollout.deployment,
        deployment_url=naming.address(rollout.deployment),
        state=rollout_summary.state(rollout),
        why=rollout.why,
        stable=_arm("stable", rollout, variants, names, colours),
        canary=_arm("canary", rollout, variants, names, colours),
        road=road(rollout, units=units, needs=needs(rollout.plan)),
        guards=found,
        mismatch=assignment,
        decisions=[_decision(one, undo=rollout_summary.undo(one, decided)) for one in reversed(decided)],
        acts=[act for act in acts if act.key not in ("rollback", "abort")],
        back=next((act for act in acts if act.key in ("rollback", "abort")), None),
        facts=_facts(rollout, platform.lineage.subjects(ctx, Thing("rollout", rollout.id), "began", "retraining")),
        notes=_notes(rollout),
        started_ms=rollout.created_ms,
        ended_ms=rollout.ended_ms,
        open=rollout.state in OPEN,
        problem=problem,
        commands=[f"drivetrain rollout status {rollout.deployment} --watch"],
    )


def _guardrail(rollout: Rollout, number: int) -> Guardrail:
    return rollout.plan.guardrails[number]


def _arm(side: Side, rollout: Rollout, variants: Mapping[str, Variant], names: Mapping[str, str], colours: Mapping[str, int]) -> Arm:
    variant = variants.get(rollout.canary if side == "canary" else rollout.stable)
    share = rollout.share / 10_000
    return Arm(
        name=names[side],
        url=naming.model_address(variant.repo, variant.version) if variant else "",
        colour=colours[names[side]],
        share=share if side == "canary" else 1 - share,
        note="the new version" if side == "canary" else "the version that serves",
    )


def _guard(number: int, one: Evidence, guardrail: Guardrail | None, names: Mapping[str, str], colours: Mapping[str, int]) -> Guard:
    mean = one.measure.endswith("_mean")

    def arm(side: Side, units: int, bad: float, requests: int, failed: int) -> ArmCount:
        if mean:
            figure: Markup | str = fmt.number(bad) if units else fmt.DASH
            note = f"mean of {fmt.plural(units, 'unit')}"
        elif guardrail is None:
            figure, note = fmt.number(units), fmt.plural(units, "unit").partition(" ")[2]
        elif requests > units:  # people who come back
            figure = fmt.percent_figure(failed / requests)
            note = f"{fmt.number(failed)} of {fmt.plural(requests, 'request')}; {fmt.number(bad)} of {fmt.plural(units, 'unit')}"
        else:
            figure = fmt.percent_figure(bad / units if units else None)
            note = f"{fmt.number(bad)} of {fmt.plural(units, 'unit')}"
        return ArmCount(names[side], colours[names[side]], figure, note)

    return Guard(
        number=number,
        name=rollout_summary.measure_name(one.measure),
        measure=one.measure,
        signal=one.role is Role.signal,
        state=_VERDICTS[one.verdict],
        words=_words(one),
        level=_level(one, mean),
        tolerance=_tolerance(one, guardrail),
        arms=(
            arm("canary", one.canary_units, one.canary_bad, one.canary_requests, one.canary_bad_requests),
            arm("stable", one.stable_units, one.stable_bad, one.stable_requests, one.stable_bad_requests),
        ),
    )


def _words(one: Evidence) -> str:
    """What the judge says. Where all is well the numbers stand beside it already."""
    text = one.words.removeprefix(f"{one.measure}: ")
    if one.verdict is Verdict.safe and not one.measure.endswith("_mean") and (one.value or 0.0) >= _RISING:
        text = "Not harm yet, but the odds are rising."
    elif one.verdict is Verdict.safe:
        text = text.partition(". Bad")[0].partition(". On average")[0].rstrip(".") + "."
    return text[:1].upper() + text[1:]


def odds(value: float) -> str:
    """An e-value as odds, 3.2 : 1 or 1 : 10: what a bet against `no worse` has won. As the charts say it."""
    if value < 1:
        return f"1\u202f:\u202f{fmt.number(float(f'{1 / max(value, 1e-300):.2g}'), 2)}"
    return f"{fmt.number(float(f'{value:.2g}'), 2)}\u202f:\u202f1"


def _level(one: Evidence, mean: bool) -> str:
    if one.value is None or one.threshold is None:
        return ""
    if mean:
        return f"at least {fmt.number(one.value, 3)}×, harm above {fmt.number(one.threshold, 3)}×"
    return f"odds {odds(one.value)}, harm at {odds(one.threshold)}"


def _tolerance(one: Evidence, guardrail: Guardrail | None) -> str:
    words = []
    if one.line is not None:
        words.append(f"line {fmt.number(one.line, 3)}{' ms' if one.measure.startswith(('latency', 'ttft')) else ''}")
    if guardrail is not None and guardrail.tolerance != 1.0:
        words.append(f"up to {fmt.number(guardrail.tolerance, 3)}× is allowed")
    if guardrail is not None and guardrail.certify is not None:
        words.append(f"must be certified below {fmt.number(guardrail.certify, 3)}×")
    if one.certified_ratio is not None:
        words.append(f"surely below {fmt.number(one.certified_ratio, 3)}×")
    return ", ".join(words)


def _decision(one: Decision, *, undo: str) -> DecisionRow:
    said, tone = _SAID.get(one.action, (one.action.capitalize(), "idle"))
    share = fmt.percent(one.share / 10_000)
    return DecisionRow(
        id=one.id,
        at_ms=one.at_ms,
        actor=one.actor,
        automatic=one.actor == "drivetrain",
        what=said.format(share=share),
        tone=tone,
        why=one.why,
        share=share,
        undo=undo,
        told=[Told(rollout_summary.measure_name(it.measure), _VERDICTS[it.verdict], _words(it)) for it in one.evidence],
    )


def _facts(rollout: Rollout, began_by: list[str]) -> list[Pair]:
    plan = rollout.plan
    guardrails = [one for one in plan.guardrails if one.role is Role.guardrail]
    found = [
        Pair("Plan", plan.name),
        Pair("Chance of a false alarm", f"at most {fmt.percent(plan.alpha)} over the whole rollout"),
        Pair("Shared by", fmt.plural(len(guardrails), "guardrail")),
        Pair("Counted by", "request" if plan.by == "request" else "person; up to five requests of each count for a step"),
        Pair("Settling", f"latencies do not count in the canary's first {fmt.span(plan.settle_seconds)}"),
        Pair("Kept warm", f"{fmt.span(plan.warm_seconds)} after the last step"),
    ]
    for retraining in began_by:
        url = f"{naming.address(rollout.deployment)}/retraining#{retraining}"
        found.append(Pair("Started by", f"retraining {fmt.short(retraining)}", url=url))
    found.append(Pair("Id", rollout.id, mono=True))
    return found


def _notes(rollout: Rollout) -> list[str]:
    notes = []
    if rollout.state is Stage.promoted:
        notes.append("The version before is still warm: taking it back is a matter of milliseconds until this rollout is closed.")
    if not rollout.plan.guardrails:
        notes.append("This plan has no guardrails: nothing takes this version back by itself.")
    return notes


def routes(platform: Platform, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)

    def show(request: Request, ctx: Context, rollout_id: str, *, problem: str = "", status: int = 200) -> Response:
        shown = view(platform, ctx, rollout_id, problem=problem)
        title = f"{shown.stable.name} → {shown.canary.name}"
        path = [("Deployments", "/deployments"), (shown.deployment, shown.deployment_url), (title, naming.rollout_address(rollout_id))]
        return pages.page(
            request, "rollout/rollout.html", path=path, status=status, view=shown, data=f"/data{naming.rollout_address(rollout_id)}"
        )

    @router.get("/rollouts/{rollout_id}")
    def rollout(request: Request, ctx: Viewer, rollout_id: str) -> Response:
        return show(request, ctx, rollout_id)

    @router.get("/data/rollouts/{rollout_id}")
    def data(ctx: Viewer, rollout_id: str) -> Response:
        return JSONResponse(curves(platform, ctx, rollout_id), headers=HEADERS)

    @router.post("/rollouts/{rollout_id}/{act}")
    def act(
        request: Request,
        ctx: Viewer,
        rollout_id: str,
        act: str,
        why: Annotated[str, Form()] = "",
        step: Annotated[str, Form()] = "",
    ) -> Response:
        verbs: dict[str, Callable[..., Any]] = {
            "pause": platform.rollouts.pause,
            "resume": platform.rollouts.resume,
            "abort": platform.rollouts.abort,
            "rollback": platform.rollouts.rollback,
            "close": platform.rollouts.close,
        }
        try:
            if act == "promote":
                platform.rollouts.promote(ctx, rollout_id, step=_number(step), why=why.strip())
            elif act in verbs:
                verbs[act](ctx, rollout_id, why=why.strip())
            else:
                raise Invalid(f"A rollout can be paused, resumed, promoted, aborted, rolled back and closed, not {act[:40]!r}.")
        except NotFound:
            raise
        except DrivetrainError as error:
            return show(request, ctx, rollout_id, problem=error.message, status=error.status)
        return RedirectResponse(naming.rollout_address(rollout_id), status_code=303, headers=HEADERS)

    @router.get("/deployments/{name:path}/forecast")
    def forecast(ctx: Viewer, name: str, plan: str = "safe") -> Response:
        try:
            words = platform.rollouts.forecast(ctx, parse_plan(plan), deployment=name).words
        except Invalid as error:
            words = error.message
        return PlainTextResponse(str(escape(words)), headers=HEADERS)

    @router.post("/deployments/{name:path}/roll-out")
    def start(
        request: Request,
        ctx: Viewer,
        name: str,
        source: Annotated[str, Form()],
        plan: Annotated[str, Form()] = "safe",
        why: Annotated[str, Form()] = "",
    ) -> Response:
        made = platform.rollouts.start(ctx, name, source, parse_plan(plan), why=why.strip())
        return RedirectResponse(naming.rollout_address(made.id), status_code=303, headers=HEADERS)

    return router


def _number(text: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or len(text) > 4:
        raise Invalid("A step is a number, counted from 1.", param="step")
    return int(text)
