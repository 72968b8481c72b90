"""Bring in wandb's offline runs: what `wandb sync` sends, by the same doors, so that a run that was synced and imported is one run.

Unlike it, times of runs and console lines are those of the run, not of the sending, and nothing is written into the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from drivetrain.client.client import Client
from drivetrain.client.http import Json
from drivetrain.client.push import Progress, segment
from drivetrain.errors import NotFound
from drivetrain.portable import folder
from drivetrain.portable.bring import Brought, File, patiently, there, upload
from drivetrain.portable.wandb_artifacts import Artifacts, ask
from drivetrain.portable.wandb_log import Log
from drivetrain.portable.wandb_records import Chunk, Records

API = "/api/v1"
_UPSERT = """mutation UpsertBucket($input: UpsertBucketInput!) {
  upsertBucket(input: $input) { bucket { id name project { name entity { name } } } inserted }
}"""


def find(path: Path) -> list[Path]:
    """The offline runs at a path: a folder of one, or a folder that has such (also in its `wandb`). Raises `NotFound`."""
    for place in (path, path / "wandb"):
        if place.is_dir():
            if sorted(place.glob("run-*.wandb")):
                return [place]
            runs = [one for one in place.glob("offline-run-*") if one.is_dir() and not one.is_symlink() and any(one.glob("run-*.wandb"))]
            if runs:
                return sorted(runs)
    raise NotFound(f"There is no offline run of wandb at {path}: a folder offline-run-… with a file run-….wandb.")


def bring_runs(client: Client, path: Path, *, project: str | None = None, progress: Progress | None = None) -> Iterator[Brought]:
    for place in find(path):
        yield _Bringing(client, place, project, progress or (lambda done, total, message: None)).run()


class _Bringing:
    def __init__(self, client: Client, place: Path, project: str | None, tell: Progress) -> None:
        self._c = client.connection
        self._place = place
        self._log = Log(min(place.glob("run-*.wandb")))
        self._records = Records(self._log)
        self._project = project
        self._tell = tell
        self._size = self._log.path.stat().st_size
        self._warnings: list[str] = []
        self._run_id = ""
        self._at = ""
        self._there: Json = {}

    def run(self) -> Brought:
        records = self._records
        first = records.begin()
        client_id = first["name"]
        if self._project is not None:
            first["modelName"] = self._project
        project = first.get("modelName") or "uncategorized"
        source = f"wandb:{hashlib.sha256(json.dumps([project, client_id, self._place.name]).encode()).hexdigest()}"
        mark = f"{API}/imports/sources/{segment(source)}"
        digest = hashlib.sha256(json.dumps([folder.digest(self._log.path), self._listing()]).encode()).hexdigest()
        try:
            known = self._c.json("GET", mark)
        except NotFound:
            known = {}
        if known.get("digest") == digest:
            return Brought(client_id, str(known["run_id"]), records.name, "unchanged")
        self._upsert(first)
        for chunk in records.stream():
            self._send(chunk)
        last = records.end()
        self._upsert({"name": client_id, "modelName": project, **last})
        self._files()
        artifacts = Artifacts(self._c, self._warnings.append)
        for n, one in enumerate(records.artifacts):
            self._tell(n, len(records.artifacts), f"{records.name}: artifacts")
            artifacts.log(one, project=project, run=client_id)
        self._send(Chunk({"wandb-summary.json": (0, [json.dumps(records.summary)])}))
        if records.exit_code is None:
            self._warnings.append("its end is missing: it is shown as crashed")
            self._upsert({"name": client_id, "modelName": project, "state": "crashed"})
        else:
            self._post({"complete": True, "exitcode": records.exit_code})
        times = {"start_ms": records.start_ms, "end_ms": records.end_ms}
        self._c.json("PUT", mark, {"run_id": self._run_id, "digest": digest, **times})
        if self._log.damaged:
            self._warnings.append(f"{self._log.damaged} damaged stretches of {self._log.path.name} were left out")
        self._warnings += records.warnings
        return Brought(client_id, self._run_id, records.name, "imported", tuple(self._warnings))

    def _upsert(self, given: Json) -> None:
        bucket = ask(self._c, _UPSERT, {"input": given})["upsertBucket"]["bucket"]
        self._run_id = str(bucket["id"])
        entity, project = bucket["project"]["entity"]["name"], bucket["project"]["name"]
        self._at = f"/wandb/files/{'/'.join(quote(str(part), safe='') for part in (entity, project, bucket['name']))}/file_stream"

    def _send(self, chunk: Chunk) -> None:
        self._post({"files": {name: {"offset": offset, "content": lines} for name, (offset, lines) in chunk.files.items()}})
        self._tell(self._records.read, self._size, f"{self._records.name}: history")

    def _post(self, message: Json) -> None:
        patiently(lambda: self._c.json("POST", self._at, message, again=True))

    # --- files

    def _files(self) -> None:
        at = f"{API}/runs/{self._run_id}"
        known = there(self._c, f"{at}/export", "artifacts")
        own = self._place / "files"
        found = {one.path: one for one in self._own(own)}
        with tempfile.TemporaryDirectory() as made:
            for name, data in self._records.made_files().items():
                # As in wandb's own sync: these say what the records say, whatever an earlier one has left.
                path = Path(made) / name
                path.write_bytes(data)
                found[name] = File(name, path, len(data))
            upload(self._c, f"{at}/artifacts", [found[name] for name in sorted(found)], known, lambda file: None)

    def _own(self, root: Path) -> Iterator[File]:
        # What run.save() keeps is a link to a file of the project.
        project = self._place.resolve().parent.parent
        for where, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                file = Path(where) / name
                path = file.relative_to(root).as_posix()
                real = file.resolve()
                if file.is_symlink() and not real.is_relative_to(project):
                    self._warnings.append(f"the file {path} is a link that leads out of {project}, and was left out")
                elif not file.is_file() or not folder.safe(path):
                    self._warnings.append(f"the file {path!r} is missing or has a name that cannot be kept, and was left out")
                else:
                    yield File(path, real, real.stat().st_size)

    def _listing(self) -> list[tuple[str, int, int]]:
        found = []
        for where, _, names in os.walk(self._place / "files"):
            for name in sorted(names):
                path = Path(where) / name
                try:
                    stat = path.stat()
                except OSError:
                    continue
                found.append((path.as_posix(), stat.st_size, stat.st_mtime_ns))
        return sorted(found)
