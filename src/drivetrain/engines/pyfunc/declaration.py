"""Python models in MLflow's format: scikit-learn loaded directly, every other flavour through mlflow."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivetrain.config import MiB, Settings
from drivetrain.engines import environments
from drivetrain.engines.engine import Engine, Facts, Needs, Package
from drivetrain.engines.options import option
from drivetrain.formats import mlmodel
from drivetrain.formats.format import Files

_INTERPRETER = 200 * MiB
_MLFLOW = 250 * MiB
_DIRECT = "mlflow.sklearn"
"""What mlflow would load a model with that is loaded without it here."""
_MLFLOW_PACKAGES = ("mlflow", "mlflow-skinny", "mlflow-tracing")


@dataclass(frozen=True, kw_only=True)
class Options:
    method: str = option(
        "",
        "What is called when a request does not say: `predict` unless the model says otherwise; of a scikit-learn model also "
        "`predict_proba`, `decision_function`, `transform`, …",
    )
    batch: bool = option(
        False,
        "`true`: requests to a model of your own class are predicted together; those to scikit-learn models always are, since each row "
        "stands alone.",
    )
    environment: str = option(
        "auto",
        "`inherit`: run on what is installed here, whatever the model pins; `auto`: in an environment of its own where that is needed.",
        choices=("auto", "inherit"),
    )


def _plan(files: Files, described: Sequence[str], options: Options) -> Needs:
    path = described[0]
    about = _about(files, path)
    direct = about.loader == _DIRECT
    return Needs(
        tasks=("infer",),
        memory_bytes=_INTERPRETER + (0 if direct else _MLFLOW) + 3 * files.total,
        slots=64,
        why=f"{path} describes a model in MLflow's format: {about.flavor}, {'loaded directly' if direct else 'loaded by mlflow'}.",
    )


def _describe(files: Files, described: Sequence[str]) -> Facts:
    return Facts(format=mlmodel.FORMAT.name, size=files.total, tasks=("infer",))


def _columns(files: Files, described: Sequence[str]) -> tuple[mlmodel.Column, ...]:
    signature = _about(files, described[0]).signature
    return signature.inputs if signature.table else ()


def _about(files: Files, path: str) -> mlmodel.MLmodel:
    return mlmodel.parse(files.reader(path)(0, min(files.size(path), mlmodel.MOST_BYTES)), path)


def requirements(folder: Path, options: Mapping[str, Any]) -> tuple[str, ...]:
    """What the model in `folder` pins, from its requirements.txt. Raises `Invalid` for more than plain requirements."""
    if options.get("environment") == "inherit":
        return ()
    file = folder / mlmodel.choose([str(path.relative_to(folder)) for path in folder.rglob(mlmodel.FILE)])
    listed = file.parent / "requirements.txt"
    if not listed.is_file():
        return ()
    from packaging.utils import canonicalize_name

    found = environments.parse(listed.read_text("utf-8", "replace"))
    if mlmodel.parse(file.read_bytes()).loader == _DIRECT:
        found = tuple(
            line for line in found if canonicalize_name(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]) not in _MLFLOW_PACKAGES
        )
    return found


def _variables(settings: Settings) -> dict[str, str]:
    threads = str(settings.threads or os.cpu_count() or 1)
    return {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "MLFLOW_DISABLE_TELEMETRY": "true"}


PYFUNC = Engine(
    name="pyfunc",
    serves="models in MLflow's format",
    formats=(mlmodel.FORMAT,),
    tasks=("infer",),
    options=Options,
    plan=_plan,
    describe=_describe,
    columns=_columns,
    module="drivetrain.engines.pyfunc.serve",
    packages=(Package(module="mlflow", install="'drivetrain[mlflow]'", without="only scikit-learn models are served"),),
    requirements=requirements,
    variables=_variables,
    answers="drivetrain.engines.pyfunc.answers",
)
