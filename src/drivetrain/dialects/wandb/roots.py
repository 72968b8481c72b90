"""The roots of GraphQL: what each part of the dialect answers, put together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from drivetrain.dialects.wandb import api, artifacts, runs, sweeps
from drivetrain.dialects.wandb.call import Call, Json, Part, Resolvers, connection, project
from drivetrain.errors import NotFound
from drivetrain.identity.model import Context

PARTS = (
    Part(of_project=api.project_fields, of_run=api.run_fields),
    Part(artifacts.roots, artifacts.mutations, artifacts.project_fields, artifacts.run_fields),
    Part(mutations=sweeps.mutations, of_project=sweeps.project_fields, of_run=sweeps.run_fields),
)
FEATURES = ("STRUCTURED_CONSOLE_LOGS",)


def root(call: Call, ctx: Context) -> dict[str, Resolvers]:
    s = replace(call, parts=PARTS)

    def of_project(args: Json) -> Json | None:
        try:
            found = project(s, ctx, args.get("name"))
        except NotFound:
            return None
        return runs.project_object(s, ctx, found)

    def projects(args: Json) -> Json:
        nodes: list[Any] = [runs.project_object(s, ctx, one) for one in s.platform.tracking.experiments.all(ctx, limit=10_000)]
        return connection(nodes, args=args)

    def viewer(_: Json) -> Json:
        return runs.user(ctx.user_name, ctx.workspace)

    query: Resolvers = {
        "viewer": viewer,
        "serverInfo": {
            "features": [{"name": name, "isEnabled": True} for name in FEATURES],
            "cliVersionInfo": '{"max_cli_version": "0.31.0"}',
        },
        "entity": lambda _: runs.entity_object(ctx),
        "project": of_project,
        "model": of_project,
        "models": projects,
        "projects": projects,
    }
    mutation = runs.mutations(s, ctx)
    for part in PARTS:
        query |= part.roots(s, ctx) if part.roots else {}
        mutation |= part.mutations(s, ctx) if part.mutations else {}
    return {"query": query, "mutation": mutation}
