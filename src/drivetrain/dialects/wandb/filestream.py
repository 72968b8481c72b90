"""The stream of a running client: history, system metrics, summary, console, and its end, in one message.

Rows are keyed by `_step` and the rest by its line number, so that the same message twice (a retry, a second `wandb sync`) changes nothing.
"""

from __future__ import annotations

import json
import re
import zlib
from typing import Any

from drivetrain.dialects.wandb.call import Call, Json, run_of
from drivetrain.errors import Invalid, TooLarge
from drivetrain.identity.model import Context
from drivetrain.tracking.model import Line

_LINE = re.compile(r"(ERROR )?(\d{4}-\d\d-\d\dT[\d:.]+Z?) ?(.*)", re.DOTALL)


def inflate(body: bytes, encoding: str, limit: int) -> bytes:
    """The body without its gzip coating. Raises `TooLarge` for what grows beyond `limit`."""
    if encoding.strip().lower() not in ("gzip", "x-gzip"):
        return body
    decoder = zlib.decompressobj(wbits=31)
    try:
        out = decoder.decompress(body, limit + 1)
    except zlib.error as error:
        raise Invalid(f"The body is not valid gzip: {error}.") from None
    if len(out) > limit:
        raise TooLarge(f"The body is larger than {limit} bytes when it is unpacked.")
    return out


def stream(s: Call, ctx: Context, project: str, name: str, body: bytes) -> Json:
    try:
        message = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise Invalid("The body is no JSON.") from None
    if not isinstance(message, dict):
        raise Invalid("The body is no JSON object.")
    run = run_of(s, ctx, project, name)
    files = message.get("files") or {}
    rows, _ = _chunk(files, "wandb-history.jsonl")
    events, events_from = _chunk(files, "wandb-events.jsonl")
    summary, _ = _chunk(files, "wandb-summary.json")
    log, log_from = _chunk(files, "output.log")
    state, code = _state(message)
    stop = s.platform.tracking.reports.append(
        ctx,
        run.id,
        rows=rows,
        events=events,
        events_from=events_from,
        summary=summary[-1] if summary else None,
        lines=[_line(number, text) for number, text in enumerate(log, log_from)],
        state=state,
        exit_code=code,
    )
    return {"exitcode": None, "limits": {}, "stopped": stop}


def _chunk(files: Any, name: str) -> tuple[list[str], int]:
    """(lines, number of the first)."""
    one = files.get(name) if isinstance(files, dict) else None
    if not isinstance(one, dict):
        return [], 0
    offset, content = one.get("offset", 0), one.get("content")
    if not isinstance(offset, int) or offset < 0 or not isinstance(content, list) or not all(isinstance(text, str) for text in content):
        raise Invalid(f"The chunk of {name} has no offset and content.")
    return content, offset


def _state(message: Json) -> tuple[str | None, int | None]:
    code = message.get("exitcode")
    code = code if isinstance(code, int) and not isinstance(code, bool) and abs(code) < 1 << 31 else None
    if message.get("complete"):
        return ("finished" if not code else "failed"), code
    return ("preempting" if message.get("preempting") else None), None


def _line(number: int, text: str) -> Line:
    if text.startswith("{"):
        try:
            one = json.loads(text)
        except ValueError:
            one = None
        if isinstance(one, dict) and "content" in one:
            return Line(number, str(one.get("level") or ""), str(one.get("ts") or ""), str(one["content"]))
    if found := _LINE.fullmatch(text):
        return Line(number, "error" if found[1] else "", found[2], found[3])
    return Line(number, "", "", text)
