"""Ask a model about recorded inputs: `python -m drivetrain.retraining.ask MODEL ROWS.jsonl ANSWERS.json`.

Each row is an input as the deployment's events kept it; each answer what the model says of it, in the form in which labels come, or null
where it cannot be asked. The model is loaded as a replica loads it. A process of its own, since models are users' code.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from drivetrain.compute import lifeline
from drivetrain.engines.pyfunc.model import Loaded, load
from drivetrain.engines.pyfunc.tensors import decoder, read, write
from drivetrain.errors import DrivetrainError
from drivetrain.feedback.labels import prediction


def main() -> None:
    lifeline.watch()
    folder, rows, target = (Path(argument) for argument in sys.argv[1:4])
    try:
        model = load(folder, {})
    except DrivetrainError as error:
        raise SystemExit(error.message) from None
    inputs = [msgspec.json.decode(line, type=str) for line in rows.read_bytes().splitlines()]
    partial = target.with_suffix(".partial")
    partial.write_bytes(msgspec.json.encode([said(model, text) for text in inputs]))
    partial.rename(target)


def said(model: Loaded, text: str) -> Any:
    """The model's one answer to a recorded input; None where it has none."""
    try:
        one = read(decoder.decode(text), model)
        return prediction(write(model.predict(one.data, one.method, one.params), "model", model.signature.outputs, one.method).decode())
    except (DrivetrainError, msgspec.DecodeError, ValueError, TypeError, KeyError, IndexError):
        return None


if __name__ == "__main__":
    main()
