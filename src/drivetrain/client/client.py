"""The client's verbs, in groups: `client.models`, `.deployments`, `.rollouts`, `.jobs`, `.runs`, `.requests`, `.keys`, …"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from drivetrain.answers.server import Health
from drivetrain.client.chat import ChatStream, messages_of
from drivetrain.client.discovery import find
from drivetrain.client.http import Connection, Json
from drivetrain.client.push import Progress, Pushed, collect, push
from drivetrain.client.resources.deletion import Collector
from drivetrain.client.resources.identity import Keys, Secrets, Users, Workspaces
from drivetrain.client.resources.jobs import Jobs
from drivetrain.client.resources.monitoring import Alerts, Monitors
from drivetrain.client.resources.registry import Models
from drivetrain.client.resources.retraining import Retrainings
from drivetrain.client.resources.rollouts import Rollouts
from drivetrain.client.resources.serving import Deployments, Requests
from drivetrain.client.resources.sweeps import Sweeps
from drivetrain.client.resources.tracking import Experiments, Runs


class Client:
    """A client of one server. Without arguments it finds the server by itself: DRIVETRAIN_URL, else the one of the default home.

    `patience`: seconds to wait for a server that does not answer, as while it restarts. `timeout`: of one request, in seconds.
    Raises `DrivetrainError`s: what the server says, or `Unreachable`.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, workspace: str | None = None, patience: float = 0.0, timeout: float = 120.0
    ) -> None:
        found = find()
        # A key that was found belongs to the server that was found.
        self.key = key if key is not None else (found.api_key if url is None or url.rstrip("/") == found.url else "")
        workspace = workspace if workspace is not None else found.workspace
        self.connection = Connection(url or found.url, self.key, workspace, patience=patience, timeout=timeout)
        self.url = self.connection.url
        self.models = Models(self.connection)
        self.deployments = Deployments(self.connection)
        self.rollouts = Rollouts(self.connection)
        self.jobs = Jobs(self.connection)
        self.runs = Runs(self.connection)
        self.experiments = Experiments(self.connection)
        self.gc = Collector(self.connection)
        self.sweeps = Sweeps(self.connection)
        self.requests = Requests(self.connection)
        self.monitors = Monitors(self.connection)
        self.alerts = Alerts(self.connection)
        self.retrainings = Retrainings(self.connection)
        self.keys = Keys(self.connection)
        self.users = Users(self.connection)
        self.workspaces = Workspaces(self.connection)
        self.secrets = Secrets(self.connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self.connection.close()

    def health(self) -> Health:
        """What the server says of itself. Raises `Unreachable`, or `Unavailable` while it starts or stops."""
        return self.connection.answer(Health, "GET", "/health")

    def push(
        self, path: str | Path | Mapping[str, Path], name: str | None = None, *, progress: Progress | None = None, **options: Any
    ) -> Pushed:
        """Import a file or folder (or files by their path) as a commit of the repo `name`, and register it as a version.

        `options`: kind, message, description, source, run_id, tags, register. Only files that the server does not have are sent.
        """
        if isinstance(path, Mapping):
            if name is None:
                raise TypeError("push() of several files needs a name")
            return push(self.connection, path, name, progress=progress, **options)
        path = Path(path).expanduser()
        files = collect(path)
        options.setdefault("source", path.absolute().as_uri())
        options.setdefault("message", f"Import {path.name}")
        return push(self.connection, files, name or (path.stem if path.is_file() else path.resolve().name), progress=progress, **options)

    def chat(self, model: str, prompt: str | Sequence[Json], *, system: str | None = None, **options: Any) -> ChatStream:
        """Ask a deployment or a registered model. Iterate over the answer for its pieces; `.read()` gives all of it.

        `prompt` is a question, or a list of messages; `options` go into the request as they are: max_tokens, temperature, seed, user…
        """
        return ChatStream(self.connection, {**options, "model": model, "messages": messages_of(prompt, system)})
