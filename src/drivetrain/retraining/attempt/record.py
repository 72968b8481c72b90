"""One retraining as its job sees it: over HTTP, so that what was done is written down on the server and not in the process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from drivetrain.client.push import segment
from drivetrain.jobs.handle import Handle
from drivetrain.jobs.kinds import Retrain, Retrained
from drivetrain.jobs.model import Done, StageDone
from drivetrain.retraining.model import Policy, TrainingSet


class Record:
    """The ledger of one retraining, with its policy as it was when it began, and the query of its training set."""

    def __init__(self, job: Handle[Retrain]) -> None:
        self._connection = job.client.connection
        self.id = job.spec.retraining
        self.at = f"/api/v1/retrainings/{segment(self.id)}"
        self._state: dict[str, Any] = self._connection.json("GET", self.at)
        self.policy = msgspec.convert(self._state["policy"], Policy)
        self.query = msgspec.convert(self._state["training_set"], TrainingSet)

    @property
    def done(self) -> Mapping[str, StageDone]:
        return {one["stage"]: msgspec.convert(one, StageDone) for one in self._state["stages"]}

    @property
    def ended(self) -> bool:
        return self._state["ended_ms"] is not None

    @property
    def result(self) -> Retrained:
        """What the job's own record keeps."""
        return msgspec.convert(self._state, Retrained)

    def fact(self, stage: str, name: str) -> Any:
        """What a stage that is over has found."""
        return self.done[stage].facts[name]

    def tell(self, stage: str, done: Done) -> None:
        self._renew(self._connection.json("POST", f"{self.at}/stages", {"stage": str(stage), **msgspec.to_builtins(done)}, again=True))

    def roll_out(self) -> str:
        """Ask for the rollout: the server begins it, once, or lets it wait for the one that is open. What came of that."""
        self._renew(self._connection.json("POST", f"{self.at}/roll-out", again=True))
        return str(self._state["why"])

    def _renew(self, said: Mapping[str, Any]) -> None:
        self._state = {**self._state, **said}
