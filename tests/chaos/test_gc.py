"""Deleting for good while everything else goes on, and is killed: what was let go is gone in the end, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from drivetrain.store.sql import Database
from drivetrain.tracking import tables as t
from drivetrain.tracking.metrics import points
from tests.conftest import Server, wait_for

pytestmark = pytest.mark.slow

POINTS = 400_000
WRITERS = 16


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    made: str = request.getfixturevalue("new_postgres")() if request.param == "postgresql" else f"sqlite:///{tmp_path}/store.db"
    return made


class Store:
    """A server, and its database as one sees it from outside."""

    def __init__(self, server: Server, url: str) -> None:
        self.server = server
        self.db = Database(url)
        self.http = self._client()

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=f"{self.server.url}/api/v1", timeout=60)

    def reborn(self) -> None:
        """The server dies by kill -9, and is started again."""
        self.http.close()
        self.server.restart()
        self.http = self._client()

    def close(self) -> None:
        self.http.close()
        self.db.close()

    def post(self, path: str, body: object) -> httpx.Response:
        return self.http.post(path, json=body).raise_for_status()

    def new_run(self, name: str) -> str:
        return str(self.post("/runs", {"name": name}).json()["id"])

    def log(self, run_id: str, key: str, steps: range) -> None:
        self.post(f"/runs/{run_id}/log", {"metrics": [{"key": key, "value": 0.5, "step": step} for step in steps]})

    def fill(self, run_id: str, number: int) -> None:
        """Give the run's metric `big` so many points, as if they had been logged long ago."""
        self.log(run_id, "big", range(1))
        with self.db.write() as c:
            series = c.scalar(sa.select(t.latest_metrics.c.id).where(t.latest_metrics.c.run_id == run_id))
            assert series is not None
            for start in range(1, number, 50_000):
                points.insert(c, [(series, step, step, 0, 0.5) for step in range(start, min(start + 50_000, number))])

    def points(self) -> int:
        with self.db.read() as c:
            return int(c.scalar(sa.select(sa.func.count()).select_from(t.metrics)) or 0)

    def fewer(self, than: int) -> bool:
        return self.points() < than

    def ended(self, collection: str) -> bool:
        found = self.http.get(f"/gc/{collection}").raise_for_status().json()
        return found["ended_ms"] is not None and found["waiting"] == 0


def blob_files(server: Server) -> list[bytes]:
    return [path.read_bytes() for path in (server.home / "blobs" / "sha256").rglob("*") if path.is_file()]


@pytest.fixture
def store(new_server: Callable[..., Server], url: str) -> Iterator[Store]:
    made = Store(new_server("--web", "2", environ={"DRIVETRAIN_DATABASE_URL": url}), url)
    yield made
    made.close()


def test_killed_in_the_middle_it_goes_on(store: Store) -> None:
    server = store.server
    kept, doomed = store.new_run("kept"), store.new_run("doomed")
    store.log(kept, "acc", range(500))
    for run_id, name, data in ((kept, "a", b"shared"), (doomed, "a", b"shared"), (doomed, "b", b"alone")):
        store.http.put(f"/runs/{run_id}/artifacts/{name}", content=data).raise_for_status()
    store.fill(doomed, POINTS)
    store.http.delete(f"/runs/{doomed}").raise_for_status()
    begun = store.post("/gc", {"older_than_s": 0}).json()["id"]
    for kills in range(3):
        before = store.points()
        if kills and before == 500:
            break  # the rest went while the server started
        wait_for(partial(store.fewer, before), what="the deleting to go on")
        server.kill()
        assert kills or 500 < store.points() < POINTS, "it was killed too late to tell"
        store.reborn()
        assert store.http.post(f"/runs/{doomed}/restore").status_code in (404, 409)
    wait_for(lambda: store.ended(begun), seconds=120, what="the end of the collection")
    found = store.http.get(f"/gc/{begun}").json()
    assert (found["runs"], found["files"]) == (1, 2)
    assert store.http.get(f"/runs/{doomed}").status_code == 404
    assert store.http.get(f"/runs/{kept}").json()["metrics"] == {"acc": 0.5}
    assert store.points() == 500
    assert sorted(blob_files(server)) == [b"shared"]


def test_others_go_on_writing_meanwhile(store: Store) -> None:
    server = store.server
    doomed = store.new_run("doomed")
    runs = [store.new_run(f"writer {n}") for n in range(WRITERS)]
    store.fill(doomed, POINTS)
    store.http.delete(f"/runs/{doomed}").raise_for_status()
    over = threading.Event()
    acknowledged = [0] * WRITERS
    wrong: list[str] = []

    def write(n: int) -> None:
        with httpx.Client(base_url=f"{server.url}/api/v1", timeout=60) as http:
            while not over.is_set():
                step = acknowledged[n]
                body = {"metrics": [{"key": "loss", "value": step, "step": step + k} for k in range(10)]}
                answer = http.post(f"/runs/{runs[n]}/log", json=body)
                if answer.status_code != 200:
                    wrong.append(answer.text)
                    return
                acknowledged[n] += 10

    threads = [threading.Thread(target=write, args=(n,)) for n in range(WRITERS)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: all(acknowledged), what="the first points of all writers")
        before = list(acknowledged)
        begun = store.post("/gc", {"older_than_s": 0}).json()["id"]
        wait_for(lambda: store.ended(begun) or bool(wrong), seconds=200, what="the end of the collection")
        during = [now - then for now, then in zip(acknowledged, before, strict=True)]
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not wrong
    assert min(during) > 0, during  # each of them was let in while the big one went
    assert store.points() == sum(acknowledged)
    assert store.http.get(f"/runs/{doomed}").status_code == 404
