"""What is written down of retraining: rows as nouns, and the transactions in which a retraining begins, goes on, and ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from drivetrain.errors import Conflict, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.jobs import ledger as stages
from drivetrain.jobs.model import StageDone
from drivetrain.retraining import tables as t
from drivetrain.retraining.model import (
    OPEN,
    STAGES,
    TIME_LIMIT_SECONDS,
    Gate,
    GateResult,
    Policy,
    Retraining,
    Stage,
    State,
    TrainingSet,
    Trigger,
)
from drivetrain.store.ids import now_ms, uuid7

FRESH_START = {"tries": 0, "failures": 0, "waited_ms": 0}
"""Of a policy whose attempts go well, or that is to try anew."""
DRIVETRAIN = "drivetrain"
"""Who acts where nobody did."""


def policy_of(row: sa.Row[Any]) -> Policy:
    values = {name: value for name, value in row._asdict().items() if name in Policy.__struct_fields__}
    values["trigger"] = msgspec.convert(row.trigger, Trigger)
    values["gate"] = msgspec.convert(row.gate, Gate)
    return Policy(**values)


def find(c: sa.Connection, retraining_id: str, *, workspace_id: str | None = None, hold: bool = False) -> Retraining:
    """The retraining; with `hold`, nobody else changes it until the transaction ends. Raises `NotFound`."""
    query = sa.select(t.retrainings).where(t.retrainings.c.id == retraining_id)
    if workspace_id is not None:
        query = query.where(t.retrainings.c.workspace_id == workspace_id)
    row = c.execute(query.with_for_update() if hold else query).one_or_none()
    if row is None:
        raise NotFound(f"There is no retraining {retraining_id[:40]!r} in this workspace. See: drivetrain retrain list")
    return with_stages(c, [row])[0]


def with_stages(c: sa.Connection, rows: list[sa.Row[Any]]) -> list[Retraining]:
    done = stages.done(c, [row.id for row in rows], STAGES)
    return [_retraining(row, done[row.id]) for row in rows]


def _retraining(row: sa.Row[Any], done: tuple[StageDone, ...]) -> Retraining:
    facts = {one.stage: one.facts for one in done}
    told = row.training_set | facts.get(Stage.training_set, {})
    values = {name: value for name, value in row._asdict().items() if name in Retraining.__struct_fields__}
    return Retraining(
        **values
        | {
            "state": State(row.state),
            "training_set": msgspec.convert(told, TrainingSet),
            "run_id": facts.get(Stage.run, {}).get("run_id"),
            "model": row.policy["model"],
            "entry": row.policy["entry"],
            "time_limit": row.policy.get("time_limit", TIME_LIMIT_SECONDS),
            "version": facts.get(Stage.version, {}).get("version"),
            "gate": msgspec.convert(facts[Stage.gate], GateResult) if Stage.gate in facts else None,
            "rollout_id": facts.get(Stage.rollout, {}).get("rollout_id"),
            "stages": done,
        }
    )


def begin(
    c: sa.Connection, policy: sa.Row[Any], *, cause: str, why: str, actor: str, trigger: Mapping[str, Any], labels: int, from_ms: int
) -> str:
    """Write a new retraining down; its id. It uses the trigger up once it brings a version. Raises `Conflict` while another is open."""
    mine = t.retrainings.c.deployment_id == policy.deployment_id, t.retrainings.c.ended_ms.is_(None)
    other = c.execute(sa.select(t.retrainings.c.id).where(*mine)).one_or_none()
    if other is not None:
        raise Conflict(
            f"{policy.deployment!r} is being trained again already: drivetrain retrain show {other.id}. "
            f"To end that: drivetrain retrain cancel {other.id}"
        )
    now = now_ms()
    from_ms = oldest_ms(policy, from_ms)
    query = TrainingSet(
        deployment_id=policy.deployment_id,
        deployment=policy.deployment,
        label=policy.label,
        from_ms=from_ms,
        to_ms=now,
        held_out=float(policy.gate["held_out"]),
    )
    row = {
        "id": uuid7(),
        "workspace_id": policy.workspace_id,
        "workspace": policy.workspace,
        "policy_id": policy.id,
        "deployment_id": policy.deployment_id,
        "deployment": policy.deployment,
        "policy": msgspec.to_builtins(policy_of(policy)),
        "state": State.queued.value,
        "cause": cause,
        "trigger": dict(trigger),
        "training_set": msgspec.to_builtins(query),
        "why": why,
        "created_ms": now,
        "created_by": actor,
        "user_id": policy.user_id,
        "told": True,
        "labels": labels,
    }
    c.execute(sa.insert(t.retrainings).values(**row))
    return str(row["id"])


def oldest_ms(policy: sa.Row[Any], created_ms: int) -> int:
    """From when on answers are trained on: since the deployment was made, and no older than the policy says."""
    return created_ms if policy.days is None else max(created_ms, now_ms() - int(policy.days * 86_400_000))


def change(c: sa.Connection, retraining: Retraining, state: State, why: str, *, tell: bool = True) -> None:
    """Another state; `tell`: somebody should hear of it."""
    values: dict[str, Any] = {"state": state.value, "why": why, "told": not tell}
    if state not in OPEN:
        values["ended_ms"] = now_ms()
    c.execute(sa.update(t.retrainings).where(t.retrainings.c.id == retraining.id).values(**values))
    if retraining.state is not State.waiting:
        _count(c, retraining, state)


def _count(c: sa.Connection, retraining: Retraining, state: State) -> None:
    """What it means for the policy. With a version the trigger is used up: it cools down, and the labels are not new any more. Without one
    nothing is, but the next attempt waits; one that failed is counted, unless the policy has been set anew since."""
    p = t.policies.c
    mine = p.id == retraining.policy_id
    if state in (State.waiting, State.rolled_out, State.refused):
        of = t.retrainings.c
        row = c.execute(sa.select(of.labels).where(of.id == retraining.id)).one()
        values: dict[str, Any] = {"rested_ms": 0, "alarmed_ms": 0, "fresh": False, **FRESH_START}
        c.execute(sa.update(t.policies).where(mine).values(**values, labels=p.labels if row.labels is None else row.labels))
    elif state in (State.failed, State.cancelled):
        of = t.retrainings.c
        recipe = c.execute(sa.select(of.policy).where(of.id == retraining.id)).scalar_one()
        failed = int(state is State.failed)
        same = mine & (p.created_ms == recipe["created_ms"])
        c.execute(sa.update(t.policies).where(same).values(tries=p.tries + 1, failures=p.failures + failed, waited_ms=0))


def acting_for(row: sa.Row[Any], *, user_name: str | None = None) -> Context:
    """Whoever set the policy up, as whom its retrainings act: that user may read and write in the workspace."""
    return Context(
        user_id=row.user_id,
        user_name=user_name or row.created_by,
        workspace_id=row.workspace_id,
        workspace=row.workspace,
        scopes=frozenset({Scope.read, Scope.write, Scope.invoke}),
    )
