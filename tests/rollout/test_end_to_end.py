"""Rollouts with real traffic on a real server: whatever is wrong with a version, it is stopped for that reason, and nobody else notices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import pytest
import sqlalchemy as sa

from drivetrain.answers.rollouts import WatchedRollout
from drivetrain.client import Client
from drivetrain.errors import Conflict
from drivetrain.serving import tables as serving_tables
from drivetrain.serving.assignment import assign
from tests.conftest import Server, wait_for
from tests.rollout.live import Traffic, begin, database, deploy, end, events, make_models, plan

pytestmark = pytest.mark.slow


@dataclass
class Scene:
    server: Server
    client: Client

    def state(self, rollout: str) -> str:
        return str(self.client.rollouts.get(rollout).state)

    def weights(self) -> dict[str, int]:
        live = [one for one in self.client.deployments.get("live").variants if one.retired_ms is None]
        return {f"{one.repo}@{one.version}": one.weight for one in live}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One server, on which `doubler@1` is live and has had some traffic, with prices."""
    folder = tmp_path_factory.mktemp("rollouts")
    models = make_models(folder)
    server = Server(folder / "home", ("--web", "1")).start()
    try:
        with deploy(server, models, prices={"request": 0.001}) as client:
            with Traffic(server) as traffic:
                traffic.more(150)
            assert not traffic.failed
            yield Scene(server, client)
    finally:
        server.stop()


def verdicts(rollout: WatchedRollout) -> dict[str, str]:
    return {one.measure: one.verdict for one in rollout.evidence}


def decided(rollout: WatchedRollout) -> list[str]:
    return [one.action for one in rollout.decisions]


def only_stable_is_left(scene: Scene) -> None:
    """Traffic is as before the rollout, and goes on without a failure."""
    with Traffic(scene.server, units=lambda n: f"after-{n}") as traffic:
        traffic.more(50)
    assert not traffic.failed
    assert not traffic.broken
    assert scene.weights() == {"default/doubler@1": 10_000}


def test_a_version_that_errs_is_taken_back(scene: Scene) -> None:
    with Traffic(scene.server) as traffic:
        rollout = begin(scene.client, "erring", plan("errors", "latency_p95@10"))
        ended = end(scene.client, rollout)
        traffic.more(100)
    assert ended.state == "rolled_back"
    assert verdicts(ended)["errors"] == "harm"
    assert "errors: harm" in ended.why
    assert ended.decisions[-1].actor == "drivetrain"
    assert ended.decisions[-1].undo.startswith("drivetrain rollout start live")
    # Nobody got an error but from the version that errs.
    canary = {event.id for event in events(scene.client, rollout=rollout) if event.variant == ended.canary}
    assert {one.request_id for one in traffic.failed} <= canary
    assert not traffic.broken
    only_stable_is_left(scene)


def test_a_version_that_is_slow_is_taken_back(scene: Scene) -> None:
    with Traffic(scene.server, people=4) as traffic:
        ended = end(scene.client, begin(scene.client, "slow", plan("errors", "latency_p95@1.5")))
    assert (ended.state, verdicts(ended)["latency_p95"]) == ("rolled_back", "harm"), ended.why
    assert "measuring" in decided(ended)  # its line is that of the old version, from when the new one had settled
    assert not traffic.failed
    only_stable_is_left(scene)


def test_a_version_that_costs_more_is_taken_back(scene: Scene) -> None:
    with Traffic(scene.server) as traffic:
        ended = end(scene.client, begin(scene.client, "dear", plan("errors", "cost"), prices={"request": 0.003}))
    assert (ended.state, verdicts(ended)["cost"]) == ("rolled_back", "harm"), ended.why
    assert not traffic.failed
    only_stable_is_left(scene)


def test_a_version_that_costs_more_on_average_is_taken_back(scene: Scene) -> None:
    with Traffic(scene.server) as traffic:
        of = plan("errors", "cost_mean@1.1", shares=(5_000, 10_000))
        of["steps"][0]["min_units"] = 2_000
        ended = end(scene.client, begin(scene.client, "dear", of, prices={"request": 0.0013}))
    assert (ended.state, verdicts(ended)["cost_mean"]) == ("rolled_back", "harm"), ended.why
    assert not traffic.failed
    only_stable_is_left(scene)


def test_a_version_that_answers_worse_by_labels_is_taken_back(scene: Scene) -> None:
    with Traffic(scene.server, labels=True) as traffic:
        ended = end(scene.client, begin(scene.client, "wrong", plan("errors", "label_error")))
    assert (ended.state, verdicts(ended)["label_error"]) == ("rolled_back", "harm"), ended.why
    assert verdicts(ended)["errors"] != "harm"
    assert not traffic.failed
    only_stable_is_left(scene)


def test_harm_to_a_signal_pauses(scene: Scene) -> None:
    with Traffic(scene.server, labels=True) as traffic:
        rollout = begin(scene.client, "wrong", plan("errors", "label_error!signal"))
        ended = end(scene.client, rollout)
        assert (ended.state, verdicts(ended)["label_error"]) == ("paused", "harm"), ended.why
        traffic.more(100)
        assert scene.state(rollout) == "paused"
        scene.client.rollouts.abort(rollout, why="worse")
    assert not traffic.failed
    only_stable_is_left(scene)


@pytest.mark.parametrize("measure", ["label_eror", "invalid_output:json"], ids=["misspelt", "not-captured"])
def test_a_guardrail_without_data_holds(scene: Scene, measure: str) -> None:
    """`label_eror` is feedback that nobody gives; the second has outputs to look at and is none."""
    with Traffic(scene.server) as traffic:
        rollout = begin(scene.client, "better", plan("errors", measure))
        if measure == "label_eror":
            wait_for(lambda: "held" in decided(scene.client.rollouts.get(rollout)), what="a hold")
            held = scene.client.rollouts.get(rollout)
            assert (held.state, held.step, verdicts(held)[measure]) == ("running", 0, "no_measure")
            assert "label_error" in held.why  # what was meant, perhaps
            scene.client.rollouts.abort(rollout)
        else:
            assert end(scene.client, rollout).state == "promoted"
            scene.client.rollouts.rollback(rollout)
    assert not traffic.failed
    only_stable_is_left(scene)


def test_units_that_were_chosen_are_a_mismatch_and_it_is_never_promoted(scene: Scene) -> None:
    """Somebody sends more of those to whom the new version falls: then the two cannot be compared."""
    with database(scene.server).read() as c:
        salt = c.scalar(sa.select(serving_tables.deployments.c.salt).where(serving_tables.deployments.c.name == "live"))
    rollout = begin(scene.client, "better", plan("errors", shares=(1_000, 5_000, 10_000)))
    shown = scene.client.rollouts.get(rollout)

    @dataclass
    class Arm:
        id: str
        weight: int

    arms = [Arm(shown.stable, 9_000), Arm(shown.canary, 1_000)]
    falls = {arm.id: (f"chosen-{n}" for n in count() if assign(f"{salt}:{rollout}", f"chosen-{n}", arms) is arm) for arm in arms}
    names = [next(falls[arms[n % 3 == 0].id]) for n in range(3_000)]  # a third in place of a tenth
    with Traffic(scene.server, units=lambda n: names[n]) as traffic:
        ended = end(scene.client, rollout)
        assert (ended.state, verdicts(ended)["assignment"]) == ("paused", "mismatch"), ended.why
        for verb in (scene.client.rollouts.resume, scene.client.rollouts.promote):
            with pytest.raises(Conflict):
                verb(rollout)
        scene.client.rollouts.abort(rollout)
    assert not traffic.failed
    only_stable_is_left(scene)


def test_a_good_version_gets_all_traffic_and_can_be_taken_back_still(scene: Scene) -> None:
    """Under load, from the start to all traffic and back: no request fails, and the weights were what the events say."""
    with Traffic(scene.server, labels=True) as traffic:
        rollout = begin(scene.client, "better", plan("errors", "latency_p95@5", "label_error", "cost_mean@1.5"), prices={"request": 0.001})
        promoted = end(scene.client, rollout)
        assert promoted.state == "promoted", promoted.why
        assert scene.weights() == {"default/doubler@1": 0, "default/doubler@2": 10_000}
        traffic.more(100)
        back = scene.client.rollouts.rollback(rollout, why="only to see")
        assert back.state == "rolled_back"
        traffic.more(100)
    assert not traffic.failed
    assert not traffic.broken
    shown = scene.client.rollouts.get(rollout)
    moves = [one for one in decided(shown) if one not in ("measuring", "held")]
    assert moves == ["started", "advanced", "advanced", "promoted", "rolled_back"]
    assert all(one.why for one in shown.decisions)
    shares = {one.number: one.share for one in shown.phases}
    of = [event for event in events(scene.client, rollout=rollout) if event.rollout == rollout]
    assert {event.phase for event in of} <= set(shares)
    for event in of:
        assert shares[event.phase] not in (0, 10_000) or (event.variant == shown.canary) == (shares[event.phase] == 10_000)
    only_stable_is_left(scene)


def test_the_shadow_is_seen_by_nobody(scene: Scene) -> None:
    """Requests repeated on a version that errs: it is stopped, and all answers are the old version's."""
    of = plan("errors")
    of["steps"].insert(0, {"share": 0, "shadow": 10_000, "min_units": 50, "min_seconds": 1})
    with Traffic(scene.server) as traffic:
        rollout = begin(scene.client, "erring", of)
        ended = end(scene.client, rollout)
    assert (ended.state, verdicts(ended)["errors"], ended.step) == ("rolled_back", "harm", 0), ended.why
    assert not traffic.failed
    of_canary = [event for event in events(scene.client, rollout=rollout) if event.variant == ended.canary]
    assert of_canary
    assert all(event.shadow for event in of_canary)
    only_stable_is_left(scene)


def test_after_a_rollback_nobody_comes_to_the_version_any_more(scene: Scene) -> None:
    """The route table is swapped whole: once the first request is answered by the new one, none is assigned by the old one."""
    with Traffic(scene.server, people=4, pause=0.0) as traffic:
        rollout = begin(scene.client, "better", plan("errors", shares=(5_000, 10_000), auto_promote=False))
        wait_for(lambda: scene.state(rollout) == "running", what="the first step")
        traffic.more(200)
        scene.client.rollouts.rollback(rollout)
        traffic.more(200)
    assert not traffic.failed
    canary = scene.client.rollouts.get(rollout).canary
    of = sorted(events(scene.client, rollout=rollout), key=lambda event: event.id)
    last = max(i for i, event in enumerate(of) if event.rollout == rollout)
    came = [event for event in of[: last + 1] if event.rollout == rollout and event.variant == canary]
    assert came
    assert all(event.variant != canary for event in of[last + 1 :])
    assert len(of) - last > 100
    only_stable_is_left(scene)
