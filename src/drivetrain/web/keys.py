"""Keys: who may come in, and the switch that makes everybody show one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response

from drivetrain.errors import DrivetrainError, Invalid
from drivetrain.identity.model import Context, Key, Scope
from drivetrain.platform import Platform
from drivetrain.store.ids import now_ms
from drivetrain.web.render import Pages, viewer
from drivetrain.web.views import State

Viewer = Annotated[Context, Depends(viewer)]


@dataclass(frozen=True)
class KeyRow:
    id: str
    name: str
    hint: str
    user: str
    scopes: Sequence[str]
    workspace: str
    created_ms: int
    expires_ms: int | None
    state: State
    mine: bool


@dataclass(frozen=True)
class KeysPage:
    rows: Sequence[KeyRow]
    mode: str
    secret: str = ""
    secret_name: str = ""
    problem: str = ""
    scopes: Sequence[str] = field(default_factory=tuple)


def view(platform: Platform, ctx: Context, *, secret: str = "", name: str = "", problem: str = "") -> KeysPage:
    """All that the page shows. `secret` is that of a key made just now."""
    now = now_ms()
    return KeysPage(
        rows=[_row(key, ctx, now) for key in platform.identity.list_keys(ctx)],
        mode=platform.identity.auth_mode(),
        secret=secret,
        secret_name=name,
        problem=problem,
        scopes=[scope.value for scope in Scope if scope in ctx.scopes],
    )


def _row(key: Key, ctx: Context, now: int) -> KeyRow:
    if key.revoked_ms:
        state = State("Revoked", "idle")
    elif key.expires_ms and key.expires_ms < now:
        state = State("Expired", "warn")
    else:
        state = State("Active", "good")
    return KeyRow(
        id=key.id,
        name=key.name,
        hint=key.hint,
        user=key.user,
        scopes=[scope.value for scope in Scope if scope.value in key.scopes],
        workspace=key.workspace or "all",
        created_ms=key.created_ms,
        expires_ms=key.expires_ms,
        state=state,
        mine=key.id == ctx.key_id,
    )


def _days(text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        raise Invalid(f"The days that a key is good for are a number, not {text[:40]!r}.", param="days") from None


def routes(platform: Platform, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)

    def show(request: Request, shown: KeysPage, status: int = 200) -> Response:
        return pages.page(request, "keys.html", path=[("Keys", "/keys")], status=status, view=shown)

    @router.get("/keys")
    def keys(request: Request, ctx: Viewer) -> Response:
        return show(request, view(platform, ctx))

    @router.post("/keys")
    def create(
        request: Request,
        ctx: Viewer,
        name: Annotated[str, Form()] = "",
        scope: Annotated[tuple[str, ...], Form()] = (),
        days: Annotated[str, Form()] = "",
    ) -> Response:
        try:
            key, secret = platform.identity.create_key(ctx, name=name.strip(), scopes=scope, days=_days(days))
        except DrivetrainError as error:
            return show(request, view(platform, ctx, problem=error.message), error.status)
        return show(request, view(platform, ctx, secret=secret, name=key.name))

    @router.post("/keys/require")
    def require(request: Request, ctx: Viewer, auth: Annotated[str, Form()]) -> Response:
        try:
            platform.identity.set_auth(ctx, auth)
        except DrivetrainError as error:
            return show(request, view(platform, ctx, problem=error.message), error.status)
        platform.nudge("identity")
        return show(request, view(platform, ctx))

    @router.post("/keys/{key_id}/revoke")
    def revoke(request: Request, ctx: Viewer, key_id: str) -> Response:
        try:
            platform.identity.revoke_key(ctx, key_id)
        except DrivetrainError as error:
            return show(request, view(platform, ctx, problem=error.message), error.status)
        platform.nudge("identity")
        return show(request, view(platform, ctx))

    return router
