"""A whole server and people who should not get in, or not that far: keys, hosts, other sites, other workspaces, logs."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Server, wait_for

pytestmark = pytest.mark.slow


@dataclass
class Guarded:
    """A server that asks for keys, and three who have one: an admin of it, and two users with a workspace each."""

    server: Server
    admin: str
    ada: str
    bob: str

    def client(self, key: str | None = None, **headers: str) -> httpx.Client:
        return httpx.Client(
            base_url=self.server.url, headers={**headers, **({"authorization": f"Bearer {key}"} if key else {})}, timeout=60
        )


def made(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code in (200, 201), answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    server = Server(tmp_path_factory.mktemp("guarded") / "home", ("--web", "2"), {"DRIVETRAIN_LOG_LEVEL": "debug"}).start()
    try:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            admin = made(client, "/api/v1/keys", {"name": "admin", "scopes": ["read", "write", "invoke", "admin"]})["secret"]
            keys = []
            for name in ("ada", "bob"):
                made(client, "/api/v1/users", {"name": name})
                keys.append(made(client, "/api/v1/keys", {"user": name, "scopes": ["read", "write", "invoke", "admin"]})["secret"])
            assert client.put("/api/v1/auth", json={"auth": "keys"}).status_code == 200
            for _ in range(20):  # connections of both web processes
                wait_for(
                    lambda: httpx.get(f"{server.url}/api/v1/me", timeout=10).status_code == 401, seconds=10, what="keys to be required"
                )
        yield Guarded(server, admin, *keys)
    finally:
        server.stop()


EVERYWHERE = [
    ("GET", "/api/v1/me"),
    ("GET", "/api/v1/keys"),
    ("POST", "/api/v1/users"),
    ("PUT", "/api/v1/blobs/" + "0" * 64),
    ("GET", "/api/v1/repos"),
    ("GET", "/api/v1/deployments"),
    ("GET", "/api/v1/jobs"),
    ("GET", "/metrics"),
    ("GET", "/v1/models"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/openai/v1/chat/completions"),
    ("POST", "/ollama/api/chat"),
    ("GET", "/ollama/api/tags"),
    ("GET", "/kserve/v2/models/x"),
    ("POST", "/v2/models/x/infer"),
    ("POST", "/invoke/x/invocations"),
    ("POST", "/mlflow/api/2.0/mlflow/runs/create"),
    ("GET", "/mlflow/api/2.0/mlflow/experiments/get?experiment_id=0"),
    ("PUT", "/mlflow/api/2.0/mlflow-artifacts/artifacts/x"),
]


@pytest.mark.parametrize(("method", "path"), EVERYWHERE)
class TestEveryDoor:
    @pytest.mark.parametrize("key", [None, "password", "dt-short", "dt-" + "x" * 40, "dtj.x.y"])
    def test_asks_for_a_key(self, guarded: Guarded, method: str, path: str, key: str | None) -> None:
        with guarded.client(key) as client:
            answer = client.request(method, path)
        assert answer.status_code == 401
        assert answer.headers["content-type"].startswith("application/json")
        assert answer.headers["x-request-id"]
        assert key is None or key not in answer.text

    def test_asks_for_its_own_name(self, guarded: Guarded, method: str, path: str) -> None:
        with guarded.client(guarded.admin, host="evil.example") as client:
            answer = client.request(method, path)
        assert (answer.status_code, "allowed_hosts" in answer.text) == (403, True)

    def test_lets_no_other_site_change_anything(self, guarded: Guarded, method: str, path: str) -> None:
        with guarded.client(guarded.admin, origin="https://evil.example") as client:
            answer = client.request(method, path)
        assert (answer.status_code == 403) == (method != "GET"), answer.text


def test_a_browser_is_sent_to_the_sign_in_page(guarded: Guarded) -> None:
    with guarded.client(accept="text/html") as client:
        for path in ("/", "/runs", "/models", "/deployments", "/playground", "/keys"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/sign-in"), path
        assert client.get("/sign-in").status_code == 200
        wrong = client.post("/sign-in", data={"key": "dt-" + "x" * 40})
        assert wrong.status_code == 401
        right = client.post("/sign-in", data={"key": guarded.admin, "next": "//evil.example"})
        assert (right.status_code, right.headers["location"]) == (303, "/")
        assert "samesite=strict" in right.headers["set-cookie"].lower()
        page = client.get("/keys")
        assert page.status_code == 200
        assert page.headers["x-frame-options"] == "DENY"
        assert guarded.admin not in page.text
        assert client.post("/sign-out").status_code == 303
        assert client.get("/keys").status_code == 303


@pytest.fixture(scope="module")
def ada(guarded: Guarded) -> dict[str, str]:
    """What ada has."""
    with guarded.client(guarded.ada) as client:
        data = b"ada's bytes"
        digest = hashlib.sha256(data).hexdigest()
        assert client.put(f"/api/v1/blobs/{digest}", content=data).status_code in (200, 201)
        made(client, "/api/v1/repos", {"name": "adas-model"})
        made(client, "/api/v1/repos/adas-model/commits", {"files": {"secret.txt": digest}})
        experiment = made(client, "/mlflow/api/2.0/mlflow/experiments/create", {"name": "adas-experiment"})["experiment_id"]
        run = made(client, "/mlflow/api/2.0/mlflow/runs/create", {"experiment_id": experiment, "start_time": 1})
        run_id = run["run"]["info"]["run_id"]
        made(client, "/mlflow/api/2.0/mlflow/registered-models/create", {"name": "adas-registered"})
        key = made(client, "/api/v1/keys", {"scopes": ["read"]})["key"]["id"]
    return {"run": run_id, "blob": digest, "key": key}


class TestOtherWorkspaces:
    """Nothing of ada's is seen, changed or called by bob, whatever protocol he speaks."""

    def test_are_not_found(self, guarded: Guarded, ada: dict[str, str]) -> None:
        with guarded.client(guarded.ada) as mine, guarded.client(guarded.bob) as his:
            for path in (
                "/api/v1/repos/adas-model",
                "/api/v1/repos/adas-model/files",
                f"/mlflow/api/2.0/mlflow/runs/get?run_id={ada['run']}",
                "/mlflow/api/2.0/mlflow/experiments/get-by-name?experiment_name=adas-experiment",
                "/mlflow/api/2.0/mlflow/registered-models/get?name=adas-registered",
                "/api/v1/workspaces/ada/members",
            ):
                assert mine.get(path).status_code == 200, (path, mine.get(path).text)
                answer = his.get(path)
                assert answer.status_code == 404, (path, answer.text)
            assert his.delete(f"/api/v1/keys/{ada['key']}").status_code == 404
            assert his.delete("/api/v1/repos/adas-model").status_code == 404
            point = {"run_id": ada["run"], "key": "m", "value": 1, "timestamp": 1, "step": 0}
            log = his.post("/mlflow/api/2.0/mlflow/runs/log-metric", json=point)
            assert log.status_code == 404

    def test_are_not_listed(self, guarded: Guarded, ada: dict[str, str]) -> None:
        with guarded.client(guarded.bob) as his:
            for path in (
                "/api/v1/repos",
                "/api/v1/keys",
                "/api/v1/users",
                "/api/v1/workspaces",
                "/api/v1/jobs",
                "/api/v1/audit",
                "/v1/models",
            ):
                answer = his.get(path)
                assert answer.status_code == 200, (path, answer.text)
                assert "ada" not in answer.text.replace("metadata", ""), path
            for what in ("runs", "experiments", "registered-models"):
                body = {"max_results": 100, "experiment_ids": ["0"]} if what == "runs" else {"max_results": 100}
                method = "GET" if what == "registered-models" else "POST"
                found = his.request(method, f"/mlflow/api/2.0/mlflow/{what}/search", json=body if method == "POST" else None)
                assert found.status_code == 200, found.text
                assert "adas" not in found.text
                assert ada["run"] not in found.text

    def test_a_known_digest_opens_nothing(self, guarded: Guarded, ada: dict[str, str]) -> None:
        with guarded.client(guarded.bob) as his:
            made(his, "/api/v1/repos", {"name": "thief"})
            answer = his.post("/api/v1/repos/thief/commits", json={"files": {"x": ada["blob"]}})
            assert answer.status_code in (400, 403, 404), answer.text

    def test_a_header_does_not_help(self, guarded: Guarded, ada: dict[str, str]) -> None:
        for header in ("x-drivetrain-workspace", "x-mlflow-workspace"):
            with guarded.client(guarded.bob, **{header: "ada"}) as his:
                assert his.get("/api/v1/repos/adas-model").status_code == 404
                assert his.get("/v1/models").status_code == 404

    def test_their_admins_do_not_administer_the_server(self, guarded: Guarded) -> None:
        with guarded.client(guarded.bob) as his:
            assert his.post("/api/v1/users", json={"name": "eve"}).status_code == 403
            assert his.put("/api/v1/auth", json={"auth": "open"}).status_code == 403
            assert his.post("/api/v1/keys", json={"user": "local", "scopes": ["admin"]}).status_code == 403
            assert his.put("/api/v1/workspaces/default/members/bob", json={"role": "admin"}).status_code == 404


def test_secrets_are_in_no_log_and_no_file(guarded: Guarded) -> None:
    home = guarded.server.home
    with guarded.client(guarded.admin) as client:
        assert client.put("/api/v1/secrets/upstream", json={"value": "hunter2-hunter2"}).status_code == 200
        client.put("/api/v1/secrets/upstream", json={"value": 3})
        client.post("/v1/chat/completions", json={"model": "x", "messages": []})
    with guarded.client("dt-" + "w" * 40) as client:
        client.get(f"/v1/models?key={'dt-' + 'w' * 40}")
    token = guarded.server.token
    secret = (home / "secret.key").read_bytes()
    hidden = [guarded.admin, guarded.ada, guarded.bob, "hunter2", "dt-" + "w" * 40, token]
    logs = [*home.glob("logs/*"), home.parent / f"{home.name}.up.log"]
    assert any("web-" in log.name for log in logs)
    for file in [file for file in home.rglob("*") if file.is_file()] + logs:
        data = file.read_bytes()
        for one in hidden:
            if (one, file.name) != (token, "server.json"):
                assert one.encode() not in data, f"{one[:6]}… is in {file}"
        assert file.name == "secret.key" or secret not in data


def test_what_holds_secrets_is_the_owners_alone(guarded: Guarded) -> None:
    home = guarded.server.home
    for name in ("secret.key", "server.json"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_counts_add_up_over_web_processes(guarded: Guarded) -> None:
    """Of answers that no other test here gets from this dialect: a process tells of its own once a second, so there is no sure "before"."""

    def shown(text: str) -> int:
        line = 'drivetrain_http_requests_total{dialect="kserve",status="200"}'
        return sum(int(one.rpartition(" ")[2]) for one in text.splitlines() if one.startswith(line))

    for _ in range(20):
        with guarded.client(guarded.admin) as client:  # a connection each, so that both processes get some
            assert client.get("/kserve/v2").status_code == 200
    with guarded.client(guarded.admin) as client:
        wait_for(lambda: shown(client.get("/metrics").text) == 20, seconds=10, what="the sum over processes")


def test_everybody_may_not_come_from_everywhere(tmp_path: Path) -> None:
    """Without keys, only this machine is listened to."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DRIVETRAIN_")}
    command = [sys.executable, "-m", "drivetrain.cli.main", "up", "--home", str(tmp_path / "home"), "--host", "0.0.0.0", "--port", "0"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "drivetrain keys create" in done.stdout + done.stderr


def test_the_way_out_of_a_lock_out(new_server: Callable[..., Server], tmp_path: Path) -> None:
    """Whoever owns the home can always make a key, without a server."""
    server = new_server()
    with httpx.Client(base_url=server.url, timeout=60) as client:
        refused = client.put("/api/v1/auth", json={"auth": "keys"})
        assert (refused.status_code, "keys create" in refused.text) == (409, True)
        made(client, "/api/v1/keys", {"scopes": ["read", "write", "invoke", "admin"]})
        assert client.put("/api/v1/auth", json={"auth": "keys"}).status_code == 200
    server.stop()
    command = [
        sys.executable,
        "-m",
        "drivetrain.cli.main",
        "keys",
        "create",
        "--home",
        str(server.home),
        "--scope",
        "admin",
        "--scope",
        "read",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    secret = next(word for word in done.stdout.replace('"', " ").split() if word.startswith("dt-"))
    server.start()
    answer = httpx.get(f"{server.url}/api/v1/me", headers={"authorization": f"Bearer {secret}"}, timeout=30)
    assert answer.json()["server_admin"] is True
