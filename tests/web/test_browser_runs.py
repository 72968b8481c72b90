"""Runs and sweeps in a real Chromium: compared, grouped, pinned, and followed while they go on."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, expect

from tests.web.browser import Tab
from tests.web.conftest import Site

pytestmark = pytest.mark.slow


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
    run = stage.tracking.runs.create(stage.ctx, "1", name="training")
    stage.tracking.metrics.log(stage.ctx, run.id, metrics=[Metric("loss", 1 / (n + 1), 1000 * n, n) for n in range(5)])
    tab.page.goto(f"/runs/compare?ids={run.id},{site.made['tuned']}")
    expect(tab.page.locator(".live")).to_have_text("Live")
    chart = tab.page.locator('.chart[data-key="loss"]')
    expect(chart).to_have_attribute("aria-label", re.compile(r"training 0\.2\b"))
    stage.tracking.metrics.log(stage.ctx, run.id, metrics=[Metric("loss", 0.125, 9000, 7)])
    expect(chart).to_have_attribute("aria-label", re.compile(r"training 0\.125"), timeout=15_000)
    expect(tab.page.locator("#metrics")).to_contain_text("0.125")
    # The same in the table of runs, with the run drawn beside it.
    tab.page.goto(f"/runs?experiment=1&pick={run.id}&col=metrics.loss")
    expect(tab.page.locator("#legend")).to_contain_text("0.125")
    expect(tab.page.locator(".live")).to_have_text("Live")
    stage.tracking.metrics.log(stage.ctx, run.id, metrics=[Metric("loss", 0.0625, 10_000, 8)])
    expect(tab.page.locator("#legend")).to_contain_text("0.0625", timeout=15_000)
    expect(tab.page.locator("#rows")).to_contain_text("0.0625")


def test_what_stays_the_same_is_left_alone_and_the_console_follows_its_end(tab: Tab, site: Site) -> None:
    from drivetrain.tracking.model import Line, Metric

    stage = site.stage
    run = site.made["rich"]
    tab.page.goto(f"/runs/{run}")
    expect(tab.page.locator(".live")).to_have_text("Live")
    tab.page.get_by_label("Step of samples").evaluate("(el) => { el.value = 1; el.dispatchEvent(new Event('input', {bubbles: true})); }")
    stage.tracking.reports.append(stage.ctx, run, lines=[Line(n, "", "", f"more {n}") for n in range(41, 60)])
    stage.tracking.metrics.log(stage.ctx, run, metrics=[Metric("accuracy", 0.987, 1_000, 300)])
    expect(tab.page.locator("#metrics")).to_contain_text("0.987", timeout=15_000)
    expect(tab.page.locator("#console")).to_contain_text("more 59")
    # The picture that somebody went back to is still there.
    expect(tab.page.locator("figure", has=tab.page.get_by_label("Step of samples"))).to_contain_text("after step 5")
    left = "(el) => el.scrollHeight - el.clientHeight - el.scrollTop"
    assert tab.page.locator(".console").evaluate(left) < 24
