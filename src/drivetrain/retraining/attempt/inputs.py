"""What a retraining works with, fetched into its job's folder: labelled answers, base data, files of commits. Each whole or not there."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import msgspec

from drivetrain.client.push import segment
from drivetrain.jobs.handle import Handle
from drivetrain.jobs.kinds import Retrain
from drivetrain.retraining.attempt.record import Record
from drivetrain.retraining.model import Labelled, Stage


class Inputs:
    """What is there already, from an earlier attempt on this server, is not fetched again."""

    def __init__(self, job: Handle[Retrain], record: Record) -> None:
        self._job = job
        self._client = job.client
        self._record = record

    def rows(self) -> tuple[list[Labelled], str]:
        """What the query finds, in the order of time, and its digest. Asked again by another server it is the same, unless events or
        labels went away in the meantime; that is said."""
        file = self._job.folder / "labelled.jsonl"
        if not file.exists():
            partial = file.with_suffix(".partial")
            with self._client.connection.stream("GET", f"{self._record.at}/labelled", timeout=600.0) as answer, partial.open("wb") as out:
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
        before = self._record.done.get(Stage.training_set)
        if before is not None and before.facts.get("digest") != digest.hexdigest():
            self._job.log("The answers or labels behind the training set have changed since an earlier attempt.")
        return rows, digest.hexdigest()

    def base(self) -> Path:
        """The base data: the file, or a folder of several."""
        text = self._record.policy.base
        if text.startswith("runs:/"):
            folder = self._artifacts(text)
        else:
            slug, _, commit = text.rpartition("@")
            folder = self.files(slug, commit, "dataset")
        files = [path for path in folder.rglob("*") if path.is_file()]
        return files[0] if len(files) == 1 else folder

    def files(self, repo: str, commit: str, kind: str) -> Path:
        """The files of a commit, in a folder; whole or not at all."""
        target = self._job.folder / f"{kind}-{commit[:16]}"
        if not target.exists():
            partial = target.with_suffix(".partial")
            for path in self._client.models.files(repo, ref=commit, kind=kind).files:
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
