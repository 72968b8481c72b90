"""Channels: where alerts go. What a channel needs to know (addresses with tokens, passwords, the key of the signature) is a secret."""

from __future__ import annotations

import builtins
import re
import secrets as random
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from drivetrain.errors import Conflict, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.identity.secrets import Secrets
from drivetrain.monitoring.alerts import tables as t
from drivetrain.monitoring.alerts.service import alert_of, queue
from drivetrain.monitoring.model import Alert, Channel, Delivery, Severity
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database

KINDS = ("log", "webhook", "email")
MOST_ATTEMPTS = 12
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Address(Struct, frozen=True):
    """The secret part of a channel."""

    url: str = ""
    key: str = ""  # of a webhook's signature


class Message(Struct, frozen=True, kw_only=True):
    """What is to be sent to one channel: alerts of one deployment (none for a test), each raised or resolved."""

    deliveries: tuple[str, ...]
    channel: Channel
    address: Address
    deployment: str
    alerts: tuple[tuple[str, Alert], ...]


class Channels:
    """The channels of one database, and what is queued for them."""

    def __init__(self, db: Database, secrets: Secrets, nudge: Callable[[str], None]) -> None:
        self._db = db
        self._secrets = secrets
        self._nudge = nudge

    def add(self, ctx: Context, name: str, kind: str, url: str = "", *, least: str = "warn") -> tuple[Channel, str]:
        """A new channel, and the key that signs a webhook's messages, which is shown this once.

        `url`: https://… of a webhook; smtp://user:password@host:587?from=a@b&to=c@d (or smtps://) for e-mail; nothing for the log.
        """
        ctx.require(Scope.admin)
        if not _NAME.fullmatch(name):
            raise Invalid("A channel's name has up to 64 letters, digits, '_', '.' and '-'.", param="name")
        if kind not in KINDS:
            raise Invalid(f"{kind!r} is no kind of channel: use {', '.join(KINDS)}.", param="kind")
        if least not in tuple(Severity):
            raise Invalid(f"{least!r} is no severity: use {', '.join(Severity)}.", param="least")
        target = _target(kind, url)
        key = random.token_urlsafe(32) if kind == "webhook" else ""
        row = {
            "id": uuid7(),
            "workspace_id": ctx.workspace_id,
            "name": name,
            "kind": kind,
            "target": target,
            "least": least,
            "created_by": ctx.user_name,
            "created_ms": now_ms(),
            "problem": "",
        }
        self._secrets.set(ctx, _secret(str(row["id"])), msgspec.json.encode(Address(url, key)).decode())
        try:
            with self._db.write() as c:
                c.execute(sa.insert(t.channels).values(**row))
        except sa.exc.IntegrityError:
            self._secrets.delete(ctx, _secret(str(row["id"])))
            raise Conflict(f"There is a channel {name!r} already.", param="name") from None
        return self.get(ctx, name), key

    def get(self, ctx: Context, name: str) -> Channel:
        ctx.require(Scope.read)
        with self._db.read() as c:
            return self._get(c, ctx, name)

    def list(self, ctx: Context) -> builtins.list[Channel]:
        ctx.require(Scope.read)
        mine = sa.select(t.channels).where(t.channels.c.workspace_id == ctx.workspace_id).order_by(t.channels.c.name)
        with self._db.read() as c:
            return [_channel(row) for row in c.execute(mine)]

    def delete(self, ctx: Context, name: str) -> None:
        """Send nothing there any more; what is queued for it is dropped."""
        ctx.require(Scope.admin)
        with self._db.write() as c:
            channel = self._get(c, ctx, name)
            c.execute(sa.delete(t.channels).where(t.channels.c.id == channel.id))
            queued = t.deliveries.c.channel_id == channel.id, t.deliveries.c.state == "queued"
            c.execute(sa.delete(t.deliveries).where(*queued))
        self._secrets.delete(ctx, _secret(channel.id))

    def test(self, ctx: Context, name: str) -> Delivery:
        """Queue a message that says nothing but that it arrives. Ask for it again to see how it went."""
        ctx.require(Scope.write)
        with self._db.write() as c:
            channel = self._get(c, ctx, name)
            delivery = queue(c, ctx.workspace_id, channel.id, "", "test")
        self._nudge("alerts")
        return self.delivery(ctx, delivery)

    def delivery(self, ctx: Context, delivery_id: str) -> Delivery:
        ctx.require(Scope.read)
        with self._db.read() as c:
            mine = t.deliveries.c.workspace_id == ctx.workspace_id, t.deliveries.c.id == delivery_id
            row = c.execute(sa.select(t.deliveries).where(*mine)).one_or_none()
        if row is None:
            raise NotFound(f"There is no delivery {delivery_id[:40]!r}.")
        return Delivery(**row._asdict())

    def deliveries(self, ctx: Context, *, alert: str | None = None, limit: int = 50) -> builtins.list[Delivery]:
        """Who was told what, the newest first."""
        ctx.require(Scope.read)
        query = sa.select(t.deliveries).where(t.deliveries.c.workspace_id == ctx.workspace_id)
        if alert is not None:
            query = query.where(t.deliveries.c.alert_id == alert)
        with self._db.read() as c:
            return [Delivery(**row._asdict()) for row in c.execute(query.order_by(t.deliveries.c.id.desc()).limit(limit))]

    # For the loop, which acts for everybody.

    def queued(self) -> builtins.list[Message]:
        """What is to be sent: alerts of one deployment together."""
        with self._db.read() as c:
            waiting = c.execute(
                sa.select(t.deliveries).where(t.deliveries.c.state == "queued").order_by(t.deliveries.c.id).limit(500)
            ).all()
            channels = {row.id: _channel(row) for row in c.execute(sa.select(t.channels))} if waiting else {}
            ids = {row.alert_id for row in waiting}
            alerts = {row.id: alert_of(row) for row in c.execute(sa.select(t.alerts).where(t.alerts.c.id.in_(ids)))}
        groups: dict[tuple[str, str], builtins.list[sa.Row[Any]]] = {}
        for row in waiting:
            alert = alerts.get(row.alert_id)
            groups.setdefault((row.channel_id, alert.deployment if alert is not None else f"test {row.id}"), []).append(row)
        messages = []
        for (channel_id, deployment), rows in groups.items():
            channel = channels.get(channel_id)
            if channel is None:
                self.settled([row.id for row in rows], error="The channel was deleted.", final=True)
                continue
            messages.append(
                Message(
                    deliveries=tuple(row.id for row in rows),
                    channel=channel,
                    address=self._address(channel),
                    deployment="" if deployment.startswith("test ") else deployment,
                    alerts=tuple((row.what, alerts[row.alert_id]) for row in rows if row.alert_id in alerts),
                )
            )
        return messages

    def settled(self, deliveries: builtins.list[str], *, error: str = "", final: bool = False) -> None:
        """Write down how an attempt went: without an error it arrived; `final` errors are not tried again."""
        mine = t.deliveries.c.id.in_(deliveries)
        now = now_ms()
        with self._db.write() as c:
            values: dict[str, Any] = {"attempts": t.deliveries.c.attempts + 1, "error": error[:1000]}
            if not error:
                values |= {"state": "sent", "ended_ms": now}
            c.execute(sa.update(t.deliveries).where(mine).values(**values))
            if error:
                spent = mine & ((t.deliveries.c.attempts >= MOST_ATTEMPTS) | sa.literal(final))
                c.execute(sa.update(t.deliveries).where(spent).values(state="failed", ended_ms=now))
            ids = sa.select(t.deliveries.c.channel_id).where(mine)
            told = {"problem": error[:1000]} if error else {"problem": "", "worked_ms": now}
            c.execute(sa.update(t.channels).where(t.channels.c.id.in_(ids)).values(**told))

    def _address(self, channel: Channel) -> Address:
        return msgspec.json.decode(self._secrets.get(channel.workspace_id, _secret(channel.id)), type=Address)

    def _get(self, c: sa.Connection, ctx: Context, name: str) -> Channel:
        mine = t.channels.c.workspace_id == ctx.workspace_id, t.channels.c.name == name
        row = c.execute(sa.select(t.channels).where(*mine)).one_or_none()
        if row is None:
            raise NotFound(f"There is no channel {name[:64]!r}. Add one with: drivetrain alerts channels add {name[:64]} webhook URL")
        return _channel(row)


def _channel(row: sa.Row[Any]) -> Channel:
    values = row._asdict()
    return Channel(**{**values, "least": Severity(values["least"])})


def _secret(channel_id: str) -> str:
    return f"channel.{channel_id}"


def _target(kind: str, url: str) -> str:
    """What may be shown of the address. Raises `Invalid` for one that cannot be used."""
    if kind == "log":
        return "alerts.log"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise Invalid(f"The address cannot be read: {error}.", param="url") from None
    shown = f"{parts.scheme}://{host}" + (f":{port}" if port else "")
    if kind == "webhook":
        if parts.scheme not in ("http", "https") or not host:
            raise Invalid("A webhook's address begins with https:// (or http:// in one's own network).", param="url")
        return f"{shown}/…" if len(parts.path) > 1 else shown
    to = parse_qs(parts.query).get("to", [])
    if parts.scheme not in ("smtp", "smtps") or not host or not to:
        raise Invalid("E-mail goes to smtp://user:password@host:587?from=a@b&to=c@d (smtps:// for TLS from the start).", param="url")
    return f"{', '.join(to)} by {shown}"
