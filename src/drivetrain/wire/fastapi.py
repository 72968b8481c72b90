"""FastAPI behind the door: the context as a dependency, errors in the native form."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from drivetrain.errors import DrivetrainError, Invalid, NotFound
from drivetrain.identity.model import Context
from drivetrain.wire.door import native_error


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
        if error.status_code == 404:
            return _answer(request, NotFound(f"There is nothing at {request.url.path}. The API is described at /api/v1/docs."))
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
