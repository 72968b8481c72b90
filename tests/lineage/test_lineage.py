"""Edges: what is told once, in which order it is read, and what is forgotten with what was deleted, on both databases."""

from __future__ import annotations

from drivetrain.identity.model import Context
from drivetrain.lineage import service as lineage
from drivetrain.lineage.model import Thing
from drivetrain.lineage.service import Lineage
from drivetrain.store.sql import Database

ADA = Context("u1", "ada", "w1", "vision")
BOB = Context("u2", "bob", "w2", "speech")
RUN, DATA, MODEL = Thing("run", "r"), Thing("dataset", "d"), Thing("model", "m")
FIRST, SECOND = Thing("version", "v1"), Thing("version", "v2")


def test_an_edge_is_told_once_and_read_from_both_ends(database: Database) -> None:
    told = Lineage(database)
    for _ in range(2):
        with database.write() as c:
            lineage.link(c, ADA, RUN, "used", DATA)
            lineage.link(c, ADA, RUN, "made", FIRST, SECOND)
    assert {(one.role, one.object.id) for one in told.of(ADA, RUN)} == {("used", "d"), ("made", "v1"), ("made", "v2")}
    assert [(one.subject, one.user) for one in told.of(ADA, FIRST)] == [(RUN, "ada")]
    assert told.objects(ADA, RUN, "made", "version") == ["v1", "v2"] and told.subjects(ADA, DATA, "used", "run") == ["r"]
    assert told.of(BOB, RUN) == [] == told.objects(BOB, RUN, "made", "version") == told.subjects(BOB, DATA, "used", "run")


def test_what_was_made_says_still_by_what(database: Database) -> None:
    told = Lineage(database)
    with database.write() as c:
        lineage.link(c, ADA, RUN, "used", DATA)
        lineage.link(c, ADA, RUN, "made", MODEL, FIRST)
        lineage.link(c, ADA, FIRST, "derived", MODEL)
        lineage.link(c, ADA, SECOND, "derived", FIRST)
        lineage.forget(c, "run", ["r"])
    assert told.of(ADA, DATA) == [] and told.subjects(ADA, FIRST, "made", "run") == ["r"]
    with database.write() as c:
        lineage.forget(c, "version", ["v1"])
    assert told.of(ADA, FIRST) == [] == told.of(ADA, SECOND)
    assert [one.subject for one in told.of(ADA, MODEL)] == [RUN]
