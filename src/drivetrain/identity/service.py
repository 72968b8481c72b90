"""The verbs of identity: users, workspaces and their members, keys, and the question who asks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import Conflict, Invalid, NotFound, Unauthenticated
from drivetrain.identity.audit import Audit
from drivetrain.identity.keys import DEFAULT, digest, grants_of, new_secret, refuse_malformed, within
from drivetrain.identity.model import ALL_SCOPES, Context, Grant, Key, Member, Role, Scope, User, Workspace
from drivetrain.identity.secrets import Secrets
from drivetrain.identity.signing import Signer
from drivetrain.identity.tables import ended_sessions, identity_settings, keys, members, users, workspaces
from drivetrain.reserved import RESERVED
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database, upsert

LOCAL = "local"
MOST_DAYS = 36_500
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9_.-]{0,62}[a-z0-9])?")
JOB_PREFIX = "dtj."
SIGNATURE = "dt-signature"


class Identity:
    """Who there is, and who asks."""

    def __init__(self, db: Database, secret: bytes) -> None:
        self._db = db
        self.audit = Audit(db)
        self.signer = Signer(secret)
        self.secrets = Secrets(db, secret, self.audit)

    def bootstrap(self) -> None:
        """The user `local`, the workspace `default`, and auth = open; once."""
        now = now_ms()
        with self._db.write() as connection:
            upsert(connection, identity_settings, [{"name": "auth", "value": "open"}], key=["name"])
            made = connection.execute(sa.select(workspaces.c.id).where(workspaces.c.slug == DEFAULT)).scalar()
            if made is not None:
                return
            workspace, user = uuid7(), uuid7()
            connection.execute(sa.insert(workspaces).values(id=workspace, slug=DEFAULT, display="Default", created_ms=now))
            connection.execute(sa.insert(users).values(id=user, name=LOCAL, display="", default_workspace_id=workspace, created_ms=now))
            connection.execute(sa.insert(members).values(workspace_id=workspace, user_id=user, role=Role.admin, created_ms=now))

    # Who asks.

    def auth_mode(self) -> str:
        with self._db.read() as connection:
            return self._auth(connection)

    def _auth(self, connection: sa.Connection) -> str:
        return str(connection.execute(sa.select(identity_settings.c.value).where(identity_settings.c.name == "auth")).scalar() or "open")

    def set_auth(self, ctx: Context, mode: str) -> None:
        """`keys` is refused while nobody holds an admin's key: it would lock everybody out."""
        ctx.require_server_admin()
        if mode not in ("open", "keys"):
            raise Invalid("auth is open or keys.", param="auth")
        with self._db.write() as connection:
            upsert(connection, identity_settings, [{"name": "auth", "value": mode}], key=["name"], update=["value"])
            self._refuse_lock_out(
                connection, "Nobody has a key with the scope admin yet. Make one first: drivetrain keys create --user local --scope admin"
            )
            self.audit.record(connection, ctx, "auth.set", mode)

    def _refuse_lock_out(self, connection: sa.Connection, advice: str) -> None:
        """Raise `Conflict` (and so undo the transaction) if after it keys are required but none could administer the server."""
        if self._auth(connection) == "keys":
            now = now_ms()
            if not any(grant.server_admin and (grant.expires_ms is None or grant.expires_ms > now) for grant in grants_of(connection)):
                raise Conflict(advice)

    def local_context(self, workspace: str | None = None, *, request_id: str = "") -> Context:
        """The user `local`, who may do everything: open mode, and the command line on a home."""
        with self._db.read() as connection:
            user = connection.execute(sa.select(users.c.id).where(users.c.name == LOCAL)).scalar_one()
            found = connection.execute(sa.select(workspaces).where(workspaces.c.slug == (workspace or DEFAULT))).one_or_none()
        if found is None:
            raise NotFound(f"There is no workspace {workspace!r}. Make it with: drivetrain workspaces create {workspace}")
        return Context(
            user_id=user,
            user_name=LOCAL,
            workspace_id=found.id,
            workspace=found.slug,
            scopes=ALL_SCOPES,
            request_id=request_id,
            server_admin=True,
        )

    def grants(self) -> list[Grant]:
        """Every good key with what it may do where: all that the data plane needs to let somebody in."""
        with self._db.read() as connection:
            return grants_of(connection)

    def grant(self, sha256: str) -> Grant | None:
        """The grant of one key, from the database: for a key that is newer than the caller's copy of the grants."""
        with self._db.read() as connection:
            return next(iter(grants_of(connection, keys.c.sha256 == sha256)), None)

    def workspaces_map(self) -> dict[str, str]:
        with self._db.read() as connection:
            return {row.slug: row.id for row in connection.execute(sa.select(workspaces.c.slug, workspaces.c.id))}

    def job_token(self, ctx: Context, *, scopes: Iterable[Scope], seconds: float) -> str:
        """A bearer token for a process that works on behalf of `ctx`, in its workspace alone; never more than `ctx` itself may."""
        return JOB_PREFIX + self.signer.sign("job", _payload(ctx, frozenset(scopes) & ctx.scopes), seconds)

    def home_token(self, ctx: Context, *, seconds: float) -> str:
        """The token of the command line on this home: all that `ctx`, who must administer the server, may do, in any workspace."""
        ctx.require_server_admin()
        return JOB_PREFIX + self.signer.sign("job", {**_payload(ctx, ctx.scopes), "server": True}, seconds)

    def context_of_job(self, token: str, *, request_id: str = "") -> Context:
        payload = self.signer.verify("job", token.removeprefix(JOB_PREFIX))
        return _context_of(payload, request_id, server_admin=bool(payload.get("server")))

    def sign_url(self, ctx: Context, method: str, path: str, *, scopes: Iterable[Scope], seconds: float) -> str:
        """`path` (with its mount, and its query if it has one) with a signature that lets anybody who has it do `method` there, and
        nothing else, as `ctx`, with no more than `scopes`."""
        payload = {**_payload(ctx, frozenset(scopes) & ctx.scopes), "method": method, "path": path}
        return f"{path}{'&' if '?' in path else '?'}{SIGNATURE}={self.signer.sign('url', payload, seconds)}"

    def context_of_url(self, method: str, path: str, signature: str, *, request_id: str = "") -> Context:
        """`path` as it was given to `sign_url`. Raises `Unauthenticated` for another method or path."""
        payload = self.signer.verify("url", signature)
        # Who may read may also ask how long the answer would be.
        if payload["path"] != path or payload["method"] != ("GET" if method == "HEAD" else method):
            raise Unauthenticated("This signature belongs to another address or method. Ask for a new address.")
        return _context_of(payload, request_id)

    def sign_in(self, secret: str, *, seconds: float) -> str:
        """A browser's session for whoever holds this key; it ends with the key. Raises `Unauthenticated`."""
        refuse_malformed(secret)
        sha256 = digest(secret)
        grant = self.grant(sha256)
        if grant is None or (grant.expires_ms is not None and grant.expires_ms < now_ms()):
            raise Unauthenticated("This key is not known here, was revoked, or has run out. Make another with: drivetrain keys create")
        session = uuid7()
        with self._db.write() as connection:
            self.audit.record(connection, _grant_context(grant), "session.begin", session)
        return self.signer.sign("session", {"id": session, "key": sha256}, seconds)

    def sign_out(self, ctx: Context, session: str) -> None:
        """End a session everywhere, also for a copy of its cookie."""
        payload = self.signer.verify("session", session)
        with self._db.write() as connection:
            connection.execute(sa.delete(ended_sessions).where(ended_sessions.c.expires_ms < now_ms()))
            upsert(connection, ended_sessions, [{"id": payload["id"], "expires_ms": int(payload["exp"] * 1000)}], key=["id"])
            self.audit.record(connection, ctx, "session.end", payload["id"])

    def session_ended(self, session_id: str) -> bool:
        with self._db.read() as connection:
            return connection.execute(sa.select(ended_sessions.c.id).where(ended_sessions.c.id == session_id)).scalar() is not None

    # Users and workspaces.

    def create_user(self, ctx: Context, name: str, *, display: str = "") -> User:
        """A user and a personal workspace of the same name, of which the user is admin."""
        ctx.require_server_admin()
        _slug("user", name)
        now = now_ms()
        user = User(id=uuid7(), name=name, display=display, created_ms=now)
        with self._db.write() as connection:
            _free(connection, users.c.name, name, "user")
            _free(connection, workspaces.c.slug, name, "workspace")
            workspace = uuid7()
            connection.execute(sa.insert(workspaces).values(id=workspace, slug=name, display=display, created_ms=now))
            connection.execute(
                sa.insert(users).values(id=user.id, name=name, display=display, default_workspace_id=workspace, created_ms=now)
            )
            connection.execute(sa.insert(members).values(workspace_id=workspace, user_id=user.id, role=Role.admin, created_ms=now))
            self.audit.record(connection, ctx, "user.create", name)
        return user

    def list_users(self, ctx: Context) -> list[User]:
        """Everybody for who administers the server, else the members of this workspace."""
        ctx.require(Scope.read)
        query = sa.select(users).order_by(users.c.name)
        if not ctx.server_admin:
            query = query.where(users.c.id.in_(sa.select(members.c.user_id).where(members.c.workspace_id == ctx.workspace_id)))
        with self._db.read() as connection:
            rows = connection.execute(query).all()
        return [User(id=row.id, name=row.name, display=row.display, created_ms=row.created_ms, disabled_ms=row.disabled_ms) for row in rows]

    def disable_user(self, ctx: Context, name: str, *, disabled: bool = True) -> None:
        """A disabled user's keys let nobody in; they work again when the user is enabled."""
        ctx.require_server_admin()
        if name == LOCAL:
            raise Invalid("The user 'local' is the one of open mode; it cannot be disabled.")
        with self._db.write() as connection:
            user = _user(connection, name)
            connection.execute(sa.update(users).where(users.c.id == user).values(disabled_ms=now_ms() if disabled else None))
            self._refuse_lock_out(connection, f"{name!r} has the last key that administers the server. Make another admin's key first.")
            self.audit.record(connection, ctx, "user.disable" if disabled else "user.enable", name)

    def create_workspace(self, ctx: Context, slug: str, *, display: str = "") -> Workspace:
        """A workspace, with whoever makes it as its admin."""
        ctx.require_server_admin()
        _slug("workspace", slug)
        made = Workspace(id=uuid7(), slug=slug, display=display, created_ms=now_ms(), role=Role.admin)
        with self._db.write() as connection:
            _free(connection, workspaces.c.slug, slug, "workspace")
            connection.execute(sa.insert(workspaces).values(id=made.id, slug=slug, display=display, created_ms=made.created_ms))
            connection.execute(
                sa.insert(members).values(workspace_id=made.id, user_id=ctx.user_id, role=Role.admin, created_ms=made.created_ms)
            )
            self.audit.record(connection, ctx, "workspace.create", slug)
        return made

    def list_workspaces(self, ctx: Context) -> list[Workspace]:
        """Those that the user is a member of; all of them for who administers the server."""
        ctx.require(Scope.read)
        mine = sa.and_(members.c.workspace_id == workspaces.c.id, members.c.user_id == ctx.user_id)
        query = sa.select(workspaces, members.c.role).join(members, mine, isouter=ctx.server_admin).order_by(workspaces.c.slug)
        with self._db.read() as connection:
            return [
                Workspace(id=row.id, slug=row.slug, display=row.display, created_ms=row.created_ms, role=row.role and Role(row.role))
                for row in connection.execute(query)
            ]

    def set_member(self, ctx: Context, workspace: str, user: str, role: str | None) -> None:
        """Give a user a role in a workspace; None takes it away."""
        if role is not None and role not in list(Role):
            raise Invalid(f"A role is one of {', '.join(Role)}.", param="role")
        with self._db.write() as connection:
            target = self._administered(connection, ctx, workspace)
            member = _user(connection, user)
            if role is None:
                connection.execute(sa.delete(members).where(members.c.workspace_id == target, members.c.user_id == member))
            else:
                row = {"workspace_id": target, "user_id": member, "role": role, "created_ms": now_ms()}
                upsert(connection, members, [row], key=["workspace_id", "user_id"], update=["role"])
            self._refuse_lock_out(connection, f"{user!r} has the last key that administers the server. Make another admin's key first.")
            self.audit.record(connection, ctx, "member.set", f"{workspace}/{user}", {"role": role})

    def list_members(self, ctx: Context, workspace: str) -> list[Member]:
        query = (
            sa.select(users.c.name, members.c.role, members.c.created_ms)
            .join(users, users.c.id == members.c.user_id)
            .join(workspaces, workspaces.c.id == members.c.workspace_id)
            .where(workspaces.c.slug == workspace)
            .order_by(users.c.name)
        )
        mine = {one.slug for one in self.list_workspaces(ctx)}
        if workspace not in mine:
            raise NotFound(f"There is no workspace {workspace!r} that you are a member of.")
        with self._db.read() as connection:
            return [Member(user=row.name, role=Role(row.role), created_ms=row.created_ms) for row in connection.execute(query)]

    def _administered(self, connection: sa.Connection, ctx: Context, workspace: str) -> str:
        """The id of a workspace that this request may administer: its own, or any for who administers the server."""
        found = connection.execute(sa.select(workspaces.c.id).where(workspaces.c.slug == workspace)).scalar()
        if ctx.server_admin and found is not None:
            return str(found)
        if found is None or found != ctx.workspace_id:
            raise NotFound(f"This request does not work in a workspace {workspace!r}. Name it: X-Drivetrain-Workspace, or --workspace.")
        ctx.require(Scope.admin)
        return str(found)

    # Keys.

    def create_key(
        self,
        ctx: Context,
        *,
        name: str = "",
        user: str | None = None,
        workspace: str | None = None,
        scopes: Iterable[str] = (Scope.read, Scope.write, Scope.invoke),
        days: float | None = None,
    ) -> tuple[Key, str]:
        """A new key and its secret, which is shown this once. For oneself: no more than the key that asks
        has itself. For others: as an admin of the server."""
        try:
            wanted = frozenset(Scope(scope) for scope in scopes)
        except ValueError as error:
            raise Invalid(f"{error}: a scope is one of {', '.join(Scope)}.", param="scopes") from None
        if not wanted:
            raise Invalid("A key needs at least one scope.", param="scopes")
        if days is not None and not 0 < days <= MOST_DAYS:
            raise Invalid(f"A key is good for more than 0 and at most {MOST_DAYS} days, or without an end.", param="days")
        owner_name = user or ctx.user_name
        secret = new_secret()
        now = now_ms()
        expires = None if days is None else now + int(days * 86_400_000)
        with self._db.write() as connection:
            if not ctx.server_admin:
                if owner_name != ctx.user_name:
                    ctx.require_server_admin()
                workspace, expires = within(connection, ctx, wanted, workspace, expires)
            owner = _user(connection, owner_name)
            where = None
            if workspace is not None:
                where = connection.execute(
                    sa.select(workspaces.c.id)
                    .join(members, members.c.workspace_id == workspaces.c.id)
                    .where(workspaces.c.slug == workspace, members.c.user_id == owner)
                ).scalar()
                if where is None:
                    raise NotFound(f"There is no workspace {workspace!r} that {owner_name!r} is a member of.", param="workspace")
            key = Key(
                id=uuid7(),
                user=owner_name,
                name=(name or f"key of {owner_name}")[:200],
                hint=secret[-4:],
                workspace=workspace,
                scopes=tuple(sorted(wanted)),
                created_ms=now,
                expires_ms=expires,
            )
            row = {
                "id": key.id,
                "sha256": digest(secret),
                "user_id": owner,
                "name": key.name,
                "hint": key.hint,
                "workspace_id": where,
            }
            connection.execute(sa.insert(keys).values(**row, scopes=list(key.scopes), created_ms=now, expires_ms=key.expires_ms))
            self.audit.record(connection, ctx, "key.create", key.id, {"name": key.name, "user": key.user, "scopes": list(key.scopes)})
        return key, secret

    def list_keys(self, ctx: Context) -> list[Key]:
        """One's own keys; all of them for who administers the server."""
        ctx.require(Scope.read)
        query = (
            sa.select(keys, users.c.name.label("user_name"), workspaces.c.slug)
            .join(users, users.c.id == keys.c.user_id)
            .outerjoin(workspaces, workspaces.c.id == keys.c.workspace_id)
            .order_by(keys.c.created_ms.desc())
        )
        if not ctx.server_admin:
            query = query.where(keys.c.user_id == ctx.user_id)
        with self._db.read() as connection:
            return [
                Key(
                    id=row.id,
                    user=row.user_name,
                    name=row.name,
                    hint=row.hint,
                    workspace=row.slug,
                    scopes=tuple(row.scopes),
                    created_ms=row.created_ms,
                    expires_ms=row.expires_ms,
                    revoked_ms=row.revoked_ms,
                )
                for row in connection.execute(query)
            ]

    def revoke_key(self, ctx: Context, key_id: str) -> None:
        """At once and for good. The last admin key is kept while keys are required."""
        with self._db.write() as connection:
            row = connection.execute(sa.select(keys).where(keys.c.id == key_id)).one_or_none()
            if row is None or (row.user_id != ctx.user_id and not ctx.server_admin):
                raise NotFound(f"There is no key {key_id!r}. List them with: drivetrain keys list")
            if key_id != ctx.key_id:
                # A key may end itself whatever its scopes; to end others it must be able to change something.
                ctx.require(Scope.write)
            connection.execute(sa.update(keys).where(keys.c.id == key_id, keys.c.revoked_ms.is_(None)).values(revoked_ms=now_ms()))
            self._refuse_lock_out(
                connection, "This is the last key that administers the server; without it nobody could. Make another first."
            )
            self.audit.record(connection, ctx, "key.revoke", key_id, {"name": row.name})


def _payload(ctx: Context, scopes: Iterable[Scope]) -> dict[str, Any]:
    return {"user": ctx.user_id, "name": ctx.user_name, "ws": ctx.workspace_id, "slug": ctx.workspace, "scopes": sorted(scopes)}


def _context_of(payload: dict[str, Any], request_id: str, *, server_admin: bool = False) -> Context:
    return Context(
        user_id=payload["user"],
        user_name=payload["name"],
        workspace_id=payload["ws"],
        workspace=payload["slug"],
        scopes=frozenset(Scope(scope) for scope in payload["scopes"]),
        request_id=request_id,
        server_admin=server_admin,
    )


def _grant_context(grant: Grant) -> Context:
    """For the audit log: somebody who is just coming in."""
    return Context(
        user_id=grant.user_id,
        user_name=grant.user_name,
        workspace_id=grant.default_workspace,
        workspace="",
        scopes=frozenset(),
        key_id=grant.key_id,
    )


def _slug(what: str, name: str) -> None:
    if not _SLUG.fullmatch(name) or name in RESERVED:
        raise Invalid(
            f"{name!r} cannot be the name of a {what}: up to 64 of a-z, 0-9, '-', '_' and '.', and no word of the server's addresses.",
            param="name",
        )


def _free(connection: sa.Connection, column: sa.Column[str], name: str, what: str) -> None:
    if connection.execute(sa.select(column).where(column == name)).scalar() is not None:
        raise Conflict(f"There is a {what} {name!r} already.", param="name")


def _user(connection: sa.Connection, name: str) -> str:
    found = connection.execute(sa.select(users.c.id).where(users.c.name == name)).scalar()
    if found is None:
        raise NotFound(f"There is no user {name!r}. Make one with: drivetrain users create {name}")
    return str(found)
