"""The reference of the API says what the server does."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from typing import Any

import httpx
import pytest
from markupsafe import Markup
from playwright.sync_api import Browser, expect

from drivetrain.web.reference import operations, prose
from tests.conftest import Server

DOCUMENT: dict[str, Any] = {
    "paths": {
        "/api/v1/keys": {
            "post": {
                "tags": ["identity"],
                "operationId": "create_key",
                "summary": "Create Key",
                "description": "The secret is in this answer.",
                "parameters": [{"name": "limit", "in": "query", "schema": {"type": "integer", "default": 3}}],
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/NewKey"}}}},
            }
        }
    },
    "components": {
        "schemas": {
            "NewKey": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string"},
                    "scopes": {"type": "array", "items": {"enum": ["read", "write"]}},
                    "days": {"anyOf": [{"type": "number"}, {"type": "null"}]},
                    "limits": {"type": "array", "items": {"$ref": "#/components/schemas/Limit"}, "default": []},
                },
            },
            "Limit": {
                "type": "object",
                "properties": {"unit": {"type": "string", "description": "hour or day"}, "inner": {"$ref": "#/components/schemas/Limit"}},
            },
        }
    },
}
SEEN = "el => { const box = el.getBoundingClientRect(); return box.height > 0 && box.top >= 48 && box.top < innerHeight }"


def test_operations_are_read_out_of_the_document() -> None:
    ((tag, one),) = operations(DOCUMENT)
    assert (tag, one.method, one.path, one.words) == ("identity", "POST", "/api/v1/keys", "The secret is in this answer.")
    assert [(field.name, field.where, field.type, field.required, field.default) for field in one.fields] == [
        ("limit", "query", "integer", False, "3"),
        ("name", "body", "string", True, ""),
        ("scopes", "body", "list of read | write", False, ""),
        ("days", "body", "number | null", False, ""),
        ("limits", "body", "list of object", False, "[]"),
        ("limits[].unit", "body", "string", False, ""),
        ("limits[].inner", "body", "object", False, ""),
        ("limits[].inner.unit", "body", "string", False, ""),
        ("limits[].inner.inner", "body", "object", False, ""),
    ]
    assert one.fields[5].words == "hour or day"


def test_an_operation_as_a_line_for_the_shell() -> None:
    ((_, one),) = operations(DOCUMENT)
    who = '-H "authorization: Bearer $DRIVETRAIN_API_KEY"'
    body = """-H 'content-type: application/json' -d '{"name": "NAME"}'"""
    assert one.curl("http://h", key=True) == f"curl -X POST http://h/api/v1/keys {who} {body}"
    about = {"operationId": "x", "parameters": [{"name": n, "in": "query", "schema": {}, "required": n == "must"} for n in ("must", "may")]}
    ((_, one),) = operations({"paths": {"/a/{some_name}": {"get": about}}})
    assert one.curl("http://h", key=False) == "curl 'http://h/a/SOME_NAME?must=MUST'"
    file = {"operationId": "x", "requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string"}}}}}
    ((_, one),) = operations({"paths": {"/a": {"put": file}}})
    assert one.curl("http://h", key=False) == "curl -X PUT http://h/a -T FILE"


def test_words_become_paragraphs_without_markup_of_their_own() -> None:
    assert prose("One `<b>` of\ntwo <i>.\n\nMore.") == ["One <code>&lt;b&gt;</code> of two &lt;i&gt;.", "More."]
    assert all(isinstance(one, Markup) for one in prose("a"))


@pytest.mark.slow
def test_the_page_of_a_real_server(server: Server) -> None:
    page = httpx.get(f"{server.url}/api/v1/docs")
    assert page.status_code == 200
    assert "//cdn" not in page.text
    for path in ("/api/v1/deployments", "/api/v1/keys", "/api/v1/requests/{request_id}/lineage", "/api/v1/jobs"):
        assert f"<code>{path}</code>" in page.text
    assert httpx.get(f"{server.url}/api/v1/openapi.json").json()["paths"]


@pytest.mark.slow
def test_the_lines_do_what_they_say(server: Server) -> None:
    page = httpx.get(f"{server.url}/api/v1/docs").text
    lines = [Markup(line).unescape() for line in re.findall(r"<pre[^>]*><code>(curl .*?)</code>", page)]
    document = httpx.get(f"{server.url}/api/v1/openapi.json").json()
    assert len(lines) == sum(len(methods) for methods in document["paths"].values())
    for line in lines:
        words = shlex.split(line)
        if "-d" in words:
            assert isinstance(json.loads(words[words.index("-d") + 1]), dict)
    for end in ("/api/v1/me", "/api/v1/runs", """/experiments -H 'content-type: application/json' -d '{"name": "NAME"}'"""):
        (line,) = (line for line in lines if line.endswith(end) and "DELETE" not in line)
        done = subprocess.run(["bash", "-c", f"{line} -sf"], check=True, capture_output=True)
        assert json.loads(done.stdout)
    put = next(line for line in lines if "blobs/SHA256" in line)
    done = subprocess.run(["bash", "-c", f"{put.replace('-T FILE', '-T /dev/null')} -s"], check=True, capture_output=True)
    assert json.loads(done.stdout)["error"]["type"] == "Invalid"


@pytest.mark.slow
def test_the_reference_in_a_browser_without_the_internet(server: Server, browser: Browser) -> None:
    context = browser.new_context(base_url=server.url, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    troubles, elsewhere = [], []
    page.on("console", lambda message: troubles.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda request: elsewhere.append(request.url) if not request.url.startswith(server.url) else None)
    page.goto("/")
    page.get_by_role("link", name="API", exact=True).click()
    expect(page.locator("h1")).to_have_text("API")
    expect(page.get_by_role("link", name="API", exact=True)).to_have_attribute("aria-current", "page")
    log = page.locator("#log_api_v1_runs__run_id__log_post")
    expect(log).to_be_hidden()
    page.get_by_text("/api/v1/runs/{run_id}/log").click()
    expect(log.get_by_role("cell", name="metrics[].timestamp_ms")).to_be_visible()
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server.url)
    log.get_by_role("button", name="Copy the line").click()
    expect(page.locator("#announce")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()").startswith(f"curl -X POST {server.url}/api/v1/runs/RUN_ID/log ")
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((el) => el.id)")
    assert len(ids) == len(set(ids))
    page.set_viewport_size({"width": 380, "height": 800})
    page.evaluate("for (const one of document.querySelectorAll('main details')) one.open = true")
    widths = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert widths[0] <= widths[1], f"scrolls sideways: {widths}"
    # The address of an operation opens it.
    page.goto("about:blank")
    page.goto("/api/v1/docs#create_key_api_v1_keys_post")
    key = page.locator("#create_key_api_v1_keys_post")
    expect(key).to_be_visible()
    assert key.evaluate(SEEN)
    assert key.locator("xpath=..").locator("summary").evaluate(SEEN)
    assert not troubles and not elsewhere
    context.close()
