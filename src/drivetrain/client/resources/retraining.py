"""Retraining: policies, and the retrainings that follow from them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from drivetrain.answers import retraining as answers
from drivetrain.answers.retraining import LiveRetraining, WatchedRetraining
from drivetrain.client.http import Json
from drivetrain.client.push import collect, push, segment
from drivetrain.client.resources.resource import Resource
from drivetrain.errors import NotFound, Unavailable
from drivetrain.retraining.model import Policy, State

ENDED = frozenset({State.rolled_out, State.refused, State.failed, State.cancelled})
SETTLED = ENDED | {State.waiting}
"""States in which nothing more comes by itself soon."""


class Retrainings(Resource):
    """How deployments are trained again by themselves."""

    def set_policy(self, deployment: str, script: str | Path, *, base: str | Path = "", **options: Any) -> Policy:
        """`script`: a Python file or a folder with train.py, which is uploaded; or the name of an artifact repo. `base`: a file or folder,
        which is uploaded; or the name of a dataset repo; or `runs:/RUN/path`. `options`: entry, model, label, days, trigger, gate, plan,
        time_limit."""
        body: Json = {"script": str(script), "base": str(base), **options}
        slug = deployment.replace("/", "-").replace(":", "-")
        if Path(script).exists():
            path = Path(script)
            body["script"] = self._pushed(path, f"{slug}-training", "artifact", f"The training script of {deployment}")
            if path.is_file():
                body.setdefault("entry", path.name)
        if base and Path(base).exists():
            body["base"] = self._pushed(Path(base), f"{slug}-base", "dataset", f"The base data of {deployment}")
        return self._send(Policy, "PUT", f"/deployments/{segment(deployment)}/retraining-policy", body)

    def policy(self, deployment: str) -> Policy:
        """How a deployment is trained again, and what that waits for."""
        return self._get(Policy, f"/deployments/{segment(deployment)}/retraining-policy")

    def policies(self) -> Sequence[Policy]:
        return self._get(answers.PolicyList, "/retraining-policies").policies

    def delete_policy(self, deployment: str) -> None:
        self._do("DELETE", f"/deployments/{segment(deployment)}/retraining-policy")

    def pause(self, deployment: str) -> Policy:
        """Begin nothing by itself until it is resumed."""
        return self._send(Policy, "POST", f"/deployments/{segment(deployment)}/retraining-policy/pause")

    def resume(self, deployment: str) -> Policy:
        return self._send(Policy, "POST", f"/deployments/{segment(deployment)}/retraining-policy/resume")

    def start(self, deployment: str, *, why: str = "") -> LiveRetraining:
        """Train it again now, whatever the trigger says."""
        return self._send(LiveRetraining, "POST", f"/deployments/{segment(deployment)}/retrainings", {"why": why})

    def list(self, deployment: str | None = None, *, limit: int = 50) -> list[LiveRetraining]:
        """The newest first."""
        where = "/retrainings" if deployment is None else f"/deployments/{segment(deployment)}/retrainings"
        return self._get(answers.RetrainingList, where, limit=limit).retrainings

    def get(self, retraining: str) -> WatchedRetraining:
        """One retraining: its stages with their numbers, and the policy as it was."""
        return self._get(WatchedRetraining, f"/retrainings/{segment(retraining)}")

    def id(self, target: str) -> str:
        """The id of the retraining that is meant: its own, or a deployment's newest. Raises `NotFound`."""
        if re.fullmatch(r"[0-9a-f]{32}", target):
            return target
        found = self.list(target, limit=1)
        if not found:
            raise NotFound(f"The deployment {target!r} was never trained again. Begin: drivetrain retrain now {target}")
        return found[0].id

    def cancel(self, retraining: str, *, why: str = "") -> LiveRetraining:
        return self._send(LiveRetraining, "POST", f"/retrainings/{segment(retraining)}/cancel", {"why": why})

    def watch(self, retraining: str, *, every: float = 0.5) -> Iterator[WatchedRetraining]:
        """The retraining as it changes, until nothing more comes by itself soon."""
        last: WatchedRetraining | None = None
        while True:
            now = self.get(retraining)
            if now != last:
                yield now
                last = now
            if now.state in SETTLED:
                return
            time.sleep(every)

    def wait(self, retraining: str, *, timeout: float = 3600.0) -> WatchedRetraining:
        """The retraining once nothing more comes by itself soon. Raises `Unavailable` after `timeout` seconds."""
        end = time.monotonic() + timeout
        while (now := self.get(retraining)).state not in SETTLED:
            if time.monotonic() > end:
                raise Unavailable(f"The retraining has not ended within {timeout:.0f} s. See: drivetrain retrain show {retraining}")
            time.sleep(0.25)
        return now

    def _pushed(self, path: Path, name: str, kind: str, message: str) -> str:
        answer = push(self._c, collect(path), name, kind=kind, message=message, source=path.absolute().as_uri(), register=False)
        return f"{answer.repo.slug}@{answer.commit.id}"
