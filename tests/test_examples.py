"""What the demo's story rests on: its plans can be meant, and its versions are as good and bad as it tells."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from drivetrain.rollout.planning.plans import parse_plan

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("train_digits")


@pytest.mark.parametrize("name", ["careful", "quick"])
def test_plans(name: str) -> None:
    plan = parse_plan(json.loads((EXAMPLES / f"{name}.json").read_text()))
    assert (plan.name, plan.steps[0].share, plan.steps[-1].share) == (name, 1_000, 10_000)
    assert "label_error" in {one.measure for one in plan.guardrails}


def test_versions_and_drift(script: Any) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC

    people = importlib.import_module("people")
    train, users = script.halves()
    assert not set(map(tuple, train[script.PIXELS].to_numpy())) & set(map(tuple, users[script.PIXELS].to_numpy()))

    def errors(model: Any, pictures: Any) -> float:
        return 1.0 - float(model.score(pictures[script.PIXELS], pictures[script.TARGET]))

    fitted = [
        model.fit(train[script.PIXELS], train[script.TARGET])
        for model in (
            LogisticRegression(C=1e-3, max_iter=5000, tol=0.01),
            LogisticRegression(C=2e-5, max_iter=5000, tol=0.01),
            SVC(C=10.0, gamma=0.001),
        )
    ]
    first = users[2::3]  # those who ask during the rollouts
    stable, worse, better = (errors(model, first) for model in fitted)
    assert stable == pytest.approx(0.04, abs=0.01)
    assert worse == pytest.approx(0.10, abs=0.02)
    assert better < 0.025
    moved = people.turned(users[0::3])
    assert errors(fitted[2], moved) > 0.35
    assert moved[script.PIXELS].to_numpy().min() >= 0 and moved[script.PIXELS].to_numpy().max() <= 16
    assert list(moved[script.TARGET]) == list(users[0::3][script.TARGET])
