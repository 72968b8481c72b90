"""An exported folder as what can be brought in. Nothing is read of it that its manifest does not vouch for."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetrain.errors import Invalid, NotFound
from drivetrain.portable import folder
from drivetrain.portable.bring import Columns, ConsoleLine, File, LoggedModel, Row

if TYPE_CHECKING:
    import polars

Json = dict[str, Any]


def find(path: Path) -> list[Path]:
    """The exported runs in a folder: itself, or those right below it. Raises `NotFound`."""
    if folder.is_export(path):
        return [path]
    below = [Path(one.path) for one in os.scandir(path) if one.is_dir(follow_symlinks=False)] if path.is_dir() else []
    found = sorted(one for one in below if folder.is_export(one) and not one.name.startswith("."))
    if not found:
        raise NotFound(f"There is no exported run in {path}: it has a {folder.MANIFEST}, or folders that have one.")
    return found


class ExportedRun:
    """`verify` first: it raises `Invalid` where a file is not what the manifest says."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listed = folder.read_manifest(root)
        self.record = self._json(folder.RUN)
        for name, kind in (("id", str), ("name", str), ("counts", dict), ("artifacts", list), ("logged_models", list), ("start_ms", int)):
            if not isinstance(self.record.get(name), kind):
                raise Invalid(f"{root / folder.RUN} has no {name!r}: copy the folder again.")
        self.digest = hashlib.sha256(folder.regular(root, folder.MANIFEST).read_bytes()).hexdigest()
        self.size = sum(count for count in self.record["counts"].values() if isinstance(count, int))
        self.files: Sequence[File] = self._files(self.record["artifacts"], "")
        self.models: Sequence[LoggedModel] = [self._model(str(one)) for one in self.record["logged_models"]]

    def verify(self, tell: Callable[[int, int, str], None] | None = None) -> None:
        total, done = sum(size for size, _ in self._listed.values()), 0
        for path, known in self._listed.items():
            file = folder.regular(self.root, path)
            if file.stat().st_size != known[0] or folder.digest(file) != known:
                raise Invalid(f"{path!r} in {self.root} is not what was exported: its checksum differs. Copy the folder again.")
            done += known[0]
            if tell is not None:
                tell(done, total, f"checking {path}")

    def points(self) -> Iterator[Columns]:
        import polars

        kinds = {"key": polars.String, "step": polars.Int64, "timestamp_ms": polars.Int64, "value": polars.Float64}
        for path in sorted(self._listed):
            if path.startswith((f"{folder.METRICS}/", f"{folder.SYSTEM}/")) and path.endswith(".parquet"):
                try:
                    frame = polars.read_parquet(folder.regular(self.root, path), memory_map=False)
                except polars.exceptions.PolarsError as error:
                    raise Invalid(f"{path!r} in {self.root} cannot be read: {error}") from None
                if dict(frame.schema) != kinds or any(frame.null_count().row(0)):
                    raise Invalid(f"{path!r} in {self.root} has other columns than {', '.join(kinds)}, or gaps in them.")
                for start in range(0, frame.height, 100_000):
                    yield from _columns(frame.slice(start, 100_000))

    def rows(self) -> Iterator[Row]:
        for one in self._lines(folder.ROWS):
            step = one.pop("_step", None)
            if not isinstance(step, int):
                raise Invalid(f"A line of {folder.ROWS} in {self.root} has no _step.")
            yield step, json.dumps(one)

    def lines(self) -> Iterator[ConsoleLine]:
        for one in self._lines(folder.CONSOLE):
            number = one.get("number")
            if not isinstance(number, int):
                raise Invalid(f"A line of {folder.CONSOLE} in {self.root} has no number.")
            yield number, str(one.get("level", "")), str(one.get("time", "")), str(one.get("text", ""))

    def _lines(self, name: str) -> Iterator[Json]:
        if name not in self._listed:
            return
        with folder.regular(self.root, name).open("rb") as file:
            for line in file:
                try:
                    found = json.loads(line)
                except (ValueError, RecursionError):
                    found = None
                if not isinstance(found, dict):
                    raise Invalid(f"A line of {name} in {self.root} is no JSON object.")
                yield found

    def _json(self, path: str) -> Json:
        if path not in self._listed:
            raise Invalid(f"The manifest of {self.root} does not list {path!r}.")
        return folder.read_json(folder.regular(self.root, path))

    def _files(self, listed: Any, below: str) -> list[File]:
        found = []
        for one in listed if isinstance(listed, list) else ():
            if not isinstance(one, dict) or not isinstance(one.get("path"), str) or not isinstance(one.get("file"), str):
                raise Invalid(f"{self.root} lists a file without path and place.")
            place = below + one["file"]
            if place not in self._listed:
                raise Invalid(f"The manifest of {self.root} does not list {place[:80]!r}.")
            size, sha256 = self._listed[place]
            found.append(File(one["path"], folder.regular(self.root, place), size, sha256))
        return found

    def _model(self, model_id: str) -> LoggedModel:
        record = self._json(f"{folder.MODELS}/{model_id}/model.json")
        return LoggedModel(record, self._files(record.get("artifacts"), f"{folder.MODELS}/{model_id}/"))


def _columns(frame: polars.DataFrame) -> Iterator[Columns]:
    for part in frame.partition_by("key", maintain_order=True):
        yield part["key"][0], part["step"].to_list(), part["timestamp_ms"].to_list(), part["value"].to_list()
