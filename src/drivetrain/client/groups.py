"""Verbs of the native API by what they are about. They take and return plain JSON values."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from drivetrain.client.http import Connection, Json
from drivetrain.client.push import segment
from drivetrain.errors import Unavailable

API = "/api/v1"
GIVE_UP = 4
"""A replica that was started so often in vain will fail again."""
ENDED = frozenset({"succeeded", "failed", "cancelled"})


class Group:
    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def _list(self, path: str, key: str, **params: Any) -> list[Json]:
        answer = self._c.json("GET", API + path, params=params)
        found: list[Json] = answer[key] if isinstance(answer, dict) else answer
        return found

    def _one(self, method: str, path: str, body: object = None, **params: Any) -> Json:
        answer: Json = self._c.json(method, API + path, body, params=params)
        return answer


class Models(Group):
    """The registry. `name` is a slug or display name; `kind` is model, dataset, space, artifact or prompt."""

    def list(self, *, kind: str = "model") -> list[Json]:
        return self._list("/repos", "repos", kind=kind)

    def get(self, name: str, *, kind: str = "model") -> Json:
        return self._one("GET", f"/repos/{segment(name)}", kind=kind)

    def create(self, name: str, *, kind: str = "model", description: str = "") -> Json:
        return self._one("POST", "/repos", {"name": name, "kind": kind, "description": description})

    def delete(self, name: str, *, kind: str = "model") -> None:
        self._one("DELETE", f"/repos/{segment(name)}", kind=kind)

    def versions(self, name: str) -> Sequence[Json]:
        return self._list(f"/repos/{segment(name)}/versions", "versions")

    def version(self, name: str, number: int) -> Json:
        return self._one("GET", f"/repos/{segment(name)}/versions/{number}")

    def delete_version(self, name: str, number: int, *, kind: str = "model") -> None:
        self._one("DELETE", f"/repos/{segment(name)}/versions/{number}", kind=kind)

    def files(self, name: str, *, ref: str = "latest", kind: str = "model") -> Json:
        return self._one("GET", f"/repos/{segment(name)}/files", ref=ref, kind=kind)

    def download(self, name: str, path: str, target: Path, *, ref: str = "latest", kind: str = "model") -> int:
        """Write one file of the repo to `target`; its size in bytes."""
        url = f"{API}/repos/{segment(name)}/files/{'/'.join(segment(part) for part in path.split('/'))}"
        size = 0
        with self._c.stream("GET", url, params={"ref": ref, "kind": kind}) as answer, target.open("wb") as file:
            for chunk in answer.iter_bytes(1 << 20):
                size += file.write(chunk)
        return size

    def set_alias(self, name: str, alias: str, version: int) -> None:
        self._one("PUT", f"/repos/{segment(name)}/aliases/{segment(alias)}", {"version": version})

    def delete_alias(self, name: str, alias: str) -> None:
        self._one("DELETE", f"/repos/{segment(name)}/aliases/{segment(alias)}")

    def resolve(self, name: str) -> Json:
        """What a name in any protocol's form means: repo, version, commit."""
        return self._one("GET", "/resolve", name=name)


class Deployments(Group):
    """Named endpoints."""

    def list(self) -> list[Json]:
        return self._list("/deployments", "deployments")

    def get(self, name: str) -> Json:
        return self._one("GET", f"/deployments/{segment(name)}")

    def checklist(self, name: str) -> Json:
        """What production asks of it: `ready`, and `lines` with the command that mends each."""
        return self._one("GET", f"/deployments/{segment(name)}/checklist")

    def deploy(
        self,
        name: str,
        source: str,
        *,
        wait: bool = False,
        timeout: float = 600.0,
        watch: Callable[[Json], None] | None = None,
        **options: Any,
    ) -> Json:
        """Put `source` (any name of a model) live under `name`. `options`: engine, options, min_replicas, max_replicas, capture.

        With `wait`, return when the new variant is ready; raises `Unavailable` with the reason if it cannot start.
        """
        made = self._one("POST", "/deployments", {"name": name, "source": source, **options})
        return self.wait(name, timeout=timeout, watch=watch) if wait else made

    def wait(self, name: str, *, timeout: float = 600.0, watch: Callable[[Json], None] | None = None) -> Json:
        """Wait until the newest variant answers. Raises `Unavailable` if it fails again and again, or does not in time."""
        end = time.monotonic() + timeout
        while True:
            shown = self.get(name)
            if watch is not None:
                watch(shown)
            ready, problem = _newest(shown)
            if ready:
                return shown
            if problem is not None:
                raise Unavailable(f"{name} does not start: {problem or 'the log of its replica says why'}")
            if time.monotonic() > end:
                raise Unavailable(f"{name} is not ready after {timeout:.0f} s. Look again with: drivetrain ps")
            time.sleep(0.1)

    def delete(self, name: str) -> None:
        self._one("DELETE", f"/deployments/{segment(name)}")

    def scale(self, name: str, *, min_replicas: int, max_replicas: int) -> Json:
        return self._one("POST", f"/deployments/{segment(name)}/scale", {"min_replicas": min_replicas, "max_replicas": max_replicas})

    def restart(self, name: str) -> Json:
        return self._one("POST", f"/deployments/{segment(name)}/restart")


def _newest(deployment: Json) -> tuple[bool, str | None]:
    """(whether the newest variant is ready, why it will not be)."""
    live = [variant for variant in deployment["variants"] if variant.get("retired_ms") is None]
    variant = max(live, key=lambda one: int(one["created_ms"]), default=None)
    if variant is None:
        return False, "it was deleted"
    replicas = [replica for replica in deployment["replicas"] if replica["variant_id"] == variant["id"]]
    if any(replica["state"] == "ready" for replica in replicas) or (not replicas and variant["min_replicas"] == 0):
        return True, None
    given_up = [one for one in replicas if one["state"] == "failed" or int(one.get("restarts") or 0) >= GIVE_UP]
    return False, str(given_up[0].get("message") or "") if given_up else None


class Runs(Group):
    """Runs of experiments."""

    def list(
        self,
        *,
        experiment: str | None = None,
        filter: str | None = None,  # noqa: A002
        limit: int = 50,
        deleted: bool = False,
    ) -> list[Json]:
        """The newest runs; `filter` is in mlflow's grammar. `deleted`: those that were deleted and can be restored."""
        view = "deleted" if deleted else "active"
        return self._list("/runs", "runs", experiment=experiment, filter=filter, limit=limit, view=view)

    def get(self, run_id: str) -> Json:
        return self._one("GET", f"/runs/{segment(run_id)}")

    def delete(self, run_id: str) -> None:
        """Hide a run. It can be restored until it is deleted for good."""
        self._one("DELETE", f"/runs/{segment(run_id)}")

    def restore(self, run_id: str) -> None:
        self._one("POST", f"/runs/{segment(run_id)}/restore")

    def console(self, run_id: str, *, after: int = -1, limit: int = 1000, last: bool = False) -> Sequence[Json]:
        """Lines that the run has printed, with a greater number than `after`; `last`: the last of them."""
        asked = {"after": after, "limit": limit, "last": "true" if last else None}
        return self._list(f"/runs/{segment(run_id)}/console", "lines", **asked)


class Requests(Group):
    """Answers that the gateway gave, by their `x-request-id`."""

    def recent(self, *, deployment: str | None = None, limit: int = 50, errors: bool = False) -> list[Json]:
        return self._list("/events", "events", deployment=deployment, limit=limit, errors_only="true" if errors else None)

    def lineage(self, request_id: str) -> Json:
        """Answer → variant → version → run → data: everything behind one answer."""
        return self._one("GET", f"/requests/{segment(request_id)}/lineage")

    def feedback(self, request_id: str) -> Sequence[Json]:
        return self._list(f"/requests/{segment(request_id)}/feedback", "feedback")

    def add_feedback(
        self,
        request_id: str,
        name: str,
        value: str | float | bool | None,
        *,
        kind: str = "feedback",
        source: str = "",
        comment: str = "",
    ) -> Json:
        """Say something of an answer: `feedback` is an opinion, a `label` is the right answer."""
        body = {"name": name, "value": value, "kind": kind, "source": source, "comment": comment}
        return self._one("POST", f"/requests/{segment(request_id)}/feedback", body)
