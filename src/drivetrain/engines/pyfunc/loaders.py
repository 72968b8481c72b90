"""Loading a model in MLflow's format, and calling it.

scikit-learn is loaded directly: importing mlflow takes seconds and hundreds of megabytes, and adds nothing to such a model. Every other
flavour goes through `mlflow.pyfunc`. Framework support is a row in `LOADERS`.
"""

from __future__ import annotations

import inspect
import logging
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from drivetrain.engines.pyfunc.model import Loaded
from drivetrain.engines.pyfunc.tensors import sample
from drivetrain.errors import Invalid
from drivetrain.formats import mlmodel

log = logging.getLogger(__name__)

METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "score_samples", "transform", "apply")
"""What may be asked of a scikit-learn model: methods that read it. `fit`, `set_params` and the like would change it for everybody."""


Loader = Callable[[Path, mlmodel.MLmodel, Mapping[str, Any]], Loaded]


def load(folder: Path, options: Mapping[str, Any]) -> Loaded:
    """Load the model in `folder` (which has an MLmodel file). Raises `Invalid` with advice when it cannot be loaded here."""
    file = folder / mlmodel.choose([str(path.relative_to(folder)) for path in folder.rglob("MLmodel")])
    root = file.parent
    about = mlmodel.parse(file.read_bytes(), file.name)
    if about.code:
        sys.path.insert(0, str(root / about.code))  # the model's own modules (code_paths), as mlflow does it
    try:
        return LOADERS.get(about.loader, _mlflow)(root, about, options)
    except ModuleNotFoundError as error:
        raise Invalid(
            f"The model needs the Python package {error.name!r}, which is not installed here. Install it beside drivetrain "
            f"(pip install {error.name}), or drivetrain[mlflow] for MLflow models in general."
        ) from error


def _sklearn(root: Path, about: mlmodel.MLmodel, options: Mapping[str, Any]) -> Loaded:
    settings = about.flavors.get("sklearn") or {}
    path = root / str(settings.get("pickled_model") or about.flavors["python_function"].get("model_path"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # another version of scikit-learn warns; the requirements were checked before
        estimator = _unpickled(path, str(settings.get("serialization_format", "cloudpickle")), settings.get("skops_trusted_types"))
    # Arrays are given where names would not be looked at.
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    default = str(options.get("method") or about.flavors.get("python_function", {}).get("predict_fn") or "predict")
    offered = {name: call for name in {*METHODS, default} if callable(call := getattr(estimator, name, None))}
    if default not in offered:
        raise Invalid(f"The model ({type(estimator).__name__}) has no method {default!r}; it has: {', '.join(sorted(offered))}.")

    def predict(data: Any, method: str, params: Mapping[str, Any]) -> Any:
        call = offered.get(method or default)
        if call is None:
            raise Invalid(f"This model has no method {method!r}; it has: {', '.join(sorted(offered))}.", param="parameters.method")
        if params and (unknown := _unknown(call, params)):
            raise Invalid(f"{method or default} of this model has no parameter {unknown!r}.", param=f"parameters.{unknown}")
        result = call(data, **params)
        if isinstance(result, list):  # one array for each of several targets
            return {f"{method or default}-{i}": part for i, part in enumerate(result)}
        return result.toarray() if hasattr(result, "toarray") else result

    names = tuple(str(name) for name in getattr(estimator, "feature_names_in_", ()))
    loaded = Loaded(
        predict=predict, signature=about.signature, flavor="sklearn", rowwise=True, plain_numbers=plain(estimator), columns=names
    )
    _warm(loaded)
    return loaded


def _unpickled(path: Path, form: str, trusted: Any) -> Any:
    if form == "skops":
        import skops.io
        from skops.io.exceptions import UntrustedTypesFoundException

        try:
            return skops.io.load(path, trusted=trusted or [])
        except UntrustedTypesFoundException as error:
            raise Invalid(
                f"The model holds types that were not named as trusted when it was logged: {str(error).splitlines()[0][:500]} "
                "If you trust them, log it again with skops_trusted_types=[…]."
            ) from None
    # Replicas run the code of models that somebody deployed, by design.
    if form == "cloudpickle":
        import cloudpickle

        with path.open("rb") as file:
            return cloudpickle.load(file)
    import pickle

    with path.open("rb") as file:
        return pickle.load(file)  # noqa: S301  by design


def plain(estimator: Any) -> bool:
    """Whether an estimator, and all in it, looks at the order of columns only and never at their names."""
    kind = type(estimator)
    if not kind.__module__.startswith("sklearn.") or kind.__name__ in ("ColumnTransformer", "FunctionTransformer"):
        return False
    if hasattr(estimator, "_sklearn_output_config"):  # set_output("pandas"): its steps hand names on
        return False
    # Their parameters hold parts by themselves, or as (name, part) or (name, part, columns).
    parts: list[Any] = []
    for value in estimator.get_params(deep=False).values():
        for item in value if isinstance(value, (list, tuple)) else [value]:
            parts += item if isinstance(item, (list, tuple)) else [item]
    return all(plain(part) for part in parts if hasattr(part, "get_params") and not isinstance(part, type))


def _unknown(call: Callable[..., Any], params: Mapping[str, Any]) -> str:
    taken = inspect.signature(call).parameters
    if any(one.kind is one.VAR_KEYWORD for one in taken.values()):
        return ""
    return next((name for name in params if name not in list(taken)[1:]), "")


def _warm(model: Loaded) -> None:
    """Call it once: the first call of a model imports and compiles, which no user should wait for."""
    try:
        model.predict(sample(model), "", {})
    except Exception as error:  # noqa: BLE001  made-up values need not suit it
        log.debug("the first call was refused: %s", error)


def _mlflow(root: Path, about: mlmodel.MLmodel, options: Mapping[str, Any]) -> Loaded:
    if (options.get("method") or "predict") != "predict":
        raise Invalid("Only scikit-learn models have other methods than predict.", param="options.method")
    import mlflow.pyfunc

    try:
        model = mlflow.pyfunc.load_model(str(root))
    except mlflow.exceptions.MlflowException as error:
        raise Invalid(f"mlflow could not load the model: {error.message}") from error

    def predict(data: Any, method: str, params: Mapping[str, Any]) -> Any:
        if method not in ("", "predict"):
            raise Invalid(f"Models of this flavour have no method {method!r}.", param="parameters.method")
        try:
            return model.predict(data, params=dict(params) or None)
        except mlflow.exceptions.MlflowException as error:
            raise Invalid(f"The model refused the input: {error.message}") from error

    return Loaded(predict=predict, signature=about.signature, flavor=about.flavor, rowwise=bool(options.get("batch", False)))


LOADERS: dict[str, Loader] = {"mlflow.sklearn": _sklearn}
"""By the module that mlflow itself would load the model with."""
