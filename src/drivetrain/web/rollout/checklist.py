"""The production checklist of a deployment: each line with why it matters and the command that fixes it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from drivetrain.checklist.model import Checklist, Line, Standing
from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.web import format as fmt
from drivetrain.web import naming
from drivetrain.web.render import Pages, viewer
from drivetrain.web.rollout.views import ChecklistPage, CheckRow
from drivetrain.web.views import State

Viewer = Annotated[Context, Depends(viewer)]


def view(platform: Platform, ctx: Context, name: str) -> ChecklistPage:
    found = platform.checklists.of(ctx, name)
    rows = [_row(line) for line in found.lines]
    return ChecklistPage(
        deployment=name,
        url=naming.address(name),
        state=State("Ready", "good") if found.ready else State("Not ready", "bad", "A required line is missing"),
        headline=_headline(found),
        rows=sorted(rows, key=_worst),
    )


def _headline(found: Checklist) -> str:
    missing = [line for line in found.lines if line.required and line.state is Standing.missing]
    if missing:
        return f"{fmt.plural(len(missing), 'required line')} {'is' if len(missing) == 1 else 'are'} missing"
    open_ = sum(line.state is not Standing.ok for line in found.lines)
    return f"Ready for users, with {fmt.plural(open_, 'line')} to look at" if open_ else "Ready for users"


def _row(line: Line) -> CheckRow:
    missing = State("Missing", "bad" if line.required else "warn")
    states = {Standing.ok: State("Good", "good"), Standing.warn: State("Look", "warn"), Standing.missing: missing}
    name, what = (text[:1].upper() + text[1:] for text in (line.name, line.what))
    return CheckRow(name, states[line.state], what, line.why, line.fix, line.required)


def _worst(row: CheckRow) -> int:
    return {"bad": 0, "warn": 1}.get(row.state.tone, 2)


def routes(platform: Platform, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)

    @router.get("/deployments/{name:path}/checklist")
    def checklist(request: Request, ctx: Viewer, name: str) -> Response:
        url = naming.address(name)
        path = [("Deployments", "/deployments"), (name, url), ("Checklist", f"{url}/checklist")]
        return pages.page(request, "rollout/checklist.html", path=path, view=view(platform, ctx, name))

    return router
