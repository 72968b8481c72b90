"""One request of the dialect, and what several of its parts say of projects, runs and pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from drivetrain.errors import NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.platform import Platform
from drivetrain.registry.artifacts import Artifacts
from drivetrain.tracking.model import Experiment, Run

Json = dict[str, Any]
Resolvers = dict[str, Any]
"""Field → a value, or a callable that gets the field's arguments."""
MOUNT = "/wandb"
DEFAULT_PROJECT = "uncategorized"


@dataclass(frozen=True, slots=True)
class Part:
    """What one part of the dialect adds to the graph: roots of questions and mutations, and fields of a project and of a run."""

    roots: Callable[[Call, Context], Resolvers] | None = None
    mutations: Callable[[Call, Context], Resolvers] | None = None
    of_project: Callable[[Call, Context, Experiment], Resolvers] | None = None
    of_run: Callable[[Call, Context, Experiment, Run], Resolvers] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One request: the services, the address by which its client knows this server, and the parts that its graph is made of."""

    platform: Platform
    base_url: str
    parts: tuple[Part, ...] = ()

    def sign(self, ctx: Context, method: str, path: str) -> str:
        """An absolute address that needs no key. `path` begins with the mount."""
        scope = Scope.read if method in ("GET", "HEAD") else Scope.write
        seconds = float(self.platform.settings.signed_url_seconds)
        return self.base_url + self.platform.identity.sign_url(ctx, method, path, scopes=[scope], seconds=seconds)


def artifacts_of(s: Call) -> Artifacts:
    return Artifacts(s.platform.registry)


def project(s: Call, ctx: Context, name: str | None, *, make: bool = False) -> Experiment:
    """The experiment that a project is. Raises `NotFound`, unless it is to be made."""
    name = name or DEFAULT_PROJECT
    try:
        found = s.platform.tracking.experiments.find(ctx, name)
    except NotFound:
        if not make:
            raise
        return s.platform.tracking.experiments.create(ctx, name)
    if found.lifecycle != "active" and not make:
        raise NotFound(f"The project {name!r} is deleted: restore the experiment {found.id} first.")
    return found


def run_of(s: Call, ctx: Context, project_name: str | None, name: str) -> Run:
    return s.platform.tracking.reports.find(ctx, project(s, ctx, project_name).id, name)


def when(ms: int | None) -> str | None:
    """RFC 3339, to the second, as the protocol writes times."""
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def connection(nodes: list[Any], *, args: Json, total: int | None = None) -> Json:
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
