"""The verbs of identity: users, workspaces and their members, keys, and the question who asks."""

from __future__ import annotations

import hashlib
import re
import secrets as random
import string
from collections.abc import Iterable

import sqlalchemy as sa

from drivetrain.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from drivetrain.identity.audit import Audit
from drivetrain.identity.model import ALL_SCOPES, ROLE_SCOPES, Context, Grant, Key, Member, Role, Scope, User, Workspace
from drivetrain.identity.secrets import Secrets
from drivetrain.identity.signing import Signer
from drivetrain.identity.tables import identity_settings, keys, members, users, workspaces
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database, upsert

LOCAL = "local"
DEFAULT = "default"
ALPHABET = string.ascii_letters + string.digits
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9_.-]{0,62}[a-z0-9])?")
_WELL_FORMED = re.compile(r"dt-[A-Za-z0-9]{40}")
JOB_PREFIX = "dtj."
RESERVED = frozenset(
    {"api", "v1", "v2", "mlflow", "openai", "ollama", "kserve", "invoke", "static", "datasets", "spaces", "models", "admin"}
)


def digest(secret: str) -> str:
    """How a key is kept. Keys are 40 random characters, so one round of SHA-256 is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


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
            return str(
                connection.execute(sa.select(identity_settings.c.value).where(identity_settings.c.name == "auth")).scalar() or "open"
            )

    def set_auth(self, ctx: Context, mode: str) -> None:
        """`keys` is refused while nobody holds an admin's key: it would lock everybody out."""
        ctx.require(Scope.admin)
        if mode not in ("open", "keys"):
            raise Invalid("auth is open or keys.", param="auth")
        with self._db.write() as connection:
            if mode == "keys" and not self._an_admin_key(connection):
                raise Conflict("Nobody has a key with the scope admin yet. Make one first: drivetrain keys create --scope admin")
            connection.execute(sa.update(identity_settings).where(identity_settings.c.name == "auth").values(value=mode))
            self.audit.record(connection, ctx, "auth.set", mode)

    def _an_admin_key(self, connection: sa.Connection) -> bool:
        good = sa.select(keys.c.scopes).where(
            keys.c.revoked_ms.is_(None), sa.or_(keys.c.expires_ms.is_(None), keys.c.expires_ms > now_ms())
        )
        return any(Scope.admin in scopes for (scopes,) in connection.execute(good))

    def local_context(self, workspace: str | None = None, *, request_id: str = "") -> Context:
        """The user `local`, who may do everything: open mode, and the command line on a home."""
        with self._db.read() as connection:
            user = connection.execute(sa.select(users.c.id).where(users.c.name == LOCAL)).scalar_one()
            found = connection.execute(sa.select(workspaces).where(workspaces.c.slug == (workspace or DEFAULT))).one_or_none()
        if found is None:
            raise NotFound(f"There is no workspace {workspace!r}. Make it with: drivetrain workspaces create {workspace}")
        return Context(user_id=user, user_name=LOCAL, workspace_id=found.id, workspace=found.slug, scopes=ALL_SCOPES, request_id=request_id)

    def grants(self) -> list[Grant]:
        """Every good key with what it may do where: all that the data plane needs to let somebody in."""
        query = (
            sa.select(keys, users.c.name.label("user_name"), users.c.default_workspace_id)
            .join(users, users.c.id == keys.c.user_id)
            .where(keys.c.revoked_ms.is_(None), users.c.disabled_ms.is_(None))
        )
        with self._db.read() as connection:
            roles: dict[str, list[tuple[str, Role]]] = {}
            for row in connection.execute(sa.select(members)):
                roles.setdefault(row.user_id, []).append((row.workspace_id, Role(row.role)))
            return [
                Grant(
                    sha256=row.sha256,
                    key_id=row.id,
                    user_id=row.user_id,
                    user_name=row.user_name,
                    default_workspace=row.workspace_id or row.default_workspace_id,
                    scopes={
                        workspace: tuple(sorted(frozenset(row.scopes) & ROLE_SCOPES[role]))
                        for workspace, role in roles.get(row.user_id, ())
                        if row.workspace_id in (None, workspace)
                    },
                    expires_ms=row.expires_ms,
                )
                for row in connection.execute(query)
            ]

    def grant(self, sha256: str) -> Grant | None:
        """The grant of one key, from the database: for a key that is newer than the caller's copy of the grants."""
        with self._db.read() as connection:
            if connection.execute(sa.select(keys.c.id).where(keys.c.sha256 == sha256)).scalar() is None:
                return None
        return next((grant for grant in self.grants() if grant.sha256 == sha256), None)

    def workspaces_map(self) -> dict[str, str]:
        with self._db.read() as connection:
            return {row.slug: row.id for row in connection.execute(sa.select(workspaces.c.slug, workspaces.c.id))}

    def job_token(self, ctx: Context, *, scopes: Iterable[Scope], seconds: float) -> str:
        """A bearer token for a process that works on behalf of `ctx`; never more than `ctx` itself may."""
        payload = {
            "user": ctx.user_id,
            "name": ctx.user_name,
            "ws": ctx.workspace_id,
            "slug": ctx.workspace,
            "scopes": sorted(frozenset(scopes) & ctx.scopes),
        }
        return JOB_PREFIX + self.signer.sign("job", payload, seconds)

    def context_of_job(self, token: str, *, request_id: str = "") -> Context:
        payload = self.signer.verify("job", token.removeprefix(JOB_PREFIX))
        return Context(
            user_id=payload["user"],
            user_name=payload["name"],
            workspace_id=payload["ws"],
            workspace=payload["slug"],
            scopes=frozenset(Scope(scope) for scope in payload["scopes"]),
            request_id=request_id,
        )

    # Users and workspaces.

    def create_user(self, ctx: Context, name: str, *, display: str = "") -> User:
        """A user and a personal workspace of the same name, of which the user is admin."""
        ctx.require(Scope.admin)
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
        ctx.require(Scope.read)
        with self._db.read() as connection:
            rows = connection.execute(sa.select(users).order_by(users.c.name)).all()
        return [User(id=row.id, name=row.name, display=row.display, created_ms=row.created_ms, disabled_ms=row.disabled_ms) for row in rows]

    def disable_user(self, ctx: Context, name: str, *, disabled: bool = True) -> None:
        """A disabled user's keys let nobody in; they work again when the user is enabled."""
        ctx.require(Scope.admin)
        if name == LOCAL:
            raise Invalid("The user 'local' is the one of open mode; it cannot be disabled.")
        with self._db.write() as connection:
            user = _user(connection, name)
            connection.execute(sa.update(users).where(users.c.id == user).values(disabled_ms=now_ms() if disabled else None))
            self.audit.record(connection, ctx, "user.disable" if disabled else "user.enable", name)

    def create_workspace(self, ctx: Context, slug: str, *, display: str = "") -> Workspace:
        """A workspace, with whoever makes it as its admin."""
        ctx.require(Scope.admin)
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
        """Those that the user is a member of."""
        query = (
            sa.select(workspaces, members.c.role)
            .join(members, members.c.workspace_id == workspaces.c.id)
            .where(members.c.user_id == ctx.user_id)
            .order_by(workspaces.c.slug)
        )
        with self._db.read() as connection:
            return [
                Workspace(id=row.id, slug=row.slug, display=row.display, created_ms=row.created_ms, role=Role(row.role))
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
        """The id of a workspace that this request may administer."""
        query = (
            sa.select(workspaces.c.id, members.c.role)
            .join(members, members.c.workspace_id == workspaces.c.id)
            .where(workspaces.c.slug == workspace, members.c.user_id == ctx.user_id)
        )
        found = connection.execute(query).one_or_none()
        if found is None:
            raise NotFound(f"There is no workspace {workspace!r} that you are a member of.")
        ctx.require(Scope.admin)
        if found.role != Role.admin:
            raise Forbidden(f"Only an admin of the workspace {workspace!r} can do this.")
        return str(found.id)

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
        """A new key and its secret, which is shown this once. For oneself any scopes that one has; for others as an admin."""
        try:
            wanted = frozenset(Scope(scope) for scope in scopes)
        except ValueError as error:
            raise Invalid(f"{error}: a scope is one of {', '.join(Scope)}.", param="scopes") from None
        if not wanted:
            raise Invalid("A key needs at least one scope.", param="scopes")
        if days is not None and days <= 0:
            raise Invalid("A key must be good for more than 0 days.", param="days")
        for_other = user is not None and user != ctx.user_name
        ctx.require(Scope.admin if for_other else Scope.read)
        if not for_other and not wanted <= ctx.scopes:
            lacking = ", ".join(sorted(wanted - ctx.scopes))
            raise Forbidden(f"One cannot give a key more than one has; this request lacks: {lacking}.")
        secret = "dt-" + "".join(random.choice(ALPHABET) for _ in range(40))
        now = now_ms()
        with self._db.write() as connection:
            owner = _user(connection, user) if for_other and user is not None else ctx.user_id
            where = None
            if workspace is not None:
                where = connection.execute(
                    sa.select(workspaces.c.id)
                    .join(members, members.c.workspace_id == workspaces.c.id)
                    .where(workspaces.c.slug == workspace, members.c.user_id == owner)
                ).scalar()
                if where is None:
                    raise NotFound(f"There is no workspace {workspace!r} that {user or ctx.user_name!r} is a member of.")
            key = Key(
                id=uuid7(),
                user=user or ctx.user_name,
                name=name or f"key of {user or ctx.user_name}",
                hint=secret[-4:],
                workspace=workspace,
                scopes=tuple(sorted(wanted)),
                created_ms=now,
                expires_ms=None if days is None else now + int(days * 86_400_000),
            )
            row = {
                "id": key.id,
                "sha256": digest(secret),
                "user_id": owner,
                "name": key.name[:200],
                "hint": key.hint,
                "workspace_id": where,
            }
            connection.execute(sa.insert(keys).values(**row, scopes=list(key.scopes), created_ms=now, expires_ms=key.expires_ms))
            self.audit.record(connection, ctx, "key.create", key.id, {"name": key.name, "user": key.user, "scopes": list(key.scopes)})
        return key, secret

    def list_keys(self, ctx: Context) -> list[Key]:
        """One's own keys; all of them for an admin."""
        query = (
            sa.select(keys, users.c.name.label("user_name"), workspaces.c.slug)
            .join(users, users.c.id == keys.c.user_id)
            .outerjoin(workspaces, workspaces.c.id == keys.c.workspace_id)
            .order_by(keys.c.created_ms.desc())
        )
        if Scope.admin not in ctx.scopes:
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
            if row is None or (row.user_id != ctx.user_id and Scope.admin not in ctx.scopes):
                raise NotFound(f"There is no key {key_id!r}. List them with: drivetrain keys list")
            connection.execute(sa.update(keys).where(keys.c.id == key_id, keys.c.revoked_ms.is_(None)).values(revoked_ms=now_ms()))
            mode = connection.execute(sa.select(identity_settings.c.value).where(identity_settings.c.name == "auth")).scalar()
            if mode == "keys" and not self._an_admin_key(connection):
                raise Conflict(
                    "This is the last key with the scope admin; without it nobody could administer the server. Make another first."
                )
            self.audit.record(connection, ctx, "key.revoke", key_id, {"name": row.name})


def well_formed(token: str) -> bool:
    """Whether this could be a key of ours."""
    return _WELL_FORMED.fullmatch(token) is not None


def refuse_malformed(token: str) -> None:
    if not well_formed(token):
        raise Unauthenticated(
            "This is not a key of this server: keys are 'dt-' and 40 letters and digits. Make one with: drivetrain keys create"
        )


def _slug(what: str, name: str) -> None:
    if not _SLUG.fullmatch(name) or name in RESERVED:
        raise Invalid(
            f"{name!r} cannot be the name of a {what}: up to 64 of a-z, 0-9, '-', '_' and '.', and no route's name.", param="name"
        )


def _free(connection: sa.Connection, column: sa.Column[str], name: str, what: str) -> None:
    if connection.execute(sa.select(column).where(column == name)).scalar() is not None:
        raise Conflict(f"There is a {what} {name!r} already.", param="name")


def _user(connection: sa.Connection, name: str) -> str:
    found = connection.execute(sa.select(users.c.id).where(users.c.name == name)).scalar()
    if found is None:
        raise NotFound(f"There is no user {name!r}. Make one with: drivetrain users create {name}")
    return str(found)
