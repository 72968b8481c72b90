"""One stage for the fast tests of a module, and its pages in a real Chromium."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn
from playwright.sync_api import Browser, sync_playwright

from tests.conftest import free_port, wait_for
from tests.web.browser import VIOLATIONS, Tab, launch
from tests.web.stage import Stage


@dataclass
class Site:
    """A stage whose pages are served on `url`. `made` names what it was filled with."""

    stage: Stage
    url: str
    made: dict[str, str]

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(self.url + path, headers={"accept": "text/html", **headers}, timeout=30)


def serve(stage: Stage, made: dict[str, str]) -> Iterator[Site]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(stage.app(), port=port, lifespan="off", log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started, what="the pages")
    yield Site(stage, f"http://127.0.0.1:{port}", made)
    server.should_exit = True
    thread.join(20)
    stage.db.close()


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A home that is full of data, to be copied: telling the whole story takes a while."""
    home = tmp_path_factory.mktemp("told") / "home"
    stage = Stage(home)
    made = stage.fill()
    stage.db.close()
    return home, made


def copied(told: tuple[Path, dict[str, str]], folder: Path) -> Iterator[Site]:
    home, made = told
    shutil.copytree(home, folder / "home")
    yield from serve(Stage(folder / "home"), dict(made))


@pytest.fixture(scope="module")
def site(told: tuple[Path, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Pages full of data, to be looked at."""
    yield from copied(told, tmp_path_factory.mktemp("site"))


@pytest.fixture
def own_site(told: tuple[Path, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The same for one test alone, which may change everything."""
    yield from copied(told, tmp_path_factory.mktemp("own"))


@pytest.fixture
def empty_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Pages with nothing to show."""
    yield from serve(Stage(tmp_path_factory.mktemp("empty") / "home"), {})


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """While Playwright is open, its event loop runs in this thread, where no other test could run one of its own."""
    with sync_playwright() as playwright:
        it = launch(playwright)
        yield it
        it.close()


@pytest.fixture
def tab(browser: Browser, site: Site) -> Iterator[Tab]:
    context = browser.new_context(base_url=site.url, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.add_init_script(VIOLATIONS)
    it = Tab(page)
    page.on("console", it.hear)
    page.on("pageerror", lambda error: it.troubles.append(str(error)))
    yield it
    assert not it.troubles
    context.close()
