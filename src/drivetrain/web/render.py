"""From a view to an answer: templates, the policy of what a page may load, and errors as pages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemBytecodeCache, FileSystemLoader, StrictUndefined

from drivetrain.errors import DrivetrainError, Unauthenticated
from drivetrain.identity.model import Context, Scope
from drivetrain.web import format as format_
from drivetrain.web.assets import Assets

log = logging.getLogger(__name__)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
    "frame-src 'self'; media-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
NAVIGATION = (
    ("overview", "Overview", "/"),
    ("runs", "Runs", "/runs"),
    ("sweeps", "Sweeps", "/sweeps"),
    ("models", "Models", "/models"),
    ("deployments", "Deployments", "/deployments"),
    ("alerts", "Alerts", "/alerts"),
    ("playground", "Playground", "/playground"),
    ("keys", "Keys", "/keys"),
)


class Pages:
    """Renders templates. One for a process. What Jinja makes of them is kept in `cache`, which spares the next start the compiling."""

    def __init__(self, assets: Assets, cache: Path) -> None:
        cache.mkdir(parents=True, exist_ok=True)
        self._environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            bytecode_cache=FileSystemBytecodeCache(str(cache)),
        )
        self._environment.filters.update(format_.FILTERS)
        self._environment.globals.update(asset=assets.url, navigation=NAVIGATION, plural=format_.plural, DASH=format_.DASH)

    def page(self, request: Request, template: str, *, path: list[tuple[str, str]], status: int = 200, **values: Any) -> HTMLResponse:
        """A whole page. `path` is what the header shows: (text, address) from the outside in; the last one is the page itself."""
        ctx: Context = request.state.context
        section = request.url.path.split("/")[1] or "overview"
        html = self._environment.get_template(template).render(
            ctx=ctx,
            path=path,
            section="deployments" if section in ("requests", "rollouts") else section,
            server=str(request.base_url).rstrip("/"),
            signed_in=ctx.key_id is not None,
            may_write=Scope.write in ctx.scopes,
            may_admin=Scope.admin in ctx.scopes,
            **values,
        )
        return HTMLResponse(html, status_code=status, headers=HEADERS)

    def fragment(self, template: str, **values: Any) -> HTMLResponse:
        return HTMLResponse(self._environment.get_template(template).render(**values), headers=HEADERS)

    def route_class(self) -> type[APIRoute]:
        """Routes that answer errors as pages, and send those who must sign in to the door."""
        pages = self

        class PageRoute(APIRoute):
            def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
                handle = super().get_route_handler()

                async def handled(request: Request) -> Response:
                    try:
                        return await handle(request)
                    except DrivetrainError as error:
                        return pages.failure(request, error)

                return handled

        return PageRoute

    def failure(self, request: Request, error: DrivetrainError) -> Response:
        if isinstance(error, Unauthenticated) and request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            after = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/sign-in?next={quote(after, safe='')}", status_code=303, headers=HEADERS)
        if request.headers.get("hx-request"):
            return HTMLResponse(
                self._environment.get_template("_error.html").render(error=error), status_code=error.status, headers=HEADERS
            )
        return self.page(request, "error.html", path=[(str(error.status), "")], status=error.status, error=error)


def viewer(request: Request) -> Context:
    """Who looks at the page. Raises what the door found wrong."""
    if (refused := getattr(request.state, "refused", None)) is not None:
        raise refused
    ctx: Context = request.state.context
    ctx.require(Scope.read)
    return ctx
