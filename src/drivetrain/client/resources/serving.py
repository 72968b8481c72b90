"""Deployments, and the requests that they answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from drivetrain.answers import requests
from drivetrain.answers.serving import DeploymentList, LiveDeployment, PointList
from drivetrain.checklist.model import Checklist
from drivetrain.client.push import segment
from drivetrain.client.resources.resource import Resource
from drivetrain.errors import Unavailable
from drivetrain.feedback.model import Opinion, Scalar
from drivetrain.serving.model import Deployment
from drivetrain.store.events.model import Event, Point

GIVE_UP = 4
"""A replica that was started so often in vain will fail again."""
MOST_EVENTS = 1000


class Deployments(Resource):
    """Named endpoints."""

    def list(self) -> list[LiveDeployment]:
        return self._get(DeploymentList, "/deployments").deployments

    def get(self, name: str) -> LiveDeployment:
        return self._get(LiveDeployment, f"/deployments/{segment(name)}")

    def checklist(self, name: str) -> Checklist:
        """What production asks of it: `ready`, and `lines` with the command that mends each."""
        return self._get(Checklist, f"/deployments/{segment(name)}/checklist")

    def series(
        self,
        name: str,
        *,
        since_ms: int | None = None,
        until_ms: int | None = None,
        step_ms: int | None = None,
        variant: str | None = None,
    ) -> Sequence[Point]:
        """Requests, errors, tokens, cost and quantiles of times, step by step; of the last hour in minutes unless it is said otherwise."""
        path = f"/deployments/{segment(name)}/series"
        return self._get(PointList, path, since_ms=since_ms, until_ms=until_ms, step_ms=step_ms, variant=variant).points

    def deploy(
        self,
        name: str,
        source: str,
        *,
        wait: bool = False,
        timeout: float = 600.0,
        watch: Callable[[LiveDeployment], None] | None = None,
        **options: Any,
    ) -> LiveDeployment:
        """Put `source` (any name of a model) live under `name`. `options`: engine, options, min_replicas, max_replicas, capture.

        With `wait`, return when the new variant is ready; raises `Unavailable` with the reason if it cannot start.
        """
        made = self._send(LiveDeployment, "POST", "/deployments", {"name": name, "source": source, **options})
        return self.wait(name, timeout=timeout, watch=watch) if wait else made

    def wait(self, name: str, *, timeout: float = 600.0, watch: Callable[[LiveDeployment], None] | None = None) -> LiveDeployment:
        """Wait until the newest variant answers. Raises `Unavailable` if it fails again and again, or does not in time."""
        end = time.monotonic() + timeout
        while True:
            seen = self.get(name)
            if watch is not None:
                watch(seen)
            ready, problem = _newest(seen)
            if ready:
                return seen
            if problem is not None:
                raise Unavailable(f"{name} does not start: {problem or 'the log of its replica says why'}")
            if time.monotonic() > end:
                raise Unavailable(f"{name} is not ready after {timeout:.0f} s. Look again with: drivetrain ps")
            time.sleep(0.1)

    def delete(self, name: str) -> None:
        self._do("DELETE", f"/deployments/{segment(name)}")

    def scale(self, name: str, *, min_replicas: int, max_replicas: int) -> LiveDeployment:
        bounds = {"min_replicas": min_replicas, "max_replicas": max_replicas}
        return self._send(LiveDeployment, "POST", f"/deployments/{segment(name)}/scale", bounds)

    def restart(self, name: str) -> LiveDeployment:
        return self._send(LiveDeployment, "POST", f"/deployments/{segment(name)}/restart")


def _newest(deployment: Deployment) -> tuple[bool, str | None]:
    """(whether the newest variant is ready, why it will not be)."""
    live = [variant for variant in deployment.variants if variant.retired_ms is None]
    variant = max(live, key=lambda one: one.created_ms, default=None)
    if variant is None:
        return False, "it was deleted"
    replicas = [replica for replica in deployment.replicas if replica.variant_id == variant.id]
    if any(replica.state == "ready" for replica in replicas) or (not replicas and variant.min_replicas == 0):
        return True, None
    given_up = [one for one in replicas if one.state == "failed" or one.restarts >= GIVE_UP]
    return False, given_up[0].message if given_up else None


class Requests(Resource):
    """Answers that the gateway gave, by their `x-request-id`."""

    def recent(self, *, deployment: str | None = None, limit: int = 50, errors: bool = False, before: str | None = None) -> list[Event]:
        """The newest first; `before`: older than the request of this id."""
        asked = {"deployment": deployment, "limit": limit, "errors_only": "true" if errors else None, "before": before}
        return self._get(requests.RecordedList, "/events", **asked).events

    def each(self, *, deployment: str | None = None, errors: bool = False) -> Iterator[Event]:
        """All that are kept, the newest first, page by page."""
        before: str | None = None
        while page := self.recent(deployment=deployment, limit=MOST_EVENTS, errors=errors, before=before):
            yield from page
            before = page[-1].id

    def get(self, request_id: str) -> Event:
        """The recorded request."""
        return self._get(requests.Recorded, f"/requests/{segment(request_id)}").event

    def lineage(self, request_id: str) -> requests.Lineage:
        """Answer → variant → version → run → data: everything behind one answer."""
        return self._get(requests.Lineage, f"/requests/{segment(request_id)}/lineage")

    def feedback(self, request_id: str) -> Sequence[Opinion]:
        return self._get(requests.OpinionList, f"/requests/{segment(request_id)}/feedback").feedback

    def recent_feedback(self, *, name: str | None = None, kind: str | None = None, limit: int = 100) -> Sequence[Opinion]:
        """What was said last in the workspace."""
        return self._get(requests.OpinionList, "/feedback", name=name, kind=kind, limit=limit).feedback

    def add_feedback(
        self, request_id: str, name: str, value: Scalar, *, kind: str = "feedback", source: str = "", comment: str = ""
    ) -> Opinion:
        """Say something of an answer: `feedback` is an opinion, a `label` is the right answer."""
        body = {"name": name, "value": value, "kind": kind, "source": source, "comment": comment}
        return self._send(Opinion, "POST", f"/requests/{segment(request_id)}/feedback", body)

    def delete_feedback(self, feedback_id: str) -> None:
        self._do("DELETE", f"/feedback/{segment(feedback_id)}")
