"""Every native route has a method of the client, or a reason why it has none; and says what it answers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import pytest

from drivetrain.client import Client
from drivetrain.client.resources.resource import Resource
from tests.conformance import Json, route_of, routes
from tests.conftest import Server

PROCESSES = "told by a job's own process, with its token"
PORTABLE = "runs on the move: drivetrain.portable speaks it, with folders on one side"
SDK = "said by the sender of a run, from its spool"
PUSHED = "a step of `push`, which calls it for each file"
WITHOUT = {
    "GET /metrics": "for Prometheus",
    "POST /api/v1/session": "signing in is for browsers",
    "DELETE /api/v1/session": "signing out is for browsers",
    "PUT /api/v1/blobs/{sha256}": PUSHED,
    "POST /api/v1/repos/{name}/commits": PUSHED,
    "POST /api/v1/jobs/{job_id}/progress": PROCESSES,
    "GET /api/v1/retrainings/{retraining}/labelled": PROCESSES,
    "POST /api/v1/retrainings/{retraining}/stages": PROCESSES,
    "POST /api/v1/retrainings/{retraining}/roll-out": PROCESSES,
    "PUT /api/v1/runs/{run_id}": SDK,
    "POST /api/v1/runs/{run_id}/heartbeat": SDK,
    "PUT /api/v1/runs/{run_id}/artifacts/{path}": "log_profile and the sender of a run upload files",
    "GET /api/v1/runs/{run_id}/export": PORTABLE,
    "GET /api/v1/runs/{run_id}/export/points": PORTABLE,
    "GET /api/v1/runs/{run_id}/export/rows": PORTABLE,
    "GET /api/v1/runs/{run_id}/export/lines": PORTABLE,
    "PUT /api/v1/imports/runs/{run_id}": PORTABLE,
    "POST /api/v1/imports/runs/{run_id}/data": PORTABLE,
    "POST /api/v1/imports/runs/{run_id}/finish": PORTABLE,
    "GET /api/v1/imports/sources/{source}": PORTABLE,
    "PUT /api/v1/imports/sources/{source}": PORTABLE,
    "PUT /api/v1/imports/models/{model_id}": PORTABLE,
    "GET /api/v1/logged-models/{model_id}/files": PORTABLE,
    "GET /api/v1/logged-models/{model_id}/files/{path}": PORTABLE,
    "PUT /api/v1/logged-models/{model_id}/files/{path}": PORTABLE,
}
FORMLESS = {
    "GET /metrics": "Prometheus' text",
    "GET /api/v1/jobs/{job_id}/log": "text",
    "GET /api/v1/retrainings/{retraining}/labelled": "a stream of lines",
    "GET /api/v1/repos/{name}/files/{path}": "a file",
    "GET /api/v1/runs/{run_id}/artifacts/{path}": "a file",
    "GET /api/v1/logged-models/{model_id}/files/{path}": "a file",
    "GET /api/v1/runs/{run_id}/export": "NaN may stand in it, which JSON has no schema for",
}


class Asked(Exception):  # noqa: N818 - what a client asks for, before anybody answers
    def __init__(self, request: httpx.Request) -> None:
        self.method, self.path = request.method, request.url.raw_path.decode().partition("?")[0]


def refuse(request: httpx.Request) -> httpx.Response:
    raise Asked(request)


@pytest.fixture
def document(server: Server) -> Json:
    found: Json = httpx.get(f"{server.url}/api/v1/openapi.json").json()
    return found


def something(kind: str, file: Path) -> object:
    """A value for a parameter of this kind."""
    if "Path" in kind and ("str" not in kind or "Mapping" in kind):
        return file
    kinds = {"dict": {}, "Sequence": ["one"], "str": "0" * 32, "int": 1, "float": 1.0, "bool": True}
    return next(value for name, value in kinds.items() if name in kind)


def calls(client: Client, folder: Path) -> Iterator[Callable[[], object]]:
    """Each method of the client, with something for what it needs; and once more with something for all words that it takes."""
    for thing in [client, *(one for one in vars(client).values() if isinstance(one, Resource))]:
        for name, method in inspect.getmembers(thing, inspect.ismethod):
            if name.startswith("_") or (thing is client and name in ("close", "chat")):
                continue
            hints = get_type_hints(method)
            for everything in (False, True):
                values: dict[str, Any] = {}
                for parameter in inspect.signature(method).parameters.values():
                    needed = parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
                    if needed or (everything and hints[parameter.name] == str | None):
                        values[parameter.name] = something(str(hints[parameter.name]), folder / "file")
                yield lambda method=method, values=values: run(method, values)  # type: ignore[misc]


def run(method: Callable[..., object], values: dict[str, Any]) -> None:
    found = method(**values)
    if isinstance(found, Iterator):
        next(found)


@pytest.mark.slow
def test_every_route_has_a_method_of_the_client_or_a_reason(document: Json, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("something")
    client = Client("http://nowhere")
    client.connection._http = httpx.Client(base_url="http://nowhere", transport=httpx.MockTransport(refuse))
    asked: set[str] = set()
    for call in calls(client, tmp_path):
        try:
            call()
        except Asked as one:
            method, path, _ = route_of(document, one.method, one.path)
            asked.add(f"{method} {path}")
    there = {f"{method} {path}" for method, path, _ in routes(document)}
    assert there - asked - WITHOUT.keys() == set()
    assert WITHOUT.keys() & asked == set(), "a reason that holds no more"
    assert WITHOUT.keys() - there == set(), "a route that is not there any more"


@pytest.mark.slow
def test_every_route_says_what_it_answers(document: Json) -> None:
    formless = set()
    for method, path, operation in routes(document):
        (good,) = (response for status, response in operation["responses"].items() if status.startswith("2"))
        schema = good.get("content", {}).get("application/json", {}).get("schema", {})
        if not schema.get("$ref", "").startswith("#/components/schemas/"):
            formless.add(f"{method} {path}")
    assert formless == FORMLESS.keys()
