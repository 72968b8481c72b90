"""Models: what there is, where it is from, and where it is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request, Response

from drivetrain.engines.options import declared
from drivetrain.engines.plan import recognise
from drivetrain.errors import NotFound
from drivetrain.identity.model import Context
from drivetrain.lineage.model import Thing
from drivetrain.platform import Platform
from drivetrain.registry.model import FileEntry, Repo, Version
from drivetrain.serving.model import Deployment
from drivetrain.tracking.model import Input, Run
from drivetrain.web import format as fmt
from drivetrain.web import naming
from drivetrain.web.registry.views import ModelPage, ModelRow, OptionRow, VersionRow
from drivetrain.web.render import Pages, viewer
from drivetrain.web.serving import deployments as serving_pages
from drivetrain.web.svg import Drawing, Node, lineage
from drivetrain.web.views import FileRow, Pair, State

Viewer = Annotated[Context, Depends(viewer)]
_STATUS = {"READY": State("Ready", "good"), "PENDING_REGISTRATION": State("Pending", "busy"), "FAILED_REGISTRATION": State("Failed", "bad")}
_MOST_CARD = 40_000


def address(slug: str, version: int | None = None) -> str:
    return f"/models/{quote(slug, safe='')}" + (f"?version={version}" if version is not None else "")


def format_of(files: dict[str, FileEntry]) -> str:
    """What kind of model these files are, by their names."""
    found = recognise(files)
    return found.format.title if found is not None else "files"


def on_demand(files: dict[str, FileEntry]) -> tuple[str, ...]:
    """The tasks of a model that starts when it is called by its name; () for one that must be deployed."""
    found = recognise(files)
    return found.engine.tasks if found is not None and found.engine is not None and not found.format.runs_code else ()


def used_by(deployments: list[Deployment]) -> dict[tuple[str, int | None], list[str]]:
    used: dict[tuple[str, int | None], list[str]] = {}
    for deployment in deployments:
        for variant in serving_pages.live(deployment):
            used.setdefault((variant.repo.rpartition("/")[2], variant.version), []).append(deployment.name)
    return used


def listing(platform: Platform, ctx: Context) -> list[ModelRow]:
    used = used_by(platform.serving.list(ctx))
    rows = []
    for repo in platform.registry.repos(ctx):
        files = _files(platform, ctx, repo, repo.latest)
        rows.append(
            ModelRow(
                name=repo.name,
                slug=repo.slug,
                description=repo.description,
                latest=repo.latest,
                aliases=sorted(repo.aliases.items()),
                format=format_of(files) if files else fmt.DASH,
                size=sum(entry.size for entry in files.values()) if files else None,
                deployed=sorted({name for (slug, _), names in used.items() if slug == repo.slug for name in names}),
                updated_ms=repo.updated_ms,
                on_demand=on_demand(files),
            )
        )
    return rows


def _files(platform: Platform, ctx: Context, repo: Repo, number: int | None) -> dict[str, FileEntry]:
    try:
        commit = (
            platform.registry.get_version(ctx, repo.slug, number).commit_id
            if number
            else platform.registry.resolve(ctx, repo.slug).commit_id
        )
    except NotFound:
        return {}
    return platform.registry.files(commit)


def _run(platform: Platform, ctx: Context, run_id: str | None) -> Run | None:
    if not run_id:
        return None
    try:
        return platform.tracking.runs.get(ctx, run_id)
    except NotFound:
        return None


def view(platform: Platform, ctx: Context, name: str, number: int | None) -> ModelPage:
    repo = platform.registry.get_repo(ctx, name)
    versions = platform.registry.versions(ctx, repo.slug, limit=200)
    used = used_by(platform.serving.list(ctx))
    chosen = next((version for version in versions if version.number == (number or repo.latest)), None)
    if number is not None and chosen is None:
        chosen = platform.registry.get_version(ctx, repo.slug, number)
    makers = platform.lineage.makers(ctx, [version.id for version in versions])
    runs = {one: _run(platform, ctx, one) for version in versions[:50] if (one := makers.get(version.id))}
    scores = [run.metrics.keys() for run in runs.values() if run is not None]
    score_names = sorted(set().union(*scores))[:3] if scores else []
    rows = []
    for version in versions:
        run = runs.get(makers.get(version.id, ""))
        rows.append(
            VersionRow(
                number=version.number,
                aliases=version.aliases,
                state=_STATUS.get(version.status, State(version.status.capitalize(), "idle")),
                run_id=makers.get(version.id, ""),
                run_name=run.name if run else "",
                scores=[(key, run.metrics[key].value) for key in score_names if run is not None and key in run.metrics],
                deployed=used.get((repo.slug, version.number), []),
                user=version.user,
                created_ms=version.created_ms,
                here=chosen is not None and version.number == chosen.number,
            )
        )
    files = platform.registry.files(chosen.commit_id) if chosen else _files(platform, ctx, repo, None)
    reference = f"models:/{repo.name}/{chosen.number}" if chosen else repo.name
    ref = str(chosen.number) if chosen else "latest"
    return ModelPage(
        name=repo.name,
        slug=repo.slug,
        description=repo.description,
        versions=rows,
        number=chosen.number if chosen else None,
        reference=reference,
        card=_card(platform, files),
        files=[
            FileRow(path, entry.size, f"/api/v1/repos/{quote(repo.slug, safe='')}/files/{quote(path)}?ref={ref}", entry.sha256)
            for path, entry in sorted(files.items())
        ],
        bytes=sum(entry.size for entry in files.values()),
        details=_details(repo, chosen, files),
        options=_options(files),
        drawing=draw(platform, ctx, repo, chosen, used) if chosen else None,
        score_names=score_names,
    )


def _options(files: dict[str, FileEntry]) -> list[OptionRow]:
    found = recognise(files)
    if found is None or found.engine is None:
        return []
    return [OptionRow(one.name, one.takes, one.otherwise, one.help.replace("`", "")) for one in declared(found.engine.options)]


def _details(repo: Repo, version: Version | None, files: dict[str, FileEntry]) -> list[Pair]:
    found = recognise(files)
    pairs = [Pair("Format", format_of(files))]
    if found is not None and found.engine is not None:
        pairs.append(Pair("Engine", found.engine.name))
    if version is not None:
        pairs.append(Pair("Commit", version.commit_id[:16], mono=True))
        if version.source:
            pairs.append(Pair("Source", version.source, mono=True))
        if version.description:
            pairs.append(Pair("Description", version.description))
        pairs += [Pair(key, value) for key, value in sorted(version.tags.items()) if not key.startswith("mlflow.")]
    pairs += [Pair(key, value) for key, value in sorted(repo.tags.items()) if not key.startswith("mlflow.")]
    return pairs


def _card(platform: Platform, files: dict[str, FileEntry]) -> str:
    """The README of the files, as text."""
    entry = next((entry for path, entry in files.items() if path.lower() == "readme.md"), None)
    if entry is None or entry.size > _MOST_CARD:
        return ""
    text = b"".join(platform.registry.blobs.read(entry.sha256)).decode("utf-8", "replace")
    if text.startswith("---"):
        text = text.partition("\n---")[2]
    return text.strip()


def draw(platform: Platform, ctx: Context, repo: Repo, version: Version, used: dict[tuple[str, int | None], list[str]]) -> Drawing:
    """Data → run → version → deployments."""
    run = _run(platform, ctx, platform.lineage.maker(ctx, version.id))
    nodes = run_nodes(run, data_of(platform, ctx, run)) if run is not None else []
    if run is None and version.source:
        nodes.append(source_node(version))
    aliases = " ".join(f"@{alias}" for alias in version.aliases)
    parents = tuple(node.key for node in nodes if node.column == 1)
    nodes.append(
        Node(
            "version",
            2,
            "Version",
            f"{repo.name} v{version.number}",
            aliases or version.user,
            address(repo.slug, version.number),
            True,
            parents,
        )
    )
    for name in used.get((repo.slug, version.number), []):
        nodes.append(Node(f"d:{name}", 3, "Deployment", name, "", naming.address(name), parents=("version",)))
    return lineage(nodes)


def source_node(version: Version) -> Node:
    """Where a version came from that no run has made: the file's or package's name, with the whole address on hover."""
    scheme, _, rest = version.source.partition(":")
    name = rest.rstrip("/").rpartition("/")[2] or version.source
    return Node("source", 1, "Source", name, {"pypi": "Python package", "file": "imported file"}.get(scheme, scheme))


def data_of(platform: Platform, ctx: Context, run: Run) -> list[Input]:
    """What a run used, as it described that."""
    used = set(platform.lineage.objects(ctx, Thing("run", run.id), "used", "dataset"))
    return [one for one in run.inputs if one.dataset.id in used]


def run_nodes(run: Run, used: Sequence[Input], *, here: bool = False) -> list[Node]:
    """A run and the data that it read."""
    data = [Node(f"data:{i}", 0, "Data", one.dataset.name, one.context or one.dataset.digest[:12]) for i, one in enumerate(used)]
    commit = f"git {run.git_commit[:8]}" if run.git_commit else (run.source or "").rpartition("/")[2]
    return [*data, Node("run", 1, "Run", run.name, commit, f"/runs/{run.id}", here, tuple(node.key for node in data))]


def routes(platform: Platform, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)

    @router.get("/models")
    def models(request: Request, ctx: Viewer) -> Response:
        return pages.page(request, "registry/models.html", path=[("Models", "/models")], rows=listing(platform, ctx))

    @router.get("/models/{name:path}")
    def model(request: Request, ctx: Viewer, name: str, version: int | None = None) -> Response:
        shown = view(platform, ctx, name, version)
        return pages.page(request, "registry/model.html", path=[("Models", "/models"), (shown.name, address(shown.slug))], view=shown)

    return router
