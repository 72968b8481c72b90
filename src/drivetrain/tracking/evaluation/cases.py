"""One case of an evaluation dataset: what may come in, how it is merged into the one that is there, and the schema of many."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from drivetrain.errors import Invalid
from drivetrain.tags import USER
from drivetrain.tracking import checks

SOURCES = ("UNSPECIFIED", "TRACE", "HUMAN", "DOCUMENT", "CODE")


class Given(Struct, frozen=True):
    """A case as a client brings it. `has_outputs`: None and absent differ for outputs, which a merge replaces."""

    inputs: dict[str, Any]
    outputs: Any
    has_outputs: bool
    expectations: dict[str, Any] | None
    tags: dict[str, Any] | None
    source: dict[str, Any] | None

    @property
    def user(self) -> str | None:
        found = (self.tags or {}).get(USER)
        return str(found)[:256] if found else None

    def row(self, now: int) -> dict[str, Any]:
        return {
            "inputs": json.dumps(self.inputs),
            "outputs": json.dumps(self.outputs if self.has_outputs else {}),
            "expectations": None if self.expectations is None else json.dumps(self.expectations),
            "tags": json.dumps(self.tags or {}),
            "source": None if self.source is None else json.dumps(self.source),
            "created_by": self.user,
            "updated_by": self.user,
            "created_ms": now,
            "updated_ms": now,
        }


class Case(Struct, frozen=True):
    """A case as it is kept."""

    id: str
    dataset_id: str
    inputs: dict[str, Any]
    outputs: Any
    expectations: dict[str, Any] | None
    tags: dict[str, Any]
    source: dict[str, Any] | None
    created_by: str | None
    updated_by: str | None
    created_ms: int
    updated_ms: int

    @classmethod
    def of(cls, row: sa.Row[Any]) -> Case:
        return cls(
            row.id,
            row.dataset_id,
            json.loads(row.inputs),
            json.loads(row.outputs),
            None if row.expectations is None else json.loads(row.expectations),
            json.loads(row.tags),
            None if row.source is None else json.loads(row.source),
            row.created_by,
            row.updated_by,
            row.created_ms,
            row.updated_ms,
        )

    @property
    def source_id(self) -> str | None:
        """Of the trace, or of what else the case was made from."""
        if self.source is None:
            return None
        found = self.source["source_data"].get("trace_id" if self.source["source_type"] == "TRACE" else "source_id")
        return None if found is None else str(found)


def checked(given: object, number: int) -> Given:
    """Raises `Invalid` that names the record by its place in the list, from 1."""
    if not isinstance(given, dict):
        raise Invalid(f"Record {number} is not an object: each record is one, with 'inputs' and perhaps 'expectations'.", param="records")
    # Data frames say NaN for what is missing.
    parts: dict[str, Any] = {name: part for name in ("inputs", "expectations", "tags", "source") if (part := given.get(name)) == part}
    for name, part in parts.items():
        if part is not None and not isinstance(part, dict):
            raise Invalid(f"{name!r} of record {number} is not an object.", param="records")
    return Given(
        parts.get("inputs") or {},
        given.get("outputs"),
        "outputs" in given,
        parts.get("expectations"),
        parts.get("tags"),
        _source(parts["source"], number) if parts.get("source") else None,
    )


def _source(given: Mapping[str, Any], number: int) -> dict[str, Any]:
    kind, data = given.get("source_type"), given.get("source_data") or {}
    if not isinstance(kind, str) or kind.upper() not in SOURCES:
        raise Invalid(
            f"Invalid dataset record source type: {checks.shown(str(kind))}, of record {number}. Valid source types: {list(SOURCES)}",
            param="records",
        )
    if not isinstance(data, dict):
        raise Invalid(f"'source_data' of record {number} is not an object.", param="records")
    return {"source_type": kind.upper(), "source_data": data}


def merged(row: Mapping[str, Any], given: Given, now: int) -> dict[str, Any]:
    """The columns of a record that change when a case with the same inputs comes."""
    values: dict[str, Any] = {"updated_ms": now}
    if given.has_outputs:
        values["outputs"] = json.dumps(given.outputs)
    if given.expectations:
        values["expectations"] = json.dumps(json.loads(row["expectations"] or "{}") | given.expectations)
    if given.tags:
        values["tags"] = json.dumps(json.loads(row["tags"]) | given.tags)
    if given.user:
        values["updated_by"] = given.user
    return values


def schema_of(known: str | None, given: Iterable[Given]) -> dict[str, Any] | None:
    """The types of all fields that were ever seen; the first type of a field stays."""
    cases = list(given)
    if known is None and not cases:
        return None
    schema: dict[str, Any] = json.loads(known) if known else {"inputs": {}, "outputs": {}, "expectations": {}, "version": "1.0"}
    for case in cases:
        _see(schema["inputs"], case.inputs)
        _see(schema["expectations"], case.expectations or {})
        if isinstance(case.outputs, dict):
            _see(schema["outputs"], case.outputs)
        elif case.outputs is not None and not schema["outputs"]:
            schema["outputs"] = _type(case.outputs)
    return schema


def _see(fields: object, values: Mapping[str, Any]) -> None:
    if isinstance(fields, dict):  # of outputs that were no object first, the type stands there instead
        for key, value in values.items():
            fields.setdefault(key, _type(value))


def _type(value: object) -> str:
    if value is None:
        return "null"
    names = ((bool, "boolean"), (int, "integer"), (float, "float"), (str, "string"), (list, "array"))
    return next((name for kind, name in names if isinstance(value, kind)), "object")
