"""How each protocol says which model it means, in one table.

| written | by whom | means |
|---|---|---|
| `name` | everybody | the latest version, or the head of `main` where nothing is registered |
| `workspace/name` | Hugging Face | the same, in a workspace |
| `name@ref`, `workspace/name@ref` | here | an alias, a version number, a tag, a branch or a commit, in that order |
| `name:tag`, `owner/name:version` | Ollama, Replicate | the same; `latest` is the latest version |
| `models:/name/3`, `models:/name/latest` | MLflow | that version number |
| `models:/name@alias` | MLflow | that alias, and nothing else |
| `ft:base:workspace:name:ref` | OpenAI | a fine-tuned model; the base is only for readers |

A repo has a *slug* (its canonical name, safe in paths and addresses) and a free *display name*; either one finds it.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from drivetrain.errors import Invalid
from drivetrain.reserved import RESERVED

MAX_SLUG = 96
MAX_NAME = 256
MAX_PATH = 1024

_SLUG = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_-])?")
_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,255}")
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]{0,254}")
_FORBIDDEN = re.compile(r"[/:@\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Name:
    """A parsed name. `want` narrows what `ref` may be: `any` kind of ref, only a `version` number, only an `alias`."""

    repo: str
    workspace: str | None = None
    ref: str | None = None
    want: Literal["any", "version", "alias"] = "any"

    def __str__(self) -> str:
        """The canonical text; `parse` of it gives an equal name."""
        if self.want != "any":
            return f"models:/{self.repo}{'/' if self.want == 'version' else '@'}{self.ref}"
        text = f"{self.workspace}/{self.repo}" if self.workspace else self.repo
        return f"{text}@{self.ref}" if self.ref is not None else text


def parse(text: str) -> Name:
    """Read a name in any of the forms of the table. Raises `Invalid`, whose message shows the forms."""
    if text.startswith("models:/"):
        return _mlflow(text)
    if text.startswith("ft:"):
        parts = text.split(":")
        if len(parts) != 5:
            raise Invalid(f"{_quoted(text)} is not the name of a fine-tuned model: ft:base:workspace:name:ref.", param="model")
        return Name(_repo(parts[3], text), _workspace(parts[2], text) if parts[2] else None, _ref(parts[4], text) if parts[4] else None)
    head, at, ref = text.partition("@")
    if not at:
        head, at, ref = text.partition(":")
    workspace, slash, repo = head.rpartition("/")
    return Name(
        _repo(repo, text),
        _workspace(workspace, text) if slash else None,
        _ref(ref, text) if at else None,
    )


def check_slug(text: str, *, what: str = "model") -> str:
    """`text`, if it can be the canonical name of a model's repo or a deployment. Raises `Invalid`."""
    if not _SLUG.fullmatch(text) or ".." in text:
        raise Invalid(
            f"{_quoted(text)} cannot be the name of a {what}: use 1 to {MAX_SLUG} letters, digits, '.', '_' and '-', beginning with a "
            "letter or digit.",
            param="name",
        )
    if text.lower() in RESERVED:
        raise Invalid(f"{text!r} is a word of the server's addresses: choose another name for the {what}, as {text}-1.", param="name")
    return text


def check_name(text: str) -> str:
    """`text`, if it can be the display name of a repo. Raises `Invalid`."""
    if not text.strip() or text in (".", "..") or len(text) > MAX_NAME or _FORBIDDEN.search(text):
        raise Invalid(
            f"{_quoted(text)} cannot be the name of a model: it must not be empty, '.' or '..', nor longer than {MAX_NAME} characters, "
            "nor contain '/', ':', '@' or control characters.",
            param="name",
        )
    return text


def slug_of(name: str) -> str:
    """A slug for a display name: the name itself where that is one, else what is left of it in plain letters."""
    try:
        return check_slug(name)
    except Invalid:
        pass
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9_-]+", "-", plain).strip("-_")[: MAX_SLUG - 10].strip("-_")
    if not slug or slug in RESERVED:
        slug = f"{slug}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".strip("-")
    return slug


def check_alias(text: str) -> str:
    """`text`, if it can be an alias. `latest` and `v<digits>` always mean versions. Raises `Invalid`."""
    if not _ALIAS.fullmatch(text):
        raise Invalid(f"{_quoted(text)} cannot be an alias: use 1 to 255 letters, digits, '_' and '-'.", param="alias")
    if text.lower() == "latest" or re.fullmatch(r"[vV]\d+", text):
        raise Invalid(f"{text!r} cannot be an alias: 'latest' and 'v<number>' always mean a version.", param="alias")
    return text


def is_alias(text: str) -> bool:
    """Whether `text` can be an alias here. Other protocols have others as well (`latest`, `best.one`): these are theirs alone."""
    try:
        check_alias(text)
    except Invalid:
        return False
    return True


def check_ref(text: str) -> str:
    """`text`, if it can be a branch or tag. Raises `Invalid`."""
    return _ref(text, text)


def check_path(text: str) -> str:
    """`text`, if it can be the path of a file in a commit: relative, in normal form, safe on every system. Raises `Invalid`."""
    parts = text.split("/")
    bad = any(part in ("", ".", "..") for part in parts) or "\\" in text or any(ord(c) < 32 or ord(c) == 127 for c in text)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        bad, size = True, 0
    if bad or size > MAX_PATH or re.match(r"[A-Za-z]:", text):
        raise Invalid(
            f"{_quoted(text)} cannot be the path of a file: it must be relative, with '/' between its parts, without '.', '..' or empty "
            f"parts, and no longer than {MAX_PATH} bytes.",
            param="path",
        )
    return text


def version_number(ref: str) -> int | None:
    """The number that `3` or `v3` means; None if `ref` is neither."""
    found = re.fullmatch(r"[vV]?(\d{1,9})", ref, re.ASCII)
    return int(found[1]) if found else None


def _mlflow(text: str) -> Name:
    rest = text.removeprefix("models:/").lstrip("/")
    if "@" in rest:
        repo, _, ref = rest.partition("@")
        return Name(_repo(repo, text), None, check_alias(ref), "alias")
    repo, slash, ref = rest.partition("/")
    if not slash:
        if re.fullmatch(r"m-[0-9a-f]{32}", repo):
            raise Invalid(f"{text!r} is a logged model, not a registered one: register it first, and use its name.", param="model")
        return Name(_repo(repo, text))
    if ref != "latest" and version_number(ref) is None:
        raise Invalid(
            f"{_quoted(text)}: {_quoted(ref)} is not a version number. Write models:/name/3 or models:/name@alias.", param="model"
        )
    return Name(_repo(repo, text), None, ref, "version")


def _repo(text: str, whole: str) -> str:
    try:
        return check_name(text)
    except Invalid:
        raise _unreadable(whole) from None


def _workspace(text: str, whole: str) -> str:
    if not _SLUG.fullmatch(text):
        raise _unreadable(whole)
    return text


def _ref(text: str, whole: str) -> str:
    if not _REF.fullmatch(text) or ".." in text:
        raise _unreadable(whole)
    return text


def _unreadable(text: str) -> Invalid:
    return Invalid(
        f"{_quoted(text)} is not the name of a model. Write name, name@alias, name:tag, workspace/name, models:/name/3 "
        "or models:/name@alias.",
        param="model",
    )


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
