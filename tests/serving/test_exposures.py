"""The gateway during a rollout: who is exposed to what, who answers for whom, what is repeated for comparison, and what it costs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from drivetrain.serving.assignment import assign
from drivetrain.serving.gateway.shadow import MOST
from drivetrain.serving.routes import DeploymentRoute, Prices, RolloutRoute, VariantRoute
from tests.conftest import wait_for
from tests.serving.plane import Plane, deployment, running, variant
from tests.serving.replica import FakeReplica

IDS = {"rollout": RolloutRoute(id="r1", phase=3, stable="v-old", canary="v-new")}


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    with running(tmp_path) as it:
        yield it


def ask(plane: Plane, words: str = "n=1", unit: str = "", **more: Any) -> httpx.Response:
    body = {"model": "m", "messages": [{"role": "user", "content": words}], **more}
    headers = {"X-Drivetrain-Unit": unit} if unit else {}
    return httpx.post(f"{plane.url}/v1/chat/completions", json=body, headers=headers, timeout=30)


def arms(plane: Plane, *, share: int = 5_000, **canary: Any) -> tuple[VariantRoute, VariantRoute]:
    stable = variant("old", [replica(plane, "old")], weight=10_000 - share)
    return stable, variant("new", [replica(plane, "new")], weight=share, **canary)


def replica(plane: Plane, name: str) -> FakeReplica:
    return next((one for one in plane.replicas if one.name == name), None) or plane.replica(name)


def unit_of(route: DeploymentRoute, arm: str, *, salt: str = "salt-m:r1") -> str:
    """A unit that this route gives to that variant."""
    return next(f"u{i}" for i in range(10_000) if (found := assign(salt, f"u{i}", route.variants)) and found.name == arm)


def test_no_rollout_no_exposures(plane: Plane) -> None:
    plane.routes(deployment("m", *arms(plane)))
    assert ask(plane, unit="ann").status_code == 200
    assert plane.exposures() == []
    (event,) = plane.events()
    assert (event.rollout, event.phase, event.assigned, event.shadow, event.cost) == ("", 0, "", "", 0.0)


def test_a_rollout_writes_down_whose_each_unit_is(plane: Plane) -> None:
    route = deployment("m", *arms(plane), **IDS)
    plane.routes(route)
    units = [unit_of(route, "old"), unit_of(route, "new"), ""]
    for unit in units:
        assert ask(plane, unit=unit).status_code == 200
    exposures, events = plane.exposures(), plane.events()
    assert [(one.unit, one.exposure) for one in exposures] == [(event.unit, event.id) for event in events]
    assert [one.variant for one in exposures] == [event.variant for event in events]
    assert [event.variant for event in events[:2]] == ["v-old", "v-new"]
    assert {(one.rollout, one.phase, one.deployment) for one in exposures} == {("r1", 3, "d-m")}
    assert {(event.rollout, event.phase, event.deployment) for event in events} == {("r1", 3, "d-m")}


def test_by_request_nobody_stays_with_a_version(plane: Plane) -> None:
    plane.routes(deployment("m", *arms(plane), unit="request", **IDS))
    for _ in range(30):
        assert ask(plane, unit="ann").status_code == 200
    assert {event.variant for event in plane.events()} == {"v-old", "v-new"}
    assert {event.unit for event in plane.events()} == {"ann"}  # who asked is known nevertheless


def test_memory_is_measured_while_versions_are_compared(plane: Plane) -> None:
    old, new = arms(plane)
    mine = [
        msgspec.structs.replace(one, replicas=tuple(msgspec.structs.replace(it, pid=os.getpid()) for it in one.replicas))
        for one in (old, new)
    ]
    plane.routes(deployment("m", *mine))
    assert ask(plane, unit="ann").status_code == 200
    plane.routes(deployment("m", *mine, **IDS))
    assert ask(plane, unit="ann").status_code == 200
    before, during = plane.events()
    assert before.memory_mb == 0.0
    assert 10 < during.memory_mb < 10_000


def test_an_exposure_is_there_before_the_answer(plane: Plane) -> None:
    plane.routes(deployment("m", *arms(plane), **IDS))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, plane, "n=1 wait=1")
        wait_for(plane.exposures, what="the exposure")
        assert plane.events() == []
        assert answer.result().status_code == 200
    assert len(plane.exposures()) == len(plane.events()) == 1


def test_each_rollout_draws_its_first_units_anew(plane: Plane) -> None:
    """Who goes first in one rollout is no more likely to in the next; and within a rollout people only move to the canary."""
    first = deployment("m", *arms(plane, share=1_000), **IDS)
    grown = deployment("m", *arms(plane, share=5_000), **IDS)
    units = [f"u{i}" for i in range(2000)]

    def chosen(route: DeploymentRoute) -> set[str]:
        return plane.call(lambda: {unit for unit in units if plane.gateway.directory.choose(route, unit).name == "new"})

    before, after = chosen(first), chosen(grown)
    assert before < after
    other = chosen(msgspec.structs.replace(first, rollout=RolloutRoute(id="r2", phase=1, stable="v-old", canary="v-new")))
    assert len(before & other) < len(before) / 2


def test_while_the_canary_has_no_replica_the_other_answers(plane: Plane) -> None:
    stable, canary = arms(plane)
    route = deployment("m", stable, canary, **IDS)
    unit = unit_of(route, "new")
    plane.routes(deployment("m", stable, msgspec.structs.replace(canary, replicas=(), problem="it crashed"), **IDS))
    assert ask(plane, unit=unit).status_code == 200
    (event,) = plane.events()
    assert (event.variant, event.assigned, event.error) == ("v-old", "v-new", "")
    assert [one.variant for one in plane.exposures()] == ["v-new"]


def test_a_canary_that_dies_fails_nobody(plane: Plane) -> None:
    """Its replica is gone before the routes say so: the request waits, and when they do, the other variant answers."""
    stable, canary = arms(plane)
    route = deployment("m", stable, canary, **IDS)
    unit = unit_of(route, "new")
    plane.routes(route)
    plane.run(replica(plane, "new").stop())
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, plane, unit=unit)
        wait_for(lambda: "d-m" in plane.woken, what="the call for a replica")
        plane.routes(deployment("m", stable, msgspec.structs.replace(canary, replicas=(), starting=True), **IDS))
        assert answer.result().status_code == 200
    (event,) = plane.events()
    assert (event.variant, event.assigned, event.error, event.rollout) == ("v-old", "v-new", "", "r1")
    assert event.queue_ms > 0
    assert len(plane.exposures()) == 1


def test_who_waits_while_the_rollout_is_taken_back_counts_for_neither(plane: Plane) -> None:
    stable, canary = arms(plane)
    route = deployment("m", stable, canary, **IDS)
    unit = unit_of(route, "new")
    plane.routes(route)
    plane.run(replica(plane, "new").stop())
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, plane, unit=unit)
        wait_for(lambda: "d-m" in plane.woken, what="the call for a replica")
        plane.routes(deployment("m", msgspec.structs.replace(stable, weight=10_000), msgspec.structs.replace(canary, weight=0)))
        assert answer.result().status_code == 200
    (event,) = plane.events()
    assert (event.variant, event.assigned, event.error, event.rollout) == ("v-old", "", "", "")


@pytest.mark.slow
def test_zero_failures_while_weights_move(plane: Plane) -> None:
    stable, canary = arms(plane)
    routes = [
        deployment("m", msgspec.structs.replace(stable, weight=10_000 - share), msgspec.structs.replace(canary, weight=share), **IDS)
        for share in (100, 2_500, 5_000, 10_000, 0)
    ]
    plane.routes(routes[0])
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask, plane, "n=1 wait=0.02", f"u{i}") for i in range(150)]
        for route in routes[1:] * 4:
            time.sleep(0.01)  # while requests are on their way, wherever they are
            plane.routes(route)
        assert {answer.result().status_code for answer in answers} == {200}
    assert len(plane.events()) == len(plane.exposures()) == 150


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_repeated_request_is_an_event_of_its_own(plane: Plane, stream: bool) -> None:
    prices = Prices(million_in=1e6, million_out=2e6)
    stable, canary = arms(plane, share=0, shadow=10_000, prices=prices)
    plane.routes(deployment("m", stable, canary, **IDS))
    answer = ask(plane, "n=4", "ann", stream=stream)
    assert answer.status_code == 200
    wait_for(lambda: len(plane.events()) == 2, what="the repeated request")
    original, shadow = plane.events()
    assert original.id == answer.headers["x-request-id"]
    assert (original.variant, original.shadow) == ("v-old", "")
    assert (shadow.variant, shadow.shadow, shadow.variant_name, shadow.replica) == ("v-new", original.id, "new", "new")
    assert (shadow.rollout, shadow.phase, shadow.unit) == ("r1", 3, "ann")
    assert shadow.id != original.id
    # As the gateway keeps them of the original.
    assert (shadow.output, shadow.tokens_in, shadow.tokens_out) == (original.output, 7, 4)
    assert (shadow.stream, shadow.ttft_ms is None) == (stream, not stream)
    assert (original.cost, shadow.cost) == (0.0, 7 + 2 * 4)
    assert shadow.latency_ms > 0
    assert replica(plane, "new").bodies == replica(plane, "old").bodies
    assert len(plane.exposures()) == 1


@pytest.mark.slow
def test_a_share_of_the_requests_is_repeated(plane: Plane) -> None:
    stable, canary = arms(plane, share=0, shadow=5_000)
    plane.routes(deployment("m", stable, canary, **IDS))
    for _ in range(40):
        assert ask(plane).status_code == 200
    originals = [event for event in plane.events() if not event.shadow]
    chosen = {event.id for event in originals if int(event.id[-8:], 16) < 1 << 31}
    wait_for(lambda: len(plane.events()) == 40 + len(chosen), what="the repeated requests")
    assert {event.shadow for event in plane.events() if event.shadow} == chosen
    assert 5 < len(chosen) < 35


@pytest.mark.slow
def test_nobody_waits_for_repetitions_and_there_is_an_end_to_them(plane: Plane) -> None:
    stable = variant("old", [plane.replica("old")], slots=64)
    canary = variant("new", [plane.replica("new")], weight=0, shadow=10_000, slots=4)
    plane.routes(deployment("m", stable, canary, **IDS))
    hold = plane.replicas[1]
    hold.loading = True  # answers 503
    assert ask(plane, "n=1").status_code == 200
    wait_for(lambda: len(plane.events()) == 2, what="the repetition")
    assert plane.events()[1].error == "upstream"
    hold.loading = False
    with ThreadPoolExecutor(16) as pool:
        assert {answer.status_code for answer in pool.map(lambda _: ask(plane, "n=1 wait=0.1"), range(MOST + 16))} == {200}
    wait_for(lambda: plane.call(lambda: not plane.gateway.shadows.busy), what="the end of the repetitions")
    assert hold.most_active <= 4
    assert plane.call(lambda: all(pool.outstanding == 0 for pool in plane.gateway.directory._pools.values()))


def test_what_failed_is_not_repeated(plane: Plane) -> None:
    stable, canary = arms(plane, share=0, shadow=10_000)
    plane.routes(deployment("m", stable, canary, **IDS))
    assert ask(plane, "status=400").status_code == 400
    assert ask(plane, "n=1").status_code == 200
    wait_for(lambda: len(plane.events()) == 3, what="the repeated request")
    assert [event.error for event in plane.events()] == ["invalid", "", ""]


def test_a_shadow_that_breaks_harms_nobody(plane: Plane) -> None:
    stable, canary = arms(plane, share=0, shadow=10_000)
    plane.routes(deployment("m", stable, canary, **IDS))
    plane.run(replica(plane, "new").stop())
    assert ask(plane).status_code == 200
    wait_for(lambda: len(plane.events()) == 2, what="the repeated request")
    assert [(event.error, event.status) for event in plane.events()] == [("", 200), ("upstream", 502)]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_what_a_request_costs(plane: Plane, stream: bool) -> None:
    prices = Prices(million_in=2.0, million_out=8.0, request=0.001)
    plane.routes(deployment("m", variant("a", [plane.replica("a")], prices=prices)))
    assert ask(plane, "n=5", stream=stream).status_code == 200
    (event,) = plane.events()
    assert event.cost == pytest.approx(0.001 + (7 * 2 + 5 * 8) / 1e6)


def test_waiting_for_a_slot_is_said(plane: Plane) -> None:
    plane.routes(deployment("m", variant("a", [plane.replica("a")], slots=1)))
    with ThreadPoolExecutor(2) as pool:
        assert {answer.status_code for answer in pool.map(lambda _: ask(plane, "n=1 wait=0.3"), range(2))} == {200}
    waits = sorted(event.queue_ms for event in plane.events())
    assert waits[0] == 0.0 < waits[1]


def test_what_is_served_is_counted_for_prometheus(plane: Plane) -> None:
    stable, canary = arms(plane, share=0, shadow=10_000)
    plane.routes(deployment("m", stable, canary, **IDS))
    for words in ("n=2", "n=2", "status=400"):
        ask(plane, words)
    wait_for(lambda: len(plane.events()) == 5, what="the repeated requests")
    assert ask(plane, model="nobody").status_code == 404
    series, _ = plane.call(lambda: plane.gateway.meters.total([], []))
    by = {one.variant: one for one in series}
    assert by["old"].outcomes == {"ok": 2, "invalid": 1}
    assert by["new"].outcomes == {} and by["new"].shadows == {"ok": 2}
    assert set(by) == {"old", "new"}, "a name that nobody serves is no label"
    assert {(now.variant, share, ready) for now, share, ready in plane.gateway.directory.standing()} == {("old", 1.0, 1), ("new", 0.0, 1)}
