"""What the records of a wandb run say, put together as its client sends it: one pass over the file, in bounded memory."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import yaml

from drivetrain.errors import Invalid
from drivetrain.portable.terminal import Numbers, Terminal
from drivetrain.portable.wandb_log import Fields, Log, fields, message, messages, seconds, text, texts, whole

Json = dict[str, Any]
MAX_CHUNK = 4 << 20
MAX_LINES = 5000
HISTORY, SUMMARY, CONFIG, STATS, ARTIFACT, TELEMETRY, METRIC, OUTPUT = 2, 3, 5, 7, 8, 11, 12, 13
RUN, EXIT, USE_ARTIFACT, ENVIRONMENT = 17, 18, 25, 26
_STDERR = 0


@dataclass(slots=True)
class Chunk:
    """File name → (number of the first line, lines), as one message of a running client has them."""

    files: dict[str, tuple[int, list[str]]] = field(default_factory=dict)


class Records:
    """`begin`, then all of `stream`, then `end`; `summary`, artifacts, times and exit code are complete after that."""

    def __init__(self, log: Log) -> None:
        self._records = self._parsed(log)
        self.name = log.path.stem
        self.read = 0
        self.warnings: list[str] = []
        self.summary: Json = {}
        self.exit_code: int | None = None
        self.start_ms: int | None = None
        self.end_ms: int | None = None
        self._config: Json = {}
        self._private: Json = {}
        self._metrics: dict[str, Json] = {}
        self._environment: Json = {}
        self._numbers = Numbers()
        self._terminals = {0: Terminal(self._numbers), 1: Terminal(self._numbers)}
        self._chunk: dict[str, list[tuple[int, str]]] = {}
        self._held = 0
        self._events = 0
        self._last = 0.0
        self._start = 0.0
        self.artifacts: list[Fields] = []
        self._used = 0

    def begin(self) -> Json:
        """What is said of the run when it begins. Raises `Invalid` if the file does not say it."""
        for one in self._records:
            if RUN in one:
                return self._run(message(one, RUN))
            self._take(one)
        raise Invalid("The file holds no run: its client was killed before it wrote anything.")

    def stream(self) -> Iterator[Chunk]:
        for one in self._records:
            self._take(one)
            if self._held > MAX_CHUNK or sum(map(len, self._chunk.values())) >= MAX_LINES:
                yield from self._flush()
        for terminal, level in ((self._terminals[0], "error"), (self._terminals[1], "")):
            for number, time, line in terminal.rest():
                self._line(number, time, line, level)
        yield from self._flush()

    def end(self) -> Json:
        """What is said of the run when it has ended: the config as it is then."""
        if self.end_ms is None and self._last:
            self.end_ms = int(self._last * 1000)
        if self._used:
            self.warnings.append(f"it used {self._used} artifacts of another server: that was not imported")
        program = self._environment.get("program")
        return {"config": self._config_text(), **({"jobProgram": program} if program else {})}

    def made_files(self) -> dict[str, bytes]:
        """The files that a client makes at the end."""
        config = json.loads(self._config_text())
        found = {
            "config.yaml": yaml.safe_dump(config, allow_unicode=True).encode(),
            "wandb-summary.json": json.dumps(self.summary).encode(),
        }
        if self._environment:
            found["wandb-metadata.json"] = json.dumps(self._environment, indent=2).encode()
        return found

    # --- records

    def _parsed(self, log: Log) -> Iterator[Fields]:
        for data in log.records():
            self.read += len(data)
            try:
                yield fields(data)
            except Invalid:
                log.damaged += 1

    def _take(self, one: Fields) -> None:
        try:
            self._take_whole(one)
        except (ValueError, RecursionError, Invalid) as error:
            if len(self.warnings) < 20:
                self.warnings.append(f"a record was left out: {error}")

    def _take_whole(self, one: Fields) -> None:
        if HISTORY in one:
            self._history(message(one, HISTORY))
        elif SUMMARY in one:
            _merge(self.summary, message(one, SUMMARY))
        elif STATS in one:
            self._stats(message(one, STATS))
        elif OUTPUT in one:
            self._print(message(one, OUTPUT))
        elif CONFIG in one:
            _merge(self._config, message(one, CONFIG))
        elif TELEMETRY in one:
            self._telemetry(message(one, TELEMETRY))
        elif METRIC in one:
            self._metric(message(one, METRIC))
        elif ENVIRONMENT in one:
            self._environment |= _environment(message(one, ENVIRONMENT))
        elif EXIT in one:
            found = message(one, EXIT)
            self.exit_code = whole(found, 1)
            if self._start:
                self._last = max(self._last, self._start + whole(found, 2))
        elif ARTIFACT in one:
            self.artifacts.append(message(one, ARTIFACT))
        elif USE_ARTIFACT in one:
            self._used += 1
        elif RUN in one:
            self._run(message(one, RUN))

    def _run(self, run: Fields) -> Json:
        self._start = seconds(run, 17) or self._start
        self.start_ms = int(self._start * 1000) if self._start else None
        self._last = max(self._last, self._start)
        _merge(self._config, message(run, 4))
        _merge(self.summary, message(run, 5))
        self._telemetry(message(run, 19))
        git = message(run, 21)
        self.name = text(run, 8) or text(run, 1)
        found: Json = {
            "name": text(run, 1),
            "modelName": text(run, 3),
            "groupName": text(run, 6),
            "jobType": text(run, 7),
            "displayName": text(run, 8),
            "notes": text(run, 9),
            "sweep": text(run, 12),
            "host": text(run, 13),
            "commit": text(git, 2),
            "jobRepo": text(git, 1),
        }
        return {key: value for key, value in found.items() if value} | {"tags": texts(run, 10), "config": self._config_text()}

    def _history(self, history: Fields) -> None:
        row: Json = {}
        for item in messages(history, 1):
            _set(row, _path(item), _typed(item))
        if "_step" not in row and 2 in history:
            row["_step"] = whole(message(history, 2), 1)
        stamp = row.get("_timestamp")
        if isinstance(stamp, float | int):
            self._last = max(self._last, stamp)
        self._hold("wandb-history.jsonl", 0, json.dumps(row))

    def _stats(self, stats: Fields) -> None:
        row: Json = {"_wandb": True}
        for item in messages(stats, 3):
            row[f"system.{text(item, 1)}"] = json.loads(text(item, 16))
        stamp = seconds(stats, 2)
        if stamp is not None:
            row |= {"_timestamp": stamp, "_runtime": stamp - self._start}
            self._last = max(self._last, stamp)
        self._hold("wandb-events.jsonl", self._events, json.dumps(row))
        self._events += 1

    def _print(self, output: Fields) -> None:
        kind = whole(output, 1)
        time = seconds(output, 2) or self._last
        terminal = self._terminals[0 if kind == _STDERR else 1]
        for number, when, line in terminal.write(text(output, 3), time):
            self._line(number, when, line, "error" if kind == _STDERR else "")

    def _line(self, number: int, time: float, line: str, level: str) -> None:
        when = datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
        said = {"level": level} if level else {}
        self._hold("output.log", number, json.dumps({**said, "ts": when, "content": line}))

    def _telemetry(self, telemetry: Fields) -> None:
        """As the client encodes it: field numbers. A run without it would be taken for one that has not begun."""
        known: Json = self._private.setdefault("t", {})
        for number, values in telemetry.items():
            if number in (1, 2, 3, 6, 8, 9, 10, 11) and isinstance(values[-1], bytes):
                on = [one for one, value in fields(values[-1]).items() if value[-1] == 1]
                if on:
                    known[str(number)] = sorted({*known.get(str(number), []), *on})
            elif isinstance(values[-1], bytes):
                known[str(number)] = text(telemetry, number)
        if python := text(telemetry, 4):
            self._private["python_version"] = python
        if version := text(telemetry, 5):
            self._private["cli_version"] = version
            known.setdefault("12", version)

    def _metric(self, metric: Fields) -> None:
        name = text(metric, 1) or text(metric, 2)
        found: Json = {"1": name} if text(metric, 1) else {"2": name}
        steps = text(metric, 4)
        if steps:
            if steps not in self._metrics:
                self._metrics[steps] = {"1": steps, "6": [3]}
            found["5"] = 1 + list(self._metrics).index(steps)
        for number in (6, 7):
            if on := sorted(one for one, value in message(metric, number).items() if value[-1] == 1):
                found[str(number)] = on
        if goal := whole(metric, 8):
            found["8"] = goal
        self._metrics[name] = self._metrics.get(name, {}) | found

    # --- what is sent

    def _config_text(self) -> str:
        found: Json = {key: {"value": value} for key, value in self._config.items() if key != "_wandb"}
        own = self._config.get("_wandb")
        private = (own if isinstance(own, dict) else {}) | self._private | {"m": list(self._metrics.values())}
        return json.dumps({**found, "_wandb": {"value": private}})

    def _hold(self, name: str, number: int, line: str) -> None:
        self._chunk.setdefault(name, []).append((number, line))
        self._held += len(line)

    def _flush(self) -> Iterator[Chunk]:
        if any(self._chunk.values()):
            # Lines of two streams come out of order: each stretch of numbers that follow each other is a chunk of its own.
            output = sorted(self._chunk.pop("output.log", []))
            yield Chunk({name: (lines[0][0], [line for _, line in lines]) for name, lines in self._chunk.items() if lines})
            while output:
                end = next((n for n in range(1, len(output)) if output[n][0] != output[n - 1][0] + 1), len(output))
                yield Chunk({"output.log": (output[0][0], [line for _, line in output[:end]])})
                output = output[end:]
        self._chunk, self._held = {}, 0


def _path(item: Fields) -> list[str]:
    return texts(item, 2) or [text(item, 1)]


def _set(into: Json, path: list[str], value: Any) -> None:
    for key in path[:-1]:
        below = into.get(key)
        if not isinstance(below, dict):
            below = into[key] = {}
        into = below
    into[path[-1]] = value


def _merge(into: Json, record: Fields) -> None:
    """A record of config or summary: updates, then what goes."""
    for item in messages(record, 1):
        _set(into, _path(item), json.loads(text(item, 16)))
    for item in messages(record, 2):
        *above, last = _path(item)
        at: Any = into
        for key in above:
            at = at.get(key) if isinstance(at, dict) else None
        if isinstance(at, dict):
            at.pop(last, None)


def _typed(item: Fields) -> Any:
    if 16 in item:
        return json.loads(text(item, 16))
    if 8 in item:
        return json.loads(text(item, 8))
    if 7 in item:
        return text(item, 7)
    if 6 in item and isinstance(raw := item[6][-1], bytes):
        return struct.unpack("<d", raw)[0]
    if 5 in item:
        coded = whole(item, 5) & ((1 << 64) - 1)
        return (coded >> 1) ^ -(coded & 1)
    if 4 in item:
        return bool(whole(item, 4))
    return None


_TEXTS = {
    1: "os",
    2: "python",
    4: "docker",
    6: "program",
    7: "codePath",
    8: "codePathLocal",
    10: "email",
    11: "root",
    12: "host",
    13: "username",
    14: "executable",
    15: "colab",
    18: "gpu",
    25: "cudaVersion",
    199: "writerId",
}
_COUNTS = {16: "cpu_count", 17: "cpu_count_logical", 19: "gpu_count"}


def _environment(found: Fields) -> Json:
    """wandb-metadata.json, with the names that it has there."""
    known: Json = {name: text(found, number) for number, name in _TEXTS.items() if number in found}
    known |= {name: whole(found, number) for number, name in _COUNTS.items() if number in found}
    if (began := seconds(found, 3)) is not None:
        known["startedAt"] = datetime.fromtimestamp(began, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if 5 in found:
        known["args"] = texts(found, 5)
    if git := message(found, 9):
        known["git"] = {"remote": text(git, 1), "commit": text(git, 2)}
    disks = {}
    for entry in messages(found, 20):
        disk = message(entry, 2)
        disks[text(entry, 1)] = {"total": str(whole(disk, 1)), "used": str(whole(disk, 2))}
    if disks:
        known["disk"] = disks
    if 21 in found:
        known["memory"] = {"total": str(whole(message(found, 21), 1))}
    if 22 in found:
        known["cpu"] = {"model": text(message(found, 22), 1)}
    return known
