"""The parts of a rollout on a real database, and traffic as the gateway would have written it down."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from drivetrain.config import Settings
from drivetrain.feedback.model import About, Scalar
from drivetrain.feedback.service import Feedback
from drivetrain.identity.model import Context
from drivetrain.registry.service import Registry
from drivetrain.rollout.counting.fold import Counting
from drivetrain.rollout.model import Guardrail, Plan, Rollout, Step
from drivetrain.rollout.service import Rollouts
from drivetrain.rollout.steps import Steps
from drivetrain.serving import tables as serving_tables
from drivetrain.serving.model import Deployment, Variant
from drivetrain.serving.service import Serving
from drivetrain.store.blobs import Blobs
from drivetrain.store.events import counters
from drivetrain.store.events.counters import Counted
from drivetrain.store.events.model import Event, Exposure
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database

ME = Context(user_id="u1", user_name="ann", workspace_id="w1", workspace="default")
OTHER = Context(user_id="u2", user_name="bob", workspace_id="w2", workspace="bobs")
ERRORS = (Guardrail(measure="errors"),)
QUICK = Plan(
    name="quick",
    steps=(Step(share=1_000, min_units=20, min_seconds=1), Step(share=5_000, min_units=20, min_seconds=1), Step(share=10_000)),
    guardrails=ERRORS,
    settle_seconds=0,
    warm_seconds=5,
)


def plan(*guardrails: Guardrail | str, **changes: Any) -> Plan:
    """QUICK with these guardrails, and changes."""
    made = tuple(one if isinstance(one, Guardrail) else Guardrail(measure=one) for one in guardrails) or ERRORS
    return msgspec.structs.replace(QUICK, guardrails=made, **changes)


class World:
    """One deployment `live` of `digits`, versions 1 to 3, of which the first serves. `nudges`: what the supervisor was told."""

    def __init__(self, db: Database, folder: Path) -> None:
        self.db = db
        self.nudges: list[str] = []
        self.registry = Registry(db, Blobs(db, str(folder / "blobs"), min_free=0, scratch=folder / "scratch"))
        self.serving = Serving(db, self.registry, Settings(), self.nudges.append)
        self.feedback = Feedback(db)
        self.rollouts = Rollouts(db, self.serving, self.feedback, self.nudges.append)
        self.counting = Counting()
        self.steps = Steps(db, self.serving, self.feedback, self.counting)
        self.registry.ensure_repo(ME, "digits")
        for data in (b"1", b"2", b"3"):
            files = {"MLmodel": b"flavors: {python_function: {}}\n", "model.pkl": data}
            digests = {path: self.registry.blobs.put([content]).sha256 for path, content in files.items()}
            commit = self.registry.commit(ME, "digits", digests, message="import")
            self.registry.register(ME, "digits", commit.id)
        self.serving.deploy(ME, "live", "digits@1")
        self.be_ready(self.variant("v1"))
        self.nudges.clear()

    @property
    def deployment(self) -> Deployment:
        return self.serving.get(ME, "live")

    def variant(self, name: str) -> Variant:
        return next(one for one in self.serving.history(ME, "live") if one.name == name)

    def weights(self) -> dict[str, int]:
        """Of the variants that are not retired."""
        return {one.name: one.weight for one in self.serving.history(ME, "live") if one.retired_ms is None}

    def be_ready(self, variant: Variant, *, server: str = "s1") -> None:
        """As if a server had a ready replica of it."""
        self.replica(variant, "ready", server=server)
        with self.db.write() as c:
            of = serving_tables.variants
            c.execute(sa.update(of).where(of.c.id == variant.id).values(ready_ms=now_ms()))

    def replica(self, variant: Variant, state: str, *, server: str = "s1", restarts: int = 0, message: str = "") -> None:
        row = {"id": uuid7(), "variant_id": variant.id, "server_id": server, "state": state, "message": message, "started_ms": now_ms()}
        with self.db.write() as c:
            c.execute(sa.insert(serving_tables.replicas).values(**row, address="", memory_bytes=0, restarts=restarts))

    def stop_replicas(self, variant: Variant) -> None:
        with self.db.write() as c:
            c.execute(sa.delete(serving_tables.replicas).where(serving_tables.replicas.c.variant_id == variant.id))

    def start(self, source: str = "digits@2", of: Plan = QUICK, **more: Any) -> Rollout:
        return self.rollouts.start(ME, "live", source, of, **more)

    def begun(self, source: str = "digits@2", of: Plan = QUICK) -> Rollout:
        """A rollout in its first step."""
        rollout = self.start(source, of)
        self.be_ready(self.variant(rollout.canary_name))
        assert self.steps.step(rollout.id, 0.0)
        return self.now(rollout)

    def now(self, rollout: Rollout) -> Rollout:
        return self.rollouts.get(ME, rollout.id)

    def pass_time(self, rollout: Rollout, seconds: float) -> Rollout:
        """Let the loop look, as often as it does, until something moves or the time is over."""
        for _ in range(int(seconds * 4)):
            if self.steps.step(rollout.id, 250.0):
                break
        return self.now(rollout)

    def traffic(self, rollout: Rollout, *, canary: int = 0, stable: int = 0, bad_canary: int = 0, bad_stable: int = 0, **more: Any) -> None:
        """So many requests of units of their own, in the rollout's present phase; the first ones of each arm are errors."""
        self._write(rollout, rollout.canary, canary, bad_canary, more)
        self._write(rollout, rollout.stable, stable, bad_stable, more)

    def say(self, rollout: Rollout, arm: str, name: str, value: Scalar, *, kind: str = "feedback", times: int = 1) -> None:
        """Feedback of answers of that arm in the present phase, each of a unit of its own."""
        for _ in range(times):
            request = uuid7()
            self.feedback.add(ME, request, name, value, kind=kind)
            self.feedback.join(ME.workspace_id, request, self.about(rollout, arm))

    def label(self, rollout: Rollout, arm: str, value: Scalar) -> str:
        """A label of one answer; the request, whose label may be said anew."""
        request = uuid7()
        self.feedback.add(ME, request, "label", value, kind="label", about=self.about(rollout, arm))
        return request

    def about(self, rollout: Rollout, arm: str) -> About:
        """An answer of that arm, which said 1."""
        variant = rollout.canary if arm == "canary" else rollout.stable
        return About(now_ms(), rollout.deployment_id, variant, "", rollout.id, rollout.phase, '{"outputs":[{"data":[1]}]}')

    def _write(self, rollout: Rollout, variant: str, count: int, bad: int, more: Mapping[str, Any]) -> None:
        lines: list[bytes] = []
        for i in range(count):
            common: dict[str, Any] = {
                "t": now_ms() * 1_000_000,
                "deployment": rollout.deployment_id,
                "variant": variant,
                "rollout": rollout.id,
            }
            identity = uuid7()
            exposure = Exposure(exposure=identity, unit=more.get("unit", ""), phase=rollout.phase, **common)
            event = Event(id=identity, workspace="w1", phase=rollout.phase, error="upstream" if i < bad else "", **common, **more)
            lines += [msgspec.json.encode(exposure), msgspec.json.encode(event)]
        told = [msgspec.json.decode(line, type=Counted) for line in lines]
        with self.db.write() as c:
            counters.add(c, counters.count(told))
            self.counting.add(c, told, lambda: lines)
