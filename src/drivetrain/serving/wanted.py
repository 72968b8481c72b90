"""What is wanted of deployments, as the database has it; and what servers write down of the replicas that they run for it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from drivetrain.serving import tables as t
from drivetrain.serving.model import Variant
from drivetrain.serving.service import variant_of
from drivetrain.store.ids import now_ms
from drivetrain.store.sql import Database


class Wanted:
    """The desired state of one deployment. `stand_in` serves while none of the live variants has ever been ready: a version that cannot
    start does not take the one before down, also when the server was started anew."""

    def __init__(self, row: sa.Row[Any], variants: list[Variant], stand_in: Variant | None = None) -> None:
        self.row = row
        self.variants = variants
        self.stand_in = stand_in

    @property
    def live(self) -> list[Variant]:
        return [variant for variant in self.variants if variant.retired_ms is None]

    @property
    def serving(self) -> list[Variant]:
        """The live ones that have traffic. What becomes of the others, as of a canary that does not start, is nothing to those who ask."""
        return [variant for variant in self.live if variant.weight > 0]

    @property
    def on_demand(self) -> bool:
        return all(variant.min_replicas == 0 for variant in self.live)


def wanted(db: Database, held: Collection[str]) -> dict[str, Wanted]:
    """Deployment id → what is wanted of it, with the variants that are `held` by a replica although they are retired."""
    with db.read() as c:
        rows = c.execute(sa.select(t.deployments).where(t.deployments.c.deleted_ms.is_(None))).all()
        some = sa.or_(t.variants.c.retired_ms.is_(None), t.variants.c.id.in_(held))
        found: dict[str, list[Variant]] = {}
        for row in c.execute(sa.select(t.variants).where(some).order_by(t.variants.c.created_ms)):
            found.setdefault(row.deployment_id, []).append(variant_of(row))
        unproven = [row.id for row in rows if not any(_proven(variant) for variant in found.get(row.id, ()))]
        stand_ins = _stand_ins(c, unproven) if unproven else {}
    for id_, variant in stand_ins.items():
        known = found.setdefault(id_, [])
        if all(variant.id != other.id for other in known):
            known.insert(0, variant)
    return {row.id: Wanted(row, found.get(row.id, []), stand_ins.get(row.id)) for row in rows}


def note_ready(db: Database, variants: Collection[str]) -> None:
    """Write down that these variants have been ready, where it is for the first time."""
    first = t.variants.c.id.in_(variants), t.variants.c.ready_ms.is_(None)
    with db.write() as c:
        c.execute(sa.update(t.variants).where(*first).values(ready_ms=now_ms()))


def write_replicas(db: Database, rows: Sequence[Mapping[str, object]], *, gone: Iterable[str]) -> None:
    """Replace what is written of these replicas; of those that are `gone` nothing is left."""
    ids = [*gone, *(str(row["id"]) for row in rows)]
    with db.write() as c:
        c.execute(sa.delete(t.replicas).where(t.replicas.c.id.in_(ids)))
        if rows:
            c.execute(sa.insert(t.replicas), [dict(row) for row in rows])


def forget_replicas(db: Database, server_id: str) -> None:
    """This server runs none."""
    with db.write() as c:
        c.execute(sa.delete(t.replicas).where(t.replicas.c.server_id == server_id))


def _proven(variant: Variant) -> bool:
    return variant.retired_ms is None and variant.weight > 0 and variant.ready_ms is not None


def _stand_ins(c: sa.Connection, deployments: list[str]) -> dict[str, Variant]:
    """The newest retired variant that has served, of each of these deployments that has one."""
    of = t.variants.c
    served = of.retired_ms.is_not(None), of.ready_ms.is_not(None), ~of.withdrawn
    query = sa.select(t.variants).where(of.deployment_id.in_(deployments), *served)
    return {row.deployment_id: variant_of(row) for row in c.execute(query.order_by(of.retired_ms, of.created_ms))}
