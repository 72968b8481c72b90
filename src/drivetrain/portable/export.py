"""A server's run into a folder: see `folder` for what is in it. What was cut off goes on where it was, file by file and part by part."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetrain.client.http import Connection, Json
from drivetrain.client.push import Progress, segment
from drivetrain.errors import Invalid
from drivetrain.portable import folder

if TYPE_CHECKING:
    import polars

PART = 500_000
PAGE = 50_000
PROGRESS = "progress.json"
API = "/api/v1"
_STREAMS = (folder.METRICS, folder.SYSTEM, folder.ROWS, folder.CONSOLE)


@dataclass(frozen=True, slots=True)
class Exported:
    """`state` is `exported`, or `unchanged` for a folder that holds just this already."""

    run_id: str
    folder: Path
    state: str


def export(
    connection: Connection, runs: Sequence[str], target: Path, *, progress: Progress | None = None, part: int = PART
) -> Iterator[Exported]:
    """Each run into a folder of its own in `target`, named by its id. `part`: points in one file."""
    target.mkdir(parents=True, exist_ok=True)
    for run_id in runs:
        yield _Export(connection, run_id, target, progress or (lambda done, total, message: None), part).run()


def runs_of(connection: Connection, experiment: str) -> list[str]:
    """The ids of an experiment's active runs, the oldest first."""
    found: list[str] = []
    token: str | None = None
    connection.json("GET", f"{API}/experiments/{segment(experiment)}")
    while True:
        asked = {"experiment": experiment, "limit": 1000, "token": token, "order_by": ["attributes.start_time ASC"]}
        page = connection.json("GET", f"{API}/runs", params=asked)
        found += [str(one["id"]) for one in page["runs"]]
        if not (token := page["token"]):
            return found


class _Export:
    def __init__(self, connection: Connection, run_id: str, target: Path, tell: Progress, part: int) -> None:
        self._c = connection
        self._at = f"{API}/runs/{segment(run_id)}/export"
        self._record: Json = connection.json("GET", self._at)
        self._id = str(self._record["id"])
        if "/" in self._id or not folder.safe(self._id):
            raise Invalid(f"The server at {connection.url} calls the run {self._id[:80]!r}, which cannot be the name of a folder.")
        self._final = target / self._id
        self._part = target / f".{self._id}.part"
        self._tell = tell
        self._points_each = part
        self._done = 0
        counts: dict[str, int] = self._record["counts"]
        sizes = sum(one["size"] for _, one in self._all_files())
        self._total = sum(counts.values()) + (sizes >> 10)
        self._files: dict[str, tuple[int, str]] = {}

    def run(self) -> Exported:
        text = self._run_json()
        if folder.is_export(self._final) and (self._final / folder.RUN).read_bytes() == text:
            return Exported(self._id, self._final, "unchanged")
        self._part.mkdir(exist_ok=True)
        if not (self._part / folder.RUN).exists() or (self._part / folder.RUN).read_bytes() != text:
            # The run went on since it was begun to be exported: only its files can be kept.
            (self._part / PROGRESS).unlink(missing_ok=True)
            for name in _STREAMS:
                shutil.rmtree(self._part / name, ignore_errors=True)
                (self._part / name).unlink(missing_ok=True)
            self._write(folder.RUN, text)
        self._progress: Json = folder.read_json(self._part / PROGRESS) if (self._part / PROGRESS).exists() else {}
        self._points(folder.METRICS, system=False)
        self._points(folder.SYSTEM, system=True)
        self._lines(folder.ROWS, "rows", _row)
        self._lines(folder.CONSOLE, "lines", _line)
        self._models()
        for where, one in self._all_files():
            self._download(where, one)
        self._finish()
        return Exported(self._id, self._final, "exported")

    def _run_json(self) -> bytes:
        record = self._record | {
            "artifacts": [{**one, "file": folder.place(folder.ARTIFACTS, one["path"])} for one in self._record["artifacts"]]
        }
        record["logged_models"] = [one["id"] for one in record["logged_models"]]
        return folder.dumps(record, indent=1) + b"\n"

    def _all_files(self) -> Iterator[tuple[str, Json]]:
        """(its address without the path, the file) of the run and of its models."""
        for one in self._record["artifacts"]:
            yield f"{API}/runs/{self._id}/artifacts", {**one, "file": folder.place(folder.ARTIFACTS, one["path"])}
        for model in self._record["logged_models"]:
            for one in model["artifacts"]:
                where = f"{API}/logged-models/{segment(model['id'])}/files"
                yield where, {**one, "file": folder.place(f"{_of_model(model)}/files", one["path"])}

    # --- streams

    def _points(self, name: str, *, system: bool) -> None:
        state = self._progress.get(name) or {"parts": 0, "token": None, "ended": False}
        for number in range(state["parts"]):
            path = f"{name}/part-{number:05d}.parquet"
            self._files[path] = folder.digest(self._part / path)
            self._advance(self._points_each, "points")
        while not state["ended"]:
            frames, rows, token = [], 0, state["token"]
            while rows < self._points_each:
                limit = min(PAGE, self._points_each - rows)
                page = self._c.json("GET", f"{self._at}/points", params={"system": system, "limit": limit, "token": token})
                if page["series"]:
                    frames.append(_frame(page["series"]))
                    rows += frames[-1].height
                    self._advance(frames[-1].height, "points")
                if not (token := page["token"]):
                    break
            if frames:
                self._write_frames(f"{name}/part-{state['parts']:05d}.parquet", frames)
                state["parts"] += 1
            state |= {"token": token, "ended": token is None}
            self._progress[name] = state
            with folder.replacing(self._part / PROGRESS) as file:
                file.write(folder.dumps(self._progress))

    def _write_frames(self, path: str, frames: list[polars.DataFrame]) -> None:
        import polars

        with folder.replacing(self._part / path) as file:
            polars.concat(frames).write_parquet(file, compression="zstd")
        self._files[path] = folder.digest(self._part / path)

    def _lines(self, name: str, what: str, form: Callable[[list[Any]], bytes]) -> None:
        count = self._record["counts"][what]
        if not count:
            return
        if (self._part / name).exists():
            self._files[name] = folder.digest(self._part / name)
            self._advance(count, what)
            return
        after = -1
        with folder.replacing(self._part / name) as file:
            while found := self._c.json("GET", f"{self._at}/{what}", params={"after": after})[what]:
                for one in found:
                    file.write(form(one) + b"\n")
                after = found[-1][0]
                self._advance(len(found), what)
        self._files[name] = folder.digest(self._part / name)

    # --- files

    def _models(self) -> None:
        for model in self._record["logged_models"]:
            listed = [{**one, "file": folder.place("files", one["path"])} for one in model["artifacts"]]
            self._write(f"{_of_model(model)}/model.json", folder.dumps({**model, "artifacts": listed}, indent=1) + b"\n")

    def _download(self, where: str, one: Json) -> None:
        path, known = one["file"], (one["size"], one["sha256"])
        target = self._part / path
        if not (target.is_file() and target.stat().st_size == one["size"] and folder.digest(target) == known):
            found, size = hashlib.sha256(), 0
            url = f"{where}/{'/'.join(segment(part) for part in one['path'].split('/'))}"
            with self._c.stream("GET", url, timeout=120.0) as answer, folder.replacing(target) as file:
                for piece in answer.iter_bytes(folder.CHUNK):
                    found.update(piece)
                    size += file.write(piece)
                if (size, found.hexdigest()) != known:
                    raise Invalid(
                        f"{one['path']!r} of run {self._id} is not what the server says it is. Was it changed meanwhile? Try again."
                    )
        self._files[path] = known
        self._advance(one["size"] >> 10, one["path"].rpartition("/")[2])

    def _write(self, path: str, data: bytes) -> None:
        with folder.replacing(self._part / path) as file:
            file.write(data)

    def _finish(self) -> None:
        for path in (folder.RUN, *(f"{_of_model(one)}/model.json" for one in self._record["logged_models"])):
            self._files[path] = folder.digest(self._part / path)
        for file in sorted(self._part.rglob("*"), reverse=True):
            if file.is_dir():
                if not any(file.iterdir()):
                    file.rmdir()
            elif file.relative_to(self._part).as_posix() not in self._files:
                file.unlink()
        self._write(folder.MANIFEST, folder.manifest(self._files) + b"\n")
        old = self._final.with_name(f".{self._id}.old")
        shutil.rmtree(old, ignore_errors=True)
        if self._final.exists():
            self._final.rename(old)
        self._part.rename(self._final)
        shutil.rmtree(old, ignore_errors=True)

    def _advance(self, count: int, message: str) -> None:
        self._done = min(self._done + count, self._total)
        self._tell(self._done, self._total, f"{self._record['name']}: {message}")


def _of_model(model: Json) -> str:
    if "/" in model["id"] or not folder.safe(model["id"]):
        raise Invalid(f"{model['id'][:80]!r} cannot be the name of a folder.")
    return f"{folder.MODELS}/{model['id']}"


def _frame(series: list[Json]) -> polars.DataFrame:
    import polars

    columns: dict[str, list[Any]] = {"key": [], "step": [], "timestamp_ms": [], "value": []}
    for one in series:
        columns["key"] += [one["key"]] * len(one["steps"])
        columns["step"] += one["steps"]
        columns["timestamp_ms"] += one["times"]
        columns["value"] += [float(value) for value in one["values"]]
    kinds = {"key": polars.String, "step": polars.Int64, "timestamp_ms": polars.Int64, "value": polars.Float64}
    return polars.DataFrame(columns, schema=kinds)


def _row(one: list[Any]) -> bytes:
    step, text = one
    return f'{{"_step": {step}{", " if text[1:] != "}" else ""}{text[1:]}'.encode()


def _line(one: list[Any]) -> bytes:
    return folder.dumps(dict(zip(("number", "level", "time", "text"), one, strict=True)))
