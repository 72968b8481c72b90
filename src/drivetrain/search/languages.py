"""What each kind of search understands: entities, fields and their kinds."""

from __future__ import annotations

from drivetrain.search.conditions import Kind
from drivetrain.search.grammar import Language

_ATTRIBUTES = {"attribute": "attribute", "attributes": "attribute", "attr": "attribute", "run": "attribute"}
_TAGS = {"tag": "tag", "tags": "tag"}
_PARAMS = {"param": "param", "params": "param", "parameter": "param", "parameters": "param"}
_METRICS = {"metric": "metric", "metrics": "metric"}
_DATASETS = {"dataset": "dataset", "datasets": "dataset"}


def _strings(*names: str) -> dict[str, tuple[str, Kind]]:
    return {name: (name, "string") for name in names}


def _numbers(*names: str) -> dict[str, tuple[str, Kind]]:
    return {name: (name, "number") for name in names}


RUNS = Language(
    "runs",
    _ATTRIBUTES | _TAGS | _PARAMS | _METRICS | _DATASETS,
    {"metric": "number", "param": "string", "tag": "string"},
    {
        "attribute": _strings("run_id", "run_name", "status", "user_id", "artifact_uri")
        | _numbers("start_time", "end_time")
        | {
            "created": ("start_time", "number"),
            "Created": ("start_time", "number"),
            "run name": ("run_name", "string"),
            "Run name": ("run_name", "string"),
            "Run ID": ("run_id", "string"),
        },
        "dataset": _strings("name", "digest", "context"),
    },
)

EXPERIMENTS = Language(
    "experiments",
    _ATTRIBUTES | _TAGS,
    {"tag": "string"},
    {
        "attribute": _strings("name", "experiment_id")
        | _numbers("creation_time", "last_update_time")
        | {"last_updated_time": ("last_update_time", "number")}
    },
    lists=frozenset({"experiment_id"}),
)

LOGGED_MODELS = Language(
    "logged models",
    _ATTRIBUTES | _TAGS | _PARAMS | _METRICS,
    {"metric": "number", "param": "string", "tag": "string"},
    {
        "attribute": _strings("name", "model_id", "model_type", "status", "source_run_id", "experiment_id")
        | _numbers("creation_timestamp", "last_updated_timestamp")
        | {
            "creation_time": ("creation_timestamp", "number"),
            "creation_timestamp_ms": ("creation_timestamp", "number"),
            "last_updated_time": ("last_updated_timestamp", "number"),
            "last_updated_timestamp_ms": ("last_updated_timestamp", "number"),
            "run_id": ("source_run_id", "string"),
        }
    },
    lists_of=frozenset({"param", "tag"}),
)

REGISTERED_MODELS = Language(
    "registered models",
    _ATTRIBUTES | _TAGS,
    {"tag": "string"},
    {
        "attribute": _strings("name")
        | _numbers("creation_timestamp", "last_updated_timestamp")
        | {"timestamp": ("last_updated_timestamp", "number"), "last_updated_time": ("last_updated_timestamp", "number")}
    },
    lists=frozenset({"name"}),
)

MODEL_VERSIONS = Language(
    "model versions",
    _ATTRIBUTES | _TAGS,
    {"tag": "string"},
    {
        "attribute": _strings("name", "run_id", "source_path")
        | _numbers("version_number", "creation_timestamp", "last_updated_timestamp")
        | {"version": ("version_number", "number"), "source": ("source_path", "string")}
    },
    lists=frozenset({"name", "run_id"}),
)

EVALUATION_DATASETS = Language(
    "evaluation datasets",
    _ATTRIBUTES | _TAGS,
    {"tag": "string"},
    {"attribute": _strings("name", "created_by", "last_updated_by") | _numbers("created_time", "last_update_time")},
    nullable=frozenset(),
    lists=frozenset({"name"}),
)

TRACES = Language(
    "traces",
    {"attribute": "attribute", "attributes": "attribute", "trace": "attribute", "span": "span", "spans": "span"}
    | _TAGS
    | {"metadata": "metadata", "request_metadata": "metadata", "feedback": "feedback", "expectation": "expectation"},
    {"tag": "string", "metadata": "string", "span": "string", "feedback": "any", "expectation": "any"},
    {
        "attribute": _strings("request_id", "client_request_id", "status", "name", "run_id", "prompt", "text", "session")
        | _numbers("timestamp_ms", "execution_time_ms", "end_time_ms")
        | {
            "timestamp": ("timestamp_ms", "number"),
            "request_time": ("timestamp_ms", "number"),
            "execution_time": ("execution_time_ms", "number"),
            "execution_duration": ("execution_time_ms", "number"),
            "end_time": ("end_time_ms", "number"),
            "state": ("status", "string"),
            "trace_id": ("request_id", "string"),
        },
    },
    nullable=frozenset({"tag", "metadata", "feedback", "expectation"}),
    lists=frozenset({"request_id", "client_request_id", "status", "name", "run_id", "session"}),
    lists_of=frozenset({"span"}),
    patterns=True,
)
