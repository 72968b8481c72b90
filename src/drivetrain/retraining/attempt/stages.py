"""The stages of a retraining, as its job does them: each looks first for what an earlier attempt has left."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from drivetrain.compute.logged import run_logged
from drivetrain.errors import Conflict, Invalid, NotFound
from drivetrain.jobs.handle import Handle
from drivetrain.jobs.kinds import Retrain
from drivetrain.jobs.model import Done
from drivetrain.retraining import gate
from drivetrain.retraining.attempt.inputs import Inputs
from drivetrain.retraining.attempt.record import Record
from drivetrain.retraining.attempt.training_set import write_training_set
from drivetrain.retraining.model import LEAST_ROWS, Labelled, Stage
from drivetrain.serving.model import Variant
from drivetrain.tags import DATA_CONTEXT
from drivetrain.words import span

TAG = "drivetrain.retraining"
_EXPERIMENT = "does not match environment run ID"


class Stages:
    """Those of one retraining."""

    def __init__(self, job: Handle[Retrain], record: Record) -> None:
        self._job = job
        self._client = job.client
        self._record = record
        self._policy = record.policy
        self._inputs = Inputs(job, record)

    def training_set(self) -> Done:
        """Fetch what the stored query finds; part of it is held out."""
        rows, digest = self._inputs.rows()
        held = [row for row in rows if row.held_out]
        kept, judged = len(rows) - len(held), sum(row.task == "infer" for row in held)
        if kept < LEAST_ROWS or judged < self._policy.gate.min_rows:
            raise Invalid(
                f"There are {len(rows)} labelled answers of {self._policy.deployment} with their inputs: {kept} to train on, where "
                f"{LEAST_ROWS} are needed, and {judged} held out to judge by, where the gate needs {self._policy.gate.min_rows}. "
                f"Do events keep inputs (drivetrain deploy --capture all), and do labels come?"
            )
        words = f"{kept} labelled answers to train on; {len(held)} are held out to judge by"
        return Done(words=words, facts={"rows": kept, "held_out_rows": len(held), "digest": digest})

    def run(self) -> Done:
        """The run that the script logs to, with its data as inputs."""
        tagged = {"filter": f"tags.`{TAG}` = '{self._record.id}'", "limit": 1}
        found = self._client.connection.json("GET", "/api/v1/runs", params=tagged)["runs"]
        if found:
            run_id = str(found[0]["id"])
        else:
            champion = self._champion()
            tags = {TAG: self._record.id, "drivetrain.script": f"{self._policy.script}:{self._policy.entry}"}
            body = {"experiment": self._experiment(champion), "name": f"retraining {self._record.id[-8:]}", "tags": tags}
            run_id = str(self._client.connection.json("POST", "/api/v1/runs", body)["id"])
        digest = self._record.fact(Stage.training_set, "digest")
        datasets = [self._dataset(f"labelled answers of {self._policy.deployment}", digest, self._record.query)]
        if self._policy.base:
            datasets.append(self._dataset("base data", sha256(self._policy.base.encode()).hexdigest(), {"base": self._policy.base}))
        self._client.connection.json("POST", "/mlflow/api/2.0/mlflow/runs/log-inputs", {"run_id": run_id, "datasets": datasets}, again=True)
        return Done(words=f"run {run_id} logs it", facts={"run_id": run_id})

    def train(self) -> Done:
        """Run the script, unless an earlier attempt of it has brought its version already."""
        run_id = self._run_id
        began = time.monotonic()
        if self._found(run_id) is None:
            self._train(run_id)
        seconds = round(time.monotonic() - began, 1)
        self._client.connection.json("PATCH", f"/api/v1/runs/{run_id}", {"status": "FINISHED", "end_ms": time.time_ns() // 1_000_000})
        return Done(words=f"{self._policy.entry} ran for {seconds:g} s", facts={"seconds": seconds})

    def version(self) -> Done:
        """The version that the script registered from its run; if it only logged a model, that is registered here."""
        number = self._found(self._run_id) or self._register(self._run_id)
        words = f"it is version {number} of {self._policy.model}"
        return Done(words=words, facts={"version": number}, undo=f"drivetrain models delete {self._policy.model} --version {number}")

    def gate(self) -> Done:
        """Compare the new version with the one that serves, on what was held out."""
        number, champion = int(self._record.fact(Stage.version, "version")), self._champion()
        rows, _ = self._inputs.rows()
        held = [row for row in rows if row.held_out and row.task == "infer"]
        scale = gate.spread([row.label for row in rows if not row.held_out])
        version = self._client.models.version(self._policy.model, number)
        pair = [
            (self._policy.model, version.commit_id),
            (champion.repo.rpartition("/")[2], champion.commit),
        ]
        scores: list[list[float]] = []
        for slug, commit in pair:
            said = self._predictions(self._inputs.files(slug, commit, "model"), held)
            scores.append([gate.score(answer, row.label, scale) for answer, row in zip(said, held, strict=True)])
        serving = champion.version or champion.commit[:12]
        names = f"{self._policy.model} version {number}", f"{pair[1][0]} version {serving}"
        found = gate.judge(self._policy.gate, *scores, quantities=scale is not None, names=names)
        return Done(words=found.words, facts=msgspec.to_builtins(found))

    def roll_out(self) -> None:
        """Ask for the rollout. Not a stage that is told of: the server itself writes down that it began."""
        self._job.log(f"[{Stage.rollout}] {self._record.roll_out()}")

    # What they are made of.

    @property
    def _run_id(self) -> str:
        return str(self._record.fact(Stage.run, "run_id"))

    def _dataset(self, name: str, digest: str, source: object) -> dict[str, Any]:
        about = {"name": name, "digest": digest[:32], "source_type": "drivetrain", "source": json.dumps(msgspec.to_builtins(source))}
        return {"dataset": about, "tags": [{"key": DATA_CONTEXT, "value": "training"}]}

    def _champion(self) -> Variant:
        """The variant that serves now."""
        found = self._client.deployments.get(self._policy.deployment)
        live = [one for one in found.variants if one.retired_ms is None]
        champion = next((one for one in live if one.id == found.stable and found.rollout), None)
        if champion is None:
            champion = max(live, key=lambda one: one.weight, default=None)
        if champion is None:
            raise Conflict(f"{self._policy.deployment} serves nothing that a new version could be compared with.")
        return champion

    def _experiment(self, champion: Variant) -> str:
        """That of the champion's run: the same script may well name it, and mlflow wants a run to be where the script says."""
        slug, number = champion.repo.rpartition("/")[2], champion.version
        try:
            run_id = self._client.models.version(slug, number).run_id if number is not None else None
            found = self._client.runs.get(run_id).experiment if run_id else None
        except NotFound:
            found = None
        return str(found or f"retraining of {self._policy.deployment}")

    def _found(self, run_id: str) -> int | None:
        """The newest version that the run has registered."""
        try:
            found = self._client.models.versions(self._policy.model)
        except NotFound:
            return None
        return max((version.number for version in found if version.run_id == run_id), default=None)

    def _register(self, run_id: str) -> int:
        """Register the model that the run has logged."""
        models = self._client.runs.get(run_id).models
        if not models:
            raise Invalid(
                f"The script ended well, but its run {run_id} has no model. Log one within mlflow.start_run(): "
                "mlflow.sklearn.log_model(model, name='model', registered_model_name=os.environ['DRIVETRAIN_MODEL'])"
            )
        newest = max(models, key=lambda one: one.created_ms)
        body = {"name": self._policy.model, "source": f"models:/{newest.id}", "run_id": run_id, "model_id": newest.id}
        made = self._client.connection.json("POST", "/mlflow/api/2.0/mlflow/model-versions/create", body)
        return int(made["model_version"]["version"])

    def _train(self, run_id: str) -> None:
        slug, _, commit = self._policy.script.rpartition("@")
        code = self._inputs.files(slug, commit, "artifact")
        training = self._job.folder / "training.parquet"
        rows, _ = self._inputs.rows()
        write_training_set([row for row in rows if not row.held_out], training)
        url, key, scratch = self._client.url, self._client.key, self._job.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DRIVETRAIN_")},
            "DRIVETRAIN_URL": url,
            "DRIVETRAIN_API_KEY": key,
            "DRIVETRAIN_WORKSPACE": self._policy.workspace,
            "DRIVETRAIN_TRAINING_SET": str(training),
            "DRIVETRAIN_MODEL": self._policy.model,
            "MLFLOW_TRACKING_URI": f"{url}/mlflow",
            "MLFLOW_TRACKING_TOKEN": key,
            "MLFLOW_RUN_ID": run_id,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "GIT_PYTHON_REFRESH": "quiet",
            "PYTHONUNBUFFERED": "1",
        }
        if self._policy.base:
            environ["DRIVETRAIN_BASE"] = str(self._inputs.base())
        command = [sys.executable, "-m", "drivetrain.retraining.attempt.script", str(code / self._policy.entry)]
        limit = self._policy.time_limit
        status, words = run_logged(command, environ, scratch, self._job.log, limit=limit)
        if status is None:
            longer = f"drivetrain retrain policy {self._policy.deployment} --script … --time-limit {2 * limit:.0f}"
            raise Invalid(
                f"{self._policy.entry} was stopped after its time limit of {span(limit)}. If it needs longer, set the policy anew: "
                f"{longer}. Its last words: {words}"
            )
        if status:
            advice = ""
            if _EXPERIMENT in words:
                advice = " Leave mlflow.set_experiment out where MLFLOW_RUN_ID is set: the run is in an experiment already."
            raise Invalid(f"{self._policy.entry} ended with status {status}.{advice} Its last words: {words}")

    def _predictions(self, model: Path, rows: Sequence[Labelled]) -> list[Any]:
        """What a model says of each row's input."""
        asked = self._job.folder / "held-out.jsonl"
        asked.write_bytes(b"".join(msgspec.json.encode(row.input) + b"\n" for row in rows))
        answers = self._job.folder / f"answers-{model.name}.json"
        command = [sys.executable, "-m", "drivetrain.retraining.attempt.predict", str(model), str(asked), str(answers)]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("DRIVETRAIN_")}
        status, words = run_logged(command, environ, self._job.folder, self._job.log)
        if status:
            raise Invalid(f"The gate could not ask the model of commit {model.name.removeprefix('model-')}: {words}")
        said: list[Any] = msgspec.json.decode(answers.read_bytes())
        return said
