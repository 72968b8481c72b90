"""Numbers, sizes and times as people read them: with units, and no more digits than mean something."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

from drivetrain.store.ids import now_ms
from drivetrain.web.svg import fit

DASH = "–"


def number(value: float | None, digits: int = 4) -> str:
    """At most `digits` significant digits; integers whole, with thin spaces between thousands."""
    if value is None:
        return DASH
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "∞" if value > 0 else "−∞"
        if value.is_integer() and abs(value) < 1e15:
            value = int(value)
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f").replace("-", "−")
    if 1e-4 <= abs(value) < 10**7:
        places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        text = f"{value:,.{places}f}".replace(",", "\u202f")
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        text = f"{value:.{digits - 1}e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    return text.replace("-", "−") if text.startswith("-") else text


def compact(value: float | None) -> Markup:
    """A count for a large figure: 1 234, 12.3 k, 4.56 M."""
    if value is None:
        return escape(DASH)
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return _with_unit(number(value / (1e3 if unit == "k" else size), 3), unit)
    return escape(number(value, 3))


def size(value: int | None) -> str:
    """Bytes in binary units."""
    if value is None:
        return DASH
    amount = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{number(amount, 3)}\u00a0{unit}"
        amount /= 1024
    return f"{number(amount, 3)}\u00a0TiB"


def duration(ms: float | None) -> str:
    """Milliseconds as a person says them: 0.42 ms, 23 ms, 1.4 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    return "".join(_duration(ms))


def span(seconds: float) -> str:
    """A length that somebody chose: 5 min, 90 s, 1 h 30 min."""
    text = duration(seconds * 1000)
    return (
        text.partition("\u00a0min 0\u00a0s")[0] + "\u00a0min"
        if text.endswith("\u00a0min 0\u00a0s")
        else text.removesuffix(" 0\u00a0min").removesuffix(" 0\u00a0h")
    )


def duration_figure(ms: float | None) -> Markup:
    """The same for a large figure, with the unit set apart."""
    if ms is None:
        return escape(DASH)
    parts = _duration(ms)
    return Markup(" ").join(_with_unit(parts[i], parts[i + 1].strip()) for i in range(0, len(parts), 2))


def _duration(ms: float | None) -> list[str]:
    if ms is None:
        return [DASH]
    if ms < 999.5:
        return [number(ms, 2 if ms < 10 else 3), "\u00a0ms"]
    seconds = ms / 1000
    if seconds < 60:
        return [number(seconds, 3 if seconds >= 10 else 2), "\u00a0s"]
    for below, big, big_unit, small, small_unit in (
        (3600, 60, "min", 1, "s"),
        (86400, 3600, "h", 60, "min"),
        (math.inf, 86400, "d", 3600, "h"),
    ):
        if seconds < below:
            whole, rest = divmod(int(seconds), int(big))
            return [str(whole), f"\u00a0{big_unit} ", str(rest // small), f"\u00a0{small_unit}"]
    raise AssertionError("every duration is below infinity")


def percent(share: float | None, digits: int = 3) -> str:
    return DASH if share is None else f"{number(100 * share, digits)}\u00a0%"


def percent_figure(share: float | None) -> Markup:
    return escape(DASH) if share is None else _with_unit(number(100 * share, 3), "%")


def size_figure(value: int | None) -> Markup:
    amount, _, unit = size(value).partition("\u00a0")
    return _with_unit(amount, unit)


def _with_unit(text: str, unit: str) -> Markup:
    return Markup('{}<span class="unit">{}</span>').format(text, unit)


def ago(ms: int | None, now: int | None = None) -> Markup:
    """How long ago, with the exact moment on hover; the page keeps it up to date."""
    if not ms:
        return Markup('<span class="faint">{}</span>').format(DASH)
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    seconds = max(0, ((now or now_ms()) - ms) // 1000)
    if seconds < 5:
        text = "just now"
    elif seconds < 60:
        text = f"{seconds} s ago"
    elif seconds < 3600:
        text = f"{seconds // 60} min ago"
    elif seconds < 86400:
        text = f"{seconds // 3600} h ago"
    elif seconds < 86400 * 14:
        text = f"{seconds // 86400} d ago"
    else:
        text = moment.strftime("%-d %b %Y")
    exact = moment.strftime("%Y-%m-%d %H:%M:%S UTC")
    return Markup('<time class="nowrap" datetime="{}" data-ms="{}" title="{}">{}</time>').format(moment.isoformat(), ms, exact, text)


def moment(ms: int) -> str:
    """A moment for text that cannot hold a time element."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%-d %b %H:%M UTC")


def colour(name: str) -> int:
    """Which of the ten colours a name has, on every page. (A stable hash: Python's own differs from process to process.)"""
    return zlib.crc32(name.encode()) % 10


def colours(names: Iterable[str]) -> dict[str, int]:
    """One colour for each name; where two want the same, the later one takes the next that is free (as the charts do)."""
    found: dict[str, int] = {}
    for name in names:
        wanted = colour(name)
        while wanted in found.values() and len(found) < 10:
            wanted = (wanted + 3) % 10
        found[name] = wanted
    return found


def short(id_: str, digits: int = 8) -> str:
    """The telling end of an identifier: UUIDv7s of one hour share their beginning."""
    return id_ if len(id_) <= digits else id_[-digits:]


def pretty_json(text: str | None) -> str:
    """JSON set out on lines; anything else as it is."""
    if not text:
        return ""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text


def breakable(text: str) -> Markup:
    """Let long names break after dots, slashes and underscores."""
    return Markup("<wbr>").join(_pieces(text))


def _pieces(text: str) -> list[str]:
    pieces, start = [], 0
    for i, letter in enumerate(text):
        if letter in "./_-:" and i + 1 < len(text):
            pieces.append(text[start : i + 1])
            start = i + 1
    return [*pieces, text[start:]]


def plural(count: int, one: str, many: str | None = None) -> str:
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def until(ms: int) -> Markup:
    """How long from now, with the exact moment on hover."""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    days = (ms - now_ms()) / 86_400_000
    text = f"in {plural(round(days), 'day')}" if days >= 1 else "today" if days > 0 else "past"
    return Markup('<time class="nowrap" datetime="{}" title="{}">{}</time>').format(
        moment.isoformat(), moment.strftime("%Y-%m-%d %H:%M:%S UTC"), text
    )


def in_future(ms: int) -> Markup:
    """How long until then, with the exact moment on hover."""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    left = (ms - now_ms()) / 1000
    text = span(max(60, round(left / 60) * 60)) if left < 86_400 else plural(round(left / 86_400), "day")
    return Markup('<time class="nowrap" datetime="{}" title="{}">{}</time>').format(
        moment.isoformat(), moment.strftime("%Y-%m-%d %H:%M:%S UTC"), f"in {text}"
    )


def grouped(items: Iterable[Any], key: str) -> list[tuple[str, list[Any]]]:
    """Items by an attribute, in the order of their first."""
    found: dict[str, list[Any]] = {}
    for item in items:
        found.setdefault(str(getattr(item, key)), []).append(item)
    return list(found.items())


FILTERS: dict[str, Any] = {
    "number": number,
    "size": size,
    "duration": duration,
    "percent": percent,
    "ago": ago,
    "short": short,
    "breakable": breakable,
    "until": until,
    "in_future": in_future,
    "groupby_order": grouped,
    "fit": fit,
}
