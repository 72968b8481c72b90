"""Who asks: keys in every place that clients put them, sessions, tokens, signed addresses, workspaces."""

from __future__ import annotations

import base64
import logging
import time
from pathlib import Path

import pytest

from drivetrain.identity.model import Scope
from tests.identity.people import newcomer
from tests.wire.running import Running, running


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class TestOpen:
    @pytest.mark.parametrize(
        "authorization", [None, "Bearer whatever", "Bearer dt-" + "a" * 40, basic("user", "password"), basic("user", ""), "Token r8_x"]
    )
    def test_everybody_is_local(self, wire: Running, authorization: str | None) -> None:
        headers = {"authorization": authorization} if authorization else {}
        with wire.client() as client:
            answer = client.get("/echo/who", headers=headers).json()
        assert (answer["user"], answer["workspace"], answer["scopes"]) == ("local", "default", ["admin", "invoke", "read", "write"])

    @pytest.mark.parametrize("authorization", ["Bearer", "Basic %%%", "Basic Og==", "Digest x", "Basic /w=="])
    def test_what_cannot_be_read_is_refused(self, wire: Running, authorization: str) -> None:
        with wire.client() as client:
            answer = client.get("/echo/who", headers={"authorization": authorization})
        assert answer.status_code == 401
        assert "echo_error" in answer.json()

    def test_the_workspace_is_chosen_by_a_header(self, wire: Running) -> None:
        wire.identity.create_workspace(wire.identity.local_context(), "vision")
        with wire.client() as client:
            for header in ("x-drivetrain-workspace", "x-mlflow-workspace"):
                assert client.get("/echo/who", headers={header: "vision"}).json()["workspace"] == "vision"
            missing = client.get("/echo/who", headers={"x-drivetrain-workspace": "nowhere"})
            assert missing.status_code == 404
            assert "workspaces create" in missing.text

    def test_before_the_first_table_has_come_the_database_decides(self, tmp_path: Path) -> None:
        with running(tmp_path, generation=0) as wire, wire.client() as client:
            assert client.get("/echo/who").json()["user"] == "local"


class TestKeys:
    def test_none_is_refused_with_advice(self, wire: Running, admin: str) -> None:
        with wire.client() as client:
            for path, key in [("/echo/who", "echo_error"), ("/api/v1/me", "error")]:
                answer = client.get(path)
                assert answer.status_code == 401
                assert key in answer.json()
                assert "drivetrain keys create" in answer.text
            assert client.get("/echo/who").headers["www-authenticate"].startswith("Bearer")

    @pytest.mark.parametrize("weak", ["password", "dt-123", "sk-" + "a" * 40, "dt-" + "a" * 39, "dt-" + "a" * 41, "dt-" + "é" * 40])
    def test_what_is_too_weak_to_be_a_key_is_refused_with_advice(self, wire: Running, admin: str, weak: str) -> None:
        with wire.client() as client:
            answer = client.get("/echo/who", headers={b"x-api-key": weak.encode()})
        assert answer.status_code == 401
        assert "40 letters and digits" in answer.text
        assert weak not in answer.text

    def test_an_unknown_key_is_refused(self, wire: Running, admin: str) -> None:
        with wire.client("dt-" + "x" * 40) as client:
            for _ in range(3):
                answer = client.get("/echo/who")
                assert (answer.status_code, "x" * 40 in answer.text) == (401, False)

    def test_in_every_place_that_clients_put_it(self, wire: Running, admin: str) -> None:
        places = [
            {"authorization": f"Bearer {admin}"},
            {"authorization": f"bearer  {admin}"},
            {"authorization": f"Token {admin}"},
            {"authorization": basic("anybody", admin)},
            {"authorization": basic(admin, "")},
            {"x-api-key": admin},
            {"api-key": admin},
            {"x-echo-key": admin},
        ]
        with wire.client() as client:
            for headers in places:
                assert client.get("/echo/who", headers=headers).json()["user"] == "local", headers

    def test_a_new_key_is_good_at_once(self, wire: Running, admin: str) -> None:
        _, secret = wire.identity.create_key(wire.identity.local_context())
        with wire.client(secret) as client:
            assert client.get("/echo/who").status_code == 200

    def test_a_revoked_key_is_refused_when_the_table_has_come(self, wire: Running, admin: str) -> None:
        root = wire.identity.local_context()
        key, secret = wire.identity.create_key(root)
        wire.refresh()
        with wire.client(secret) as client:
            assert client.get("/echo/who").status_code == 200
            wire.identity.revoke_key(root, key.id)
            wire.refresh()
            assert client.get("/echo/who").status_code == 401

    def test_a_key_that_has_run_out_is_refused(self, wire: Running, admin: str) -> None:
        _, secret = wire.identity.create_key(wire.identity.local_context(), days=0.3 / 86400)
        with wire.client(secret) as client:
            end = time.monotonic() + 10
            while (answer := client.get("/echo/who")).status_code == 200 and time.monotonic() < end:
                pass
        assert (answer.status_code, "run out" in answer.text) == (401, True)

    def test_scopes_are_the_keys(self, wire: Running, admin: str) -> None:
        _, secret = wire.identity.create_key(wire.identity.local_context(), scopes=("read",))
        with wire.client(secret) as client:
            assert client.get("/echo/who").json()["scopes"] == ["read"]
            refused = client.put("/api/v1/secrets/a", json={"value": "x"})
            assert (refused.status_code, "admin" in refused.text) == (403, True)


class TestWorkspaces:
    """What is another workspace's is not found."""

    def test_a_key_works_in_its_users_workspaces_only(self, wire: Running, admin: str) -> None:
        root = wire.identity.local_context()
        secret, _ = newcomer(wire.identity, root, "ada")
        with wire.client(secret) as client:
            assert client.get("/echo/who").json()["workspace"] == "ada"
            answers = [client.get("/echo/who", headers={"x-drivetrain-workspace": name}) for name in ("default", "nowhere")]
            assert [answer.status_code for answer in answers] == [404, 404]
            texts = [answer.json()["echo_error"].replace("default", "?").replace("nowhere", "?") for answer in answers]
            assert texts[0] == texts[1], "one must not be able to find out which workspaces there are"
            assert client.get("/api/v1/workspaces/default/members").status_code == 404
            assert [one["slug"] for one in client.get("/api/v1/workspaces").json()["workspaces"]] == ["ada"]

    def test_a_workspace_joined_a_moment_ago_is_there(self, wire: Running, admin: str) -> None:
        root = wire.identity.local_context()
        secret, _ = newcomer(wire.identity, root, "ada")
        wire.refresh()
        wire.identity.create_workspace(root, "vision")
        wire.identity.set_member(root, "vision", "ada", "viewer")
        with wire.client(secret) as client:
            assert client.get("/echo/who", headers={"x-drivetrain-workspace": "vision"}).json()["scopes"] == ["invoke", "read"]

    def test_secrets_and_audit_are_a_workspaces_own(self, wire: Running, admin: str) -> None:
        secret, _ = newcomer(wire.identity, wire.identity.local_context(), "ada")
        with wire.client(admin) as local, wire.client(secret) as ada:
            assert local.put("/api/v1/secrets/upstream", json={"value": "v"}).status_code == 200
            assert ada.get("/api/v1/secrets").json() == {"secrets": []}
            assert ada.delete("/api/v1/secrets/upstream").status_code == 404
            assert ada.get("/api/v1/audit").json() == {"entries": []}
            assert ada.get("/api/v1/keys").json()["keys"][0]["user"] == "ada"
            assert ada.post("/api/v1/users", json={"name": "eve"}).status_code == 403
            assert ada.put("/api/v1/auth", json={"auth": "open"}).status_code == 403


class TestBrowsers:
    def test_sign_in_and_out(self, wire: Running, admin: str) -> None:
        with wire.client() as client:
            assert client.get("/api/v1/me").status_code == 401
            wrong = client.post("/api/v1/session", json={"key": "dt-" + "x" * 40})
            assert wrong.status_code == 401
            answer = client.post("/api/v1/session", json={"key": admin})
            assert answer.status_code == 200
            cookie = answer.headers["set-cookie"].lower()
            assert all(part in cookie for part in ("httponly", "samesite=strict", "path=/", "max-age=3600"))
            assert admin not in answer.text + cookie
            copy = client.cookies["drivetrain_session"]
            assert client.get("/api/v1/me").json()["user"] == "local"
            assert client.get("/echo/who").json()["user"] == "local"
            assert client.delete("/api/v1/session").status_code == 200
            assert "drivetrain_session" not in client.cookies
            assert client.get("/api/v1/me").status_code == 401
        assert wire.identity.session_ended(wire.identity.signer.verify("session", copy)["id"])

    def test_a_session_ends_with_its_key(self, wire: Running, admin: str) -> None:
        root = wire.identity.local_context()
        key, secret = wire.identity.create_key(root)
        with wire.client() as client:
            client.post("/api/v1/session", json={"key": secret})
            assert client.get("/api/v1/me").json()["key"] == key.id
            wire.identity.revoke_key(root, key.id)
            wire.refresh()
            assert client.get("/api/v1/me").status_code == 401

    @pytest.mark.parametrize("cookie", ["x", "a.b", "", "%", '"'])
    def test_a_made_up_cookie_is_refused(self, wire: Running, admin: str, cookie: str) -> None:
        with wire.client() as client:
            assert client.get("/api/v1/me", headers={"cookie": f"drivetrain_session={cookie}"}).status_code == 401

    def test_a_token_of_another_purpose_is_no_session(self, wire: Running, admin: str) -> None:
        token = wire.identity.job_token(wire.identity.local_context(), scopes=[Scope.read], seconds=60).removeprefix("dtj.")
        with wire.client() as client:
            assert client.get("/api/v1/me", headers={"cookie": f"drivetrain_session={token}"}).status_code == 401

    def test_the_chosen_workspace_is_a_cookie_and_an_old_choice_does_no_harm(self, wire: Running) -> None:
        wire.identity.create_workspace(wire.identity.local_context(), "vision")
        with wire.client() as client:
            for chosen, found in [("vision", "vision"), ("gone", "default")]:
                headers = {"cookie": f"drivetrain_workspace={chosen}"}
                assert client.get("/echo/who", headers=headers).json()["workspace"] == found


class TestTokens:
    def test_a_jobs_token_works_in_its_workspace(self, wire: Running, admin: str) -> None:
        root = wire.identity.local_context()
        _, ada = newcomer(wire.identity, root, "ada")
        token = wire.identity.job_token(ada, scopes=[Scope.read], seconds=60)
        with wire.client(token) as client:
            assert client.get("/echo/who").json()["scopes"] == ["read"]
            assert client.get("/echo/who", headers={"x-drivetrain-workspace": "ada"}).status_code == 200
            assert client.get("/echo/who", headers={"x-drivetrain-workspace": "default"}).status_code == 403

    def test_the_homes_token_administers_the_server_everywhere(self, wire: Running, admin: str) -> None:
        root = wire.identity.local_context()
        newcomer(wire.identity, root, "ada")
        with wire.client(wire.identity.home_token(root, seconds=60)) as client:
            assert client.get("/echo/who", headers={"x-drivetrain-workspace": "ada"}).json()["workspace"] == "ada"
            assert client.post("/api/v1/users", json={"name": "bob"}).status_code == 201
            assert wire.nudges[-1] == "identity"

    @pytest.mark.parametrize("token", ["dtj.", "dtj.x.y", "dtj.." + "a" * 100])
    def test_a_made_up_token_is_refused_also_in_open_mode(self, wire: Running, token: str) -> None:
        with wire.client(token) as client:
            assert client.get("/echo/who").status_code == 401


class TestSignedAddresses:
    def test_they_need_no_key(self, wire: Running, admin: str) -> None:
        root = wire.identity.local_context()
        url = wire.identity.sign_url(root, "GET", "/echo/a%20b?x=1", scopes=[Scope.read], seconds=60)
        with wire.client() as client:
            answer = client.get(url)
            assert answer.json()["path"] == "/a b"
            assert client.get(url.replace("x=1", "x=2")).status_code == 401
            assert client.get(url.replace("a%20b", "c")).status_code == 401
            assert client.post(url).status_code == 401
            assert client.get(url + "x").status_code == 401
            assert client.get(url.replace("?x=1&", "?")).status_code == 401
            plain = wire.identity.sign_url(root, "GET", "/echo/who", scopes=[Scope.read], seconds=60)
            assert client.get(plain).json()["scopes"] == ["read"]
            late = wire.identity.sign_url(root, "GET", "/echo/who", scopes=[Scope.read], seconds=-1)
            assert "run out" in client.get(late).text


class TestLockOut:
    def test_requiring_keys_without_an_admins_is_refused(self, wire: Running) -> None:
        with wire.client() as client:
            answer = client.put("/api/v1/auth", json={"auth": "keys"})
            assert (answer.status_code, "keys create" in answer.text) == (409, True)
            made = client.post("/api/v1/keys", json={"scopes": ["read", "write", "admin"]})
            assert made.status_code == 201
            assert client.put("/api/v1/auth", json={"auth": "keys"}).status_code == 200
            assert client.get("/api/v1/me").status_code == 401
            assert client.get("/api/v1/me", headers={"authorization": f"Bearer {made.json()['secret']}"}).status_code == 200


def test_no_secret_is_in_the_logs(wire: Running, admin: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for client_side in ("httpcore", "httpx"):
        caplog.set_level(logging.ERROR, client_side)
    wrong = "dt-" + "y" * 40
    with wire.client(admin) as client:
        made = client.post("/api/v1/keys", json={"name": "n"}).json()["secret"]
        client.put("/api/v1/secrets/upstream", json={"value": "hunter2-hunter2"})
        client.put("/api/v1/secrets/upstream", json={"value": ["hunter2-hunter2"]})
        client.post("/api/v1/session", json={"key": made})
        session = client.cookies["drivetrain_session"]
        client.get("/echo/bug")
        client.get("/bug")
    with wire.client(wrong) as client:
        client.get("/echo/bug")
        client.post("/api/v1/session", json={"key": wrong})
    for secret in (admin, made, wrong, "hunter2", session):
        assert secret not in caplog.text


def test_a_value_that_does_not_fit_is_not_shown_again(wire: Running) -> None:
    with wire.client() as client:
        answer = client.put("/api/v1/secrets/upstream", json={"value": ["hunter2-hunter2"]})
    assert answer.status_code == 400
    assert "hunter2" not in answer.text
