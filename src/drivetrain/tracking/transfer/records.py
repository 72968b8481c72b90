"""A run and its logged models as plain records: what an export holds beside points, rows, lines and files."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from drivetrain.errors import Invalid

T = TypeVar("T")


class ExperimentRecord(Struct):
    name: str
    tags: dict[str, str] = {}


class DatasetRecord(Struct):
    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str | None = None
    profile: str | None = None
    tags: dict[str, str] = {}


class LinkRecord(Struct):
    id: str
    role: str
    step: int = 0


class ClientRecord(Struct):
    """What the run's own client said, as it was said: see `RunReport`. Objects come in as JSON texts too, in which NaN may stand."""

    client_id: str
    state: str
    sweep: str | None = None
    config: dict[str, Any] | str = {}
    private: dict[str, Any] | str = {}
    summary: dict[str, Any] | str = {}
    exit_code: int | None = None
    stop_requested: bool = False
    events: int = 0
    heartbeat_ms: int = 0


class RunRecord(Struct):
    id: str
    experiment: ExperimentRecord
    name: str
    user: str
    status: str
    start_ms: int
    end_ms: int | None = None
    lifecycle: str = "active"
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    inputs: list[DatasetRecord] = []
    models: list[LinkRecord] = []
    client: ClientRecord | None = None


class ModelMetricRecord(Struct):
    key: str
    value: float | str
    step: int
    timestamp_ms: int
    run_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""


class ModelRecord(Struct):
    id: str
    experiment: ExperimentRecord
    name: str
    status: str
    created_ms: int
    updated_ms: int
    status_message: str = ""
    model_type: str = ""
    source_run_id: str | None = None
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    metrics: list[ModelMetricRecord] = []


def convert(given: Any, kind: type[T]) -> T:
    """Raises `Invalid` that says where it does not fit."""
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise Invalid(f"The record does not fit: {error}") from None
