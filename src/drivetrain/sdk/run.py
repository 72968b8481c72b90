"""A run in the script that trains. `log()` puts a record into memory and returns; a thread writes it to the run's folder."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from drivetrain.client.discovery import find
from drivetrain.errors import Invalid
from drivetrain.sdk import environment, spool, system
from drivetrain.sdk.frame import To, history
from drivetrain.tags import LABEL

MAX_BUFFER = 1_000_000
WRITE_SECONDS = 0.1
SYSTEM_SECONDS = 10.0
Json = dict[str, Any]


class Run:
    """Made by `init`. As a context manager it is FINISHED, or FAILED where an exception leaves the block."""

    def __init__(self, run_id: str, folder: Path, url: str, *, resumed: bool) -> None:
        self.id = run_id
        self.folder = folder
        self.url = url
        self.config = Values(self, "config")
        self.summary = Values(self, "summary")
        self.bad = 0
        """Values that could not be logged."""
        self._step = 0
        # Steps of a resumed run that nobody named count from where it was. The sender knows that: training does not wait for the server.
        self._counted: Literal["points", "more points"] = "more points" if resumed else "points"
        self._buffer: deque[tuple[str, int, int, Any]] = deque()
        self._descriptor = os.open(folder / "records", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._pid = os.getpid()
        self._writing = threading.Lock()
        self._stop = threading.Event()
        self._warned = False
        self._finished = False
        self._sender: subprocess.Popen[bytes] | None = None
        self._threads = [threading.Thread(target=one, name="drivetrain-run", daemon=True) for one in (self._write, self._measure)]
        for thread in self._threads:
            thread.start()

    def log(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers at a step (the next one by default). It never waits and never raises."""
        try:
            if step is None:
                step = self._step
            else:
                step = int(step)
                self._counted = "points"
            self._step = step + 1
            # A copy, and numbers at once: what is given here may be changed by the next step.
            kept = {k: v if type(v) is float or type(v) is int else _number(v) for k, v in values.items()}
        except Exception:  # noqa: BLE001  whatever is wrong with what was given, training goes on
            self._spoilt()
            return
        self._put(self._counted, step, kept)

    def tag(self, *names: str, **values: Any) -> None:
        """Label the run: `run.tag("baseline", owner="anna")`."""
        self._put("tags", 0, {f"{LABEL}{name}": "" for name in names} | {key: str(value) for key, value in values.items()})

    def log_artifact(self, path: str | Path, name: str | None = None) -> None:
        """Keep a file or folder with the run. It is copied, so it may change afterwards."""
        path = Path(path)
        if not path.exists():
            raise Invalid(f"There is no file {path}.", param="path")
        files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
        for file in files:
            inner = "" if path.is_file() else f"/{file.relative_to(path).as_posix()}"
            copy = uuid.uuid4().hex
            shutil.copyfile(file, self.folder / "files" / copy)
            self._put("file", 0, {"file": copy, "name": f"{name or path.resolve().name}{inner}"})

    def history(self, key: str, *, to: To | None = None) -> Any:
        """The points of a metric that have reached the server, as a frame."""
        return history(self.id, key, to=to)

    def finish(self, status: Literal["FINISHED", "FAILED", "KILLED"] = "FINISHED", *, timeout: float = 10.0) -> None:
        """End the run, and wait for what is left to be sent: `timeout` seconds at most, then it is sent without this process."""
        if self._finished or os.getpid() != self._pid:
            return
        self._finished = True
        self._buffer.append(("end", 0, time.time_ns(), {"status": status, "end_ms": time.time_ns() // 1_000_000}))
        self._stop.set()
        with contextlib.suppress(RuntimeError):
            self._threads[0].join(timeout)
        self._flush()
        with contextlib.suppress(OSError):
            os.fsync(self._descriptor)
        os.close(self._descriptor)
        _current.discard(self)
        if self.bad:
            print(f"drivetrain: {self.bad} values of run {self.id} could not be logged", file=sys.stderr)
        if self._sender is None:
            print(f"drivetrain: the run is in {self.folder}; send it with: drivetrain runs sync", file=sys.stderr)
            return
        try:
            left = self._sender.wait(timeout) != 0
        except subprocess.TimeoutExpired:
            left = True
            self._sender.returncode = 0  # it goes on by itself; Popen must not warn of it
        if left:
            print(f"drivetrain: not all is sent yet. The sender goes on alone; else: drivetrain runs sync {self.folder}", file=sys.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.finish("FINISHED" if kind is None else "FAILED")

    def start_sender(self) -> None:
        self._sender = start_sender(self.folder, self.url)

    def _put(self, kind: str, step: int, values: Mapping[str, Any] | str) -> None:
        if os.getpid() != self._pid:
            return  # a forked child: the run is its parent's
        if self._finished or len(self._buffer) >= MAX_BUFFER:
            self._spoilt()
            return
        self._buffer.append((kind, step, time.time_ns(), values))

    def _spoilt(self) -> None:
        self.bad += 1
        if not self._warned:
            self._warned = True
            print("drivetrain: a value could not be logged (not a number, or the run has ended); more are only counted", file=sys.stderr)

    def _write(self) -> None:
        while not self._stop.wait(WRITE_SECONDS):
            self._flush()

    def _flush(self) -> None:
        with self._writing:
            records: list[Json] = []
            while self._buffer and len(records) < MAX_BUFFER:
                kind, step, now, values = self._buffer.popleft()
                if kind in spool.POINTS:
                    if step.bit_length() > 63:
                        self._spoilt()
                        continue
                    # An integer that no JSON number holds would spoil the whole batch.
                    numbers = {key: _number(v) if type(v) is int and v.bit_length() > 63 else v for key, v in values.items()}
                    kept = {_key(str(key)): value for key, value in numbers.items() if value is not None}
                    for _ in range(len(values) - len(kept)):
                        self._spoilt()
                    values = kept
                records.append({"k": kind, "t": now // 1_000_000, "s": step, "v": values})
            if not records:
                return
            try:
                spool.write_all(self._descriptor, records)
            except (OSError, ValueError, TypeError) as error:
                self.bad += len(records)
                print(f"drivetrain: records could not be written to {self.folder}: {error}", file=sys.stderr)

    def _measure(self) -> None:
        while not self._stop.wait(SYSTEM_SECONDS):
            try:
                self._put(self._counted, self._step, system.measure())
            except Exception as error:  # noqa: BLE001  measuring must not end with one bad moment
                print(f"drivetrain: the machine could not be measured: {error}", file=sys.stderr)
                return


class Values(dict[str, Any]):
    """`run.config` and `run.summary`: a dictionary whose changes are logged."""

    def __init__(self, run: Run, kind: str) -> None:
        super().__init__()
        self._run = run
        self._kind = kind

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._changed()

    def update(self, *args: Any, **kwargs: Any) -> None:
        super().update(*args, **kwargs)
        self._changed()

    def _changed(self) -> None:
        self._run._put(self._kind, 0, _plain(self))


class _Current:
    """The runs that this process has open, the newest last."""

    def __init__(self) -> None:
        self.runs: list[Run] = []

    def discard(self, run: Run) -> None:
        if run in self.runs:
            self.runs.remove(run)

    def finish(self) -> None:
        status: Literal["FINISHED", "FAILED"] = "FAILED" if getattr(sys, "last_value", None) is not None else "FINISHED"
        for run in reversed(list(self.runs)):
            run.finish(status)


_current = _Current()


def init(
    project: str = "Default",
    name: str | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    tags: Sequence[str] | Mapping[str, Any] = (),
    resume: str | None = None,
    mode: Literal["online", "offline"] = "online",
) -> Run:
    """Begin a run in an experiment (made if it is not there), or go on with the run whose id is `resume`."""
    if mode not in ("online", "offline"):
        raise Invalid(f"mode={mode!r}: use 'online' or 'offline'.", param="mode")
    if resume is not None and not re.fullmatch(r"[0-9a-f]{32}", resume):
        raise Invalid(f"resume={resume!r} is no id of a run: those have 32 hex digits.", param="resume")
    import psutil

    run_id, root, url = resume or uuid.uuid4().hex, spool.outbox(), find().url
    folder = root / f"{time.strftime('%Y%m%d-%H%M%S')}-{run_id}-{os.getpid()}"
    (folder / "files").mkdir(parents=True, mode=0o700)
    waiting = [one for one in spool.folders(root) if one != folder] if mode == "online" else []
    meta = {
        "run": run_id,
        "experiment": project,
        "name": name,
        "tags": {} if resume else environment.tags(),
        "start_ms": time.time_ns() // 1_000_000,
        "pid": os.getpid(),
        "born": psutil.Process().create_time(),
        "url": url,
        "mode": mode,
    }
    spool.replace(folder / "meta.json", json.dumps(meta))
    run = Run(run_id, folder, url, resumed=resume is not None)
    if not _current.runs:
        atexit.unregister(_current.finish)
        atexit.register(_current.finish)
    _current.runs.append(run)
    if config:
        run.config.update(config)
    run.tag(*([] if isinstance(tags, Mapping) else tags), **(tags if isinstance(tags, Mapping) else {}))
    if resume:
        run._put("status", 0, "RUNNING")
    else:
        for file, text in (("git.diff", environment.diff()), ("requirements.txt", environment.requirements())):
            if text:
                (folder / "files" / file).write_text(text)
                run._put("file", 0, {"file": file, "name": file})
    if mode == "online":
        run.start_sender()
        for one in waiting:
            _send_leftover(one, url)
    return run


def log(values: Mapping[str, Any], step: int | None = None) -> None:
    """`Run.log` of the run that was begun last."""
    if _current.runs:
        _current.runs[-1].log(values, step)


def start_sender(folder: Path, url: str) -> subprocess.Popen[bytes]:
    """In a session of its own: it survives what happens to the training."""
    with (folder / "sender.log").open("ab") as errors:
        command = [sys.executable, "-m", "drivetrain.sdk.sender", str(folder), url]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, start_new_session=True)


def _send_leftover(folder: Path, url: str) -> None:
    """What an earlier run could not send to this server; runs that were logged offline wait until they are asked for."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        meta = spool.load(folder)
        if meta["mode"] == "online" and meta["url"] == url and not spool.alive(meta):
            start_sender(folder, url).returncode = 0  # nobody waits for it


def _number(value: Any) -> float | None:
    """Of whatever can be one: scalars of numpy and torch too."""
    if isinstance(value, str | bytes):
        return None
    try:
        return float(value)
    except Exception:  # noqa: BLE001  any object may come, and raise what it likes
        return None


def _key(text: str) -> str:
    """A key that the server takes."""
    text = re.sub(r"[^/\w.\- :]", "_", text)
    return re.sub(r"\.\.+", ".", re.sub(r"//+", "/", text)).strip("/")[:250] or "_"


def _plain(value: Any) -> Any:
    """As JSON can say it."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(one) for one in value]
    number = _number(value)
    return str(value) if number is None else number
