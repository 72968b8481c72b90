"""Loading a model in MLflow's format, and calling it.

scikit-learn is loaded directly: importing mlflow takes seconds and hundreds of megabytes, and adds nothing to such a model. Every other
flavour goes through `mlflow.pyfunc`. Framework support is a row in `LOADERS`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from drivetrain.errors import Invalid


class Column(Struct, frozen=True, kw_only=True):
    """One input or output of a signature. `shape` None: a column of a table, else a tensor (-1: any length)."""

    name: str
    type: str  # MLflow's (double, long, string, …) or NumPy's name
    shape: tuple[int, ...] | None = None
    required: bool = True


class Signature(Struct, frozen=True, kw_only=True):
    """What a model takes and gives, as far as it was logged."""

    inputs: tuple[Column, ...] = ()
    outputs: tuple[Column, ...] = ()

    @property
    def table(self) -> bool:
        """Whether the input is a table of named columns."""
        return bool(self.inputs) and all(column.shape is None for column in self.inputs)


class Predictor(Protocol):
    """Calls the model. `data` is a DataFrame, an array, or arrays by name."""

    def __call__(self, data: Any, method: str, params: Mapping[str, Any]) -> Any: ...


class Loaded(Struct, frozen=True, kw_only=True):
    """`plain_numbers`: a table of numbers may be given as one array, with its columns in the order `columns`."""

    predict: Predictor
    signature: Signature
    flavor: str
    plain_numbers: bool = False
    columns: tuple[str, ...] = ()


def load(folder: Path) -> Loaded:
    """Load the model in `folder` (which has an MLmodel file). Raises `Invalid` with advice when it cannot be loaded here."""
    import yaml

    files = sorted(folder.rglob("MLmodel"), key=lambda path: len(path.parts))
    about = yaml.safe_load(files[0].read_text())
    root = files[0].parent
    flavors: dict[str, Any] = about.get("flavors") or {}
    signature = _signature(about.get("signature") or {})
    loader = next((LOADERS[name] for name in LOADERS if name in flavors), _mlflow)
    try:
        return loader(root, flavors, signature)
    except ModuleNotFoundError as error:
        raise Invalid(
            f"The model needs the Python package {error.name!r}, which is not installed here. Install it beside drivetrain "
            f"(pip install {error.name}), or drivetrain[mlflow] for MLflow models in general."
        ) from error


def _sklearn(root: Path, flavors: Mapping[str, Any], signature: Signature) -> Loaded:
    about = flavors["sklearn"]
    path = root / str(about["pickled_model"])
    form = about.get("serialization_format", "cloudpickle")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # another version of scikit-learn warns; the environment's pins were checked before
        if form == "skops":
            import skops.io

            trusted = about.get("skops_trusted_types") or skops.io.get_untrusted_types(file=path)
            estimator = skops.io.load(path, trusted=trusted)
        elif form == "cloudpickle":
            import cloudpickle

            with path.open("rb") as file:
                estimator = cloudpickle.load(file)
        else:
            import pickle

            with path.open("rb") as file:
                estimator = pickle.load(file)  # noqa: S301  replicas run the code of models that somebody deployed, by design
    default = str(flavors.get("python_function", {}).get("predict_fn", "predict"))
    names = tuple(str(name) for name in getattr(estimator, "feature_names_in_", ()))
    # An estimator that looks at columns by name must get a table; all others take the same numbers faster as an array.
    by_name = hasattr(estimator, "steps") or hasattr(estimator, "transformers")

    def predict(data: Any, method: str, params: Mapping[str, Any]) -> Any:
        call: Callable[..., Any] | None = getattr(estimator, method or default, None)
        if call is None:
            raise Invalid(f"This model has no method {method!r}.", param="parameters.method")
        return call(data, **params)

    return Loaded(predict=predict, signature=signature, flavor="sklearn", plain_numbers=not by_name, columns=names)


def _mlflow(root: Path, flavors: Mapping[str, Any], signature: Signature) -> Loaded:
    import mlflow.pyfunc

    try:
        model = mlflow.pyfunc.load_model(str(root))
    except mlflow.exceptions.MlflowException as error:
        raise Invalid(f"mlflow could not load the model: {error.message}") from error

    def predict(data: Any, method: str, params: Mapping[str, Any]) -> Any:
        if method not in ("", "predict"):
            raise Invalid(f"Models of this flavour have no method {method!r}.", param="parameters.method")
        return model.predict(data, params=dict(params) or None)

    return Loaded(predict=predict, signature=signature, flavor=next(iter(flavors), "python_function"))


LOADERS: dict[str, Callable[[Path, Mapping[str, Any], Signature], Loaded]] = {"sklearn": _sklearn}


def _signature(about: Mapping[str, Any]) -> Signature:
    return Signature(inputs=_columns(about.get("inputs"), "input"), outputs=_columns(about.get("outputs"), "output"))


def _columns(text: Any, fallback: str) -> tuple[Column, ...]:
    if not text:
        return ()
    columns = []
    for i, entry in enumerate(json.loads(text) if isinstance(text, str) else text):
        name = str(entry.get("name", f"{fallback}-{i}"))
        if entry.get("type") == "tensor":
            spec = entry["tensor-spec"]
            columns.append(Column(name=name, type=str(spec["dtype"]), shape=tuple(int(size) for size in spec["shape"])))
        else:
            kind = entry.get("type")
            columns.append(Column(name=name, type=kind if isinstance(kind, str) else "object", required=bool(entry.get("required", True))))
    return tuple(columns)
