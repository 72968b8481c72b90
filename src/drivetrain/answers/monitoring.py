"""What the native API says of monitors, drift and performance; of alerts, and who is told of them."""

from __future__ import annotations

from msgspec import Struct

from drivetrain.monitoring.drift.model import Report
from drivetrain.monitoring.model import Alert, Channel, Cohort, Delivery, Monitor, Quality, Silence, Window


class MonitorList(Struct, frozen=True):
    monitors: list[Monitor]


class DriftReport(Report, kw_only=True):
    """The report of one window of a deployment."""

    deployment: str
    window: Window


class WindowList(Struct, frozen=True):
    windows: list[Window]


class CohortList(Struct, frozen=True):
    cohorts: list[Cohort]


class LabelQuality(Quality, frozen=True, kw_only=True):
    deployment: str


class AlertList(Struct, frozen=True):
    alerts: list[Alert]


class AlertTold(Alert, frozen=True, kw_only=True):
    """An alert, and who was told of it."""

    deliveries: list[Delivery]


class SilenceList(Struct, frozen=True):
    silences: list[Silence]


class ChannelList(Struct, frozen=True):
    channels: list[Channel]


class ChannelMade(Channel, frozen=True, kw_only=True):
    """`key` signs a webhook's messages and is shown this once; "" for other kinds."""

    key: str


class DeliveryList(Struct, frozen=True):
    deliveries: list[Delivery]
