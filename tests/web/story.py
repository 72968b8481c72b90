"""What the loop has done on the stage: rollouts that were taken back, went through and go on, played in fast motion by their own parts."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import sqlalchemy as sa

from drivetrain.identity.model import Context
from drivetrain.jobs import tables as job_tables
from drivetrain.lineage import service as lineage
from drivetrain.lineage.model import Thing
from drivetrain.monitoring.alerts.channels import Channels
from drivetrain.monitoring.alerts.service import Alerts
from drivetrain.monitoring.drift.report import compare
from drivetrain.monitoring.service import Monitors
from drivetrain.profiles.build import profile
from drivetrain.registry.service import Registry
from drivetrain.retraining import tables as retraining_tables
from drivetrain.retraining.model import Stage, Trigger
from drivetrain.retraining.service import Retrainings
from drivetrain.rollout import ledger
from drivetrain.rollout import tables as t
from drivetrain.rollout.counting.measures import Fixed, parse
from drivetrain.rollout.judging.curves import Curves
from drivetrain.rollout.judging.judge import Action, judge
from drivetrain.rollout.model import Count, Guardrail, Plan, Role, Rollout, State, Step, Tallied
from drivetrain.rollout.service import Rollouts
from drivetrain.serving import tables as serving_tables
from drivetrain.serving.lineage import Lineages
from drivetrain.serving.service import Serving
from drivetrain.store.blobs import Blobs
from drivetrain.store.events.lookup import Events
from drivetrain.store.sql import Database, upsert

SAFE = Plan(
    name="safe",
    steps=(
        Step(share=100, min_units=40, min_seconds=120),
        Step(share=500, min_units=600, min_seconds=300),
        Step(share=2_500, min_units=1_200, min_seconds=300),
        Step(share=5_000, min_units=2_000, min_seconds=300),
        Step(share=10_000),
    ),
    guardrails=(
        Guardrail(measure="errors"),
        Guardrail(measure="latency_p95", tolerance=1.5),
        Guardrail(measure="label_error"),
        Guardrail(measure="cost_mean", tolerance=1.2, role=Role.signal),
    ),
)


@dataclass
class Play:
    """One rollout in fast motion: `rates` are (stable's, canary's) chances of a bad unit for each guardrail; means are (mean, spread)."""

    db: Database
    serving: Serving
    rollouts: Rollouts
    ctx: Context
    dice: random.Random
    start_ms: int
    rates: Sequence[tuple[float, float]]
    units_per_second: float = 40.0
    lines: Mapping[int, float] = field(default_factory=lambda: {1: 7.6})

    def run(self, rollout: Rollout, *, seconds: int, tick: int = 10) -> Rollout:
        """Let so many seconds pass, or fewer if it ends."""
        times: dict[int, int] = {}
        curves = Curves(self.db)
        shown: dict[int, int] = {}
        rollout = self._change(
            rollout,
            action="advanced",
            why=f"{rollout.canary_name} is ready.",
            state=State.running,
            step=0,
            measuring={n: Fixed(self.lines.get(n)) for n in range(len(rollout.plan.guardrails))},
        )
        tallies: dict[tuple[int, int, str], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0.0])
        now = 0
        times[rollout.phase] = now
        decided = {one.id: 0 for one in self.rollouts.decisions(self.ctx, rollout.id)}
        while now < seconds and rollout.state in (State.running, State.paused):
            now += tick
            self._traffic(rollout, tallies, tick)
            rollout = self._keep(rollout, tallies, tick)
            with self.db.read() as c:
                book = ledger.read(c, rollout.id)
            judgement = judge(book)
            curves.draw(book, judgement.evidence, tick * 1000, now=True)
            with self.db.read() as c:
                number = c.scalar(sa.select(sa.func.max(t.evidence.c.number)).where(t.evidence.c.rollout_id == rollout.id)) or 0
            shown.setdefault(number, now)
            rollout = self._act(rollout, judgement)
            times.setdefault(rollout.phase, now)
            for one in self.rollouts.decisions(self.ctx, rollout.id):
                decided.setdefault(one.id, now)
        self._date(rollout, times, shown, decided, now)
        return self.rollouts.get(self.ctx, rollout.id)

    def _traffic(self, rollout: Rollout, tallies: dict[tuple[int, int, str], list[float]], tick: int) -> None:
        for _ in range(int(self.units_per_second * tick)):
            arm = "canary" if self.dice.random() < rollout.share / 10_000 else "stable"
            tallies[-1, rollout.phase, arm][0] += 1
            for number, guardrail in enumerate(rollout.plan.guardrails):
                first, second = self.rates[number]
                tally = tallies[number, rollout.phase, arm]
                if guardrail.measure == "label_error" and self.dice.random() < 0.6:
                    continue  # not everybody says what was right
                tally[0] += 1
                if guardrail.measure.endswith("_mean"):
                    value = max(0.0, self.dice.gauss(second if arm == "canary" else first, 0.3 * first))
                    tally[2] += value
                    tally[3] += value * value
                else:
                    tally[1] += self.dice.random() < (second if arm == "canary" else first)

    def _keep(self, rollout: Rollout, tallies: Mapping[tuple[int, int, str], Sequence[float]], tick: int) -> Rollout:
        counts: defaultdict[int, list[Count]] = defaultdict(list)
        for (guard, phase, arm), (units, bad, total, squares) in tallies.items():
            scale = parse(rollout.plan.guardrails[guard].measure).scale if guard >= 0 else 1
            n, failed = int(units), int(bad)
            sums: dict[str, Any] = {"total": total * scale, "squares": squares * scale * scale}
            one: dict[str, Any] = {"units": n, "bad": failed, "requests": n, "bad_requests": failed, "weight": n, "weights": n}
            counts[guard].append(Count(phase=phase, arm=arm, **one, **sums))
        told = msgspec.json.encode(Tallied(counts=dict(counts), people=int(sum(one.units for one in counts[-1])))).decode()
        with self.db.write() as c:
            row = {"rollout_id": rollout.id, "number": 1, "token": "", "told": told}
            upsert(c, t.tallies, [row], key=["rollout_id"], update=["told"])
            mine = t.rollouts.c.id == rollout.id
            c.execute(sa.update(t.rollouts).where(mine).values(elapsed_ms=t.rollouts.c.elapsed_ms + tick * 1000))
        return msgspec.structs.replace(rollout, elapsed_ms=rollout.elapsed_ms + tick * 1000)

    def _act(self, rollout: Rollout, judgement: Any) -> Rollout:
        told = {"why": judgement.why, "evidence": judgement.evidence}
        name = rollout.deployment
        if judgement.action is Action.advance:
            return self._change(rollout, action="advanced", step=rollout.step + 1, undo=f"drivetrain rollout rollback {name}", **told)
        if judgement.action is Action.promote:
            last = len(rollout.plan.steps) - 1
            return self._change(
                rollout, action="promoted", step=last, state=State.promoted, undo=f"drivetrain rollout rollback {name}", **told
            )
        if judgement.action is Action.pause:
            return self._change(rollout, action="paused", state=State.paused, undo=f"drivetrain rollout resume {name}", **told)
        if judgement.action is Action.roll_back:
            undo = f"drivetrain rollout start {name} models:/digits/3"
            return self._change(rollout, action="rolled_back", state=State.rolled_back, undo=undo, **told)
        with self.db.write() as c:
            c.execute(sa.update(t.rollouts).where(t.rollouts.c.id == rollout.id).values(why=judgement.why))
        return rollout

    def _change(self, rollout: Rollout, **values: Any) -> Rollout:
        with self.db.write() as c:
            return ledger.change(c, self.serving, rollout, actor="drivetrain", **values)

    def _date(self, rollout: Rollout, phases: Mapping[int, int], points: Mapping[int, int], decided: Mapping[str, int], end: int) -> None:
        """Give everything the time at which it happened in the story."""
        at = self.start_ms
        with self.db.write() as c:
            ended = {"ended_ms": at + end * 1000} if rollout.ended_ms else {}
            c.execute(sa.update(t.rollouts).where(t.rollouts.c.id == rollout.id).values(created_ms=at - 20_000, **ended))
            for number, second in phases.items():
                mine = t.phases.c.rollout_id == rollout.id, t.phases.c.number == number
                c.execute(sa.update(t.phases).where(*mine).values(started_ms=at + second * 1000))
            for number, second in points.items():
                mine = t.evidence.c.rollout_id == rollout.id, t.evidence.c.number == number
                c.execute(sa.update(t.evidence).where(*mine).values(at_ms=at + second * 1000))
            for i, (decision, second) in enumerate(sorted(decided.items(), key=lambda one: (one[1], one[0]))):
                when = at - 20_000 if i == 0 else at + second * 1000
                c.execute(sa.update(t.decisions).where(t.decisions.c.id == decision).values(at_ms=when, told=True))


def roll(db: Database, serving: Serving, rollouts: Rollouts, ctx: Context, made: dict[str, str], now: int) -> None:
    """A version that errs more is taken back at 5 %; another goes through; a third is on its way."""
    dice = random.Random(11)

    def ready() -> None:
        with db.write() as c:
            c.execute(sa.update(serving_tables.variants).where(serving_tables.variants.c.ready_ms.is_(None)).values(ready_ms=now))

    def play(source: str, started: int, rates: Sequence[tuple[float, float]], seconds: int, why: str) -> Rollout:
        ready()
        rollout = rollouts.start(ctx, "digits", source, SAFE, why=why)
        with db.write() as c:
            mine = serving_tables.variants.c.id == rollout.canary
            c.execute(sa.update(serving_tables.variants).where(mine).values(created_ms=started - 20_000))
        return Play(db, serving, rollouts, ctx, dice, started, rates).run(rollout, seconds=seconds)

    worse = play("models:/digits/3", now - 9_000_000, ((0.012, 0.012), (0.05, 0.05), (0.04, 0.16), (1.0, 1.0)), 3000, "a smaller network")
    made["rolled_back"] = worse.id
    running = play(
        "models:/digits/4", now - 850_000, ((0.012, 0.013), (0.05, 0.062), (0.04, 0.035), (1.0, 1.04)), 840, "trained on last week's labels"
    )
    made["rollout"] = running.id
    ready()


def alarm(alerts: Alerts, channels: Channels, ctx: Context, made: dict[str, str]) -> None:
    """One channel that works, one that does not; alerts that last, one looked after, one over; a silence."""
    channels.add(ctx, "team-chat", "webhook", "https://chat.example.com/hooks/8f3a", least="warn")
    channels.add(ctx, "server-log", "log", least="info")
    told: dict[str, Any] = {"workspace_id": ctx.workspace_id, "deployment": "digits"}
    drift = alerts.raise_alert(
        **told,
        source="drift",
        key="drift:digits",
        severity="warn",
        title="Inputs of digits have drifted: 2 of 18 features",
        text="pixel_0_1 and pixel_4_5 have moved away from the training data in 3 of the last 4 windows. The greatest effect is 0.41 "
        "(pixel_0_1); windows without drift show 0.03.",
        evidence={
            "features": ["pixel_0_1", "pixel_4_5"],
            "effect": 0.41,
            "rows": 500,
            "windows": "3 of 4",
            "reference": "training data of svc-7",
        },
        undo="drivetrain retrain now digits",
    )
    made["alert"] = drift.id
    again: dict[str, Any] = {"severity": "warn", "title": drift.title, "text": drift.text, "evidence": drift.evidence, "undo": drift.undo}
    alerts.raise_alert(**told, source="drift", key="drift:digits", **again)
    alerts.raise_alert(
        **told,
        source="rollout",
        key=f"rollout:{made['rolled_back']}",
        severity="bad",
        title="The rollout of digits v3 was taken back",
        text="label_error: harm. Bad: v3 15 of 143 units (10.5 %), v2 237 of 6,034 units (3.93 %).",
        evidence={"rollout": made["rolled_back"], "action": "rolled_back", "share": 0.05},
        undo="drivetrain rollout start digits models:/digits/3",
    )
    late = alerts.raise_alert(
        **told,
        source="latency",
        key="latency:digits",
        severity="warn",
        title="digits answers slower than it used to",
        text="The 95th percentile of the last 10 minutes is 31 ms; over the last day it was 7.6 ms.",
        evidence={"p95_ms": 31.0, "usual_ms": 7.6},
    )
    alerts.resolve(ctx, late.id)
    noted = alerts.raise_alert(
        **{**told, "deployment": "smollm2"},
        source="errors",
        key="errors:smollm2",
        severity="bad",
        title="6.2 % of smollm2's answers are errors",
        text="18 of 291 requests of the last 10 minutes failed, most with: the replica ended in the middle of the answer.",
        evidence={"errors": 18, "requests": 291, "kinds": {"upstream": 15, "timeout": 3}},
        undo="drivetrain deploy smollm2 models:/smollm2@previous",
    )
    alerts.acknowledge(ctx, noted.id)
    alerts.silence(ctx, deployment="smollm2", source="latency", seconds=8 * 3600, why="it shares the machine with a training run tonight")
    queued = channels.queued()
    for message in queued:
        failed = message.channel.name == "team-chat" and message.deployment == "smollm2"
        channels.settled(list(message.deliveries), error="503 Service Unavailable" if failed else "")


def watch(monitors: Monitors, serving: Serving, lineages: Lineages, events: Events, ctx: Context, made: dict[str, str], now: int) -> None:
    """Windows of drift, calm at first and then not, and labels for most answers."""
    import numpy as np

    rng = np.random.default_rng(3)

    def table(rows: int, moved: float = 0.0) -> dict[str, Any]:
        pixels = {f"pixel_{i // 4}_{i % 4}": rng.normal(6 + i % 5, 3, rows) + (5 * moved if i in (1, 7) else 0) for i in range(12)}
        shares = [0.1 + 0.15 * moved, 0.4 - 0.25 * moved, 0.2, 0.1, 0.2 + 0.1 * moved]
        countries = rng.choice(np.array(["br", "de", "fr", "jp", "us"], dtype=object), rows, p=shares)
        return {**pixels, "age": rng.gamma(2 + moved, 10, rows), "country": countries, "label": rng.integers(0, 10, rows)}

    reference = profile(table(6000), target="label", source="training data of svc-7")
    stable = next(one for one in serving.history(ctx, "digits") if one.version == 2)
    count = 26
    for i in range(count):
        monitor = next(one for one in monitors.list(ctx, "digits") if one.kind == "drift")
        window = profile(table(20 if i == 4 else 400, 0.6 if i in (19, 23, 24, 25) else 0.0), like=reference, nulls=False)
        at = now - (count - i) * 120_000
        monitors.took(monitor, stable, compare(reference, window), window, cursor=f"{i:032x}", from_ms=at, to_ms=at + 118_000)
    made["window"] = monitors.windows(ctx, "digits", limit=1)[0].id
    monitor = next(one for one in monitors.list(ctx, "digits") if one.kind == "drift")
    words = "3 of the last 3 windows have drifted, the last by 4 of 15 features, most by pixel_0_1 (0.78)."
    monitors.answered(monitor, "alarm", words)
    dice = random.Random(5)
    for event in events.recent(ctx.workspace_id, limit=400):
        if not event.error and dice.random() < 0.7:
            right = dice.random() < (0.93 if event.version == 2 else 0.84)
            lineages.say(ctx, event.id, "label", 3 if right else 8, kind="label", source="labellers", comment="")
    monitor = next(one for one in monitors.list(ctx, "digits") if one.kind == "quality")
    promised = "evidence 41 of 52,925, which unchanged answers reach once in 365 days at most"
    monitors.answered(monitor, "ok", f"93.1% of 145 labelled answers were right. No sign that this has changed ({promised}).")


def train(db: Database, blobs: Blobs, registry: Registry, retrainings: Retrainings, ctx: Context, made: dict[str, str], now: int) -> None:
    """A policy; a version that was refused at the gate, one that was rolled out, and one that is in training."""
    registry.ensure_repo(ctx, "digits-training", kind="artifact")
    file = blobs.put([b"import mlflow\n"]).sha256
    registry.commit(ctx, "digits-training", {"train.py": file}, kind="artifact", message="The training script")
    trigger = Trigger(sustained_seconds=600.0, min_labels=200, every_seconds=7 * 86_400.0)
    retrainings.set_policy(ctx, "digits", script="digits-training", days=30.0, trigger=trigger, plan="safe")

    def comparison(rows: int, challenger: float, champion: float, low: float, high: float) -> dict[str, Any]:
        difference = challenger - champion
        return {
            "rows": rows,
            "challenger": challenger,
            "champion": champion,
            "difference": difference,
            "low": low,
            "high": high,
            "wins": 9,
            "losses": 4,
        }

    def begin(why: str, at: int, *, cause: str = "", evidence: dict[str, Any] | None = None) -> str:
        one = retrainings.start(ctx, "digits", why=why)
        mine = retraining_tables.retrainings.c.id == one.id
        more = {"cause": cause, "trigger": evidence} if cause else {}
        with db.write() as c:
            c.execute(sa.update(retraining_tables.retrainings).where(mine).values(created_ms=at, **more))
        return one.id

    def until(retraining: str, run: str, version: int, *stages: Stage, gate: dict[str, Any] | None = None) -> None:
        words: dict[Stage, tuple[str, dict[str, Any]]] = {
            Stage.training_set: ("1,240 labelled answers, and 310 held out", {"rows": 1240, "held_out_rows": 310, "digest": "a31f"}),
            Stage.run: ("The run begins with the training set and the base data as its inputs.", {"run_id": made[run]}),
            Stage.training: ("train.py took 48 s.", {"seconds": 48.0}),
            Stage.version: (f"digits v{version} is registered.", {"version": version}),
            Stage.gate: ((gate or {}).get("words", ""), gate or {}),
        }
        for stage in stages:
            said, facts = words[stage]
            retrainings.advance(ctx, retraining, stage, words=said, facts=facts)

    every = (Stage.training_set, Stage.run, Stage.training, Stage.version, Stage.gate)
    first = begin("local wanted to see whether more trees help", now - 2 * 86_400_000)
    refused = {
        "passed": False,
        "words": "On the 310 newest labelled answers that were held out, v3 was right on 90.6%, v2 right on 90.3%. "
        "That does not show that it is better: v2 goes on.",
        "recent": comparison(310, 0.906, 0.903, -0.021, 0.027),
        "all": comparison(310, 0.906, 0.903, -0.021, 0.027),
        "champion": "v2",
    }
    until(first, "run4", 3, *every, gate=refused)
    evidence = {"alert": "Inputs of digits have drifted: 4 of 15 features", "lasting_seconds": 640, "new_labels": 312}
    second = begin("The alert of drift has lasted 10 min, and 312 new labels have come.", now - 1_500_000, cause="alert", evidence=evidence)
    passed = {
        "passed": True,
        "words": "On the 400 newest labelled answers that were held out, v4 was right on 94.5%, v2 right on 88.0%: 6.5 points better.",
        "recent": comparison(400, 0.945, 0.88, 0.031, 0.099),
        "all": comparison(620, 0.94, 0.898, 0.018, 0.067),
        "champion": "v2",
    }
    until(second, "run7", 4, *every, gate=passed)
    with db.write() as c:
        facts = {"rollout_id": made["rollout"]}
        done = {"work": second, "stage": "rollout", "at_ms": now, "words": "digits v4 is rolled out.", "facts": facts}
        c.execute(sa.insert(job_tables.stages).values(**done, undo="drivetrain rollout abort digits"))
        ended = {"state": "rolled_out", "why": "models:/digits/4 is rolled out by the plan safe.", "ended_ms": now - 700_000}
        mine = retraining_tables.retrainings.c.id == second
        c.execute(sa.update(retraining_tables.retrainings).where(mine).values(**ended))
        lineage.link(c, ctx, Thing("retraining", second), "began", Thing("rollout", made["rollout"]))
    made["retraining"] = second
    third = begin("local asked for it", now - 90_000)
    until(third, "run8", 0, Stage.training_set, Stage.run)
    made["training"] = third
