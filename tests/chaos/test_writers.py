"""Many writers at once, some of whom hang up in the middle: nobody hears that the database is locked, and no point is lost."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import Server, wait_for

pytestmark = pytest.mark.slow

API = "/mlflow/api/2.0/mlflow"
WRITERS, BATCHES, STEPS = 16, 4, 100
KEYS = ("loss", "accuracy", "grad norm", "a/b")


def connect(server: Server) -> httpx.Client:
    return httpx.Client(base_url=server.url + API, timeout=120)


def begin(http: httpx.Client) -> str:
    return str(http.post("/runs/create", json={"experiment_id": "0"}).raise_for_status().json()["run"]["info"]["run_id"])


def batch(run: str, number: int, offset: int = 0) -> dict[str, object]:
    steps = range(number * STEPS, number * STEPS + STEPS)
    return {
        "run_id": run,
        "metrics": [{"key": key, "value": step + offset, "timestamp": 1000 + step, "step": step} for step in steps for key in KEYS],
    }


def history(http: httpx.Client, run: str, key: str) -> list[tuple[int, float]]:
    answer = http.get("/metrics/get-history", params={"run_id": run, "metric_key": key}).raise_for_status().json()
    return [(point.get("step", 0), point["value"]) for point in answer.get("metrics", ())]


def said(server: Server) -> str:
    return (server.home.parent / f"{server.home.name}.up.log").read_text()


@pytest.mark.parametrize("web", [1, 2])
def test_sixteen_writers(new_server: Callable[..., Server], web: int) -> None:
    """Each writes into a run of its own and all into one, in any order, while somebody draws charts of it."""
    server = new_server("--web", str(web))
    with connect(server) as http:
        shared = begin(http)

        def write(number: int) -> str:
            with connect(server) as mine:
                run = begin(mine)
                for n in range(BATCHES):
                    mine.post("/runs/log-batch", json=batch(run, n)).raise_for_status()
                    mine.post("/runs/log-batch", json=batch(shared, (number * 7 + n * 5) % (WRITERS * BATCHES), number)).raise_for_status()
                    one = {"run_id": run, "key": "single", "value": n, "timestamp": 1000 + n, "step": n}
                    mine.post("/runs/log-metric", json=one).raise_for_status()
                    mine.get("/metrics/get-history-bulk-interval", params={"run_ids": shared, "metric_key": "loss"}).raise_for_status()
                return run

        with ThreadPoolExecutor(WRITERS) as pool:
            runs = list(pool.map(write, range(WRITERS)))
        for run in runs:
            for key in KEYS:
                assert history(http, run, key) == [(step, float(step)) for step in range(BATCHES * STEPS)]
            assert history(http, run, "single") == [(n, float(n)) for n in range(BATCHES)]
        wanted = {
            (step, float(step + number))
            for number in range(WRITERS)
            for n in range(BATCHES)
            for at in [(number * 7 + n * 5) % (WRITERS * BATCHES) * STEPS]
            for step in range(at, at + STEPS)
        }
        for key in KEYS:
            assert history(http, shared, key) == sorted(wanted)
        drawn = http.get("/metrics/get-history-bulk-interval", params={"run_ids": shared, "metric_key": "loss", "max_results": 100}).json()
        values = [point["value"] for point in drawn["metrics"]]
        assert len(values) <= 100
        assert (min(values), max(values)) == (min(value for _, value in wanted), max(value for _, value in wanted))
    assert "locked" not in said(server) and "Traceback" not in said(server)


def test_clients_that_hang_up(either_server: Server) -> None:
    """A write whose client has gone is done or not; those of the others are done."""
    at = urlsplit(either_server.url)
    with connect(either_server) as http:
        run = begin(http)
        body = json.dumps(batch(run, 0)).encode()
        lines = (
            f"POST {API}/runs/log-batch HTTP/1.1",
            f"Host: {at.netloc}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        )
        head = "\r\n".join((*lines, "", ""))
        for n in range(40):
            with socket.create_connection((at.hostname, at.port), 60) as hasty:
                hasty.sendall(head.encode() + (body if n % 4 else body[:-9]))
            http.post(
                "/runs/log-metric", json={"run_id": run, "key": "patient", "value": n, "timestamp": 1000, "step": n}
            ).raise_for_status()
        assert history(http, run, "patient") == [(n, float(n)) for n in range(40)]
        wait_for(lambda: history(http, run, "loss") == [(step, float(step)) for step in range(STEPS)])
    assert "Traceback" not in said(either_server)
