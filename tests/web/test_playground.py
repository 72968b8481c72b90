"""The playground against a whole server: an answer streams in, a row is answered, and both lead to their trace."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.conftest import Server

pytestmark = pytest.mark.slow


def drivetrain(server: Server, *arguments: str) -> None:
    environ = {**os.environ, "DRIVETRAIN_URL": server.url}
    done = subprocess.run(
        [sys.executable, "-m", "drivetrain.cli.main", *arguments], env=environ, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_chat_streams_and_is_traced(server: Server, browser: Browser, gguf_model: Path) -> None:
    drivetrain(server, "pull", str(gguf_model), "--name", "smollm2")
    context = browser.new_context(base_url=server.url)
    page = context.new_page()
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    page.goto("/playground?model=smollm2")
    page.locator("#most").fill("32")
    page.get_by_label("Message").fill("Count to five.")
    page.keyboard.press("Enter")
    answer = page.locator(".turn").nth(1)
    expect(answer.locator(".said")).to_have_text(re.compile(r"\w+"), timeout=120_000)
    expect(answer.locator(".after")).to_contain_text("tokens/s", timeout=120_000)
    expect(answer.locator(".after")).to_contain_text("first token")
    said = answer.locator(".said").text_content() or ""
    # Held back, so that no short answer ends before it can be stopped.
    page.route("**/chat/completions", lambda _: None)
    page.get_by_label("Message").fill("And on.")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    answer.get_by_role("link", name=re.compile("trace")).click()
    expect(page.locator("h1")).to_contain_text("Request")
    expect(page.locator(".io").nth(1)).to_contain_text(said.strip()[:20])
    expect(page.locator(".lineage").first).to_contain_text("smollm2 v1")
    assert not troubles
    context.close()


def test_a_row_is_answered(server: Server, browser: Browser, digits_model: Path) -> None:
    drivetrain(server, "pull", str(digits_model), "--name", "digits")
    drivetrain(server, "deploy", "digits", "digits", "--wait")
    context = browser.new_context(base_url=server.url)
    page = context.new_page()
    page.goto("/playground?model=digits")
    page.locator("#body").fill("{")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#result")).to_contain_text("not JSON yet")
    page.locator("#body").fill('{"inputs": ' + str([[0.0] * 64]) + "}")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#result pre")).to_contain_text("predictions", timeout=30_000)
    page.locator("#body").fill('{"inputs": [[1.0]]}')
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#result .note-box")).to_be_visible()
    page.locator("#result").get_by_role("link", name=re.compile("trace")).click()
    expect(page.locator("h1")).to_contain_text("Request")
    context.close()


def test_an_open_page_does_not_hold_up_the_end(new_server: Callable[..., Server]) -> None:
    server = new_server(environ={"DRIVETRAIN_DRAIN_SECONDS": "300"})
    with httpx.stream("GET", f"{server.url}/data/live?topic=overview", timeout=60) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "retry: 2000"
        server.stop()  # raises where it takes a minute
        assert not any(line.startswith("event: change") for line in lines)
