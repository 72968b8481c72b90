"""Between Open Inference v2 JSON and what Python models take and give."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Struct

from drivetrain.engines.pyfunc.model import Loaded
from drivetrain.errors import Invalid
from drivetrain.formats.mlmodel import Column

_DTYPES = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64, "INT8": np.int8, "INT16": np.int16,
    "INT32": np.int32, "INT64": np.int64, "FP16": np.float16, "FP32": np.float32, "FP64": np.float64,
}  # fmt: skip
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_NUMBERS = {"double": np.float64, "float": np.float32, "long": np.int64, "integer": np.int32, "boolean": np.bool_}


class Tensor(Struct):
    name: str
    shape: list[Annotated[int, Meta(ge=0)]]
    datatype: str
    data: msgspec.Raw


class InferRequest(Struct):
    inputs: list[Tensor]
    id: str | None = None
    parameters: dict[str, Any] | None = None


class Input(Struct):
    """What a model is called with. Inputs of one `kind` can be put together into one call; `rows` of it are this request's (0: unknown)."""

    data: Any
    rows: int
    kind: tuple[Any, ...]
    method: str
    params: dict[str, Any]


decoder = msgspec.json.Decoder(InferRequest)
# A null is a missing number or text.
_ELEMENTS: dict[str, Any] = {"b": list[bool], "i": list[int], "u": list[int], "f": list[float | None], "O": list[str | None]}
_DECODERS = {kind: msgspec.json.Decoder(type_) for kind, type_ in _ELEMENTS.items()}


def read(request: InferRequest, model: Loaded) -> Input:
    """The input of a request. Raises `Invalid` that says which column or tensor does not fit, and what would."""
    if not request.inputs:
        raise Invalid("The request has no inputs.", param="inputs")
    parameters = dict(request.parameters or {})
    table = parameters.pop("content_type", None) == "pd"
    method = str(parameters.pop("method", ""))
    parameters.pop("binary_data_output", None)
    named = {tensor.name for tensor in request.inputs}
    if len(named) != len(request.inputs):
        raise Invalid("Two inputs have the same name.", param="inputs")
    wanted = model.signature.inputs
    if wanted and not model.signature.table:
        if len(wanted) == 1:
            arrays: Any = _array(request.inputs[0]) if len(request.inputs) == 1 and not table else _side_by_side(request.inputs)
            arrays = _fit(arrays, wanted[0])
        else:
            arrays = _tensors(request.inputs, wanted)
    elif table or len(request.inputs) > 1 or named == {column.name for column in wanted}:
        arrays = _table(request.inputs, model)
    else:
        arrays = _array(request.inputs[0])
        if wanted or (not model.plain_numbers and model.columns):
            arrays = _table_of(arrays, model)
    rows, kind = _kind(arrays)
    return Input(data=arrays, rows=rows, kind=(method, tuple(sorted(parameters.items(), key=str)) if parameters else (), *kind),
                 method=method, params=parameters)  # fmt: skip


def _kind(data: Any) -> tuple[int, tuple[Any, ...]]:
    if isinstance(data, np.ndarray):
        return (len(data) if data.ndim else 1), ("array", data.dtype.str, data.shape[1:] if data.ndim else None)
    if isinstance(data, dict):
        return 0, ("alone", id(data))  # several tensors: what a row is, only the model knows
    return len(data), ("table", tuple(data.columns), tuple(str(kind) for kind in data.dtypes))


def joined(inputs: Sequence[Input]) -> Any:
    """The data of several inputs of one kind as one."""
    if len(inputs) == 1:
        return inputs[0].data
    if isinstance(inputs[0].data, np.ndarray):
        return np.concatenate([one.data for one in inputs])
    import pandas as pd

    return pd.concat([one.data for one in inputs], ignore_index=True)


def split(result: Any, rows: Sequence[int]) -> list[Any]:
    """Cut a result of many rows into its requests' parts. Raises ValueError when the model does not give one row for each row."""
    parts: list[Any] = []
    if isinstance(result, dict):
        cut = {name: split(value, rows) for name, value in result.items()}
        return [{name: values[i] for name, values in cut.items()} for i in range(len(rows))]
    if len(result) != sum(rows):
        raise ValueError("the model does not give one row of output for each row of input")
    take: Callable[[int, int], Any] = (lambda a, b: result.iloc[a:b]) if hasattr(result, "iloc") else (lambda a, b: result[a:b])
    at = 0
    for count in rows:
        parts.append(take(at, at + count))
        at += count
    return parts


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    dtype: Any = np.object_ if tensor.datatype == "BYTES" else _DTYPES.get(tensor.datatype)
    if dtype is None:
        raise Invalid(
            f"The input {tensor.name!r} has the datatype {tensor.datatype!r}; known are BYTES, {', '.join(_DTYPES)}.", param=tensor.name
        )
    try:
        values = _values(tensor.data, np.dtype(dtype).kind)
        return np.array(values, dtype=dtype).reshape(tensor.shape)
    except (TypeError, ValueError, OverflowError) as error:  # msgspec.ValidationError is a ValueError
        raise Invalid(
            f"The data of the input {tensor.name!r} does not fit its datatype {tensor.datatype} and shape {tensor.shape}: {error}.",
            param=tensor.name,
        ) from None


def _values(data: msgspec.Raw, kind: str) -> list[Any]:
    """The elements in row-major order, each checked; they may come nested."""
    try:
        return list(_DECODERS[kind].decode(data))
    except msgspec.ValidationError:
        level = msgspec.json.decode(data)
        if not isinstance(level, list):
            level = [level]
        while level and isinstance(level[0], list):
            if any(not isinstance(item, list) or len(item) != len(level[0]) for item in level):
                raise ValueError("it is ragged: all lists at one depth must have the same length") from None
            level = [item for row in level for item in row]
        return list(msgspec.convert(level, _ELEMENTS[kind]))


def _side_by_side(inputs: Sequence[Tensor]) -> np.ndarray[Any, Any]:
    """The columns of a table as one tensor."""
    arrays = [_array(tensor) for tensor in inputs]
    if len({array.shape for array in arrays}) != 1 or arrays[0].ndim != 1:
        raise Invalid("This model takes one tensor; a table can stand for it when all its columns have the same length.", param="inputs")
    return np.column_stack(arrays)


def _tensors(inputs: Sequence[Tensor], wanted: Sequence[Column]) -> dict[str, np.ndarray[Any, Any]]:
    given = {tensor.name: tensor for tensor in inputs}
    missing = [column.name for column in wanted if column.required and column.name not in given]
    if missing:
        raise Invalid(f"The input lacks {len(missing)} of the model's {len(wanted)} tensors: {_some(missing)}.", param="inputs")
    return {column.name: _fit(_array(given[column.name]), column) for column in wanted if column.name in given}


def _fit(array: np.ndarray[Any, Any], column: Column) -> np.ndarray[Any, Any]:
    """Check one tensor against the signature; a single row may leave out the batch dimension."""
    wanted = column.shape or ()
    if array.ndim == len(wanted) - 1:
        array = array[None]
    if array.ndim != len(wanted) or any(size not in (-1, given) for size, given in zip(wanted, array.shape, strict=True)):
        raise Invalid(
            f"This model takes a tensor of shape {list(wanted)} (-1: any length); the input has {list(array.shape)}.", param="shape"
        )
    dtype = array.dtype if column.type in ("str", "object") else np.dtype(column.type)
    if array.dtype == dtype:
        return array
    if array.dtype.kind in "OUS" or dtype.kind in "OUS" or (array.dtype.kind == "f" and dtype.kind in "iu" and not _integral(array)):
        raise Invalid(f"This model takes {dtype}; the input is {_spoken(array)}.", param="datatype")
    return array.astype(dtype)


def _integral(array: np.ndarray[Any, Any]) -> bool:
    return bool(np.isfinite(array).all() and (array == np.floor(array)).all())


def _table_of(array: np.ndarray[Any, Any], model: Loaded) -> Any:
    """An array for a model that takes a table: as many columns, in the signature's order."""
    columns = _columns(model)
    if array.ndim == 1:
        array = array[None] if len(columns) > 1 else array[:, None]
    if array.ndim != 2 or array.shape[1] != len(columns):
        raise Invalid(f"This model takes {len(columns)} columns; the input has the shape {list(array.shape)}.", param="shape")
    return _assembled({column.name: _typed(array[:, i], column) for i, column in enumerate(columns)}, model)


def _table(inputs: Sequence[Tensor], model: Loaded) -> Any:
    given = {tensor.name: tensor for tensor in inputs}
    columns = _columns(model)
    if columns:
        missing = [column.name for column in columns if column.required and column.name not in given]
        if missing:
            known = {column.name for column in columns}
            unknown = [name for name in given if name not in known]
            more = f" Unknown are: {_some(unknown)}." if unknown else ""
            raise Invalid(f"The input lacks {len(missing)} of the model's {len(columns)} columns: {_some(missing)}.{more}", param="columns")
        arrays = {column.name: _typed(_array(given[column.name]), column) for column in columns if column.name in given}
    else:
        arrays = {name: _array(tensor) for name, tensor in given.items()}
    flat = {name: array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array for name, array in arrays.items()}
    for name, array in flat.items():
        if array.ndim != 1:
            raise Invalid(f"The column {name!r} must have the shape [rows]; it has {list(array.shape)}.", param=name)
    if len({len(array) for array in flat.values()}) != 1:
        raise Invalid("The columns of the table have different lengths.", param="inputs")
    return _assembled(flat, model)


def _columns(model: Loaded) -> tuple[Column, ...]:
    """The columns of the signature; without one, those that the model was trained with."""
    return model.signature.inputs or tuple(Column(name=name, type="any") for name in model.columns)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (" …" if len(names) > 10 else "")


def _typed(array: np.ndarray[Any, Any], column: Column) -> np.ndarray[Any, Any]:
    """A column as the signature wants it; what would lose something is refused."""
    wanted = _NUMBERS.get(column.type)
    if wanted is None:
        return _other(array, column)
    if array.dtype == wanted:
        return array
    kind = np.dtype(wanted).kind
    fits = array.dtype.kind in "biuf" and (kind == "f" or (array.dtype.kind == "b") == (kind == "b")) and (
        kind != "i" or array.dtype.kind != "f" or _integral(array)
    )  # fmt: skip
    if not fits:
        raise Invalid(f"The column {column.name!r} takes {column.type}; it was given {_spoken(array)}.", param=column.name)
    return array.astype(wanted)


def _other(array: np.ndarray[Any, Any], column: Column) -> np.ndarray[Any, Any]:
    if column.type not in ("string", "datetime", "binary"):
        return array
    if array.dtype.kind != "O":
        if np.issubdtype(array.dtype, np.floating) and np.isnan(array).all():
            return np.full(array.shape, None, dtype=object)  # nothing but missing values has no type of its own
        what = {"string": "texts", "datetime": "texts such as 2026-01-31T12:00:00", "binary": "texts in base64"}[column.type]
        raise Invalid(f"The column {column.name!r} takes {what}; it was given {_spoken(array)}.", param=column.name)
    try:
        if column.type == "datetime":
            return array.astype("datetime64[ns]")
        if column.type == "binary":
            decoded = [None if text is None else base64.b64decode(text, validate=True) for text in array]
            array = np.empty(len(decoded), dtype=object)
            array[:] = decoded
    except (ValueError, binascii.Error) as error:
        raise Invalid(f"The column {column.name!r} takes {column.type}: {error}.", param=column.name) from None
    return array


def _spoken(array: np.ndarray[Any, Any]) -> str:
    if array.dtype.kind == "f":
        return "missing values" if np.isnan(array).any() else "fractions"
    return "texts" if array.dtype.kind == "O" else str(array.dtype)


def _assembled(arrays: Mapping[str, np.ndarray[Any, Any]], model: Loaded) -> Any:
    order = model.columns if model.columns and all(name in arrays for name in model.columns) else tuple(arrays)
    if model.plain_numbers and all(arrays[name].dtype.kind in "biuf" for name in order):
        return np.column_stack([arrays[name] for name in order])
    import pandas as pd

    return pd.DataFrame({name: arrays[name] for name in order})


def sample(model: Loaded) -> Any:
    """One made-up row of what the model takes."""
    columns = model.signature.inputs
    if not columns or model.signature.table:
        names = [(column.name, _NUMBERS.get(column.type, np.object_)) for column in columns] or [(name, float) for name in model.columns]
        return _assembled({name: np.zeros(1, dtype) if dtype is not np.object_ else np.array([""], dtype) for name, dtype in names}, model)
    arrays = {
        column.name: np.zeros([1 if size == -1 else size for size in column.shape or ()], "O" if column.type == "str" else column.type)
        for column in columns
    }
    return next(iter(arrays.values())) if len(arrays) == 1 else arrays


def write(result: Any, name: str, described: Sequence[Column] = (), method: str = "") -> bytes:
    """A v2 answer of a model's result. A single output is called what the signature calls it, or after the method that was asked for."""
    if hasattr(result, "columns"):  # a DataFrame
        outputs = [_output(str(column), result[column].to_numpy()) for column in result.columns]
        return msgspec.json.encode({"model_name": name, "parameters": {"content_type": "pd"}, "outputs": outputs})
    if isinstance(result, dict):
        return msgspec.json.encode({"model_name": name, "outputs": [_output(str(key), np.asarray(value)) for key, value in result.items()]})
    if hasattr(result, "to_numpy"):  # a Series
        result = result.to_numpy()
    single = described[0].name if len(described) == 1 and not method else method or "predict"
    return msgspec.json.encode({"model_name": name, "outputs": [_output(single, np.asarray(result))]})


def _output(name: str, array: np.ndarray[Any, Any]) -> dict[str, Any]:
    datatype, shape = _NAMES.get(array.dtype), list(array.shape)
    if datatype is None:
        return {"name": name, "datatype": "BYTES", "shape": shape, "data": [_said(value) for value in array.ravel().tolist()]}
    return {"name": name, "datatype": datatype, "shape": shape, "data": array.ravel().tolist()}


def _said(value: Any) -> str | None:
    if value is None or value != value:  # a missing text is a null, not the word for it
        return None
    return value if isinstance(value, str) else msgspec.json.encode(value).decode() if isinstance(value, (dict, list)) else str(value)


def metadata(model: Loaded, name: str) -> dict[str, Any]:
    """The v2 description of a model."""
    return {
        "name": name,
        "versions": ["1"],
        "platform": f"mlflow_{model.flavor}",
        "inputs": [_described(column) for column in model.signature.inputs],
        "outputs": [_described(column) for column in model.signature.outputs] or [{"name": "predict", "datatype": "FP64", "shape": [-1]}],
    }


def _described(column: Column) -> dict[str, Any]:
    kind = _NUMBERS.get(column.type)
    if kind is None and column.shape is not None and column.type not in ("str", "object"):
        kind = np.dtype(column.type).type
    return {
        "name": column.name,
        "datatype": _NAMES.get(np.dtype(kind), "BYTES") if kind is not None else "BYTES",
        "shape": list(column.shape) if column.shape is not None else [-1],
    }
