"""The unmodified wandb client, in its own process: runs, resume, offline and sync, media, console, the public API, and its errors.

All of it on SQLite and on PostgreSQL.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.clients.scripts import cli
from tests.clients.wandb_script import command, environment, script
from tests.conftest import Server

pytestmark = pytest.mark.slow


def test_a_run_is_read_back_as_it_was_logged(either_server: Server, tmp_path: Path) -> None:
    told = script(
        either_server,
        """
        config = {"lr": 0.1, "net": {"depth": 3, "act": "relu"}, "sizes": [1, 2], "none": None, "flag": True}
        with wandb.init(name="first", config=config, tags=["a", "b"], notes="why", group="g", job_type="train") as run:
            for step in range(20):
                run.log({"loss": 1 / (step + 1), "nested": {"x": step}})
            run.log({"nan": float("nan"), "inf": float("inf"), "text": "hi", "whole": 2.0, "large": 2**60})
            run.log({"late": 1}, step=30)
            run.summary["best"] = 0.99
            run.summary["name"] = "x"
            run.config.update({"more": "yes", "lr": 0.2}, allow_val_change=True)
            run.define_metric("loss", summary="min")
            path = f"{run.project}/{run.id}"
        run = wandb.Api().run(path)
        rows = list(run.scan_history())
        done(name=run.name, state=run.state, config=run.config, tags=run.tags, notes=run.notes, group=run.group, job=run.job_type,
             summary={k: v for k, v in run.summary.items() if not k.startswith("_")}, rows=len(rows), first=rows[0], last=rows[-1],
             special=[rows[20]["nan"] != rows[20]["nan"], rows[20]["inf"] == math.inf, rows[20]["text"], rows[20]["large"] == 2**60],
             some=list(run.scan_history(keys=["loss", "_step"], page_size=7)), sampled=len(run.history(samples=5, pandas=False)),
             frame=list(run.history(keys=["loss"], samples=5).columns), step=run.lastHistoryStep, files=sorted(f.name for f in run.files()))
        """,
        tmp_path,
    )
    assert (told["name"], told["state"], told["notes"], told["group"], told["job"]) == ("first", "finished", "why", "g", "train")
    assert told["config"] == {
        "lr": 0.2, "net": {"depth": 3, "act": "relu"}, "sizes": [1, 2], "none": None, "flag": True, "more": "yes"
    }  # fmt: skip
    assert sorted(told["tags"]) == ["a", "b"]
    assert told["summary"]["best"] == 0.99 and told["summary"]["name"] == "x" and told["summary"]["late"] == 1
    assert told["rows"] == 22 and told["first"]["nested.x"] == 0 and told["last"]["_step"] == 30 and told["step"] == 30
    assert told["special"] == [True, True, "hi", True]
    assert told["some"] == [{"loss": 1 / (step + 1), "_step": step} for step in range(20)]
    assert told["sampled"] == 5 and told["frame"] == ["_step", "loss"]
    assert {"config.yaml", "requirements.txt", "wandb-metadata.json", "wandb-summary.json"} <= set(told["files"])


def test_resume_goes_on_where_the_run_was(either_server: Server, tmp_path: Path) -> None:
    told = script(
        either_server,
        """
        with wandb.init(id="again", config={"a": 1}) as run:
            for x in range(5):
                run.log({"x": x})
        seen = []
        with wandb.init(id="again", resume="must", config={"b": 2}) as run:
            seen.append([run.resumed, run.starting_step, run.config["a"]])
            run.log({"x": 100})
        with wandb.init(id="again", resume="allow") as run:
            seen.append([run.resumed, run.starting_step, run.summary["x"]])
        refused = []
        for how, name in (("must", "nobody"), ("never", "again")):
            try:
                wandb.init(id=name, resume=how)
            except wandb.errors.UsageError:
                refused.append(how)
        run = wandb.Api().run(f"{os.environ['WANDB_PROJECT']}/again")
        done(seen=seen, refused=refused, xs=[row["x"] for row in run.scan_history(keys=["x"])], config=run.config, state=run.state)
        """,
        tmp_path,
    )
    assert told["seen"] == [[True, 5, 1], [True, 6, 100]]
    assert told["refused"] == ["must", "never"]
    assert (told["xs"], told["config"], told["state"]) == ([0, 1, 2, 3, 4, 100], {"a": 1, "b": 2}, "finished")


def test_syncing_an_offline_run_twice_doubles_nothing(either_server: Server, tmp_path: Path) -> None:
    script(
        either_server,
        """
        with wandb.init(id="away", mode="offline", config={"a": 1}) as run:
            for x in range(50):
                run.log({"x": x, "kind": "even" if x % 2 == 0 else "odd"})
        done()
        """,
        tmp_path,
    )
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    read = """
    run = wandb.Api().run(f"{os.environ['WANDB_PROJECT']}/away")
    done(rows=[[row["_step"], row["x"], row["kind"]] for row in run.scan_history()], state=run.state, config=run.config)
    """
    command(either_server, tmp_path, "sync", str(folder))
    once = script(either_server, read, tmp_path)
    assert once == {"rows": [[x, x, "odd" if x % 2 else "even"] for x in range(50)], "state": "finished", "config": {"a": 1}}
    command(either_server, tmp_path, "sync", "--include-synced", str(folder))
    assert script(either_server, read, tmp_path) == once


def test_media_files_and_console(either_server: Server, tmp_path: Path) -> None:
    told = script(
        either_server,
        """
        import pathlib
        import numpy as np
        with wandb.init(settings=wandb.Settings(console="wrap")) as run:
            table = wandb.Table(columns=["a", "b"], data=[[1, "x"], [2, "y"]])
            run.log({"image": wandb.Image(np.zeros((8, 9, 3), dtype=np.uint8), caption="black"), "page": wandb.Html("<b>bold</b>"),
                     "values": wandb.Histogram(np.arange(10)), "table": table})
            run.log({"bars": wandb.plot.bar(table, "b", "a", title="Bars")})
            pathlib.Path("kept.txt").write_text("kept")
            run.save("kept.txt")
            print("a line of the script")
            print("a complaint", file=sys.stderr)
            print("\x1b[31mred\x1b[0m \x1b]0;title\x07")
            path = f"{run.project}/{run.id}"
        run = wandb.Api().run(path)
        run.upload_file("kept.txt")
        rows = list(run.scan_history())
        names = [f.name for f in run.files()]
        image = next(n for n in names if n.startswith("media/images/"))
        run.file(image).download(root="got", replace=True)
        run.file("kept.txt").download(root="got", replace=True)
        done(image=rows[0]["image"]["width"], caption=rows[0]["image"]["caption"], bins=len(rows[0]["values"]["bins"]),
             kinds=sorted({n.split("/")[1] for n in names if n.startswith("media/")}), read=pathlib.Path("got", image).stat().st_size,
             kept=pathlib.Path("got/kept.txt").read_text(), id=run.id, output="output.log" in names)
        """,
        tmp_path,
    )
    assert (told["image"], told["caption"], told["bins"], told["kept"], told["output"]) == (9, "black", 65, "kept", True)
    assert told["kinds"] == ["html", "images", "table"] and told["read"] > 50
    query = "query Q($p: String, $r: String!) { project(name: $p) { run(name: $r) { logLines(first: 100) { edges { node { line } } } } } }"
    asked = {"query": query, "variables": {"p": tmp_path.name, "r": told["id"]}}
    found = httpx.post(f"{either_server.url}/wandb/graphql", json=asked).json()["data"]["project"]["run"]
    texts = [edge["node"]["line"] for edge in found["logLines"]["edges"]]
    assert "a line of the script" in texts and "a complaint" in texts
    (mine,) = json.loads(cli(either_server, "runs", "list", "--experiment", tmp_path.name, "--json"))
    assert [line["text"] for line in json.loads(cli(either_server, "runs", "logs", mine["id"], "--json"))] == texts
    printed = cli(either_server, "runs", "logs", mine["id"], "--follow")
    assert "a complaint\n" in printed and "\nred" in f"\n{printed}" and not set(printed) & set("\x1b\x07")
    assert cli(either_server, "runs", "logs", mine["id"], "--tail", "1").count("\n") == 1


def test_the_public_api_finds_changes_and_deletes(either_server: Server, tmp_path: Path) -> None:
    told = script(
        either_server,
        """
        project = os.environ["WANDB_PROJECT"]
        for n in range(6):
            config, tags = {"lr": n / 10, "net": {"depth": n}}, ["odd" if n % 2 else "even"]
            with wandb.init(id=f"r{n}", name=f"run {n}", config=config, tags=tags) as run:
                run.log({"loss": 6 - n})
        api = wandb.Api()
        def found(filters, order="+created_at", **more):
            return [run.id for run in api.runs(project, filters=filters, order=order, **more)]
        searched = dict(
            all=found({}), config=found({"config.lr": 0.2}), nested=found({"config.net.depth": {"$gte": 4}}),
            summary=found({"summary_metrics.loss": {"$lt": 3}}), tag=found({"tags": "odd"}), each=found({"tags": {"$in": ["even"]}}),
            either=found({"$or": [{"name": "r1"}, {"display_name": {"$regex": "5$"}}]}), state=found({"state": "running"}),
            absent=found({"config.none": {"$exists": False}}), order=found({}, "-summary_metrics.loss"), pages=found({}, per_page=2),
        )
        run = api.run(f"{project}/r0")
        run.config["extra"] = 5
        run.tags.append("kept")
        run.notes = "noted"
        run.name = "renamed"
        run.update()
        run.summary["best"] = 1
        run.summary.update()
        api.run(f"{project}/r5").delete()
        api.flush()
        again = wandb.Api().run(f"{project}/r0")
        try:
            api.runs(project, filters={"$where": "1"})[0]
            refused = ""
        except Exception as error:
            refused = str(error)
        done(searched=searched, config=again.config, tags=again.tags, best=again.summary["best"], left=len(wandb.Api().runs(project)),
             name=again.name, notes=again.notes, projects=[p.name for p in api.projects()], refused=refused,
             count=len(api.runs(project, filters={"tags": "odd"})))
        """,
        tmp_path,
    )
    found = told["searched"]
    assert found["all"] == found["absent"] == found["order"] == found["pages"] == [f"r{n}" for n in range(6)]
    assert (found["config"], found["nested"], found["summary"]) == (["r2"], ["r4", "r5"], ["r4", "r5"])
    assert (found["tag"], found["each"]) == (["r1", "r3", "r5"], ["r0", "r2", "r4"])
    assert (found["either"], found["state"]) == (["r1", "r5"], [])
    assert told["config"] == {"lr": 0, "net": {"depth": 0}, "extra": 5} and sorted(told["tags"]) == ["even", "kept"]
    assert (told["best"], told["left"], told["count"], told["name"], told["notes"]) == (1, 5, 2, "renamed", "noted")
    assert tmp_path.name in told["projects"] and "$where" in told["refused"]


def test_alerts_are_kept(either_server: Server, tmp_path: Path) -> None:
    script(
        either_server,
        """
        with wandb.init(id="loud") as run:
            run.alert(title="Loss is high", text="0.9 after 10 steps", level=wandb.AlertLevel.WARN)
        done()
        """,
        tmp_path,
    )
    alerts = httpx.get(f"{either_server.url}/api/v1/alerts").json()["alerts"]
    assert any("Loss is high" in json.dumps(one) for one in alerts)


def test_a_run_is_stopped_from_afar(either_server: Server, tmp_path: Path) -> None:
    """A script whose run is asked to stop gets KeyboardInterrupt, as from a keyboard."""
    code = """
import wandb, time
run = wandb.init(id="endless")
print("begun", flush=True)
try:
    for x in range(10**6):
        run.log({"x": x})
        time.sleep(0.05)
except KeyboardInterrupt:
    print("stopped", flush=True)
run.finish(exit_code=0)
"""
    surroundings = environment(either_server, tmp_path, WANDB__FILE_STREAM_TRANSMIT_INTERVAL="1")
    process = subprocess.Popen([sys.executable, "-c", code], env=surroundings, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        found = httpx.post(f"{either_server.url}/wandb/graphql", json={
            "query": 'query Q($p: String!) { project(name: $p) { run(name: "endless") { id } } }', "variables": {"p": tmp_path.name}
        })  # fmt: skip
        run_id = found.json()["data"]["project"]["run"]["id"]
        stop = {"query": "mutation S($id: ID!) { stopRun(input: {id: $id}) { success } }", "variables": {"id": run_id}}
        assert httpx.post(f"{either_server.url}/wandb/graphql", json=stop).json() == {"data": {"stopRun": {"success": True}}}
        assert process.stdout.readline() == "stopped\n"
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout and process.stdout.close()


def test_how_a_script_ends_is_how_its_run_ends(either_server: Server, tmp_path: Path) -> None:
    begin = "import os, sys, wandb\nrun = wandb.init(id={!r})\nrun.log({{'x': 1}})\n"
    for name, code, exit_code in (
        ("exits", "sys.exit(5)", 5),
        ("raises", "raise ValueError('a bug')", 1),
        ("says", "run.finish(exit_code=3)", 0),
        ("returns", "", 0),
    ):
        surroundings = environment(either_server, tmp_path)
        done = subprocess.run(
            [sys.executable, "-c", begin.format(name) + code], env=surroundings, cwd=tmp_path, timeout=120, capture_output=True
        )
        assert done.returncode == exit_code, done.stderr
    told = script(
        either_server,
        """
        api = wandb.Api()
        done(**{name: api.run(f"{os.environ['WANDB_PROJECT']}/{name}").state for name in ("exits", "raises", "says", "returns")})
        """,
        tmp_path,
    )
    assert told == {"exits": "failed", "raises": "failed", "says": "failed", "returns": "finished"}


def test_a_wrong_key_fails_at_once(new_server: Callable[..., Server], tmp_path: Path) -> None:
    server = new_server()
    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {server.token}"}) as admin:
        key = admin.post("/api/v1/keys", json={"name": "ann", "scopes": ["read", "write", "invoke", "admin"]}).json()["secret"]
        assert admin.put("/api/v1/auth", json={"auth": "keys"}).status_code == 200
    told = script(
        server,
        """
        try:
            wandb.init(settings=wandb.Settings(init_timeout=20))
        except wandb.errors.CommError as error:
            done(said=str(error))
        """,
        tmp_path,
        interrupted=True,
    )
    assert "key" in told["said"].lower()
    good = script(server, "with wandb.init() as run:\n    run.log({'x': 1})\ndone(entity=run.entity)", tmp_path, WANDB_API_KEY=key)
    assert good["entity"] == "default"
