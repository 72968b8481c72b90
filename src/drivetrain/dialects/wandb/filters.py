"""The words of wandb's filters and orders of runs, as fields of our own."""

from __future__ import annotations

from drivetrain.errors import Invalid
from drivetrain.search.conditions import Kind
from drivetrain.tags import GIT_COMMIT, GROUP, JOB_TYPE, NOTE

_NAMES: dict[str, tuple[str, str]] = {
    "name": ("attribute", "client_id"),
    "run.name": ("attribute", "client_id"),
    "display_name": ("attribute", "run_name"),
    "displayname": ("attribute", "run_name"),
    "state": ("attribute", "state"),
    "tags": ("attribute", "label"),
    "sweep": ("attribute", "sweep"),
    "group": ("tag", GROUP),
    "groupname": ("tag", GROUP),
    "jobtype": ("tag", JOB_TYPE),
    "job_type": ("tag", JOB_TYPE),
    "username": ("attribute", "user_id"),
    "user": ("attribute", "user_id"),
    "commit": ("tag", GIT_COMMIT),
    "notes": ("tag", NOTE),
    "created_at": ("attribute", "created"),
    "createdat": ("attribute", "created"),
    "heartbeat_at": ("attribute", "heartbeat"),
    "heartbeatat": ("attribute", "heartbeat"),
}
_DOCUMENTS = {"config.": "config", "summary_metrics.": "summary", "summaryMetrics.": "summary"}
_ORDERS = {"created_at": "start_time", "createdat": "start_time", "heartbeat_at": "end_time", "heartbeatat": "end_time"}


def key_of(name: str) -> tuple[str, str, Kind]:
    """(entity, key, kind of its values)."""
    for prefix, entity in _DOCUMENTS.items():
        if name.startswith(prefix):
            return entity, name.removeprefix(prefix), "any"
    if name.lower() not in _NAMES:
        known = f"config.<key>, summary_metrics.<key>, {', '.join(sorted(_NAMES))}"
        raise Invalid(f"Runs cannot be filtered by {name[:60]!r}: use {known}.", param="filters")
    return *_NAMES[name.lower()], "string"


def order_by(order: str) -> list[str]:
    """`-summary_metrics.loss` as an order of the run search."""
    name = order.lstrip("+-")
    way = "DESC" if order.startswith("-") else "ASC"
    if not name:
        return ["start_time ASC"]
    if name.lower() in _ORDERS:
        return [f"{_ORDERS[name.lower()]} {way}"]
    for prefix, entity in (("summary_metrics.", "metrics"), ("config.", "params")):
        if name.startswith(prefix):
            key = name.removeprefix(prefix).removesuffix(".value")
            if "`" not in key:
                return [f"{entity}.`{key}` {way}"]
    if name in ("name", "display_name", "displayName"):
        return [f"run_name {way}"]
    if name == "state":
        return [f"status {way}"]
    raise Invalid(
        f"Runs cannot be ordered by {name!r}: use created_at, heartbeat_at, summary_metrics.<key> or config.<key>.", param="order"
    )
