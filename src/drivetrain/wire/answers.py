"""Typed answers behind FastAPI: a function of a route returns a noun, its JSON is sent, and the OpenAPI document says what it looks like.

The nouns are msgspec Structs and dataclasses, which FastAPI by itself neither encodes nor describes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, get_type_hints

import msgspec
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.responses import Response

_AT = "#/components/schemas/"


def native_router(tag: str, prefix: str = "/api/v1") -> APIRouter:
    """A router whose functions are annotated with what they answer; one that answers nothing sends an empty object."""
    return APIRouter(prefix=prefix, tags=[tag], route_class=AnswerRoute)


class AnswerRoute(APIRoute):
    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        answer = get_type_hints(endpoint)["return"]
        if not (isinstance(answer, type) and issubclass(answer, Response)):
            endpoint = _builtins(endpoint)
            options["response_model"] = None
            options["openapi_extra"] = {**(options.get("openapi_extra") or {}), "responses": _described(answer, options.get("status_code"))}
        super().__init__(path, endpoint, **options)


def describe_answers(app: FastAPI) -> None:
    """Let the OpenAPI document of the app hold what its answers are made of, beside what its requests are."""
    document = app.openapi

    def whole() -> dict[str, Any]:
        made = document()
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        for methods in made["paths"].values():
            for operation in methods.values():
                for response in operation["responses"].values():
                    for content in response.get("content", {}).values():
                        for name, schema in content.get("schema", {}).pop("$defs", {}).items():
                            assert schemas.setdefault(name, schema) == schema, f"two nouns of the API have the name {name}"
        return made

    app.openapi = whole  # type: ignore[method-assign] # as FastAPI's documentation says how to extend the document


def _described(answer: Any, status: int | None) -> dict[str, Any]:
    """The successful response of an operation. What its schema refers to goes along, until `describe_answers` puts it where it belongs."""
    if answer is type(None):
        schema: dict[str, Any] = {"type": "object", "maxProperties": 0}
    else:
        (schema,), parts = msgspec.json.schema_components([answer], ref_template=_AT + "{name}")
        schema = {**schema, "$defs": parts}
    return {str(status or 200): {"content": {"application/json": {"schema": schema}}}}


def _builtins(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(endpoint):

        @wraps(endpoint)
        async def later(*args: Any, **named: Any) -> Any:
            return _plain(await endpoint(*args, **named))

        return later

    @wraps(endpoint)
    def now(*args: Any, **named: Any) -> Any:
        return _plain(endpoint(*args, **named))

    return now


def _plain(answer: object) -> Any:
    return {} if answer is None else msgspec.to_builtins(answer)
