"""The pages of drift, quality, retraining and the checklist."""

from __future__ import annotations

import re

import httpx
import pytest
import sqlalchemy as sa

from drivetrain.retraining.tables import policies
from tests.web.conftest import Site

SIDES = ("drift", "quality", "retraining", "checklist")


def text_of(site: Site, path: str) -> str:
    return site.get(path).text.replace("<wbr>", "")


def test_features_are_ordered_by_effect_and_drawn(site: Site) -> None:
    text = text_of(site, "/deployments/digits/drift")
    assert "4 of 15 features have drifted" in text and "Alarm" in text
    names = re.findall(r'<div class="says"><h3>([^<]+)</h3>', text)
    assert set(names[:4]) == {"pixel_0_1", "pixel_1_3", "age", "country"} and len(names) == 15
    assert text.count('<svg class="overlay"') == 15
    assert re.search(r"<title>de: reference (39|4\d)(\.\d)?\u00a0%, live [123]\d", text), "each bar says its numbers"
    assert "training data of svc-7" in text and "of the last 3 windows" in text
    drifted = text_of(site, "/deployments/digits/drift?show=drifted")
    assert len(re.findall(r'<div class="says"><h3>', drifted)) == 4
    assert site.get("/deployments/digits/drift?show=best").status_code == 400


def test_each_window_can_be_looked_at(site: Site) -> None:
    text = text_of(site, "/deployments/digits/drift")
    marks = re.findall(r'<a href="(/deployments/digits/drift\?window=\w+)" data-tone="(\w+)"', text)
    assert len(marks) == 26 and [tone for _, tone in marks][-4:] == ["good", "warn", "warn", "warn"]
    first = text_of(site, marks[0][0])
    assert "No drift in 15 features" in first and "An earlier window" in first
    few = text_of(site, marks[4][0])
    assert "Too few rows for a verdict" in few
    assert site.get("/deployments/digits/drift?window=nothing").status_code == 404


def test_monitors_are_paused_and_go_on(own_site: Site) -> None:
    stage = own_site.stage

    def post(act: str) -> httpx.Response:
        return httpx.post(f"{own_site.url}/deployments/digits/monitors/drift/{act}")

    assert post("pause").headers["location"] == "/deployments/digits/drift"
    assert next(one for one in stage.monitors.list(stage.ctx, "digits") if one.kind == "drift").paused
    assert "Go on watching" in own_site.get("/deployments/digits/drift").text
    assert post("resume").status_code == 303
    assert post("explode").status_code == 400
    assert httpx.post(f"{own_site.url}/deployments/digits/monitors/moods/pause").status_code == 400


def test_quality_is_told_by_version_with_an_interval(site: Site) -> None:
    text = text_of(site, "/deployments/digits/quality?window=6h")
    assert re.search(r"\d\d(\.\d)?\u00a0% of the labelled answers were right", text)
    assert "95 % interval" in text and "digits v1" in text and "digits v2" in text
    data = site.get("/data/deployments/digits/quality?window=6h").json()
    assert {one["name"] for one in data["variants"]} == {"digits v1", "digits v2"}
    for _, accuracy, low, high, labelled in (point for one in data["variants"] for point in one["points"]):
        assert low - 1e-9 <= accuracy <= high + 1e-9 and labelled > 0
    assert site.get("/data/deployments/digits/quality?window=2y").status_code == 400


def test_retrainings_show_their_stages_and_the_gate(site: Site) -> None:
    text = text_of(site, "/deployments/digits/retraining")
    assert "It is being trained again" in text and "alerts of drift or quality that last 10" in text
    training, rolled_out, refused = text.split('<article class="retraining"')[1:]
    assert re.findall(r'<li data-state="(\w+)"', training) == ["done", "done", "here", "ahead", "ahead", "ahead"]
    assert "waits for its turn among the jobs" in training and "1 h for one run of the script" in text.replace("\u00a0", " ")
    assert re.findall(r'<li data-state="(\w+)"', rolled_out) == ["done"] * 6
    assert f'href="/rollouts/{site.made["rollout"]}"' in rolled_out and "new labels" in rolled_out
    assert "+6.5 points, surely between +3.1 and +9.9" in rolled_out
    assert re.findall(r'<li data-state="(\w+)"', refused)[-2:] == ["left", "ahead"] and "does not show" in refused
    assert f"/deployments/digits/retraining#{site.made['retraining']}" in text_of(site, f"/rollouts/{site.made['rollout']}")


def test_retraining_is_led_from_its_page(own_site: Site) -> None:
    stage = own_site.stage
    made = own_site.made

    def post(path: str) -> httpx.Response:
        return httpx.post(own_site.url + path)

    busy = post("/deployments/digits/retraining/now")
    assert busy.status_code == 409 and 'role="alert"' in busy.text
    assert post(f"/retrainings/{made['training']}/cancel").status_code == 303
    assert stage.retrainings.get(stage.ctx, made["training"]).state == "cancelled"
    assert post("/deployments/digits/retraining/pause").status_code == 303
    assert stage.retrainings.policy(stage.ctx, "digits").paused
    assert "Its retraining is paused" in own_site.get("/deployments/digits/retraining").text
    assert post("/deployments/digits/retraining/resume").status_code == 303
    assert post("/deployments/digits/retraining/now").status_code == 303
    assert stage.retrainings.list(stage.ctx, deployment="digits")[0].state == "queued"
    assert post("/deployments/digits/retraining/explode").status_code == 400
    stage.retrainings.cancel(stage.ctx, stage.retrainings.list(stage.ctx, deployment="digits")[0].id)
    with stage.db.write() as c:
        c.execute(sa.update(policies).values(failures=3))
    text = own_site.get("/deployments/digits/retraining").text
    assert "Training it again has failed" in text and "Too many attempts failed" in text


def test_the_checklist_says_what_fixes_each_line(site: Site) -> None:
    text = text_of(site, "/deployments/digits/checklist")
    assert "drivetrain check digits" in text
    tones = re.findall(r'<li data-tone="(\w+)"', text)
    assert tones == sorted(tones, key=["bad", "warn", "good"].index), "the worst first"
    assert "required" in text and "drivetrain backup" in text


@pytest.mark.parametrize("side", SIDES)
def test_a_fresh_deployment_is_told_what_to_do(own_site: Site, side: str) -> None:
    stage = own_site.stage
    stage.serving.deploy(stage.ctx, "fresh", "models:/digits/1")
    answer = own_site.get(f"/deployments/fresh/{side}")
    assert answer.status_code == 200
    taught = {
        "drift": "log_profile",
        "quality": "drivetrain feedback",
        "retraining": "drivetrain retrain policy fresh",
        "checklist": "Missing",
    }
    assert taught[side] in answer.text
    assert own_site.get(f"/deployments/nothing/{side}").status_code == 404


@pytest.mark.parametrize("side", SIDES)
def test_another_workspaces_pages_are_not_there(site: Site, side: str) -> None:
    site.stage.identity.create_workspace(site.stage.ctx, f"{side}-elsewhere")
    assert site.get(f"/deployments/digits/{side}", **{"x-drivetrain-workspace": f"{side}-elsewhere"}).status_code == 404
