"""The door: where requests go, which are refused before anybody looks at them, and what every answer has."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

import pytest

from drivetrain.store.ids import uuid7_ms
from drivetrain.wire.hosts import Hosts, is_loopback
from drivetrain.wire.routing import Endpoint
from tests.conftest import wait_for
from tests.wire.running import Echo, Running, running


class TestWhere:
    def test_the_longest_prefix_of_whole_segments(self, wire: Running) -> None:
        with wire.client() as client:
            assert client.get("/echo/x").json()["path"] == "/x"
            assert client.get("/deep/echo/x/y").json()["path"] == "/x/y"
            assert client.get("/echo").json()["path"] == "/"
            assert client.get("/echo/a%20b%2Fc").json()["path"] == "/a b/c"
            assert client.get("/echoes").json()["error"]["type"] == "NotFound"
            assert client.get("/deep").status_code == 404

    def test_query(self, wire: Running) -> None:
        with wire.client() as client:
            assert client.get("/echo/query?a=1&a=2&b=&c=%C3%A9").json() == {"a": ["1", "2"], "b": [""], "c": ["é"]}


class TestEveryAnswer:
    @pytest.mark.parametrize(
        "path", ["/echo/who", "/echo/bug", "/echo/busy", "/api/v1/me", "/api/v1/nothing", "/nowhere", "/bug", "/echo/stream"]
    )
    def test_has_an_id_of_its_own(self, wire: Running, path: str) -> None:
        with wire.client() as client:
            first, second = client.get(path, headers={"x-request-id": "mine"}), client.get(path)
        ids = [answer.headers.get_list("x-request-id") for answer in (first, second)]
        assert all(len(one) == 1 and uuid7_ms(one[0]) for one in ids)
        assert ids[0] != ids[1]

    def test_the_context_has_the_same_id(self, wire: Running) -> None:
        with wire.client() as client:
            answer = client.get("/echo/who")
        assert answer.json()["id"] == answer.headers["x-request-id"]

    @pytest.mark.parametrize(("path", "key"), [("/echo/bug", "echo_error"), ("/bug", "error")])
    def test_a_bug_is_told_by_its_id_alone(self, wire: Running, caplog: pytest.LogCaptureFixture, path: str, key: str) -> None:
        with caplog.at_level(logging.ERROR), wire.client() as client:
            answer = client.get(path)
        assert answer.status_code == 500
        assert "secret-of-the-server" not in answer.text
        assert key in answer.json()
        assert answer.headers["x-request-id"] in answer.text
        wait_for(lambda: "secret-of-the-server" in caplog.text, seconds=10, what="the line in the log")
        assert answer.headers["x-request-id"] in caplog.text

    def test_errors_are_the_dialects_own(self, wire: Running) -> None:
        with wire.client() as client:
            answer = client.get("/echo/busy")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
        assert answer.json() == {"echo_error": "Too much.", "id": answer.headers["x-request-id"]}

    def test_native_errors_say_what_and_where(self, wire: Running) -> None:
        with wire.client() as client:
            unfit = client.post("/api/v1/users", json={"name": 3})
            assert (unfit.status_code, unfit.json()["error"]["param"]) == (400, "name")
            malformed = client.post("/api/v1/users", content=b"{", headers={"content-type": "application/json"})
            assert malformed.status_code == 400
            wrong = client.patch("/api/v1/users")
            assert (wrong.status_code, set(wrong.json()["error"])) == (405, {"type", "message", "param", "request_id"})

    def test_is_counted(self, wire: Running) -> None:
        with wire.client() as client:
            for path in ("/echo/who", "/echo/who", "/echo/busy", "/api/v1/me"):
                client.get(path)
        lines = wire.door.meter.lines
        wait_for(lambda: lines["native"]["200"].count == 1, what="the last answer's count")
        assert lines["echo"]["429"].count == 1
        assert lines["echo"]["200"].count >= 2


class TestHost:
    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1", "LOCALHOST", "app.localhost:80", "127.9.9.9", "[::1]:8787", "localhost."])
    def test_this_machines_names_are_good(self, wire: Running, host: str) -> None:
        with wire.client(host=host) as client:
            assert client.get("/echo/who").status_code == 200

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "evil.example:8787",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "notlocalhost",
            "8.8.8.8",
            "[::2]",
            "0.0.0.0",
            "@",
        ],
    )
    @pytest.mark.parametrize(("path", "key"), [("/echo/who", "echo_error"), ("/api/v1/me", "error")])
    def test_others_are_refused_with_advice(self, wire: Running, host: str, path: str, key: str) -> None:
        with wire.client(host=host) as client:
            answer = client.get(path)
        assert answer.status_code == 403
        assert key in answer.json()
        assert "allowed_hosts" in answer.text

    def test_none_is_refused(self, wire: Running) -> None:
        assert b" 403 " in wire.raw(b"GET /echo/who HTTP/1.0\r\n\r\n").split(b"\r\n")[0]

    def test_allowed_names(self) -> None:
        hosts = Hosts("10.0.0.5", ("ml.example.org", "*.corp.example"))
        assert all(hosts.known(name) for name in (b"ML.example.org:8787", b"a.corp.example", b"10.0.0.5:1", b"localhost"))
        assert not any(hosts.known(name) for name in (b"corp.example", b"example.org", b"10.0.0.6", b"xcorp.example", b""))

    def test_an_address_in_numbers_is_good_where_we_listen_everywhere(self) -> None:
        for bind in ("0.0.0.0", "::"):
            assert Hosts(bind).known(b"10.1.2.3:8787")
            assert Hosts(bind).known(b"[fe80::1]:80")
            assert not Hosts(bind).known(b"evil.example")

    def test_what_is_loopback(self) -> None:
        assert all(is_loopback(bind) for bind in ("127.0.0.1", "::1", "localhost", "127.0.0.2"))
        assert not any(is_loopback(bind) for bind in ("0.0.0.0", "::", "10.0.0.1", "example.org", ""))


class TestOtherSites:
    """A page of another site must not drive a server on this machine."""

    @pytest.mark.parametrize(
        "headers",
        [
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"origin": "http://127.0.0.1:1"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
            {"sec-fetch-site": "cross-site", "origin": "{self}"},
        ],
    )
    @pytest.mark.parametrize(
        ("method", "path"), [("POST", "/echo/body"), ("PUT", "/echo/blob"), ("POST", "/api/v1/users"), ("DELETE", "/api/v1/keys/x")]
    )
    def test_cannot_change_anything(self, wire: Running, method: str, path: str, headers: dict[str, str]) -> None:
        headers = {name: value.replace("{self}", wire.url) for name, value in headers.items()}
        with wire.client() as client:
            answer = client.request(method, path, headers=headers, content=b'{"name": "eve"}')
        assert answer.status_code == 403
        assert "another site" in answer.text.lower()
        assert [user.name for user in wire.identity.list_users(wire.identity.local_context())] == ["local"]

    @pytest.mark.parametrize(
        "headers", [{}, {"origin": "{self}"}, {"sec-fetch-site": "same-origin", "origin": "{self}"}, {"sec-fetch-site": "none"}]
    )
    def test_programs_and_our_own_pages_can(self, wire: Running, headers: dict[str, str]) -> None:
        headers = {name: value.replace("{self}", wire.url) for name, value in headers.items()}
        with wire.client() as client:
            assert client.post("/echo/body", headers=headers, content=b"hello").text == "hello"

    def test_no_answer_lets_another_site_read_it(self, wire: Running) -> None:
        with wire.client(origin="https://evil.example") as client:
            answers = [
                client.get("/echo/who"),
                client.options("/echo/body", headers={"access-control-request-method": "POST"}),
                client.get("/api/v1/me"),
            ]
        assert not [name for answer in answers for name in answer.headers if name.startswith("access-control-")]


class Rootless(Echo):
    prefixes: tuple[str, ...] = ("",)

    def endpoints(self, mount: str) -> Iterable[Endpoint]:
        return (Endpoint("GET", "/{rest:path}", self._told),)


def test_a_port_of_one_dialect(tmp_path: Path, wire: Running) -> None:
    with running(tmp_path / "other", more=[Rootless(wire.blobs)]) as other, other.client() as client:
        assert client.get("/api/tags").json()["path"] == "/api/tags"
        assert client.get("/echo/who").json()["path"] == "/who"


class Leaves(Rootless):
    """Has no page of its own where the native API has one."""

    prefixes = ("/deep",)

    def endpoints(self, mount: str) -> Iterable[Endpoint]:
        return (Endpoint("GET", "/{name}", self._told), Endpoint("POST", "/{name}/leaf", self._told))


def test_a_dialect_and_the_native_api_share_an_address(tmp_path: Path, wire: Running) -> None:
    with running(tmp_path / "other", more=[Leaves(wire.blobs)]) as other, other.client() as client:
        assert client.get("/deep/x").json()["parts"] == {"name": "x"}
        assert client.get("/deep/bug").json()["parts"] == {"name": "bug"}
        assert client.get("/deep/page").json() == "native"
        assert client.get("/deep/echo/x").json()["path"] == "/x"


class TestMethods:
    def test_one_that_is_not_taken_is_told_in_the_form_of_whose_path_it_is(self, wire: Running) -> None:
        with wire.client() as client:
            mine, native = client.delete("/echo/body"), client.delete("/api/v1/me")
            assert (mine.status_code, mine.headers["allow"], "echo_error" in mine.json()) == (405, "POST", True)
            assert (native.status_code, native.headers["allow"], "error" in native.json()) == (405, "GET", True)
            assert "takes POST, not DELETE" in mine.text
            assert client.get("/echo/body").status_code == 405

    def test_what_answers_get_answers_head(self, wire: Running) -> None:
        with wire.client() as client:
            answer = client.head("/echo/who")
            assert (answer.status_code, answer.content, int(answer.headers["content-length"]) > 0) == (200, b"", True)
            assert client.head("/echo/body").status_code == 405

    def test_unknown_paths_below_a_mount_are_the_dialects(self, wire: Running) -> None:
        with wire.client() as client:
            assert client.post("/echo/nothing/of/the/kind").json()["echo_error"]
            assert client.post("/nothing/of/the/kind").json()["error"]["type"] == "NotFound"


class TestSegments:
    @pytest.mark.parametrize("sent", ["a%2Fb", "a%252Fb", "%e2%82%ac%20", "..%2f..", "%25", "a+b"])
    def test_each_is_decoded_once(self, wire: Running, sent: str) -> None:
        with wire.client() as client:
            assert client.get(f"/echo/named/{sent}/end").json()["parts"] == {"name": unquote(sent)}

    def test_a_slash_at_the_end_says_nothing(self, wire: Running) -> None:
        with wire.client() as client:
            assert client.get("/echo/who/").json()["path"] == "/who/"
            answer = client.get("/api/v1/me/?a=1")
            assert (answer.status_code, answer.headers["location"]) == (307, "/api/v1/me?a=1")


def test_bytes_that_are_no_text_are_no_bug(wire: Running) -> None:
    head = b"GET /echo/query?a=\xff%ff HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-bad: \xff\r\ncookie: \xfe=\xff;;;\r\n\r\n"
    assert re.match(rb"HTTP/1.1 (200|400) ", wire.raw(head))
