"""Runs and projects as GraphQL objects, and what a client does to them."""

from __future__ import annotations

import base64
import json
import re

from drivetrain.dialects.wandb.call import MOUNT, Call, Json, Resolvers, artifacts_of, connection, project, run_of, when
from drivetrain.errors import Invalid, NotFound
from drivetrain.identity.model import Context
from drivetrain.tags import GIT_COMMIT, GIT_REPO, GROUP, HOST, JOB_TYPE, NOTE, SOURCE
from drivetrain.tracking.history.entries import SYSTEM
from drivetrain.tracking.model import Artifact, Experiment, Owner, Run, RunReport
from drivetrain.tracking.values import plain, strict

_TAGS = {
    "groupName": GROUP,
    "jobType": JOB_TYPE,
    "notes": NOTE,
    "commit": GIT_COMMIT,
    "repo": GIT_REPO,
    "jobRepo": GIT_REPO,
    "program": SOURCE,
    "jobProgram": SOURCE,
    "host": HOST,
}
"""What a client says of a run → the tag that keeps it. Most of them are what MLflow's clients call the same thing."""


def user(name: str, entity: str) -> Json:
    return {
        "__typename": "User",
        "id": base64.b64encode(f"User:{name}".encode()).decode(),
        "name": name,
        "username": name,
        "email": f"{name}@localhost",
        "admin": False,
        "flags": "{}",
        "entity": entity,
        "deletedAt": None,
        "apiKeys": {"edges": []},
        "teams": {"edges": [{"node": {"name": entity}}]},
    }


def entity_object(ctx: Context) -> Json:
    return {"__typename": "Entity", "id": ctx.workspace_id, "name": ctx.workspace, "organization": None, "isTeam": False, "available": True}


def project_object(s: Call, ctx: Context, experiment: Experiment) -> Json:
    def find(args: Json) -> Json | None:
        try:
            return run_object(s, ctx, experiment, s.platform.tracking.reports.find(ctx, experiment.id, str(args.get("name") or "")))
        except NotFound:
            return None

    made: Json = {
        "__typename": "Project",
        "id": f"project-{experiment.uid}",
        "internalId": str(experiment.uid),
        "name": experiment.name,
        "entityName": ctx.workspace,
        "entity": entity_object(ctx),
        "createdAt": when(experiment.created_ms),
        "isBenchmark": False,
        "readOnly": False,
        "description": experiment.tags.get(NOTE),
        "user": user(ctx.user_name, ctx.workspace),
        "run": find,
        "bucket": find,
    }
    for part in s.parts:
        made |= part.of_project(s, ctx, experiment) if part.of_project else {}
    return made


def run_object(s: Call, ctx: Context, experiment: Experiment, run: Run, details: RunReport | None = None) -> Json:
    kept: list[RunReport] = [details] if details is not None else []

    def of() -> RunReport:
        if not kept:
            kept.append(s.platform.tracking.reports.get(ctx, run.id))
        return kept[0]

    counted: list[tuple[int, int]] = []

    def count() -> tuple[int, int]:
        if not counted:
            counted.append(s.platform.tracking.history.count(ctx, run.id))
        return counted[0]

    def events_tail(_: Json) -> str:
        events = of().events
        rows = s.platform.tracking.history.rows(ctx, run.id, system=True, min_step=max(0, events - 1), limit=1) if events else []
        return json.dumps([json.dumps(row) for row in rows])

    def history_tail(_: Json) -> str:
        rows, last = count()
        found = s.platform.tracking.history.rows(ctx, run.id, min_step=last, limit=1) if rows else []
        return json.dumps([json.dumps(row) for row in found])

    made: Json = {
        "__typename": "Run",
        "id": run.id,
        "name": lambda _: of().client_id,
        "projectId": str(experiment.uid),
        "displayName": run.name,
        "description": run.tags.get(NOTE, ""),
        "notes": run.tags.get(NOTE, ""),
        "state": lambda _: of().state,
        "sweepName": lambda _: of().sweep,
        "tags": lambda _: list(of().labels),
        "group": run.tags.get(GROUP),
        "groupName": run.tags.get(GROUP),
        "jobType": run.tags.get(JOB_TYPE),
        "commit": run.tags.get(GIT_COMMIT),
        "host": run.tags.get(HOST),
        "readOnly": False,
        "createdAt": when(run.start_ms),
        "updatedAt": lambda _: when(of().heartbeat_ms),
        "heartbeatAt": lambda _: when(of().heartbeat_ms),
        "stopped": lambda _: of().stop_requested,
        "user": user(run.user, ctx.workspace),
        "project": lambda _: project_object(s, ctx, experiment),
        "config": lambda _: config_text(of()),
        "summaryMetrics": lambda _: json.dumps(of().summary),
        "systemMetrics": lambda _: json.dumps(
            {"system." + k.removeprefix(SYSTEM): plain(m.value) for k, m in run.metrics.items() if k.startswith(SYSTEM)}
        ),
        "wandbConfig": lambda args: wandb_config(of(), args),
        "historyLineCount": lambda _: count()[0],
        "eventsLineCount": lambda _: of().events,
        "logLineCount": lambda _: s.platform.tracking.history.console_count(ctx, run.id),
        "historyTail": history_tail,
        "eventsTail": events_tail,
        "historyKeys": lambda _: history_keys(run, count()),
        "parquetHistory": {"parquetUrls": [], "liveData": []},
        "files": lambda args: files(s, ctx, run, args),
        "fileCount": lambda _: len(s.platform.tracking.artifacts.manifest(ctx, Owner.run, run.id, "")),
    }
    for part in s.parts:
        made |= part.of_run(s, ctx, experiment, run) if part.of_run else {}
    return made


def history_keys(run: Run, counted: tuple[int, int]) -> Json:
    rows, last = counted
    keys = {
        key: {"typeCounts": [{"type": "number", "count": rows}], "monotonic": False, "previousValue": strict(point.value)}
        for key, point in run.metrics.items()
        if point.step >= 0 and not key.startswith(SYSTEM)
    }
    return {"keys": keys, "lastStep": last, "sets": []}


def config_text(details: RunReport) -> str:
    config: Json = {key: {"value": value} for key, value in details.config.items()}
    if details.private:
        config["_wandb"] = {"value": details.private}
    return json.dumps(config)


def wandb_config(details: RunReport, args: Json) -> str:
    keys = args.get("keys") or ["t"]
    found = {key: details.private[key] for key in keys if key in details.private}
    if not found and details.state != "pending":
        found = {"t": {}}  # made by another client: it has begun all the same
    return json.dumps(found)


def upsert(s: Call, ctx: Context, given: Json) -> Json:
    """`upsertBucket`: make the run, or change what is given of it; null means unchanged."""
    run_id, name = given.get("id"), given.get("name")
    sweep = given.get("sweep")
    inserted = False
    if run_id:
        run = s.platform.tracking.runs.get(ctx, str(run_id))
        experiment = s.platform.tracking.experiments.get(ctx, run.experiment_id)
    elif name:
        experiment = project(s, ctx, given.get("modelName"), make=True)
        shown = given.get("displayName")
        run, inserted = s.platform.tracking.reports.begin(
            ctx, experiment.id, str(name), name=str(shown) if shown else None, sweep=sweep or None
        )
    else:
        raise Invalid("Say which run is meant: its name (or id) is missing.", param="name")
    tags: dict[str, str | None] = {}
    for field, tag in _TAGS.items():
        value = given.get(field)
        if value is not None:
            tags[tag] = str(value)[:8000] or None
    labels = given.get("tags")
    s.platform.tracking.reports.update(
        ctx,
        run.id,
        name=str(given["displayName"])[:250] if given.get("displayName") else None,
        config=given.get("config"),
        summary=given.get("summaryMetrics"),
        state=given.get("state"),
        sweep=str(sweep) if sweep else None,
        tags=tags,
        labels=[str(one)[:200] for one in labels] if labels is not None else None,
    )
    return {"bucket": run_object(s, ctx, experiment, s.platform.tracking.runs.get(ctx, run.id)), "inserted": inserted}


def storage_path(run_id: str, path: str) -> str:
    return f"{MOUNT}/storage/run/{run_id}/{base64.urlsafe_b64encode(path.encode()).decode().rstrip('=')}"


def create_files(s: Call, ctx: Context, given: Json) -> Json:
    run = run_of(s, ctx, given.get("projectName"), str(given.get("runName") or ""))
    names = given.get("files") or []
    made = [{"name": name, "uploadUrl": s.sign(ctx, "PUT", storage_path(run.id, str(name)))} for name in names]
    return {"runID": run.id, "uploadHeaders": [], "files": made}


def files(s: Call, ctx: Context, run: Run, args: Json) -> Json:
    """`files(names, pattern, first, after)`: of the run, each with an address that needs no key."""
    found = s.platform.tracking.artifacts.manifest(ctx, Owner.run, run.id, "")
    names = args.get("names")
    if names:
        wanted = {str(one) for one in names}
        found = {path: entry for path, entry in found.items() if path in wanted}
    if pattern := args.get("pattern"):
        found = {path: entry for path, entry in found.items() if _like(path, str(pattern))}
    nodes = [file_object(s, ctx, run, Artifact(path, sha256, size)) for path, (sha256, size) in sorted(found.items())]
    return connection(nodes, args=args)


def file_object(s: Call, ctx: Context, run: Run, file: Artifact) -> Json:
    def address(_: Json) -> str:
        return s.sign(ctx, "GET", storage_path(run.id, file.path))

    def md5(_: Json) -> str:
        return base64.b64encode(bytes.fromhex(s.platform.tracking.artifacts.blobs.names(file.sha256).md5)).decode()

    return {
        "__typename": "File",
        "id": base64.b64encode(f"{run.id}/{file.path}".encode()).decode(),
        "name": file.path,
        "displayName": file.path,
        "url": address,
        "directUrl": address,
        "sizeBytes": file.size,
        "mimetype": None,
        "updatedAt": when(run.end_ms or run.start_ms),
        "md5": md5,
        "digest": md5,
    }


def _like(path: str, pattern: str) -> bool:
    """SQL's LIKE, which the client's `pattern` is."""
    text = "".join(".*" if letter == "%" else "." if letter == "_" else re.escape(letter) for letter in pattern)
    return re.fullmatch(text, path, re.DOTALL) is not None


def mutations(s: Call, ctx: Context) -> Resolvers:
    def given(args: Json) -> Json:
        found = args.get("input")
        return found if isinstance(found, dict) else args

    def delete(args: Json) -> Json:
        run_id = str(given(args).get("id"))
        s.platform.tracking.runs.delete(ctx, run_id)
        if given(args).get("deleteArtifacts"):
            for made in artifacts_of(s).members(ctx, run=(run_id, "made")):
                if made.artifact.run_id == run_id:  # not one that another run had made, and this one logged again
                    artifacts_of(s).delete(ctx, made.artifact.id, aliases=True)
        return {"clientMutationId": given(args).get("clientMutationId"), "success": True}

    def stop(args: Json) -> Json:
        s.platform.tracking.reports.request_stop(ctx, str(given(args).get("id")))
        return {"success": True, "clientMutationId": None}

    def alert(args: Json) -> Json:
        one = given(args)
        run = run_of(s, ctx, one.get("projectName"), str(one.get("runName") or ""))
        severity = {"WARN": "warn", "ERROR": "bad"}.get(str(one.get("severity")), "info")
        title = str(one.get("title") or "Alert of a run")
        s.platform.alerts.raise_alert(
            workspace_id=ctx.workspace_id,
            deployment="",
            source=f"run {run.name}",
            key=f"run:{run.id}:{title}",
            severity=severity,
            title=title,
            text=str(one.get("text") or ""),
            evidence={"run": run.id},
        )
        return {"success": True}

    def set_state(args: Json) -> Json:
        one = given(args)
        s.platform.tracking.reports.update(ctx, str(one.get("id")), state=str(one.get("state")))
        return {"success": True}

    def make_project(args: Json) -> Json:
        one = given(args)
        found = project(s, ctx, one.get("name"), make=True)
        made = project_object(s, ctx, found)
        return {"inserted": True, "model": made, "project": made}

    def delete_files(args: Json) -> Json:
        for one in given(args).get("files") or []:
            run_id, _, path = base64.b64decode(str(one)).decode().partition("/")
            s.platform.tracking.artifacts.delete(ctx, Owner.run, run_id, path)
        return {"success": True}

    return {
        "upsertBucket": lambda args: upsert(s, ctx, given(args)),
        "createRunFiles": lambda args: create_files(s, ctx, given(args)),
        "markRunFilesUploaded": lambda _: {"success": True},
        "deleteRun": delete,
        "deleteFiles": delete_files,
        "stopRun": stop,
        "updateRunState": set_state,
        "notifyScriptableRunAlert": alert,
        "upsertModel": make_project,
    }
