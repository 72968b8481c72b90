"""What names, keys, values and paths may be. Every function returns what it was given, or raises `Invalid` with advice."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

from drivetrain.errors import Invalid
from drivetrain.store.sql import INT64

MAX_KEY = 250
MAX_PARAM = 6000
MAX_TAG = 8000
MAX_EXPERIMENT_TAG = 20_000
MAX_NAME = 500
MAX_PATH = 1024
MAX_BATCH = 1000
MAX_BATCH_PARAMS = 100
MAX_BATCH_TAGS = 100

_KEY = re.compile(r"[/\w.\- :]+")


def key(text: str, what: str) -> str:
    """The key of a metric, param or tag."""
    if not text or len(text) > MAX_KEY:
        raise Invalid(f"The key of a {what} has 1 to {MAX_KEY} characters; this one has {len(text)}.", param="key")
    # Keys are paths to some clients: what would lead out of a folder, or is written in two ways, is refused.
    if not _KEY.fullmatch(text) or text.startswith("..") or any(part in ("", ".", "..") for part in text.split("/")):
        raise Invalid(
            f"{shown(text)} cannot be the key of a {what}: use letters, digits, '_', '-', '.', ' ', ':' and '/', without '.', '..' or "
            "nothing between two '/', and no '/' at its ends.",
            param="key",
        )
    return text


def value(text: str, limit: int, what: str, name: str) -> str:
    if len(text) > limit:
        raise Invalid(f"The value of {what} {name!r} has {len(text)} characters; {limit} are the most. Log it as an artifact.", param=name)
    if "\x00" in text:
        raise Invalid(f"The value of {what} {name!r} contains a NUL character: log it as an artifact.", param=name)
    return text


def tags(given: Mapping[str, str], *, limit: int = MAX_TAG) -> Mapping[str, str]:
    for name, text in given.items():
        key(name, "tag")
        value(text, limit, "tag", name)
    return given


def params(given: Mapping[str, str]) -> Mapping[str, str]:
    for name, text in given.items():
        key(name, "param")
        value(text, MAX_PARAM, "param", name)
    return given


def name(text: str, what: str, limit: int = MAX_NAME) -> str:
    if not text.strip() or len(text) > limit or "\x00" in text:
        raise Invalid(f"The name of {what} has 1 to {limit} characters, not all blank; this one has {len(text)}.", param="name")
    return text


def int64(number: int, what: str) -> int:
    if not -INT64 <= number < INT64:
        raise Invalid(f"The {what} {number} does not fit in 64 bits.", param=what)
    return number


def path(text: str) -> str:
    """The path of an artifact, relative to its owner: no way out of there, however often its address is decoded."""
    seen = text
    while True:
        if not _safe(seen):
            raise Invalid(
                f"{shown(text)} cannot be the path of an artifact: it must be relative, without '.', '..', empty parts or backslashes.",
                param="path",
            )
        decoded = unquote(seen)
        if decoded == seen:
            break
        seen = decoded
    if len(text.encode()) > MAX_PATH:
        raise Invalid(f"The path of an artifact has {MAX_PATH} bytes at most; this one has {len(text.encode())}.", param="path")
    return text


def folder(text: str) -> str:
    """As `path`, but empty, '.' and a '/' at the end are understood too."""
    text = text.rstrip("/")
    return path(text) if text not in ("", ".") else ""


def shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _safe(text: str) -> bool:
    parts = text.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in text or re.match(r"[A-Za-z]:", text):
        return False
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        return False
    return not any(0xD800 <= ord(letter) < 0xE000 for letter in text)
