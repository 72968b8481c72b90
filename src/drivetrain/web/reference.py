"""The reference of the native API, read out of its own OpenAPI document: it works offline and says what this very server does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from msgspec import Struct

from drivetrain.identity.model import Context
from drivetrain.web.render import Pages, viewer
from drivetrain.web.services import Services

Viewer = Annotated[Context, Depends(viewer)]


class Field(Struct, frozen=True):
    """A parameter or a field of a body. `where`: path, query or body."""

    name: str
    where: str
    type: str
    required: bool
    default: str


class Operation(Struct, frozen=True):
    id: str
    method: str
    path: str
    words: str
    fields: tuple[Field, ...]


def routes(services: Services, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)

    @router.get("/api/v1/docs")
    def reference(request: Request, ctx: Viewer) -> Response:
        groups: dict[str, list[Operation]] = {}
        for tag, operation in operations(request.app.openapi()):
            groups.setdefault(tag, []).append(operation)
        return pages.page(request, "reference.html", path=[("API", "/api/v1/docs")], groups=groups)

    return router


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, Operation]]:
    """Every operation of an OpenAPI document with the tag that groups it."""
    for path, methods in document["paths"].items():
        for method, about in methods.items():
            words = about.get("description") or about.get("summary", "")
            fields = (*_parameters(document, about), *_body(document, about))
            yield (about.get("tags") or ["other"])[0], Operation(about["operationId"], method.upper(), path, words, fields)


def _parameters(document: Mapping[str, Any], about: Mapping[str, Any]) -> Iterator[Field]:
    for one in about.get("parameters", ()):
        schema = one.get("schema", {})
        yield Field(one["name"], one["in"], _type(document, schema), one.get("required", False), _default(schema))


def _body(document: Mapping[str, Any], about: Mapping[str, Any]) -> Iterator[Field]:
    for content in about.get("requestBody", {}).get("content", {}).values():
        schema = _resolved(document, content.get("schema", {}))
        required = schema.get("required", ())
        for name, field in schema.get("properties", {}).items():
            yield Field(name, "body", _type(document, field), name in required, _default(field))


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Any = schema
    while "$ref" in found:
        found = document["components"]["schemas"][found["$ref"].rsplit("/", 1)[-1]]
    return dict(found)


def _type(document: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    schema = _resolved(document, schema)
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(_type(document, one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(document, schema.get('items', {}))}"
    return str(schema.get("type", "any"))


def _default(schema: Mapping[str, Any]) -> str:
    value = schema.get("default")
    return "" if value is None else str(value)
