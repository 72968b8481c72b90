"""What live data are compared with: the profile of the training data, found by itself through variant → version → run; else what the
first live requests looked like."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from drivetrain.errors import NotFound
from drivetrain.identity.model import Context
from drivetrain.lineage.service import Lineage
from drivetrain.monitoring.tables import references as table
from drivetrain.profiles.model import FILE, Profile
from drivetrain.registry.service import Registry
from drivetrain.serving.model import Variant
from drivetrain.store.ids import now_ms
from drivetrain.store.sql import Database, upsert
from drivetrain.tracking.model import Owner
from drivetrain.tracking.service import Tracking


class References:
    """The reference of each variant. It is looked for once; a profile that is logged later takes the place of one that was learned."""

    def __init__(self, db: Database, registry: Registry, tracking: Tracking) -> None:
        self._db = db
        self._registry = registry
        self._lineage = Lineage(db)
        self._tracking = tracking

    def of(self, ctx: Context, variant: Variant) -> Profile | None:
        """The profile that a variant's data are compared with; None before there is one."""
        with self._db.read() as c:
            row = c.execute(sa.select(table).where(table.c.variant_id == variant.id)).one_or_none()
        if row is not None and not row.learned:
            return msgspec.json.decode(row.profile, type=Profile)
        logged = self._logged(ctx, variant)
        if logged is not None:
            self._keep(variant, logged, learned=False)
            return logged
        return msgspec.json.decode(row.profile, type=Profile) if row is not None else None

    def known(self, ctx: Context, variant: Variant) -> Profile | None:
        """The profile of what a variant was trained on; None where that was not logged."""
        found = self.of(ctx, variant)
        told = self.source(variant.id)
        return found if told is not None and not told[1] else None

    def source(self, variant_id: str) -> tuple[str, bool] | None:
        """Where a variant's reference comes from, and whether it was learned from live traffic."""
        with self._db.read() as c:
            row = c.execute(sa.select(table.c.source, table.c.learned).where(table.c.variant_id == variant_id)).one_or_none()
        return None if row is None else (row.source, row.learned)

    def learned(self, variant: Variant, profile: Profile) -> None:
        """Take the first live data for the reference."""
        self._keep(variant, profile, learned=True)

    def _keep(self, variant: Variant, profile: Profile, *, learned: bool) -> None:
        text = msgspec.json.encode(profile).decode()
        row = {"variant_id": variant.id, "profile": text, "source": profile.source[:300], "learned": learned, "created_ms": now_ms()}
        with self._db.write() as c:
            upsert(c, table, [row], key=["variant_id"], update=["profile", "source", "learned", "created_ms"])

    def _logged(self, ctx: Context, variant: Variant) -> Profile | None:
        if variant.version is None:
            return None
        try:
            version = self._registry.get_version(ctx, variant.repo.rpartition("/")[2], variant.version)
            run_id = self._lineage.maker(ctx, version.id)
            if run_id is None:
                return None
            artifact = self._tracking.artifacts.get(ctx, Owner.run, run_id, FILE)
            raw = b"".join(self._registry.blobs.read(artifact.sha256))
            profile = msgspec.json.decode(raw, type=Profile)
        except (NotFound, msgspec.DecodeError):
            return None
        profile.source = f"the training data of run {run_id}"
        return profile
