"""The links that MLflow's client prints lead to the dashboard."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.conftest import Server, free_port
from tests.web.conftest import Site

TRAIN = """
import mlflow
mlflow.set_experiment("linked")
with mlflow.start_run(run_name="printed"):
    mlflow.log_metric("loss", 1.0)
"""


def test_the_page_may_be_seen_by_anybody_and_keeps_the_policy(empty_site: Site) -> None:
    stage = empty_site.stage
    stage.identity.create_key(stage.ctx, name="mine", scopes=("admin",))
    stage.identity.set_auth(stage.ctx, "keys")
    stage.nudge("identity")
    for path in ("/mlflow", "/mlflow/"):
        answer = empty_site.get(path)
        assert answer.status_code == 200
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert "js/links.js" in answer.text and "<script>" not in answer.text
        assert httpx.head(empty_site.url + path).status_code == 200


@pytest.mark.slow
def test_each_kind_of_link_leads_to_its_page(browser: Browser, site: Site) -> None:
    run, context = site.made["run1"], browser.new_context(base_url=site.url)
    page = context.new_page()
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    for link, to, title in (
        (f"/mlflow/#/experiments/1/runs/{run}", f"/runs/{run}", "svc-1"),
        (f"/mlflow#/experiments/1/runs/{run}/artifacts?workspace=a", f"/runs/{run}", "svc-1"),
        (f"/mlflow/#/experiments/1/evaluation-runs?selectedRunUuid={run}", f"/runs/{run}", "svc-1"),
        ("/mlflow/#/experiments/1", "/runs?experiment=1", "digits"),
        ("/mlflow/#/experiments/1/models/m-0", "/runs?experiment=1", "digits"),
        ("/mlflow/#/models/digits/versions/1", "/models/digits?version=1", "digits"),
        ("/mlflow/#/models/digits", "/models/digits", "digits"),
        ("/mlflow/#/models", "/models", "Models"),
        ("/mlflow/", "/runs", "Runs"),
        ("/mlflow/#/experiments/%2Fevil.example%2F", "/runs?experiment=%2Fevil.example%2F", "/evil.example/"),
        ("/mlflow/#//evil.example/%E0%A4%A", "/runs", "Runs"),
    ):
        page.goto("about:blank")  # another '#' alone would not load the page anew
        page.goto(link)
        expect(page).to_have_url(site.url + to)
        expect(page).to_have_title(re.compile("^" + re.escape(title)))
    assert not troubles
    context.close()


@pytest.mark.slow
def test_what_the_client_prints_is_opened(server: Server, browser: Browser) -> None:
    environ = {**os.environ, "MLFLOW_TRACKING_URI": f"{server.url}/mlflow", "MLFLOW_DISABLE_TELEMETRY": "true"}
    printed = subprocess.run([sys.executable, "-c", TRAIN], check=True, capture_output=True, text=True, env=environ).stdout
    run, experiment = re.findall(r"View (?:run|experiment)\b.*? at: (\S+)", printed)
    page = browser.new_page()
    page.goto(run)
    expect(page.locator("h1")).to_have_text("printed")
    page.goto(experiment)
    expect(page).to_have_url(re.compile(r"/runs\?experiment=\d+$"))
    expect(page).to_have_title(re.compile("^linked"))
    page.close()


@pytest.mark.slow
def test_under_keys_one_signs_in_and_is_led_on(new_server: Callable[..., Server], browser: Browser) -> None:
    server = new_server()
    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {server.token}"}, timeout=30) as admin:
        run = admin.post("/api/v1/runs", json={"name": "guarded"}).raise_for_status().json()["id"]
        secret = admin.post("/api/v1/keys", json={"name": "mine", "scopes": ["read", "admin"]}).raise_for_status().json()["secret"]
        admin.put("/api/v1/auth", json={"auth": "keys"}).raise_for_status()
    page = browser.new_page()
    page.goto(f"{server.url}/mlflow/#/experiments/0/runs/{run}")
    expect(page).to_have_url(re.compile(r"/sign-in\?next="))
    page.get_by_label("Key").fill(secret)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("h1")).to_have_text("guarded")
    page.close()


@pytest.mark.slow
def test_a_port_of_mlflow_alone_has_no_pages(new_server: Callable[..., Server]) -> None:
    port = free_port()
    new_server("--listen", f"{port}=mlflow")
    answer = httpx.get(f"http://127.0.0.1:{port}/")
    assert answer.status_code == 200 and "dashboard" in answer.text
    assert httpx.get(f"http://127.0.0.1:{port}/mlflow/").json()["error_code"] == "ENDPOINT_NOT_FOUND"
