"""What went into a run and what came out of it: datasets, and logged models by role."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from drivetrain.errors import Invalid
from drivetrain.identity.model import Context, Scope
from drivetrain.lineage import service as lineage
from drivetrain.lineage.model import Role, Thing
from drivetrain.store.ids import uuid7
from drivetrain.store.sql import Database, upsert
from drivetrain.tags import DATA_CONTEXT
from drivetrain.tracking import checks
from drivetrain.tracking import tables as t
from drivetrain.tracking.finders import model_row, run_row
from drivetrain.tracking.model import Dataset, Input, ModelLink
from drivetrain.tracking.runs.loading import dataset

DID: dict[str, Role] = {"input": "used", "output": "made"}
"""What a run did with a logged model that is its input or output."""


@dataclass(frozen=True, slots=True)
class Inputs:
    db: Database

    def log(self, ctx: Context, run_id: str, inputs: Sequence[Input] = (), models: Sequence[ModelLink] = ()) -> None:
        """Record the datasets and models that a run used or made. The same again changes nothing but a dataset's tags."""
        ctx.require(Scope.write)
        for one in inputs:
            _check(one)
        for link in models:
            if link.role not in DID:
                raise Invalid(f"The role of a model is one of {', '.join(DID)}, not {link.role!r}.", param="models")
            checks.int64(link.step, "step")
        with self.db.write() as c:
            run = run_row(c, ctx, run_id, writable=True)
            for one in inputs:
                dataset_id = ensure_dataset(c, ctx, run.experiment_uid, one.dataset)
                i = t.run_inputs.c
                position = c.scalar(sa.select(sa.func.count()).select_from(t.run_inputs).where(i.run_id == run_id))
                row = {
                    "run_id": run_id,
                    "dataset_id": dataset_id,
                    "context": one.context,
                    "tags": dict(one.tags),
                    "position": position,
                }
                upsert(c, t.run_inputs, [row], key=["run_id", "dataset_id"], update=["context", "tags"])
                lineage.link(c, ctx, Thing("run", run_id), "used", Thing("dataset", dataset_id))
            for link in models:
                model_row(c, ctx, link.model_id)
                row = {"run_id": run_id, "model_id": link.model_id, "role": link.role, "step": link.step}
                upsert(c, t.run_models, [row], key=["run_id", "model_id", "role"], update=["step"])
                lineage.link(c, ctx, Thing("run", run_id), DID[link.role], Thing("model", link.model_id))

    def datasets(self, ctx: Context, experiment_ids: Sequence[str], *, limit: int = 1000) -> list[tuple[str, Input]]:
        """The datasets that runs of the experiments used: (experiment id, dataset with its context)."""
        ctx.require(Scope.read)
        d, i, e = t.datasets.c, t.run_inputs.c, t.experiments.c
        numbers = [int(one) for one in experiment_ids if one.isascii() and one.isdigit() and len(one) < 10][:500]
        query = (
            sa.select(t.datasets, e.number, i.context)
            .join(t.experiments, e.uid == d.experiment_uid)
            .join(t.run_inputs, i.dataset_id == d.id)
            .where(e.workspace_id == ctx.workspace_id, e.number.in_(numbers))
            .distinct()
            .limit(limit)
        )
        with self.db.read() as c:
            return [(str(row.number), Input(dataset(row), {DATA_CONTEXT: row.context} if row.context else {})) for row in c.execute(query)]


def ensure_dataset(c: sa.Connection, ctx: Context, experiment_uid: int, dataset: Dataset) -> str:
    d = t.datasets.c
    mine = sa.select(d.id).where(d.experiment_uid == experiment_uid, d.name == dataset.name, d.digest == dataset.digest)
    if (known := c.scalar(mine)) is not None:
        return str(known)
    row = {
        "id": uuid7(),
        "workspace_id": ctx.workspace_id,
        "experiment_uid": experiment_uid,
        "name": dataset.name,
        "digest": dataset.digest,
        "source_type": dataset.source_type,
        "source": dataset.source,
        "schema": dataset.schema,
        "profile": dataset.profile,
    }
    upsert(c, t.datasets, [row], key=["experiment_uid", "name", "digest"])
    return str(c.scalar(mine))


def _check(one: Input) -> None:
    given = one.dataset
    for what, text, limit in (("name", given.name, 500), ("digest", given.digest, 64), ("source_type", given.source_type, 64)):
        if (what != "source_type" and not text) or len(text) > limit:
            raise Invalid(f"The {what} of a dataset has 1 to {limit} characters; this one has {len(text)}.", param=what)
    for what, text in (("source", given.source), ("schema", given.schema or ""), ("profile", given.profile or "")):
        if len(text) > 1 << 24:
            raise Invalid(f"The {what} of dataset {given.name!r} is larger than 16 MiB.", param=what)
    texts = (given.name, given.digest, given.source_type, given.source, given.schema or "", given.profile or "")
    if any("\x00" in text for text in texts):
        raise Invalid(f"The dataset {checks.shown(given.name)} has a NUL character in one of its texts.", param="datasets")
    checks.tags(one.tags)
