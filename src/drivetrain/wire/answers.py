"""Typed answers behind FastAPI: a function of a route returns a noun, its JSON is sent, and the OpenAPI document says what it looks like.

The nouns are msgspec Structs and dataclasses, which FastAPI by itself neither encodes nor describes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.responses import Response

T = TypeVar("T")
_AT = "#/components/schemas/{name}"


def native_router(tag: str, prefix: str = "/api/v1") -> APIRouter:
    """A router whose functions are annotated with what they answer; one that answers nothing sends an empty object."""
    return APIRouter(prefix=prefix, tags=[tag], route_class=AnswerRoute)


class Nothing(msgspec.Struct, frozen=True):
    """There is no more to say than that it was done."""


class Encoded(Response, Generic[T]):
    """A noun that is encoded right here, in less time: for answers of many thousand numbers."""

    media_type = "application/json"

    def __init__(self, noun: T) -> None:
        super().__init__(msgspec.json.encode(noun))


class AnswerRoute(APIRoute):
    answer: Any = None
    place: str = ""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        answer = get_type_hints(endpoint)["return"]
        if isinstance(answer, type) and issubclass(answer, Response):
            options["response_class"] = answer  # a file or a text: the document says no more than that
        else:
            if get_origin(answer) is Encoded:
                (answer,) = get_args(answer)
            else:
                answer, endpoint = Nothing if answer is type(None) else answer, _builtins(endpoint)
            options["response_model"] = None
            self.answer, self.place = answer, f"{endpoint.__module__}.{endpoint.__qualname__}"
            content = {"application/json": {"schema": {"$ref": self.place}}}  # until `describe_answers` says what it is
            responses = {str(options.get("status_code") or 200): {"content": content}}
            options["openapi_extra"] = {**(options.get("openapi_extra") or {}), "responses": responses}
        super().__init__(path, endpoint, **options)


def describe_answers(app: FastAPI, routers: Iterable[APIRouter]) -> None:
    """Let the OpenAPI document of the app say what these routers answer, beside what they are asked."""
    answers = {one.place: one.answer for router in routers for one in router.routes if isinstance(one, AnswerRoute) and one.place}
    document = app.openapi

    def whole() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = document()
            # All at once: of nouns with the same name, each gets its module's name before its own.
            described, parts = msgspec.json.schema_components(answers.values(), ref_template=_AT)
            schemas = dict(zip(answers, described, strict=True))
            for content in _contents(made):
                if (place := content.get("schema", {}).get("$ref")) in schemas:
                    content["schema"] = schemas[place]
            known = made.setdefault("components", {}).setdefault("schemas", {})
            both = [name for name in known.keys() & parts.keys() if not _same_words(known[name], parts[name])]
            assert not both, f"nouns with the names of requests: {', '.join(both)}"
            made["components"]["schemas"] = parts | known
        return app.openapi_schema or {}

    app.openapi = whole  # type: ignore[method-assign] # as FastAPI's documentation says how to extend the document


def _same_words(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether both are the choice between the same words, which requests and answers have in common."""
    return "enum" in one and sorted(one["enum"]) == sorted(other.get("enum", ()))


def _contents(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every form of every response."""
    for methods in document["paths"].values():
        for operation in methods.values():
            for response in operation["responses"].values():
                yield from response.get("content", {}).values()


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
