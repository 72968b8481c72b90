"""Deleting for good."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from drivetrain.answers.deletion import CollectedList
from drivetrain.client.push import segment
from drivetrain.client.resources.resource import Resource
from drivetrain.tracking.deletion.model import Collected, Preview, Retention


class Collector(Resource):
    """Deleting for good: `client.gc`. Ages are in seconds since something was deleted; without one, the workspace's policy counts.

    `made_models`: with the runs, the logged models that they made, deleted or not. Registered versions stay.
    """

    def preview(
        self,
        *,
        older_than_s: float | None = None,
        runs: Sequence[str] = (),
        experiments: Sequence[str] = (),
        made_models: bool = False,
    ) -> Preview:
        """What `collect` would delete. Changes nothing."""
        made = "true" if made_models else None
        params = {"older_than_s": older_than_s, "run": [*runs] or None, "experiment": [*experiments] or None, "made_models": made}
        return self._get(Preview, "/gc/preview", **params)

    def collect(
        self,
        *,
        older_than_s: float | None = None,
        runs: Sequence[str] = (),
        experiments: Sequence[str] = (),
        made_models: bool = False,
    ) -> Collected:
        """Begin to delete it for good: from now on it cannot be restored. `follow` tells how far it has come."""
        what = {"older_than_s": older_than_s, "runs": [*runs], "experiments": [*experiments], "made_models": made_models}
        return self._send(Collected, "POST", "/gc", what)

    def get(self, collection: str) -> Collected:
        return self._get(Collected, f"/gc/{segment(collection)}")

    def list(self, *, limit: int = 20) -> list[Collected]:
        """What was deleted for good, the newest first."""
        return self._get(CollectedList, "/gc", limit=limit).collections

    def follow(self, collection: str) -> Iterator[Collected]:
        """The collection as it goes on, until it has ended."""
        while True:
            found = self.get(collection)
            yield found
            if found.ended_ms is not None and not found.waiting:
                return
            time.sleep(0.15)

    def policy(self) -> Retention:
        """How long what was deleted is kept (`grace_ms`), and whether it goes by itself then (`automatic`)."""
        return self._get(Retention, "/retention")

    def set_policy(self, *, grace_s: float | None = None, automatic: bool | None = None) -> Retention:
        """Change what is given."""
        return self._send(Retention, "PUT", "/retention", {"grace_s": grace_s, "automatic": automatic})
