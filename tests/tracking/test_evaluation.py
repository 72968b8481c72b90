"""Evaluation datasets and scorers, on both databases."""

from __future__ import annotations

import hashlib
import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa

from drivetrain.errors import Forbidden, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.tracking.deletion.purging import Purger
from drivetrain.tracking.deletion.service import Deletion
from drivetrain.tracking.evaluation import tables as t
from drivetrain.tracking.service import Tracking

ABSENT = "d-" + "0" * 32


def cases(tracking: Tracking, ctx: Context, dataset: str) -> list[tuple[dict[str, Any], Any, dict[str, Any] | None]]:
    return [(one.inputs, one.outputs, one.expectations) for one in tracking.evaluation.records(ctx, dataset).items]


def test_the_same_inputs_are_one_record_in_whatever_order_their_keys_come(tracking: Tracking, ctx: Context) -> None:
    made = tracking.evaluation.create(ctx, "qa", tags={"mlflow.user": "ann", "n": 1, "none": None})
    assert (made.tags, made.created_by, made.schema, made.profile) == ({"mlflow.user": "ann", "n": "1"}, "ann", None, None)
    first = [
        {"inputs": {"a": 1, "b": 2}, "expectations": {"x": 1}},
        {"inputs": {"b": 2, "a": 1}, "outputs": "said", "expectations": {"y": 2}},
    ]
    assert tracking.evaluation.merge_records(ctx, made.id, first) == (1, 1)
    again = [{"inputs": {"a": 1, "b": 2}, "outputs": None, "tags": {"mlflow.user": "bob"}}, {"inputs": {}}]
    assert tracking.evaluation.merge_records(ctx, made.id, again) == (1, 1)
    assert cases(tracking, ctx, made.id) == [({"a": 1, "b": 2}, None, {"x": 1, "y": 2}), ({}, {}, None)]
    one = tracking.evaluation.records(ctx, made.id).items[0]
    assert (one.created_by, one.updated_by, one.tags) == (None, "bob", {"mlflow.user": "bob"})


def test_schema_profile_and_digest_follow_the_records(tracking: Tracking, ctx: Context) -> None:
    made = tracking.evaluation.create(ctx, "qa")
    given = [
        {"inputs": {"i": 1, "f": 0.5, "s": "x", "b": True, "n": None, "l": [], "o": {}}, "outputs": 3},
        {"inputs": {"i": "later"}, "outputs": {"k": 1}, "expectations": {"e": "x"}},
    ]
    tracking.evaluation.merge_records(ctx, made.id, given)
    after = tracking.evaluation.get(ctx, made.id)
    types = {"i": "integer", "f": "float", "s": "string", "b": "boolean", "n": "null", "l": "array", "o": "object"}
    expected = {"inputs": types, "outputs": "integer", "expectations": {"e": "string"}, "version": "1.0"}
    assert json.loads(after.schema or "") == expected and after.profile == '{"num_records": 2}'
    assert after.digest == hashlib.sha256(f"qa:{after.updated_ms}".encode()).hexdigest()[:8]
    ids = [one.id for one in tracking.evaluation.records(ctx, made.id).items]
    assert tracking.evaluation.delete_records(ctx, made.id, [*ids, "dr-none"]) == 2
    assert tracking.evaluation.delete_records(ctx, made.id, ids) == 0
    assert tracking.evaluation.get(ctx, made.id).profile == "null"


def test_records_keep_nan_odd_letters_and_missing_values(tracking: Tracking, ctx: Context) -> None:
    made = tracking.evaluation.create(ctx, "odd \x85 ü")
    given = [{"inputs": {"n": math.nan, "nul": "a\x00b", "lone": "\ud800"}, "expectations": math.nan, "outputs": math.inf}]
    tracking.evaluation.merge_records(ctx, made.id, given)
    assert tracking.evaluation.merge_records(ctx, made.id, given) == (0, 1)
    [(inputs, outputs, expectations)] = cases(tracking, ctx, made.id)
    assert math.isnan(inputs["n"]) and (inputs["nul"], inputs["lone"]) == ("a\x00b", "\ud800")
    assert outputs == math.inf and expectations is None


def test_pages_hold_every_record_once_in_order(tracking: Tracking, ctx: Context) -> None:
    made = tracking.evaluation.create(ctx, "many")
    assert tracking.evaluation.merge_records(ctx, made.id, [{"inputs": {"n": n}} for n in range(1203)]) == (1203, 0)
    seen: list[int] = []
    token: str | None = None
    while True:
        page = tracking.evaluation.records(ctx, made.id, limit=500, token=token)
        seen += [one.inputs["n"] for one in page.items]
        token = page.token
        if token is None:
            break
    assert seen == list(range(1203))
    with pytest.raises(Invalid):
        tracking.evaluation.records(ctx, made.id, token="!!")


def test_writers_at_the_same_moment_make_no_double(tracking: Tracking, ctx: Context) -> None:
    made = tracking.evaluation.create(ctx, "busy")
    same = [{"inputs": {"n": n}} for n in range(50)]
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda _: tracking.evaluation.merge_records(ctx, made.id, same), range(8)))
        versions = list(pool.map(lambda _: tracking.scorers.register(ctx, "0", "tone", "{}").version, range(8)))
    assert sum(added for added, _ in told) == 50 and sum(merged for _, merged in told) == 350
    assert tracking.evaluation.get(ctx, made.id).profile == '{"num_records": 50}'
    assert sorted(versions) == list(range(1, 9))


def test_the_first_writers_of_a_workspace_do_not_meet_in_its_default_experiment(tracking: Tracking, ctx: Context) -> None:
    """Each has made it, or found it made, whichever of its two keys they meet in."""
    with ThreadPoolExecutor(8) as pool:
        for n in range(40):
            fresh, start = replace(ctx, workspace_id=f"fresh{n}"), Barrier(8)

            def write(_: int, fresh: Context = fresh, start: Barrier = start) -> int:
                start.wait()
                return tracking.scorers.register(fresh, "0", "tone", "{}").version

            assert sorted(pool.map(write, range(8))) == list(range(1, 9))


@pytest.mark.parametrize(
    "record",
    [
        "text",
        {"inputs": [1]},
        {"inputs": {}, "expectations": "x"},
        {"tags": 1},
        {"source": {"source_type": "ROCK"}},
        {"source": {"a": 1}},
        {"source": {"source_type": "HUMAN", "source_data": "x"}},
    ],
)
def test_a_record_that_is_none_is_refused_and_nothing_is_kept(tracking: Tracking, ctx: Context, record: object) -> None:
    made = tracking.evaluation.create(ctx, "qa")
    with pytest.raises(Invalid, match="ecord 2"):
        tracking.evaluation.merge_records(ctx, made.id, [{"inputs": {"a": 1}}, record])
    assert cases(tracking, ctx, made.id) == []


def test_search_filters_orders_and_pages(tracking: Tracking, ctx: Context, stranger: Context) -> None:
    one, two = (tracking.experiments.create(ctx, name).id for name in ("one", "two"))
    for n, name in enumerate(("b", "A", "c_d", "cxd")):
        tracking.evaluation.create(ctx, name, tags={"n": str(n), "mlflow.user": f"u{n}"}, experiment_ids=[one] if n % 2 else [one, two])
    tracking.evaluation.create(stranger, "b")

    def found(text: str = "", order: tuple[str, ...] = ("name",), **more: Any) -> list[str]:
        return [d.name for d in tracking.evaluation.search(ctx, filter=text, order_by=order, **more).items]

    assert found() == ["A", "b", "c_d", "cxd"] and found(order=()) == ["cxd", "c_d", "A", "b"]
    assert found(experiment_ids=[two]) == ["b", "c_d"] and found(experiment_ids=["77", "x"]) == []
    assert found("name LIKE 'c_d'") == ["c_d", "cxd"] and found("name ILIKE 'a'") == ["A"] and found("name IN ('A', 'b')") == ["A", "b"]
    assert found("tags.n = '1' AND created_by = 'u1'") == ["A"] and found("tags.n != '1'") == ["b", "c_d", "cxd"]
    assert found("created_time < 5") == [] and len(found("last_update_time >= 5")) == 4
    first = tracking.evaluation.search(ctx, order_by=["name DESC"], limit=3)
    rest = tracking.evaluation.search(ctx, order_by=["name DESC"], limit=3, token=first.token)
    assert [[d.name for d in page.items] for page in (first, rest)] == [["cxd", "c_d", "b"], ["A"]] and rest.token is None
    for wrong in ("colour = 'red'", "name > 'a'", "tags.n IS NULL", "created_time = 'x'", "name = 'a' OR name = 'b'"):
        with pytest.raises(Invalid):
            found(wrong)
    for order in ("tags.n", "created_by", "colour"):
        with pytest.raises(Invalid):
            found(order=(order,))


def test_datasets_belong_to_experiments_until_these_go(tracking: Tracking, ctx: Context, stranger: Context) -> None:
    one, two = (tracking.experiments.create(ctx, name).id for name in ("one", "two"))
    made = tracking.evaluation.create(ctx, "qa", experiment_ids=["0"])
    assert tracking.evaluation.join(ctx, made.id, [one, two, two]).name == "qa"
    assert tracking.evaluation.experiments(ctx, made.id) == ["0", one, two]
    tracking.evaluation.leave(ctx, made.id, [one, "77", "x"])
    assert tracking.evaluation.experiments(ctx, made.id) == ["0", two]
    with pytest.raises(NotFound):
        tracking.evaluation.join(ctx, made.id, ["77"])
    with pytest.raises(NotFound):
        tracking.evaluation.create(ctx, "qa", experiment_ids=["77"])
    assert tracking.experiments.create(stranger, "theirs").id == one  # numbers are each workspace's own
    with pytest.raises(NotFound):
        tracking.evaluation.join(stranger, made.id, [one])


def test_what_hangs_on_an_experiment_goes_with_it_for_good(tracking: Tracking, ctx: Context) -> None:
    one, two = (tracking.experiments.create(ctx, name).id for name in ("one", "two"))
    made = tracking.evaluation.create(ctx, "qa", experiment_ids=[one, two])
    tracking.evaluation.merge_records(ctx, made.id, [{"inputs": {"a": 1}}])
    for experiment in (one, two):
        tracking.scorers.register(ctx, experiment, "tone", "{}")
    tracking.experiments.delete(ctx, one)
    Deletion(tracking.runs.db, set, lambda _: None).collect(ctx, older_than_ms=0)
    purger = Purger(tracking.runs.db, tracking.artifacts.blobs, tracking.artifacts.live_blobs, sleep=lambda _: None)
    while purger.step():
        pass
    assert tracking.evaluation.experiments(ctx, made.id) == [two] and len(cases(tracking, ctx, made.id)) == 1
    with tracking.runs.db.read() as c:
        left = [c.scalar(sa.select(sa.func.count()).select_from(table)) for table in (t.scorers, t.scorer_versions, t.dataset_experiments)]
    assert left == [1, 1, 1]


def test_another_workspace_sees_and_changes_nothing(tracking: Tracking, ctx: Context, stranger: Context) -> None:
    made = tracking.evaluation.create(ctx, "qa", tags={"k": "v"})
    tracking.evaluation.merge_records(ctx, made.id, [{"inputs": {"a": 1}}])
    tracking.scorers.register(ctx, "0", "tone", "{}")
    for call in (tracking.evaluation.get, tracking.evaluation.records, tracking.evaluation.experiments):
        with pytest.raises(NotFound):
            call(stranger, made.id)
    with pytest.raises(NotFound):
        tracking.evaluation.merge_records(stranger, made.id, [])
    with pytest.raises(NotFound):
        tracking.evaluation.delete_records(stranger, made.id, [])
    with pytest.raises(NotFound):
        tracking.evaluation.set_tags(stranger, made.id, {"k": "w"})
    tracking.evaluation.delete_tag(stranger, made.id, "k")
    tracking.evaluation.delete(stranger, made.id)
    assert tracking.evaluation.get(ctx, made.id).tags == {"k": "v"} and len(cases(tracking, ctx, made.id)) == 1
    assert tracking.scorers.all(stranger) == [] and tracking.scorers.of_experiment(stranger, "0") == []
    reader = Context("u3", "eve", ctx.workspace_id, "red", scopes=frozenset({Scope.read}))
    for write in (lambda: tracking.evaluation.create(reader, "x"), lambda: tracking.scorers.register(reader, "0", "x", "{}")):
        with pytest.raises(Forbidden):
            write()
    tracking.evaluation.delete(ctx, made.id)
    tracking.evaluation.delete(ctx, ABSENT)
    with pytest.raises(NotFound):
        tracking.evaluation.get(ctx, made.id)


def test_tags_and_names_have_limits(tracking: Tracking, ctx: Context) -> None:
    made = tracking.evaluation.create(ctx, "n" * 255)
    tracking.evaluation.set_tags(ctx, made.id, {"odd key/": "x" * 8000, "k": 5, "gone": None})
    assert tracking.evaluation.get(ctx, made.id).tags == {"odd key/": "x" * 8000, "k": "5"}
    for tags in ({"": "x"}, {"k" * 251: "x"}, {"k": "x" * 8001}, {"k": "\x00"}):
        with pytest.raises(Invalid):
            tracking.evaluation.set_tags(ctx, made.id, tags)
    for name in ("", "  ", "n" * 256):
        with pytest.raises(Invalid):
            tracking.evaluation.create(ctx, name)


def test_scorers_have_versions_within_an_experiment(tracking: Tracking, ctx: Context) -> None:
    one, two = (tracking.experiments.create(ctx, name).id for name in ("one", "two"))
    texts = [json.dumps({"name": "tone", "n": n}) for n in range(3)]
    assert [tracking.scorers.register(ctx, one, "tone", text).version for text in texts] == [1, 2, 3]
    other = tracking.scorers.register(ctx, two, "tone", "{}")
    assert other.version == 1 and tracking.scorers.get(ctx, one, "tone").text == texts[2]
    assert tracking.scorers.get(ctx, one, "tone", 1).text == texts[0]
    assert [(s.experiment_id, s.name, s.version) for s in tracking.scorers.all(ctx)] == [(one, "tone", 3), (two, "tone", 1)]
    assert [s.version for s in tracking.scorers.all(ctx, [two, "77", "x"])] == [1] and [
        s.version for s in tracking.scorers.of_experiment(ctx, one)
    ] == [3]
    tracking.scorers.delete(ctx, one, "tone", 3)
    assert [s.version for s in tracking.scorers.versions(ctx, one, "tone")] == [1, 2]
    for name, version in (("tone", 3), ("absent", None)):
        with pytest.raises(NotFound):
            tracking.scorers.get(ctx, one, name, version)
        with pytest.raises(NotFound):
            tracking.scorers.delete(ctx, one, name, version)
    tracking.scorers.delete(ctx, one, "tone")
    assert tracking.scorers.of_experiment(ctx, one) == []
    tracking.experiments.delete(ctx, two)
    assert tracking.scorers.all(ctx) == []
    for call in (lambda: tracking.scorers.register(ctx, two, "x", "{}"), lambda: tracking.scorers.of_experiment(ctx, two)):
        with pytest.raises(Invalid):
            call()


@pytest.mark.parametrize("text", ["{", "[]", '"x"', '{"call_source": "x"}', '{"a": [{"b": {"call_source": "import os"}}]}', "[" * 9999])
def test_what_is_no_scorer_or_holds_code_is_refused(tracking: Tracking, ctx: Context, text: str) -> None:
    with pytest.raises(Invalid):
        tracking.scorers.register(ctx, "0", "bad", text)
    assert tracking.scorers.register(ctx, "0", "good", '{"call_source": null}').version == 1
