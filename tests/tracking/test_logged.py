from __future__ import annotations

import pytest

from drivetrain.errors import Invalid, NotFound
from drivetrain.identity.model import Context
from drivetrain.tracking.model import Metric, Owner
from drivetrain.tracking.service import Tracking


def test_a_logged_model_lives_from_pending_to_ready(tracking: Tracking, ctx: Context) -> None:
    run = tracking.runs.create(ctx).id
    model = tracking.models.create(ctx, "0", name="m", source_run_id=run, params={"d": "2"}, tags={"a": "b"}, model_type="tree")
    assert (model.status, model.artifact_uri) == ("PENDING", f"mlflow-artifacts:/0/models/{model.id}/artifacts")
    assert tracking.models.finalize(ctx, model.id, "READY").status == "READY"
    tracking.models.set_tags(ctx, model.id, {"c": "d"})
    tracking.models.delete_tag(ctx, model.id, "a")
    tracking.models.log_params(ctx, model.id, {"e": "f", "d": "2"})
    with pytest.raises(Invalid, match="not allowed"):
        tracking.models.log_params(ctx, model.id, {"d": "3"})
    found = tracking.models.get(ctx, model.id)
    assert (found.tags, found.params) == ({"c": "d"}, {"d": "2", "e": "f"})
    assert [m.id for m in tracking.models.of_run(ctx, run)] == [model.id]
    tracking.artifacts.put(ctx, Owner.model, model.id, "MLmodel", tracking.artifacts.blobs.put([b"x"]))
    tracking.models.delete(ctx, model.id)
    with pytest.raises(NotFound):
        tracking.models.get(ctx, model.id)
    assert tracking.models.of_run(ctx, run) == []


def test_a_metric_that_names_a_model_shows_there_as_its_latest(tracking: Tracking, ctx: Context, stranger: Context) -> None:
    run = tracking.runs.create(ctx).id
    model = tracking.models.create(ctx, "0", name="m").id
    for step, value in ((2, 0.5), (1, 0.9)):
        tracking.metrics.log(ctx, run, metrics=[Metric("f1", value, 1, step, model, ("d", "1"))])
    (metric,) = tracking.models.get(ctx, model).metrics
    assert metric == Metric("f1", 0.5, 1, 2, model, ("d", "1"), run)
    assert tracking.runs.get(ctx, run).metrics["f1"].value == 0.5
    theirs = tracking.models.create(stranger, "0", name="m").id
    with pytest.raises(NotFound, match="logged model"):
        tracking.metrics.log(ctx, run, metrics=[Metric("f1", 1.0, 1, 9, theirs)])
    assert tracking.runs.get(ctx, run).metrics["f1"].step == 2


def test_models_are_searched(tracking: Tracking, ctx: Context) -> None:
    run = tracking.runs.create(ctx).id
    ids = {}
    for n, name in enumerate(["a", "b", "c"]):
        ids[name] = tracking.models.create(ctx, "0", name=name, params={"n": str(n)}, tags={"odd": str(n % 2)}).id
        tracking.metrics.log(ctx, run, metrics=[Metric("f1", n / 10, 1, n, ids[name], ("d1" if n else "d2", "x"))])
    tracking.models.finalize(ctx, ids["b"], "READY")

    def names(text: str | None = None, **more: object) -> list[str]:
        return [m.name for m in tracking.models.search(ctx, ["0"], filter=text, **more).items]  # type: ignore[arg-type]

    assert names() == ["c", "b", "a"]
    assert names("metrics.f1 >= 0.1 AND tags.odd = '0'") == ["c"]
    assert names("metrics.f1 >= 0", datasets=[("d2", None)]) == ["a"]
    assert names("metrics.f1 >= 0", datasets=[("d2", "other")]) == []
    assert names("status = 'LOGGED_MODEL_READY'") == ["b"]
    assert names("params.n IS NULL") == []
    assert names(order_by=[("metrics.f1", True)]) == ["a", "b", "c"]
    assert names(order_by=[("name", False)], limit=2) == ["c", "b"]
    first = tracking.models.search(ctx, ["0"], order_by=[("params.n", True)], limit=2)
    rest = tracking.models.search(ctx, ["0"], order_by=[("params.n", True)], limit=2, token=first.token)
    assert [m.name for m in [*first.items, *rest.items]] == ["a", "b", "c"] and rest.token is None


@pytest.mark.parametrize("name", ["a/b", "a:b", "a.b", "a%b", " ", "x" * 501])
def test_odd_names_are_refused(tracking: Tracking, ctx: Context, name: str) -> None:
    with pytest.raises(Invalid, match="name"):
        tracking.models.create(ctx, "0", name=name)
