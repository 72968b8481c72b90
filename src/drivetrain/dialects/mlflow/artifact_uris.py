"""What an address of artifacts means: `mlflow-artifacts:/0/<run>/artifacts/model` is the folder `model` of a run.

| path | place |
|---|---|
| `<anything>/<run id>/artifacts/<path>` | the run's artifacts |
| `<anything>/models/<model id>/artifacts/<path>` | the logged model's artifacts |
| `versions/<version id>/<path>` | the files that were registered; read only |
| anything else | files of the workspace, beside all runs |
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from drivetrain.errors import Invalid, NotFound
from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.tracking import checks
from drivetrain.tracking.artifacts import listed
from drivetrain.tracking.model import Artifact, Owner

_RUN = re.compile(r"(?:.+?/)??([0-9a-f]{32})/artifacts(?:/(.*))?", re.DOTALL)
_MODEL = re.compile(r"(?:.+?/)??models/(m-[0-9a-f]{32})/artifacts(?:/(.*))?", re.DOTALL)
_VERSION = re.compile(r"versions/([0-9a-f]{32})(?:/(.*))?", re.DOTALL)
_FOREIGN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


@dataclass(frozen=True, slots=True)
class Place:
    """`path` within what belongs to the owner; `kind` None: a registered version."""

    kind: Owner | None
    owner: str
    path: str


@dataclass(frozen=True, slots=True)
class Source:
    """Files to register, as path → sha256, and what they came from."""

    files: dict[str, str]
    run_id: str | None = None
    model_id: str | None = None
    version_id: str | None = None


def place(ctx: Context, path: str) -> Place:
    """Raises `Invalid` for a path that leads out of its place, however often its address is decoded."""
    path = checks.folder(path)
    if found := _VERSION.fullmatch(path):
        return Place(None, found[1], found[2] or "")
    for kind, pattern in ((Owner.model, _MODEL), (Owner.run, _RUN)):
        if found := pattern.fullmatch(path):
            return Place(kind, found[1], found[2] or "")
    return Place(Owner.workspace, ctx.workspace_id, path)


def look(s: Platform, ctx: Context, at: Place) -> list[Artifact]:
    """What is right below a folder."""
    if at.kind is not None:
        return s.tracking.artifacts.listing(ctx, at.kind, at.owner, at.path)
    files = s.registry.files(s.registry.version_by_id(ctx, at.owner).commit_id)
    return listed(((path, entry.sha256, entry.size) for path, entry in files.items()), at.path)


def file(s: Platform, ctx: Context, at: Place) -> Artifact:
    if at.kind is not None:
        return s.tracking.artifacts.get(ctx, at.kind, at.owner, at.path)
    entry = s.registry.files(s.registry.version_by_id(ctx, at.owner).commit_id).get(at.path)
    if entry is None:
        raise NotFound(f"There is no file {checks.shown(at.path)} in this version: list what there is.", param="path")
    return Artifact(at.path, entry.sha256, entry.size)


def source(s: Platform, ctx: Context, text: str) -> Source:
    """The files that a `source` of a model version means. Raises `Invalid` for places that are not on this server."""
    if found := re.fullmatch(r"models:/+(m-[0-9a-f]{32})(?:/(.*))?", text):
        model = s.tracking.models.get(ctx, found[1])
        return Source(_manifest(s, ctx, Owner.model, model.id, found[2] or ""), model.source_run_id, model.id)
    if text.startswith("models:/"):
        resolved = s.registry.resolve(ctx, text)
        files = {path: entry.sha256 for path, entry in s.registry.files(resolved.commit_id).items()}
        version = resolved.version
        return Source(files, version.run_id, version.model_id, version.id) if version else Source(files)
    if found := re.fullmatch(r"runs:/+([^/]+)(?:/(.*))?", text):
        return _of_run(s, ctx, found[1], found[2] or "")
    if found := re.fullmatch(r"mlflow-artifacts:(?://[^/]*)?/+(.*)", text):
        at = place(ctx, found[1])
        if at.kind is Owner.run:
            return _of_run(s, ctx, at.owner, at.path)
        if at.kind is Owner.model:
            model = s.tracking.models.get(ctx, at.owner)
            return Source(_manifest(s, ctx, Owner.model, model.id, at.path), model.source_run_id, model.id)
        if at.kind is Owner.workspace:
            return Source(_manifest(s, ctx, Owner.workspace, at.owner, at.path))
        version = s.registry.version_by_id(ctx, at.owner)
        return Source({p: e.sha256 for p, e in s.registry.files(version.commit_id).items()}, version.run_id, version.model_id, version.id)
    kind = "an address of another store" if _FOREIGN.match(text) and not text.startswith("file:") else "a path on the client's machine"
    raise Invalid(
        f"{checks.shown(text)} is {kind}: its files are not on this server. Log the model to a run (log_model, log_artifacts) and register "
        "runs:/<run id>/<path> or models:/<model id>.",
        param="source",
    )


def _of_run(s: Platform, ctx: Context, run_id: str, path: str) -> Source:
    run = s.tracking.runs.get(ctx, run_id)
    files = _manifest(s, ctx, Owner.run, run.id, path)
    if not files:
        # Newer clients keep models beside the run, under the name that used to be the path.
        made = [model for model in s.tracking.models.of_run(ctx, run.id) if model.name == path.strip("/")]
        if made:
            return Source(_manifest(s, ctx, Owner.model, made[-1].id, ""), run.id, made[-1].id)
    return Source(files, run.id)


def _manifest(s: Platform, ctx: Context, kind: Owner, owner: str, path: str) -> dict[str, str]:
    return {name: sha256 for name, (sha256, _) in s.tracking.artifacts.manifest(ctx, kind, owner, path).items()}
