"""Blobs: what was stored comes back, under its name, once; on a folder and on an S3 server."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from obstore.store import S3Store

from drivetrain.errors import Invalid, NotFound, StorageFull
from drivetrain.store.blobs import Blob, Blobs, Names, key_of
from drivetrain.store.home import Home
from drivetrain.store.ids import now_ms
from drivetrain.store.migrate import migrate
from drivetrain.store.sql import Database
from tests.conftest import wait_for

MiB = 1 << 20


@pytest.fixture
def blobs(database: Database, home: Home) -> Blobs:
    return Blobs(database, str(home.blobs), min_free=0, scratch=home.cache)


def files(home: Home) -> list[str]:
    return sorted(path.name for path in home.blobs.rglob("*") if path.is_file())


def test_put_stat_read(blobs: Blobs, home: Home) -> None:
    data = b"what is up, doc?"
    blob = blobs.put([data[:5], data[5:]])
    assert blob.sha256 == hashlib.sha256(data).hexdigest()
    names = blobs.names(blob.sha256)
    assert names.git_sha1 == "bd9dbf5aae1a3862dd1526723246b20206e5fc37"  # of git's own book
    assert names.md5 == hashlib.md5(data).hexdigest()
    assert blobs.names(blob.sha256) == names
    assert blob.size == 16
    assert blob.md5 is None
    assert blobs.stat(blob.sha256) == Blob(blob.sha256, 16, names.md5)
    assert blobs.put([data], sha256=blob.sha256.upper(), size=16, md5=True) == Blob(blob.sha256, 16, names.md5)
    assert files(home) == [blob.sha256]
    assert b"".join(blobs.read(blob.sha256)) == data
    assert blobs.read_bytes(blob.sha256, 5, 7) == data[5:7]
    assert blobs.read_bytes(blob.sha256, 16) == b""
    for start, end in ((-1, 2), (3, 2), (0, 17)):
        with pytest.raises(Invalid, match="not within the 16 bytes"):
            blobs.read(blob.sha256, start, end)
    assert blobs.known([blob.sha256, "0" * 64, "../x"]) == {blob.sha256}
    path = blobs.local_path(blob.sha256)
    assert path is not None
    assert path.read_bytes() == data
    assert path.stat().st_mode & 0o222 == 0
    for wrong in ("0" * 64, "../../../etc/passwd", ""):
        with pytest.raises(NotFound):
            blobs.stat(wrong)
        with pytest.raises(NotFound):
            blobs.local_path("../" + wrong)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.binary(max_size=2000), max_size=6), told=st.booleans(), data=st.data())
def test_the_law_of_blobs(tmp_path: Path, home: Home, pieces: list[bytes], told: bool, data: st.DataObject) -> None:
    database = Database(f"sqlite:///{tmp_path}/law.db")
    migrate(database)
    blobs = Blobs(database, str(home.blobs), min_free=0, scratch=home.cache)
    whole = b"".join(pieces)
    upload = blobs.begin(size=len(whole) if told else None, md5=told)
    for piece in pieces:
        upload.write(piece)
    blob = upload.finish()
    assert blob.sha256 == hashlib.sha256(whole).hexdigest()
    assert blob.md5 == (hashlib.md5(whole).hexdigest() if told else None)
    git = hashlib.sha1(b"blob %d\0" % len(whole) + whole).hexdigest()
    assert blobs.names(blob.sha256) == Names(hashlib.md5(whole).hexdigest(), git)
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    assert blobs.read_bytes(blob.sha256, start, end) == whole[start:end]
    database.close()


def test_a_wrong_digest_or_size_changes_nothing(blobs: Blobs, home: Home) -> None:
    with pytest.raises(Invalid, match=r"sha256 is .* as announced"):
        blobs.put([b"abc"], sha256="0" * 64)
    with pytest.raises(Invalid, match="3 bytes; 4 were announced"):
        blobs.put([b"abc"], size=4)
    with pytest.raises(Invalid, match="more than the 2 bytes"):
        blobs.put([b"abc"], size=2)
    upload = blobs.begin()
    upload.write(b"abc")
    upload.abort()
    upload.abort()
    with pytest.raises(Invalid, match="has ended"):
        upload.write(b"d")
    with pytest.raises(Invalid, match="has ended"):
        upload.finish()

    def broken() -> Iterator[bytes]:
        yield b"abc"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        blobs.put(broken())
    assert files(home) == []
    assert blobs.known([hashlib.sha256(b"abc").hexdigest()]) == set()


def test_materialise(blobs: Blobs, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3 * MiB + 17))
    blob = blobs.put([source.read_bytes()])
    target = tmp_path / "model" / "weights" / "x.bin"
    blobs.materialise(blob.sha256, target)
    blobs.materialise(blob.sha256, target)  # over what is there
    assert target.read_bytes() == source.read_bytes()
    local = blobs.local_path(blob.sha256)
    assert local is not None
    assert target.samefile(local)
    assert [path.name for path in target.parent.iterdir()] == ["x.bin"]
    with pytest.raises(NotFound):
        blobs.materialise("0" * 64, tmp_path / "none")


def test_missing_bytes_are_said_and_healed(blobs: Blobs) -> None:
    blob = blobs.put([b"abc"])
    local = blobs.local_path(blob.sha256)
    assert local is not None
    local.unlink()
    with pytest.raises(NotFound, match="upload it again"):
        blobs.read_bytes(blob.sha256)
    assert blobs.local_path(blob.sha256) is None
    local.write_bytes(b"a")  # a damaged file system
    assert blobs.put([b"abc"]) == blob
    assert blobs.read_bytes(blob.sha256) == b"abc"


def test_sweep(blobs: Blobs, home: Home) -> None:
    keep, drop = blobs.put([b"keep"]), blobs.put([b"drop"])
    assert blobs.sweep({keep.sha256}, older_than_s=3600) == (0, 0)
    stray = home.blobs / key_of(hashlib.sha256(b"stray").hexdigest())
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"stray")
    unfinished = home.blobs / "incoming" / "unfinished"
    unfinished.write_bytes(b"un")
    for path in (stray, unfinished):
        os.utime(path, (0, 0))
    wait_for(lambda: blobs.sweep({keep.sha256}, older_than_s=0) == (1, 4), seconds=5, what="a sweep in a later millisecond")
    assert files(home) == [keep.sha256]
    assert blobs.known([keep.sha256, drop.sha256]) == {keep.sha256}
    with pytest.raises(NotFound):
        blobs.read(drop.sha256)
    assert blobs.put([b"drop"]) == drop
    assert blobs.read_bytes(drop.sha256) == b"drop"


@pytest.mark.slow
def test_sweep_and_put_at_once_never_lose_what_was_stored(blobs: Blobs) -> None:
    stop = time.monotonic() + 1.5

    def sweeping() -> int:
        count = 0
        while time.monotonic() < stop:
            blobs.sweep((), older_than_s=0)
            count += 1
        return count

    def putting(n: int) -> int:
        count = 0
        while time.monotonic() < stop:
            blobs.put([b"same %d" % (n % 2)])
            count += 1
        return count

    with ThreadPoolExecutor(4) as pool:
        sweeps = pool.submit(sweeping)
        puts = [pool.submit(putting, n) for n in range(3)]
        assert sweeps.result() > 0
        assert all(put.result() > 0 for put in puts)
    for n in range(2):
        blob = blobs.put([b"same %d" % n])
        assert blobs.read_bytes(blob.sha256) == b"same %d" % n
    blobs.sweep((), older_than_s=-10)
    assert files_of(blobs) == []


def files_of(blobs: Blobs) -> list[str]:
    return [entry.key for entry in blobs.objects.list("sha256")]


def test_discard_leaves_what_somebody_else_may_be_about_to_name(blobs: Blobs, home: Home) -> None:
    alone, again, asked, unknown = b"alone", b"again", b"asked", "0" * 64
    names = {data: blobs.put([data]).sha256 for data in (alone, again, asked)}
    blobs.put([again])
    blobs.known([names[asked]])
    every, now = [*names.values(), unknown], now_ms()
    assert blobs.discard(every, sent_until_ms=now - 60_000, older_than_s=3600) == {}
    assert blobs.discard(every, sent_until_ms=now, older_than_s=3600) == {names[alone]: 5}
    assert blobs.discard(every, sent_until_ms=now, older_than_s=3600) == {}
    assert files(home) == sorted([names[again], names[asked]])
    assert blobs.put([alone]).sha256 == names[alone]  # it is as if it had never been there
    assert blobs.discard([names[alone]], sent_until_ms=now_ms(), older_than_s=3600) == {names[alone]: 5}
    assert blobs.discard(every, sent_until_ms=now, older_than_s=-1) == {names[again]: 5, names[asked]: 5}
    assert files(home) == []


def test_a_discard_that_was_killed_in_the_middle_is_ended_by_the_next(blobs: Blobs, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    name = blobs.put([b"half gone"]).sha256

    def killed(key: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(blobs.objects, "delete", killed)
        blobs.discard([name], sent_until_ms=now_ms(), older_than_s=3600)
    with pytest.raises(NotFound):
        blobs.stat(name)
    assert files(home) == [name]
    assert blobs.discard([name], sent_until_ms=0, older_than_s=3600) == {name: 9}
    assert files(home) == []


def test_discard_and_put_at_once_never_lose_what_was_stored(blobs: Blobs) -> None:
    """Whoever has sent a blob, and then asks for it as a commit does, has it from then on."""
    datas = [bytes([n]) * 50 for n in range(4)]
    names = [hashlib.sha256(data).hexdigest() for data in datas]
    ended = threading.Event()

    def discard() -> None:
        while not ended.is_set():
            blobs.discard(names, sent_until_ms=now_ms(), older_than_s=3600)

    def send(n: int) -> None:
        for _ in range(15):
            while blobs.put([datas[n]]).sha256 not in blobs.known([names[n]]):
                pass  # it went between the two: the client is told so, and sends it again
            assert blobs.read_bytes(names[n]) == datas[n]

    with ThreadPoolExecutor(6) as pool:
        discarding = pool.submit(discard)
        try:
            for one in [pool.submit(send, n) for n in range(4)]:
                one.result()
        finally:
            ended.set()
        discarding.result()
    assert blobs.known(names) == set(names)


def test_parallel_uploads(blobs: Blobs) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: blobs.put([b"x" * 1000, b"%d" % (n % 10)]), range(100)))
    assert len({blob.sha256 for blob in made}) == 10
    assert blobs.known([blob.sha256 for blob in made]) == {blob.sha256 for blob in made}
    assert len(files_of(blobs)) == 10


def test_little_room_is_refused_before_and_in_the_middle(database: Database, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = Blobs(database, str(home.blobs), min_free=0, scratch=home.cache)
    with pytest.raises(StorageFull, match="Free some space"):
        blobs.begin(size=1 << 60)
    with pytest.raises(StorageFull, match="must stay free"):
        Blobs(database, str(home.blobs), min_free=1 << 60, scratch=home.cache).begin()
    upload = blobs.begin()
    free = blobs._min_free
    upload._min_free = 1 << 60  # somebody else fills the disk meanwhile
    with pytest.raises(StorageFull):
        for _ in range(100):
            upload.write(bytes(MiB))
    assert free == 0
    assert files(home) == []


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A real S3 server (moto's) in its own process; the URL of a bucket."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def up() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=5):
                return True
        except (OSError, urllib.error.URLError):
            return False

    environ = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "us-east-1",
    }
    try:
        wait_for(up, seconds=60, what="the S3 server")
        request = urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT")
        urllib.request.urlopen(request, timeout=10).close()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environ.items():
                patch.setenv(name, value)
            yield "s3://bucket/pre/fix"
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.slow
def test_on_an_s3_server(database: Database, home: Home, s3: str, tmp_path: Path) -> None:
    blobs = Blobs(database, f"{s3}/{database.kind}", min_free=0, scratch=home.cache)
    data = os.urandom(12 * MiB + 5)
    blob = blobs.put([data[: 7 * MiB], data[7 * MiB :]])
    assert blobs.put([data]) == blob
    assert files_of(blobs) == [key_of(blob.sha256)]
    assert blobs.read_bytes(blob.sha256) == data
    assert blobs.read_bytes(blob.sha256, 5 * MiB, 9 * MiB + 1) == data[5 * MiB : 9 * MiB + 1]
    assert blobs.read_bytes(blob.sha256, 3, 3) == b""
    empty = blobs.put([])
    assert blobs.read_bytes(empty.sha256) == b""
    assert blobs.local_path(blob.sha256) is None
    blobs.materialise(blob.sha256, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data
    with pytest.raises(Invalid):
        blobs.put([b"abc"], sha256="0" * 64)
    assert len(files_of(blobs)) == 2
    wait_for(lambda: blobs.sweep({blob.sha256}, older_than_s=0) == (1, 0), seconds=10, what="a sweep")
    assert files_of(blobs) == [key_of(blob.sha256)]
    store = S3Store("bucket", endpoint=os.environ["AWS_ENDPOINT_URL"], client_options={"allow_http": True})
    obstore.delete(store, f"pre/fix/{database.kind}/{key_of(blob.sha256)}")
    with pytest.raises(NotFound, match="missing"):
        blobs.read_bytes(blob.sha256)
    assert blobs.put([data]) == blob
    assert blobs.read_bytes(blob.sha256) == data
    assert list(home.cache.glob("incoming/*")) == []


def test_wrong_addresses_are_said(database: Database, home: Home) -> None:
    with pytest.raises(Invalid, match="no such kind of store"):
        Blobs(database, "ftp://somewhere", min_free=0, scratch=home.cache)
