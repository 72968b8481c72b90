"""A model that is asked in this process, with the bodies that its replicas take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from drivetrain.engines.pyfunc.loaders import load
from drivetrain.engines.pyfunc.tensors import decoder, read, write
from drivetrain.errors import Invalid


def open_model(folder: Path, options: Mapping[str, Any]) -> Callable[[str], bytes]:
    """Load the model. What it gives takes the body of an inference request and raises `DrivetrainError` for what has no answer."""
    model = load(folder, options)

    def answer(body: str) -> bytes:
        try:
            one = read(decoder.decode(body), model)
            return write(model.predict(one.data, one.method, one.params), "model", model.signature.outputs, one.method)
        except (msgspec.DecodeError, ValueError, TypeError, KeyError, IndexError) as error:
            raise Invalid(f"The model refused the input: {type(error).__name__}: {error}") from error

    return answer
