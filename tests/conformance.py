"""Every answer that a test's client gets from a native route is held against what the server's OpenAPI document says of that route."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from drivetrain.client.http import Connection

Json = dict[str, Any]


def routes(document: Json) -> Iterator[tuple[str, str, Json]]:
    """(method, path, operation) of a document."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def route_of(document: Json, method: str, path: str) -> tuple[str, str, Json]:
    """The route that a request goes to: of those that fit, the one with the most words of its own. Only paths of files hold slashes."""
    patterns = {one[1]: re.sub(r"\{[^}]+\}", "[^/]+", one[1].replace("{path}", ".+")) for one in routes(document)}
    fit = [one for one in routes(document) if one[0] == method and re.fullmatch(patterns[one[1]], path)]
    assert fit, f"no route for {method} {path}"
    return max(fit, key=lambda one: len(re.sub(r"\{[^}]+\}", "", one[1])))


@cache
def _document(url: str) -> Json | None:
    """None: what answers there is no server of ours, but one that a test has made up."""
    answer = httpx.get(f"{url}/api/v1/openapi.json", trust_env=False)
    return answer.json() if answer.status_code == 200 else None


@cache
def _validator(url: str, method: str, path: str, status: str) -> Draft202012Validator | None:
    document = _document(url)
    assert document is not None
    content = route_of(document, method, path)[2]["responses"][status].get("content", {}).get("application/json")
    return None if content is None else Draft202012Validator({**content["schema"], "components": document["components"]})


def check(url: str, answer: httpx.Response) -> None:
    method, path = answer.request.method, answer.request.url.raw_path.decode().partition("?")[0]
    if answer.headers.get("content-type") != "application/json" or not path.startswith("/api/v1/"):
        return
    if (document := _document(url)) is None:
        return
    pattern = route_of(document, method, path)[1]
    if (validator := _validator(url, method, pattern, str(answer.status_code))) is not None:
        validator.validate(answer.json())


@contextmanager
def checked() -> Iterator[None]:
    """Within, every client checks what it is answered."""
    send = Connection.send

    def sent(self: Connection, method: str, path: str, *rest: Any, **named: Any) -> httpx.Response:
        answer = send(self, method, path, *rest, **named)
        check(self.url, answer)
        return answer

    Connection.send = sent  # type: ignore[method-assign]
    try:
        yield
    finally:
        Connection.send = send  # type: ignore[method-assign]
