"""The reference of the native API, read out of its own OpenAPI document: it works offline and says what this very server does."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request, Response
from markupsafe import Markup, escape
from msgspec import Struct

from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.web.render import Pages, viewer

Viewer = Annotated[Context, Depends(viewer)]
Json = Mapping[str, Any]
_DEEPEST = 3


class Field(Struct, frozen=True):
    """A parameter or a field of a body. `where`: path, query or body."""

    name: str
    where: str
    type: str
    required: bool
    default: str
    words: str = ""


class Operation(Struct, frozen=True):
    """`body` is an example in JSON; None without one. `raw`: the body is a file."""

    id: str
    method: str
    path: str
    words: str
    fields: tuple[Field, ...]
    body: str | None
    raw: bool

    def curl(self, server: str, *, key: bool) -> str:
        """One line for a shell. What one must fill in is in capitals. `key`: this server asks for one."""
        path = re.sub(r"\{(\w+)\}", lambda found: found[1].upper(), self.path)
        asked = {field.name: field.name.upper() for field in self.fields if field.where == "query" and field.required}
        words = [] if self.method == "GET" else [f"-X {self.method}"]
        words.append(shlex.quote(server + path + (f"?{urlencode(asked)}" if asked else "")))
        if self.raw:
            words.append("-T FILE")
        if key:
            words.append('-H "authorization: Bearer $DRIVETRAIN_API_KEY"')
        if self.body is not None:
            words.append(f"-H 'content-type: application/json' -d {shlex.quote(self.body)}")
        return " ".join(["curl", *words])


def routes(platform: Platform, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)

    @router.get("/api/v1/docs")
    def reference(request: Request, ctx: Viewer) -> Response:
        groups: dict[str, list[Operation]] = {}
        for tag, operation in operations(request.app.openapi()):
            groups.setdefault(tag, []).append(operation)
        key = platform.identity.auth_mode() != "open"
        return pages.page(request, "reference.html", path=[("API", "/api/v1/docs")], groups=groups, key=key, prose=prose)

    return router


def prose(text: str) -> list[Markup]:
    """The paragraphs of a docstring, with what stands between backticks as code."""
    return [
        Markup("").join(
            Markup("<code>{}</code>").format(piece) if i % 2 else escape(piece) for i, piece in enumerate(" ".join(one.split()).split("`"))
        )
        for one in text.split("\n\n")
    ]


def operations(document: Json) -> Iterator[tuple[str, Operation]]:
    """Every operation of an OpenAPI document with the tag that groups it."""
    for path, methods in document["paths"].items():
        for method, about in methods.items():
            words = about.get("description") or about.get("summary", "")
            content = about.get("requestBody", {}).get("content", {})
            body = content.get("application/json", {}).get("schema")
            raw = bool(content) and body is None
            fields = [*_parameters(document, about), *(_fields(document, body) if body is not None else ())]
            if raw:
                fields.append(Field("(the whole body)", "body", "bytes", True, ""))
            example = json.dumps(_example(document, body, ""), ensure_ascii=False) if body is not None else None
            yield (
                (about.get("tags") or ["other"])[0],
                Operation(about["operationId"], method.upper(), path, words, tuple(fields), example, raw),
            )


def _parameters(document: Json, about: Json) -> Iterator[Field]:
    for one in about.get("parameters", ()):
        schema = one.get("schema", {})
        words = one.get("description", "")
        yield Field(one["name"], one["in"], _type(document, schema), one.get("required", False), _default(schema), words)


def _fields(document: Json, schema: Json, above: str = "", depth: int = 1) -> Iterator[Field]:
    """The fields of a body, and below each those of what it holds: `metrics[].key`."""
    schema = _resolved(document, schema)
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        inner, at = _main(document, field), above + name
        words = field.get("description", "")
        yield Field(at, "body", _type(document, field), name in required, _default(field), words)
        if inner.get("type") == "array":
            inner, at = _main(document, inner.get("items", {})), f"{at}[]"
        if depth < _DEEPEST:
            yield from _fields(document, inner, f"{at}.", depth + 1)


def _resolved(document: Json, schema: Json) -> Json:
    found: Any = schema
    while "$ref" in found:
        found = document["components"]["schemas"][found["$ref"].rsplit("/", 1)[-1]]
    return dict(found)


def _main(document: Json, schema: Json) -> Json:
    """Of several schemas that would do, the first one that says something."""
    schema = _resolved(document, schema)
    return next((_main(document, one) for one in schema.get("anyOf", ()) if one.get("type") != "null"), schema)


def _type(document: Json, schema: Json) -> str:
    schema = _resolved(document, schema)
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(_type(document, one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(document, schema.get('items', {}))}"
    if isinstance(values := schema.get("additionalProperties"), Mapping):
        return f"map to {_type(document, values)}"
    return str(schema.get("type", "any"))


def _default(schema: Json) -> str:
    value = schema.get("default")
    return "" if value is None else json.dumps(value, ensure_ascii=False) if isinstance(value, bool | list | dict) else str(value)


def _example(document: Json, schema: Json, name: str, depth: int = 1) -> Any:
    """A value that fits: of a body's fields those that are required, else the first."""
    schema = _main(document, schema)
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "object" and depth <= _DEEPEST:
        properties = schema.get("properties", {})
        wanted = schema.get("required") or list(properties)[:1]
        if isinstance(values := schema.get("additionalProperties"), Mapping):
            return {"KEY": _example(document, values, "VALUE", depth + 1)}
        return {key: _example(document, properties[key], key, depth + 1) for key in wanted}
    if kind == "array":
        return [_example(document, schema.get("items", {}), name.removesuffix("s"), depth + 1)]
    values_of: dict[str, Any] = {"integer": 1, "number": 1.0, "boolean": True, "object": {}}
    return values_of.get(str(kind), name.upper())
