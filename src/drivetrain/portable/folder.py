"""The folder that a run is exported to, and what may be read out of one that somebody else made.

| file | what |
|---|---|
| `manifest.json` | format, version, size and sha256 of every other file; it is written last |
| `run.json` | identity, experiment, status, times, tags, params, nested config, summary, inputs, source; what follows is counted in it |
| `metrics/part-*.parquet` | every point: key, step, timestamp_ms, value; ordered by these |
| `system/part-*.parquet` | system metrics in the same form |
| `rows.jsonl` | what rows of history hold that is no number, by `_step` |
| `console.jsonl` | console lines: number, level, time, text |
| `artifacts/…` | the run's files, media among them |
| `models/<id>/model.json`, `models/<id>/files/…` | models that the run logged |

In JSON, NaN and infinities stand as Python writes them: NaN, Infinity, -Infinity.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from drivetrain.errors import Invalid, NotFound

Json = dict[str, Any]
FORMAT, VERSION = "drivetrain run", 1
MANIFEST, RUN, ROWS, CONSOLE = "manifest.json", "run.json", "rows.jsonl", "console.jsonl"
METRICS, SYSTEM, ARTIFACTS, MODELS = "metrics", "system", "artifacts", "models"
CHUNK = 1 << 20
MAX_JSON = 1 << 30
_LONGEST_NAME = 255


def dumps(value: Any, *, indent: int | None = None) -> bytes:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:  # half a surrogate pair: JSON can name it, UTF-8 cannot
        return json.dumps(value, indent=indent).encode()


def safe(path: str) -> bool:
    """Whether a path stays in its folder, on every system."""
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in path or path[1:2] == ":":
        return False
    return not any(ord(letter) < 32 or ord(letter) == 127 or 0xD800 <= ord(letter) < 0xE000 for letter in path)


def place(folder: str, path: str) -> str:
    """Where in an export a file is put. What no file system takes as a name goes by its digest. Raises `Invalid` for a way out."""
    if not safe(path):
        raise Invalid(f"{path[:80]!r} cannot be the path of a file.")
    if any(len(part.encode()) > _LONGEST_NAME for part in path.split("/")):
        return f"{folder}.long/{hashlib.sha256(path.encode()).hexdigest()}"
    return f"{folder}/{path}"


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write a file that is there completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name[:200]}.new")
    try:
        with new.open("wb") as file:
            yield file
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def digest(path: Path) -> tuple[int, str]:
    """(size, sha256)."""
    found, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(4 * CHUNK):
            found.update(piece)
            size += len(piece)
    return size, found.hexdigest()


def manifest(files: Mapping[str, tuple[int, str]]) -> bytes:
    listed = {path: {"size": size, "sha256": sha256} for path, (size, sha256) in sorted(files.items())}
    return dumps({"format": FORMAT, "version": VERSION, "files": listed}, indent=1)


def regular(root: Path, path: str) -> Path:
    """A file below `root`, with no link on the way. Raises `Invalid`, `NotFound`."""
    if not safe(path):
        raise Invalid(f"{path[:80]!r} leads out of {root}: this folder was not made by an export.")
    at = root
    for part in path.split("/"):
        at = at / part
        try:
            mode = at.lstat().st_mode
        except OSError:
            raise NotFound(f"{path!r} is missing in {root}: copy the folder again.") from None
        if stat.S_ISLNK(mode):
            raise Invalid(f"{at} is a link: only files that are there themselves are read.")
    if not stat.S_ISREG(mode):
        raise Invalid(f"{at} is no file.")
    return at


def read_json(path: Path) -> Json:
    """Raises `Invalid`."""
    try:
        if path.stat().st_size > MAX_JSON:
            raise Invalid(f"{path} is larger than {MAX_JSON >> 20} MiB.")
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Invalid(f"{path} is no JSON object: copy the folder again.")
    return found


def read_manifest(root: Path) -> dict[str, tuple[int, str]]:
    """path → (size, sha256). Raises `Invalid` for what this version cannot read."""
    found = read_json(regular(root, MANIFEST))
    if found.get("format") != FORMAT or not isinstance(found.get("files"), dict):
        raise Invalid(f"{root} holds no run that drivetrain has exported.")
    if found.get("version") != VERSION:
        raise Invalid(f"{root} has version {found.get('version')!r} of the format, and {VERSION} is known here: use a newer drivetrain.")
    files: dict[str, tuple[int, str]] = {}
    for path, one in found["files"].items():
        if not isinstance(one, dict) or not isinstance(one.get("size"), int) or not isinstance(one.get("sha256"), str) or not safe(path):
            raise Invalid(f"The manifest of {root} does not fit at {path[:80]!r}.")
        files[path] = (one["size"], one["sha256"])
    return files


def is_export(root: Path) -> bool:
    return os.path.lexists(root / MANIFEST) and os.path.lexists(root / RUN)
