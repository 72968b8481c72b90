"""Retraining: when a deployment's model is trained again, what that made, and whether it beat what serves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse

from drivetrain.errors import DrivetrainError, Invalid, NotFound
from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.retraining.model import MOST_FAILURES, OPEN, STAGES, Comparison, Policy, Retraining, Stage
from drivetrain.retraining.model import State as Standing
from drivetrain.rollout.model import State as Moving
from drivetrain.web import format as fmt
from drivetrain.web import naming
from drivetrain.web.monitoring.distributions import interval_bar
from drivetrain.web.render import HEADERS, Pages, viewer
from drivetrain.web.rollout.views import Compared, RetrainingPage, RetrainingRow, StageMark
from drivetrain.web.views import Pair, State

Viewer = Annotated[Context, Depends(viewer)]
_STATES: dict[Standing, tuple[str, Any]] = {
    Standing.queued: ("Queued", "idle"),
    Standing.running: ("Running", "busy"),
    Standing.waiting: ("Waiting", "busy"),
    Standing.rolled_out: ("Rolled out", "good"),
    Standing.refused: ("Refused", "warn"),
    Standing.failed: ("Failed", "bad"),
    Standing.cancelled: ("Cancelled", "idle"),
}
_STAGES = {
    Stage.training_set: "Training set",
    Stage.run: "Run",
    Stage.training: "Training",
    Stage.version: "Version",
    Stage.gate: "Gate",
    Stage.rollout: "Rollout",
}
_SHOWN = 20


def view(platform: Platform, ctx: Context, name: str, *, problem: str = "") -> RetrainingPage:
    platform.serving.get(ctx, name)
    try:
        policy: Policy | None = platform.retrainings.policy(ctx, name)
    except NotFound:
        policy = None
    found = platform.retrainings.list(ctx, deployment=name, limit=_SHOWN)
    busy = bool(found) and found[0].state in OPEN
    return RetrainingPage(
        deployment=name,
        url=naming.address(name),
        state=_state(policy, found[0] if found else None),
        headline=_headline(policy, found[0] if found else None),
        why=policy.words if policy is not None else "",
        policy=_facts(policy) if policy is not None else [],
        rows=[_row(one, policy, _undo(platform, ctx, one)) for one in found],
        has_policy=policy is not None,
        paused=policy is not None and policy.paused,
        may_begin=policy is not None and not busy,
        problem=problem,
    )


def _state(policy: Policy | None, newest: Retraining | None) -> State:
    if newest is not None and newest.state in OPEN:
        return State(*_STATES[newest.state])
    if policy is None:
        return State("Not set up", "idle")
    if policy.paused:
        return State("Paused", "warn", "Nothing begins by itself")
    return State("Stopped", "bad", "Too many attempts failed") if policy.failures >= MOST_FAILURES else State("Watching", "good")


def _headline(policy: Policy | None, newest: Retraining | None) -> str:
    if newest is not None and newest.state in OPEN:
        return "It is being trained again"
    if policy is None:
        return "It is not trained again by itself"
    if policy.paused:
        return "Its retraining is paused"
    return "Training it again has failed" if policy.failures >= MOST_FAILURES else "It is trained again when it has to be"


def _facts(policy: Policy) -> list[Pair]:
    trigger, gate = policy.trigger, policy.gate
    begins = f"alerts of {' or '.join(trigger.alerts)}"
    if trigger.sustained_seconds:
        begins += f" that last {fmt.span(trigger.sustained_seconds)}"
    found = [
        Pair("Begins on", f"{begins}, with {fmt.plural(trigger.min_labels, 'new label')} or more"),
        Pair("Rests", f"{fmt.span(trigger.cool_down_seconds)} in between"),
    ]
    if trigger.every_seconds is not None:
        found.append(Pair("Besides", f"every {fmt.span(trigger.every_seconds)}, whatever was seen"))
    found += [
        Pair("Script", f"{policy.entry} of {_short(policy.script)}", mono=True),
        Pair("Time limit", f"{fmt.span(policy.time_limit)} for one run of the script"),
        Pair("Base data", _short(policy.base) or "none: the labelled answers only", mono=bool(policy.base)),
        Pair("Labels", (policy.label or "of any name") + (f", of answers up to {fmt.number(policy.days)} days old" if policy.days else "")),
        Pair("Model", policy.model, url=f"/models/{policy.model}"),
        Pair(
            "Gate",
            f"surely better ({fmt.percent(1 - gate.alpha)}) on the newest {fmt.number(gate.recent)} of {fmt.percent(gate.held_out)} of the "
            f"labelled answers, which are held out; {fmt.number(gate.min_rows)} at least",
        ),
        Pair("Rollout", _plan(policy.plan)),
        Pair("Set up by", policy.created_by),
    ]
    return found


def _short(place: str) -> str:
    """A repo at a commit, of which a few letters tell enough."""
    repo, at, commit = place.partition("@")
    return f"{repo}@{commit[:8]}" if at else place


def _plan(plan: str | dict[str, Any] | None) -> str:
    if plan is None:
        return "by the plan of the last one, with its guardrails"
    return f"by the plan {plan if isinstance(plan, str) else plan.get('name', 'of its own')}"


def _row(one: Retraining, policy: Policy | None, undo: str) -> RetrainingRow:
    word, tone = _STATES[one.state]
    cause = {"alert": "An alert lasted", "schedule": "By schedule"}.get(one.cause, f"{one.cause} asked for it")
    return RetrainingRow(
        id=one.id,
        state=State(word, tone),
        cause=cause,
        doing=one.doing if one.doing != one.why else "",
        why=one.why if one.why != cause else "",
        at_ms=one.created_ms,
        ended_ms=one.ended_ms,
        stages=_stages(one),
        gate=_gate(one, policy),
        gate_words=one.gate.words if one.gate is not None and one.gate.words != one.why else "",
        links=_links(one),
        evidence=_evidence(one.trigger),
        undo=undo,
        log=f"drivetrain jobs log {one.job_id}" if one.job_id else "",
        may_cancel=one.state in OPEN,
    )


def _undo(platform: Platform, ctx: Context, one: Retraining) -> str:
    """What takes back what it has led to; nothing once its rollout has ended or gone through: that is told on the rollout's own page."""
    if one.rollout_id is not None:
        try:
            state = platform.rollouts.get(ctx, one.rollout_id).state
        except NotFound:
            return ""
        if state not in (Moving.starting, Moving.running, Moving.paused):
            return ""
    return next((stage.undo for stage in reversed(one.stages) if stage.undo), "")


def _stages(one: Retraining) -> list[StageMark]:
    done = {stage.stage: stage for stage in one.stages}
    ended = one.state not in OPEN
    marks = []
    for stage in STAGES:
        name = _STAGES[stage]
        if stage in done:
            refused = stage is Stage.gate and one.state is Standing.refused
            marks.append(StageMark(name, "left" if refused else "done", done[stage].words, "warn" if refused else ""))
        elif stage is one.stage and one.state is Standing.failed:
            marks.append(StageMark(name, "left", one.why, "bad"))
        elif stage is one.stage and not ended:
            marks.append(StageMark(name, "here", one.doing, "busy"))
        else:
            marks.append(StageMark(name, "ahead", ""))
    return marks


def _gate(one: Retraining, policy: Policy | None) -> list[Compared]:
    if one.gate is None:
        return []
    margin = policy.gate.margin if policy is not None else 0.0
    loss = -policy.gate.allowed_loss if policy is not None else 0.0
    found = []
    if one.gate.recent is not None:
        found.append(_compared("The newest held-out answers", one.gate.recent, margin))
    if one.gate.all is not None:
        found.append(_compared("All held-out answers", one.gate.all, loss))
    return found


def _compared(what: str, one: Comparison, bound: float) -> Compared:
    words = f"{_points(one.difference)} points, surely between {_points(one.low)} and {_points(one.high)}"
    good = True if one.low > bound else False if one.high < bound else None
    return Compared(
        what=what,
        rows=one.rows,
        challenger=fmt.percent(one.challenger),
        champion=fmt.percent(one.champion),
        difference=words,
        drawing=interval_bar(
            one.low, one.difference, one.high, bound, good=good, label=f"{what}: {words}; it takes more than {_points(bound)}"
        ),
    )


def _points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")


def _links(one: Retraining) -> list[tuple[str, str]]:
    found = []
    if one.run_id:
        found.append(("Run", f"/runs/{one.run_id}"))
    if one.version is not None:
        found.append((f"{one.model} v{one.version}", naming.model_address(one.model, one.version)))
    if one.rollout_id:
        found.append(("Rollout", naming.rollout_address(one.rollout_id)))
    return found


def _evidence(trigger: Mapping[str, Any]) -> list[Pair]:
    found = []
    for key, value in trigger.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        found.append(Pair(key.replace("_", " "), text[:600]))
    return found


def routes(platform: Platform, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)

    def show(request: Request, ctx: Context, name: str, *, problem: str = "", status: int = 200) -> Response:
        url = naming.address(name)
        shown = view(platform, ctx, name, problem=problem)
        path = [("Deployments", "/deployments"), (name, url), ("Retraining", f"{url}/retraining")]
        return pages.page(request, "rollout/retraining.html", path=path, status=status, view=shown)

    @router.get("/deployments/{name:path}/retraining")
    def retraining(request: Request, ctx: Viewer, name: str) -> Response:
        return show(request, ctx, name)

    @router.post("/deployments/{name:path}/retraining/{act}")
    def act(request: Request, ctx: Viewer, name: str, act: str) -> Response:
        verbs: dict[str, Callable[..., Any]] = {
            "now": platform.retrainings.start,
            "pause": platform.retrainings.pause,
            "resume": platform.retrainings.resume,
        }
        try:
            if act not in verbs:
                raise Invalid(f"What can be done here: {', '.join(verbs)}; not {act[:40]!r}.")
            verbs[act](ctx, name)
        except NotFound:
            raise
        except DrivetrainError as error:
            return show(request, ctx, name, problem=error.message, status=error.status)
        return RedirectResponse(f"{naming.address(name)}/retraining", status_code=303, headers=HEADERS)

    @router.post("/retrainings/{retraining_id}/cancel")
    def cancel(ctx: Viewer, retraining_id: str) -> Response:
        one = platform.retrainings.cancel(ctx, retraining_id)
        return RedirectResponse(f"{naming.address(one.deployment)}/retraining#{one.id}", status_code=303, headers=HEADERS)

    return router
