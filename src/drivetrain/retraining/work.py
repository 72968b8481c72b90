"""The stages of a retraining, as its job does them: each looks first for what an earlier attempt has left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from drivetrain.client.push import segment
from drivetrain.compute import lifeline
from drivetrain.errors import Conflict, Invalid, NotFound
from drivetrain.jobs.handle import Handle
from drivetrain.jobs.kinds import Retrain, Retrained
from drivetrain.retraining import gate
from drivetrain.retraining.frame import write_training_set
from drivetrain.retraining.model import LEAST_ROWS, Labelled, Policy, Stage, TrainingSet
from drivetrain.retraining.words import span
from drivetrain.tags import DATA_CONTEXT

LAST_WORDS = 800
TAG = "drivetrain.retraining"
_EXPERIMENT = "does not match environment run ID"


class Work:
    """One retraining. `done`: what came of each stage that is over; `ended`: it has ended, or waits for a rollout."""

    def __init__(self, job: Handle[Retrain]) -> None:
        self._job = job
        self._client = job.client
        self._id = job.spec.retraining
        self._at = f"/api/v1/retrainings/{segment(self._id)}"
        self._state: dict[str, Any] = self._client.connection.json("GET", self._at)
        self._policy = msgspec.convert(self._state["policy"], Policy)
        self._query = msgspec.convert(self._state["training_set"], TrainingSet)

    @property
    def done(self) -> dict[Stage, dict[str, Any]]:
        return {Stage(one["stage"]): one["facts"] for one in self._state["stages"]}

    @property
    def ended(self) -> bool:
        return self._state["ended_ms"] is not None

    def words(self, stage: Stage) -> str:
        return next(str(one["words"]) for one in self._state["stages"] if one["stage"] == stage)

    @property
    def result(self) -> Retrained:
        """What the job's own record keeps."""
        return msgspec.convert(self._state, Retrained)

    # Stages.

    def training_set(self) -> None:
        """Fetch what the stored query finds; part of it is held out."""
        rows, digest = self._rows()
        held = [row for row in rows if row.held_out]
        kept, judged = len(rows) - len(held), sum(row.task == "infer" for row in held)
        if kept < LEAST_ROWS or judged < self._policy.gate.min_rows:
            raise Invalid(
                f"There are {len(rows)} labelled answers of {self._policy.deployment} with their inputs: {kept} to train on, where "
                f"{LEAST_ROWS} are needed, and {judged} held out to judge by, where the gate needs {self._policy.gate.min_rows}. "
                f"Do events keep inputs (drivetrain deploy --capture all), and do labels come?"
            )
        words = f"{kept} labelled answers to train on; {len(held)} are held out to judge by"
        self._told(Stage.training_set, words, {"rows": kept, "held_out_rows": len(held), "digest": digest})

    def run(self) -> None:
        """The run that the script logs to, with its data as inputs."""
        found = self._client.connection.json("GET", "/api/v1/runs", params={"filter": f"tags.`{TAG}` = '{self._id}'", "limit": 1})["runs"]
        if found:
            run_id = str(found[0]["id"])
        else:
            champion = self._champion()
            tags = {TAG: self._id, "drivetrain.script": f"{self._policy.script}:{self._policy.entry}"}
            body = {"experiment": self._experiment(champion), "name": f"retraining {self._id[-8:]}", "tags": tags}
            run_id = str(self._client.connection.json("POST", "/api/v1/runs", body)["id"])
        datasets = [self._dataset(f"labelled answers of {self._policy.deployment}", self.done[Stage.training_set]["digest"], self._query)]
        if self._policy.base:
            datasets.append(self._dataset("base data", sha256(self._policy.base.encode()).hexdigest(), {"base": self._policy.base}))
        self._client.connection.json("POST", "/mlflow/api/2.0/mlflow/runs/log-inputs", {"run_id": run_id, "datasets": datasets}, again=True)
        self._told(Stage.run, f"run {run_id} logs it", {"run_id": run_id})

    def train(self) -> None:
        """Run the script, unless an earlier attempt of it has brought its version already."""
        run_id = self._run_id
        began = time.monotonic()
        if self._found(run_id) is None:
            self._train(run_id)
        seconds = round(time.monotonic() - began, 1)
        self._client.connection.json("PATCH", f"/api/v1/runs/{run_id}", {"status": "FINISHED", "end_ms": time.time_ns() // 1_000_000})
        self._told(Stage.training, f"{self._policy.entry} ran for {seconds:g} s", {"seconds": seconds})

    def version(self) -> None:
        """The version that the script registered from its run; if it only logged a model, that is registered here."""
        number = self._found(self._run_id) or self._register(self._run_id)
        words = f"it is version {number} of {self._policy.model}"
        self._told(Stage.version, words, {"version": number}, undo=f"drivetrain models delete {self._policy.model} --version {number}")

    def gate(self) -> None:
        """Compare the new version with the one that serves, on what was held out."""
        number, champion = int(self.done[Stage.version]["version"]), self._champion()
        rows, _ = self._rows()
        held = [row for row in rows if row.held_out and row.task == "infer"]
        scale = gate.spread([row.label for row in rows if not row.held_out])
        version = self._client.models.version(self._policy.model, number)
        pair = [
            (self._policy.model, str(version["commit_id"])),
            (str(champion["repo"]).rpartition("/")[2], str(champion["commit"])),
        ]
        scores: list[list[float]] = []
        for slug, commit in pair:
            said = self._ask(self._files(slug, commit, "model"), held)
            scores.append([gate.score(answer, row.label, scale) for answer, row in zip(said, held, strict=True)])
        serving = champion["version"] or str(champion["commit"])[:12]
        names = f"{self._policy.model} version {number}", f"{pair[1][0]} version {serving}"
        found = gate.judge(self._policy.gate, *scores, quantities=scale is not None, names=names)
        self._told(Stage.gate, found.words, msgspec.to_builtins(found))

    def roll_out(self) -> None:
        """Ask for the rollout: the server begins it, once, or lets it wait for the one that is open."""
        self._state = {**self._state, **self._client.connection.json("POST", f"{self._at}/roll-out", again=True)}
        self._job.log(f"[{Stage.rollout}] {self._state['why']}")

    # What they are made of.

    @property
    def _run_id(self) -> str:
        return str(self.done[Stage.run]["run_id"])

    def _told(self, stage: Stage, words: str, facts: Mapping[str, Any], *, undo: str = "") -> None:
        body = {"stage": stage.value, "words": words, "facts": dict(facts), "undo": undo}
        self._state = {**self._state, **self._client.connection.json("POST", f"{self._at}/stages", body, again=True)}
        self._job.log(f"[{stage}] {words}")

    def _rows(self) -> tuple[list[Labelled], str]:
        """What the query finds, in the order of time, and its digest. Asked again by another server it is the same, unless events or
        labels went away in the meantime; that is said."""
        file = self._job.folder / "labelled.jsonl"
        if not file.exists():
            partial = file.with_suffix(".partial")
            with self._client.connection.stream("GET", f"{self._at}/labelled", timeout=600.0) as answer, partial.open("wb") as out:
                for chunk in answer.iter_bytes(1 << 20):
                    out.write(chunk)
                out.flush()
                os.fsync(out.fileno())
            partial.rename(file)
        decoder = msgspec.json.Decoder(Labelled)
        with file.open("rb") as lines:
            rows = sorted((decoder.decode(line) for line in lines), key=lambda row: row.id)
        digest = sha256()
        for row in rows:
            digest.update(msgspec.json.encode([row.id, row.label, row.input]) + b"\n")
        before = self.done.get(Stage.training_set, {}).get("digest")
        if before not in (None, digest.hexdigest()):
            self._job.log("The answers or labels behind the training set have changed since an earlier attempt.")
        return rows, digest.hexdigest()

    def _dataset(self, name: str, digest: str, source: object) -> dict[str, Any]:
        about = {"name": name, "digest": digest[:32], "source_type": "drivetrain", "source": json.dumps(msgspec.to_builtins(source))}
        return {"dataset": about, "tags": [{"key": DATA_CONTEXT, "value": "training"}]}

    def _champion(self) -> dict[str, Any]:
        """The variant that serves now."""
        found = self._client.deployments.get(self._policy.deployment)
        live = [one for one in found["variants"] if one.get("retired_ms") is None]
        champion = next((one for one in live if one["id"] == found.get("stable") and found.get("rollout")), None)
        if champion is None:
            champion = max(live, key=lambda one: int(one["weight"]), default=None)
        if champion is None:
            raise Conflict(f"{self._policy.deployment} serves nothing that a new version could be compared with.")
        made: dict[str, Any] = champion
        return made

    def _experiment(self, champion: Mapping[str, Any]) -> str:
        """That of the champion's run: the same script may well name it, and mlflow wants a run to be where the script says."""
        slug, number = str(champion["repo"]).rpartition("/")[2], champion["version"]
        try:
            run_id = self._client.models.version(slug, int(number))["run_id"] if number is not None else None
            found = self._client.runs.get(run_id)["experiment"] if run_id else None
        except NotFound:
            found = None
        return str(found or f"retraining of {self._policy.deployment}")

    def _found(self, run_id: str) -> int | None:
        """The newest version that the run has registered."""
        try:
            found = self._client.models.versions(self._policy.model)
        except NotFound:
            return None
        return max((int(version["number"]) for version in found if version["run_id"] == run_id), default=None)

    def _register(self, run_id: str) -> int:
        """Register the model that the run has logged."""
        models = self._client.runs.get(run_id)["models"]
        if not models:
            raise Invalid(
                f"The script ended well, but its run {run_id} has no model. Log one within mlflow.start_run(): "
                "mlflow.sklearn.log_model(model, name='model', registered_model_name=os.environ['DRIVETRAIN_MODEL'])"
            )
        newest = max(models, key=lambda one: int(one["created_ms"]))
        body = {"name": self._policy.model, "source": f"models:/{newest['id']}", "run_id": run_id, "model_id": newest["id"]}
        made = self._client.connection.json("POST", "/mlflow/api/2.0/mlflow/model-versions/create", body)
        return int(made["model_version"]["version"])

    def _train(self, run_id: str) -> None:
        slug, _, commit = self._policy.script.rpartition("@")
        code = self._files(slug, commit, "artifact")
        training = self._job.folder / "training.parquet"
        rows, _ = self._rows()
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
            environ["DRIVETRAIN_BASE"] = str(self._base())
        command = [sys.executable, "-m", "drivetrain.retraining.script", str(code / self._policy.entry)]
        limit = self._policy.time_limit
        status, words = self._run(command, environ, scratch, limit=limit)
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

    def _run(
        self, command: Sequence[str], environ: Mapping[str, str], folder: Path, *, limit: float | None = None
    ) -> tuple[int | None, str]:
        """Its status (None: it was stopped after `limit` seconds), and its last words. What it prints goes into the job's log.

        It has a process group of its own, with all that it starts, so that it can be stopped as a whole; and a lifeline, by which it ends
        with this job."""
        last: deque[str] = deque(maxlen=40)
        pipe = subprocess.PIPE
        read, write = os.pipe()
        late = threading.Event()
        try:
            with subprocess.Popen(
                command,
                cwd=folder,
                env={**environ, lifeline.VARIABLE: str(read)},
                stdin=subprocess.DEVNULL,
                stdout=pipe,
                stderr=subprocess.STDOUT,
                errors="replace",
                pass_fds=(read,),
                start_new_session=True,
            ) as child:

                def stop() -> None:
                    late.set()
                    _kill(child.pid)

                timer = threading.Timer(limit if limit is not None else threading.TIMEOUT_MAX, stop)
                timer.daemon = True
                timer.start()
                assert child.stdout is not None
                for line in child.stdout:
                    self._job.log(line.rstrip("\n"))
                    last.append(line)
                child.wait()
                timer.cancel()
                _kill(child.pid)  # what it may have left behind
        finally:
            os.close(write)
            os.close(read)
        stopped = late.is_set() and child.returncode != 0
        return None if stopped else child.returncode, "".join(last)[-LAST_WORDS:].strip()

    def _base(self) -> Path:
        """The base data: the file, or a folder of several."""
        text = self._policy.base
        if text.startswith("runs:/"):
            folder = self._artifacts(text)
        else:
            slug, _, commit = text.rpartition("@")
            folder = self._files(slug, commit, "dataset")
        files = [path for path in folder.rglob("*") if path.is_file()]
        return files[0] if len(files) == 1 else folder

    def _files(self, repo: str, commit: str, kind: str) -> Path:
        """The files of a commit, in a folder; whole or not at all."""
        target = self._job.folder / f"{kind}-{commit[:16]}"
        if not target.exists():
            partial = target.with_suffix(".partial")
            for path in self._client.models.files(repo, ref=commit, kind=kind)["files"]:
                (partial / path).parent.mkdir(parents=True, exist_ok=True)
                self._client.models.download(repo, path, partial / path, ref=commit, kind=kind)
            partial.rename(target)
        return target

    def _artifacts(self, text: str) -> Path:
        run_id, _, wanted = text.removeprefix("runs:/").partition("/")
        target = self._job.folder / "base"
        if not target.exists():
            partial = target.with_suffix(".partial")
            for path in self._artifact_paths(run_id, wanted):
                file = partial / path
                file.parent.mkdir(parents=True, exist_ok=True)
                with (
                    self._client.connection.stream("GET", f"/api/v1/runs/{run_id}/artifacts/{segment(path)}") as answer,
                    file.open("wb") as out,
                ):
                    for chunk in answer.iter_bytes(1 << 20):
                        out.write(chunk)
            partial.rename(target)
        return target

    def _artifact_paths(self, run_id: str, wanted: str) -> list[str]:
        """The artifact of this path, or all below that folder."""
        below = self._client.connection.json("GET", f"/api/v1/runs/{run_id}/artifacts", params={"path": wanted})["artifacts"]
        if not below:
            return [wanted]
        found: list[str] = []
        for one in below:
            found += self._artifact_paths(run_id, one["path"]) if one["is_dir"] else [one["path"]]
        return found

    def _ask(self, model: Path, rows: Sequence[Labelled]) -> list[Any]:
        """What a model says of each row's input."""
        asked = self._job.folder / "held-out.jsonl"
        asked.write_bytes(b"".join(msgspec.json.encode(row.input) + b"\n" for row in rows))
        answers = self._job.folder / f"answers-{model.name}.json"
        command = [sys.executable, "-m", "drivetrain.retraining.ask", str(model), str(asked), str(answers)]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("DRIVETRAIN_")}
        status, words = self._run(command, environ, self._job.folder)
        if status:
            raise Invalid(f"The gate could not ask the model of commit {model.name.removeprefix('model-')}: {words}")
        said: list[Any] = msgspec.json.decode(answers.read_bytes())
        return said


def _kill(group: int) -> None:
    """End a process group, as far as there is still something of it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
