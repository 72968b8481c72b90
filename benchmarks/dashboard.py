"""How long the dashboard's pages take over 100,000 runs, and the data of a chart of a million points: whole requests to a real server.

The store is filled by rows, past the verbs, which is a matter of a minute; `python -m benchmarks.dashboard FOLDER` keeps it in FOLDER.
"""

from __future__ import annotations

import math
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote

import httpx
import sqlalchemy as sa

from benchmarks.common import alternate, console, drivetrain, report
from drivetrain.identity.model import Context
from drivetrain.identity.service import Identity
from drivetrain.store.blobs import Blobs
from drivetrain.store.home import Home
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.migrate import migrate
from drivetrain.store.sql import Database
from drivetrain.tracking import tables as t
from drivetrain.tracking.metrics import points
from drivetrain.tracking.service import Tracking

RUNS = 100_000
POINTS = 1_000_000
ASKS = 15
VIT = quote("params.model = 'vit'")


def fill(folder: Path) -> dict[str, str]:
    """An experiment of 100,000 runs (4 metrics, 6 params, 3 tags each), ten of ten runs, and a run with a series of a million points."""
    home = Home.open(folder)
    db = Database(home.database_url)
    migrate(db)
    identity = Identity(db, home.secret)
    identity.bootstrap()
    tracking, ctx = Tracking.of(db, Blobs(db, str(home.blobs), min_free=0, scratch=home.cache)), identity.local_context()
    known = [one for one in tracking.experiments.all(ctx) if one.name == "large"]
    if not known:
        _many(db, ctx, tracking.experiments.create(ctx, "large").uid)
        _long(db, tracking, ctx, tracking.experiments.create(ctx, "long").id)
    by_name = {one.name: one.id for one in tracking.experiments.all(ctx)}
    long = tracking.runs.search(ctx, [by_name["long"]], limit=1).items[0].id
    db.close()
    return {"large": by_name["large"], "long": long}


def _many(db: Database, ctx: Context, uid: int) -> None:
    dice, now = random.Random(1), now_ms()
    for start in range(0, RUNS, 5000):
        runs, params, tags, metrics = [], [], [], []
        for n in range(start, start + 5000):
            run_id, began = uuid7(), now - (RUNS - n) * 10_000
            runs.append(
                {
                    "id": run_id,
                    "workspace_id": ctx.workspace_id,
                    "experiment_uid": uid,
                    "name": f"run-{n}",
                    "user_name": ("ada", "grace", "alan")[n % 3],
                    "status": "FAILED" if n % 50 == 0 else "FINISHED",
                    "lifecycle": "active",
                    "start_ms": began,
                    "end_ms": began + 1000 + n % 9000,
                    "created_ms": began,
                }
            )
            told = {"lr": f"{10 ** -dice.uniform(1, 5):.6f}", "depth": str(n % 12), "model": ("cnn", "mlp", "vit")[n % 3]}
            told |= {"seed": str(n), "batch": str(2 ** (n % 6 + 3)), "optimizer": ("adam", "sgd")[n % 2]}
            params += [{"run_id": run_id, "key": key, "value": value} for key, value in told.items()]
            said = {"team": ("vision", "speech", "search")[n % 3], "mlflow.source.git.commit": f"{n // 100:040x}"}
            tags += [{"run_id": run_id, "key": key, "value": value} for key, value in {**said, "mlflow.runName": f"run-{n}"}.items()]
            values = {
                "loss": dice.lognormvariate(0, 1),
                "accuracy": dice.random(),
                "f1": dice.random(),
                "val/loss": dice.lognormvariate(0, 1),
            }
            same = {"run_id": run_id, "experiment_uid": uid, "step": 10, "timestamp_ms": began, "nan": 0}
            metrics += [same | {"key": key, "value": value} for key, value in values.items()]
        with db.write() as c:
            for table, rows in ((t.runs, runs), (t.params, params), (t.run_tags, tags), (t.latest_metrics, metrics)):
                c.execute(sa.insert(table), rows)


def _long(db: Database, tracking: Tracking, ctx: Context, experiment: str) -> None:
    run = tracking.runs.create(ctx, experiment, name="a million points")
    dice, began = random.Random(2), now_ms()
    uid = tracking.experiments.get(ctx, experiment).uid
    for start in range(0, POINTS, 50_000):
        some = {(n, began + n, 0, math.exp(-n / 2e5) + dice.gauss(0, 0.05)) for n in range(start, start + 50_000)}
        with db.write() as c:
            points.write(c, run.id, uid, {"loss": some})


def pages(found: Mapping[str, str]) -> dict[str, str]:
    large = f"/runs?experiment={found['large']}"
    return {
        "newest runs": large,
        "of all experiments": "/runs",
        "by a metric": f"{large}&sort=metrics.accuracy&dir=desc",
        "by a metric, filtered by it": f"{large}&sort=metrics.loss&filter={quote('metrics.loss < 0.5')}",
        "filtered by a parameter": f"{large}&filter={VIT}",
        "filtered by parameter and metric": f"{large}&filter={VIT}{quote(' and metrics.accuracy > 0.99')}",
        "by a parameter": f"{large}&sort=params.lr",
        "grouped by a parameter": f"{large}&group=params.model",
        "chart of 1M points": f"/data/runs?run={found['long']}&key=loss",
        "its middle tenth": f"/data/runs?run={found['long']}&key=loss&from=450000&to=550000",
    }


def asked(client: httpx.Client, url: str) -> Mapping[str, float]:
    taken = []
    for _ in range(ASKS):
        began = time.perf_counter()
        answer = client.get(url)
        taken.append((time.perf_counter() - began) * 1000)
        assert answer.status_code == 200, answer.text[:500]
    taken.sort()
    return {"p50 (ms)": taken[len(taken) // 2], "slowest (ms)": taken[-1]}


def measured(folder: Path) -> None:
    console.print(f"  filling {folder}")
    found = fill(folder)
    with drivetrain(folder, "--web", "1") as url, httpx.Client(base_url=url, headers={"accept": "text/html"}, timeout=120) as client:
        contenders: dict[str, Callable[[], Mapping[str, float]]] = {
            name: partial(asked, client, path) for name, path in pages(found).items()
        }
        report(
            "dashboard",
            "The dashboard over 100,000 runs",
            alternate(contenders),
            notes=f"Whole requests to one worker, {ASKS} in a row; SQLite; each run with 4 metrics, 6 params and 3 tags.",
        )


def main(arguments: Sequence[str] = ()) -> None:
    if arguments:
        measured(Path(arguments[0]))
    else:
        with tempfile.TemporaryDirectory(prefix="drivetrain-dashboard-") as folder:
            measured(Path(folder) / "home")


if __name__ == "__main__":
    main(sys.argv[1:])
