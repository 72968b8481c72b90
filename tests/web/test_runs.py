"""Runs beside each other and looked into, over HTTP."""

from __future__ import annotations

import base64
import html
import json
import re

import httpx
import pytest

from drivetrain.tracking.model import Line, Metric, Owner
from tests.web.conftest import Site

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


def three(site: Site) -> list[str]:
    return [run.id for run in site.stage.tracking.runs.search(site.stage.ctx, ["1"], limit=3).items]


def test_runs_are_compared_by_what_differs(site: Site) -> None:
    tracking, ctx = site.stage.tracking, site.stage.ctx
    ids = []
    for lr in ("0.1", "0.01"):
        run = tracking.runs.create(ctx, "0", name=f"lr-{lr}")
        tracking.metrics.log(ctx, run.id, params={"lr": lr, "same-everywhere": "7"})
        ids.append(run.id)
    few = site.get(f"/runs/compare?ids={','.join(ids)}").text
    assert re.search(r'scope="row">lr<', few) and "same-<wbr>everywhere" not in few
    assert "Show also what is the same (1)" in few
    assert "same-<wbr>everywhere" in site.get(f"/runs/compare?ids={ids[0]}&ids={ids[1]}&all=true").text
    data = site.get(f"/data/compare?ids={','.join(ids)}").json()
    assert data["keys"] == ["params.lr"]
    assert [run["values"]["params.lr"] for run in data["runs"]] == [0.1, 0.01]


def test_a_run_that_is_not_there_is_said_to_be_missing(site: Site) -> None:
    text = site.get(f"/runs/compare?ids={three(site)[0]},{'0' * 32}").text
    assert "1 run of this address cannot be found" in text
    assert site.get("/runs/compare").status_code == 200
    many = ",".join([three(site)[0], *(f"{n:032x}" for n in range(21))])
    assert "2 runs of this address are left out" in site.get(f"/runs/compare?ids={many}").text


def test_a_part_of_a_curve_is_asked_for_by_steps(site: Site) -> None:
    (run,) = site.get(f"/data/runs?run={site.made['run1']}&key=accuracy&from=10&to=19").json()["runs"]
    assert [step for step, _, _ in run["series"]["accuracy"]] == list(range(10, 20))
    start = run["start_ms"]
    (run,) = site.get(f"/data/runs?run={site.made['run1']}&key=accuracy&from_ms={start + 5000}&to_ms={start + 7000}").json()["runs"]
    assert [step for step, _, _ in run["series"]["accuracy"]] == [5, 6, 7]


def rich(site: Site) -> str:
    """A run with media, a console and system metrics."""
    tracking, ctx = site.stage.tracking, site.stage.ctx
    run = tracking.runs.create(ctx, "0", name="rich")
    files = {
        "media/images/seen.png": PIXEL,
        "media/html/page.html": b"<script>document.title = 'run'</script><b>bold</b>",
        "media/table/rows.table.json": json.dumps({"columns": ["word", "n"], "data": [["<b>evil</b>", 1]]}).encode(),
    }
    for path, body in files.items():
        tracking.artifacts.put(ctx, Owner.run, run.id, path, tracking.artifacts.blobs.put([body]))
    row = {
        "_step": 3,
        "picture": {"_type": "image-file", "path": "media/images/seen.png", "caption": "what it saw"},
        "page": {"_type": "html-file", "path": "media/html/page.html"},
        "rows": {"_type": "table-file", "path": "media/table/rows.table.json"},
        "weights": {"_type": "histogram", "values": [1, 4, 2], "packedBins": {"min": 0.0, "size": 0.5, "count": 3}},
    }
    tracking.reports.append(
        ctx,
        run.id,
        rows=[json.dumps(row)],
        lines=[Line(0, "", "", "epoch 1 <b>"), Line(1, "error", "", "a warning")],
    )
    tracking.metrics.log(ctx, run.id, metrics=[Metric("system/cpu", 40.0 + step, 1000 * step, step) for step in range(5)])
    return run.id


def test_what_a_run_logged_beside_numbers_is_shown(site: Site) -> None:
    run = rich(site)
    text = site.get(f"/runs/{run}").text
    assert f'src="/media/{run}/media/images/seen.png"' in text and "what it saw" in text
    assert 'sandbox="allow-scripts"' in text and "0.5 to 1: 4" in text
    assert "&lt;b&gt;evil&lt;/b&gt;" in text and "epoch 1 &lt;b&gt;" in text and "<b>" not in text
    assert "System metrics" in text and 'data-key="system/cpu"' in text


def test_a_document_of_a_run_is_in_a_sandbox(site: Site) -> None:
    run = rich(site)
    answer = site.get(f"/media/{run}/media/html/page.html")
    assert answer.headers["content-security-policy"].startswith("sandbox allow-scripts; default-src 'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert site.get(f"/media/{run}/media/table/rows.table.json").status_code == 400
    assert site.get(f"/media/{run}/media/none.png").status_code == 404


def test_a_sweep_shows_its_runs_and_its_best(site: Site) -> None:
    sweeps, ctx = site.stage.sweeps, site.stage.ctx
    config = "method: grid\nmetric: {name: loss, goal: minimize}\nparameters: {lr: {values: [0.1, 0.01]}}\n"
    sweep = sweeps.create(ctx, "0", config)
    assert "No run has been handed out yet" in site.get(f"/sweeps/{sweep.name}").text
    agent = sweeps.join(ctx, sweep.name, "here")
    assert sweeps.heartbeat(ctx, agent.id, [])
    assert "lr" in site.get(f"/sweeps/{sweep.name}").text
    assert site.get(f"/data/sweeps/{sweep.name}").json()["keys"] == ["params.lr", "metrics.loss"]
    assert site.get(f"/data/sweeps/{sweep.name}/importance").status_code == 200
    assert site.get("/sweeps/nothing").status_code == 404


NAMES = re.compile(r'class="main cut" href="/runs/[0-9a-f]{32}" title="([^"]+)"')


def test_groups_say_what_their_runs_come_to(site: Site) -> None:
    text = site.get("/runs?experiment=1&group=params.model&sort=metrics.accuracy&dir=desc&col=metrics.accuracy").text
    assert text.count('scope="rowgroup"') == 3 and "mean of 3 runs" in text
    assert not NAMES.findall(text)
    opened = site.get("/runs?experiment=1&group=params.model&col=metrics.accuracy&open=SVC").text
    assert sorted(NAMES.findall(opened)) == ["svc-1", "svc-4", "svc-7"] and 'aria-expanded="true"' in opened
    link = re.search(r'href="(/runs\?[^"]*)"[^>]*title="SVC"', opened)
    assert link is not None
    assert sorted(NAMES.findall(site.get(html.unescape(link[1])).text)) == ["svc-1", "svc-4", "svc-7"]
    assert "support-bot / fine-tuning" in site.get("/runs?group=experiment").text
    assert 'role="alert"' in site.get("/runs?group=metrics.accuracy").text


def test_runs_are_found_by_words_of_their_names(site: Site) -> None:
    assert sorted(NAMES.findall(site.get("/runs?experiment=1&filter=SVC-").text)) == ["svc-1", "svc-4", "svc-7"]
    assert site.get("/runs/count?experiment=1&filter=svc").text == "3 runs"
    assert site.get("/runs/count?filter=a+%3D").text == ""


def test_pinned_runs_stand_first_whatever_the_order(site: Site) -> None:
    run = site.made["run0"]
    text = site.get(f"/runs?experiment=1&sort=run_name&dir=desc&pin={run}").text
    assert NAMES.findall(text)[0] == "logisticregression-0"
    assert len(NAMES.findall(text)) == len(set(NAMES.findall(text)))
    assert "Unpin logisticregression-0" in text


def test_columns_of_the_runs_themselves_can_be_chosen(site: Site) -> None:
    text = site.get("/runs?experiment=1&col=user_id&col=commit&col=labels&col=source&col=run_id&col=end_time").text
    for said in (">ada<", ">9f2c41d8<", "team: vision", "train.py"):
        assert said in text
    ordered = NAMES.findall(site.get("/runs?experiment=1&sort=run_name").text)
    assert ordered == sorted(ordered)
    assert ">Started</a>" not in text


def test_a_view_is_saved_for_the_workspace_and_found_by_its_name(site: Site) -> None:
    post = {"name": "by <accuracy>", "query": "experiment=1&sort=metrics.accuracy&dir=desc&col=metrics.accuracy&token=old&evil=1"}
    answer = httpx.post(f"{site.url}/runs/views", data=post)
    assert answer.status_code == 303 and "view=by+%3Caccuracy%3E" in answer.headers["location"]
    assert "token" not in answer.headers["location"] and "evil" not in answer.headers["location"]
    text = site.get(answer.headers["location"]).text
    assert "by &lt;accuracy&gt;" in text and 'aria-current="true" title="Saved by' in text
    elsewhere = site.get("/runs", **{"x-drivetrain-workspace": "elsewhere"}).text
    assert "by &lt;accuracy&gt;" not in elsewhere
    gone = httpx.post(f"{site.url}/runs/views/delete", data={"name": "by <accuracy>", "query": "experiment=1"})
    assert gone.headers["location"] == "/runs?experiment=1"
    assert "by &lt;accuracy&gt;" not in site.get("/runs").text
    assert httpx.post(f"{site.url}/runs/views/delete", data={"name": "by <accuracy>"}).status_code == 404


def test_plots_of_wandbs_client_are_drawn_instead_of_their_tables(site: Site) -> None:
    text = site.get(f"/runs/{site.made['rich']}").text
    assert "data-plot=" in text and 'data-heat="' in text and 'class="lengths"' in text
    curves = json.loads(html.unescape(re.findall(r'data-plot="([^"]+)"', text)[1]))
    assert [one["name"] for one in curves["series"]] == ["cat", "dog", "fox", "owl"]
    assert "<strong>roc</strong>" in text and "<strong>roc_" not in text and "50 more rows in the file" in text
    assert "&lt;b&gt;long&lt;/b&gt;" in text and "&lt;very&gt;" in text
    frames = json.loads(html.unescape(re.findall(r'data-frames="([^"]+)"', text)[0]))
    assert [step for step, _, _ in frames] == [0, 5, 10, 15, 20]
    assert '<span class="tag">baseline</span>' in text


def test_a_picture_is_asked_for_once(site: Site) -> None:
    path = f"/media/{site.made['rich']}/media/images/samples_5.png"
    first = site.get(path)
    assert first.headers["content-type"] == "image/png" and first.content[:4] == b"\x89PNG"
    assert site.get(path, **{"if-none-match": first.headers["etag"]}).status_code == 304


def test_sweeps_are_listed_and_found_from_their_experiment(site: Site, empty_site: Site) -> None:
    name = site.made["sweep"]
    text = site.get("/sweeps").text
    assert f'href="/sweeps/{name}"' in text and "smallest val/loss" in text
    experiment = site.stage.sweeps.get(site.stage.ctx, name).experiment_id
    assert f"/sweeps?experiment={experiment}" in site.get(f"/runs?experiment={experiment}").text
    assert "No sweep in this experiment" in site.get("/sweeps?experiment=1").text
    assert site.get("/sweeps?experiment=99").status_code == 404
    assert "wandb.agent(sweep, train, count=20)" in empty_site.get("/sweeps").text


def test_a_sweep_is_paused_resumed_and_canceled_from_its_page(site: Site) -> None:
    sweep = site.stage.sweeps.create(site.stage.ctx, "0", "method: random\nparameters: {lr: {min: 0.1, max: 0.2}}\n")
    url = f"{site.url}/sweeps/{sweep.name}/state"
    for state, acts in (("PAUSED", ["Resume"]), ("RUNNING", ["Pause", "Stop", "Cancel"]), ("CANCELED", ["Resume"])):
        assert httpx.post(url, data={"state": state}).status_code == 303
        text = site.get(f"/sweeps/{sweep.name}").text
        assert [act for act in ("Pause", "Resume", "Stop", "Cancel") if f">{act}</button>" in text] == acts
    assert httpx.post(url, data={"state": "PAUSED"}).status_code == 409
    assert httpx.post(url, data={"state": "what"}).status_code == 400


def test_many_sweeps_stand_on_pages(empty_site: Site) -> None:
    stage = empty_site.stage
    made = [stage.sweeps.create(stage.ctx, "0", "method: random\nparameters: {lr: {min: 0.1, max: 0.2}}\n").name for _ in range(53)]
    first = empty_site.get("/sweeps").text
    following = re.search(r'href="(/sweeps\?before=[0-9a-f]+)"', first)
    assert following is not None
    second = empty_site.get(following[1]).text
    seen = [one for text in (first, second) for one in re.findall(r'class="main" href="/sweeps/(\w+)"', text)]
    assert seen == made[::-1]


def test_a_run_is_deleted_and_restored_from_its_page(site: Site) -> None:
    run = site.stage.tracking.runs.create(site.stage.ctx, "0", name="not needed").id
    assert httpx.post(f"{site.url}/runs/{run}/delete").status_code == 303
    text = site.get(f"/runs/{run}").text
    assert "This run is deleted" in text and ">Delete</button>" not in text
    assert "not needed" not in site.get("/runs").text
    assert httpx.post(f"{site.url}/runs/{run}/restore").status_code == 303
    assert "not needed" in site.get("/runs").text
    assert httpx.post(f"{site.url}/runs/{'0' * 32}/delete").status_code == 404
    assert httpx.post(f"{site.url}/runs/{run}/burn").status_code == 400


def test_a_run_whose_client_listens_is_stopped_from_its_page(site: Site) -> None:
    tracking, ctx = site.stage.tracking, site.stage.ctx
    run, _ = tracking.reports.begin(ctx, "0", "l1st3ns", name="listens")
    tracking.reports.update(ctx, run.id, summary=json.dumps({"verdict": "good <enough>", "best": {"epoch": 3}, "n": 1}))
    text = site.get(f"/runs/{run.id}").text
    assert ">Stop</button>" in text and "good &lt;enough&gt;" in text
    assert httpx.post(f"{site.url}/runs/{run.id}/stop").status_code == 303
    assert "asked to stop" in site.get(f"/runs/{run.id}").text
    assert tracking.reports.get(ctx, run.id).stop_requested
    # MLflow's client does not ask: there is nothing to press.
    assert ">Stop</button>" not in site.get(f"/runs/{site.made['tuned']}").text


@pytest.mark.parametrize(
    "query",
    [
        "token=garbage",
        "token=W10",
        "sort=nothing.at.all",
        "sort=metrics.",
        "sort=metrics.%60",
        "sort=duration",
        "group=params.%60",
        "group=params.",
        "group=what",
        "group=status&sort=metrics.accuracy&open=FINISHED",
        "group=params.C&open=%28none%29",
        "group=tags.team&filter=svc&open=vision",
        "filter=%00",
        "filter=it%27s",
        "filter=100%25",
        "experiment=99",
        "experiment=x",
        "col=",
        "col=metrics.",
        "pin=nothing&pick=nothing",
        "view=%3Cscript%3E",
    ],
)
def test_no_address_breaks_the_table(site: Site, query: str) -> None:
    answer = site.get(f"/runs?{query}")
    assert answer.status_code == 200
    assert "<script>" not in answer.text


@pytest.mark.parametrize("query", ["run=x&key=y", "key=y", f"run=x&from={10**30}", "run=x&from_ms=-1", "run=x&from=z"])
def test_no_address_breaks_the_data_of_charts(site: Site, query: str) -> None:
    assert site.get(f"/data/runs?{query}").status_code in (200, 400, 422)
