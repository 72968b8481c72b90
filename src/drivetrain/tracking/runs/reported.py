"""What runs are searched by beyond MLflow's idea of them: what their clients report, and what stands for it in runs of other clients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from drivetrain.search.conditions import Condition
from drivetrain.search.documents import Document, OnlyNumbers, Spelled
from drivetrain.search.sql import Bool, Column, Expr, Fields, Numbers, Source, compare, rows
from drivetrain.tags import LABEL
from drivetrain.tracking import tables as t
from drivetrain.tracking.history import tables as d
from drivetrain.tracking.history.reporting import OF_STATUS, STATES

LATEST = 253_402_300_799_999
"""The last millisecond whose year has four digits."""

_r, _d, _g = t.runs.c, d.run_details.c, t.run_tags.c
_mine = _d.run_id == _r.id


def _said(column: sa.Column[Any]) -> Expr:
    return sa.select(column).where(_mine).correlate(t.runs).scalar_subquery()


def _state() -> Expr:
    """What its client said, while its status agrees; else what the status is called."""
    said = _said(_d.state)
    agreed = sa.case(*((said == state, status) for state, status in STATES.items())) == _r.status
    of_status = sa.case(*((_r.status == status, state) for status, state in OF_STATUS.items()), else_="running")
    return sa.case((agreed, said), else_=of_status)


@dataclass(frozen=True, slots=True)
class Moment:
    """A time in milliseconds, searched by as a text to the second: 2026-01-31T12:00:00."""

    ms: Expr

    def meets(self, condition: Condition, *, sqlite: bool) -> Bool:
        seconds = sa.case((self.ms < 0, 0), (self.ms > LATEST, LATEST), else_=self.ms) // 1000
        if sqlite:
            return compare(sa.func.strftime("%Y-%m-%dT%H:%M:%S", seconds, "unixepoch", type_=sa.Text), condition, sqlite=sqlite)
        moment = sa.func.timezone("UTC", sa.func.to_timestamp(seconds))
        return compare(sa.func.to_char(moment, 'YYYY-MM-DD"T"HH24:MI:SS', type_=sa.Text), condition, sqlite=sqlite)


@dataclass(frozen=True, slots=True)
class Labels:
    """The tags without a value; each run has a list of them, be it an empty one."""

    def meets(self, condition: Condition, *, sqlite: bool) -> Bool:
        if condition.op in ("IS NULL", "IS NOT NULL"):
            return sa.true() if condition.op == "IS NOT NULL" else sa.false()
        label = sa.func.substr(_g.key, len(LABEL) + 1, type_=sa.Text)
        mine = rows(t.run_tags, _g.run_id == _r.id, _g.key.startswith(LABEL, autoescape=True))
        return mine.where(compare(label, condition, sqlite=sqlite)).exists()


_numbers = Numbers(t.latest_metrics, t.latest_metrics.c.run_id, _r.id)
ATTRIBUTES: Mapping[str, Source] = {
    "client_id": Column(sa.func.coalesce(_said(_d.client_id), _r.id)),
    "state": Column(_state()),
    "sweep": Column(_said(_d.sweep)),
    "label": Labels(),
    "created": Moment(_r.start_ms),
    "heartbeat": Moment(sa.func.coalesce(_said(_d.heartbeat_ms), sa.func.nullif(_r.end_ms, 0), _r.start_ms)),
}
FIELDS: Fields = {
    "config": Document(d.run_details, _mine, _d.config, Spelled(t.params, t.params.c.run_id, _r.id)),
    "summary": Document(d.run_details, _mine, _d.summary, OnlyNumbers(_numbers)),
}
