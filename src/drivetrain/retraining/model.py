"""The nouns of retraining: policy, trigger, gate, training set, retraining and its stages."""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b
from typing import Any

from msgspec import Struct

from drivetrain.jobs.model import StageDone

DAY_SECONDS = 86_400.0
TIME_LIMIT_SECONDS = 3600.0
LONGEST_SECONDS = 6 * DAY_SECONDS
"""A script's longest time limit: what a job may ask of the server holds for a week."""
BACKOFF_SECONDS = (300.0, 1800.0, 7200.0, 28_800.0, DAY_SECONDS)
"""How long it waits after so many attempts in a row that brought no version."""
MOST_FAILURES = 3
"""After so many failures in a row it does not try again by itself."""
LEAST_ROWS = 10
"""Labelled answers to train on, at the very least."""


class State(StrEnum):
    """Where a retraining is. `waiting`: its version passed the gate, and its rollout begins as soon as the deployment is free.
    The last four are ends."""

    queued = "queued"
    running = "running"
    waiting = "waiting"
    rolled_out = "rolled_out"
    refused = "refused"
    failed = "failed"
    cancelled = "cancelled"


OPEN = (State.queued, State.running, State.waiting)


class Stage(StrEnum):
    """What a retraining does, in this order; each is done once. `gate`: the challenger was compared with the champion."""

    training_set = "training_set"
    run = "run"
    training = "training"
    version = "version"
    gate = "gate"
    rollout = "rollout"


STAGES = tuple(Stage)


class Trigger(Struct, frozen=True, kw_only=True):
    """When to train again. By alerts of these sources that last for `sustained_seconds`, once there are `min_labels` new labels (and as
    many of answers since what is wrong began: the new world is learned from those) and `cool_down_seconds` have passed since the last time;
    and `every_seconds`, whatever was seen. Times are counted while a server runs."""

    alerts: tuple[str, ...] = ("drift", "quality")
    sustained_seconds: float = 600.0
    min_labels: int = 200
    cool_down_seconds: float = DAY_SECONDS
    every_seconds: float | None = None


class Gate(Struct, frozen=True, kw_only=True):
    """What a new version must show before it gets traffic, on labelled answers that no training has seen (`held_out` of all, chosen by
    their ids): better than the version that serves by more than `margin` on the newest `recent` of them, surely so (1 − `alpha`), and
    no worse by more than `allowed_loss` on all of them."""

    held_out: float = 0.2
    recent: int = 500
    min_rows: int = 50
    margin: float = 0.0
    allowed_loss: float = 0.02
    alpha: float = 0.05


class Policy(Struct, frozen=True, kw_only=True):
    """How a deployment is trained again. `script` is a commit of an artifact repo (`repo@commit`) and `entry` the file in it that is run;
    `base` the data that every training starts from: a dataset (`repo@ref`) or a run's artifacts (`runs:/RUN/path`). `model`: the
    registered model that gets the versions. `label`: the name of the labels, "" for any. `days`: how old an answer may be to be trained on.
    `plan`: of the rollout; None: as the deployment's last one. `time_limit`: seconds that one run of the script may take."""

    id: str
    workspace_id: str
    workspace: str
    deployment_id: str
    deployment: str
    script: str
    entry: str
    model: str
    base: str = ""
    label: str = ""
    days: float | None = None
    trigger: Trigger = Trigger()
    gate: Gate = Gate()
    plan: str | dict[str, Any] | None = None
    time_limit: float = TIME_LIMIT_SECONDS
    paused: bool = False
    failures: int = 0
    """Attempts in a row that have failed."""
    words: str = ""
    """What it waits for now."""
    created_ms: int = 0
    created_by: str = ""


class TrainingSet(Struct, frozen=True, kw_only=True):
    """The stored query behind a training set: the answers of a deployment from `from_ms` until `to_ms` and the labels of that name that
    had come by `to_ms`, but for those whose ids fall into the `held_out` share. `digest` is of what came out, in rows sorted by id."""

    deployment_id: str
    deployment: str
    label: str
    from_ms: int
    to_ms: int
    held_out: float
    rows: int = 0
    held_out_rows: int = 0
    missing: int = 0
    digest: str = ""


class Labelled(Struct, frozen=True, kw_only=True):
    """One labelled answer, as the query of a training set finds it."""

    id: str
    at_ms: int
    label: Any
    task: str
    input: str
    output: str | None
    variant: str
    held_out: bool


def held_out(request: str, share: float) -> bool:
    """Whether an answer is kept from training, to judge by: a function of its id alone, so the same in every retraining."""
    draw = int.from_bytes(blake2b(request.encode(), digest_size=8, person=b"held-out").digest(), "big")
    return draw < share * (1 << 64)


class Comparison(Struct, frozen=True, kw_only=True):
    """Challenger and champion on the same rows. `difference` is of their scores, with its interval; `wins` and `losses` are rows on which
    one was better."""

    rows: int
    challenger: float
    champion: float
    difference: float
    low: float
    high: float
    wins: int
    losses: int


class GateResult(Struct, frozen=True, kw_only=True):
    """`metric`: accuracy, or closeness (1 − absolute error, in shares of the labels' range) of regressions."""

    passed: bool
    words: str
    metric: str = "accuracy"
    recent: Comparison | None = None
    all: Comparison | None = None
    champion: str = ""


class Retraining(Struct, frozen=True, kw_only=True):
    """One time that a policy's script was run. `cause`: alert, schedule or a person's name; `trigger` holds the evidence. `doing`: what it
    does or waits for now, in words. `entry` and `time_limit` are its policy's."""

    id: str
    workspace_id: str
    workspace: str
    policy_id: str
    deployment_id: str
    deployment: str
    state: State
    cause: str
    trigger: dict[str, Any]
    why: str
    created_ms: int
    created_by: str
    ended_ms: int | None = None
    doing: str = ""
    entry: str = ""
    time_limit: float = TIME_LIMIT_SECONDS
    job_id: str | None = None
    run_id: str | None = None
    model: str = ""
    version: int | None = None
    rollout_id: str | None = None
    training_set: TrainingSet | None = None
    gate: GateResult | None = None
    stages: tuple[StageDone, ...] = ()

    @property
    def stage(self) -> Stage | None:
        """The stage that is to be done next, or being done; None once all are."""
        done = {one.stage for one in self.stages}
        return next((stage for stage in STAGES if stage not in done), None)
