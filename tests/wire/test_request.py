"""What a dialect has of a request: bodies, uploads, streams, ranges; and clients that leave."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
from pathlib import Path

import httpx
import pytest

from tests.conftest import wait_for
from tests.wire.running import Running


def uploads(wire: Running) -> list[Path]:
    """Files of uploads that are on their way."""
    folder = wire.blobs.objects.scratch
    return list(folder.iterdir()) if folder.exists() else []


class TestBodies:
    def test_as_it_was_sent(self, wire: Running) -> None:
        with wire.client() as client:
            answer = client.post("/echo/body", content=b"\0\xffabc")
            assert (answer.content, answer.headers["content-type"], answer.headers["x-extra"]) == (b"\0\xffabc", "text/plain", "1")
            assert client.post("/echo/body", content=(piece for piece in [b"a" * 400, b"b" * 400])).text == "a" * 400 + "b" * 400
            assert client.post("/echo/body").content == b""

    def test_too_large(self, wire: Running) -> None:
        with wire.client() as client:
            for body in (b"x" * 1001, (b"x" * 400 for _ in range(4))):
                answer = client.post("/echo/body", content=body)
                assert (answer.status_code, "max_body_bytes" in answer.text) == (413, True)
            assert client.post("/echo/body", content=b"x" * 1000).status_code == 200

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            (b'{"x": "a"}', "$.x"),
            (b"{}", "x"),
            (b"{", "JSON"),
            (b'{"x": 1,}', "JSON"),
            (b"\xff", ""),
            (b"[]", "object"),
            (b'{"x": 1e400}', ""),
            (b"", "x"),
        ],
    )
    def test_json_that_does_not_fit(self, wire: Running, body: bytes, says: str) -> None:
        with wire.client() as client:
            answer = client.post("/echo/json", content=body)
        assert answer.status_code == 400
        assert says in answer.json()["echo_error"]

    def test_json_that_fits(self, wire: Running) -> None:
        with wire.client() as client:
            assert client.post("/echo/json", json={"x": 1, "more": True}).json() == {"x": 1, "y": 0}


class TestUploads:
    @pytest.mark.parametrize("size", [0, 1, 1 << 20, (3 << 20) + 7])
    @pytest.mark.parametrize("chunked", [False, True])
    def test_are_stored_as_they_were_sent(self, wire: Running, size: int, chunked: bool) -> None:
        data = os.urandom(size)
        body = (data[at : at + 100_000] for at in range(0, size, 100_000)) if chunked else data
        with wire.client() as client:
            answer = client.put("/echo/blob", content=body).json()
            assert answer["sha256"] == hashlib.sha256(data).hexdigest()
            assert answer["md5"] == hashlib.md5(data).hexdigest()
            assert client.get(f"/echo/blob/{answer['sha256']}").content == data

    def test_a_wrong_digest_stores_nothing(self, wire: Running) -> None:
        with wire.client() as client:
            answer = client.put("/echo/blob", content=b"x" * 100_000, headers={"x-sha256": "0" * 64})
            assert (answer.status_code, "sha256" in answer.text) == (400, True)
            assert client.get(f"/echo/blob/{hashlib.sha256(b'x' * 100_000).hexdigest()}").status_code == 404

    def test_too_large(self, wire: Running) -> None:
        with wire.client() as client:
            try:
                answer = client.put("/echo/blob", content=(b"x" * (1 << 20) for _ in range(11)))
            except httpx.TransportError:
                pytest.fail("the answer must come through while the client is still sending")
            assert answer.status_code == 413
        assert not uploads(wire)

    def test_one_that_breaks_off_leaves_nothing(self, wire: Running) -> None:
        with socket.create_connection(("127.0.0.1", wire.port)) as sock:
            sock.sendall(b"PUT /echo/blob HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9000000\r\n\r\n" + b"x" * 3_000_000)
            wait_for(lambda: uploads(wire), seconds=10, what="the upload's file")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wait_for(lambda: not uploads(wire), seconds=10, what="the end of the upload's file")


class TestDownloads:
    DATA = bytes(range(256)) * 8000

    @pytest.fixture
    def path(self, wire: Running) -> str:
        return f"/echo/blob/{wire.blobs.put([self.DATA]).sha256}"

    def test_what_users_stored_cannot_act_as_our_page(self, wire: Running, path: str) -> None:
        with wire.client() as client:
            answer = client.get(path)
        assert answer.content == self.DATA
        assert answer.headers["content-security-policy"] == "sandbox"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''a%20b.html")

    @pytest.mark.parametrize(
        ("asked", "start", "end"),
        [
            ("bytes=0-0", 0, 1),
            ("bytes=10-19", 10, 20),
            ("bytes=2047990-", 2047990, 2048000),
            ("bytes=-5", 2047995, 2048000),
            ("bytes=0-99999999", 0, 2048000),
        ],
    )
    def test_ranges(self, wire: Running, path: str, asked: str, start: int, end: int) -> None:
        with wire.client() as client:
            answer = client.get(path, headers={"range": asked})
        assert (answer.status_code, answer.headers["content-range"]) == (206, f"bytes {start}-{end - 1}/{len(self.DATA)}")
        assert answer.content == self.DATA[start:end]

    @pytest.mark.parametrize(
        "asked", ["bytes=a-b", "lines=1-2", "bytes=", "bytes=-", "bytes=1-2,5-6", "bytes=²-³", "bytes=5-1", f"bytes={'9' * 5000}-"]
    )
    def test_ranges_that_make_no_sense_are_ignored_or_refused(self, wire: Running, path: str, asked: str) -> None:
        with wire.client() as client:
            answer = client.get(path, headers={b"range": asked.encode("latin-1")})
        assert answer.status_code in (200, 416)

    def test_ranges_behind_the_end(self, wire: Running, path: str) -> None:
        with wire.client() as client:
            answer = client.get(path, headers={"range": "bytes=2048000-"})
        assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */2048000")

    def test_head_and_etag(self, wire: Running, path: str) -> None:
        with wire.client() as client:
            head = client.head(path)
            assert (head.headers["content-length"], head.content) == (str(len(self.DATA)), b"")
            assert client.get(path, headers={"if-none-match": head.headers["etag"]}).status_code == 304

    @pytest.mark.parametrize("name", ["0" * 64, "%2e%2e", "x", "%2e%2e%2fwire.db", "a/b"])
    def test_unknown(self, wire: Running, name: str) -> None:
        with wire.client() as client:
            assert client.get(f"/echo/blob/{name}").status_code == 404


class TestStreams:
    def test_pieces(self, wire: Running) -> None:
        with wire.client() as client, client.stream("GET", "/echo/stream?n=5") as answer:
            assert list(answer.iter_lines())[::2] == [f"data: {i}" for i in range(5)]

    def test_one_that_breaks_does_not_look_complete(self, wire: Running) -> None:
        with wire.client() as client, pytest.raises(httpx.RemoteProtocolError):
            client.get("/echo/broken-stream")
        assert b"secret-of-the-server" not in wire.raw(b"GET /echo/broken-stream HTTP/1.1\r\nhost: localhost\r\n\r\n")

    def test_a_client_that_leaves_ends_it(self, wire: Running) -> None:
        for _ in range(5):
            with wire.client() as client, client.stream("GET", "/echo/stream?n=200") as answer:
                next(answer.iter_lines())
        wait_for(lambda: len(wire.echo.events) == 5, seconds=10, what="the end of five streams")
        assert set(wire.echo.events) == {"Disconnected"}
        wait_for(lambda: wire.door.meter.lines["echo"]["200"].count >= 5, seconds=10)
