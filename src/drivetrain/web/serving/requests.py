"""One answer, traced: which version gave it, from which run, commit, seed, parameters and data, and what was said of it."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import RedirectResponse

from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.serving.lineage import Lineage
from drivetrain.store.events.model import Event
from drivetrain.web import format as fmt
from drivetrain.web import naming
from drivetrain.web.registry import models
from drivetrain.web.render import HEADERS, Pages, viewer
from drivetrain.web.serving import deployments
from drivetrain.web.serving.views import Opinion, RequestPage
from drivetrain.web.svg import Drawing, Node
from drivetrain.web.svg import lineage as place
from drivetrain.web.views import Figure, Pair

Viewer = Annotated[Context, Depends(viewer)]


def view(platform: Platform, ctx: Context, request_id: str) -> RequestPage:
    found = platform.lineages.of(ctx, request_id)
    event = found.event
    run = found.run
    return RequestPage(
        id=event.id,
        at_ms=event.t // 1_000_000,
        state=deployments.event_state(event),
        deployment=event.deployment_name,
        message=event.message,
        figures=_figures(event),
        phases=_phases(event),
        drawing=_draw(platform, ctx, found),
        details=_details(ctx, found),
        run=_run(found),
        params=[Pair(key, value) for key, value in sorted(run.params.items())] if run else [],
        data=[Pair(one.dataset.name, f"{one.context or 'data'} · {one.dataset.digest}", mono=True) for one in found.datasets],
        input=fmt.pretty_json(event.input),
        output=fmt.pretty_json(event.output),
        opinions=[
            Opinion(one.kind, one.name, json.dumps(one.value, ensure_ascii=False), one.source or one.user, one.comment, one.created_ms)
            for one in found.feedback
        ],
        kept=event.input is not None or event.output is not None,
        notes=list(found.notes),
    )


def _figures(event: Event) -> list[Figure]:
    figures = [Figure("Latency", fmt.duration_figure(event.latency_ms), f"{fmt.duration(event.queue_ms)} of it waiting")]
    if event.ttft_ms is not None:
        figures.append(Figure("First token", fmt.duration_figure(event.ttft_ms), "since the request came in"))
    if event.tokens_in or event.tokens_out:
        cached = f"{fmt.number(event.tokens_cached)} from the cache" if event.tokens_cached else "none from the cache"
        figures.append(Figure("Tokens in", fmt.compact(event.tokens_in), cached))
        rest = event.latency_ms - (event.ttft_ms or 0)
        pace = (
            f"{fmt.number((event.tokens_out - 1) / rest * 1000, 3)} a second" if event.ttft_ms and event.tokens_out > 1 and rest > 0 else ""
        )
        figures.append(Figure("Tokens out", fmt.compact(event.tokens_out), pace))
    else:
        figures.append(Figure("In", fmt.size_figure(event.bytes_in)))
        figures.append(Figure("Out", fmt.size_figure(event.bytes_out)))
        if event.ttft_ms is None:
            figures.append(
                Figure("Attempts", str(event.attempts), "no retry" if event.attempts == 1 else "a replica failed before it began")
            )
    return figures[:4]


def _phases(event: Event) -> list[tuple[str, str, float, float]]:
    """(class, words, start, width) of the parts of the time that the answer took, in percent."""
    total = max(event.latency_ms, 0.001)
    waiting = min(event.queue_ms, total)
    parts = [("queue", f"waiting {fmt.duration(waiting)}", waiting)]
    if event.ttft_ms is not None and event.ttft_ms >= waiting:
        parts.append(("first", f"to the first token {fmt.duration(event.ttft_ms - waiting)}", event.ttft_ms - waiting))
        parts.append(("rest", f"the rest {fmt.duration(total - event.ttft_ms)}", max(0.0, total - event.ttft_ms)))
    else:
        parts.append(("rest", f"working {fmt.duration(total - waiting)}", total - waiting))
    placed, at = [], 0.0
    for kind, words, length in parts:
        placed.append((kind, words, round(100 * at / total, 2), round(100 * length / total, 2)))
        at += length
    return placed


def _draw(platform: Platform, ctx: Context, found: Lineage) -> Drawing:
    event, version = found.event, found.version
    nodes = models.run_nodes(found.run, found.datasets) if found.run else []
    slug = event.repo.rpartition("/")[2]
    behind = tuple(node.key for node in nodes if node.column == 1)
    if not nodes and version is not None and version.source:
        nodes.append(models.source_node(version))
        behind = ("source",)
    if event.version is not None:
        aliases = " ".join(f"@{alias}" for alias in version.aliases) if version else "deleted"
        url = models.address(slug, event.version) if version else ""
        nodes.append(
            Node("version", 2, "Version", f"{slug} v{event.version}", aliases or f"commit {event.commit[:8]}", url, parents=behind)
        )
    elif event.commit:
        nodes.append(Node("version", 2, "Commit", slug, event.commit[:12], models.address(slug), parents=behind))
    if event.deployment:
        nodes.append(
            Node(
                "deployment",
                3,
                "Deployment",
                event.deployment_name,
                f"{event.engine}, variant {event.variant_name}" if event.engine else "",
                naming.address(event.deployment_name),
                parents=("version",),
            )
        )
    nodes.append(Node("answer", 4, "Answer", fmt.short(event.id), f"{event.dialect} {event.task}".strip(), "", True, ("deployment",)))
    return place(nodes)


def _details(ctx: Context, found: Lineage) -> list[Pair]:
    event = found.event
    pairs = [
        Pair("Request id", event.id, mono=True),
        Pair("Dialect", f"{event.dialect} · {event.task}" if event.task else event.dialect),
        Pair("User", deployments.user_name(ctx, event.user) or fmt.DASH),
        Pair("Unit", event.unit or "none: assigned per request"),
        Pair("Replica", event.replica or fmt.DASH, mono=True),
        Pair("Streamed", "yes" if event.stream else "no"),
    ]
    if event.cost:
        pairs.append(Pair("Cost", fmt.number(event.cost)))
    if event.rollout:
        pairs.append(Pair("Rollout", f"phase {event.phase} of the weights", url=naming.rollout_address(event.rollout)))
    if event.assigned:
        pairs.append(Pair("Assigned to", f"another variant, which had no replica: {event.variant_name} stood in"))
    if event.shadow:
        pairs.append(Pair("Repeats", event.shadow, url=f"/requests/{event.shadow}"))
    if found.commit is not None:
        pairs.append(Pair("Commit", found.commit.id[:16], mono=True))
        pairs.append(Pair("Files", f"{fmt.plural(found.commit.files, 'file')}, {fmt.size(found.commit.bytes)}"))
    return pairs


def _run(found: Lineage) -> list[Pair]:
    run = found.run
    if run is None:
        return []
    pairs = [Pair("Run", run.name, url=f"/runs/{run.id}")]
    if found.experiment is not None:
        pairs.append(Pair("Experiment", found.experiment.name, url=f"/runs?experiment={found.experiment.id}"))
    pairs.append(Pair("Git commit", found.git_commit or "not recorded", mono=found.git_commit is not None))
    pairs.append(Pair("Seed", found.seed or "not recorded"))
    pairs.append(Pair("Source", run.source or fmt.DASH))
    pairs.append(Pair("By", run.user or fmt.DASH))
    return pairs


def routes(platform: Platform, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)

    @router.get("/requests/{request_id}")
    def request_page(request: Request, ctx: Viewer, request_id: str) -> Response:
        shown = view(platform, ctx, request_id)
        path = [("Deployments", "/deployments")]
        if shown.deployment:
            path.append((shown.deployment, naming.address(shown.deployment)))
        return pages.page(request, "serving/request.html", path=[*path, (f"request {fmt.short(shown.id)}", "")], view=shown)

    @router.post("/requests/{request_id}/feedback")
    def say(ctx: Viewer, request_id: str, value: Annotated[str, Form()], comment: Annotated[str, Form()] = "") -> Response:
        platform.lineages.say(
            ctx, request_id, "rating", value == "good", kind="feedback", source=f"dashboard:{ctx.user_name}", comment=comment.strip()
        )
        return RedirectResponse(f"/requests/{request_id}#feedback", status_code=303, headers=HEADERS)

    return router
