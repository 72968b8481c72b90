"""The lines of the checklist, each from what is known of a deployment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from drivetrain.checklist.lines import DAY_MS, Facts, lines
from drivetrain.checklist.model import Line, Standing
from drivetrain.config import Settings
from drivetrain.monitoring.model import Alert, AlertState, Channel, Monitor, Severity
from drivetrain.registry.model import Version
from drivetrain.rollout.model import Guardrail, Plan, Rollout, State, Step
from drivetrain.serving.model import Deployment, Replica, Variant
from drivetrain.tracking.model import Dataset, Input, Run

NOW = 1_700_000_000_000
COMMON: dict[str, Any] = {"workspace_id": "w1", "created_ms": NOW, "created_by": "ann"}


def variant(**more: Any) -> Variant:
    values: dict[str, Any] = {
        "id": "v1",
        "deployment_id": "d1",
        "name": "v1",
        "repo": "default/digits",
        "version": 1,
        "commit": "c" * 64,
        "engine": "pyfunc",
        "tasks": ("infer",),
        "options": {},
        "memory_bytes": 0,
        "slots": 1,
        "why": "",
        "weight": 10_000,
        "min_replicas": 1,
        "max_replicas": 1,
        "created_ms": NOW,
        "ready_ms": NOW,
    }
    return Variant(**{**values, **more})


def deployment(*states: str, of: Variant | None = None, **more: Any) -> Deployment:
    replicas = tuple(
        Replica(id=f"r{i}", variant_id="v1", server_id="s1", state=state, message=f"it is {state}") for i, state in enumerate(states)
    )
    base: dict[str, Any] = {"capture": "all", "capture_rate": 1.0, "salt": "s", "workspace": "default", "implicit": False}
    return Deployment(**{**COMMON, **base, "id": "d1", "name": "digits", "variants": (of or variant(),), "replicas": replicas, **more})


def version(run_id: str | None = "run1", source: str = "") -> Version:
    return Version("i", "w1", "r", "digits", "digits", 1, "c" * 64, run_id, None, source, "", "READY", "", "", "ann", NOW, NOW)


def run(*, commit: bool = True, seed: bool = True, data: bool = True) -> Run:
    return Run(
        id="run1",
        workspace_id="w1",
        experiment_id="1",
        name="support vectors",
        user="ann",
        status="FINISHED",
        lifecycle="active",
        start_ms=NOW,
        end_ms=NOW,
        artifact_uri="",
        params={"seed": "7"} if seed else {},
        tags={"mlflow.source.git.commit": "abc"} if commit else {},
        inputs=(Input(Dataset(name="d", digest="1")),) if data else (),
    )


def monitor(kind: str, *, paused: bool = False) -> Monitor:
    return Monitor(
        id=kind, workspace_id="w1", deployment_id="d1", deployment="digits", kind=kind, config={}, paused=paused, state="ok", words=""
    )


def channel(kind: str = "webhook", worked_ms: int | None = NOW, problem: str = "") -> Channel:
    return Channel(**COMMON, id="c", name="team", kind=kind, target="", least=Severity.warn, worked_ms=worked_ms, problem=problem)


def rollout(*measures: str, state: State = State.closed) -> Rollout:
    plan = Plan(name="safe", steps=(Step(share=10_000),), guardrails=tuple(Guardrail(measure=one) for one in measures))
    names: dict[str, Any] = {"stable": "v0", "canary": "v1", "stable_name": "v0", "canary_name": "v1", "why": "", "workspace": "default"}
    where: dict[str, Any] = {"deployment_id": "d1", "deployment": "digits", "step": 0, "phase": 1, "elapsed_ms": 0, "revision": 1}
    return Rollout(**COMMON, **names, **where, id="ro1", plan=plan, state=state)


def alert(severity: str = "bad", state: str = "open") -> Alert:
    words: dict[str, Any] = {"source": "drift", "key": "k", "title": "digits has drifted", "text": "", "undo": "", "deployment": "digits"}
    return Alert(
        id="0123456789abcdef",
        workspace_id="w1",
        severity=Severity(severity),
        state=AlertState(state),
        evidence={},
        count=1,
        first_ms=NOW,
        last_ms=NOW,
        **words,
    )


GOOD = Facts(
    deployment=deployment("ready", "ready"),
    variant=variant(min_replicas=2, prices={"request": 0.001}),
    settings=Settings(),
    auth="keys",
    version=version(),
    run=run(),
    reference=("the training data of run run1", False),
    said={"label": 500},
    requests=1000,
    named=True,
    monitors=[monitor("errors"), monitor("drift")],
    channels=[channel()],
    rollouts=[rollout("errors", "label_error")],
    variants=2,
    earlier=[variant(id="v0", version=7)],
    retraining="on alerts of drift with 200 new labels",
    backup_ms=NOW - DAY_MS,
    now_ms=NOW,
)


def line(facts: Facts, name: str) -> Line:
    return next(one for one in lines(facts) if one.name == name)


def test_all_is_well() -> None:
    found = lines(GOOD)
    assert {one.state for one in found} == {Standing.ok}, [one for one in found if one.state != "ok"]
    assert all(one.why and one.what and not one.fix for one in found)
    assert [one.required for one in found] == sorted((one.required for one in found), reverse=True)
    assert len({one.name for one in found}) == len(found)


@pytest.mark.parametrize(
    ("name", "changes", "state", "says", "fix"),
    [
        ("answers", {"deployment": deployment("starting")}, "missing", "starting", "drivetrain ps"),
        ("answers", {"variant": variant(id="v2")}, "missing", "another version stands in", "drivetrain ps"),
        ("answers", {"deployment": deployment("failed")}, "missing", "it is failed", "drivetrain ps"),
        ("answers", {"deployment": deployment(of=variant(min_replicas=0))}, "warn", "first user waits", "drivetrain scale digits 2"),
        ("spare replica", {"variant": variant()}, "warn", "one replica", "drivetrain scale digits 2"),
        ("spare replica", {"variant": None}, "warn", "no replica", "drivetrain scale digits 2"),
        ("lineage", {"version": None}, "missing", "no registered version", "drivetrain deploy digits NAME@VERSION"),
        ("lineage", {"run": None, "version": version(None, "pypi:x")}, "warn", "came from pypi:x", "log_model"),
        ("lineage", {"run": run(commit=False)}, "warn", "no git commit", "git checkout"),
        ("lineage", {"run": run(seed=False, data=False)}, "warn", "no seed and no data set", "mlflow.log_input"),
        ("drift reference", {"reference": ("the first 200 live requests", True)}, "warn", "200 live requests", "log_profile"),
        ("drift reference", {"reference": None}, "missing", "no profile", "drivetrain profile FILE --run run1"),
        ("labels", {"said": {}}, "missing", "nothing has been said", "drivetrain feedback"),
        ("units", {"named": False}, "warn", "no request says", "X-Drivetrain-Unit"),
        ("units", {"named": None}, "warn", "no requests yet", "X-Drivetrain-Unit"),
        ("monitors", {"monitors": [monitor("drift", paused=True)]}, "warn", "drift is paused", "drivetrain monitor resume digits drift"),
        ("monitors", {"monitors": []}, "missing", "nothing watches", "drivetrain monitor list digits"),
        ("open alerts", {"alerts": [alert()]}, "warn", "digits has drifted", "drivetrain alerts show 89abcdef"),
        ("alert channel", {"channels": []}, "missing", "nobody is told", "drivetrain alerts channels add"),
        ("alert channel", {"channels": [channel("log")]}, "missing", "log alone", "drivetrain alerts channels add"),
        ("alert channel", {"channels": [channel(worked_ms=None)]}, "warn", "never tested", "drivetrain alerts channels test team"),
        ("alert channel", {"channels": [channel(problem="it answers 500")]}, "warn", "500", "drivetrain alerts channels test team"),
        ("guardrails", {"rollouts": [], "variants": 1}, "warn", "first version", "drivetrain rollout start digits"),
        ("guardrails", {"rollouts": []}, "warn", "at once, unwatched", "drivetrain rollout start digits"),
        ("guardrails", {"rollouts": [rollout("errors", state=State.aborted)]}, "warn", "unwatched", "drivetrain rollout start"),
        ("guardrails", {"rollouts": [rollout("errors")]}, "warn", "wrong answers", "-g label_error"),
        ("way back", {"earlier": [], "rollouts": []}, "missing", "no other version", "drivetrain rollout start digits"),
        (
            "capture",
            {"deployment": deployment("ready", capture="nothing")},
            "warn",
            "neither",
            "drivetrain deploy digits digits@1 --capture",
        ),
        ("capture", {"deployment": deployment("ready", capture="hashed")}, "warn", "hashes", "--capture all"),
        ("keys", {"auth": "open"}, "warn", "this machine alone", "drivetrain keys require"),
        ("keys", {"auth": "open", "settings": Settings(host="0.0.0.0")}, "missing", "others can reach", "drivetrain keys create"),
        (
            "keys",
            {"auth": "open", "settings": Settings(allowed_hosts=("models.example",))},
            "missing",
            "others can reach",
            "drivetrain keys",
        ),
        ("backup", {"backup_ms": None}, "missing", "none was ever made", "drivetrain backup"),
        ("backup", {"backup_ms": NOW - 8 * DAY_MS}, "warn", "8 days ago", "drivetrain backup"),
        ("retraining", {"retraining": None}, "missing", "no policy", "drivetrain retrain policy digits"),
        ("retraining", {"retraining_paused": True}, "warn", "paused", "drivetrain retrain resume digits"),
        ("prices", {"variant": variant()}, "missing", "none", "--price"),
        ("limits", {"settings": Settings(queue_seconds=900.0)}, "warn", "900 s", "queue_seconds"),
    ],
)
def test_what_is_missing_says_how_to_mend_it(name: str, changes: dict[str, Any], state: str, says: str, fix: str) -> None:
    found = line(replace(GOOD, **changes), name)
    assert found.state == state
    assert says in found.what
    assert fix in found.fix


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("drift reference", {"reference": None, "logged_profile": True}, "training data"),
        ("labels", {"said": {"thumbs": 3, "tone": 1}}, "3 × thumbs, 1 × tone"),
        (
            "way back",
            {"rollouts": [rollout("errors", "label_error", state=State.promoted)]},
            "v0 is still warm: drivetrain rollout rollback digits",
        ),
        ("way back", {}, "drivetrain deploy digits digits@7"),
        ("capture", {"deployment": deployment("ready", capture="sampled", capture_rate=0.1)}, "10% of inputs"),
        ("open alerts", {"alerts": [alert(state="acknowledged"), alert("info")]}, "none"),
        ("backup", {"backup_ms": NOW - 1000}, "today"),
    ],
)
def test_other_ways_to_be_well(name: str, changes: dict[str, Any], says: str) -> None:
    found = line(replace(GOOD, **changes), name)
    assert (found.state, found.fix) == (Standing.ok, "")
    assert says in found.what


def test_nothing_serves() -> None:
    facts = Facts(deployment=deployment(variants=(), replicas=()), variant=None, settings=Settings(), auth="open", variants=0)
    found = {one.name: one for one in lines(facts)}
    assert found["lineage"].what == "nothing serves"
    assert all(one.fix for one in found.values() if one.state != "ok")
