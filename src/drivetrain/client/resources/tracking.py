"""Experiments and runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from drivetrain.answers import tracking as answers
from drivetrain.client.push import segment
from drivetrain.client.resources.resource import API, Resource
from drivetrain.tracking.model import Line


class Experiments(Resource):
    """Named groups of runs, by name or id."""

    def list(self, *, limit: int = 1000, deleted: bool = False) -> list[answers.Experiment]:
        """The latest changed first. `deleted`: those that were deleted and can be restored."""
        return self._get(answers.ExperimentList, "/experiments", limit=limit, view="deleted" if deleted else "active").experiments

    def get(self, experiment: str) -> answers.Experiment:
        return self._get(answers.Experiment, f"/experiments/{segment(experiment)}")

    def create(self, name: str, *, tags: Mapping[str, str] | None = None) -> answers.Experiment:
        return self._send(answers.Experiment, "POST", "/experiments", {"name": name, "tags": {**(tags or {})}})

    def delete(self, experiment: str) -> None:
        """Hide an experiment with its runs. It can be restored until it is deleted for good."""
        self._do("DELETE", f"/experiments/{segment(experiment)}")

    def restore(self, experiment: str) -> None:
        self._do("POST", f"/experiments/{segment(experiment)}/restore")


class Runs(Resource):
    """Runs of experiments."""

    def list(
        self,
        *,
        experiment: str | None = None,
        filter: str | None = None,  # noqa: A002
        order_by: Sequence[str] = (),
        limit: int = 50,
        deleted: bool = False,
    ) -> list[answers.Run]:
        """The newest runs, up to 10,000; `filter` and `order_by` are in mlflow's grammar. `deleted`: those that were deleted and can be
        restored."""
        asked = {"experiment": experiment, "filter": filter, "order_by": [*order_by] or None, "limit": limit}
        return self._page(asked, deleted=deleted).runs

    def each(
        self,
        *,
        experiment: str | None = None,
        filter: str | None = None,  # noqa: A002
        order_by: Sequence[str] = (),
        deleted: bool = False,
        page: int = 1000,
    ) -> Iterator[answers.Run]:
        """As `list`, but all of them; `page` at a time are asked for, when they are needed."""
        asked = {"experiment": experiment, "filter": filter, "order_by": [*order_by] or None, "limit": page}
        found = self._page(asked, deleted=deleted)
        yield from found.runs
        while found.token is not None:
            found = self._page(asked, deleted=deleted, token=found.token)
            yield from found.runs

    def _page(self, asked: Mapping[str, Any], *, deleted: bool, token: str | None = None) -> answers.RunList:
        return self._get(answers.RunList, "/runs", **asked, view="deleted" if deleted else "active", token=token)

    def get(self, run_id: str) -> answers.RunWithModels:
        """A run with its params, tags, latest metrics, data and models."""
        return self._get(answers.RunWithModels, f"/runs/{segment(run_id)}")

    def create(self, *, experiment: str = "0", name: str | None = None, tags: Mapping[str, str] | None = None) -> answers.Run:
        """Begin a run. An experiment that is not there yet is made."""
        return self._send(answers.Run, "POST", "/runs", {"experiment": experiment, "name": name, "tags": {**(tags or {})}})

    def update(self, run_id: str, **changes: Any) -> answers.Run:
        """Change what is given: status, end_ms, name, config, summary."""
        return self._send(answers.Run, "PATCH", f"/runs/{segment(run_id)}", changes)

    def log(
        self,
        run_id: str,
        *,
        metrics: Sequence[Mapping[str, Any]] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log points (each with key, value, step and timestamp_ms), params and tags: all of them or, after an error, none."""
        batch = {"metrics": [*metrics], "params": dict(params or {}), "tags": dict(tags or {})}
        self._do("POST", f"/runs/{segment(run_id)}/log", batch)

    def delete(self, run_id: str) -> None:
        """Hide a run. It can be restored until it is deleted for good."""
        self._do("DELETE", f"/runs/{segment(run_id)}")

    def restore(self, run_id: str) -> None:
        self._do("POST", f"/runs/{segment(run_id)}/restore")

    def history(self, run_id: str, key: str) -> Iterator[tuple[int, int, answers.Number]]:
        """The points of a metric as (step, time in ms, value), ordered by step, then time; page by page."""
        path, token = f"/runs/{segment(run_id)}/metrics/{segment(key)}", None
        while True:
            page = self._get(answers.MetricHistory, path, token=token)
            yield from page.points
            if (token := page.token) is None:
                return

    def console(self, run_id: str, *, after: int = -1, limit: int = 1000, last: bool = False) -> Sequence[Line]:
        """Lines that the run has printed, with a greater number than `after`; `last`: the last of them."""
        asked = {"after": after, "limit": limit, "last": "true" if last else None}
        return self._get(answers.LineList, f"/runs/{segment(run_id)}/console", **asked).lines

    def artifacts(self, run_id: str, path: str = "") -> Sequence[answers.File]:
        """The files and folders right below a folder of the run's artifacts."""
        return self._get(answers.FileList, f"/runs/{segment(run_id)}/artifacts", path=path or None).artifacts

    def download(self, run_id: str, path: str, target: Path) -> int:
        """Write one of the run's files to `target`; its size in bytes."""
        url = f"{API}/runs/{segment(run_id)}/artifacts/{'/'.join(segment(part) for part in path.split('/'))}"
        return self._save(url, target)
