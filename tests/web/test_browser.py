"""The pages in a real Chromium: no errors, no violation of the policy, room at 380 pixels, keyboard, themes, live updates."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Dialog, expect

from tests.web.browser import Tab, drawn, pointed
from tests.web.conftest import Site

pytestmark = pytest.mark.slow
PATHS = [
    "/",
    "/runs",
    "/runs?experiment=1&sort=metrics.accuracy&dir=desc",
    "/runs/{run1}",
    "/runs/{rich}",
    "/runs?group=params.model&open=SVC&experiment=1",
    "/runs?pin={rich}&col=labels&col=user_id",
    "/runs/compare?ids={run1}",
    "/runs/compare?ids={run1},{run4},{rich}",
    "/sweeps",
    "/sweeps/{sweep}",
    "/models",
    "/models/digits",
    "/deployments",
    "/deployments/digits",
    "/deployments/digits/drift",
    "/deployments/digits/quality",
    "/deployments/digits/retraining",
    "/deployments/digits/checklist",
    "/rollouts/{rollout}",
    "/rollouts/{rolled_back}",
    "/alerts",
    "/alerts/{alert}",
    "/alerts/channels",
    "/requests/{request}",
    "/playground",
    "/keys",
    "/sign-in",
    "/models/nothing",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_page_has_no_errors_and_room_on_a_phone(tab: Tab, site: Site, path: str) -> None:
    tab.page.goto(path.format(**site.made))
    drawn(tab.page)
    expect(tab.page.locator("h1")).to_have_count(1)
    tab.page.set_viewport_size({"width": 380, "height": 800})
    widths = tab.page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert widths[0] <= widths[1], f"scrolls sideways: {widths}"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/runs",
        "/runs/{run1}",
        "/runs/{rich}",
        "/runs?group=params.model&open=SVC&experiment=1",
        "/runs/compare?ids={run1},{run4}",
        "/sweeps",
        "/sweeps/{sweep}",
        "/models/digits",
        "/deployments/digits",
        "/deployments/digits/drift",
        "/deployments/digits/quality",
        "/deployments/digits/retraining",
        "/deployments/digits/checklist",
        "/rollouts/{rollout}",
        "/alerts",
        "/alerts/{alert}",
        "/alerts/channels",
        "/requests/{request}",
        "/keys",
        "/playground",
    ],
)
def test_everything_has_a_name_for_screen_readers(tab: Tab, site: Site, path: str) -> None:
    tab.page.goto(path.format(**site.made))
    nameless = tab.page.evaluate(
        """() => [...document.querySelectorAll('a, button, input:not([type=hidden]), select, textarea, [role=img]')].filter((el) =>
          !(el.textContent.trim() || el.ariaLabel || el.getAttribute('aria-labelledby') || el.title || (el.labels && el.labels.length)
            || el.closest('[aria-hidden=true]'))).map((el) => el.outerHTML.slice(0, 120))"""
    )
    assert nameless == []
    ids = tab.page.evaluate("[...document.querySelectorAll('[id]')].map((el) => el.id)")
    assert len(ids) == len(set(ids))


def test_search_goes_anywhere_by_keyboard(tab: Tab) -> None:
    tab.page.goto("/")
    tab.page.keyboard.press("Control+k")
    expect(tab.page.locator("#search")).to_be_visible()
    tab.page.keyboard.type("svc-4")
    expect(tab.page.locator("#found a[aria-selected=true]")).to_contain_text("svc-4")
    tab.page.keyboard.press("Enter")
    expect(tab.page).to_have_url(re.compile(r"/runs/[0-9a-f]{32}$"))
    tab.page.wait_for_load_state()
    tab.page.keyboard.press("/")
    expect(tab.page.locator("#search")).to_be_visible()
    tab.page.keyboard.type("deployments")
    expect(tab.page.locator("#found")).to_contain_text("Pages")
    tab.page.keyboard.press("ArrowDown")
    tab.page.keyboard.press("ArrowUp")
    tab.page.keyboard.press("Escape")
    expect(tab.page.locator("#search")).not_to_be_visible()


def test_rows_are_reached_by_keyboard(tab: Tab) -> None:
    tab.page.goto("/models")
    tab.page.keyboard.press("j")
    expect(tab.page.locator("a.main", has_text="digits")).to_be_focused()
    tab.page.keyboard.press("Enter")
    expect(tab.page).to_have_url(re.compile(r"/models/digits$"))


def test_the_theme_is_the_systems_until_it_is_chosen(browser: Browser, site: Site) -> None:
    context = browser.new_context(base_url=site.url, color_scheme="dark")
    page = context.new_page()
    page.goto("/deployments/digits")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    dark = page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor")
    page.get_by_role("button", name="Switch between light and dark").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor") != dark
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    context.close()


def test_chosen_runs_are_drawn_and_remembered_in_the_address(tab: Tab, site: Site) -> None:
    tab.page.goto("/runs?experiment=1")
    expect(tab.page.locator("#curves")).to_be_hidden()
    tab.page.locator(f"[data-pick='{site.made['run1']}']").check()
    tab.page.locator(f"[data-pick='{site.made['run4']}']").check()
    expect(tab.page.locator("#legend")).to_contain_text("svc-4")
    expect(tab.page.locator("#curves canvas")).to_be_visible()
    assert tab.page.url.count("pick=") == 2
    tab.page.reload()
    expect(tab.page.locator("#legend")).to_contain_text("svc-1")
    tab.page.locator("#metric").select_option("val/loss")
    tab.page.locator("#smooth").select_option("0.9")
    assert "step" in pointed(tab.page, "#curves")


def test_charts_answer_the_pointer(tab: Tab) -> None:
    tab.page.goto("/deployments/digits?window=1h")
    chart = tab.page.locator(".chart").first
    expect(chart.locator("canvas")).to_be_visible()
    assert "/s" in pointed(tab.page, ".chart >> nth=0")
    assert "Latest" in (chart.get_attribute("aria-label") or "")


def test_a_run_grows_while_one_looks(tab: Tab, site: Site) -> None:
    from drivetrain.tracking.model import Metric

    stage = site.stage
    run = stage.tracking.runs.create(stage.ctx, "1", name="growing")
    tab.page.goto(f"/runs/{run.id}")
    expect(tab.page.locator(".live")).to_have_text("Live")
    stage.tracking.metrics.log(stage.ctx, run.id, metrics=[Metric("loss", 0.123, 1_000, 1)], params={"fresh": "yes"})
    expect(tab.page.locator("#metrics")).to_contain_text("0.123", timeout=15_000)
    expect(tab.page.locator("#params")).to_contain_text("fresh")
    # Under the pointer nothing moves: what is new waits until the pointer has gone.
    tab.page.locator("#params").hover()
    stage.tracking.metrics.log(stage.ctx, run.id, metrics=[Metric("loss", 0.456, 2_000, 2)], params={"later": "yes"})
    expect(tab.page.locator("#metrics")).to_contain_text("0.456", timeout=15_000)
    expect(tab.page.locator("#params")).not_to_contain_text("later")
    tab.page.locator("h1").hover()
    expect(tab.page.locator("#params")).to_contain_text("later")


def test_lines_are_copied(tab: Tab, site: Site, browser: Browser) -> None:
    tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.url)
    tab.page.goto("/models/digits")
    tab.page.get_by_role("button", name="Copy the name").click()
    assert tab.page.evaluate("navigator.clipboard.readText()") == "models:/digits/4"
    expect(tab.page.locator("#announce")).to_have_text("Copied")


def test_a_key_is_made_and_revoked(tab: Tab) -> None:
    tab.page.goto("/keys")
    tab.page.get_by_label("Name").fill("from the page")
    tab.page.get_by_role("button", name="Make key").click()
    expect(tab.page.locator("#secret")).to_have_text(re.compile(r"dt-[A-Za-z0-9]{40}"))
    asked: list[str] = []

    def agree(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.accept()

    tab.page.once("dialog", agree)
    tab.page.locator("tr", has_text="from the page").get_by_role("button", name="Revoke").click()
    expect(tab.page.locator("tr", has_text="from the page")).to_contain_text("Revoked")
    assert "cannot be undone" in asked[0]


def test_one_signs_in_with_a_key(browser: Browser, empty_site: Site) -> None:
    stage = empty_site.stage
    _, secret = stage.identity.create_key(stage.ctx, name="mine", scopes=("read", "write", "invoke", "admin"))
    stage.identity.set_auth(stage.ctx, "keys")
    stage.nudge("identity")
    context = browser.new_context(base_url=empty_site.url)
    page = context.new_page()
    page.goto("/models")
    expect(page).to_have_url(re.compile(r"/sign-in\?next=%2Fmodels"))
    page.get_by_label("Key").fill("dt-" + "x" * 40)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("Key").fill(secret)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(re.compile(r"/models$"))
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile(r"/sign-in"))
    page.goto("/models")
    expect(page).to_have_url(re.compile(r"/sign-in"))
    context.close()


def test_the_evidence_answers_the_pointer(tab: Tab, site: Site) -> None:
    tab.page.goto(f"/rollouts/{site.made['rolled_back']}")
    drawn(tab.page)
    assert " : 1" in pointed(tab.page, "[data-guard='0']") or "1 : " in pointed(tab.page, "[data-guard='0']")
    assert "Wrong by the label" in (tab.page.locator("[data-guard='2']").get_attribute("aria-label") or "")


def test_a_rollout_is_taken_back_by_its_button(browser: Browser, own_site: Site) -> None:
    made = own_site.made
    context = browser.new_context(base_url=own_site.url)
    page = context.new_page()
    page.goto(f"/rollouts/{made['rollout']}")
    expect(page.locator(".live")).to_have_text("Live")
    page.get_by_role("button", name="Pause").first.click()
    expect(page.get_by_text("until somebody resumes")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_text("until somebody resumes")).to_be_hidden()
    page.mouse.click(60, 500)  # beside it all: what the pointer or the keyboard is at stays as it is
    # Somebody else pauses it: the page follows, and what can be done now can be done.
    own_site.stage.rollouts.pause(own_site.stage.ctx, made["rollout"], why="elsewhere")
    expect(page.locator("#top")).to_contain_text("Paused at", timeout=15_000)
    page.get_by_role("button", name="Resume").first.click()
    expect(page.get_by_text("they do not pause it again")).to_be_visible()
    page.get_by_role("button", name="Leave it").first.click()
    page.get_by_role("button", name="Take it back").first.click()
    box = page.locator("#act-rollback")
    expect(box).to_contain_text("so no request is lost")
    page.keyboard.type("it feels wrong")  # the reason has the focus
    box.get_by_role("button", name="Take it back").click()
    expect(page.locator(".top .state")).to_have_text("Rolled back")
    expect(page.locator("#decisions")).to_contain_text("it feels wrong")
    expect(page.get_by_role("button", name="Take it back")).to_have_count(0)
    context.close()


def test_another_version_is_rolled_out_from_the_deployments_page(browser: Browser, own_site: Site) -> None:
    stage = own_site.stage
    made = own_site.made
    stage.rollouts.rollback(stage.ctx, made["rollout"])
    context = browser.new_context(base_url=own_site.url)
    page = context.new_page()
    page.goto("/deployments/digits")
    page.get_by_role("button", name="Roll out…").click()
    expect(page.locator("#roll-out")).to_contain_text("no worse")  # the forecast, from the traffic of the last hour
    page.locator("#roll-out").get_by_label("Plan").select_option("fast")
    page.locator("#roll-out").get_by_role("button", name="Start").click()
    expect(page).to_have_url(re.compile(r"/rollouts/[0-9a-f]{32}$"))
    expect(page.locator(".top .state")).to_have_text("Starting")
    context.close()
