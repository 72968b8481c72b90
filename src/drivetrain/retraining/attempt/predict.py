"""What a model says of recorded inputs: `python -m drivetrain.retraining.attempt.predict MODEL ROWS.jsonl ANSWERS.json`.

Each row is an input as the deployment's events kept it; each answer what the model says of it, in the form in which labels come, or null
where it cannot be asked. The model is loaded as a replica loads it. A process of its own, since models are users' code.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from drivetrain.compute import lifeline
from drivetrain.engines.plan import recognise
from drivetrain.errors import DrivetrainError, Invalid
from drivetrain.feedback.labels import prediction


def main() -> None:
    lifeline.watch()
    folder, rows, target = (Path(argument) for argument in sys.argv[1:4])
    try:
        answer = opened(folder)
    except DrivetrainError as error:
        raise SystemExit(error.message) from None
    inputs = [msgspec.json.decode(line, type=str) for line in rows.read_bytes().splitlines()]
    partial = target.with_suffix(".partial")
    partial.write_bytes(msgspec.json.encode([said(answer, text) for text in inputs]))
    partial.rename(target)


def opened(folder: Path) -> Callable[[str], bytes]:
    """The model in `folder`, ready to be asked. Raises `Invalid` where it cannot be loaded, or its engine answers from replicas alone."""
    found = recognise([str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()])
    if found is None or found.engine is None or not found.engine.answers:
        raise Invalid("This model cannot be asked without a replica, so it cannot be compared with another on recorded requests.")
    answers: Callable[[str], bytes] = importlib.import_module(found.engine.answers).open_model(folder, {})
    return answers


def said(answer: Callable[[str], bytes], body: str) -> Any:
    """The model's one answer to a recorded input; None where it has none."""
    try:
        return prediction(answer(body).decode())
    except (DrivetrainError, msgspec.DecodeError, ValueError, TypeError, KeyError, IndexError):
        return None


if __name__ == "__main__":
    main()
