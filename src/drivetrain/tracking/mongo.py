"""Runs by the Mongo-style filters of wandb's public API.

What one clause of the run search can say is said to the database; the rest is decided run by run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from drivetrain.errors import Invalid
from drivetrain.identity.model import Context
from drivetrain.tracking.model import Experiment, RunReport

if TYPE_CHECKING:
    from drivetrain.tracking.service import Tracking

PAGE = 500
MAX_DEPTH = 20
_MISSING = object()
_ORDERS = {"created_at": "start_time", "createdat": "start_time", "heartbeat_at": "end_time", "heartbeatat": "end_time"}
_NAMES: dict[str, Callable[[RunReport], Any]] = {
    "name": lambda one: one.client_id,
    "run.name": lambda one: one.client_id,
    "display_name": lambda one: one.run.name,
    "displayname": lambda one: one.run.name,
    "state": lambda one: one.state,
    "tags": lambda one: list(one.labels),
    "sweep": lambda one: one.sweep,
    "group": lambda one: one.run.tags.get("wandb.group"),
    "groupname": lambda one: one.run.tags.get("wandb.group"),
    "jobtype": lambda one: one.run.tags.get("wandb.job_type"),
    "job_type": lambda one: one.run.tags.get("wandb.job_type"),
    "username": lambda one: one.run.user,
    "user": lambda one: one.run.user,
    "commit": lambda one: one.run.git_commit,
    "notes": lambda one: one.run.tags.get("mlflow.note.content"),
    "created_at": lambda one: _time(one.run.start_ms),
    "createdat": lambda one: _time(one.run.start_ms),
    "heartbeat_at": lambda one: _time(one.heartbeat_ms),
    "heartbeatat": lambda one: _time(one.heartbeat_ms),
}


def matching(
    tracking: Tracking, ctx: Context, experiment: Experiment, wanted: Mapping[str, Any], order: str, *, start: int, limit: int | None
) -> tuple[list[RunReport], bool]:
    """The runs [start, start + limit) of those that meet the filter, in order, and whether there are more."""
    check(wanted)
    found: list[RunReport] = []
    token: str | None = None
    # Without a filter the database skips what is not wanted; with one, every run before has to be looked at.
    most = None if limit is None else start + limit + 1
    sweep = wanted.get("sweep")
    if isinstance(sweep, str):
        ids = tracking.reports.runs_of_sweep(ctx, sweep)
        details = tracking.reports.get_many(ctx, ids)
        mine = [details[one] for one in ids if one in details and details[one].run.experiment_id == experiment.id]
        found = _ordered([one for one in mine if meets(one, wanted)], order)
    else:
        while True:
            page = tracking.runs.search(ctx, [experiment.id], order_by=_order_by(order), limit=PAGE, token=token)
            details = tracking.reports.get_many(ctx, [run.id for run in page.items])
            found += [details[run.id] for run in page.items if run.id in details and meets(details[run.id], wanted)]
            token = page.token
            if token is None or (most is not None and len(found) >= most):
                break
    end = None if limit is None else start + limit
    return found[start:end], end is not None and len(found) > end


def meets(one: RunReport, wanted: Mapping[str, Any], depth: int = 0) -> bool:
    """Whether a run meets a filter."""
    if depth > MAX_DEPTH:
        raise Invalid("The filter is nested too deeply.", param="filters")
    for key, condition in wanted.items():
        if key == "$and":
            fits = all(meets(one, part, depth + 1) for part in condition)
        elif key == "$or":
            fits = not condition or any(meets(one, part, depth + 1) for part in condition)
        elif key == "$nor":
            fits = not any(meets(one, part, depth + 1) for part in condition)
        elif key == "$not":
            fits = not meets(one, condition, depth + 1)
        else:
            fits = _fits(_value(one, key), condition)
        if not fits:
            return False
    return True


def check(wanted: Any, depth: int = 0) -> None:
    """Raises `Invalid` for a filter that is none, also where no run would show it."""
    if not isinstance(wanted, Mapping) or depth > MAX_DEPTH:
        raise Invalid("A filter is a JSON object, nested at most 20 deep.", param="filters")
    for key, condition in wanted.items():
        if key in ("$and", "$or", "$nor"):
            if not isinstance(condition, list):
                raise Invalid(f"{key} takes a list of filters.", param="filters")
            for part in condition:
                check(part, depth + 1)
        elif key == "$not":
            check(condition, depth + 1)
        elif key.startswith("$"):
            raise Invalid(f"{key!r} is no operator of filters here.", param="filters")
        elif isinstance(condition, Mapping):
            for op, value in condition.items():
                if op.startswith("$"):
                    _check_operator(op, value)


def _check_operator(op: str, value: Any) -> None:
    if op not in _OPERATORS and op != "$not":
        raise Invalid(f"{op!r} is no operator of filters here: use one of {', '.join(sorted(_OPERATORS))}.", param="filters")
    if op in ("$in", "$nin") and not isinstance(value, list):
        raise Invalid(f"{op} takes a list.", param="filters")
    if op == "$regex":
        _pattern(value)


def _pattern(value: Any) -> re.Pattern[str]:
    try:
        if not isinstance(value, str) or len(value) > 500:
            raise Invalid("$regex takes a pattern of at most 500 characters.", param="filters")
        return re.compile(value)
    except re.error as error:
        raise Invalid(f"The pattern {value!r} cannot be read: {error}.", param="filters") from None


def _fits(value: Any, condition: Any) -> bool:
    if isinstance(condition, Mapping) and any(str(op).startswith("$") for op in condition):
        return all(not _fits(value, argument) if op == "$not" else _OPERATORS[op](value, argument) for op, argument in condition.items())
    return _equal(value, condition)


def _equal(value: Any, wanted: Any) -> bool:
    if value is _MISSING:
        return wanted is None
    if isinstance(value, list) and not isinstance(wanted, list):
        return any(_equal(one, wanted) for one in value)
    if isinstance(value, bool) != isinstance(wanted, bool):
        return False
    return bool(value == wanted)


def _compared(value: Any, wanted: Any, test: Callable[[Any, Any], bool]) -> bool:
    if isinstance(value, list):
        return any(_compared(one, wanted, test) for one in value)
    both_numbers = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in (value, wanted))
    both_texts = isinstance(value, str) and isinstance(wanted, str)
    return (both_numbers or both_texts) and test(value, wanted)


def _matches(value: Any, pattern: Any) -> bool:
    if isinstance(value, list):
        return any(_matches(one, pattern) for one in value)
    return isinstance(value, str) and _pattern(pattern).search(value[:10_000]) is not None


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": _equal,
    "$ne": lambda value, wanted: not _equal(value, wanted),
    "$gt": lambda value, wanted: _compared(value, wanted, lambda a, b: a > b),
    "$gte": lambda value, wanted: _compared(value, wanted, lambda a, b: a >= b),
    "$lt": lambda value, wanted: _compared(value, wanted, lambda a, b: a < b),
    "$lte": lambda value, wanted: _compared(value, wanted, lambda a, b: a <= b),
    "$in": lambda value, wanted: any(_equal(value, one) for one in wanted),
    "$nin": lambda value, wanted: not any(_equal(value, one) for one in wanted),
    "$exists": lambda value, wanted: (value is not _MISSING) == bool(wanted),
    "$regex": _matches,
}


def _value(one: RunReport, key: str) -> Any:
    for prefix, source in (("config.", one.config), ("summary_metrics.", one.summary), ("summaryMetrics.", one.summary)):
        if key.startswith(prefix):
            return _nested(source, key.removeprefix(prefix))
    named = _NAMES.get(key.lower())
    if named is None:
        raise Invalid(
            f"Runs cannot be filtered by {key!r}: use config.<key>, summary_metrics.<key>, {', '.join(sorted(_NAMES))}.", param="filters"
        )
    found = named(one)
    return _MISSING if found is None else found


def _nested(source: Mapping[str, Any], path: str) -> Any:
    """`a.b` is the key `a.b`, or `b` within `a`; an end of `.value` is how the client's config is written."""
    for name in (path, path.removesuffix(".value")):
        if name in source:
            return source[name]
        here: Any = source
        for part in name.split("."):
            here = here.get(part, _MISSING) if isinstance(here, Mapping) else _MISSING
        if here is not _MISSING:
            return here
    return _MISSING


def _time(ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _order_by(order: str) -> list[str]:
    """`-summary_metrics.loss` as an order of the run search."""
    name = order.lstrip("+-")
    way = "DESC" if order.startswith("-") else "ASC"
    if not name:
        return ["start_time ASC"]
    if name.lower() in _ORDERS:
        return [f"{_ORDERS[name.lower()]} {way}"]
    for prefix, entity in (("summary_metrics.", "metrics"), ("config.", "params")):
        if name.startswith(prefix):
            key = name.removeprefix(prefix).removesuffix(".value")
            if "`" not in key:
                return [f"{entity}.`{key}` {way}"]
    if name in ("name", "display_name", "displayName"):
        return [f"run_name {way}"]
    if name == "state":
        return [f"status {way}"]
    raise Invalid(
        f"Runs cannot be ordered by {name!r}: use created_at, heartbeat_at, summary_metrics.<key> or config.<key>.", param="order"
    )


def _ordered(found: list[RunReport], order: str) -> list[RunReport]:
    """A few runs, ordered in memory; those without a value come last."""
    name = order.lstrip("+-")
    if not name:
        return found

    def number(one: RunReport) -> float | None:
        value = _value(one, name) if "." in name else one.run.start_ms
        return float(value) if isinstance(value, (int, float)) and value == value else None

    having = [one for one in found if number(one) is not None]
    rest = [one for one in found if number(one) is None]
    return sorted(having, key=lambda one: number(one) or 0.0, reverse=order.startswith("-")) + rest
