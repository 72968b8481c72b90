"""What `wandb.Api` reads: runs by Mongo-style filters, history, system metrics, console."""

from __future__ import annotations

import json
from typing import Any

from drivetrain.dialects.wandb import filters
from drivetrain.dialects.wandb.call import Call, Json, Resolvers, connection
from drivetrain.dialects.wandb.runs import run_object
from drivetrain.errors import Invalid
from drivetrain.identity.model import Context
from drivetrain.search import mongo
from drivetrain.search.conditions import Node
from drivetrain.search.tokens import from_token, to_token
from drivetrain.tracking.model import Experiment, Run
from drivetrain.tracking.values import strict

_MOST_SAMPLES = 10_000
_MOST_RUNS = 1000


def _number(args: Json, key: str, default: int | None) -> int | None:
    value = args.get(key)
    return int(value) if isinstance(value, (int, float)) or (isinstance(value, str) and value.lstrip("-").isdigit()) else default


def _filters(args: Json) -> Node:
    text = args.get("filters")
    try:
        found = json.loads(text) if isinstance(text, str) and text else text or {}
    except (ValueError, RecursionError):
        raise Invalid("The filters are no JSON.", param="filters") from None
    return mongo.parse(found, filters.key_of)


def _place(args: Json) -> tuple[str | None, int]:
    """A cursor is the token of a page, and how many of its runs come before."""
    after = args.get("after")
    token, skipped = from_token(str(after), 2) if after else (None, 0)
    if not (token is None or isinstance(token, str)) or not isinstance(skipped, int) or not 0 <= skipped <= _MOST_RUNS:
        raise Invalid("The cursor is not one of this search.", param="after")
    return token, skipped


def project_fields(s: Call, ctx: Context, experiment: Experiment) -> Resolvers:
    return {
        "runs": lambda args: runs(s, ctx, experiment, args),
        "runCount": lambda args: run_count(s, ctx, experiment, args),
    }


def run_fields(s: Call, ctx: Context, _: Experiment, run: Run) -> Resolvers:
    return {
        "history": lambda args: history(s, ctx, run, args),
        "events": lambda args: events(s, ctx, run, args),
        "sampledHistory": lambda args: sampled(s, ctx, run, args),
        "logLines": lambda args: console(s, ctx, run, args),
    }


def runs(s: Call, ctx: Context, experiment: Experiment, args: Json) -> Json:
    first = max(1, min(_number(args, "first", 50) or 50, _MOST_RUNS))
    token, skipped = _place(args)
    order = filters.order_by(str(args.get("order") or ""))
    page = s.platform.tracking.runs.search(ctx, [experiment.id], filter=_filters(args), order_by=order, limit=skipped + first, token=token)
    reports = s.platform.tracking.reports.get_many(ctx, [run.id for run in page.items[skipped:]])
    found = [reports[run.id] for run in page.items[skipped:] if run.id in reports]
    cursors = [to_token([token, skipped + n]) for n in range(1, len(found) + 1)]
    if page.token is not None and cursors:
        cursors[-1] = to_token([page.token, 0])
    made = [run_object(s, ctx, experiment, one.run, one) for one in found]
    return {
        "totalCount": lambda _: run_count(s, ctx, experiment, args),
        "edges": [{"node": node, "cursor": cursor} for node, cursor in zip(made, cursors, strict=True)],
        "pageInfo": {"__typename": "PageInfo", "endCursor": cursors[-1] if cursors else "", "hasNextPage": page.token is not None},
    }


def run_count(s: Call, ctx: Context, experiment: Experiment, args: Json) -> int:
    return s.platform.tracking.groups.count(ctx, [experiment.id], filter=_filters(args))


def history(s: Call, ctx: Context, run: Run, args: Json) -> list[str]:
    """Rows as JSON texts: of a range of steps all of them, else as many samples as are asked for."""
    low, high = _number(args, "minStep", None), _number(args, "maxStep", None)
    samples = min(_number(args, "samples", 500) or 500, _MOST_SAMPLES)
    if low is not None or high is not None:
        found = s.platform.tracking.history.rows(ctx, run.id, min_step=low or 0, max_step=high, limit=_MOST_SAMPLES)
    else:
        found = s.platform.tracking.history.rows(ctx, run.id, limit=samples, sample=True)
    return [json.dumps(row) for row in found]


def events(s: Call, ctx: Context, run: Run, args: Json) -> list[str]:
    samples = min(_number(args, "samples", 500) or 500, _MOST_SAMPLES)
    found = s.platform.tracking.history.rows(ctx, run.id, limit=samples, sample=True, system=True)
    for row in found:
        row.pop("_step", None)
    return [json.dumps(row) for row in found]


def sampled(s: Call, ctx: Context, run: Run, args: Json) -> list[list[Any]]:
    """`sampledHistory(specs)`: for each spec the rows that have all of its keys."""
    specs = args.get("specs") or []
    out: list[list[Any]] = []
    for text in specs if isinstance(specs, list) else [specs]:
        spec = json.loads(text) if isinstance(text, str) else text
        if not isinstance(spec, dict):
            raise Invalid("A spec of sampledHistory is a JSON object.", param="specs")
        keys = [str(key) for key in spec.get("keys") or []]
        low, high = _number(spec, "minStep", 0) or 0, _number(spec, "maxStep", None)
        found = s.platform.tracking.history.rows(
            ctx,
            run.id,
            min_step=low,
            max_step=None if high is None else high + 1,
            limit=min(_number(spec, "samples", 500) or 500, _MOST_SAMPLES),
            keys=keys or None,
            sample=high is None,
        )
        out.append([strict(row) for row in found])
    return out


def console(s: Call, ctx: Context, run: Run, args: Json) -> Json:
    last = _number(args, "last", None)
    if last is not None:
        lines, more = s.platform.tracking.history.console(ctx, run.id, limit=min(last, 10_000), last=True), False
    else:
        first = min(_number(args, "first", 1000) or 1000, 10_000)
        lines = s.platform.tracking.history.console(ctx, run.id, after=(_number(args, "after", 0) or 0) - 1, limit=first + 1)
        more, lines = len(lines) > first, lines[:first]
    nodes = [{"number": n.number, "timestamp": n.time, "level": n.level or None, "label": None, "line": n.text} for n in lines]
    out = connection(nodes, args={})
    out["edges"] = [{"node": node, "cursor": str(line.number + 1)} for node, line in zip(nodes, lines, strict=True)]
    out["pageInfo"] = {"__typename": "PageInfo", "endCursor": str(lines[-1].number + 1) if lines else "0", "hasNextPage": more}
    return out
