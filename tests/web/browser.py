"""A real Chromium, and a page in it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field

from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright

from tests.conftest import wait_for

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome") or "/usr/bin/chromium"
VIOLATIONS = "addEventListener('securitypolicyviolation', (e) => console.error(`policy: ${e.violatedDirective} ${e.blockedURI}`))"
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def launch(playwright: Playwright) -> Browser:
    """Headless, with an empty profile, and quiet on the network."""
    return playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=list(QUIET))


@dataclass
class Tab:
    """A page, with what went wrong on it."""

    page: Page
    troubles: list[str] = field(default_factory=list)

    def hear(self, message: ConsoleMessage) -> None:
        # Chromium reports the status of the page itself as an error; a page that is not there is meant to be 404.
        if message.type in ("error", "warning") and "status of 404" not in message.text:
            self.troubles.append(message.text)


def pointed(page: Page, chart: str) -> str:
    """What a chart says of the place under the pointer. It may be drawn anew at any moment, which hides it."""
    places = iter(range(60, 10_000))

    def ask() -> str | None:
        page.locator(chart).hover(position={"x": next(places) % 200 + 60, "y": 80})
        return next(iter(page.locator(".tip:visible").all_text_contents()), None)

    return wait_for(ask, seconds=20, what="the words at the pointer")


def drawn(page: Page) -> None:
    script = "[...document.querySelectorAll('.chart')].every((el) => !el.checkVisibility() || el.firstChild !== null)"
    wait_for(lambda: page.evaluate(script), seconds=20, what="the charts")
