"""The playground: talk to a model, or send it a row, through the same gateway as every client."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from drivetrain.engines.plan import recognise
from drivetrain.errors import Invalid, NotFound
from drivetrain.formats.format import Files
from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.serving.model import Deployment
from drivetrain.web.registry import models
from drivetrain.web.render import Pages, viewer
from drivetrain.web.serving import deployments
from drivetrain.web.serving.views import Kind, Playable
from drivetrain.web.snippets import infer_example

Viewer = Annotated[Context, Depends(viewer)]


def playables(platform: Platform, ctx: Context) -> list[Playable]:
    """What can be talked to: deployments, then text models that start when they are called."""
    deployed = platform.serving.list(ctx)
    found = {deployment.name: _of(deployment) for deployment in deployed if not deployment.implicit}
    running = {
        deployment.name.partition("@")[0]: deployments.state(deployment).word.lower() for deployment in deployed if deployment.implicit
    }
    for row in models.listing(platform, ctx):
        if row.on_demand and row.slug not in found:
            found[row.slug] = Playable(row.slug, _kind(row.on_demand), running.get(row.slug, "starts when called"))
    return sorted(found.values(), key=lambda one: (one.kind != "chat", one.name))


def _of(deployment: Deployment) -> Playable:
    tasks = {task for variant in deployments.live(deployment) for task in variant.tasks}
    return Playable(deployment.name, _kind(tasks), deployments.state(deployment).word.lower())


def _kind(tasks: Collection[str]) -> Kind:
    """How one talks to what does these."""
    texts: tuple[Kind, ...] = ("chat", "completion", "embeddings")
    return next((kind for kind in texts if kind in tasks), "tabular")


def _row(platform: Platform, ctx: Context, name: str) -> str:
    """The last row that was sent to a tabular deployment, or the columns that its signature asks for."""
    try:
        deployment = platform.serving.get(ctx, name)
    except NotFound:
        return ""
    example = infer_example(platform.events.recent(ctx.workspace_id, deployment=deployment.id, limit=20))
    if example is None:
        example = {"dataframe_records": [_columns(platform, deployment) or {"column": 0.0}]}
    return json.dumps(example, indent=2)


def _columns(platform: Platform, deployment: Deployment) -> dict[str, object]:
    """A row of zeros with the columns that the model says it takes; {} where it does not say."""
    for variant in deployments.live(deployment):
        try:
            files = Files(platform.registry.files(variant.commit), platform.registry.blobs.read_bytes)
            found = recognise(files.entries)
            columns = found.engine.columns(files, found.files) if found is not None and found.engine is not None else ()
        except (NotFound, Invalid):
            continue
        if columns:
            return {column.name: "" if column.type == "string" else 0 for column in columns}
    return {}


def routes(platform: Platform, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)

    @router.get("/playground")
    def playground(request: Request, ctx: Viewer, model: str = "") -> Response:
        choices = playables(platform, ctx)
        chosen = next((one for one in choices if one.name == model), None)
        if chosen is None and model:
            # A name of a version, say models:/smollm2@champion: the gateway knows whether it can be called.
            chosen = Playable(model, "chat", "by name")
            choices = [chosen, *choices]
        chosen = chosen or (choices[0] if choices else None)
        row = _row(platform, ctx, chosen.name) if chosen and chosen.kind == "tabular" else ""
        return pages.page(request, "serving/playground.html", path=[("Playground", "/playground")], choices=choices, chosen=chosen, row=row)

    return router
