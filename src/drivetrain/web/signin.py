"""The door of the page: a key for a signed, SameSite=Strict cookie."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from drivetrain.identity.keys import digest, well_formed
from drivetrain.web.render import HEADERS, Pages
from drivetrain.web.services import Services
from drivetrain.wire.who import COOKIE, SESSION


def _local(address: str) -> str:
    """Only addresses on this server: a link to the sign-in page must not lead elsewhere."""
    return address if address.startswith("/") and not address.startswith(("//", "/\\")) else "/"


def routes(services: Services, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)

    def show(request: Request, after: str, problem: str = "", status: int = 200) -> Response:
        return pages.page(
            request, "sign-in.html", path=[], status=status, next=_local(after), problem=problem, hours=services.settings.session_hours
        )

    @router.get("/sign-in")
    def sign_in(request: Request, next: str = "/") -> Response:  # noqa: A002  the name in the address
        return show(request, next)

    @router.post("/sign-in")
    def signed_in(request: Request, key: Annotated[str, Form()], next: Annotated[str, Form()] = "/") -> Response:  # noqa: A002
        key = key.strip()
        if not well_formed(key):
            return show(request, next, "This is not a key: keys are ‘dt-’ and 40 letters and digits.", 401)
        sha256 = digest(key)
        if services.identity.grant(sha256) is None:
            return show(request, next, "This key is not known here, or was revoked.", 401)
        seconds = services.settings.session_hours * 3600
        response = RedirectResponse(_local(next), status_code=303, headers=HEADERS)
        response.set_cookie(
            COOKIE,
            services.identity.signer.sign(SESSION, {"key": sha256}, seconds),
            max_age=int(seconds),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    @router.post("/sign-out")
    def sign_out() -> Response:
        response = RedirectResponse("/sign-in", status_code=303, headers=HEADERS)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    return router
