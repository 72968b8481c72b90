"""Users, workspaces, keys, sessions, secrets, the audit log.

Changes of who may do what reach every web process by a nudge to the supervisor, which sends a new route table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, SecretStr

from drivetrain.identity.service import Identity
from drivetrain.wire.fastapi import Asking
from drivetrain.wire.who import COOKIE


class NewUser(BaseModel):
    name: str
    display: str = ""


class NewWorkspace(BaseModel):
    slug: str
    display: str = ""


class Membership(BaseModel):
    role: Literal["viewer", "editor", "admin"]


class NewKey(BaseModel):
    name: str = ""
    user: str | None = None
    workspace: str | None = None
    scopes: list[str] = Field(default_factory=lambda: ["read", "write", "invoke"])
    days: float | None = None


class Auth(BaseModel):
    auth: Literal["open", "keys"]


class SignIn(BaseModel):
    key: SecretStr


class SecretValue(BaseModel):
    value: SecretStr


def router(identity: Identity, nudge: Callable[[str], None], *, session_hours: float) -> APIRouter:
    api = APIRouter(prefix="/api/v1", tags=["identity"])

    @api.get("/me")
    def me(ctx: Asking) -> dict[str, Any]:
        scopes = sorted(scope.value for scope in ctx.scopes)
        return {
            "user": ctx.user_name,
            "workspace": ctx.workspace,
            "scopes": scopes,
            "key": ctx.key_id,
            "auth": identity.auth_mode(),
            "server_admin": ctx.server_admin,
        }

    @api.get("/users")
    def users(ctx: Asking) -> dict[str, Any]:
        return {"users": [msgspec.to_builtins(user) for user in identity.list_users(ctx)]}

    @api.post("/users", status_code=201)
    def create_user(ctx: Asking, new: NewUser) -> dict[str, Any]:
        user = identity.create_user(ctx, new.name, display=new.display)
        nudge("identity")
        return {"user": msgspec.to_builtins(user)}

    @api.post("/users/{name}/disable")
    def disable_user(ctx: Asking, name: str) -> dict[str, Any]:
        identity.disable_user(ctx, name)
        nudge("identity")
        return {}

    @api.post("/users/{name}/enable")
    def enable_user(ctx: Asking, name: str) -> dict[str, Any]:
        identity.disable_user(ctx, name, disabled=False)
        nudge("identity")
        return {}

    @api.get("/workspaces")
    def workspaces(ctx: Asking) -> dict[str, Any]:
        return {"workspaces": [msgspec.to_builtins(one) for one in identity.list_workspaces(ctx)]}

    @api.post("/workspaces", status_code=201)
    def create_workspace(ctx: Asking, new: NewWorkspace) -> dict[str, Any]:
        workspace = identity.create_workspace(ctx, new.slug, display=new.display)
        nudge("identity")
        return {"workspace": msgspec.to_builtins(workspace)}

    @api.get("/workspaces/{slug}/members")
    def members(ctx: Asking, slug: str) -> dict[str, Any]:
        return {"members": [msgspec.to_builtins(member) for member in identity.list_members(ctx, slug)]}

    @api.put("/workspaces/{slug}/members/{user}")
    def set_member(ctx: Asking, slug: str, user: str, membership: Membership) -> dict[str, Any]:
        identity.set_member(ctx, slug, user, membership.role)
        nudge("identity")
        return {}

    @api.delete("/workspaces/{slug}/members/{user}")
    def remove_member(ctx: Asking, slug: str, user: str) -> dict[str, Any]:
        identity.set_member(ctx, slug, user, None)
        nudge("identity")
        return {}

    @api.get("/keys")
    def keys(ctx: Asking) -> dict[str, Any]:
        return {"keys": [msgspec.to_builtins(key) for key in identity.list_keys(ctx)]}

    @api.post("/keys", status_code=201)
    def create_key(ctx: Asking, new: NewKey) -> dict[str, Any]:
        """The secret is in this answer and nowhere else."""
        key, secret = identity.create_key(ctx, name=new.name, user=new.user, workspace=new.workspace, scopes=new.scopes, days=new.days)
        nudge("identity")
        return {"key": msgspec.to_builtins(key), "secret": secret}

    @api.delete("/keys/{key_id}")
    def revoke_key(ctx: Asking, key_id: str) -> dict[str, Any]:
        identity.revoke_key(ctx, key_id)
        nudge("identity")
        return {}

    @api.put("/auth")
    def set_auth(ctx: Asking, wanted: Auth) -> dict[str, Any]:
        identity.set_auth(ctx, wanted.auth)
        nudge("identity")
        return {"auth": wanted.auth}

    @api.post("/session")
    def sign_in(body: SignIn, request: Request, response: Response) -> dict[str, Any]:
        """Exchange a key for a cookie that scripts of pages cannot read."""
        token = identity.sign_in(body.key.get_secret_value().strip(), seconds=session_hours * 3600)
        # `secure` only where the browser came over TLS: it would not keep the cookie for plain http on localhost.
        response.set_cookie(
            COOKIE,
            token,
            max_age=int(session_hours * 3600),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
            path="/",
        )
        return {"expires_in": int(session_hours * 3600)}

    @api.delete("/session")
    def sign_out(request: Request, response: Response, ctx: Asking) -> dict[str, Any]:
        """End the session everywhere, also for a copy of its cookie."""
        if session := request.cookies.get(COOKIE):
            identity.sign_out(ctx, session)
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return {}

    @api.get("/secrets")
    def secrets(ctx: Asking) -> dict[str, Any]:
        return {"secrets": [{"name": name, "updated_ms": updated} for name, updated in identity.secrets.list(ctx)]}

    @api.put("/secrets/{name}")
    def set_secret(ctx: Asking, name: str, body: SecretValue) -> dict[str, Any]:
        identity.secrets.set(ctx, name, body.value.get_secret_value())
        return {}

    @api.delete("/secrets/{name}")
    def delete_secret(ctx: Asking, name: str) -> dict[str, Any]:
        identity.secrets.delete(ctx, name)
        return {}

    @api.get("/audit")
    def audit(ctx: Asking, limit: int = 100) -> dict[str, Any]:
        return {"entries": [msgspec.to_builtins(entry) for entry in identity.audit.log(ctx, limit=max(1, min(limit, 1000)))]}

    return api
