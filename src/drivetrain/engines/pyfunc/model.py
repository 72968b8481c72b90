"""What a loaded model is to those that call it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from msgspec import Struct

from drivetrain.formats.mlmodel import Signature


class Predictor(Protocol):
    """Calls the model. `data` is a DataFrame, an array, or arrays by name; `method` is "" for the model's own default."""

    def __call__(self, data: Any, method: str, params: Mapping[str, Any]) -> Any: ...


class Loaded(Struct, frozen=True, kw_only=True):
    """A model that can be called.

    `rowwise`: each row's result depends on that row only, so requests may be predicted together. `plain_numbers`: a table of numbers may
    be given as one array, its columns in the order of `columns`.
    """

    predict: Predictor
    signature: Signature
    flavor: str
    rowwise: bool = False
    plain_numbers: bool = False
    columns: tuple[str, ...] = ()
