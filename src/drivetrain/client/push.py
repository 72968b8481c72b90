"""Files into the registry: each is uploaded once, by its digest; those that the server has already are skipped."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from msgspec.structs import asdict

from drivetrain.answers.registry import Committed, Known
from drivetrain.client.http import Connection, Unreachable
from drivetrain.errors import Invalid, NotFound
from drivetrain.registry.model import Version

CHUNK = 1 << 20
ATTEMPTS = 5

Progress = Callable[[int, int, str], None]
"""done, total (bytes), and what is being done."""


class Pushed(Committed, frozen=True, kw_only=True):
    """What has become of files: `files` of them with so many `bytes`, of which so many were `uploaded`."""

    files: int
    bytes: int
    uploaded: int

    @property
    def registered(self) -> Version:
        """The version, where one was to be registered."""
        assert self.version is not None, "nothing was to be registered"
        return self.version


def collect(path: Path) -> dict[str, Path]:
    """The files of a folder by their path in it (or the one file by its name), less hidden ones. Raises `NotFound`, `Invalid`."""
    if path.is_file():
        return {path.name: path}
    if not path.is_dir():
        raise NotFound(f"There is no file or folder {str(path)!r} here. To fetch a Python package, write pypi:NAME.")
    found: dict[str, Path] = {}
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        for name in sorted(names):
            file = Path(folder) / name
            if not name.startswith(".") and file.is_file():
                found[file.relative_to(path).as_posix()] = file
    if not found:
        raise Invalid(f"There is no file in {str(path)!r}.")
    return found


def push(
    connection: Connection,
    files: Mapping[str, Path],
    name: str,
    *,
    kind: str = "model",
    message: str = "",
    description: str = "",
    source: str = "",
    run_id: str | None = None,
    tags: Mapping[str, str] | None = None,
    register: bool = True,
    progress: Progress | None = None,
) -> Pushed:
    """Upload what is missing, commit, and register a version. The same files again make no new commit, and no new version."""
    tell = progress or (lambda done, total, message: None)
    sizes = {path: file.stat().st_size for path, file in files.items()}
    total = sum(sizes.values())
    digests: dict[str, str] = {}
    done = 0
    for path, file in files.items():
        digests[path], done = _hash(file, done, total, tell), done + sizes[path]
    wanted = {digests[path]: sizes[path] for path in files}
    known = set(connection.answer(Known, "POST", "/api/v1/blobs/known", {"blobs": wanted}, again=True).known)
    missing = {digests[path]: file for path, file in files.items() if digests[path] not in known}
    to_send = sum(wanted[digest] for digest in missing)
    sent = 0
    for digest, file in missing.items():
        _upload(connection, digest, file, wanted[digest], sent, to_send, tell)
        sent += wanted[digest]
    body: dict[str, Any] = {"files": digests, "message": message or f"Import {len(files)} files", "create": True}
    if register:
        body["register"] = {"source": source, "description": description, "run_id": run_id, "tags": dict(tags or {})}
    answer = connection.answer(Committed, "POST", f"/api/v1/repos/{segment(name)}/commits", body, params={"kind": kind}, again=True)
    return Pushed(**asdict(answer), files=len(files), bytes=total, uploaded=to_send)


def segment(text: str) -> str:
    """`text` as one segment of a path."""
    return quote(text, safe="")


def _hash(file: Path, done: int, total: int, tell: Progress) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(4 * CHUNK):
            digest.update(chunk)
            done += len(chunk)
            tell(done, total, f"reading {file.name}")
    return digest.hexdigest()


def _upload(connection: Connection, digest: str, file: Path, size: int, before: int, total: int, tell: Progress) -> None:
    def chunks() -> Iterator[bytes]:
        sent = before
        with file.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                yield chunk
                sent += len(chunk)
                tell(sent, total, f"uploading {file.name}")

    for attempt in range(1, ATTEMPTS + 1):
        try:
            connection.json(
                "PUT",
                f"/api/v1/blobs/{digest}",
                content=chunks(),
                headers={"content-length": str(size), "content-type": "application/octet-stream"},
            )
            return
        except Unreachable:
            if attempt == ATTEMPTS:
                raise
            time.sleep(0.3 * 2**attempt)
