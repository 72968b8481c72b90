"""Traces and assessments in MLflow's JSON (version 3 of its API, and what its client still asks of version 2)."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct

from drivetrain.dialects.mlflow import answers, otlp
from drivetrain.dialects.mlflow.messages import Exact, Nothing, Tag
from drivetrain.dialects.mlflow.routing import Json, Route
from drivetrain.errors import Invalid, NotFound
from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.tracking.traces.assessments import Assessment, Kind
from drivetrain.tracking.traces.service import MAX_PAGE, Trace, TraceInfo

_DURATION = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9}))?s", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STATES = {0: "STATE_UNSPECIFIED", 1: "OK", 2: "ERROR", 3: "IN_PROGRESS"}


class ExperimentPlace(Struct):
    experiment_id: str = ""


class Location(Struct):
    mlflow_experiment: ExperimentPlace | None = None


class Source(Struct):
    source_type: str = "SOURCE_TYPE_UNSPECIFIED"
    source_id: str = ""


class AssessmentBody(Struct):
    assessment_name: str = ""
    assessment_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    source: Source | None = None
    create_time: str | None = None
    last_update_time: str | None = None
    feedback: dict[str, Any] | None = None
    expectation: dict[str, Any] | None = None
    issue: dict[str, Any] | None = None
    rationale: str | None = None
    metadata: dict[str, str] = {}
    overrides: str | None = None
    valid: bool | None = None


class InfoBody(Struct):
    trace_id: str
    trace_location: Location
    client_request_id: str | None = None
    request_preview: str | None = None
    response_preview: str | None = None
    request_time: str | None = None
    execution_duration: str | None = None
    state: str | int = "STATE_UNSPECIFIED"
    trace_metadata: dict[str, str] = {}
    tags: dict[str, str] = {}
    assessments: list[AssessmentBody] = []


class TraceBody(Struct):
    trace_info: InfoBody


class StartTrace(Exact):
    trace: TraceBody


class GetTrace(Struct):
    trace_id: str
    allow_partial: bool = False


class GetTraces(Struct):
    trace_ids: list[str] = []
    experiment_ids: list[str] = []


class SearchTraces(Struct):
    locations: list[Location] = []
    experiment_ids: list[str] = []
    filter: str = ""
    max_results: int = 100
    order_by: list[str] = []
    page_token: str = ""


class DeleteTraces(Struct):
    experiment_id: str
    max_timestamp_millis: int | None = None
    max_traces: int | None = None
    request_ids: list[str] = []


class TagKey(Struct):
    key: str


class LinkRun(Struct):
    run_id: str
    trace_ids: list[str] = []


class PromptVersion(Struct):
    name: str
    version: str


class LinkPrompts(Struct):
    trace_id: str
    prompt_versions: list[PromptVersion] = []


class WriteAssessment(Exact):
    assessment: AssessmentBody
    update_mask: str = ""


# --- times


def to_time(ms: int) -> str:
    try:
        moment = _EPOCH + timedelta(milliseconds=ms)
    except OverflowError:
        return "9999-12-31T23:59:59.999Z"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def from_time(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(f"{text[:40]!r} is no time: write it as 2026-01-31T12:00:00.000Z.", param="request_time") from None
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // timedelta(milliseconds=1)


def from_duration(text: str) -> int:
    found = _DURATION.fullmatch(text)
    if found is None or found[1]:
        raise Invalid(f"{text[:40]!r} is no duration: write it as 1.5s.", param="execution_duration")
    return int(found[2]) * 1000 + int((found[3] or "0").ljust(3, "0")[:3])


# --- our nouns in their JSON


def info(given: TraceInfo) -> Json:
    out = {
        "trace_id": given.id,
        "client_request_id": given.client_request_id,
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": given.experiment_id}},
        "request_preview": given.request_preview,
        "response_preview": given.response_preview,
        "request_time": to_time(given.start_ms),
        "execution_duration": None if given.duration_ms is None else f"{given.duration_ms / 1000:.3f}s",
        "state": given.state,
        "trace_metadata": dict(given.metadata),
        "tags": dict(given.tags),
        "assessments": [assessment(one) for one in given.assessments],
    }
    return {key: value for key, value in out.items() if value not in (None, [], {})}


def whole(given: Trace) -> Json:
    return answers.lean({"trace_info": info(given.info), "spans": [otlp.to_json(span) for span in given.spans]})


def assessment(given: Assessment) -> Json:
    value: Json = {"value": given.value}
    if given.kind == "expectation" and isinstance(given.value, (dict, list)):
        value = {"serialized_value": {"serialization_format": "JSON_FORMAT", "value": json.dumps(given.value)}}
    elif given.kind == "issue":
        value = given.value
    if given.error:
        value["error"] = given.error
    out = answers.lean(
        {
            "assessment_id": given.id,
            "assessment_name": given.name,
            "trace_id": given.trace_id,
            "span_id": given.span_id,
            "source": {"source_type": given.source_type, "source_id": given.source_id},
            "create_time": to_time(given.created_ms),
            "last_update_time": to_time(given.updated_ms),
            "rationale": given.rationale,
            "metadata": dict(given.metadata),
            "overrides": given.overrides,
        }
    )
    return out | {given.kind: value, "valid": given.valid}


def _value(body: AssessmentBody) -> tuple[Kind, Any, Json | None]:
    """(kind, value, error)"""
    given: list[tuple[Kind, Json]] = []
    if body.feedback is not None:
        given.append(("feedback", body.feedback))
    if body.expectation is not None:
        given.append(("expectation", body.expectation))
    if body.issue is not None:
        given.append(("issue", body.issue))
    if len(given) != 1:
        raise Invalid("An assessment has exactly one of feedback, expectation and issue.", param="assessment")
    kind, about = given[0]
    if kind == "issue":
        return kind, about, None
    if kind == "expectation" and (packed := about.get("serialized_value")):
        try:
            return kind, json.loads(packed["value"]), None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise Invalid("The serialized_value of an expectation is {'serialization_format': 'JSON_FORMAT', 'value': JSON}.") from None
    error = about.get("error")
    if error is not None and not isinstance(error, dict):
        raise Invalid("The error of a feedback is an object with error_code and error_message.", param="error")
    return kind, about.get("value"), error


def _assessment(body: AssessmentBody, trace_id: str) -> Assessment:
    kind, value, error = _value(body)
    source = body.source or Source()
    created = from_time(body.create_time) if body.create_time else 0
    return Assessment(
        id=body.assessment_id or "",
        trace_id=trace_id,
        kind=kind,
        name=body.assessment_name,
        value=value,
        error=error,
        source_type=source.source_type,
        source_id=source.source_id,
        span_id=body.span_id or None,
        rationale=body.rationale,
        metadata=body.metadata,
        overrides=body.overrides or None,
        valid=body.valid is not False,
        created_ms=created,
        updated_ms=from_time(body.last_update_time) if body.last_update_time else created,
    )


# --- traces


def start(s: Platform, ctx: Context, body: StartTrace) -> Json:
    given = body.trace.trace_info
    place = given.trace_location.mlflow_experiment
    if place is None or not place.experiment_id:
        raise Invalid("Traces are kept in experiments: trace_location.mlflow_experiment.experiment_id is missing.", param="trace_location")
    kept = s.tracking.traces.put(
        ctx,
        TraceInfo(
            id=given.trace_id,
            experiment_id=place.experiment_id,
            start_ms=from_time(given.request_time) if given.request_time else 0,
            duration_ms=from_duration(given.execution_duration) if given.execution_duration else None,
            state=_STATES.get(given.state, str(given.state)) if isinstance(given.state, int) else given.state,
            client_request_id=given.client_request_id,
            request_preview=given.request_preview,
            response_preview=given.response_preview,
            tags=given.tags,
            metadata=given.trace_metadata,
            assessments=[_assessment(one, given.trace_id) for one in given.assessments],
        ),
    )
    return {"trace": {"trace_info": info(kept)}}


def get_info(s: Platform, ctx: Context, _: Nothing, trace_id: str) -> Json:
    return {"trace": {"trace_info": info(s.tracking.traces.info(ctx, trace_id))}}


def get(s: Platform, ctx: Context, body: GetTrace) -> Json:
    found = s.tracking.traces.get(ctx, body.trace_id)
    if not found.complete and not body.allow_partial:
        raise NotFound(f"The spans of the trace {body.trace_id} have not all arrived yet: try again, or allow a partial answer.")
    return {"trace": whole(found)}


def get_many(s: Platform, ctx: Context, body: GetTraces) -> Json:
    found = s.tracking.traces.get_many(ctx, body.trace_ids, experiment_ids=body.experiment_ids or None)
    return answers.lean({"traces": [whole(one) for one in found if one.complete]})


def get_infos(s: Platform, ctx: Context, body: GetTraces) -> Json:
    found = s.tracking.traces.infos(ctx, body.trace_ids, experiment_ids=body.experiment_ids or None)
    return answers.lean({"trace_infos": [info(one) for one in found]})


def search(s: Platform, ctx: Context, body: SearchTraces) -> Json:
    places = [one.mlflow_experiment.experiment_id for one in body.locations if one.mlflow_experiment is not None]
    if not (places or body.experiment_ids):
        raise Invalid("Say in which experiments to search: locations is empty.", param="locations")
    found = s.tracking.traces.search(
        ctx,
        places or body.experiment_ids,
        filter=body.filter,
        order_by=body.order_by,
        limit=min(body.max_results, MAX_PAGE),  # who asks for more follows the page tokens
        token=body.page_token,
    )
    return answers.page("traces", found, [info(one) for one in found.items])


def delete(s: Platform, ctx: Context, body: DeleteTraces) -> Json:
    deleted = s.tracking.traces.delete(
        ctx, body.experiment_id, trace_ids=body.request_ids, max_timestamp_ms=body.max_timestamp_millis, limit=body.max_traces
    )
    return {"traces_deleted": deleted}


def set_tag(s: Platform, ctx: Context, body: Tag, trace_id: str) -> Json:
    s.tracking.traces.set_tag(ctx, trace_id, body.key, body.value)
    return {}


def delete_tag(s: Platform, ctx: Context, body: TagKey, trace_id: str) -> Json:
    s.tracking.traces.delete_tag(ctx, trace_id, body.key)
    return {}


def link_run(s: Platform, ctx: Context, body: LinkRun) -> Json:
    s.tracking.traces.link(ctx, body.trace_ids, body.run_id)
    return {}


def link_prompts(s: Platform, ctx: Context, body: LinkPrompts) -> Json:
    s.tracking.traces.link_prompts(ctx, body.trace_id, [(one.name, one.version) for one in body.prompt_versions])
    return {}


# --- assessments


def assess(s: Platform, ctx: Context, body: WriteAssessment, trace_id: str) -> Json:
    return {"assessment": assessment(s.tracking.assessments.create(ctx, trace_id, _assessment(body.assessment, trace_id)))}


def get_assessment(s: Platform, ctx: Context, _: Nothing, trace_id: str, assessment_id: str) -> Json:
    return {"assessment": assessment(s.tracking.assessments.get(ctx, trace_id, assessment_id))}


def update_assessment(s: Platform, ctx: Context, body: WriteAssessment, trace_id: str, assessment_id: str) -> Json:
    given = body.assessment
    changes: Json = {}
    for path in filter(None, body.update_mask.split(",")):
        match path.strip():
            case "assessmentName" | "assessment_name":
                changes["name"] = given.assessment_name
            case "rationale":
                changes["rationale"] = given.rationale
            case "metadata":
                changes["metadata"] = given.metadata
            case "feedback" | "expectation":
                changes["kind"], changes["value"], changes["error"] = _value(given)
            case other:
                raise Invalid(f"{other[:64]!r} of an assessment does not change.", param="update_mask")
    return {"assessment": assessment(s.tracking.assessments.update(ctx, trace_id, assessment_id, changes))}


def delete_assessment(s: Platform, ctx: Context, _: Nothing, trace_id: str, assessment_id: str) -> Json:
    s.tracking.assessments.delete(ctx, trace_id, assessment_id)
    return {}


ROUTES = (
    Route("POST", "traces", StartTrace, start),
    Route("GET", "traces/get", GetTrace, get),
    Route("GET", "traces/batchGet", GetTraces, get_many),
    Route("POST", "traces/batchGetInfos", GetTraces, get_infos),
    Route("POST", "traces/search", SearchTraces, search),
    Route("POST", "traces/delete-traces", DeleteTraces, delete),
    Route("POST", "traces/link-to-run", LinkRun, link_run),
    Route("POST", "traces/link-prompts", LinkPrompts, link_prompts),
    Route("GET", "traces/{id}", Nothing, get_info),
    Route("PATCH", "traces/{id}/tags", Tag, set_tag),
    Route("DELETE", "traces/{id}/tags", TagKey, delete_tag),
    Route("POST", "traces/{id}/assessments", WriteAssessment, assess),
    Route("GET", "traces/{id}/assessments/{assessment}", Nothing, get_assessment),
    Route("PATCH", "traces/{id}/assessments/{assessment}", WriteAssessment, update_assessment),
    Route("DELETE", "traces/{id}/assessments/{assessment}", Nothing, delete_assessment),
)
