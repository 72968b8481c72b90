"""The settings: one typed object, read once.

Order of precedence: what the command line says, environment `DRIVETRAIN_<NAME>`, `drivetrain.toml` in the home, the default.
"""

from __future__ import annotations

import os
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from drivetrain.errors import Invalid

MiB = 1 << 20
GiB = 1 << 30


def _setting(default: Any, doc: str) -> Any:
    return field(default=default, metadata={"doc": doc})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be set. `doc(name)` says what a setting means and in which unit."""

    home: Path = field(default=Path(), metadata={"doc": "Folder that holds everything: database, blobs, events, logs. Also --home."})
    host: str = _setting("127.0.0.1", "Address to listen on. Anything but loopback needs auth = keys.")
    port: int = _setting(8787, "Port to listen on; 0 takes a free one.")
    web: int = _setting(1, "Number of web processes.")
    listen: tuple[str, ...] = _setting((), "More ports for one dialect each, as PORT=DIALECT (11434=ollama).")
    allowed_hosts: tuple[str, ...] = _setting((), "Host names, beyond loopback and the bind address, that requests may be addressed to.")
    database_url: str = _setting("", "postgresql://… ; empty: SQLite in the home.")
    blobs_url: str = _setting("", "s3://, gs://, az:// or a folder for blobs; empty: the folder blobs/ in the home.")
    log_level: Literal["debug", "info", "warning", "error"] = _setting("info", "How much the server writes to its logs.")
    min_free_disk_bytes: int = _setting(64 * MiB, "Uploads are refused when less than this would remain free on the disk of the home.")
    max_body_bytes: int = _setting(32 * MiB, "Largest JSON body of a request (uploads of files stream and have no such limit).")
    upload_max_bytes: int = _setting(200 * GiB, "Largest single uploaded file.")
    session_hours: float = _setting(72.0, "How long a browser stays signed in.")
    signed_url_seconds: int = _setting(24 * 3600, "How long a signed upload or download address is good: an upload may wait for its turn.")
    event_fsync_seconds: float = _setting(0.1, "Longest time between an event's write and its fsync.")
    event_segment_seconds: float = _setting(10.0, "A spool file that old is closed and turned into a Parquet segment.")
    event_segment_bytes: int = _setting(16 * MiB, "A spool file that large is closed and turned into a Parquet segment.")
    event_retention_days: float = _setting(90.0, "Event segments older than this are deleted.")
    queue_limit: int = _setting(64, "Requests that may wait for a replica of one deployment before others are refused with 429.")
    queue_seconds: float = _setting(60.0, "Longest time that a request waits for a replica (its start included).")
    request_seconds: float = _setting(600.0, "Longest time that a replica may take for one answer.")
    idle_stop_seconds: float = _setting(600.0, "A replica that was started on demand stops after so long without a request; 0: never.")
    start_seconds: float = _setting(180.0, "A replica that is not ready after so long has failed to start.")
    drain_seconds: float = _setting(20.0, "How long a stopping replica or server may take to finish what it has begun.")
    memory_fraction: float = _setting(0.85, "Share of the machine's memory that replicas together may be admitted to.")
    threads: int = _setting(0, "Threads of a replica on the CPU; 0: the number of cores.")
    wait_policy: Literal["auto", "active", "passive"] = _setting(
        "auto", "OpenMP waiting of replicas: active spins (fast on idle machines), passive yields; auto: passive below 8 cores."
    )
    parallel: int = _setting(8, "Requests that one text replica works on at once.")
    context_tokens: int = _setting(4096, "Context length of one slot of a text replica, unless the model's own is shorter.")
    pip_args: tuple[str, ...] = _setting((), "Extra arguments of pip when jobs download packages or build environments.")
    jobs: int = _setting(2, "Jobs that run at once.")
    job_attempts: int = _setting(3, "How often a job that died is started again before it counts as failed.")


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """What the native client and the CLI need to find a server: DRIVETRAIN_URL and DRIVETRAIN_API_KEY."""

    url: str = _setting("http://127.0.0.1:8787", "Address of the server that the native client and the CLI speak to.")
    api_key: str = field(default="", repr=False, metadata={"doc": "Key that the native client and the CLI use."})
    workspace: str = _setting("", "Workspace that the native client and the CLI work in; empty: the key's own.")


def default_home(environ: Mapping[str, str] = os.environ) -> Path:
    """DRIVETRAIN_HOME, else the user's data folder."""
    if named := environ.get("DRIVETRAIN_HOME"):
        return Path(named).expanduser().absolute()
    if data := environ.get("XDG_DATA_HOME"):
        return Path(data) / "drivetrain"
    return Path.home() / ".local" / "share" / "drivetrain"


def load(home: Path | None = None, *, environ: Mapping[str, str] = os.environ, **overrides: Any) -> Settings:
    """Read the settings. Raises `Invalid` for a name that does not exist or a value of the wrong type."""
    home = (home or default_home(environ)).expanduser().absolute()
    values: dict[str, Any] = {}
    file = home / "drivetrain.toml"
    known = {f.name for f in fields(Settings)} - {"home"}
    if file.is_file():
        try:
            table = tomllib.loads(file.read_text())
        except tomllib.TOMLDecodeError as error:
            raise Invalid(f"{file} is not valid TOML: {error}") from error
        for name, value in table.items():
            if name not in known:
                raise Invalid(f"{file}: there is no setting {name!r}. The settings are listed in docs/reference/settings.md.")
            values[name] = value
    for name in known:
        if (text := environ.get(f"DRIVETRAIN_{name.upper()}")) is not None:
            values[name] = text
    values.update({name: value for name, value in overrides.items() if value is not None})
    hints = typing.get_type_hints(Settings)
    return Settings(home=home, **{name: _coerce(name, value, hints[name]) for name, value in values.items()})


def load_client(*, environ: Mapping[str, str] = os.environ) -> ClientSettings:
    """The client's settings, from the environment."""
    given = {f.name: environ[f"DRIVETRAIN_{f.name.upper()}"] for f in fields(ClientSettings) if f"DRIVETRAIN_{f.name.upper()}" in environ}
    return ClientSettings(**given)


def doc(name: str, of: type[Settings | ClientSettings] = Settings) -> str:
    return str(next(f.metadata["doc"] for f in fields(of) if f.name == name))


def _coerce(name: str, value: Any, hint: Any) -> Any:
    try:
        if typing.get_origin(hint) is Literal:
            if value not in typing.get_args(hint):
                raise ValueError
            return value
        if typing.get_origin(hint) is tuple:
            return tuple(v for v in value.replace(",", " ").split()) if isinstance(value, str) else tuple(str(v) for v in value)
        if isinstance(value, bool):
            raise ValueError
        return hint(value)
    except (TypeError, ValueError):
        wanted = " | ".join(typing.get_args(hint)) if typing.get_origin(hint) is Literal else getattr(hint, "__name__", str(hint))
        raise Invalid(f"setting {name!r}: {value!r} is not a {wanted}", param=name) from None
