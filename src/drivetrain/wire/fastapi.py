"""FastAPI behind the door: the context as a dependency, errors in the native form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route

from drivetrain.errors import DrivetrainError, Invalid
from drivetrain.identity.model import Context
from drivetrain.wire.door import CHOSEN, native_error
from drivetrain.wire.request import Receive, Scope, Send


def context(request: Request) -> Context:
    """Who asks. Raises what the door found, when it let the request through to here without knowing."""
    refused: DrivetrainError | None = request.scope["state"].get("refused")
    if refused is not None:
        raise refused
    known: Context = request.scope["state"]["context"]
    return known


Asking = Annotated[Context, Depends(context)]
_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
RAW_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": _BYTES}}
"""For `openapi_extra` of routes that read the body as it comes: FastAPI does not see that they have one."""


class _Chosen(BaseRoute):
    """The route that the door's table has found: no other is looked for, so that the order of routers means nothing."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        route, params = scope["state"][CHOSEN]
        return Match.FULL, {"endpoint": route.endpoint, "path_params": params, "route": route}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        route, params = scope["state"][CHOSEN]
        scope["route"], scope["path_params"] = route, params
        await route.handle(scope, receive, send)


class Native:
    """FastAPI as the door sees it: these routers' routes and the app's own, in no order."""

    def __init__(self, app: FastAPI, routers: Iterable[APIRouter]) -> None:
        install_errors(app)
        for router in routers:
            app.router.routes.extend(router.routes)
        self._app = app
        self._routes = [route for route in app.routes if isinstance(route, Route)]
        app.router.routes.insert(0, _Chosen())

    def endpoints(self) -> Iterator[tuple[set[str], str, Route]]:
        for route in self._routes:
            yield set(route.methods or ()), route.path, route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def install_errors(app: FastAPI) -> None:
    """Our errors, FastAPI's and Starlette's in one form."""

    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, DrivetrainError)
        return _answer(request, error)

    async def unfit(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first: dict[str, Any] = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        return _answer(request, Invalid(f"{where or 'The body'}: {first['msg']}", param=where or None))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if isinstance(error.__cause__, DrivetrainError):
            return _answer(request, error.__cause__)  # FastAPI wraps whatever went wrong while it read the body
        plain = DrivetrainError(str(error.detail))
        plain.status = error.status_code
        return _answer(request, plain)

    async def bug(request: Request, error: Exception) -> Response:
        # Starlette raises it again after this answer: the door logs it.
        asked = request.scope["state"]["request"].id
        return _answer(request, DrivetrainError(f"The server failed at this request; its log says why, under {asked}."))

    app.add_exception_handler(Exception, bug)
    app.add_exception_handler(DrivetrainError, ours)
    app.add_exception_handler(RequestValidationError, unfit)
    app.add_exception_handler(HTTPException, http)


def _answer(request: Request, error: DrivetrainError) -> Response:
    status, body, content_type = native_error(error, request.scope["state"]["request"].id)
    response = Response(body, status, media_type=content_type)
    if after := getattr(error, "retry_after", None):
        response.headers["retry-after"] = str(max(1, round(after)))
    return response
