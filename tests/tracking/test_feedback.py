"""Feedback and labels by request id: on SQLite and PostgreSQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from drivetrain.errors import Forbidden, Invalid, NotFound
from drivetrain.feedback.model import About, Scalar
from drivetrain.feedback.service import Feedback
from drivetrain.identity.model import Context, Scope
from drivetrain.store.ids import uuid7
from drivetrain.store.sql import Database

ADA = Context("u1", "ada", "w1", "vision")
BOB = Context("u2", "bob", "w2", "speech")
GIVEN = "01a2064467c370009b9cdcd97a608777"


@pytest.mark.parametrize("value", [True, False, 0, -7, 2**62, 0.25, "großartig", "", None])
def test_a_value_reads_back_as_it_was(database: Database, value: Scalar) -> None:
    feedback, request = Feedback(database), uuid7()
    feedback.add(ADA, request, "thumbs", value, comment="weil")
    (said,) = feedback.of(ADA, request)
    assert said.value == value
    assert type(said.value) is type(value)
    assert (said.name, said.kind, said.source, said.comment) == ("thumbs", "feedback", "ada", "weil")


def test_the_same_source_changes_its_mind_and_others_do_not(database: Database) -> None:
    feedback, request = Feedback(database), uuid7()
    for source, value in (("", 1), ("judge", 2), ("", 3)):
        feedback.add(ADA, request, "score", value, source=source)
    assert {(said.source, said.value) for said in feedback.of(ADA, request)} == {("ada", 3), ("judge", 2)}


def test_labels_are_not_opinions(database: Database) -> None:
    feedback, requests = Feedback(database), [uuid7() for _ in range(3)]
    feedback.add(ADA, requests[0], "label", 7, kind="label")
    feedback.add(ADA, requests[1], "label", "cat", kind="label")
    feedback.add(ADA, requests[1], "thumbs", False)
    assert feedback.labels(ADA, requests) == {requests[0]: 7, requests[1]: "cat"}
    assert [said.kind for said in feedback.recent(ADA, kind="label")] == ["label", "label"]


def test_another_workspace_sees_nothing(database: Database) -> None:
    feedback, request = Feedback(database), uuid7()
    said = feedback.add(ADA, request, "thumbs", True)
    assert feedback.of(BOB, request) == []
    assert feedback.labels(BOB, [request]) == {}
    with pytest.raises(NotFound):
        feedback.delete(BOB, said.id)
    feedback.delete(ADA, said.id)
    assert feedback.of(ADA, request) == []


def test_ids_are_taken_with_hyphens_and_in_capitals(database: Database) -> None:
    feedback, request = Feedback(database), uuid7()
    spelled = f"{request[:8]}-{request[8:12]}-{request[12:16]}-{request[16:20]}-{request[20:]}".upper()
    assert feedback.add(ADA, spelled, "thumbs", True).request_id == request


@pytest.mark.parametrize(
    ("request_id", "name", "value", "kind"),
    [
        ("nope", "thumbs", True, "feedback"),
        (GIVEN, "", True, "feedback"),
        (GIVEN, "thumbs", float("nan"), "feedback"),
        (GIVEN, "thumbs", "x" * 20_001, "feedback"),
        (GIVEN, "thumbs", 2**70, "feedback"),
        (GIVEN, "thumbs", True, "rumour"),
    ],
)
def test_nonsense_is_refused(database: Database, request_id: str, name: str, value: Scalar, kind: str) -> None:
    feedback = Feedback(database)
    with pytest.raises(Invalid):
        feedback.add(ADA, request_id, name, value, kind=kind)
    assert feedback.recent(ADA) == []


def test_a_reader_cannot_speak(database: Database) -> None:
    reader = Context("u1", "ada", "w1", "vision", scopes=frozenset({Scope.read}))
    with pytest.raises(Forbidden):
        Feedback(database).add(reader, uuid7(), "thumbs", True)


def about(rollout: str = "r1", **more: Any) -> About:
    values: dict[str, Any] = {"event_ms": 1, "deployment": "d1", "variant": "v1", "unit": "", "rollout": rollout, "phase": 1} | more
    return About(**values)


def later(database: Database, ms: int = 0) -> Feedback:
    """So long after the first moment."""
    return Feedback(database, clock=lambda: 1 + ms)


def test_a_rollout_takes_each_opinion_once(database: Database) -> None:
    feedback = later(database)
    mine = [feedback.add(ADA, uuid7(), "thumbs", True, about=about()).id for _ in range(5)]
    feedback.add(ADA, uuid7(), "thumbs", True, about=about("r2"))
    feedback.add(ADA, uuid7(), "thumbs", True, about=about(""))
    feedback.add(ADA, uuid7(), "thumbs", True)
    assert not feedback.ripe("r1")  # of one version alone it waits for the other's
    feedback = later(database, 120_000)
    assert feedback.ripe("r1") and not feedback.ripe("r3")
    taken: list[str] = []
    while feedback.ripe("r1"):
        with database.write() as c:
            taken += [one.opinion.id for one in feedback.take(c, "r1", limit=2)]
    assert taken == sorted(mine)
    with database.write() as c:
        assert feedback.take(c, "r1") == []
    assert feedback.ripe("r2")


def test_what_was_taken_in_a_transaction_that_failed_is_taken_again(database: Database) -> None:
    feedback = later(database)
    feedback.add(ADA, uuid7(), "thumbs", True, about=about())
    feedback = later(database, 120_000)
    with pytest.raises(RuntimeError, match="killed"), database.write() as c:
        assert len(feedback.take(c, "r1")) == 1
        raise RuntimeError("killed")
    with database.write() as c:
        assert len(feedback.take(c, "r1")) == 1


def test_what_is_said_anew_is_taken_again_with_what_it_was(database: Database) -> None:
    feedback = later(database)
    request = uuid7()
    for value in (3, 4, 4):
        feedback.add(ADA, request, "digit", value, kind="label", about=about(output='{"outputs":[{"data":[3]}]}'))
        with database.write() as c:
            (one,) = later(database, 120_000).take(c, "r1")
        before = None if one.before is None else (one.before.value, one.before.correct)
        assert ((one.opinion.value, one.opinion.correct), before) in [((3, True), None), ((4, False), (3, True)), ((4, False), (4, False))]
    assert before == (4, False)


def test_a_label_that_is_said_anew_before_its_answer_is_found_is_compared_when_it_is(database: Database) -> None:
    feedback = later(database)
    request, answer = uuid7(), about(output='{"outputs":[{"data":[3]}]}')
    feedback.add(ADA, request, "digit", 3, kind="label", about=answer)
    with database.write() as c:
        later(database, 120_000).take(c, "r1")
    feedback.add(ADA, request, "digit", 4, kind="label")
    assert not later(database, 120_000).ripe("r1") and [one.correct for one in feedback.of(ADA, request)] == [None]
    feedback.join("w1", request, answer)
    with database.write() as c:
        (one,) = later(database, 120_000).take(c, "r1")
    assert one.before is not None and (one.before.correct, one.opinion.correct) == (True, False)


def test_opinions_that_are_too_young_keep_no_others_waiting(database: Database) -> None:
    """More of one name than are counted at once, each of which takes an hour, came before those of another."""
    hour = 3_600_000
    slow = Feedback(database, clock=lambda: hour)
    for _ in range(7):
        slow.add(ADA, uuid7(), "label", True, about=about(event_ms=0))
    Feedback(database, clock=lambda: hour).add(ADA, uuid7(), "thumbs", True, about=about(event_ms=hour))
    with database.write() as c:
        (one,) = Feedback(database, clock=lambda: hour + 120_000).take(c, "r1", limit=5)
    assert one.opinion.name == "thumbs"


@pytest.mark.parametrize(("canary_takes", "ripe"), [(100, 50), (30_000, 21)])
def test_opinions_wait_for_those_of_the_slower_version(database: Database, canary_takes: int, ripe: int) -> None:
    """Of 50 answers of each, one a second; stable's labels take 0.1 s. What is ripe is of answers of the same age."""
    for variant, takes in (("v1", 100), ("v2", canary_takes)):
        for second in range(50):
            said = Feedback(database, clock=lambda at=second * 1000 + takes: at)  # type: ignore[misc]
            if second * 1000 + takes <= 50_100:
                said.add(ADA, uuid7(), "thumbs", True, about=about(event_ms=second * 1000, variant=variant))
    with database.write() as c:
        taken = Feedback(database, clock=lambda: 50_100).take(c, "r1")
    by = Counter(one.opinion.about.variant for one in taken if one.opinion.about is not None)
    assert by == {"v1": ripe, "v2": ripe}


def test_two_who_take_at_once_share(migrated_postgres: Callable[[], str]) -> None:
    """On PostgreSQL, where two servers may."""
    database = Database(migrated_postgres())
    feedback = later(database)
    for _ in range(200):
        feedback.add(ADA, uuid7(), "thumbs", True, about=about())
    feedback = later(database, 120_000)

    def take() -> list[str]:
        found: list[str] = []
        while feedback.ripe("r1"):
            with database.write() as c:
                found += [one.opinion.id for one in feedback.take(c, "r1", limit=7)]
        return found

    with ThreadPoolExecutor(4) as pool:
        taken = [one for some in pool.map(lambda _: take(), range(4)) for one in some]
    assert len(taken) == len(set(taken)) == 200
    database.close()


def test_what_has_been_said_of_a_deployment(database: Database) -> None:
    feedback = Feedback(database)
    for name, kind in (("thumbs", "feedback"), ("thumbs", "feedback"), ("digit", "label")):
        feedback.add(ADA, uuid7(), name, 1, kind=kind, about=about())
    assert feedback.names("w1", "d1") == {"thumbs": 2, "label": 1}
    assert feedback.names("w2", "d1") == feedback.names("w1", "d2") == {}
    assert feedback.said("d1", "thumbs") and not feedback.said("d1", "thumb") and not feedback.said("d2", "thumbs")
