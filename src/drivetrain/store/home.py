"""The home: one folder that holds everything a server keeps.

format            number of the layout; a newer one than we know is refused
drivetrain.toml   settings (the user's file)
drivetrain.db     SQLite, unless `database_url` says otherwise
secret.key        32 bytes, mode 0600: signs and encrypts
server_id         names this home among several servers on one database
runtime           path of a short folder for Unix sockets (their paths may have 107 bytes at most)
server.json       address, process id and token of the server that runs here now
blobs/ spool/ logs/ cache/ backups/
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from drivetrain.errors import Conflict, Invalid, NotFound, StorageFull
from drivetrain.store.files import FULL, write_file
from drivetrain.store.ids import uuid7

FORMAT = 1
RUNTIME_LENGTH = 40
"""Longest path of the runtime folder: leaves 67 bytes for the names of sockets."""

_FOLDERS = ("blobs", "spool", "logs", "cache", "backups")
_BEGUN = frozenset({"drivetrain.toml", "lost+found", "server.json", "secret.key", "server_id", "runtime", *_FOLDERS})
"""What a folder may hold that is to become a home: the user's settings, and what a start that was cut off has left."""
_NETWORK = re.compile(
    "nfs|cifs|smb|afp|webdav|ceph|glusterfs|lustre|gpfs|beegfs|afs|9p|fuse.(sshfs|rclone|s3fs|gcsfuse|goofys|ceph|glusterfs)"
)


class Home:
    """An open home. Open it with `Home.open`; it holds no lock until `lock()`."""

    def __init__(self, path: Path, *, secret: bytes, server_id: str, runtime: Path) -> None:
        self.path = path
        self.secret = secret
        self.server_id = server_id
        self.runtime = runtime
        self.database_url = f"sqlite:///{path / 'drivetrain.db'}"
        self.blobs = path / "blobs"
        self.spool = path / "spool"
        self.logs = path / "logs"
        self.cache = path / "cache"
        self.backups = path / "backups"
        self.server_file = path / "server.json"

    @classmethod
    def open(cls, path: Path, *, create: bool = True) -> Home:
        """Open the home at `path`; make it first if it is not there and `create` is true.

        Raises NotFound (no home there), Invalid (not a home, a newer format, a network file system), StorageFull.
        """
        path = path.expanduser().absolute()
        if not path.is_dir() and not create:
            raise NotFound(
                f"There is no drivetrain home at {path}. Name another with --home, or make one with: drivetrain up --home {path}"
            )
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = path.resolve()
            refuse_network(path)
            # Two processes may make one home at the same moment; this lock is short, `lock()` is the long one.
            with _flock(path / ".setup.lock"):
                return cls._open(path, create=create)
        except OSError as error:
            if error.errno in FULL:
                raise StorageFull(f"The disk of {path} is full: the home cannot be opened. Free some space and try again.") from error
            raise Invalid(
                f"The home {path} cannot be used: {error.strerror or error}. Check its owner and permissions, or name another."
            ) from error

    @classmethod
    def _open(cls, path: Path, *, create: bool) -> Home:
        format_file = path / "format"
        try:
            _check_format(path, format_file.read_text())
        except FileNotFoundError:
            others = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith(".") and entry.name not in _BEGUN)
            if others:
                advice = f"it has no file 'format' but contains {', '.join(others[:3])}. Name an empty or a new folder with --home."
                raise Invalid(f"{path} is not a drivetrain home: {advice}") from None
            if not create:
                raise NotFound(f"{path} is not a drivetrain home yet. Make it one with: drivetrain up --home {path}") from None
        secret_file = path / "secret.key"
        if not secret_file.exists():
            write_file(secret_file, secrets.token_bytes(32), mode=0o600)
        secret = secret_file.read_bytes()
        if len(secret) != 32:
            raise Invalid(f"{secret_file} is damaged: it must have 32 bytes, not {len(secret)}. Put the one from a backup in its place.")
        id_file = path / "server_id"
        if not id_file.exists():
            write_file(id_file, uuid7().encode())
        for name in _FOLDERS:
            (path / name).mkdir(mode=0o700, exist_ok=True)
        runtime = _runtime(path / "runtime")
        if not format_file.exists():
            write_file(format_file, f"{FORMAT}\n".encode())  # last: a home with this file is complete
        return cls(path, secret=secret, server_id=id_file.read_text().strip(), runtime=runtime)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the home for one server (or one offline command). Raises Conflict if somebody else holds it."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
                raise Conflict(
                    f"Another drivetrain (process {pid or 'unknown'}) is using the home {self.path}. Use that one, stop it, or name "
                    f"another home with --home."
                ) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)


def refuse_network(path: Path, mounts: Iterable[tuple[str, str]] | None = None) -> None:
    """Raise Invalid if `path` is on a network file system, where locks and SQLite's shared memory cannot be trusted.

    `mounts` are pairs of mount point and file system type; those of this machine if not given.
    """
    if mounts is None:
        import psutil

        mounts = [(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)]
    text = str(path)
    best = ("", "")
    for mountpoint, kind in mounts:
        inside = text == mountpoint or text.startswith(mountpoint.rstrip("/") + "/")
        if inside and len(mountpoint) >= len(best[0]):
            best = (mountpoint, kind.lower())
    # Some sandboxes show their whole (local) root as 9p.
    if _NETWORK.match(best[1]) and best != ("/", "9p"):
        raise Invalid(
            f"{path} is on a network file system ({best[1]}, mounted at {best[0]}), where a database cannot be kept safely. Put the home "
            f"on a local disk, and what must be shared into PostgreSQL (database_url) and an object store (blobs_url)."
        )


def _check_format(path: Path, text: str) -> None:
    try:
        number = int(text)
    except ValueError:
        raise Invalid(
            f"{path / 'format'} is damaged: it must hold the number of the home's format (this version writes {FORMAT})."
        ) from None
    if number > FORMAT:
        raise Invalid(
            f"The home {path} was written by a newer drivetrain (format {number}; this one knows {FORMAT}). Upgrade drivetrain, or restore "
            f"a backup that this version made into another home."
        )


def _runtime(record: Path) -> Path:
    """The folder for sockets that `record` names, if it is still there and ours; else a new one."""
    if record.exists():
        folder = Path(record.read_text().strip())
        try:
            status = folder.lstat()
        except FileNotFoundError:
            pass
        else:
            # Somebody else could have put a folder or link of that name into /tmp after a reboot.
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) == 0o700:
                return folder
    for parent in (os.environ.get("XDG_RUNTIME_DIR"), "/tmp", tempfile.gettempdir()):  # noqa: S108 - a private folder is made in it
        if parent and len(parent) + len("/dt-12345678") <= RUNTIME_LENGTH and os.access(parent, os.W_OK | os.X_OK):
            folder = Path(tempfile.mkdtemp(prefix="dt-", dir=parent))
            write_file(record, str(folder).encode())
            return folder
    raise Invalid(f"No writable folder with a short path for sockets: set TMPDIR to one of at most {RUNTIME_LENGTH - 12} characters.")


@contextmanager
def _flock(file: Path) -> Iterator[None]:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
