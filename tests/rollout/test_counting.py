"""What a rollout counts: each unit once, each line of the spool once, each opinion once; and the same again from the same lines."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from drivetrain.config import Settings
from drivetrain.feedback.model import About, Scalar
from drivetrain.feedback.tables import feedback
from drivetrain.rollout import tables as t
from drivetrain.rollout.counting import batch, journal, tally
from drivetrain.rollout.counting.fold import Counting
from drivetrain.rollout.model import Guardrail, Rollout, State, Step, Tallied, Verdict
from drivetrain.store.blobs import Blobs
from drivetrain.store.events.compact import compact
from drivetrain.store.events.fold import EventFolder
from drivetrain.store.events.lookup import Events
from drivetrain.store.events.model import Event, Exposure
from drivetrain.store.events.spool import Spool
from drivetrain.store.home import Home
from drivetrain.store.ids import now_ms, uuid7
from tests.rollout.parts import ME, World, plan

Line = Event | Exposure
EXPOSURES = -1


class Book:
    """A rollout with events of its own making."""

    def __init__(self, world: World, home: Home, rollout: Rollout) -> None:
        self.world, self.home, self.rollout = world, home, rollout
        self.blobs = Blobs(world.db, str(home.blobs), min_free=0, scratch=home.cache)

    def folder(self, counting: Counting | None = None) -> EventFolder:
        """A process that counts; without `counting`, one that has just started."""
        settings = Settings(home=self.home.path)
        return EventFolder(self.world.db, self.blobs, self.home, settings, compactor=compact, folds=[counting or Counting()])

    def fold(self, *lines: Line) -> int:
        self.write(*lines)
        return self.folder().fold()

    def write(self, *lines: Line) -> None:
        """As a web process of its own."""
        spool = Spool(self.home.spool / uuid7())
        for line in lines:
            spool.append(line)
        spool.close()

    def _common(self, arm: str, phase: int | None) -> dict[str, Any]:
        variant = {"canary": self.rollout.canary, "stable": self.rollout.stable}.get(arm, arm)
        return {
            "t": now_ms() * 1_000_000,
            "deployment": self.rollout.deployment_id,
            "variant": variant,
            "rollout": self.rollout.id,
            "phase": self.rollout.phase if phase is None else phase,
        }

    def exposure(self, arm: str, unit: str = "", *, phase: int | None = None) -> Exposure:
        return Exposure(exposure=uuid7(), unit=unit, **self._common(arm, phase))

    def event(self, arm: str, unit: str = "", error: str = "", *, phase: int | None = None, **more: Any) -> Event:
        return Event(**({"id": uuid7(), "workspace": "w1"} | self._common(arm, phase) | more), unit=unit, error=error)

    def told(self) -> Tallied:
        with self.world.db.read() as c:
            return journal.told(c, self.rollout.id)

    def counts(self, guard: int = 0) -> dict[tuple[int, str], tuple[int, int]]:
        """(phase, arm) → units and bad units, of all strata together."""
        found: dict[tuple[int, str], tuple[int, int]] = {}
        for one in self.told().counts.get(guard, ()):
            units, bad = found.get((one.phase, one.arm), (0, 0))
            found[one.phase, one.arm] = units + one.units, bad + one.bad
        return found

    def requests(self, guard: int = 0) -> dict[tuple[int, str], tuple[int, int]]:
        """(phase, arm) → requests and bad ones."""
        return {(one.phase, one.arm): (one.requests, one.bad_requests) for one in self.told().counts.get(guard, ())}

    def sums(self, guard: int, arm: str) -> tuple[int, float, float]:
        (one,) = [one for one in self.told().counts[guard] if one.arm == arm]
        return one.units, one.total, one.squares

    def everything(self) -> Any:
        """All that is counted, to be compared."""
        told = self.told()
        return {guard: sorted(msgspec.to_builtins(counts), key=repr) for guard, counts in told.counts.items()}, told.people

    def forget(self) -> None:
        with self.world.db.write() as c:
            c.execute(sa.delete(t.tallies))
            c.execute(sa.delete(t.batches))

    def hear(self) -> int:
        """Count what was said, an hour later."""
        with self.world.db.write() as c:
            earlier = {name: feedback.c[name] - 3_600_000 for name in ("created_ms", "event_ms")}
            c.execute(sa.update(feedback).where(~feedback.c.counted).values(**earlier))
        return Counting().count_feedback(self.world.db, self.world.feedback, self.rollout.id)

    def phase(self, number: int, share: int) -> None:
        """A phase that has been."""
        with self.world.db.write() as c:
            c.execute(sa.insert(t.phases).values(rollout_id=self.rollout.id, number=number, step=0, share=share, shadow=0, started_ms=0))
            c.execute(sa.update(t.rollouts).values(revision=t.rollouts.c.revision + 1))


@pytest.fixture
def book(world: World, home: Home) -> Book:
    return begun(world, home)


def begun(world: World, home: Home, *guardrails: Guardrail | str, **changes: Any) -> Book:
    """In its first phase, at 10 %; there will be phases 2 to 4, of 30, 50 and 80 %."""
    made = Book(world, home, world.begun(of=plan(*guardrails, **changes)))
    for number, share in ((2, 3_000), (3, 5_000), (4, 8_000)):
        made.phase(number, share)
    return made


def test_each_unit_counts_once_in_each_phase_by_what_it_was_before(book: Book) -> None:
    book.fold(
        book.exposure("stable", "ann"),
        book.event("stable", "ann"),
        book.exposure("stable", "ann"),
        book.event("stable", "ann", "upstream"),
        book.event("stable", "ann", "upstream"),
        book.exposure("canary", "bob"),
        book.event("canary", "bob", "cancelled"),
        book.event("canary", "bob"),
    )
    assert book.counts(EXPOSURES) == {(1, "stable"): (1, 0), (1, "canary"): (1, 0)}
    assert book.counts() == {(1, "stable"): (1, 1), (1, "canary"): (1, 0)}
    assert book.requests() == {(1, "stable"): (3, 2), (1, "canary"): (1, 0)}
    # Ann has been stable's, bob the canary's, eve nobody's.
    book.fold(
        book.exposure("canary", "ann", phase=2),
        book.event("canary", "ann", "upstream", phase=2),
        book.event("canary", "bob", "timeout", phase=2),
        book.event("stable", "eve", phase=2),
    )
    second = {(one.arm, one.since): (one.units, one.bad) for one in book.told().counts[0] if one.phase == 2}
    assert second == {("canary", 1): (1, 1), ("canary", -1): (1, 1), ("stable", 0): (1, 0)}
    assert book.told().people == 3


def test_a_line_that_comes_late_changes_what_its_unit_was_before(book: Book) -> None:
    """Another server's line of the first phase is read after those of the third."""
    book.fold(book.event("canary", "ann", "upstream", phase=3), book.event("stable", "bob", phase=2), book.event("stable", "bob", phase=3))
    assert {(one.arm, one.since) for one in book.told().counts[0] if one.phase == 3} == {("canary", 0), ("stable", 2)}
    book.fold(book.event("stable", "ann", phase=1), book.event("stable", "bob", phase=1))
    found = {(one.phase, one.arm, one.since): (one.units, one.bad) for one in book.told().counts[0]}
    assert found == {
        (1, "stable", 0): (2, 0),
        (2, "stable", 1): (1, 0),
        (3, "stable", 2): (1, 0),
        (3, "canary", 1): (1, 1),
    }


def test_a_request_without_a_unit_is_one(book: Book) -> None:
    book.fold(
        *(book.event("canary", error=error) for error in ("", "upstream", "upstream")), book.exposure("canary"), book.exposure("canary")
    )
    assert book.counts() == {(1, "canary"): (3, 2)}
    assert book.counts(EXPOSURES) == {(1, "canary"): (2, 0)}
    assert book.told().people == 0


def test_a_rollout_by_request_asks_nobody_who_they_are(world: World, home: Home) -> None:
    book = begun(world, home, by="request")
    with world.db.write() as c:
        values = msgspec.to_builtins(plan(by="request"))
        c.execute(sa.update(t.rollouts).values(plan=values, revision=t.rollouts.c.revision + 1))
    book.fold(*(book.event("canary", "ann", error) for error in ("", "upstream", "upstream")))
    assert book.counts() == {(1, "canary"): (3, 2)}


def test_nobodys_name_is_kept(book: Book) -> None:
    book.fold(book.event("canary", "ann@example.org"))
    with book.world.db.read() as c:
        (kept,) = c.scalars(sa.select(t.batches.c.data))
    assert b"ann" not in kept


def test_a_failure_is_the_variants_that_should_have_answered(book: Book) -> None:
    book.fold(book.event(book.rollout.stable, "ann", assigned=book.rollout.canary))
    assert book.counts() == {(1, "canary"): (1, 1)}


def test_others_events_count_for_nothing(book: Book) -> None:
    stranger = Event(id=uuid7(), t=0, deployment=book.rollout.deployment_id, variant=book.rollout.canary)
    unknown = Event(id=uuid7(), t=0, variant=book.rollout.canary, rollout="gone", phase=1)
    assert book.fold(stranger, unknown, book.event("some older variant", "ann")) == 3
    assert book.everything() == ({}, 0)


def test_a_guardrail_counts_from_its_first_phase_on(world: World, home: Home) -> None:
    book = begun(world, home, "errors", "latency>100")
    with world.db.write() as c:
        c.execute(sa.update(t.guards).where(t.guards.c.number == 1).values(from_phase=3))
        c.execute(sa.update(t.rollouts).values(revision=t.rollouts.c.revision + 1))
    for phase in (1, 2, 3, 4):
        book.fold(book.event("canary", f"u{phase}", phase=phase, latency_ms=200.0))
    assert book.counts(1) == {(3, "canary"): (1, 1), (4, "canary"): (1, 1)}
    assert {phase for phase, _ in book.counts(0)} == {1, 2, 3, 4}


def test_means_add_up_first_values(world: World, home: Home) -> None:
    book = begun(world, home, "cost_mean")
    early = now_ms() * 1_000_000
    book.fold(book.event("canary", "ann", cost=100.0, t=early + 1), book.event("canary", "bob", cost=3.0))
    book.fold(book.event("canary", "ann", cost=2.0, t=early))  # read later, from another spool
    assert book.sums(0, "canary") == (2, 5e9, 13e18)


def test_repeated_requests_are_compared_pair_by_pair(world: World, home: Home) -> None:
    book = begun(world, home, "errors", "thumbs_down", steps=(Step(share=0, shadow=10_000, min_units=5), Step(share=10_000)))
    originals = [book.event("stable", "ann", "upstream" if i == 0 else "") for i in range(3)]
    shadows = [book.event("canary", "ann", "upstream", shadow=original.id) for original in originals[1:]]
    book.fold(book.exposure("stable", "ann"), *originals, *shadows)
    assert book.counts() == {(1, "stable"): (3, 1), (1, "canary"): (2, 2)}
    assert book.counts(EXPOSURES) == {}
    say(book, "stable", "thumbs_down", True)
    assert book.hear() == 1
    assert book.counts(1) == {}, "nobody saw the repeated answers, so nobody could say anything of them"


def test_of_a_sample_of_repeated_requests_only_the_sample_is_compared(world: World, home: Home) -> None:
    book = begun(world, home, "errors", steps=(Step(share=0, shadow=5_000, min_units=5), Step(share=10_000)))
    low, high = (f"01a2064467c370009b9cdcd9{tail}" for tail in ("10000000", "f0000000"))
    book.fold(book.event("stable", id=low), book.event("stable", id=high))
    assert book.counts() == {(1, "stable"): (1, 0)}


def test_repetitions_beside_real_traffic_count_for_nothing(world: World, home: Home) -> None:
    book = begun(world, home, "errors", steps=(Step(share=1_000, shadow=10_000), Step(share=10_000)))
    original = book.event("stable", "ann")
    book.fold(original, book.event("canary", "ann", "upstream", shadow=original.id))
    assert book.counts() == {(1, "stable"): (1, 0)}


def say(
    book: Book, arm: str, name: str, value: Scalar, *, unit: str = "", request: str = "", kind: str = "feedback", output: str = ""
) -> str:
    request = request or uuid7()
    variant = book.rollout.canary if arm == "canary" else book.rollout.stable
    about = About(now_ms(), book.rollout.deployment_id, variant, unit, book.rollout.id, book.rollout.phase, output)
    book.world.feedback.add(ME, request, name, value, kind=kind, about=about)
    return request


def test_feedback_counts_once_by_unit(world: World, home: Home) -> None:
    book = begun(world, home, "thumbs_down", "label_error", "helpful")
    first = say(book, "canary", "thumbs", "down", unit="ann")
    second = say(book, "canary", "thumbs", "down", unit="ann")
    say(book, "canary", "thumbs", "up", unit="bob")
    alone = say(book, "stable", "thumbs", "up")
    say(book, "stable", "rating", -1, request=alone)
    right = '{"outputs":[{"data":[3]}]}'
    say(book, "canary", "digit", 3, kind="label", output=right)
    say(book, "stable", "digit", 4, kind="label", output=right)
    say(book, "stable", "digit", 4, kind="label", output="a text")
    assert book.hear() == 8
    assert book.hear() == 0
    assert book.counts(0) == {(1, "canary"): (2, 1), (1, "stable"): (1, 1)}
    assert book.counts(1) == {(1, "canary"): (1, 0), (1, "stable"): (1, 1)}
    assert book.counts(2) == {}
    # Who changes their mind is counted in place of what they said before.
    say(book, "canary", "thumbs", "up", unit="ann", request=first)
    assert book.hear() == 1
    assert book.counts(0)[1, "canary"] == (2, 1)
    assert book.requests(0)[1, "canary"] == (3, 1)
    say(book, "canary", "thumbs", "up", unit="ann", request=second)
    say(book, "canary", "thumbs", "up", unit="ann", request=second)  # a retry
    assert book.hear() == 1
    assert book.counts(0)[1, "canary"] == (2, 0)


def test_opinions_are_compared_at_equal_age(world: World, home: Home) -> None:
    """Stable's labels take a second, the canary's a minute: those of stable's newest answers wait until the canary's could be there."""
    book = begun(world, home, "label_error")
    now = now_ms()

    def label(arm: str, age_s: int, delay_s: int) -> None:
        variant = book.rollout.canary if arm == "canary" else book.rollout.stable
        about = About(now - age_s * 1000, book.rollout.deployment_id, variant, "", book.rollout.id, 1, '{"outputs":[{"data":[3]}]}')
        request = uuid7()
        world.feedback.add(ME, request, "digit", 3, kind="label", about=about)
        with world.db.write() as c:
            late = {"created_ms": now - (age_s - delay_s) * 1000}
            c.execute(sa.update(feedback).where(feedback.c.request_id == request).values(**late))

    counting = Counting()
    for age in range(2, 200, 2):
        label("stable", age, 1)
    assert counting.count_feedback(world.db, world.feedback, book.rollout.id) == 68  # a minute and three times as long as they took
    for age in range(62, 200, 2):
        label("canary", age, 60)
    counting.count_feedback(world.db, world.feedback, book.rollout.id)
    assert book.counts() == {(1, "stable"): (70, 0), (1, "canary"): (69, 0)}
    evidence = world.rollouts.evidence(ME, book.rollout.id)[0]
    assert evidence.verdict is not Verdict.mismatch or evidence.canary_units  # the arms of this test are of one size
    assert not world.feedback.ripe(book.rollout.id)


def test_two_servers_count_into_one_tally(world: World, home: Home) -> None:
    book = begun(world, home, "errors", "latency>50", "cost_mean")
    lines = traffic(book, random.Random(5), 400)
    one, other = Counting(), Counting()
    for start in range(0, len(lines), 25):
        book.write(*lines[start : start + 25])
        book.folder(one if start % 50 else other).fold()
    found = book.everything()
    book.forget()
    book.fold(*lines)
    assert book.everything() == found


@pytest.mark.parametrize("seed", range(4))
def test_spools_of_several_web_processes_in_any_order(world: World, home: Home, seed: int) -> None:
    """Also where people come back over several phases, and one spool is read long after the other."""
    book = begun(world, home, "errors", "latency>50", "cost_mean")
    drawn = random.Random(seed)
    lines = traffic(book, drawn, 400)
    book.fold(*lines)
    once = book.everything()
    book.forget()
    spools = [lines[i::3] for i in range(3)]
    drawn.shuffle(spools)
    for spool in spools:
        book.fold(*spool)
    assert book.everything() == once


def test_batches_are_made_one_now_and_then(world: World, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MANY", 3)
    book = begun(world, home, "errors", "latency>50", "cost_mean")
    lines = traffic(book, random.Random(9), 400)
    one, other = Counting(), Counting()
    for start in range(0, len(lines), 40):
        book.write(*lines[start : start + 40])
        book.folder(one if start % 120 else other).fold()
    with world.db.read() as c:
        rows = c.execute(sa.select(t.batches.c.whole)).all()
    assert len(rows) <= 3
    found, looked = book.everything(), book.told().looked
    book.write(*lines)
    book.folder().fold()  # from the rows alone
    assert book.told().looked.keys() == looked.keys()
    book.forget()
    book.fold(*lines)
    assert book.everything() == found


def test_what_has_ended_keeps_no_units(world: World, home: Home) -> None:
    book = begun(world, home, "errors")
    book.fold(*traffic(book, random.Random(1), 100))
    before = book.everything()
    world.rollouts.abort(ME, book.rollout.id)
    book.fold(book.event("canary", "ann", "upstream"))
    with world.db.read() as c:
        assert c.scalar(sa.select(sa.func.count()).select_from(t.batches)) == 0
    assert book.everything() == before


def test_what_cannot_be_counted_holds_up_nothing_else(book: Book) -> None:
    """A rollout of a later version of drivetrain may have measures that this one does not know."""
    values = msgspec.to_builtins(book.rollout.plan)
    values["guardrails"] = [{"measure": "1 thing that is no measure"}, *values["guardrails"]]
    with book.world.db.write() as c:
        c.execute(sa.update(t.rollouts).values(plan=values, revision=t.rollouts.c.revision + 1))
        c.execute(sa.update(t.guards).values(number=1))
    assert book.fold(book.event("canary", "ann", "upstream")) == 1
    assert book.counts(1) == {(1, "canary"): (1, 1)}


class Killed(BaseException):
    """A process that ends in the middle of a statement, as far as the database can tell."""


def test_lines_are_counted_once_whenever_it_is_killed(world: World, home: Home) -> None:
    """Kill the fold at each statement in turn, go on with a new one, and count again from nothing: always the same."""
    book = begun(world, home, "errors", "latency>50", "cost_mean")
    lines = traffic(book, random.Random(7), 400)
    spool = Spool(home.spool / uuid7())
    for line in lines:
        spool.append(line)
    engine = world.db.engine
    left = 0

    def killing(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    counting = Counting()  # of one process, whose transactions fail
    for at in range(1, 60):
        left = at
        sa.event.listen(engine, "before_cursor_execute", killing)
        try:
            book.folder(counting if at % 2 else None).fold()
        except Killed:
            assert book.everything() == ({}, 0)
        else:
            break
        finally:
            sa.event.remove(engine, "before_cursor_execute", killing)
    else:
        raise AssertionError("the fold never came to its end")
    assert at > 5
    once = book.everything()
    assert book.folder().fold() == 0
    spool.close()
    book.folder().compact(force=True)
    assert book.folder().fold() == 0
    assert book.everything() == once
    book.forget()
    book.fold(*lines)
    assert book.everything() == once


@pytest.mark.parametrize("what", ["batches", "whole"])
def test_a_tally_that_another_version_wrote_is_given_up_alone(world: World, home: Home, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Events are counted on, and the rollout waits for somebody."""
    if what == "whole":
        monkeypatch.setattr(journal, "MANY", 1)
    book = begun(world, home, "errors")
    with monkeypatch.context() as then:
        then.setattr(batch, "FORMAT", 99)
        then.setattr(tally, "FORMAT", 99)
        book.fold(*traffic(book, random.Random(1), 30))
    counts = book.counts()
    assert counts and book.fold(*traffic(book, random.Random(2), 30)) == 60
    assert "another version" in book.told().problem and book.counts() == counts
    assert book.fold(*traffic(book, random.Random(3), 30)) == 60
    rollout = world.pass_time(book.rollout, 5)
    assert rollout.state is State.paused and "rollout abort live" in rollout.why
    world.rollouts.abort(ME, rollout.id)
    assert world.now(rollout).state is State.aborted


def test_no_value_however_great_runs_over(world: World, home: Home) -> None:
    book = begun(world, home, "tokens_out_mean", "errors")
    great = [book.event("canary", "u1", error, tokens_out=1 << 55) for error in ("upstream", "")]
    book.fold(book.exposure("canary", "u1"), *great, book.event("stable", "u2", tokens_out=1))
    assert not book.told().problem and book.requests(1) == {(1, "canary"): (2, 1), (1, "stable"): (1, 0)}


def traffic(book: Book, rng: random.Random, count: int) -> list[Line]:
    lines: list[Line] = []
    for i in range(count):
        phase, person = 1 + i // 150, rng.randrange(40)
        unit = rng.choice(("", f"u{person}"))
        place = person * 617 % 40 / 40 if unit else rng.random()  # who is the canary's stays there
        arm = "canary" if place < (0.1, 0.3, 0.5, 0.8)[phase - 1] else "stable"
        lines.append(book.exposure(arm, unit, phase=phase))
        values = {"latency_ms": rng.uniform(1, 100), "cost": float(rng.randrange(8))}
        lines.append(book.event(arm, unit, rng.choice(("", "", "", "upstream", "cancelled")), phase=phase, **values))
    return lines


def test_in_pieces_or_at_once(world: World, home: Home) -> None:
    """Where the fold stops between lines makes no difference."""
    book = begun(world, home, "errors", "latency>50", "cost_mean")
    rng = random.Random(3)
    lines = traffic(book, rng, 300)
    book.fold(*lines)
    whole = book.everything()
    book.forget()
    while lines:
        some, lines = lines[: (n := rng.randrange(1, 80))], lines[n:]
        book.fold(*some)
    assert book.everything() == whole


def test_exposures_are_no_events(book: Book, tmp_path: Path) -> None:
    """They are in the spool and in the counts, not among the events and not in segments."""
    exposure, event = book.exposure("canary", "ann"), book.event("canary", "ann")
    book.fold(exposure, event)
    events = Events(book.world.db, book.blobs, book.home)
    for _ in range(2):
        assert [found.id for found in events.recent("w1")] == [event.id]
        assert events.find(exposure.exposure) is None
        assert events.find(event.id) == event
        total = events.total([book.rollout.deployment_id], since_ms=0, until_ms=now_ms() + 60_000)
        assert total.requests == 1
        book.folder().compact(force=True)


def test_rules_on_texts_read_the_lines_themselves(world: World, home: Home) -> None:
    """Also beside other deployments' events, and beside a line that is none."""
    book = begun(world, home, "invalid_output:json", "errors")
    stranger = Event(id=uuid7(), t=0, output="{}")
    book.write(stranger, book.event("canary", "ann", output="no json"), book.event("stable", "bob", output="[1]"))
    (file,) = home.spool.glob("*/*.jsonl")
    file.write_bytes(b'{"t": "no time"}\n' + file.read_bytes())
    assert book.folder().fold() == 3
    assert book.counts() == {(1, "canary"): (1, 1), (1, "stable"): (1, 0)}
    assert book.counts(1) == {(1, "canary"): (1, 0), (1, "stable"): (1, 0)}
