"""The counts of deployments and variants for Prometheus: bounded, added up over processes, in the format that Prometheus reads."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from drivetrain.serving.gateway.meters import MOST, Meters, Now, exposition
from drivetrain.store.events.model import Event
from drivetrain.store.ids import uuid7
from tests.chaos.common import ask_digits, deploy_digits
from tests.conftest import Server, free_port, wait_for
from tests.serving.plane import deployment

ROUTE = deployment("m")


def event(variant: str = "v-a", **more: Any) -> Event:
    values: dict[str, Any] = {
        "deployment": "d-m",
        "variant": variant,
        "variant_name": variant.removeprefix("v-"),
        "latency_ms": 20.0,
    } | more
    return Event(id=uuid7(), t=0, **values)


def lines(meters: Meters, others: list[Path] | None = None, now: list[Now] | None = None) -> list[str]:
    series, gauges = meters.total(now or [], others or [])
    return exposition(series, gauges, [])


def value(text: list[str], start: str) -> float:
    (found,) = [line for line in text if line.startswith(start)]
    return float(found.rpartition(" ")[2])


def test_what_is_counted_of_a_variant() -> None:
    meters = Meters()
    meters.count(event(tokens_in=7, tokens_out=3, cost=0.5, ttft_ms=4.0, queue_ms=900.0), ROUTE)
    meters.count(event(error="timeout", latency_ms=20_000.0), ROUTE)
    meters.count(event(error="cancelled"), ROUTE)
    meters.count(event(shadow="x", tokens_out=100), ROUTE)
    of = '{workspace="default",deployment="m",variant="a"'
    text = lines(meters)
    for outcome in ("ok", "timeout", "cancelled"):
        assert value(text, f'drivetrain_requests_total{of},outcome="{outcome}"}}') == 1
    assert value(text, f'drivetrain_shadow_requests_total{of},outcome="ok"}}') == 1
    assert value(text, f"drivetrain_request_seconds_count{of}}}") == 1
    assert value(text, f"drivetrain_request_seconds_sum{of}}}") == pytest.approx(0.02)
    assert value(text, f'drivetrain_request_seconds_bucket{of},le="0.025"}}') == 1
    assert value(text, f'drivetrain_request_seconds_bucket{of},le="0.01"}}') == 0
    assert value(text, f"drivetrain_ttft_seconds_count{of}}}") == 1
    assert value(text, f"drivetrain_queue_seconds_sum{of}}}") == pytest.approx(0.9)
    assert value(text, f'drivetrain_tokens_total{of},direction="out"}}') == 3
    assert value(text, f"drivetrain_cost_total{of}}}") == 0.5


def test_there_is_an_end_to_labels() -> None:
    meters = Meters()
    for i in range(MOST + 50):
        meters.count(event(f"v-{i}"), ROUTE)
    series, _ = meters.total([], [])
    assert len(series) == MOST + 1
    (other,) = [one for one in series if one.variant == "other"]
    assert other.outcomes == {"ok": 50}
    meters.trim(["v-0", "v-1"])
    meters.count(event("v-new"), ROUTE)
    series, _ = meters.total([], [])
    assert {one.variant for one in series} == {"0", "1", "other", "new"}


def test_a_label_may_hold_anything() -> None:
    meters = Meters()
    meters.count(event(variant_name='a"b\\c\nd'), ROUTE)
    assert any('variant="a\\"b\\\\c\\nd"' in line for line in lines(meters))


def test_processes_add_up_and_the_gauges_of_the_dead_do_not(tmp_path: Path) -> None:
    mine, other, dead = Meters(), Meters(), Meters()
    now = Now("w1", "default", "m", "a", 2, 1)
    for meters, times in ((mine, 1), (other, 2), (dead, 4)):
        for _ in range(times):
            meters.count(event(), ROUTE)
    other.share(tmp_path / "other", [now])
    dead.share(tmp_path / "dead", [now])
    gone = subprocess.Popen(["true"])
    gone.wait()
    told = json.loads((tmp_path / "dead").read_text())
    assert told["process"] == os.getpid()
    (tmp_path / "dead").write_text(json.dumps(told | {"process": gone.pid}))
    (tmp_path / "torn").write_text("{")
    text = lines(mine, [tmp_path / name for name in ("other", "dead", "torn", "missing")], [now])
    of = '{workspace="default",deployment="m",variant="a"'
    assert value(text, f'drivetrain_requests_total{of},outcome="ok"}}') == 7
    assert value(text, f"drivetrain_request_seconds_count{of}}}") == 7
    assert value(text, f"drivetrain_inflight{of}}}") == 4
    assert value(text, f"drivetrain_waiting{of}}}") == 2
    assert value(lines(mine), f'drivetrain_requests_total{of},outcome="ok"}}') == 1, "showing the sum changes nothing"


def test_what_has_not_changed_is_not_written(tmp_path: Path) -> None:
    meters, file = Meters(), tmp_path / "series"
    meters.share(file, [])
    assert not file.exists()
    meters.count(event(), ROUTE)
    meters.share(file, [])
    file.unlink()
    meters.share(file, [])
    assert not file.exists()
    meters.share(file, [Now("w1", "default", "m", "a", 1, 0)])
    assert file.exists()


@pytest.mark.slow
def test_prometheus_reads_a_real_server(new_server: Any, digits_model: Path, tmp_path: Path) -> None:
    server: Server = new_server("--web", "2")
    headers = {"Authorization": f"Bearer {server.token}"}
    deploy_digits(server, digits_model)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for _ in range(20):
            assert ask_digits(client).status_code == 200
        assert client.post("/invoke/digits/invocations", json={"inputs": [["no number"]]}).status_code == 400

        def counted() -> bool:
            text = client.get("/metrics", headers=headers).text
            ok = [line for line in text.splitlines() if line.startswith("drivetrain_requests_total{") and 'outcome="ok"' in line]
            return sum(float(line.rpartition(" ")[2]) for line in ok) == 20

        wait_for(counted, what="both web processes' counts")
        text = client.get("/metrics", headers=headers).text
    linted = subprocess.run(["promtool", "check", "metrics"], input=text.encode(), capture_output=True, timeout=60, check=False)
    assert (linted.returncode, linted.stdout, linted.stderr) == (0, b"", b"")
    scraped(server, tmp_path)


def scraped(server: Server, folder: Path) -> None:
    """A real Prometheus scrapes the server and is asked what it has understood."""
    port = free_port()
    config = {
        "scrape_configs": [
            {
                "job_name": "drivetrain",
                "scrape_interval": "1s",
                "scrape_timeout": "1s",
                "static_configs": [{"targets": [server.url.removeprefix("http://")]}],
                "authorization": {"credentials": server.token},
            }
        ]
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    subprocess.run(["promtool", "check", "config", str(folder / "prometheus.yml")], check=True, capture_output=True, timeout=60)
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    try:

        def ask(query: str) -> list[dict[str, Any]]:
            try:
                answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/query", params={"query": query}, timeout=5)
            except httpx.TransportError:
                return []
            if answer.status_code == 503:  # it reads its files yet, and says so in plain text
                return []
            found: list[dict[str, Any]] = answer.json().get("data", {}).get("result", [])
            return found

        def answered(query: str) -> float | None:
            found = ask(query)
            return float(found[0]["value"][1]) if found else None

        assert wait_for(lambda: answered('sum(drivetrain_requests_total{outcome="ok",deployment="digits"})'), what="a scrape") == 20
        assert answered('up{job="drivetrain"}') == 1
        assert answered('sum(drivetrain_requests_total{outcome="invalid"})') == 1
        assert answered("sum(drivetrain_replicas)") == 1
        assert answered("sum(drivetrain_variant_share)") == 1
        quantile = answered("histogram_quantile(0.95, sum by (le) (drivetrain_request_seconds_bucket))")
        assert quantile is not None and 0 < quantile < 300
    finally:
        process.terminate()
        process.wait(30)
