"""The door of the page: a key for a signed, SameSite=Strict cookie; and which workspace a browser looks at."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import RedirectResponse

from drivetrain.errors import DrivetrainError, NotFound
from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.web.render import HEADERS, Pages, viewer
from drivetrain.wire.authentication import COOKIE, WORKSPACE_COOKIE

Viewer = Annotated[Context, Depends(viewer)]
_YEAR = 365 * 86_400


def _local(address: str) -> str:
    """Only addresses on this server: a link to the sign-in page must not lead elsewhere."""
    return address if address.startswith("/") and not address.startswith(("//", "/\\")) else "/"


def routes(platform: Platform, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)

    def show(request: Request, after: str, problem: str = "", status: int = 200) -> Response:
        return pages.page(
            request, "sign-in.html", path=[], status=status, next=_local(after), problem=problem, hours=platform.settings.session_hours
        )

    @router.get("/sign-in")
    def sign_in(request: Request, next: str = "/") -> Response:  # noqa: A002  the name in the address
        return show(request, next)

    @router.post("/sign-in")
    def signed_in(request: Request, key: Annotated[str, Form()], next: Annotated[str, Form()] = "/") -> Response:  # noqa: A002
        seconds = platform.settings.session_hours * 3600
        try:
            session = platform.identity.sign_in(key.strip(), seconds=seconds)
        except DrivetrainError as error:
            return show(request, next, error.message, error.status)
        response = RedirectResponse(_local(next), status_code=303, headers=HEADERS)
        # `secure` only where the browser came over TLS: it would not keep the cookie for plain http on localhost.
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, session, max_age=int(seconds), httponly=True, samesite="strict", secure=secure)
        return response

    @router.post("/sign-out")
    def sign_out(request: Request, ctx: Viewer) -> Response:
        if session := request.cookies.get(COOKIE):
            platform.identity.sign_out(ctx, session)
        response = RedirectResponse("/sign-in", status_code=303, headers=HEADERS)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    @router.post("/workspace")
    def workspace(ctx: Viewer, to: Annotated[str, Form()]) -> Response:
        if to not in {one.slug for one in platform.identity.list_workspaces(ctx)}:
            raise NotFound(f"There is no workspace {to!r} that you are a member of.", param="to")
        response = RedirectResponse("/", status_code=303, headers=HEADERS)
        response.set_cookie(WORKSPACE_COOKIE, to, max_age=_YEAR, httponly=True, samesite="strict")
        return response

    return router
