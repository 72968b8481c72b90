"""Between Open Inference v2 JSON and what Python models take and give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from drivetrain.engines.pyfunc.model import Column, Loaded
from drivetrain.errors import Invalid

_DTYPES = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64, "INT8": np.int8, "INT16": np.int16,
    "INT32": np.int32, "INT64": np.int64, "FP16": np.float16, "FP32": np.float32, "FP64": np.float64,
}  # fmt: skip
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_NUMBERS = {"double": np.float64, "float": np.float32, "long": np.int64, "integer": np.int32, "boolean": np.bool_}


class Tensor(Struct):
    name: str
    shape: list[int]
    datatype: str
    data: Any


class InferRequest(Struct):
    inputs: list[Tensor]
    id: str | None = None
    parameters: dict[str, Any] | None = None


class Input(Struct):
    """What a model is called with. Inputs of one `kind` can be put together into one call; `rows` of it are this request's."""

    data: Any
    rows: int
    kind: tuple[Any, ...]
    method: str
    params: dict[str, Any]


decoder = msgspec.json.Decoder(InferRequest)


def read(request: InferRequest, model: Loaded) -> Input:
    """The input of a request. Raises `Invalid` that says which column or tensor does not fit, and what would."""
    if not request.inputs:
        raise Invalid("The request has no inputs.", param="inputs")
    parameters = dict(request.parameters or {})
    table = parameters.pop("content_type", None) == "pd"
    method = str(parameters.pop("method", ""))
    parameters.pop("binary_data_output", None)
    if table and not model.signature.table and model.signature.inputs:
        arrays: Any = _as_tensor(request.inputs, model.signature.inputs)
    elif table:
        arrays = _table(request.inputs, model)
    elif len(request.inputs) == 1:
        arrays = _array(request.inputs[0])
        arrays = _table_of(arrays, model) if model.signature.table else _fit(arrays, model.signature.inputs)
    else:
        arrays = {tensor.name: _array(tensor) for tensor in request.inputs}
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


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    dtype: Any = np.object_ if tensor.datatype == "BYTES" else _DTYPES.get(tensor.datatype)
    if dtype is None:
        raise Invalid(
            f"The input {tensor.name!r} has the datatype {tensor.datatype!r}; known are BYTES, {', '.join(_DTYPES)}.", param=tensor.name
        )
    try:
        if dtype is np.object_:
            array = np.empty(_length(tensor.data), dtype=object)
            array[:] = _flat(tensor.data)
        elif dtype in (np.float64, np.float32, np.float16):
            array = np.array(tensor.data, dtype=dtype)  # null is a missing number
        else:
            array = np.asarray(tensor.data)
            if array.dtype.kind not in "biu" or (array.dtype.kind != "b") != (dtype is not np.bool_):
                raise TypeError(f"the values are not {tensor.datatype}")
            array = array.astype(dtype)
        return array.reshape([int(size) for size in tensor.shape])
    except (TypeError, ValueError, OverflowError) as error:
        raise Invalid(f"The data of the input {tensor.name!r} does not fit its datatype {tensor.datatype} and shape {tensor.shape}: {error}.",
                      param=tensor.name) from None  # fmt: skip


def _length(data: Any) -> int:
    return len(_flat(data))


def _flat(data: Any) -> list[Any]:
    if not isinstance(data, list):
        return [data]
    while data and isinstance(data[0], list):
        data = [item for row in data for item in row]
    return list(data)


def _as_tensor(inputs: Sequence[Tensor], columns: Sequence[Column]) -> Any:
    """A table for a model that takes one tensor: its columns side by side."""
    if len(columns) != 1:
        raise Invalid(f"This model takes the tensors {', '.join(column.name for column in columns)}, not a table.")
    return _fit(np.column_stack([_array(tensor) for tensor in inputs]), columns)


def _fit(array: np.ndarray[Any, Any], columns: Sequence[Column]) -> np.ndarray[Any, Any]:
    """Check one tensor against the signature; a single row may leave out the batch dimension."""
    if len(columns) != 1 or columns[0].shape is None:
        return array
    wanted = columns[0].shape
    if array.ndim == len(wanted) - 1:
        array = array[None]
    if array.ndim != len(wanted) or any(size not in (-1, given) for size, given in zip(wanted, array.shape, strict=True)):
        raise Invalid(
            f"This model takes a tensor of shape {list(wanted)} (-1: any length); the input has {list(array.shape)}.", param="shape"
        )
    dtype = np.dtype(columns[0].type) if columns[0].type != "str" else array.dtype
    if array.dtype == dtype:
        return array
    if array.dtype.kind in "OUS" or dtype.kind in "OUS" or (array.dtype.kind == "f" and dtype.kind in "iu" and not _integral(array)):
        raise Invalid(f"This model takes {dtype}; the input is {array.dtype}.", param="datatype")
    return array.astype(dtype)


def _integral(array: np.ndarray[Any, Any]) -> bool:
    return bool(np.isfinite(array).all() and (array == np.floor(array)).all())


def _table_of(array: np.ndarray[Any, Any], model: Loaded) -> Any:
    """An array for a model that takes a table: as many columns, in the signature's order."""
    columns = model.signature.inputs
    if array.ndim == 1:
        array = array[None] if len(columns) > 1 else array[:, None]
    if array.ndim != 2 or array.shape[1] != len(columns):
        raise Invalid(f"This model takes {len(columns)} columns; the input has the shape {list(array.shape)}.", param="shape")
    return _assembled({column.name: _typed(array[:, i], column) for i, column in enumerate(columns)}, model)


def _table(inputs: Sequence[Tensor], model: Loaded) -> Any:
    given = {tensor.name: tensor for tensor in inputs}
    columns = model.signature.inputs
    if columns:
        missing = [column.name for column in columns if column.required and column.name not in given]
        if missing:
            shown = ", ".join(missing[:10]) + (" …" if len(missing) > 10 else "")
            raise Invalid(f"The input lacks {len(missing)} of the model's {len(columns)} columns: {shown}.", param="columns")
        arrays = {column.name: _typed(_array(given[column.name]), column) for column in columns if column.name in given}
    else:
        arrays = {name: _array(tensor) for name, tensor in given.items()}
    if len({len(array) if array.ndim else 1 for array in arrays.values()}) != 1:
        raise Invalid("The columns of the table have different lengths.", param="inputs")
    return _assembled(arrays, model)


def _typed(array: np.ndarray[Any, Any], column: Column) -> np.ndarray[Any, Any]:
    """A column as the signature wants it; what would lose something is refused."""
    wanted = _NUMBERS.get(column.type)
    if wanted is None:
        if column.type == "string" and array.dtype.kind != "O":
            raise Invalid(f"The column {column.name!r} takes texts; it was given {array.dtype}.", param=column.name)
        if column.type == "datetime":
            return array.astype("datetime64[ns]")
        return array
    if array.dtype == wanted:
        return array
    kind = np.dtype(wanted).kind
    fits = array.dtype.kind in "biuf" and (kind == "f" or (array.dtype.kind == "b") == (kind == "b")) and (
        kind != "i" or array.dtype.kind != "f" or _integral(array)
    )  # fmt: skip
    if not fits:
        raise Invalid(f"The column {column.name!r} takes {column.type}; it was given {_spoken(array)}.", param=column.name)
    return array.astype(wanted)


def _spoken(array: np.ndarray[Any, Any]) -> str:
    return "texts" if array.dtype.kind == "O" else "fractions" if array.dtype.kind == "f" else str(array.dtype)


def _assembled(arrays: Mapping[str, np.ndarray[Any, Any]], model: Loaded) -> Any:
    order = model.columns if model.columns and all(name in arrays for name in model.columns) else tuple(arrays)
    if model.plain_numbers and all(arrays[name].dtype.kind in "biuf" for name in order):
        return np.column_stack([arrays[name] for name in order])
    import pandas as pd

    return pd.DataFrame({name: arrays[name] for name in order})


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


def _said(value: Any) -> str:
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
