"""Send a run's folder to the server: `python -m drivetrain.sdk.sender FOLDER`. It outlives the training that started it.

Each batch can be sent twice without harm, and `sent` moves only after the server has confirmed: a kill at any point loses and doubles
nothing. The folder is removed when all of it is there.
"""

from __future__ import annotations

import fcntl
import math
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from drivetrain.client.discovery import find
from drivetrain.client.http import Connection
from drivetrain.errors import DrivetrainError, Invalid, Overloaded, StorageFull, Unavailable, UpstreamFailed
from drivetrain.sdk import spool

MAX_POINTS = 5000
BEAT_SECONDS = 20.0
PATIENCE_SECONDS = 600.0
"""How long a server may be gone after the training has ended; `drivetrain runs sync` sends what is left then."""
Json = dict[str, Any]


class Sender:
    def __init__(self, folder: Path, connection: Connection) -> None:
        self.folder = folder
        self.meta = spool.load(folder)
        self.rejected = 0
        self._c = connection
        self._at = f"/api/v1/runs/{self.meta['run']}"
        self._offset = spool.sent(folder)
        self._made = False
        self._base = 0
        self._ended = spool.ended(folder)
        self._beaten = 0.0

    def follow(self) -> bool:
        """Send until the run has ended and all of it is there; False if the server was gone for too long after the end."""
        pause, gone = 0.1, 0.0
        while True:
            # Looked at first: what was written before the process went is read after.
            alive = spool.alive(self.meta)
            try:
                if self.step() == 0 and (self._ended or not alive):
                    return self.complete(alive)
                pause, gone = 0.1, 0.0
            except (Unavailable, Overloaded, StorageFull, UpstreamFailed):
                gone = gone or time.monotonic()
                if not alive and time.monotonic() - gone > PATIENCE_SECONDS:
                    return False
                pause = min(pause * 2, 10.0)
            time.sleep(pause)

    def drain(self) -> bool:
        """Send what is there now. Whether the run is complete."""
        alive = spool.alive(self.meta)
        while self.step():
            pass
        return self.complete(alive) if self._ended or not alive else False

    def complete(self, alive: bool) -> bool:
        if not self._ended and not alive:
            self._c.json("POST", f"{self._at}/log", {"tags": {"drivetrain.end": "crashed"}}, again=True)
            self._c.json("PATCH", self._at, {"status": "FAILED", "end_ms": _last_ms(self.folder)}, again=True)
        if self.rejected:
            self._c.json("POST", f"{self._at}/log", {"tags": {"drivetrain.rejected": str(self.rejected)}}, again=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        return True

    def step(self) -> int:
        """Send one batch; how many records were in it."""
        if not self._made:
            body = {key: self.meta.get(key) for key in ("experiment", "name", "start_ms", "tags")}
            self._base = self._first_step(self._c.json("PUT", self._at, body, again=True))
            self._made = True
        if time.monotonic() - self._beaten > BEAT_SECONDS and not self._ended:
            self._c.json("POST", f"{self._at}/heartbeat", again=True)
            self._beaten = time.monotonic()
        points: list[Json] = []
        count, offset = 0, self._offset
        for end, record in spool.read(self.folder, self._offset):
            kind = record["k"] if record else ""
            if kind not in spool.POINTS and points:
                break
            count, offset = count + 1, end
            if record is None:
                self.rejected += 1
            elif kind in spool.POINTS:
                step = record["s"] + (self._base if kind == "more points" else 0)
                points += [
                    {"key": key, "value": _number(value), "step": step, "timestamp_ms": record["t"]} for key, value in record["v"].items()
                ]
                if len(points) >= MAX_POINTS:
                    break
            else:
                self._one(kind, record)
                break
        if points:
            self._log(points)
        if offset != self._offset:
            spool.replace(self.folder / "sent", str(offset))
            self._offset = offset
        return count

    def _first_step(self, run: Json) -> int:
        """Asked once, before anything of this folder is sent: later the run's last step is one of these."""
        file = self.folder / "base"
        if not file.exists():
            spool.replace(file, str(0 if run["last_step"] is None else run["last_step"] + 1))
        return int(file.read_text())

    def _log(self, points: list[Json]) -> None:
        """What the server refuses is found by halves; the rest of the batch is logged."""
        try:
            self._c.json("POST", f"{self._at}/log", {"metrics": points}, again=True)
        except Invalid as error:
            if len(points) == 1:
                self._refuse(error, points[0]["key"])
                return
            half = len(points) // 2
            self._log(points[:half])
            self._log(points[half:])

    def _one(self, kind: str, record: Json) -> None:
        value = record["v"]
        try:
            if kind == "tags":
                self._c.json("POST", f"{self._at}/log", {"tags": value}, again=True)
            elif kind == "file":
                file = self.folder / "files" / value["file"]
                with file.open("rb") as content:
                    self._c.json("PUT", f"{self._at}/artifacts/{value['name']}", content=iter(lambda: content.read(1 << 20), b""))
            elif kind == "end":
                self._c.json("PATCH", self._at, value, again=True)
                self._ended = True
            else:
                self._c.json("PATCH", self._at, {kind: _strict(value)}, again=True)
        except Invalid as error:
            self._refuse(error, kind)
        except FileNotFoundError as error:
            self._refuse(error, str(value["name"]))

    def _refuse(self, error: Exception, what: str) -> None:
        self.rejected += 1
        print(f"drivetrain: {what} of run {self.meta['run']} was not taken: {error}", file=sys.stderr, flush=True)


def send(folder: Path, *, follow: bool, url: str | None = None) -> bool:
    """Whether the run is complete now. A folder that another process sends is left to that. Raises `DrivetrainError`s."""
    with (folder / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if not (folder / "meta.json").is_file():
            return True
        found = find()
        key = found.api_key if url in (None, found.url) else ""
        connection = Connection(url or found.url, key, found.workspace, patience=0.0, timeout=60.0)
        try:
            sender = Sender(folder, connection)
            return sender.follow() if follow else sender.drain()
        finally:
            connection.close()


def _last_ms(folder: Path) -> int:
    return int((folder / "records").stat().st_mtime * 1000) if (folder / "records").exists() else int(time.time() * 1000)


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _strict(value: Any) -> Any:
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, dict):
        return {key: _strict(one) for key, one in value.items()}
    return [_strict(one) for one in value] if isinstance(value, list) else value


if __name__ == "__main__":
    try:
        sys.exit(0 if send(Path(sys.argv[1]), follow=True, url=sys.argv[2] if len(sys.argv) > 2 else None) else 1)
    except (DrivetrainError, OSError) as problem:
        print(f"drivetrain: {problem} The run stays in {sys.argv[1]}; send it with: drivetrain runs sync", file=sys.stderr)
        sys.exit(1)
