"""Tables and tensors as MLflow's scoring protocol writes them, to Open Inference v2 and back. Plain Python: no pandas, no NumPy."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from drivetrain.errors import Invalid, UpstreamFailed

KINDS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_INT64 = range(-(1 << 63), 1 << 63)


def canonical(payload: Any) -> dict[str, Any]:
    """The v2 request for a JSON payload. Raises `Invalid`."""
    if not isinstance(payload, dict):
        raise Invalid(f"The body must be a JSON object with one of: {', '.join(KINDS)}.")
    given = [kind for kind in KINDS if kind in payload]
    if len(given) != 1:
        raise Invalid(f"The body must have exactly one of {', '.join(KINDS)}; it has {', '.join(given) or 'none of them'}.")
    kind = given[0]
    value = payload[kind]
    if kind == "dataframe_split":
        request = _table(*_split(value))
    elif kind == "dataframe_records":
        request = _table(*_records(value, kind))
    elif kind == "instances" and isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        request = _named(dict(zip(*_records(value, kind), strict=True)))
    elif isinstance(value, dict) and kind == "inputs":
        request = _named(value)
    else:
        request = {"inputs": [_tensor("input-0", value, kind)]}
    params = payload.get("params")
    if params is not None:
        if not isinstance(params, dict):
            raise Invalid("`params` must be an object.", param="params")
        request["parameters"] = {**params, **request.get("parameters", {})}
    return request


def canonical_csv(text: str) -> dict[str, Any]:
    """The v2 request for a CSV table with a header line."""
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise Invalid(f"The body is not valid CSV: {error}") from None
    rows = [row for row in rows if row]
    if len(rows) < 2:
        raise Invalid("The CSV needs a header line and at least one row.")
    header = rows[0]
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(header):
            raise Invalid(f"Row {number} of the CSV has {len(row)} fields, its header has {len(header)}.")
    return _table(header, [_typed([row[i] for row in rows[1:]]) for i in range(len(header))])


def predictions(answer: Any) -> Any:
    """What `predictions` holds, from a v2 answer: an array, records of a table, or named arrays."""
    try:
        outputs = {output["name"]: shaped(output["data"], output["shape"]) for output in answer["outputs"]}
        table = (answer.get("parameters") or {}).get("content_type") == "pd"
    except (KeyError, TypeError, IndexError) as error:
        raise UpstreamFailed(f"The replica's answer is not in the canonical protocol: {error!r}") from error
    if table and len(outputs) > 1:
        return [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
    if len(outputs) == 1:
        return next(iter(outputs.values()))
    return outputs


def shaped(data: Any, shape: Sequence[int]) -> Any:
    """Nested lists of that shape from row-major elements; what is nested already stays as it is."""
    if len(shape) <= 1 or not isinstance(data, list) or (data and isinstance(data[0], list)):
        return data
    for size in reversed(shape[1:]):
        data = [data[i : i + size] for i in range(0, len(data), size)] if size else [[] for _ in range(shape[0])]
    return data


def _split(value: Any) -> tuple[list[str], list[list[Any]]]:
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        raise Invalid("`dataframe_split` must be an object with columns and data (a list of rows).", param="dataframe_split")
    rows = value["data"]
    if not rows:
        raise Invalid("`dataframe_split` has no rows.", param="dataframe_split.data")
    if not all(isinstance(row, list) for row in rows):
        rows = [row if isinstance(row, list) else [row] for row in rows]
    width = len(rows[0])
    columns = value.get("columns")
    if columns is None:
        columns = list(range(width))
    if not isinstance(columns, list) or not all(isinstance(name, (str, int)) for name in columns):
        raise Invalid("`columns` of dataframe_split must be a list of names.", param="dataframe_split.columns")
    for number, row in enumerate(rows):
        if len(row) != len(columns):
            raise Invalid(
                f"Row {number} of dataframe_split has {len(row)} values, but there are {len(columns)} columns.",
                param="dataframe_split.data",
            )
    return [str(name) for name in columns], [list(column) for column in zip(*rows, strict=True)]


def _records(value: Any, kind: str) -> tuple[list[str], list[list[Any]]]:
    if not isinstance(value, list) or not value or not all(isinstance(row, dict) for row in value):
        raise Invalid(f"`{kind}` must be a list of objects, one a row, and not empty.", param=kind)
    names = list(dict.fromkeys(name for row in value for name in row))
    return names, [[row.get(name) for row in value] for name in names]


def _table(names: list[str], columns: list[list[Any]]) -> dict[str, Any]:
    if len(set(names)) != len(names):
        raise Invalid("Two columns have the same name.")
    if not names:
        raise Invalid("The table has no columns.")
    inputs = []
    for name, column in zip(names, columns, strict=True):
        datatype, data = _datatype(column, name)
        inputs.append({"name": name, "shape": [len(column)], "datatype": datatype, "data": data})
    return {"parameters": {"content_type": "pd"}, "inputs": inputs}


def _named(tensors: dict[str, Any]) -> dict[str, Any]:
    """Named tensors; a table when each of them is one column."""
    if not tensors:
        raise Invalid("`inputs` is empty.", param="inputs")
    inputs = [_tensor(name, value, name) for name, value in tensors.items()]
    out: dict[str, Any] = {"inputs": inputs}
    if all(len(tensor["shape"]) == 1 for tensor in inputs) and len({tensor["shape"][0] for tensor in inputs}) == 1:
        out["parameters"] = {"content_type": "pd"}
    return out


def _tensor(name: str, value: Any, where: str) -> dict[str, Any]:
    if value is None or value == [] or isinstance(value, dict):
        raise Invalid(f"`{where}` must be a number, a text, or lists of them, and not empty.", param=where)
    if not isinstance(value, list):
        value = [value]
    shape: list[int] = []
    level: Any = value
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
    elements: list[Any] = value
    for size in shape[1:]:
        if any(not isinstance(item, list) or len(item) != size for item in elements):
            raise Invalid(f"`{where}` is ragged: all lists at one depth must have the same length.", param=where)
        elements = [element for item in elements for element in item]
    datatype, data = _datatype(elements, where)
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def _datatype(values: list[Any], where: str) -> tuple[str, list[Any]]:
    """The narrowest of BOOL, INT64, FP64 and BYTES that holds all values. A null is a missing number or text."""
    kinds = {type(value) for value in values}
    missing = type(None) in kinds
    kinds.discard(type(None))
    if kinds == {int} and not missing:
        if any(value not in _INT64 for value in values):
            raise Invalid(f"`{where}` has a number beyond 64 bits.", param=where)
        return "INT64", values
    if kinds <= {int, float}:
        return "FP64", values
    if kinds == {bool} and not missing:
        return "BOOL", values
    if kinds == {str}:
        return "BYTES", values
    names = {int: "number", float: "number", str: "text", bool: "true or false", list: "list", dict: "object"}
    found = sorted({names.get(kind, kind.__name__) for kind in kinds} | ({"null"} if missing else set()))
    raise Invalid(f"`{where}` mixes values that do not go together: {', '.join(found)}.", param=where)


def _typed(texts: list[str]) -> list[Any]:
    """A CSV column as integers, else numbers, else texts; empty fields are missing values."""
    for kind in (int, float):
        try:
            return [kind(text) if text.strip() else None for text in texts]
        except ValueError:
            continue
    return [text or None for text in texts]
