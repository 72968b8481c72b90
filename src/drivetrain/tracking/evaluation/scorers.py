"""Scorers: what judges a model's answers, versioned within an experiment. Kept as text for the client that runs it, never run here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from drivetrain.errors import Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database, chunked, upsert
from drivetrain.tracking import checks
from drivetrain.tracking import tables as t
from drivetrain.tracking.evaluation import tables as v
from drivetrain.tracking.finders import ensure_default, experiment_row

MAX_NAME = 256

_s, _n = v.scorers.c, v.scorer_versions.c


class Scorer(Struct, frozen=True):
    """One version of a scorer. `text` is JSON in the client's own form."""

    id: str
    experiment_id: str
    name: str
    version: int
    text: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class Scorers:
    db: Database

    def register(self, ctx: Context, experiment_id: str, name: str, text: str) -> Scorer:
        """Keep a scorer as the next version of its name. Raises `Invalid` for one that holds code to be run where it is loaded."""
        ctx.require(Scope.write)
        checks.name(name, "a scorer", MAX_NAME)
        _check_text(text)
        with self.db.write() as c:
            experiment = experiment_row(c, ctx, experiment_id, writable=True)
            row = {"id": uuid7(), "experiment_uid": experiment.uid, "name": name}
            # Writing the name again holds the row: whoever registers at the same moment waits, and takes the number after.
            upsert(c, v.scorers, [row], key=["experiment_uid", "name"], update=["name"])
            scorer_id = c.execute(sa.select(_s.id).where(_s.experiment_uid == experiment.uid, _s.name == name)).scalar_one()
            number = (c.scalar(sa.select(sa.func.max(_n.number)).where(_n.scorer_id == scorer_id)) or 0) + 1
            now = now_ms()
            c.execute(v.scorer_versions.insert().values(scorer_id=scorer_id, number=number, text=text, created_ms=now))
            return Scorer(scorer_id, str(experiment.number), name, number, text, now)

    def all(self, ctx: Context, experiment_ids: Sequence[str] | None = None) -> list[Scorer]:
        """The newest version of each scorer of these experiments (None: of all), by experiment and name. Deleted experiments and those
        that are not there have none."""
        ctx.require(Scope.read)
        e = t.experiments.c
        newest = sa.select(sa.func.max(_n.number)).where(_n.scorer_id == _s.id).correlate(v.scorers).scalar_subquery()
        query = _select(ctx).where(e.lifecycle == "active", _n.number == newest)
        with self.db.read() as c:
            if experiment_ids is None:
                found = [_scorer(row) for row in c.execute(query)]
            else:
                parts = chunked(sorted(set(numbers(experiment_ids))))
                found = [_scorer(row) for some in parts for row in c.execute(query.where(e.number.in_(some)))]
        return sorted(found, key=lambda one: (int(one.experiment_id), one.name))

    def of_experiment(self, ctx: Context, experiment_id: str) -> list[Scorer]:
        """As `scorers`, of one experiment, which must be there and active."""
        ctx.require(Scope.read)
        ensure_default(self.db, ctx, experiment_id)
        with self.db.read() as c:
            _active(c, ctx, experiment_id)
        return self.all(ctx, [experiment_id])

    def versions(self, ctx: Context, experiment_id: str, name: str) -> list[Scorer]:
        """All versions of a scorer, the oldest first. Raises `NotFound` if there is none."""
        ctx.require(Scope.read)
        ensure_default(self.db, ctx, experiment_id)
        with self.db.read() as c:
            experiment = _active(c, ctx, experiment_id)
            query = _select(ctx).where(_s.experiment_uid == experiment.uid, _s.name == name).order_by(_n.number)
            found = [_scorer(row) for row in c.execute(query)]
        if not found:
            raise _absent(experiment_id, name, None)
        return found

    def get(self, ctx: Context, experiment_id: str, name: str, version: int | None = None) -> Scorer:
        """A version of a scorer, the newest if none is named."""
        for one in reversed(self.versions(ctx, experiment_id, name)):
            if version in (None, one.version):
                return one
        raise _absent(experiment_id, name, version)

    def delete(self, ctx: Context, experiment_id: str, name: str, version: int | None = None) -> None:
        """Delete one version of a scorer, or all of it."""
        ctx.require(Scope.write)
        ensure_default(self.db, ctx, experiment_id)
        with self.db.write() as c:
            experiment = _active(c, ctx, experiment_id)
            mine = sa.select(_s.id).where(_s.experiment_uid == experiment.uid, _s.name == name)
            scorer_id = c.scalar(mine.with_for_update())
            where = [_n.scorer_id == scorer_id] if version is None else [_n.scorer_id == scorer_id, _n.number == version]
            if scorer_id is None or c.execute(v.scorer_versions.delete().where(*where)).rowcount == 0:
                raise _absent(experiment_id, name, version)
            if version is None:
                c.execute(v.scorers.delete().where(_s.id == scorer_id))


def numbers(experiment_ids: Iterable[str]) -> list[int]:
    """Of those of the ids that can be one."""
    return [int(one) for one in experiment_ids if one.isascii() and one.isdigit() and len(one) < 10]


def _select(ctx: Context) -> sa.Select[Any]:
    e = t.experiments.c
    joined = v.scorer_versions.join(v.scorers, _s.id == _n.scorer_id).join(t.experiments, e.uid == _s.experiment_uid)
    columns = (_s.id, e.number.label("experiment"), _s.name, _n.number, _n.text, _n.created_ms)
    return sa.select(*columns).select_from(joined).where(e.workspace_id == ctx.workspace_id)


def _scorer(row: sa.Row[Any]) -> Scorer:
    return Scorer(row.id, str(row.experiment), row.name, row.number, row.text, row.created_ms)


def _absent(experiment_id: str, name: str, version: int | None) -> NotFound:
    which = "" if version is None else f" and version {version}"
    return NotFound(f"Scorer with name {checks.shown(name)}{which} not found for experiment {experiment_id}.", param="name")


def _check_text(text: str) -> None:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise Invalid("serialized_scorer must be valid JSON, and an object.", param="serialized_scorer")
    if _holds_code(parsed):
        raise Invalid(
            "Custom scorer registration (using @scorer decorator) is disabled: loading such a scorer runs the code that it holds. Keep its "
            "code in a repository and import it, or register a built-in scorer or one made with make_judge.",
            param="serialized_scorer",
        )


def _holds_code(found: object) -> bool:
    """Also below, as of one scorer of several that vote."""
    waiting = [found]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if one.get("call_source") is not None:
                return True
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
    return False


def _active(c: sa.Connection, ctx: Context, experiment_id: str) -> sa.Row[Any]:
    row = experiment_row(c, ctx, experiment_id)
    if row.lifecycle != "active":
        raise Invalid(f"The experiment {row.name!r} ({experiment_id}) is deleted: restore it to use its scorers.", param="experiment_id")
    return row
