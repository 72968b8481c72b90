"""Sending one message: to the log, to a webhook (signed), by e-mail. Each raises `Unsent` with a reason that people understand.

A webhook gets JSON and these headers:

    X-Drivetrain-Delivery    an id; the same id twice is the same message
    X-Drivetrain-Signature   t=<Unix seconds>,v1=<hex of HMAC-SHA256(key, "<t>." + body)>
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import smtplib
import ssl
import time
import urllib.error
import urllib.request
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from drivetrain.monitoring.alerts.channels import Message

log = logging.getLogger(__name__)

SECONDS = 10.0


class Unsent(Exception):  # noqa: N818 - a signal inside the package
    """Why a message did not arrive. `final`: it would not the next time either."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


def send(message: Message, *, logs: Path, url: str) -> None:
    """Send it. `url`: where the dashboard is. Raises `Unsent`."""
    body = body_of(message, url)
    if message.channel.kind == "log":
        _log(body, logs)
    elif message.channel.kind == "webhook":
        _post(message, body)
    else:
        _mail(message, body)


def body_of(message: Message, url: str) -> dict[str, Any]:
    """What is said, as a webhook gets it."""
    return {
        "delivery": message.deliveries[0],
        "text": text_of(message),
        "deployment": message.deployment,
        "alerts": [{"what": what, "url": f"{url}/alerts/{alert.id}", **msgspec.to_builtins(alert)} for what, alert in message.alerts],
    }


def text_of(message: Message) -> str:
    """One line for each alert; chat programs show this field."""
    if not message.alerts:
        return f"This is a test of the channel {message.channel.name}: alerts arrive here."
    lines = []
    for what, alert in message.alerts:
        word = "Resolved" if what == "resolved" else {"bad": "Alert", "warn": "Warning", "info": "Note"}[alert.severity]
        lines.append(f"{word}: {alert.title}" + (f"\n{alert.text}" if alert.text else "") + (f"\nUndo: {alert.undo}" if alert.undo else ""))
    return "\n\n".join(lines)


def signature(key: str, at: int, body: bytes) -> str:
    """The value of X-Drivetrain-Signature."""
    return f"t={at},v1={hmac.new(key.encode(), f'{at}.'.encode() + body, hashlib.sha256).hexdigest()}"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A message goes where an admin sent it, nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _post(message: Message, body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "drivetrain",
        "X-Drivetrain-Delivery": message.deliveries[0],
        "X-Drivetrain-Signature": signature(message.address.key, int(time.time()), data),
    }
    opener = urllib.request.build_opener(_NoRedirects, urllib.request.ProxyHandler({}))
    try:
        request = urllib.request.Request(message.address.url, data=data, headers=headers, method="POST")  # noqa: S310 - checked when the channel was added
        with opener.open(request, timeout=SECONDS) as answer:
            answer.read(1024)
    except urllib.error.HTTPError as error:
        with error:
            final = 400 <= error.code < 500 and error.code not in (408, 409, 425, 429)
            raise Unsent(f"{message.channel.target} answered with status {error.code}.", final=final) from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise Unsent(f"{message.channel.target} could not be reached: {reason}.") from None


def _mail(message: Message, body: dict[str, Any]) -> None:
    parts = urlsplit(message.address.url)
    asked = parse_qs(parts.query)
    mail = EmailMessage()
    first = str(body["text"]).partition("\n")[0]
    mail["Subject"] = (
        f"[drivetrain] {first}"[:200] if len(message.alerts) < 2 else f"[drivetrain] {message.deployment}: {len(message.alerts)} alerts"
    )
    mail["From"] = asked.get("from", [f"drivetrain@{parts.hostname}"])[0]
    mail["To"] = ", ".join(asked["to"])
    mail["Date"] = formatdate(localtime=False)
    mail["Message-ID"] = make_msgid(message.deliveries[0])
    links = "\n".join(alert["url"] for alert in body["alerts"])
    mail.set_content(f"{body['text']}\n\n{links}\n")
    try:
        if parts.scheme == "smtps":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                parts.hostname or "", parts.port or 465, timeout=SECONDS, context=ssl.create_default_context()
            )
        else:
            server = smtplib.SMTP(parts.hostname or "", parts.port or 25, timeout=SECONDS)
        with server:
            if parts.scheme == "smtp" and server.has_extn("starttls"):
                server.starttls(context=ssl.create_default_context())
            if parts.username:
                server.login(unquote(parts.username), unquote(parts.password or ""))
            server.send_message(mail)
    except (OSError, smtplib.SMTPException) as error:
        raise Unsent(f"The mail could not be sent by {parts.hostname}: {error}.") from None


def _log(body: dict[str, Any], logs: Path) -> None:
    log.warning("%s", body["text"])
    try:
        with (logs / "alerts.log").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"at": time.time(), **body}) + "\n")
    except OSError as error:
        raise Unsent(f"{logs / 'alerts.log'} cannot be written: {error.strerror}.") from None
