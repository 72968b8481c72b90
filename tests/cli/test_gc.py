"""Deleting from the command line, and by the unmodified clients, against a real server: rows and bytes."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.cli.conftest import Said, run
from tests.clients.wandb_script import script
from tests.conftest import Server, wait_for

pytestmark = pytest.mark.slow

DELETING = """
import mlflow
from mlflow import MlflowClient

client = MlflowClient()
one = client.create_experiment("by-mlflow")
kept, gone = client.create_run(one), client.create_run(one)
client.log_text(gone.info.run_id, "only in this run", "note.txt")
client.log_metric(gone.info.run_id, "loss", 0.5)
client.delete_run(gone.info.run_id)
assert client.get_run(gone.info.run_id).info.lifecycle_stage == "deleted"
client.restore_run(gone.info.run_id)
assert client.get_run(gone.info.run_id).info.lifecycle_stage == "active"
client.delete_run(gone.info.run_id)
two = client.create_experiment("whole")
client.log_text(client.create_run(two).info.run_id, "in the experiment", "note.txt")
client.delete_experiment(two)
client.restore_experiment(two)
client.delete_experiment(two)
print(kept.info.run_id, gone.info.run_id)
"""
GONE = """
import sys
import mlflow
from mlflow import MlflowClient
from mlflow.entities import ViewType

client = MlflowClient()
_, kept, gone = sys.argv
assert client.get_run(kept).info.lifecycle_stage == "active"
for ask in (client.get_run, client.restore_run):
    try:
        ask(gone)
    except mlflow.exceptions.RestException as error:
        assert error.error_code == "RESOURCE_DOES_NOT_EXIST", error
    else:
        raise AssertionError(ask)
assert client.get_experiment_by_name("whole") is None
one = client.get_experiment_by_name("by-mlflow").experiment_id
assert [run.info.run_id for run in client.search_runs([one], run_view_type=ViewType.ALL)] == [kept]
client.create_experiment("whole")
"""


@dataclass(frozen=True)
class Here:
    server: Server

    def __call__(self, *arguments: str) -> Said:
        return run(*arguments, DRIVETRAIN_HOME=str(self.server.home), DRIVETRAIN_URL=self.server.url)

    def python(self, code: str, *arguments: str) -> list[str]:
        """A client's script in a process of its own; the words that it prints."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("DRIVETRAIN_", "MLFLOW_", "WANDB_"))}
        clean |= {
            "MLFLOW_TRACKING_URI": f"{self.server.url}/mlflow",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DRIVETRAIN_URL": self.server.url,
            "DRIVETRAIN_HOME": str(self.server.home),
        }
        done = subprocess.run([sys.executable, "-c", code, *arguments], env=clean, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stdout + done.stderr
        return done.stdout.split()

    def files(self) -> dict[str, bytes]:
        folder = self.server.home / "blobs" / "sha256"
        return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def names_of(self, run_id: str) -> set[str]:
        """The tables of the database that hold this text anywhere."""
        with closing(sqlite3.connect(self.server.home / "drivetrain.db")) as db:
            tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            found = set()
            for table in tables:
                columns = [row[1] for row in db.execute(f'PRAGMA table_info("{table}")')]
                where = " OR ".join(f'CAST("{column}" AS TEXT) = ?' for column in columns)
                if db.execute(f'SELECT 1 FROM "{table}" WHERE {where} LIMIT 1', [run_id] * len(columns)).fetchone():
                    found.add(table)
        return found


@pytest.fixture(scope="module")
def here(server: Server) -> Iterator[Here]:
    yield Here(server)


def new_run(here: Here, experiment: str, text: str) -> str:
    with httpx.Client(base_url=f"{here.server.url}/api/v1") as http:
        made: str = http.post("/runs", json={"experiment": experiment, "name": "n"}).json()["id"]
        points = [{"key": "loss", "value": n, "step": n} for n in range(100)]
        http.post(f"/runs/{made}/log", json={"metrics": points}).raise_for_status()
        http.put(f"/runs/{made}/artifacts/a/b.txt", content=text.encode()).raise_for_status()
    return made


def test_delete_and_restore(here: Here) -> None:
    run_id = new_run(here, "first", "in the first")
    assert "drivetrain runs restore" in here("runs", "delete", run_id).ok().err
    assert run_id not in [one["id"] for one in here("runs", "list", "--json").ok().json]
    assert run_id in [one["id"] for one in here("runs", "list", "--deleted", "--json").ok().json]
    assert here("runs", "restore", run_id, "--json").ok().json == {"restored": [run_id]}
    assert here("runs", "show", run_id, "--json").ok().json["lifecycle"] == "active"
    here("experiments", "delete", "first").ok()
    assert "first" not in [one["name"] for one in here("experiments", "list", "--json").ok().json]
    assert "first" in here("experiments", "list", "--deleted").ok().out
    assert here("runs", "restore", run_id).code == 1
    here("experiments", "restore", "first").ok()
    assert here("runs", "show", run_id, "--json").ok().json["lifecycle"] == "active"
    assert here("runs", "delete", "nothing").code == 3
    assert here("experiments", "delete", "nothing").code == 3


def test_first_it_is_shown_and_then_it_is_gone(here: Here) -> None:
    kept, gone = new_run(here, "second", "both have this"), new_run(here, "second", "both have this")
    with httpx.Client(base_url=f"{here.server.url}/api/v1") as http:
        http.put(f"/runs/{gone}/artifacts/own.txt", content=b"only one has this").raise_for_status()
    here("runs", "delete", gone).ok()
    assert "Nothing was deleted long enough ago" in here("gc").ok().out
    assert here("gc", "--json").ok().json["preview"]["runs"] == 0
    shown = here("gc", "--older-than", "0").ok()
    assert gone in shown.out and "1 run, with 2 files (31 B); 17 B of disk are freed." in shown.out and "add --yes" in shown.err
    assert here("gc", "--older-than", "0", "--json").ok().json["collected"] is None
    assert here("gc", "--run", gone, "--yes").code == 1  # it can be restored for a while still
    assert b"only one has this" in here.files().values()
    assert "runs" in here.names_of(gone)

    done = here("gc", "--older-than", "0", "--yes").ok()
    assert "Deleted for good: 1 run. 1 file went from the store, 17 B." in done.out
    left = list(here.files().values())
    assert b"only one has this" not in left and left.count(b"both have this") == 1
    assert here.names_of(gone) == set()
    assert here("runs", "show", gone).code == 3 and here("runs", "restore", gone).code == 3
    assert here("runs", "show", kept, "--json").ok().json["metrics"] == {"loss": 99}
    last = here("gc", "list", "--json").ok().json[0]
    assert (last["runs"], last["blobs"], last["bytes"], last["waiting"]) == (1, 1, 17, 0)
    assert "done" in here("gc", "list").ok().out
    assert here("gc", "--older-than", "soon").code == 1 and here("gc", "--older-than", "0", "--run", "nothing").code == 3


def test_mlflow_deletes_and_restores_and_what_is_gone_it_does_not_find(here: Here) -> None:
    kept, gone = here.python(DELETING)
    shown = here("gc", "--older-than", "0s", "--yes", "--json").ok().json
    assert (shown["preview"]["experiments"], shown["preview"]["runs"]) == (1, 2)
    assert (shown["collected"]["experiments"], shown["collected"]["runs"], shown["collected"]["blobs"]) == (1, 2, 2)
    assert not {b"only in this run", b"in the experiment"} & set(here.files().values())
    assert here.names_of(gone) == set()
    here.python(GONE, kept, gone)


def test_wandb_deletes_and_begins_anew_under_the_same_id(here: Here, tmp_path: Path) -> None:
    def logged(value: int) -> str:
        text = f"""
        with wandb.init(id="again", config={{"value": {value}}}) as run:
            run.log({{"loss": {value}}})
            with open("note{value}.txt", "w") as file:
                file.write("note {value}")
            run.save("note{value}.txt")
        found = wandb.Api().run(run.path)
        assert found.config == {{"value": {value}}} and found.summary["loss"] == {value}
        done(id=found.storage_id)
        """
        return str(script(here.server, text, tmp_path)["id"])

    first = logged(1)
    script(here.server, """
        import os
        api = wandb.Api()
        path = os.environ["WANDB_PROJECT"] + "/again"
        api.run(path).delete(delete_artifacts=True)
        try:
            wandb.Api().run(path)
        except (ValueError, wandb.errors.CommError):
            done(gone=True)
    """, tmp_path)  # fmt: skip
    assert b"note 1" in here.files().values()
    done = here("gc", "--run", first, "--older-than", "0", "--yes", "--json").ok().json["collected"]
    assert done["runs"] == 1 and done["files"] > 2
    assert b"note 1" not in here.files().values() and here.names_of(first) == set()
    second = logged(2)
    assert second != first and b"note 2" in here.files().values()


def test_it_goes_by_itself_where_the_policy_says_so(here: Here) -> None:
    assert "for 30 days" in here("gc", "policy").ok().out
    run_id = new_run(here, "fourth", "goes by itself")
    here("runs", "delete", run_id).ok()
    changed = here("gc", "policy", "--grace", "0", "--automatic", "--json").ok().json
    assert (changed["grace_ms"], changed["automatic"]) == (0, True)
    wait_for(lambda: here.names_of(run_id) == set(), what="the end of the run")
    wait_for(lambda: b"goes by itself" not in here.files().values(), what="the end of its file")
    assert here("gc", "list", "--json").ok().json[0]["user"] == "drivetrain"
    back = here("gc", "policy", "--grace", "1d12h", "--on-demand").ok().out
    assert "for 36 hours" in back and "drivetrain gc --yes" in back
    assert here("gc", "policy", "--grace", "a while").code == 1


def test_only_an_admin_can(here: Here) -> None:
    run_id = new_run(here, "fifth", "x")
    here("runs", "delete", run_id).ok()
    admin = {"DRIVETRAIN_URL": here.server.url, "DRIVETRAIN_API_KEY": here.server.token}
    run("keys", "create", "--user", "local", "--scope", "admin", **admin).ok()
    run("keys", "require", **admin).ok()
    secret = run("keys", "create", "--scope", "read", "--scope", "write", "--json", **admin).ok().json["secret"]
    writer = admin | {"DRIVETRAIN_API_KEY": secret}
    assert run("gc", "--older-than", "0", "--json", **writer).ok().json["preview"]["runs"] == 1
    for refused in (run("gc", "policy", "--automatic", **writer), run("gc", "--older-than", "0", "--yes", **writer)):
        assert refused.code == 4 and "scope 'admin'" in refused.err
    run("runs", "restore", run_id, **writer).ok()
