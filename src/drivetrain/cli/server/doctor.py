"""`drivetrain doctor`: is everything as it should be, and if not, what to do."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from drivetrain.cli import output
from drivetrain.cli.output import JsonFlag, console, size
from drivetrain.errors import DrivetrainError


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `state`: ok, warn (it works, but), bad (it does not)."""

    name: str
    state: str
    text: str


def doctor(
    home: Annotated[
        Path | None, typer.Option(help="The home to look at.", show_default="DRIVETRAIN_HOME or the user's data folder")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check the home, disk, memory, sockets, engines, database and server. Changes nothing. Exit code 1 if something is bad."""
    from drivetrain.config import default_home

    path = (home or default_home()).expanduser().absolute()
    findings = [finding for check in CHECKS for finding in _guarded(check, path)]
    bad = any(finding.state == "bad" for finding in findings)
    output.show({"ok": not bad, "home": str(path), "checks": findings}, lambda _: _table(findings, bad=bad), as_json=as_json)
    if bad:
        raise typer.Exit(output.FAILED)


def _table(findings: list[Finding], *, bad: bool) -> None:
    made = output.table("", "check", "finding")
    marks = {"ok": "ok", "warn": "look", "bad": "bad"}
    output.rows(made, [(output.state(marks[f.state]), f.name, f.text) for f in findings], empty="")
    console().print("Something is wrong: see above." if bad else "All is well.")


def _guarded(check: Callable[[Path], Iterator[Finding]], path: Path) -> list[Finding]:
    name = check.__name__.lstrip("_")
    try:
        return list(check(path))
    except DrivetrainError as error:
        return [Finding(name, "bad", error.message)]
    except OSError as error:
        return [Finding(name, "bad", f"{error.strerror or error} {error.filename or ''}".strip())]


def _python(_: Path) -> Iterator[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    yield Finding("python", "ok", f"{version} at {sys.executable}")


def _home(path: Path) -> Iterator[Finding]:
    from drivetrain.store.home import refuse_network

    if not path.exists():
        yield Finding("home", "ok", f"{path} is not there yet: drivetrain up makes it")
        return
    refuse_network(path)
    form = path / "format"
    if not form.is_file():
        foreign = any(path.iterdir())
        yield Finding("home", "bad" if foreign else "ok", f"{path} is {'no home, and not empty' if foreign else 'empty'}")
        return
    mode = path.stat().st_mode & 0o777
    key = path / "secret.key"
    if mode & 0o077:
        yield Finding("home", "warn", f"others on this machine can look into {path}: chmod 700 {path}")
    elif key.is_file() and key.stat().st_mode & 0o077:
        yield Finding("home", "bad", f"others on this machine can read {key}: chmod 600 {key}")
    else:
        yield Finding("home", "ok", f"{path} (format {form.read_text().strip()})")


def _disk(path: Path) -> Iterator[Finding]:
    from drivetrain.config import load

    there = next(p for p in (path, *path.parents) if p.exists())
    free = shutil.disk_usage(there).free
    least = load(path).min_free_disk_bytes
    state = "bad" if free < least else "warn" if free < 2 << 30 else "ok"
    yield Finding("disk", state, f"{size(free)} free; uploads are refused below {size(least)}")


def _memory(path: Path) -> Iterator[Finding]:
    import psutil

    from drivetrain.config import load

    memory = psutil.virtual_memory()
    share = load(path).memory_fraction
    state = "warn" if memory.available < 1 << 30 else "ok"
    yield Finding(
        "memory", state, f"{size(memory.available)} of {size(memory.total)} available; replicas may take {size(memory.total * share)}"
    )


def _sockets(path: Path) -> Iterator[Finding]:
    record = path / "runtime"
    folder = Path(record.read_text().strip()) if record.is_file() else Path(tempfile.gettempdir())
    if not folder.is_dir():
        yield Finding("sockets", "warn", f"{folder} is gone; the next start makes another")
        return
    if not record.is_file():
        yield Finding("sockets", "ok" if os.access(folder, os.W_OK) else "bad", f"will be made in {folder}")
        return
    name = folder / "doctor.sock"
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.bind(str(name))
        finally:
            name.unlink(missing_ok=True)
    yield Finding("sockets", "ok", str(folder))


def _engines(_: Path) -> Iterator[Finding]:
    from drivetrain.engines.table import ENGINES

    for engine in ENGINES:
        missing = [package for package in engine.packages if find_spec(package.module) is None]
        told = [f"{package.module} is not installed: {package.without}. pip install {package.install}" for package in missing]
        yield Finding(f"engine {engine.name}", "warn" if missing else "ok", " ".join(told) or f"serves {engine.serves}")


def _database(path: Path) -> Iterator[Finding]:
    from drivetrain.config import load
    from drivetrain.errors import Unavailable
    from drivetrain.store.health import examine

    url = load(path).database_url
    file = path / "drivetrain.db"
    if not url and not file.is_file():
        yield Finding("database", "ok", "SQLite; not there yet")
        return
    try:
        said = examine(url or f"sqlite:///{file}")
        yield Finding("database", "ok", said if url else f"{said}, {size(file.stat().st_size)}")
    except Unavailable as error:
        yield Finding("database", "bad", str(error))


def _server(path: Path) -> Iterator[Finding]:
    from drivetrain.client import Client, Unreachable
    from drivetrain.client.discovery import find, running

    url, token = running(path)
    found = find()
    if not url:
        url, token = found.url, found.api_key
    try:
        with Client(url, token, timeout=5.0) as client:
            client.health()
            yield Finding("server", "ok", f"answers at {client.url}")
    except Unreachable:
        yield Finding("server", "warn", f"none answers at {url}. Start one with: drivetrain up --home {path}")


CHECKS = (_python, _home, _disk, _memory, _sockets, _engines, _database, _server)
