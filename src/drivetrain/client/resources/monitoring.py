"""Monitors, drift, performance, alerts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from drivetrain.answers import monitoring as answers
from drivetrain.client.push import segment
from drivetrain.client.resources.resource import Resource
from drivetrain.monitoring.model import Alert, Channel, Cohort, Delivery, Monitor, Silence, Window


class Monitors(Resource):
    """What is asked of deployments all the time, and the answers."""

    def list(self, deployment: str | None = None) -> list[Monitor]:
        path = "/monitors" if deployment is None else f"/deployments/{segment(deployment)}/monitors"
        return self._get(answers.MonitorList, path).monitors

    def set(self, deployment: str, kind: str, *, paused: bool | None = None, **config: Any) -> Monitor:
        """Change settings of a monitor; see its `config`. `paused`: let it rest, or go on."""
        path = f"/deployments/{segment(deployment)}/monitors/{segment(kind)}"
        return self._send(Monitor, "PUT", path, {"config": config, "paused": paused})

    def drift(self, deployment: str, *, window: str | None = None) -> answers.DriftReport:
        """The drift report of the newest window, or of one by its id."""
        return self._get(answers.DriftReport, f"/deployments/{segment(deployment)}/drift", window=window)

    def windows(self, deployment: str, *, limit: int = 50) -> Sequence[Window]:
        """The windows that were compared, the newest first."""
        return self._get(answers.WindowList, f"/deployments/{segment(deployment)}/drift/windows", limit=limit).windows

    def performance(
        self, deployment: str, *, since_ms: int | None = None, until_ms: int | None = None, step_ms: int | None = None
    ) -> Sequence[Cohort]:
        """Accuracy by labels, by the time of the answers; of the last day, in hours, unless it is said otherwise."""
        path = f"/deployments/{segment(deployment)}/performance"
        return self._get(answers.CohortList, path, since_ms=since_ms, until_ms=until_ms, step_ms=step_ms).cohorts

    def quality(self, deployment: str) -> answers.LabelQuality:
        """Accuracy of the newest answers for which labels have come."""
        return self._get(answers.LabelQuality, f"/deployments/{segment(deployment)}/quality")


class Alerts(Resource):
    """What is wrong, and who is told."""

    def list(self, *, state: str | None = None, deployment: str | None = None, limit: int = 100) -> list[Alert]:
        """The newest first. `state`: open, acknowledged, resolved, or lasting (the first two)."""
        return self._get(answers.AlertList, "/alerts", state=state, deployment=deployment, limit=limit).alerts

    def get(self, alert: str) -> answers.AlertTold:
        """An alert with its evidence, and who was told."""
        return self._get(answers.AlertTold, f"/alerts/{segment(alert)}")

    def acknowledge(self, alert: str) -> Alert:
        """Say that one looks after it."""
        return self._send(Alert, "POST", f"/alerts/{segment(alert)}/acknowledge")

    def resolve(self, alert: str) -> Alert:
        """Say that it is over; seen again, it is raised anew."""
        return self._send(Alert, "POST", f"/alerts/{segment(alert)}/resolve")

    def silences(self) -> Sequence[Silence]:
        return self._get(answers.SilenceList, "/alert-silences").silences

    def silence(self, *, deployment: str = "", source: str = "", seconds: float, why: str = "") -> Silence:
        """Tell nobody of some alerts for a while. They are still recorded."""
        asked = {"deployment": deployment, "source": source, "seconds": seconds, "why": why}
        return self._send(Silence, "POST", "/alert-silences", asked)

    def end_silence(self, silence: str) -> None:
        self._do("DELETE", f"/alert-silences/{segment(silence)}")

    def channels(self) -> Sequence[Channel]:
        return self._get(answers.ChannelList, "/alert-channels").channels

    def add_channel(self, name: str, kind: str, url: str = "", *, least: str = "warn") -> answers.ChannelMade:
        """`key` in the answer signs a webhook's messages; it is not shown again."""
        return self._send(answers.ChannelMade, "POST", "/alert-channels", {"name": name, "kind": kind, "url": url, "least": least})

    def delete_channel(self, name: str) -> None:
        self._do("DELETE", f"/alert-channels/{segment(name)}")

    def test_channel(self, name: str, *, seconds: float = 20.0) -> Delivery:
        """Send a test, and wait for how it went. The delivery's `state` is queued where it could not be sent yet."""
        delivery = self._send(Delivery, "POST", f"/alert-channels/{segment(name)}/test")
        end = time.monotonic() + seconds
        while delivery.state == "queued" and not delivery.error and time.monotonic() < end:
            time.sleep(0.2)
            delivery = self.delivery(delivery.id)
        return delivery

    def deliveries(self, *, alert: str | None = None, limit: int = 50) -> Sequence[Delivery]:
        """Who was told what, the newest first."""
        return self._get(answers.DeliveryList, "/alert-deliveries", alert=alert, limit=limit).deliveries

    def delivery(self, delivery: str) -> Delivery:
        return self._get(Delivery, f"/alert-deliveries/{segment(delivery)}")
