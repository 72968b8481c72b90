"""Go to anything: runs, models, deployments, one request by its id, pages, commands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Response

from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.web import naming
from drivetrain.web.registry import models
from drivetrain.web.render import NAVIGATION, Pages, viewer
from drivetrain.web.serving import deployments

Viewer = Annotated[Context, Depends(viewer)]
_EACH = 6


@dataclass(frozen=True)
class Found:
    group: str
    label: str
    note: str
    url: str
    command: str = ""
    icon: str = ""


def find(platform: Platform, ctx: Context, text: str) -> list[Found]:
    """What `text` may mean, grouped, the most exact first. Without a text: where one can go."""
    text = text.strip()
    wanted = text.lower()
    found: list[Found] = []
    plain = wanted.replace("-", "")
    if re.fullmatch(r"[0-9a-f]{32}", plain):
        found.append(Found("By id", f"Request {plain[-8:]}", "trace", f"/requests/{plain}", icon="deployments"))
        found.append(Found("By id", f"Run {plain[-8:]}", "", f"/runs/{plain}", icon="runs"))
    names = [deployment for deployment in platform.serving.list(ctx) if wanted in deployment.name.lower()]
    for deployment in names[:_EACH]:
        note = deployments.state(deployment).word
        found.append(Found("Deployments", deployment.name, note, naming.address(deployment.name), icon="deployments"))
    repos = [repo for repo in platform.registry.repos(ctx) if wanted in repo.name.lower() or wanted in repo.slug]
    found += [
        Found("Models", repo.name, f"v{repo.latest}" if repo.latest else "", models.address(repo.slug), icon="models")
        for repo in repos[:_EACH]
    ]
    experiments = platform.tracking.experiments.all(ctx)
    named = [one for one in experiments if wanted in one.name.lower()][: _EACH if wanted else 3]
    found += [Found("Experiments", one.name, "", f"/runs?experiment={one.id}", icon="runs") for one in named]
    if wanted:
        likely = text.replace("'", "").replace("%", "")
        page = platform.tracking.runs.search(
            ctx, [one.id for one in experiments], filter=f"attributes.run_name ILIKE '%{likely}%'", limit=_EACH
        )
        by_id = {one.id: one.name for one in experiments}
        found += [Found("Runs", run.name, by_id.get(run.experiment_id, ""), f"/runs/{run.id}", icon="runs") for run in page.items]
    for section, name, url in NAVIGATION:
        if wanted in name.lower():
            found.append(Found("Pages", name, "", url, icon=section))
    for label, url, command, icon in (
        ("Switch between light and dark", "#", "theme", "sun"),
        ("Make a key", "/keys", "", "keys"),
        ("API reference", "/api/v1/docs", "", "file"),
    ):
        if wanted in label.lower():
            found.append(Found("Commands", label, "", url, command, icon))
    if wanted:
        names_of = [one.slug for one in platform.identity.list_workspaces(ctx) if one.slug != ctx.workspace]
        spaces = [slug for slug in names_of if wanted in slug or wanted in "workspace"]
        found += [Found("Workspaces", slug, "switch", "/", f"workspace:{slug}", "overview") for slug in spaces[:_EACH]]
    if not found:
        found.append(
            Found(
                "Nothing by that name",
                f"Filter runs by “{text}”",
                "",
                f"/runs?filter={quote(f'attributes.run_name ILIKE {text!r}')}",
                icon="search",
            )
        )
    return found


def routes(platform: Platform, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)

    @router.get("/search")
    def search(ctx: Viewer, q: str = "") -> Response:
        return pages.fragment("_search.html", found=find(platform, ctx, q[:200]))

    return router
