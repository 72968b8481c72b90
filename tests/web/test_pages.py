"""The pages over HTTP: what they say, whom they let in, and that nothing of users' text becomes markup."""

from __future__ import annotations

import re

import httpx
import pytest

from drivetrain.identity.model import ALL_SCOPES, Context
from tests.web.conftest import Site

PAGES = [
    "/",
    "/runs",
    "/models",
    "/models/digits",
    "/deployments",
    "/deployments/digits",
    "/alerts",
    "/alerts/channels",
    "/playground",
    "/keys",
    "/sign-in",
]

NEVER = "01900000000070008000000000000000"


@pytest.mark.parametrize("path", PAGES)
def test_every_page_answers_under_the_policy(site: Site, path: str) -> None:
    answer = site.get(path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'" in policy and "unsafe" not in policy
    assert answer.headers["x-request-id"]
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", PAGES)
def test_every_page_answers_while_there_is_nothing(empty_site: Site, path: str) -> None:
    answer = empty_site.get(path)
    assert answer.status_code == (404 if "digits" in path else 200)
    assert "drivetrain" in answer.text


def test_empty_pages_teach_with_this_servers_address(empty_site: Site) -> None:
    assert f"MLFLOW_TRACKING_URI={empty_site.url}/mlflow" in empty_site.get("/").text
    assert "drivetrain deploy" in empty_site.get("/deployments").text
    assert "drivetrain pull" in empty_site.get("/playground").text


def test_the_table_of_runs_is_in_its_address(site: Site) -> None:
    names = re.compile(r'class="main cut" href="/runs/[0-9a-f]{32}" title="([^"]+)"')
    best_first = names.findall(site.get("/runs?experiment=1&sort=metrics.accuracy&dir=desc").text)
    assert len(best_first) == 9
    assert names.findall(site.get("/runs?experiment=1&sort=metrics.accuracy").text) == best_first[::-1]
    few = site.get("/runs?filter=params.model+%3D+'SVC'&col=params.seed").text
    assert sorted(names.findall(few)) == ["svc-1", "svc-4", "svc-7"]
    assert ">seed</a>" in few and "accuracy</a>" not in few and ">State</a>" not in few


def test_a_filter_that_means_nothing_says_so(site: Site) -> None:
    answer = site.get("/runs?filter=accuracy+is+good")
    assert answer.status_code == 200
    assert 'role="alert"' in answer.text


def test_a_run_page_says_what_differs(site: Site) -> None:
    text = site.get(f"/runs/{site.made['run1']}").text
    assert re.search(r'class="differs"><dt>C<', text)
    assert not re.search(r'class="differs"><dt>seed<', text)
    assert "9f2c41d8e07b6a55" in text.replace("<wbr>", "")
    assert "digits-train" in text and "digits v2" in text


def test_curves_are_json_without_nan(site: Site) -> None:
    (run,) = site.get(f"/data/runs?run={site.made['run1']}").json()["runs"]
    assert set(run["series"]) == {"accuracy", "val/loss"}
    assert len(run["series"]["accuracy"]) == 60


def test_the_series_of_a_deployment_adds_up(site: Site) -> None:
    data = site.get("/data/deployments/digits?window=6h").json()
    assert {variant["name"] for variant in data["variants"]} == {"digits v1", "digits v2"}
    per_second = sum(sum(variant["requests"]) for variant in data["variants"])
    assert round(per_second * data["step_ms"] / 1000) == 420
    assert site.get("/data/deployments/digits?window=2y").status_code == 400


def test_one_answer_leads_back_to_its_data(site: Site) -> None:
    text = site.get(f"/requests/{site.made['request']}").text
    for step in ("digits-train", "svc-1", "digits v2", "9f2c41d8e07b6a55", "@champion", "labellers"):
        assert step in text.replace("<wbr>", "")


@pytest.mark.parametrize("path", ["/models/nothing", "/runs/nothing", "/deployments/nothing", f"/requests/{NEVER}", "/requests/x"])
def test_what_is_not_there_is_a_page_with_advice(site: Site, path: str) -> None:
    answer = site.get(path)
    assert answer.status_code in (400, 404)
    assert "To the overview" in answer.text
    assert answer.headers["content-security-policy"]


def test_text_of_users_is_never_markup(site: Site) -> None:
    stage, evil = site.stage, "<script>alert(1)</script>\"'><img src=x>"
    run = stage.tracking.runs.create(stage.ctx, "0", name=evil)
    stage.tracking.metrics.log(stage.ctx, run.id, params={"p": evil}, tags={"t": evil, "mlflow.note.content": evil})
    for path in (
        f"/runs/{run.id}",
        "/runs",
        "/",
        "/search?q=script",
        f"/runs?filter={evil}",
        f"/playground?model={evil}",
        f"/sign-in?next={evil}",
    ):
        text = site.get(path).text
        assert "<script>alert" not in text and "<img" not in text, path


def test_search_finds_each_kind(site: Site) -> None:
    found = site.get("/search?q=digits").text
    for url in ("/deployments/digits", "/models/digits", "/runs?experiment=1"):
        assert f'href="{url}"' in found
    assert f"/runs/{site.made['run4']}" in site.get("/search?q=svc-4").text
    assert f"/requests/{site.made['request']}" in site.get(f"/search?q={site.made['request']}").text
    assert "Nothing by that name" in site.get("/search?q=zzzzz").text
    assert site.get("/search?q='%25%00").status_code < 500


def test_another_workspace_is_not_there(site: Site) -> None:
    site.stage.identity.create_workspace(site.stage.ctx, "elsewhere")
    for path in (f"/runs/{site.made['run1']}", "/models/digits", "/deployments/digits", f"/requests/{site.made['request']}"):
        assert site.get(path, **{"x-drivetrain-workspace": "elsewhere"}).status_code == 404
    assert "svc-1" not in site.get("/runs", **{"x-drivetrain-workspace": "elsewhere"}).text


def test_a_key_is_shown_once(site: Site) -> None:
    answer = httpx.post(f"{site.url}/keys", data={"name": "ci", "scope": ["read", "invoke"], "days": "30"})
    secret = re.search(r"dt-[A-Za-z0-9]{40}", answer.text)
    assert answer.status_code == 200 and secret is not None
    again = site.get("/keys").text
    assert secret[0] not in again and "in 30 days" in again
    key = next(key for key in site.stage.identity.list_keys(site.stage.ctx) if key.name == "ci")
    assert set(key.scopes) == {"read", "invoke"}
    assert httpx.post(f"{site.url}/keys/{key.id}/revoke").status_code == 200
    assert httpx.post(f"{site.url}/keys", data={"name": "none"}).status_code == 400


def test_another_sites_form_is_refused(site: Site) -> None:
    answer = httpx.post(
        f"{site.url}/keys",
        data={"name": "evil", "scope": "admin"},
        headers={"origin": "http://evil.example", "sec-fetch-site": "cross-site"},
    )
    assert answer.status_code == 403


def test_feedback_is_kept(site: Site) -> None:
    answer = httpx.post(f"{site.url}/requests/{site.made['request']}/feedback", data={"value": "good"})
    assert answer.status_code == 303
    assert "rating" in site.get(f"/requests/{site.made['request']}").text


def test_under_keys_one_signs_in(empty_site: Site) -> None:
    stage = empty_site.stage
    assert isinstance(stage.ctx, Context) and stage.ctx.scopes == ALL_SCOPES
    _, secret = stage.identity.create_key(stage.ctx, name="mine", scopes=("read", "write", "invoke", "admin"))
    stage.identity.set_auth(stage.ctx, "keys")
    stage.nudge("identity")
    answer = empty_site.get("/runs?filter=a")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/sign-in?next=%2Fruns%3Ffilter%3Da"
    assert empty_site.get("/data/live", accept="text/event-stream").status_code == 401
    assert empty_site.get("/sign-in").status_code == 200
    wrong = httpx.post(f"{empty_site.url}/sign-in", data={"key": "dt-" + "x" * 40})
    assert wrong.status_code == 401 and 'role="alert"' in wrong.text
    with httpx.Client(base_url=empty_site.url) as browser:
        answer = browser.post("/sign-in", data={"key": secret, "next": "//evil.example/"})
        assert answer.status_code == 303 and answer.headers["location"] == "/"
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie
        assert secret not in cookie
        assert browser.get("/").status_code == 200
        assert browser.post("/sign-out").status_code == 303
        assert browser.get("/", headers={"accept": "text/html"}).status_code == 303


def test_live_says_what_changed(site: Site) -> None:
    run = site.stage.tracking.runs.create(site.stage.ctx, "0", name="watched")
    with httpx.stream("GET", f"{site.url}/data/live?topic=run:{run.id}", timeout=30) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert next(lines) == "retry: 2000"
        # The first probe only looks; what is changed until it is heard must be told.
        for i, line in enumerate(lines):
            if line.startswith("data:"):
                assert run.id in line
                break
            site.stage.tracking.metrics.log(site.stage.ctx, run.id, params={f"p{i}": "1"})


def test_a_deployment_is_managed_from_its_page(own_site: Site) -> None:
    stage = own_site.stage
    made = own_site.made

    def post(act: str, **data: str) -> httpx.Response:
        return httpx.post(f"{own_site.url}/deployments/digits/{act}", data=data)

    rolling = post("serve", source="digits@1")
    assert rolling.status_code == 409 and "drivetrain rollout" in rolling.text
    stage.rollouts.abort(stage.ctx, made["rollout"])
    assert post("serve", source="digits@1").headers["location"] == "/deployments/digits"
    assert stage.serving.history(stage.ctx, "digits")[0].version == 1
    refused = post("scale", replicas="1000")
    assert refused.status_code == 400 and 'role="alert"' in refused.text
    assert post("scale", replicas="2").status_code == 303
    assert stage.serving.history(stage.ctx, "digits")[0].min_replicas == 2
    assert post("restart").status_code == 303
    assert post("delete").headers["location"] == "/deployments"
    assert own_site.get("/deployments/digits").status_code == 404
    assert post("restart").status_code == 404
