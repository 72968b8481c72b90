"""The bodies of MLflow's requests, and reading them.

Protobuf's JSON is lenient: numbers may be strings, names may be in camel case, null means unset, and unknown fields are ignored.
"""

from __future__ import annotations

import re
import typing
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from drivetrain.errors import Invalid
from drivetrain.tracking import checks

T = TypeVar("T", bound=Struct)


class Exact(Struct):
    """A body with objects whose keys and nulls are somebody's own: nothing in it is renamed or left out."""


class Tag(Struct):
    key: str
    value: str = ""


class Nothing(Struct):
    pass


class OfRun(Struct, kw_only=True):
    """Requests name the run in either of two fields."""

    run_id: str = ""
    run_uuid: str = ""

    @property
    def run(self) -> str:
        if not (self.run_id or self.run_uuid):
            raise Invalid("Say which run is meant: run_id is missing.", param="run_id")
        return self.run_id or self.run_uuid


class CreateExperiment(Struct):
    name: str
    artifact_location: str = ""
    tags: list[Tag] = []


class ExperimentId(Struct):
    experiment_id: str


class ExperimentName(Struct):
    experiment_name: str


class SearchExperiments(Struct):
    max_results: int = 1000
    page_token: str = ""
    filter: str = ""
    order_by: list[str] = []
    view_type: str | int = "ACTIVE_ONLY"


class UpdateExperiment(Struct):
    experiment_id: str
    new_name: str = ""


class ExperimentTag(Struct):
    experiment_id: str
    key: str
    value: str = ""


class CreateRun(Struct):
    experiment_id: str = "0"
    user_id: str = ""
    run_name: str = ""
    start_time: int = 0
    tags: list[Tag] = []


class UpdateRun(OfRun, kw_only=True):
    status: str | int = ""
    end_time: int = 0
    run_name: str = ""


class LogMetric(OfRun, kw_only=True):
    key: str
    value: float
    timestamp: int
    step: int = 0
    model_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""


class MetricPoint(Struct):
    key: str
    value: float
    timestamp: int
    step: int = 0
    model_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""


class LogParam(OfRun, kw_only=True):
    key: str
    value: str = ""


class RunTag(OfRun, kw_only=True):
    key: str
    value: str = ""


class LogBatch(OfRun, kw_only=True):
    metrics: list[MetricPoint] = []
    params: list[Tag] = []
    tags: list[Tag] = []


class DatasetBody(Struct):
    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str | None = None
    profile: str | None = None


class DatasetInput(Struct):
    dataset: DatasetBody
    tags: list[Tag] = []


class ModelRef(Struct):
    model_id: str
    step: int = 0


class LogInputs(OfRun, kw_only=True):
    datasets: list[DatasetInput] = []
    models: list[ModelRef] = []


class LogOutputs(OfRun, kw_only=True):
    models: list[ModelRef] = []


class LogModel(OfRun, kw_only=True):
    model_json: str


class GetHistory(OfRun, kw_only=True):
    metric_key: str
    page_token: str = ""
    max_results: int | None = None


class GetHistoryBulk(Struct):
    metric_key: str
    run_id: list[str] = []
    max_results: int | None = None


class GetHistoryInterval(Struct):
    metric_key: str
    run_ids: list[str] = []
    max_results: int | None = None
    start_step: int | None = None
    end_step: int | None = None


class ListArtifacts(OfRun, kw_only=True):
    path: str = ""
    page_token: str = ""


class SearchRuns(Struct):
    experiment_ids: list[str] = []
    filter: str = ""
    run_view_type: str | int = "ACTIVE_ONLY"
    max_results: int = 1000
    order_by: list[str] = []
    page_token: str = ""


class SearchDatasets(Struct):
    experiment_ids: list[str] = []


class CreateLoggedModel(Struct):
    experiment_id: str
    name: str = ""
    model_type: str = ""
    source_run_id: str = ""
    params: list[Tag] = []
    tags: list[Tag] = []


class GetLoggedModel(Struct):
    allow_deleted: bool = False


class FinalizeLoggedModel(Struct):
    status: str | int


class LoggedModelTags(Struct):
    tags: list[Tag] = []


class LoggedModelParams(Struct):
    params: list[Tag] = []


class LoggedModelFolder(Struct):
    artifact_directory_path: str = ""


class LoggedModelDataset(Struct):
    dataset_name: str
    dataset_digest: str | None = None


class LoggedModelOrder(Struct):
    field_name: str
    ascending: bool = True


class SearchLoggedModels(Struct):
    experiment_ids: list[str] = []
    filter: str = ""
    datasets: list[LoggedModelDataset] = []
    max_results: int = 100
    order_by: list[LoggedModelOrder] = []
    page_token: str = ""


class CreateRegisteredModel(Struct):
    name: str
    description: str = ""
    tags: list[Tag] = []


class ModelName(Struct):
    name: str


class RenameModel(Struct):
    name: str
    new_name: str = ""


class UpdateModel(Struct):
    name: str
    description: str = ""


class SearchRegistered(Struct):
    filter: str = ""
    max_results: int = 0
    order_by: list[str] = []
    page_token: str = ""


class LatestVersions(Struct):
    name: str
    stages: list[str] = []


class ModelTag(Struct):
    name: str
    key: str
    value: str = ""


class CreateVersion(Struct):
    name: str
    source: str
    run_id: str = ""
    model_id: str = ""
    description: str = ""
    run_link: str = ""
    tags: list[Tag] = []


class VersionName(Struct):
    name: str
    version: str


class UpdateVersion(Struct):
    name: str
    version: str
    description: str | None = None


class VersionTag(Struct):
    name: str
    version: str
    key: str
    value: str = ""


class TransitionStage(Struct):
    name: str
    version: str
    stage: str
    archive_existing_versions: bool = False


class SetAlias(Struct):
    name: str
    alias: str
    version: str


class Alias(Struct):
    name: str
    alias: str


class RunArtifact(OfRun, kw_only=True):
    path: str


class VersionArtifact(Struct):
    name: str
    version: str
    path: str = field(default="")


_CAMEL = re.compile(rb'"[a-z]+(?:[A-Z][a-z0-9]*)+"\s*:')


def read(raw: bytes, wanted: type[T]) -> T:
    """A body as `wanted`. Raises `Invalid` that says where it does not fit."""
    try:
        # Clients of other languages may use what protobuf allows besides; most do not, and need no second look.
        if not issubclass(wanted, Exact) and (b"null" in raw or (not raw.islower() and _CAMEL.search(raw))):
            return msgspec.convert(_plain(msgspec.json.decode(raw)), wanted, strict=False)
        return msgspec.json.decode(raw or b"{}", type=wanted, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(f"The request's body does not fit: {_said(error)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"The request's body is not valid JSON: {error}. Send an object, with NaN and Infinity as strings.") from None


def read_query(query: dict[str, list[str]], wanted: type[T]) -> T:
    """The same out of an address: repeated keys are lists."""
    lists = _lists(wanted)
    snake = {_snake(key): values for key, values in query.items()}
    given: dict[str, Any] = {key: values if key in lists else values[-1] for key, values in snake.items()}
    try:
        return msgspec.convert(given, wanted, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(f"The request's query does not fit: {_said(error)}") from None


def tags(given: list[Tag]) -> dict[str, str]:
    return {tag.key: tag.value for tag in given}


def run_tags(given: list[Tag]) -> dict[str, str]:
    """Tags of a run: MLflow's server shortens long values unless told otherwise, and scripts (autolog above all) rely on it."""
    return {tag.key: tag.value[: checks.MAX_TAG] for tag in given}


def params(given: list[Tag]) -> dict[str, str]:
    """Params, shortened likewise. Raises `Invalid` for a key with two values."""
    found: dict[str, str] = {}
    for one in given:
        value = one.value[: checks.MAX_PARAM]
        if found.setdefault(one.key, value) != value:
            raise Invalid(f"The param {checks.shown(one.key)} is given twice, the second time as {checks.shown(value)}.", param="params")
    return found


def named(value: str | int, names: dict[int, str]) -> str:
    """The name of an enumeration's value: protobuf's JSON takes its number too."""
    return names.get(value, str(value)) if isinstance(value, int) else value


@cache
def _lists(wanted: type[Struct]) -> frozenset[str]:
    return frozenset(name for name, hint in typing.get_type_hints(wanted).items() if typing.get_origin(hint) is list)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda match: "_" + match[1].lower(), name)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {_snake(key): _plain(one) for key, one in value.items() if one is not None}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _said(error: msgspec.ValidationError) -> str:
    return str(error).replace("Object missing", "there is no").replace("$.", "")
