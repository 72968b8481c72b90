"""The first page: is everything well, and what changed?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request, Response

from drivetrain.identity.model import Context, Entry
from drivetrain.jobs.model import Job
from drivetrain.platform import Platform
from drivetrain.rollout.model import OPEN, Decision, Rollout
from drivetrain.store.ids import now_ms
from drivetrain.web import format as fmt
from drivetrain.web import naming
from drivetrain.web.monitoring import alert_summary
from drivetrain.web.monitoring.views import AlertRow
from drivetrain.web.render import Pages, viewer
from drivetrain.web.rollout import summary as rollout_summary
from drivetrain.web.rollout.views import RolloutRow
from drivetrain.web.runs import columns as runtable
from drivetrain.web.runs.shape import lower_is_better
from drivetrain.web.serving import deployments
from drivetrain.web.serving.deployments import HOUR, MINUTE
from drivetrain.web.serving.views import DeploymentRow
from drivetrain.web.snippets import first_steps
from drivetrain.web.svg import spark
from drivetrain.web.views import Figure, State

Viewer = Annotated[Context, Depends(viewer)]
_JOBS = {
    "queued": State("Queued", "idle"),
    "running": State("Running", "busy"),
    "succeeded": State("Done", "good"),
    "failed": State("Failed", "bad"),
    "cancelled": State("Cancelled", "idle"),
}
_VERBS = {
    "key.create": "made a key",
    "key.revoke": "revoked a key",
    "auth.set": "set access to",
    "user.create": "added the user",
    "user.disable": "disabled the user",
    "user.enable": "enabled the user",
    "workspace.create": "made the workspace",
    "member.set": "set the role of",
    "secret.set": "set the secret",
    "secret.delete": "deleted the secret",
}


_DECIDED = {
    "started": "began to roll out",
    "advanced": "gave {share} to",
    "paused": "paused at {share}:",
    "resumed": "went on at {share} with",
    "held": "holds at {share}:",
    "promoted": "gave all traffic to",
    "rolled_back": "took back",
    "aborted": "aborted",
    "closed": "closed the rollout of",
}
_QUIET = ("measuring",)
_INNER = "channel."
"""Secrets that are kept for channels are told of by those."""


@dataclass(frozen=True)
class Happening:
    """Something that somebody (or a loop) did."""

    who: str
    what: str
    object: str
    url: str
    at_ms: int
    why: str = ""
    undo: str = ""


@dataclass(frozen=True)
class JobRow:
    id: str
    kind: str
    what: str
    state: State
    done: float | None
    total: float | None
    message: str
    at_ms: int


@dataclass(frozen=True)
class RecentRun:
    id: str
    name: str
    experiment: str
    state: State
    started_ms: int
    metric: str
    value: float | None


@dataclass(frozen=True)
class Overview:
    headline: str
    state: State
    figures: Sequence[Figure]
    deployments: Sequence[DeploymentRow]
    jobs: Sequence[JobRow]
    lately: Sequence[Happening]
    runs: Sequence[RecentRun]
    is_empty: bool
    rollouts: Sequence[RolloutRow] = ()
    alerts: Sequence[AlertRow] = ()


def view(platform: Platform, ctx: Context) -> Overview:
    now = now_ms()
    served = platform.serving.list(ctx)
    rows = [deployments.row(platform, deployment, now) for deployment in served]
    jobs = [_job(job) for job in platform.jobs.list(ctx, limit=20) if job.ended_ms is None or now - job.ended_ms < HOUR]
    recent = _runs(platform, ctx)
    models = platform.registry.repos(ctx, limit=5)
    entries = platform.identity.audit.log(ctx, limit=12)
    lately = [_happening(entry) for entry in entries if not entry.object.startswith(_INNER)]
    for deployment in served:
        for variant in deployment.variants:
            text = f"put {naming.serves(variant)} behind" if not deployment.implicit else f"started {naming.serves(variant)} as"
            lately.append(Happening(deployment.created_by, text, deployment.name, naming.address(deployment.name), variant.created_ms))
    for repo in models:
        for version in platform.registry.versions(ctx, repo.slug, limit=3):
            url = f"/models/{quote(repo.slug, safe='')}?version={version.number}"
            lately.append(Happening(version.user, "registered", f"{repo.name} v{version.number}", url, version.created_ms))
    moving = platform.rollouts.list(ctx, limit=6)
    for rollout in moving:
        decided = platform.rollouts.decisions(ctx, rollout.id)
        lately += [_decided(one, rollout, rollout_summary.undo(one, decided)) for one in decided if one.action not in _QUIET]
    open_ones = [alert_summary.row(one) for one in platform.alerts.list(ctx, state="lasting", limit=5)]
    return Overview(
        headline=_headline(rows, open_ones),
        state=_state(rows, open_ones),
        figures=_figures(platform, [deployment.id for deployment in served], now),
        deployments=rows,
        jobs=jobs,
        lately=sorted(lately, key=lambda one: -one.at_ms)[:10],
        runs=recent,
        is_empty=not rows and not recent and not models,
        rollouts=[rollout_summary.row(platform, ctx, one) for one in moving if one.state in OPEN],
        alerts=open_ones,
    )


def _decided(one: Decision, rollout: Rollout, undo: str) -> Happening:
    said = _DECIDED.get(one.action, one.action.replace("_", " ")).format(share=fmt.percent(one.share / 10_000))
    text = f"{said} {rollout.canary_name} behind"
    return Happening(one.actor, text, rollout.deployment, naming.rollout_address(rollout.id), one.at_ms, one.why, undo)


def _headline(rows: list[DeploymentRow], open_ones: list[AlertRow]) -> str:
    ill = [row for row in rows if row.state.tone in ("bad", "warn")]
    if not rows:
        return "Nothing is deployed yet"
    loud = [one for one in open_ones if not one.acknowledged and one.state.tone in ("bad", "warn")]
    if not ill and loud:
        return loud[0].title if len(loud) == 1 else f"{len(loud)} alerts need a look"
    if not ill:
        starting = [row for row in rows if row.state.tone == "busy"]
        return f"{starting[0].name} is starting" if starting else "Everything is well"
    return f"{ill[0].name} is {ill[0].state.word.lower()}" if len(ill) == 1 else f"{len(ill)} deployments need a look"


def _state(rows: list[DeploymentRow], open_ones: list[AlertRow]) -> State:
    tones = {row.state.tone for row in rows} | ({"warn"} if any(not one.acknowledged for one in open_ones) else set())
    if "bad" in tones:
        return State("Failing", "bad")
    if "warn" in tones:
        return State("Look", "warn")
    ready = sum(row.state.tone == "good" for row in rows)
    idle = sum(row.state.tone == "idle" for row in rows)
    words = [f"{count} {word}" for count, word in ((ready, "ready"), (idle, "idle")) if count]
    return State(", ".join(words) or "idle", "good" if ready else "idle")


def _figures(platform: Platform, ids: list[str], now: int) -> list[Figure]:
    total = platform.events.total(ids, since_ms=now - HOUR, until_ms=now)
    points = platform.events.series(ids, since_ms=now - HOUR, until_ms=now, step_ms=2 * MINUTE)
    share = total.errors / total.requests if total.requests else None
    return [
        Figure("Requests", fmt.compact(total.requests), "in the last hour", spark([p.requests for p in points], "Requests by time")),
        Figure("Errors", fmt.percent_figure(share), fmt.plural(total.errors, "error"), spark([p.errors for p in points], "Errors by time")),
        Figure(
            "Latency p95",
            fmt.duration_figure(total.latency_p95_ms),
            f"median {fmt.duration(total.latency_p50_ms)}",
            spark([p.latency_p95_ms for p in points], "95th percentile of latency in the last hour"),
        ),
        Figure(
            "Tokens out",
            fmt.compact(total.tokens_out),
            f"{fmt.number(total.tokens_in)} in",
            spark([p.tokens_out for p in points], "Tokens out in the last hour"),
        ),
    ]


def _runs(platform: Platform, ctx: Context) -> list[RecentRun]:
    names = {one.id: one.name for one in platform.tracking.experiments.all(ctx)}
    found = []
    for run in platform.tracking.runs.search(ctx, list(names), limit=8).items:
        key = next(iter(sorted(run.metrics, key=lambda name: (lower_is_better(name), name))), "")
        found.append(
            RecentRun(
                id=run.id,
                name=run.name,
                experiment=names.get(run.experiment_id, ""),
                state=runtable.state(run),
                started_ms=run.start_ms,
                metric=key,
                value=run.metrics[key].value if key else None,
            )
        )
    return found


def _job(job: Job) -> JobRow:
    what = str(job.spec.get("source") or job.spec.get("name") or "")
    state = _JOBS.get(job.state, State(job.state.capitalize(), "idle", job.error))
    made = job.result or {}
    message = job.error or (f"{made['repo']} v{made['version']}" if "repo" in made and "version" in made else job.message)
    return JobRow(
        job.id, job.kind, what, state, job.done or None, job.total or None, message, job.ended_ms or job.started_ms or job.created_ms
    )


def _happening(entry: Entry) -> Happening:
    thing = str(entry.detail.get("name") or entry.object)
    url = "/keys" if entry.action.startswith(("key.", "auth.")) else ""
    return Happening(entry.user_name, _VERBS.get(entry.action, entry.action.replace(".", " ")), thing, url, entry.at_ms)


def routes(platform: Platform, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)

    @router.get("/")
    def overview(request: Request, ctx: Viewer) -> Response:
        steps = first_steps(str(request.base_url).rstrip("/"))
        return pages.page(request, "overview.html", path=[("Overview", "/")], view=view(platform, ctx), steps=steps)

    return router
