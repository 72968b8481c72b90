"""Users, workspaces, keys, sessions, secrets, the audit log.

Changes of who may do what reach every web process by a nudge to the supervisor, which sends a new route table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, SecretStr

from drivetrain.answers import identity as answers
from drivetrain.identity.service import Identity
from drivetrain.wire.answers import native_router
from drivetrain.wire.authentication import COOKIE
from drivetrain.wire.fastapi import Asking


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
    api = native_router("identity")

    @api.get("/me")
    def me(ctx: Asking) -> answers.Me:
        return answers.Me(
            user=ctx.user_name,
            workspace=ctx.workspace,
            scopes=sorted(scope.value for scope in ctx.scopes),
            key=ctx.key_id,
            auth=identity.auth_mode(),
            server_admin=ctx.server_admin,
        )

    @api.get("/users")
    def users(ctx: Asking) -> answers.UserList:
        return answers.UserList(identity.list_users(ctx))

    @api.post("/users", status_code=201)
    def create_user(ctx: Asking, new: NewUser) -> answers.UserMade:
        user = identity.create_user(ctx, new.name, display=new.display)
        nudge("identity")
        return answers.UserMade(user)

    @api.post("/users/{name}/disable")
    def disable_user(ctx: Asking, name: str) -> None:
        identity.disable_user(ctx, name)
        nudge("identity")

    @api.post("/users/{name}/enable")
    def enable_user(ctx: Asking, name: str) -> None:
        identity.disable_user(ctx, name, disabled=False)
        nudge("identity")

    @api.get("/workspaces")
    def workspaces(ctx: Asking) -> answers.WorkspaceList:
        return answers.WorkspaceList(identity.list_workspaces(ctx))

    @api.post("/workspaces", status_code=201)
    def create_workspace(ctx: Asking, new: NewWorkspace) -> answers.WorkspaceMade:
        workspace = identity.create_workspace(ctx, new.slug, display=new.display)
        nudge("identity")
        return answers.WorkspaceMade(workspace)

    @api.get("/workspaces/{slug}/members")
    def members(ctx: Asking, slug: str) -> answers.MemberList:
        return answers.MemberList(identity.list_members(ctx, slug))

    @api.put("/workspaces/{slug}/members/{user}")
    def set_member(ctx: Asking, slug: str, user: str, membership: Membership) -> None:
        identity.set_member(ctx, slug, user, membership.role)
        nudge("identity")

    @api.delete("/workspaces/{slug}/members/{user}")
    def remove_member(ctx: Asking, slug: str, user: str) -> None:
        identity.set_member(ctx, slug, user, None)
        nudge("identity")

    @api.get("/keys")
    def keys(ctx: Asking) -> answers.KeyList:
        return answers.KeyList(identity.list_keys(ctx))

    @api.post("/keys", status_code=201)
    def create_key(ctx: Asking, new: NewKey) -> answers.KeyMade:
        """The secret is in this answer and nowhere else."""
        key, secret = identity.create_key(ctx, name=new.name, user=new.user, workspace=new.workspace, scopes=new.scopes, days=new.days)
        nudge("identity")
        return answers.KeyMade(key, secret)

    @api.delete("/keys/{key_id}")
    def revoke_key(ctx: Asking, key_id: str) -> None:
        identity.revoke_key(ctx, key_id)
        nudge("identity")

    @api.put("/auth")
    def set_auth(ctx: Asking, wanted: Auth) -> answers.AuthMode:
        identity.set_auth(ctx, wanted.auth)
        nudge("identity")
        return answers.AuthMode(wanted.auth)

    @api.post("/session")
    def sign_in(body: SignIn, request: Request, response: Response) -> answers.SignedIn:
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
        return answers.SignedIn(int(session_hours * 3600))

    @api.delete("/session")
    def sign_out(request: Request, response: Response, ctx: Asking) -> None:
        """End the session everywhere, also for a copy of its cookie."""
        if session := request.cookies.get(COOKIE):
            identity.sign_out(ctx, session)
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")

    @api.get("/secrets")
    def secrets(ctx: Asking) -> answers.SecretList:
        return answers.SecretList([answers.Secret(name, updated) for name, updated in identity.secrets.list(ctx)])

    @api.put("/secrets/{name}")
    def set_secret(ctx: Asking, name: str, body: SecretValue) -> None:
        identity.secrets.set(ctx, name, body.value.get_secret_value())

    @api.delete("/secrets/{name}")
    def delete_secret(ctx: Asking, name: str) -> None:
        identity.secrets.delete(ctx, name)

    @api.get("/audit")
    def audit(ctx: Asking, limit: int = 100) -> answers.EntryList:
        return answers.EntryList(identity.audit.log(ctx, limit=max(1, min(limit, 1000))))

    return api
