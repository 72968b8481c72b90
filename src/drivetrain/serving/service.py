"""The verbs of serving. Each writes what is wanted; the deployments loop of every server makes it so."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from drivetrain.config import Settings
from drivetrain.engines.plan import Plan, plan
from drivetrain.errors import Conflict, Forbidden, Invalid, NotFound
from drivetrain.formats.format import Files
from drivetrain.identity.model import Context, Scope
from drivetrain.lineage import service as lineage
from drivetrain.lineage.model import Thing
from drivetrain.registry.model import Resolved
from drivetrain.registry.names import check_slug
from drivetrain.registry.service import Registry
from drivetrain.serving import tables as t
from drivetrain.serving.model import Capture, Deployment, Replica, Standing, Unit, Variant
from drivetrain.serving.routes import Prices
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database

UNITS = tuple(Unit)
CAPTURES = tuple(Capture)
MOST_REPLICAS = 64
WHOLE = 10_000
GIVE_UP = 4
"""A replica that was started so often in vain will fail again."""
_NO_ROLLOUT: Mapping[str, Any] = {"rollout": None, "phase": 0, "stable": None, "canary": None}


class Serving:
    """Deployments and their variants."""

    def __init__(self, db: Database, registry: Registry, settings: Settings, nudge: Callable[[str], None]) -> None:
        self._db = db
        self._registry = registry
        self._settings = settings
        self._nudge = nudge

    def deploy(
        self,
        ctx: Context,
        name: str,
        source: str,
        *,
        engine: str = "auto",
        options: Mapping[str, Any] | None = None,
        min_replicas: int = 1,
        max_replicas: int | None = None,
        capture: str = "all",
        capture_rate: float = 1.0,
        unit: str | None = None,
        prices: Mapping[str, float] | None = None,
    ) -> Deployment:
        """Serve what `source` names under `name`. A name that is served already gets a new variant; the old one serves until the new
        one is ready, and the name stays, also one that a new deployment would not get.

        `unit`: whom rollouts assign to a version, a person or each request; what is not said stays. `prices`: million_in, million_out (of
        tokens) and request, in whatever currency.

        Raises `Invalid` where no engine can run the files, `NotFound` for an unknown source, `Conflict` while a rollout moves traffic."""
        ctx.require(Scope.write)
        if capture not in CAPTURES:
            raise Invalid(f"capture is one of {', '.join(CAPTURES)}.", param="capture")
        if not 0.0 <= capture_rate <= 1.0:
            raise Invalid("capture_rate is a share between 0 and 1.", param="capture_rate")
        if unit is not None and unit not in UNITS:
            raise Invalid(f"unit is one of {', '.join(UNITS)}: whom a rollout assigns to a version.", param="unit")
        least, most = _replicas(min_replicas, max_replicas)
        resolved = self._registry.resolve(ctx, source)
        chosen = self._plan(resolved, engine, options or {})
        bounds = {"min_replicas": least, "max_replicas": most}
        values = _values(ctx, resolved, chosen, options or {}) | bounds | {"prices": _prices(prices)}
        policy = {"capture": capture, "capture_rate": capture_rate, **({"unit": unit} if unit is not None else {})}
        deployment = self._write(ctx, name, values, policy, implicit=False)
        self._nudge("deployments")
        return self.get(ctx, deployment)

    def prepare_variant(
        self,
        ctx: Context,
        deployment: Deployment,
        source: str,
        *,
        engine: str = "auto",
        options: Mapping[str, Any] | None = None,
        min_replicas: int | None = None,
        max_replicas: int | None = None,
        prices: Mapping[str, float] | None = None,
    ) -> dict[str, Any]:
        """What `insert_variant` writes, worked out beforehand: it reads files. What is not said is as at the variant that serves now."""
        ctx.require(Scope.write)
        before = max((one for one in deployment.variants if one.retired_ms is None), key=lambda one: one.weight, default=None)
        resolved = self._registry.resolve(ctx, source)
        chosen = self._plan(resolved, engine, options or {})
        if options is None and before is not None and before.engine == chosen.engine and before.options:
            options = before.options
            chosen = self._plan(resolved, engine, options)
        if min_replicas is None:
            min_replicas = max(1, before.min_replicas) if before is not None else 1
            max_replicas = max_replicas or (max(min_replicas, before.max_replicas) if before is not None else None)
        least, most = _replicas(min_replicas, max_replicas)
        kept = _prices(prices) if prices is not None else before.prices if before is not None else None
        return _values(ctx, resolved, chosen, options or {}) | {"min_replicas": least, "max_replicas": most, "prices": kept}

    def insert_variant(self, c: sa.Connection, ctx: Context, deployment_id: str, values: Mapping[str, Any]) -> Variant:
        """Give a deployment one more variant, without traffic, in the caller's transaction."""
        live = t.variants.c.deployment_id == deployment_id, t.variants.c.retired_ms.is_(None)
        taken = set(c.scalars(sa.select(t.variants.c.name).where(*live)))
        name, number = values["name"], 1
        while name in taken:
            number += 1
            name = f"{values['name']}-{number}"
        identity = uuid7()
        row = {**values, "id": identity, "deployment_id": deployment_id, "name": name, "weight": 0, "created_ms": now_ms()}
        c.execute(sa.insert(t.variants).values(**row))
        self._serves(c, ctx, deployment_id, values)
        return variant_of(c.execute(sa.select(t.variants).where(t.variants.c.id == identity)).one())

    def held(self, c: sa.Connection, deployment_id: str) -> sa.Row[Any] | None:
        """The deployment's row, held against others until the transaction ends; None once it was deleted."""
        mine = t.deployments.c.id == deployment_id, t.deployments.c.deleted_ms.is_(None)
        return c.execute(sa.select(t.deployments).where(*mine).with_for_update()).one_or_none()

    def move(
        self,
        c: sa.Connection,
        deployment_id: str,
        *,
        weights: Mapping[str, int],
        shadow: Mapping[str, int] | None = None,
        rollout: str | None,
        phase: int,
        stable: str | None,
        canary: str | None,
    ) -> None:
        """Set what each variant gets of the traffic (parts of 10,000; those not named: nothing), in the caller's transaction."""
        mine = t.variants.c.deployment_id == deployment_id, t.variants.c.retired_ms.is_(None)
        c.execute(sa.update(t.variants).where(*mine).values(weight=0, shadow=0))
        for variant, weight in weights.items():
            share = (shadow or {}).get(variant, 0)
            c.execute(sa.update(t.variants).where(t.variants.c.id == variant).values(weight=weight, shadow=share))
        values = {"rollout": rollout, "phase": phase, "stable": stable, "canary": canary}
        c.execute(sa.update(t.deployments).where(t.deployments.c.id == deployment_id).values(**values))

    def retire(self, c: sa.Connection, variant_ids: Collection[str], *, withdrawn: bool = False) -> None:
        """These have served; `withdrawn`: they stand in for nobody either, from now on."""
        values = {"weight": 0, "shadow": 0, "retired_ms": now_ms(), "withdrawn": withdrawn}
        c.execute(sa.update(t.variants).where(t.variants.c.id.in_(variant_ids)).values(**values))

    def rollout_of(self, c: sa.Connection, deployment_id: str) -> str | None:
        """The id of the rollout that moves this deployment's traffic."""
        return c.scalar(sa.select(t.deployments.c.rollout).where(t.deployments.c.id == deployment_id, t.deployments.c.deleted_ms.is_(None)))

    def source(self, c: sa.Connection, variant_id: str) -> str:
        """What a variant was made of, as commands take it: NAME@VERSION."""
        row = c.execute(sa.select(t.variants).where(t.variants.c.id == variant_id)).one()
        return f"{row.repo.partition('/')[2]}@{row.version or row.commit_id[:12]}"

    def standing(self, c: sa.Connection, variant_id: str, *, beside: str) -> Standing:
        """How a variant's replicas are, compared with those of the variant `beside`."""
        of = t.replicas.c
        rows = c.execute(sa.select(t.replicas).where(of.variant_id.in_((variant_id, beside)))).all()
        wanted = c.scalar(sa.select(t.variants.c.min_replicas).where(t.variants.c.id == variant_id)) or 1
        mine = [row for row in rows if row.variant_id == variant_id]
        ready = Counter(row.server_id for row in mine if row.state == "ready")
        servers = {row.server_id for row in rows if row.state == "ready"}
        in_vain = [row for row in mine if row.state == "failed" or (row.state != "ready" and row.restarts >= GIVE_UP)]
        return Standing(
            ready=sum(ready.values()),
            everywhere=bool(servers) and all(ready[server] >= wanted for server in servers),
            failed=in_vain[0].message or "it does not start" if in_vain else "",
        )

    def implicit(self, ctx: Context, name: str) -> Deployment:
        """The deployment that `name` means: one that was just made and is in no route table yet, else the on-demand one of a registry name.

        Raises `NotFound` for an unknown name, `Forbidden` for a version in a format that runs code.
        """
        ctx.require(Scope.invoke)
        with self._db.read() as c:
            if c.execute(self._active(ctx).where(t.deployments.c.name == name)).one_or_none() is not None:
                return self.get(ctx, name)
        # Who may call a model may find it by its name, and no more.
        resolved = self._registry.resolve(replace(ctx, scopes=ctx.scopes | {Scope.read}), name)
        canonical = f"{resolved.repo.slug}@{resolved.version.number if resolved.version else resolved.commit_id[:12]}"
        with self._db.read() as c:
            found = c.execute(self._active(ctx).where(t.deployments.c.name == canonical, t.deployments.c.implicit)).one_or_none()
        if found is None:
            chosen = self._plan(resolved, "auto", {})
            if chosen.runs_code:
                raise Forbidden(
                    f"{name!r} is in a format that runs code, so it is not started merely because it was named. If you trust it: "
                    f"drivetrain deploy {resolved.repo.slug} {name}",
                    param="model",
                )
            with contextlib.suppress(Conflict):  # somebody else called it at the same moment
                values = _values(ctx, resolved, chosen, {}) | {"min_replicas": 0, "max_replicas": 1, "prices": None}
                self._write(ctx, canonical, values, {"capture": "all", "capture_rate": 1.0}, implicit=True)
            self._nudge("deployments")
        return self.get(ctx, canonical)

    def get(self, ctx: Context, name: str) -> Deployment:
        ctx.require(Scope.read if Scope.read in ctx.scopes else Scope.invoke)
        with self._db.read() as c:
            row = c.execute(self._active(ctx).where(t.deployments.c.name == name)).one_or_none()
            if row is None:
                raise NotFound(
                    f"There is no deployment {name!r} in the workspace {ctx.workspace!r}. Make it: drivetrain deploy {name} SOURCE"
                )
            return _with_parts(c, [row])[0]

    def list(self, ctx: Context) -> list[Deployment]:
        ctx.require(Scope.read)
        with self._db.read() as c:
            rows = c.execute(self._active(ctx).order_by(t.deployments.c.name)).all()
            return _with_parts(c, rows)

    def scale(self, ctx: Context, name: str, *, min_replicas: int, max_replicas: int | None = None) -> Deployment:
        """Set the bounds of the replicas of the serving variants (on each server)."""
        ctx.require(Scope.write)
        most = max(min_replicas, 1) if max_replicas is None else max_replicas
        if not 0 <= min_replicas <= most <= MOST_REPLICAS:
            raise Invalid(f"Replicas: 0 ≤ min ≤ max ≤ {MOST_REPLICAS}.", param="replicas")
        deployment = self.get(ctx, name)
        serving = t.variants.c.deployment_id == deployment.id, t.variants.c.retired_ms.is_(None)
        with self._db.write() as c:
            c.execute(sa.update(t.variants).where(*serving).values(min_replicas=min_replicas, max_replicas=most))
        self._nudge("deployments")
        return self.get(ctx, name)

    def restart(self, ctx: Context, name: str) -> Deployment:
        """New replicas in the place of the present ones, which serve until those are ready."""
        ctx.require(Scope.write)
        deployment = self.get(ctx, name)
        now = now_ms()
        with self._db.write() as c:
            if (row := self.held(c, deployment.id)) is not None and row.rollout is not None:
                raise _rolling(name, "restarted")
            rows = c.execute(
                sa.select(t.variants).where(t.variants.c.deployment_id == deployment.id, t.variants.c.retired_ms.is_(None))
            ).all()
            c.execute(sa.update(t.variants).where(t.variants.c.id.in_([row.id for row in rows])).values(retired_ms=now))
            for row in rows:
                fresh = {"id": uuid7(), "created_ms": now, "ready_ms": None, "retired_ms": None}
                c.execute(sa.insert(t.variants).values(**{**row._asdict(), **fresh}))
        self._nudge("deployments")
        return self.get(ctx, name)

    def delete(self, ctx: Context, name: str) -> None:
        """Stop serving under this name. Its events stay; the name is free again. A rollout of it ends."""
        ctx.require(Scope.write)
        deployment = self.get(ctx, name)
        now = now_ms()
        with self._db.write() as c:
            c.execute(sa.update(t.deployments).where(t.deployments.c.id == deployment.id).values(deleted_ms=now, **_NO_ROLLOUT))
            mine = t.variants.c.deployment_id == deployment.id, t.variants.c.retired_ms.is_(None)
            c.execute(sa.update(t.variants).where(*mine).values(retired_ms=now, weight=0, shadow=0))
        self._nudge("deployments")

    def history(self, ctx: Context, name: str, *, limit: int = 50) -> Sequence[Variant]:
        """All variants that the deployment has had, the newest first."""
        deployment = self.get(ctx, name)
        mine = sa.select(t.variants).where(t.variants.c.deployment_id == deployment.id)
        with self._db.read() as c:
            return [variant_of(row) for row in c.execute(mine.order_by(t.variants.c.created_ms.desc()).limit(limit))]

    def variant(self, ctx: Context, variant_id: str) -> Variant:
        """A variant by its id, also one that no longer serves: events name it."""
        ctx.require(Scope.read)
        query = (
            sa.select(t.variants).join(t.deployments).where(t.variants.c.id == variant_id, t.deployments.c.workspace_id == ctx.workspace_id)
        )
        with self._db.read() as c:
            row = c.execute(query).one_or_none()
        if row is None:
            raise NotFound(f"There is no variant {variant_id!r}.")
        return variant_of(row)

    def commits(self) -> set[str]:
        """The commits that some deployment serves, in all workspaces."""
        live = sa.select(t.variants.c.commit_id).join(t.deployments)
        with self._db.read() as c:
            return set(c.scalars(live.where(t.variants.c.retired_ms.is_(None), t.deployments.c.deleted_ms.is_(None)).distinct()))

    def needed(self) -> set[str]:
        """The commits that some deployment serves, or has served and may go back to; in all workspaces."""
        known = sa.select(t.variants.c.commit_id).join(t.deployments).where(t.deployments.c.deleted_ms.is_(None))
        with self._db.read() as c:
            return set(c.scalars(known.distinct()))

    def everything(self) -> Sequence[Deployment]:
        """All deployments, of all workspaces. For the loops."""
        with self._db.read() as c:
            rows = c.execute(sa.select(t.deployments).where(t.deployments.c.deleted_ms.is_(None)).order_by(t.deployments.c.id)).all()
            return _with_parts(c, rows)

    def named_by(self, commits: Collection[str]) -> Sequence[str]:
        """The names of the deployments, made by somebody, that serve one of these commits."""
        live = t.variants.c.retired_ms.is_(None), t.deployments.c.deleted_ms.is_(None), ~t.deployments.c.implicit
        query = sa.select(t.deployments.c.name).join(t.variants).where(*live)
        with self._db.read() as c:
            rows = c.execute(query.add_columns(t.variants.c.commit_id).order_by(t.deployments.c.name))
            return [row.name for row in rows if row.commit_id in commits]

    def _active(self, ctx: Context) -> sa.Select[tuple[Any, ...]]:
        return sa.select(t.deployments).where(t.deployments.c.workspace_id == ctx.workspace_id, t.deployments.c.deleted_ms.is_(None))

    def _plan(self, resolved: Resolved, engine: str, options: Mapping[str, Any]) -> Plan:
        files = Files(self._registry.files(resolved.commit_id), self._registry.blobs.read_bytes)
        return plan(files, engine=engine, options=options, settings=self._settings)

    def _write(self, ctx: Context, name: str, values: Mapping[str, Any], policy: Mapping[str, Any], *, implicit: bool) -> str:
        now = now_ms()
        try:
            with self._db.write() as c:
                row = c.execute(self._active(ctx).where(t.deployments.c.name == name).with_for_update()).one_or_none()
                if row is not None and implicit:
                    raise Conflict(f"There is a deployment {name!r} already.")
                policy = {**policy, "implicit": implicit}
                if row is None:
                    if not implicit:  # those that a call makes are called repo@version
                        check_slug(name, what="deployment")
                    deployment = uuid7()
                    owner = {"workspace_id": ctx.workspace_id, "workspace": ctx.workspace, "created_by": ctx.user_name}
                    c.execute(sa.insert(t.deployments).values(id=deployment, name=name, salt=uuid7(), created_ms=now, **owner, **policy))
                else:
                    deployment = row.id
                    if row.rollout is not None and not self._arrived(c, row):
                        raise _rolling(name, "given another version")
                    # A rollout that has given all traffic to its version, and merely keeps the one before warm, ends with this.
                    c.execute(sa.update(t.deployments).where(t.deployments.c.id == deployment).values(**policy, **_NO_ROLLOUT))
                before = t.variants.c.deployment_id == deployment, t.variants.c.retired_ms.is_(None)
                if values["prices"] is None:  # as they were
                    live = sa.select(t.variants.c.prices).where(*before).order_by(t.variants.c.weight.desc()).limit(1)
                    values = {**values, "prices": c.scalar(live)}
                c.execute(sa.update(t.variants).where(*before).values(weight=0, shadow=0, retired_ms=now))
                row_values = {**values, "id": uuid7(), "deployment_id": deployment, "weight": WHOLE, "created_ms": now}
                c.execute(sa.insert(t.variants).values(**row_values))
                self._serves(c, ctx, deployment, values)
        except sa.exc.IntegrityError as error:
            raise Conflict(f"Somebody else made the deployment {name!r} at the same moment. Look at it, then try again.") from error
        return name

    def _serves(self, c: sa.Connection, ctx: Context, deployment_id: str, values: Mapping[str, Any]) -> None:
        if values["version"] is not None:
            version = self._registry.version_id(c, ctx, values["repo"].partition("/")[2], values["version"])
            lineage.link(c, ctx, Thing("deployment", deployment_id), "serves", *([Thing("version", version)] if version else []))

    def _arrived(self, c: sa.Connection, deployment: sa.Row[Any]) -> bool:
        """Whether the deployment's rollout has given its version all the traffic."""
        return c.scalar(sa.select(t.variants.c.weight).where(t.variants.c.id == deployment.canary)) == WHOLE


def _rolling(name: str, what: str) -> Conflict:
    return Conflict(
        f"A rollout moves the traffic of {name!r}: until it has ended, the deployment cannot be {what}. Look at it: drivetrain rollout "
        f"status {name}. End it: drivetrain rollout abort {name} (back to the version before), or close {name} (once it has all traffic)."
    )


def _replicas(least: int, most: int | None) -> tuple[int, int]:
    most = max(least, 1) if most is None else most
    if not 0 <= least <= most <= MOST_REPLICAS or most < 1:
        raise Invalid(f"Replicas: 0 ≤ min ≤ max ≤ {MOST_REPLICAS}, and max at least 1.", param="replicas")
    return least, most


def _prices(given: Mapping[str, float] | None) -> dict[str, float] | None:
    if given is None:
        return None
    known = Prices.__struct_fields__
    for name, value in given.items():
        if name not in known:
            raise Invalid(f"There is no price {name!r}; there are: {', '.join(known)}.", param="prices")
        if not 0.0 <= value < 1e9:
            raise Invalid(f"The price {name} is a number from 0 to a billion.", param="prices")
    return {name: float(value) for name, value in given.items()}


def _values(ctx: Context, resolved: Resolved, chosen: Plan, options: Mapping[str, Any]) -> dict[str, Any]:
    """A variant's row, but for its place and its bounds."""
    number = resolved.version.number if resolved.version else None
    return {
        "name": f"v{number}" if number is not None else resolved.commit_id[:8],
        "repo": f"{ctx.workspace}/{resolved.repo.slug}",
        "version": number,
        "commit_id": resolved.commit_id,
        "engine": chosen.engine,
        "tasks": list(chosen.tasks),
        "options": dict(options),
        "memory_bytes": chosen.memory_bytes,
        "slots": chosen.slots,
        "why": chosen.why,
    }


def _with_parts(c: sa.Connection, rows: list[sa.Row[Any]] | Any) -> list[Deployment]:
    """Deployments with their variants (serving ones, and retired ones that still have replicas) and replicas."""
    ids = [row.id for row in rows]
    if not ids:
        return []
    parts: dict[str, list[Variant]] = {}
    held = sa.select(t.replicas.c.variant_id)
    query = sa.select(t.variants).where(
        t.variants.c.deployment_id.in_(ids), sa.or_(t.variants.c.retired_ms.is_(None), t.variants.c.id.in_(held))
    )
    for row in c.execute(query.order_by(t.variants.c.created_ms)):
        parts.setdefault(row.deployment_id, []).append(variant_of(row))
    owners = {variant.id: variant.deployment_id for some in parts.values() for variant in some}
    processes: dict[str, list[Replica]] = {}
    for row in c.execute(sa.select(t.replicas).where(t.replicas.c.variant_id.in_(list(owners))).order_by(t.replicas.c.started_ms)):
        processes.setdefault(owners[row.variant_id], []).append(Replica(**row._asdict()))
    return [
        Deployment(
            **{key: value for key, value in row._asdict().items() if key != "deleted_ms"},
            variants=tuple(parts.get(row.id, ())),
            replicas=tuple(processes.get(row.id, ())),
        )
        for row in rows
    ]


def variant_of(row: sa.Row[Any]) -> Variant:
    values = row._asdict()
    values["commit"] = values.pop("commit_id")
    values["tasks"] = tuple(values["tasks"])
    return Variant(**values)
