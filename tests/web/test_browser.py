"""The pages in a real Chromium: no errors, no violation of the policy, room at 380 pixels, keyboard, themes, live updates."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, expect

from tests.conftest import wait_for
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
VIOLATIONS = "addEventListener('securitypolicyviolation', (e) => console.error(`policy: ${e.violatedDirective} ${e.blockedURI}`))"


@dataclass
class Tab:
    """A page, with what went wrong on it."""

    page: Page
    troubles: list[str] = field(default_factory=list)

    def hear(self, message: ConsoleMessage) -> None:
        # Chromium reports the status of the page itself as an error; a page that is not there is meant to be 404.
        if message.type in ("error", "warning") and "status of 404" not in message.text:
            self.troubles.append(message.text)


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
    run = stage.tracking.create_run(stage.ctx, "1", name="growing")
    tab.page.goto(f"/runs/{run.id}")
    expect(tab.page.locator(".live")).to_have_text("Live")
    stage.tracking.log_batch(stage.ctx, run.id, metrics=[Metric("loss", 0.123, 1_000, 1)], params={"fresh": "yes"})
    expect(tab.page.locator("#metrics")).to_contain_text("0.123", timeout=15_000)
    expect(tab.page.locator("#params")).to_contain_text("fresh")
    # Under the pointer nothing moves: what is new waits until the pointer has gone.
    tab.page.locator("#params").hover()
    stage.tracking.log_batch(stage.ctx, run.id, metrics=[Metric("loss", 0.456, 2_000, 2)], params={"later": "yes"})
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


def test_runs_are_compared_and_looked_at_from_near(tab: Tab, site: Site) -> None:
    tab.page.goto("/runs?experiment=1")
    for run in ("run1", "run4", "run7"):
        tab.page.locator(f"[data-pick='{site.made[run]}']").check()
    tab.page.get_by_role("link", name="Compare").click()
    expect(tab.page.locator("#parallel path.run-line")).to_have_count(3)
    expect(tab.page.locator("#scatter circle")).to_have_count(3)
    expect(tab.page.locator("#charts canvas").first).to_be_visible()
    tab.page.get_by_label("Horizontal axis").select_option("relative")
    tab.page.get_by_label("Smoothing").select_option("0.9")
    tab.page.get_by_label("log y").check()
    expect(tab.page).to_have_url(re.compile(r"x=relative&smooth=0\.9&logy=1"))
    tab.page.reload()
    expect(tab.page.get_by_label("log y")).to_be_checked()
    tab.page.get_by_label("Horizontal axis").select_option("step")
    chart = tab.page.locator('.chart[data-key="accuracy"]')
    chart.scroll_into_view_if_needed()
    chart.hover()
    tab.page.keyboard.down("Control")
    with tab.page.expect_response(lambda answer: "/data/runs?" in answer.url and "from=" in answer.url):
        tab.page.mouse.wheel(0, -300)
    tab.page.keyboard.up("Control")
    expect(tab.page.locator("#charts[data-range]")).to_be_visible()
    tab.page.get_by_label("Horizontal axis").select_option("time")
    chart.hover()
    tab.page.keyboard.down("Control")
    with tab.page.expect_response(lambda answer: "/data/runs?" in answer.url and "from_ms=" in answer.url) as near:
        tab.page.mouse.wheel(0, -300)
    tab.page.keyboard.up("Control")
    assert near.value.ok


def test_a_column_is_found_by_its_name_and_chosen_runs_show_their_colour(tab: Tab, site: Site) -> None:
    tab.page.goto("/runs?experiment=1")
    tab.page.locator("details.menu summary", has_text="Columns").click()
    tab.page.get_by_label("Find a column").fill("seed")
    expect(tab.page.locator(".pop label:visible")).to_have_count(1)
    run = site.made["run1"]
    tab.page.keyboard.press("Escape")
    tab.page.goto(f"/runs?experiment=1&pick={run}")
    key = tab.page.locator(f".key[data-run='{run}']")
    expect(key).to_have_attribute("data-c", re.compile(r"\d"))
    tab.page.goto("/runs?filter=accuracy+is+good")
    expect(tab.page.get_by_role("alert")).to_be_visible()


def test_a_view_is_saved_pinned_and_found_again(browser: Browser, own_site: Site) -> None:
    context = browser.new_context(base_url=own_site.url)
    page = context.new_page()
    page.goto("/runs?experiment=1&sort=metrics.accuracy&dir=desc")
    row = page.locator("#rows tr", has_text="svc-1")
    row.hover()
    row.get_by_role("link", name="Pin svc-1").click()
    expect(page.locator("tbody.pinned")).to_contain_text("svc-1")
    page.locator("#views summary").click()
    page.get_by_label("Name of the view").fill("the one to beat")
    page.get_by_role("button", name="Save").click()
    expect(page).to_have_url(re.compile(r"view=the\+one\+to\+beat"))
    page.goto("/runs")
    expect(page.locator("tbody.pinned")).to_have_count(0)
    page.locator("#views summary").click()
    page.get_by_role("link", name="the one to beat").click()
    expect(page.locator("tbody.pinned")).to_contain_text("svc-1")
    expect(page.locator("th[aria-sort=descending]")).to_contain_text("accuracy")
    page.locator("#views summary").click()
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete the view the one to beat").click()
    page.locator("#views summary").click()
    expect(page.locator("#views")).to_contain_text("A view keeps")
    context.close()


def test_groups_open_and_their_runs_are_drawn(tab: Tab, site: Site) -> None:
    tab.page.goto("/runs?experiment=1")
    tab.page.get_by_label("Group by").select_option("params.model")
    expect(tab.page).to_have_url(re.compile(r"/runs\?experiment=1&group=params.model$"))
    expect(tab.page.locator("th[scope=rowgroup]", has_text="LogisticRegression")).to_be_visible()
    tab.page.get_by_role("link", name="Open SVC").click()
    tab.page.locator(f"[data-pick='{site.made['run4']}']").check()
    expect(tab.page.locator("#curves canvas")).to_be_visible()
    # What is drawn stays drawn when the table is shaped anew.
    tab.page.get_by_role("link", name="Close SVC").click()
    expect(tab.page).to_have_url(re.compile(f"pick={site.made['run4']}"))
    expect(tab.page.locator("#legend")).to_contain_text("svc-4")


def test_runs_are_drawn_and_pinned_by_keyboard(tab: Tab) -> None:
    tab.page.goto("/runs?experiment=1")
    tab.page.keyboard.press("j")
    expect(tab.page.locator("a.main").first).to_be_focused()
    tab.page.keyboard.press("x")
    expect(tab.page.locator("[data-pick]").first).to_be_checked()
    tab.page.keyboard.press("p")
    expect(tab.page.locator("tbody.pinned tr")).to_have_count(1)


def test_pictures_of_earlier_steps_are_looked_at(tab: Tab, site: Site) -> None:
    tab.page.goto(f"/runs/{site.made['rich']}")
    figure = tab.page.locator("figure", has=tab.page.get_by_label("Step of samples"))
    expect(figure).to_contain_text("after step 20")
    figure.get_by_label("Step of samples").focus()
    tab.page.keyboard.press("Home")
    expect(figure).to_contain_text("after step 0")
    expect(figure.locator("img")).to_have_attribute("src", re.compile(r"samples_0\.png$"))
    assert figure.locator("img").evaluate("async (el) => { await el.decode(); return el.naturalWidth; }") == 96
    frame = tab.page.frame_locator("iframe[title=report]")
    tab.page.locator("iframe[title=report]").scroll_into_view_if_needed()
    expect(frame.locator("h1")).to_have_text("Report")
    expect(tab.page.locator("[data-plot] canvas").first).to_be_visible()
    tab.page.get_by_text("System metrics").click()
    expect(tab.page.locator("#system-charts canvas").first).to_be_visible()


def test_a_sweep_goes_on_while_one_looks_and_says_what_matters(tab: Tab, site: Site) -> None:
    from tests.web.logged import half_a_sweep

    stage = site.stage
    name = half_a_sweep(stage.tracking, stage.sweeps, stage.ctx, "0", runs=8)
    tab.page.goto("/sweeps")
    expect(tab.page.locator(".live")).to_have_text("Live")
    tab.page.locator(f"a[href='/sweeps/{name}']").click()
    expect(tab.page.locator("#importance tbody tr")).to_have_count(3, timeout=30_000)
    expect(tab.page.locator("#parallel path.run-line")).to_have_count(8)
    expect(tab.page.locator(".live")).to_have_text("Live")
    (agent,) = stage.sweeps.agents(stage.ctx, name)
    stage.sweeps.heartbeat(stage.ctx, agent.id, [])
    expect(tab.page.locator("#trials tbody tr")).to_have_count(9, timeout=15_000)
    expect(tab.page.locator("#parallel path.run-line")).to_have_count(9)
    tab.page.get_by_role("button", name="Pause").click()
    expect(tab.page.locator("#top")).to_contain_text("Paused")
    tab.page.get_by_role("button", name="Resume").click()
    expect(tab.page.locator("#top")).to_contain_text("Running")


def test_charts_grow_while_a_run_trains(tab: Tab, site: Site) -> None:
    from drivetrain.tracking.model import Metric

    stage = site.stage
    run = stage.tracking.create_run(stage.ctx, "1", name="training")
    stage.tracking.log_batch(stage.ctx, run.id, metrics=[Metric("loss", 1 / (n + 1), 1000 * n, n) for n in range(5)])
    tab.page.goto(f"/runs/compare?ids={run.id},{site.made['tuned']}")
    expect(tab.page.locator(".live")).to_have_text("Live")
    chart = tab.page.locator('.chart[data-key="loss"]')
    expect(chart).to_have_attribute("aria-label", re.compile(r"training 0\.2\b"))
    stage.tracking.log_batch(stage.ctx, run.id, metrics=[Metric("loss", 0.125, 9000, 7)])
    expect(chart).to_have_attribute("aria-label", re.compile(r"training 0\.125"), timeout=15_000)
    expect(tab.page.locator("#metrics")).to_contain_text("0.125")
    # The same in the table of runs, with the run drawn beside it.
    tab.page.goto(f"/runs?experiment=1&pick={run.id}&col=metrics.loss")
    expect(tab.page.locator("#legend")).to_contain_text("0.125")
    expect(tab.page.locator(".live")).to_have_text("Live")
    stage.tracking.log_batch(stage.ctx, run.id, metrics=[Metric("loss", 0.0625, 10_000, 8)])
    expect(tab.page.locator("#legend")).to_contain_text("0.0625", timeout=15_000)
    expect(tab.page.locator("#rows")).to_contain_text("0.0625")


def test_what_stays_the_same_is_left_alone_and_the_console_follows_its_end(tab: Tab, site: Site) -> None:
    from drivetrain.tracking.model import Line, Metric

    stage = site.stage
    run = site.made["rich"]
    tab.page.goto(f"/runs/{run}")
    expect(tab.page.locator(".live")).to_have_text("Live")
    tab.page.get_by_label("Step of samples").evaluate("(el) => { el.value = 1; el.dispatchEvent(new Event('input', {bubbles: true})); }")
    stage.tracking.stream(stage.ctx, run, lines=[Line(n, "", "", f"more {n}") for n in range(41, 60)])
    stage.tracking.log_batch(stage.ctx, run, metrics=[Metric("accuracy", 0.987, 1_000, 300)])
    expect(tab.page.locator("#metrics")).to_contain_text("0.987", timeout=15_000)
    expect(tab.page.locator("#console")).to_contain_text("more 59")
    # The picture that somebody went back to is still there.
    expect(tab.page.locator("figure", has=tab.page.get_by_label("Step of samples"))).to_contain_text("after step 5")
    left = "(el) => el.scrollHeight - el.clientHeight - el.scrollTop"
    assert tab.page.locator(".console").evaluate(left) < 24
