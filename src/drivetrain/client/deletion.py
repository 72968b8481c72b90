"""Deleting: experiments, and what is to go for good."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from drivetrain.client.groups import Group
from drivetrain.client.http import Json
from drivetrain.client.push import segment


class Experiments(Group):
    """Named groups of runs, by name or id."""

    def list(self, *, limit: int = 1000, deleted: bool = False) -> list[Json]:
        """The latest changed first. `deleted`: those that were deleted and can be restored."""
        return self._list("/experiments", "experiments", limit=limit, view="deleted" if deleted else "active")

    def delete(self, experiment: str) -> None:
        """Hide an experiment with its runs. It can be restored until it is deleted for good."""
        self._one("DELETE", f"/experiments/{segment(experiment)}")

    def restore(self, experiment: str) -> None:
        self._one("POST", f"/experiments/{segment(experiment)}/restore")


class Collector(Group):
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
    ) -> Json:
        """What `collect` would delete. Changes nothing."""
        made = "true" if made_models else None
        params = {"older_than_s": older_than_s, "run": [*runs] or None, "experiment": [*experiments] or None, "made_models": made}
        return self._one("GET", "/gc/preview", **params)

    def collect(
        self,
        *,
        older_than_s: float | None = None,
        runs: Sequence[str] = (),
        experiments: Sequence[str] = (),
        made_models: bool = False,
    ) -> Json:
        """Begin to delete it for good: from now on it cannot be restored. `follow` tells how far it has come."""
        what = {"older_than_s": older_than_s, "runs": [*runs], "experiments": [*experiments], "made_models": made_models}
        return self._one("POST", "/gc", what)

    def get(self, collection: str) -> Json:
        return self._one("GET", f"/gc/{segment(collection)}")

    def list(self, *, limit: int = 20) -> list[Json]:
        """What was deleted for good, the newest first."""
        return self._list("/gc", "collections", limit=limit)

    def follow(self, collection: str) -> Iterator[Json]:
        """The collection as it goes on, until it has ended."""
        while True:
            found = self.get(collection)
            yield found
            if found["ended_ms"] is not None and not found["waiting"]:
                return
            time.sleep(0.15)

    def policy(self) -> Json:
        """How long what was deleted is kept (`grace_ms`), and whether it goes by itself then (`automatic`)."""
        return self._one("GET", "/retention")

    def set_policy(self, *, grace_s: float | None = None, automatic: bool | None = None) -> Json:
        """Change what is given."""
        return self._one("PUT", "/retention", {"grace_s": grace_s, "automatic": automatic})
