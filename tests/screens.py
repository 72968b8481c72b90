"""Screenshots of every page: desktop and phone, light and dark, empty and full of real data. `make screens` puts them in .screens.

By default it starts two real servers, one on an empty home and one that the demo has filled. `--quick` fills a home by the services' verbs.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import uvicorn
from playwright.sync_api import Browser, Page, sync_playwright

from tests.conftest import Server, free_port, wait_for
from tests.web.browser import CHROMIUM, launch
from tests.web.stage import Stage

ROOT = Path(__file__).parent.parent
SIZES = {"desktop": (1440, 900), "phone": (380, 800)}
THEMES = ("light", "dark")


def pages(url: str) -> dict[str, str]:
    """Name → path of every page that this server has something to show on."""
    found = {
        "overview": "/",
        "runs": "/runs",
        "runs-wrong": "/runs?filter=accuracy+is+good",
        "compare-none": "/runs/compare",
        "sweeps": "/sweeps",
        "models": "/models",
        "deployments": "/deployments",
        "playground": "/playground",
        "keys": "/keys",
        "alerts": "/alerts",
        "channels": "/alerts/channels",
        "sign-in": "/sign-in",
        "missing": "/models/no-such-model",
    }
    for alert in links(url, "/alerts", r"/alerts/[0-9a-f]{32}")[:2]:
        found["alert"] = alert
    runs = links(url, "/runs", r"/runs/[0-9a-f]{32}")
    if runs:
        found["run"] = runs[0]
        ids = [run.rpartition("/")[2] for run in runs]
        found["runs-picked"] = "/runs?" + "&".join(f"pick={run}" for run in ids[:4])
        found["runs-pinned"] = f"/runs?pin={ids[-1]}&pin={ids[0]}&col=status&col=user_id&col=labels&col=commit&col=source"
        found["runs-grouped"] = "/runs?group=experiment"
    # The runs of an experiment that has many of them, beside each other; and one with media.
    some = [run.rpartition("/")[2] for run in links(url, "/runs?experiment=1", r"/runs/[0-9a-f]{32}")[:6]]
    if len(some) > 1:
        found["runs-open"] = "/runs?experiment=1&group=params.model&open=SVC"
        found["compare"] = f"/runs/compare?ids={','.join(some)}"
    for run in links(url, "/runs?filter=resnet50", r"/runs/[0-9a-f]{32}")[:1]:
        found["run-rich"] = run
    for sweep in links(url, "/sweeps", r"/sweeps/[\w-]+")[:1]:
        found["sweep"] = sweep
    for model in links(url, "/models", r"/models/[\w.-]+")[:2]:
        found[f"model-{model.rpartition('/')[2]}"] = model
    for deployment in links(url, "/deployments", r"/deployments/[\w.%@-]+")[:2]:
        name = re.sub(r"\W+", "-", deployment.rpartition("/")[2])
        found[f"deployment-{name}"] = deployment
        found[f"playground-{name}"] = f"/playground?model={deployment.rpartition('/')[2]}"
        for number, rollout in enumerate(links(url, deployment, r"/rollouts/[0-9a-f]{32}")[:4]):
            found[f"rollout-{name}-{number}"] = rollout
        found[f"drift-{name}"] = f"{deployment}/drift"
        for side in ("quality", "retraining", "checklist"):
            found[f"{side}-{name}"] = f"{deployment}/{side}"
        if requests := links(url, deployment, r"/requests/[0-9a-f]{32}"):
            found[f"request-{name}"] = requests[0]
    return found


def links(url: str, path: str, pattern: str) -> list[str]:
    with urllib.request.urlopen(url + path) as answer:
        text = answer.read().decode()
    return list(dict.fromkeys(re.findall(rf'href="({pattern})[?"]', text)))


def take(browser: Browser, url: str, state: str, target: Path, only: str, sizes: list[str], themes: list[str]) -> int:
    taken = 0
    for size in sizes:
        for theme in themes:
            width, height = SIZES[size]
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme="dark" if theme == "dark" else "light")
            page = context.new_page()
            for name, path in pages(url).items():
                if not re.search(only, name):
                    continue
                show(page, url + path)
                page.screenshot(path=str(target / f"{name}--{state}--{size}--{theme}.png"), full_page=True)
                taken += 1
            context.close()
    return taken


def show(page: Page, address: str) -> None:
    page.goto(address)
    page.evaluate("document.fonts.ready")
    # Not page.wait_for_function: it needs eval, which the page's policy forbids.
    drawn = "[...document.querySelectorAll('.chart')].every((el) => !el.checkVisibility() || el.firstChild !== null)"
    wait_for(lambda: page.evaluate(drawn), seconds=20, what=f"the charts of {address}")
    if page.locator("#importance").count():
        wait_for(lambda: "Reckoning" not in page.locator("#importance").inner_text(), seconds=30, what="what matters")
    if page.locator(".runs.picked").count():
        page.wait_for_selector("#curves canvas, #curves .why")


@contextmanager
def staged(folder: Path, *, full: bool) -> Iterator[str]:
    """The pages over services, served from this process."""
    stage = Stage(folder)
    if full:
        stage.fill()
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(stage.app(), port=port, lifespan="off", log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started, what="the pages")
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def demonstrated(folder: Path) -> Iterator[str]:
    """A server that the demo has filled."""
    done = subprocess.run([sys.executable, str(ROOT / "examples/demo.py"), "--keep", "--home", str(folder)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)
    found = re.search(r"as process (\d+)", re.sub(r"\x1b\[[0-9;]*m", "", done.stdout))
    assert found is not None, done.stdout
    try:
        yield str(json.loads(next(folder.rglob("server.json")).read_text())["url"])
    finally:
        subprocess.run(["kill", found[1]], check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / ".screens")
    parser.add_argument("--only", default="", help="pages whose name matches this")
    parser.add_argument("--size", choices=[*SIZES], action="append")
    parser.add_argument("--theme", choices=[*THEMES], action="append")
    parser.add_argument("--quick", action="store_true", help="fill a home by verbs instead of running the demo")
    parser.add_argument("--full-url", help="a running server with data")
    parser.add_argument("--empty-url", help="a running server without")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="drivetrain-screens-")))
        empty, full = arguments.empty_url, arguments.full_url
        if arguments.quick:
            empty = empty or stack.enter_context(staged(folder / "empty", full=False))
            full = full or stack.enter_context(staged(folder / "full", full=True))
        if full is None:
            full = stack.enter_context(demonstrated(folder / "full"))
        if empty is None:
            server = Server(folder / "empty").start()
            stack.callback(server.stop)
            empty = server.url
        browser = launch(stack.enter_context(sync_playwright()))
        stack.callback(browser.close)
        sizes, themes = arguments.size or [*SIZES], arguments.theme or [*THEMES]
        taken = take(browser, full, "full", arguments.out, arguments.only, sizes, themes)
        taken += take(browser, empty, "empty", arguments.out, arguments.only, sizes, themes)
    print(f"{taken} screenshots in {arguments.out}, taken with {CHROMIUM}")


if __name__ == "__main__":
    main()
