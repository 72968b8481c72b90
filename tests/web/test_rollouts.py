"""The pages of rollouts: what they say of one that moves and of one that was taken back, and what can be done from there."""

from __future__ import annotations

import re

import httpx
import pytest

from drivetrain.rollout.model import State
from tests.web.conftest import Site


def act(site: Site, rollout: str, name: str, **data: str) -> httpx.Response:
    return httpx.post(f"{site.url}/rollouts/{rollout}/{name}", data=data)


def test_the_road_shows_where_a_rollout_is(site: Site) -> None:
    text = site.get(f"/rollouts/{site.made['rollout']}").text
    assert re.findall(r'<li data-state="(\w+)"', text) == ["done", "done", "here", "ahead", "ahead"]
    assert 'aria-current="step"' in text
    assert "Steps: 1\u00a0%, 5\u00a0%, 25\u00a0%, 50\u00a0%, 100\u00a0%. Now at step 3" in text
    assert "Take it back" in text and "of 1\u202f200 units" in text


def test_guardrails_are_said_in_words_beside_both_arms(site: Site) -> None:
    text = site.get(f"/rollouts/{site.made['rolled_back']}").text
    assert "Wrong by the label" in text and "Harm" in text
    assert "Latency over p95" in text and "line 7.6 ms" in text
    assert re.search(r"odds [\d.]+\u202f:\u202f1, harm at 120\u202f:\u202f1", text), (
        "the evidence as odds, and the threshold of three guardrails that share 5 %"
    )
    assert re.search(r'class="tag"[^>]*>signal<', text)


def test_one_that_has_ended_can_only_be_looked_at(site: Site) -> None:
    rollout = site.made["rolled_back"]
    text = site.get(f"/rollouts/{rollout}").text
    assert "taken back here" in text and "To undo it: <code>drivetrain rollout start digits models:/digits/3</code>" in text
    assert "popovertarget" not in text
    refused = act(site, rollout, "pause")
    assert refused.status_code == 409 and 'role="alert"' in refused.text and "rolled back" in refused.text


def test_each_decision_has_its_numbers(site: Site) -> None:
    text = site.get(f"/rollouts/{site.made['rollout']}").text
    decisions = text[text.index('<ol class="decisions"') :]
    said = re.findall(r"<strong>([^<]+)</strong><span class=\"muted\">(by [^<]+)<", decisions)
    assert said == [
        ("Advanced to 25\u00a0%", "by itself"),
        ("Advanced to 5\u00a0%", "by itself"),
        ("Advanced to 1\u00a0%", "by itself"),
        ("Started", "by local"),
    ]
    assert decisions.count("On these numbers") == 2
    assert decisions.count("To undo it") == 1, "only what was done last can be undone"


def test_curves_begin_at_even_odds_and_are_in_decades(site: Site) -> None:
    data = site.get(f"/data/rollouts/{site.made['rolled_back']}").json()
    errors, latency, labels, cost = data["guards"]
    assert errors["points"][0][1] == 0.0
    assert labels["threshold"] == pytest.approx(2.079, abs=0.001)
    assert max(point[1] for point in labels["points"]) >= labels["threshold"]
    assert all(point[1] < latency["threshold"] for point in latency["points"])
    assert cost["mean"] and cost["threshold"] == 1.2
    times = [point[0] for point in labels["points"]]
    assert times == sorted(times) and data["since_ms"] <= times[0] <= times[-1] <= data["until_ms"]
    assert [share for _, share in data["share"]][-1] == 0.0
    assert [flag["text"] for flag in data["flags"]] == ["1\u00a0%", "5\u00a0%", "taken back"]


def test_the_deployments_page_leads_to_its_rollouts(site: Site) -> None:
    text = site.get("/deployments/digits").text
    for name in ("rollout", "rolled_back"):
        assert f'href="/rollouts/{site.made[name]}"' in text
    assert "digits v2 → digits v4" in text
    assert 'id="roll-out"' not in text, "while one is open, no other can be started"


def test_another_workspaces_rollout_is_not_there(site: Site) -> None:
    site.stage.identity.create_workspace(site.stage.ctx, "rollouts-elsewhere")
    elsewhere = {"x-drivetrain-workspace": "rollouts-elsewhere"}
    for path in (f"/rollouts/{site.made['rollout']}", f"/data/rollouts/{site.made['rollout']}", "/rollouts/nothing"):
        assert site.get(path, **elsewhere).status_code == 404
    answer = httpx.post(f"{site.url}/rollouts/{site.made['rollout']}/rollback", headers=elsewhere)
    assert answer.status_code == 404
    assert site.stage.rollouts.get(site.stage.ctx, site.made["rollout"]).state is State.running


def test_a_rollout_is_led_from_its_page(own_site: Site) -> None:
    stage = own_site.stage
    made = own_site.made
    rollout = made["rollout"]

    def state() -> State:
        return stage.rollouts.get(stage.ctx, rollout).state

    assert act(own_site, rollout, "pause", why="the team is at lunch").headers["location"] == f"/rollouts/{rollout}"
    assert state() is State.paused
    text = own_site.get(f"/rollouts/{rollout}").text
    assert "the team is at lunch" in text and "by local" in text and "Resume" in text
    assert act(own_site, rollout, "resume").status_code == 303
    assert act(own_site, rollout, "promote", step="4").status_code == 303
    assert stage.rollouts.get(stage.ctx, rollout).step == 3
    assert act(own_site, rollout, "promote", step="x").status_code == 400
    assert act(own_site, rollout, "promote").status_code == 303
    assert state() is State.promoted
    assert "still warm" in own_site.get(f"/rollouts/{rollout}").text
    assert act(own_site, rollout, "rollback", why="after all").status_code == 303
    assert state() is State.rolled_back
    assert act(own_site, rollout, "explode").status_code == 400
    text = own_site.get("/deployments/digits").text
    assert 'id="roll-out"' in text and '<option value="models:/digits/3">' in text
    started = httpx.post(f"{own_site.url}/deployments/digits/roll-out", data={"source": "models:/digits/3", "plan": "fast"})
    assert started.status_code == 303
    page = own_site.get(started.headers["location"]).text
    assert "Starting" in page and "starts when it is ready" in page and "No evidence" not in page
    again = httpx.post(f"{own_site.url}/deployments/digits/roll-out", data={"source": "models:/digits/1"})
    assert again.status_code == 409


def test_only_those_who_may_write_see_the_buttons(own_site: Site) -> None:
    stage = own_site.stage
    made = own_site.made
    stage.identity.create_key(stage.ctx, name="boss", scopes=("read", "write", "admin"))
    _, secret = stage.identity.create_key(stage.ctx, name="looker", scopes=("read",))
    stage.identity.set_auth(stage.ctx, "keys")
    stage.nudge("identity")
    looker = {"authorization": f"Bearer {secret}"}
    text = own_site.get(f"/rollouts/{made['rollout']}", **looker).text
    assert "digits v4" in text and "popovertarget" not in text
    assert httpx.post(f"{own_site.url}/rollouts/{made['rollout']}/rollback", headers=looker).status_code == 403


def test_the_overview_says_what_moves_and_how_to_undo_it(site: Site) -> None:
    text = site.get("/").text
    assert f'href="/rollouts/{site.made["rollout"]}"' in text and "Running at 25\u00a0%" in text
    assert "drivetrain rollout rollback digits" in text
