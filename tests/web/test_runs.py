"""Runs beside each other and looked into, over HTTP."""

from __future__ import annotations

import re

from tests.web.conftest import Site


def three(site: Site) -> list[str]:
    return [run.id for run in site.stage.tracking.search_runs(site.stage.ctx, ["1"], limit=3).items]


def test_runs_are_compared_by_what_differs(site: Site) -> None:
    tracking, ctx = site.stage.tracking, site.stage.ctx
    ids = []
    for lr in ("0.1", "0.01"):
        run = tracking.create_run(ctx, "0", name=f"lr-{lr}")
        tracking.log_batch(ctx, run.id, params={"lr": lr, "same-everywhere": "7"})
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


def test_a_part_of_a_curve_is_asked_for_by_steps(site: Site) -> None:
    (run,) = site.get(f"/data/runs?run={site.made['run1']}&key=accuracy&from=10&to=19").json()["runs"]
    assert [step for step, _, _ in run["series"]["accuracy"]] == list(range(10, 20))
