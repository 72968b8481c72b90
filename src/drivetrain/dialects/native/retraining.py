"""Retraining: policies of deployments, retrainings, and what their jobs ask and say."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from msgspec.structs import asdict
from pydantic import BaseModel, Field

from drivetrain.answers import retraining as answers
from drivetrain.answers.retraining import LiveRetraining
from drivetrain.errors import Invalid
from drivetrain.identity.model import Scope
from drivetrain.retraining.model import TIME_LIMIT_SECONDS, Gate, Policy, Stage, Trigger
from drivetrain.retraining.service import Retrainings
from drivetrain.wire.answers import native_router
from drivetrain.wire.fastapi import Asking


class NewPolicy(BaseModel):
    """`script`: an artifact repo, or `repo@commit`, and `entry` the file in it that is run. `base`: a dataset repo, or `runs:/RUN/path`.
    `trigger` and `gate`: their fields, as far as they differ from the usual. `plan`: as of a rollout; none: as the last one's.
    `time_limit`: seconds that one run of the script may take."""

    script: str
    entry: str = ""
    model: str = ""
    base: str = ""
    label: str = ""
    days: float | None = None
    trigger: dict[str, Any] = Field(default_factory=dict)
    gate: dict[str, Any] = Field(default_factory=dict)
    plan: str | dict[str, Any] | None = None
    time_limit: float = TIME_LIMIT_SECONDS


class Reason(BaseModel):
    why: str = ""


class Done(BaseModel):
    """A stage that the job has done."""

    stage: Stage
    words: str
    facts: dict[str, Any] = Field(default_factory=dict)
    undo: str = ""


def router(retrainings: Retrainings) -> APIRouter:
    """Include it before the router of deployments: their names may hold slashes, so what follows a name must come first."""
    api = native_router("retraining")

    @api.get("/retraining-policies")
    def policies(ctx: Asking) -> answers.PolicyList:
        """How the workspace's deployments are trained again."""
        return answers.PolicyList(retrainings.policies(ctx))

    @api.get("/deployments/{name:path}/retraining-policy")
    def policy(ctx: Asking, name: str) -> Policy:
        """How a deployment is trained again, and what that waits for."""
        return retrainings.policy(ctx, name)

    @api.put("/deployments/{name:path}/retraining-policy")
    def set_policy(ctx: Asking, name: str, new: NewPolicy) -> Policy:
        """Say how a deployment is trained again: when, by which script, judged how."""
        values = new.model_dump(exclude={"trigger", "gate"})
        try:
            trigger, gate = msgspec.convert(new.trigger, Trigger), msgspec.convert(new.gate, Gate)
        except msgspec.ValidationError as error:
            raise Invalid(f"The policy cannot be read: {error}") from error
        for given, kind in ((new.trigger, Trigger), (new.gate, Gate)):
            if unknown := given.keys() - set(kind.__struct_fields__):
                known = ", ".join(kind.__struct_fields__)
                raise Invalid(f"A {kind.__name__.lower()} has no field {min(unknown)!r}; it has: {known}.", param=kind.__name__.lower())
        return retrainings.set_policy(ctx, name, trigger=trigger, gate=gate, **values)

    @api.delete("/deployments/{name:path}/retraining-policy")
    def delete_policy(ctx: Asking, name: str) -> None:
        retrainings.delete_policy(ctx, name)

    @api.post("/deployments/{name:path}/retraining-policy/pause")
    def pause(ctx: Asking, name: str) -> Policy:
        """Begin nothing by itself until it is resumed."""
        return retrainings.pause(ctx, name)

    @api.post("/deployments/{name:path}/retraining-policy/resume")
    def resume(ctx: Asking, name: str) -> Policy:
        return retrainings.resume(ctx, name)

    @api.get("/deployments/{name:path}/retrainings")
    def of_deployment(ctx: Asking, name: str, limit: int = 50) -> answers.RetrainingList:
        """The retrainings of a deployment, the newest first."""
        return answers.RetrainingList([LiveRetraining.of(one) for one in retrainings.list(ctx, deployment=name, limit=limit)])

    @api.post("/deployments/{name:path}/retrainings", status_code=201)
    def start(ctx: Asking, name: str, reason: Reason) -> LiveRetraining:
        """Train it again now, whatever the trigger says."""
        return LiveRetraining.of(retrainings.start(ctx, name, why=reason.why))

    @api.get("/retrainings")
    def listed(ctx: Asking, limit: int = 50) -> answers.RetrainingList:
        """The newest retrainings of the workspace."""
        return answers.RetrainingList([LiveRetraining.of(one) for one in retrainings.list(ctx, limit=limit)])

    @api.get("/retrainings/{retraining}")
    def one(ctx: Asking, retraining: str) -> answers.WatchedRetraining:
        """One retraining, with the policy as it was."""
        found = retrainings.get(ctx, retraining)
        return answers.WatchedRetraining(**asdict(LiveRetraining.of(found)), policy=retrainings.recipe(ctx, found.id))

    @api.post("/retrainings/{retraining}/cancel")
    def cancel(ctx: Asking, retraining: str, reason: Reason) -> LiveRetraining:
        """End it. A version that it has registered stays."""
        return LiveRetraining.of(retrainings.cancel(ctx, retraining, why=reason.why))

    @api.get("/retrainings/{retraining}/labelled")
    def labelled(ctx: Asking, retraining: str) -> StreamingResponse:
        """The labelled answers that it trains on and is judged by, one JSON object a line."""
        ctx.require(Scope.read)
        return StreamingResponse(retrainings.labelled(ctx, retraining), media_type="application/x-ndjson")

    @api.post("/retrainings/{retraining}/stages")
    def advance(ctx: Asking, retraining: str, done: Done) -> LiveRetraining:
        """What its job says: that a stage was done. Said again, it stays as it was said first."""
        return LiveRetraining.of(retrainings.advance(ctx, retraining, done.stage, words=done.words, facts=done.facts, undo=done.undo))

    @api.post("/retrainings/{retraining}/roll-out")
    def roll_out(ctx: Asking, retraining: str) -> LiveRetraining:
        """What its job asks for at last: the rollout of a version that passed the gate."""
        return LiveRetraining.of(retrainings.roll_out(ctx, retraining))

    return api
