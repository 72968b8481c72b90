"""The roots of GraphQL: what each part of the dialect answers, put together."""

from __future__ import annotations

from typing import Any

from drivetrain.dialects.wandb import artifacts, runs, sweeps
from drivetrain.dialects.wandb.call import Call, Json, Resolvers, connection, project
from drivetrain.errors import NotFound
from drivetrain.identity.model import Context
from drivetrain.tracking.model import Experiment, Run

PARTS = (artifacts, sweeps)
FEATURES = ("STRUCTURED_CONSOLE_LOGS",)


def root(s: Call, ctx: Context) -> dict[str, Resolvers]:
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
        query |= part.roots(s, ctx)
        mutation |= part.mutations(s, ctx)
    return {"query": query, "mutation": mutation}


def project_fields(s: Call, ctx: Context, experiment: Experiment) -> Resolvers:
    found: Resolvers = {}
    for part in PARTS:
        found |= part.project_fields(s, ctx, experiment)
    return found


def run_fields(s: Call, ctx: Context, run: Run) -> Resolvers:
    found: Resolvers = {}
    for part in PARTS:
        found |= part.run_fields(s, ctx, run)
    return found
