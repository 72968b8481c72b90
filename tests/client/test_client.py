"""The native client against a real server."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from drivetrain.client import Client, Unreachable
from drivetrain.client.discovery import find
from drivetrain.errors import Conflict, Forbidden, Invalid, NotFound, StorageFull, TooLarge, Unauthenticated
from drivetrain.store.ids import uuid7
from tests.conftest import Server

pytestmark = pytest.mark.slow


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url, server.token) as it:
        yield it


def folder(path: Path, **files: str) -> Path:
    for name, text in files.items():
        target = path / name.replace("__", "/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return path


@pytest.mark.smoke
def test_a_folder_goes_in_and_comes_out(client: Client, tmp_path: Path) -> None:
    source = folder(tmp_path / "model", **{"a.txt": "a", "deep__er__b.bin": "b" * 3_000_000, ".hidden": "no"})
    seen: list[tuple[int, int, str]] = []
    pushed = client.push(source, "folder", progress=lambda *told: seen.append(told))
    assert (pushed.registered.number, pushed.created, pushed.files) == (1, True, 2)
    assert pushed.uploaded == pushed.bytes
    assert seen[-1][0] == seen[-1][1] == pushed.bytes
    target = tmp_path / "b.bin"
    assert client.models.download("folder", "deep/er/b.bin", target, ref="1") == 3_000_000
    assert target.read_bytes() == (source / "deep/er/b.bin").read_bytes()
    assert set(client.models.files("folder").files) == {"a.txt", "deep/er/b.bin"}


def test_only_what_is_missing_is_sent(client: Client, tmp_path: Path) -> None:
    source = folder(tmp_path / "model", weights=os.urandom(8).hex(), config=os.urandom(8).hex())
    first = client.push(source, "again")
    same = client.push(source, "again")
    assert (same.created, same.uploaded, same.commit.id) == (False, 0, first.commit.id)
    (source / "config").write_text("new")
    third = client.push(source, "again")
    assert (third.registered.number, third.uploaded) == (2, 3)
    assert [v.number for v in client.models.versions("again")] == [2, 1]


def test_two_that_push_the_same_at_once_agree(client: Client, server: Server, tmp_path: Path) -> None:
    source = folder(tmp_path / "model", weights=os.urandom(500_000).hex())
    results: list[str] = []

    def push() -> None:
        with Client(server.url, server.token) as mine:
            results.append(mine.push(source, "raced").commit.id)

    threads = [threading.Thread(target=push) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert len(set(results)) == 1


def test_aliases_and_names(client: Client, tmp_path: Path) -> None:
    client.push(folder(tmp_path / "m", w=os.urandom(8).hex()), "named")
    client.models.set_alias("named", "champion", 1)
    for name in ("named@champion", "models:/named/1", "default/named:latest"):
        found = client.models.resolve(name).version
        assert found is not None and found.number == 1
    client.models.delete_alias("named", "champion")
    with pytest.raises(NotFound, match="named"):
        client.models.resolve("named@champion")
    client.models.delete("named")
    with pytest.raises(NotFound):
        client.models.get("named")


def test_a_wrong_digest_changes_nothing(client: Client) -> None:
    right = hashlib.sha256(b"right").hexdigest()
    with pytest.raises(Invalid, match="sha256"):
        client.connection.json("PUT", f"/api/v1/blobs/{right}", content=iter([b"wrong"]))
    assert client.connection.json("POST", "/api/v1/blobs/known", {"blobs": {right: 5}}) == {"known": []}
    with pytest.raises(Invalid, match="not uploaded"):
        client.connection.json("POST", "/api/v1/repos/never/commits", {"files": {"x": right}, "create": True})
    with pytest.raises(NotFound):
        client.models.get("never")


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a//b", "a\\b", "a/../../b"])
def test_paths_that_leave_their_place_change_nothing(client: Client, path: str) -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    client.connection.json("PUT", f"/api/v1/blobs/{digest}", content=iter([b"x"]))
    with pytest.raises(Invalid, match="path"):
        client.connection.json("POST", "/api/v1/repos/never/commits", {"files": {path: digest}, "create": True})
    with pytest.raises(NotFound):
        client.models.get("never")


def test_what_is_too_large_is_refused_before_it_is_sent(client: Client) -> None:
    with pytest.raises(TooLarge, match="upload_max_bytes"):
        client.connection.json("POST", "/api/v1/blobs/known", {"blobs": {"0" * 64: 1 << 50}})
    with pytest.raises(StorageFull, match="disk"):
        client.connection.json("POST", "/api/v1/blobs/known", {"blobs": {f"{i:064x}": 100 << 30 for i in range(2000)}})


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"files": {"a": 1}}', b'{"files": 3}', b"\xff"])
def test_malformed_bodies_are_the_senders_fault(server: Server, body: bytes) -> None:
    answer = httpx.post(f"{server.url}/api/v1/repos/x/commits", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]


def test_ranges_of_files(client: Client, server: Server, tmp_path: Path) -> None:
    client.push(folder(tmp_path / "m", **{"a b.txt": "0123456789"}), "ranged")
    url = f"{server.url}/api/v1/repos/ranged/files/a%20b.txt"
    part = httpx.get(url, headers={"range": "bytes=2-4"})
    assert (part.status_code, part.text, part.headers["content-range"]) == (206, "234", "bytes 2-4/10")
    whole = httpx.get(url)
    assert whole.text == "0123456789"
    assert "attachment" in whole.headers["content-disposition"]
    assert httpx.get(f"{server.url}/api/v1/repos/ranged/files/nope").status_code == 404


def test_other_workspaces_are_closed(client: Client, server: Server, tmp_path: Path) -> None:
    client.push(folder(tmp_path / "m", weights="mine alone"), "secret")
    client.workspaces.create("elsewhere")
    digest = hashlib.sha256(b"mine alone").hexdigest()
    with Client(server.url, server.token, workspace="elsewhere") as there:
        assert there.models.list() == []
        with pytest.raises(NotFound):
            there.models.get("secret")
        # Knowing a digest is not having the bytes.
        assert there.connection.json("POST", "/api/v1/blobs/known", {"blobs": {digest: 10}}) == {"known": []}
        with pytest.raises(Invalid, match="not uploaded"):
            there.connection.json("POST", "/api/v1/repos/thief/commits", {"files": {"w": digest}, "create": True})


def test_the_client_finds_the_server_of_a_home(server: Server) -> None:
    found = find(environ={"DRIVETRAIN_HOME": str(server.home)})
    assert (found.url, found.api_key) == (server.url, server.token)
    named = find(environ={"DRIVETRAIN_HOME": str(server.home), "DRIVETRAIN_URL": "http://elsewhere:1"})
    assert (named.url, named.api_key) == ("http://elsewhere:1", "")  # the token stays at home
    same = find(environ={"DRIVETRAIN_HOME": str(server.home), "DRIVETRAIN_URL": server.url + "/"})
    assert same.api_key == server.token


def test_a_server_that_has_gone_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text('{"url": "http://127.0.0.1:1", "pid": 4194303, "token": "t"}')
    found = find(environ={"DRIVETRAIN_HOME": str(tmp_path)})
    assert (found.url, found.api_key) == ("http://127.0.0.1:8787", "")


def test_nobody_there() -> None:
    with Client("http://127.0.0.1:1", "") as nobody, pytest.raises(Unreachable, match="drivetrain up"):
        nobody.health()


def test_feedback_for_an_unknown_answer(client: Client) -> None:
    with pytest.raises(NotFound, match="x-request-id"):
        client.requests.lineage(uuid7())
    with pytest.raises(Invalid):
        client.requests.lineage("nope")


def test_keys_are_required_when_it_is_said(new_server: Callable[..., Server]) -> None:
    server = new_server()
    with Client(server.url, server.token) as owner:
        admin = owner.keys.create(scopes=["read", "write", "invoke", "admin"]).secret
        reader = owner.keys.create(scopes=["read"], name="reader")
        owner.keys.set_auth("keys")
    with Client(server.url, "") as nobody, pytest.raises(Unauthenticated):
        nobody.models.list()
    with Client(server.url, "dt-" + "x" * 40) as stranger, pytest.raises(Unauthenticated):
        stranger.models.list()
    with Client(server.url, reader.secret) as mine:
        assert mine.models.list() == []
        with pytest.raises(Forbidden, match="write"):
            mine.models.create("x")
    with Client(server.url, admin) as owner:
        owner.models.create("x")
        with pytest.raises(Conflict):
            owner.models.create("x")
        owner.keys.revoke(reader.key.id)
    with Client(server.url, reader.secret) as gone, pytest.raises(Unauthenticated):
        gone.models.list()


def test_patience_outlasts_a_restart(new_server: Callable[..., Server]) -> None:
    server = new_server()
    port = server.url.rpartition(":")[2]
    server.arguments = ("--port", port)
    server.stop()
    asked: list[object] = []
    with Client(server.url, "", patience=60) as client:
        asking = threading.Thread(target=lambda: asked.append(client.models.list()))
        asking.start()
        server.start()
        asking.join(60)
    assert asked == [[]]
