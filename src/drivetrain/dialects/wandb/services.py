"""What the dialect's parts need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drivetrain.errors import NotFound
from drivetrain.identity.model import Context
from drivetrain.registry.service import Registry
from drivetrain.tracking.model import Experiment, Run
from drivetrain.tracking.service import Tracking
from drivetrain.training.sweeps.service import Sweeps

Json = dict[str, Any]
Resolvers = dict[str, Any]
"""Field → a value, or a callable that gets the field's arguments."""
MOUNT = "/wandb"
DEFAULT_PROJECT = "uncategorized"


@dataclass(frozen=True, slots=True)
class Services:
    """`sign(ctx, method, path)` gives an absolute address that needs no key; `path` begins with the mount. `alert` tells people of what a
    run's script wants them to know: run, severity, title, text."""

    tracking: Tracking
    registry: Registry
    sweeps: Sweeps
    sign_url: Callable[[Context, str, str], str]
    alert: Callable[[Context, Run, str, str, str], None]
    base_url: str

    def sign(self, ctx: Context, method: str, path: str) -> str:
        return self.base_url + self.sign_url(ctx, method, path)


def project(s: Services, ctx: Context, name: str | None, *, make: bool = False) -> Experiment:
    """The experiment that a project is. Raises `NotFound`, unless it is to be made."""
    name = name or DEFAULT_PROJECT
    try:
        found = s.tracking.experiments.find(ctx, name)
    except NotFound:
        if not make:
            raise
        return s.tracking.experiments.create(ctx, name)
    if found.lifecycle != "active" and not make:
        raise NotFound(f"The project {name!r} is deleted: restore the experiment {found.id} first.")
    return found


def run_of(s: Services, ctx: Context, project_name: str | None, name: str) -> Run:
    return s.tracking.reports.find(ctx, project(s, ctx, project_name).id, name)


def when(ms: int | None) -> str | None:
    """RFC 3339, to the second, as the protocol writes times."""
    from datetime import UTC, datetime

    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def connection(nodes: list[Any], *, args: Json, total: int | None = None, cursor: Callable[[int], str] | None = None) -> Json:
    """All of `nodes` that `args` (first, after) ask for; cursors are positions."""
    start = int(after) if (after := str(args.get("after") or "")).isdigit() else 0
    first = args.get("first")
    count = first if isinstance(first, int) and first > 0 else len(nodes)
    some = nodes[start : start + count]
    return {
        "totalCount": len(nodes) if total is None else total,
        "edges": [{"node": node, "cursor": str(start + n + 1)} for n, node in enumerate(some)],
        "pageInfo": {"__typename": "PageInfo", "endCursor": str(start + len(some)), "hasNextPage": start + len(some) < len(nodes)},
    }
