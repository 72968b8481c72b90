"""What scripts have logged on the stage beside numbers: media, plots, a console, system metrics; and a sweep half done."""

from __future__ import annotations

import json
import math
import random
import struct
import zlib
from collections.abc import Sequence
from typing import Any

from drivetrain.identity.model import Context
from drivetrain.tracking.model import Line, Metric, Owner
from drivetrain.tracking.service import Tracking
from drivetrain.training.sweeps.service import Sweeps

SWEEP = """
name: learning rate and depth
method: random
metric: {name: val/loss, goal: minimize}
parameters:
  lr: {min: 0.0001, max: 0.1}
  depth: {values: [2, 4, 8, 12]}
  optimizer: {values: [adam, sgd]}
"""


def png(width: int, height: int, shade: float) -> bytes:
    """A small picture: a ring on a slope of greys."""
    rows = b""
    for y in range(height):
        line = bytearray([0])
        for x in range(width):
            far = math.hypot(x - width / 2, y - height / 2) / width
            line += bytes((int(255 * x / width), 200 if abs(far - 0.3 * shade) < 0.04 else 40, int(255 * (1 - shade))))
        rows += bytes(line)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    return json.dumps({"columns": columns, "data": rows}).encode()


def visual(kind: str, fields: dict[str, str], **words: str) -> dict[str, Any]:
    """What wandb's client says of a plot."""
    return {"panel_type": "Vega2", "panel_config": {"panelDefId": f"wandb/{kind}", "fieldSettings": fields, "stringSettings": words}}


def rich_run(tracking: Tracking, ctx: Context, experiment: str, start_ms: int) -> str:
    """A run of wandb's client with one of everything."""
    dice = random.Random(3)
    name = "resnet50-imagenet100-cosine-warmup-label-smoothing-0.1-mixup-ema-seed-1234"
    config = {"lr": 0.1, "model": {"depth": 50, "width": [64, 128, 256]}, "augment": True}
    run, _ = tracking.reports.begin(ctx, experiment, "r1ch5tuf", name=name, config=config)
    private = {
        "visualize": {
            "roc": visual("area-under-curve/v0", {"x": "fpr", "y": "tpr", "class": "class"}, title="ROC"),
            "errors": visual("confusion_matrix/v1", {"Actual": "Actual", "Predicted": "Predicted", "nPredictions": "nPredictions"}),
            "per class": visual("bar/v0", {"label": "class", "value": "accuracy"}, title="Accuracy by class"),
            "length and score": visual("scatter/v0", {"x": "length", "y": "score"}),
            "residuals": visual("histogram/v0", {"value": "residual"}),
        }
    }
    classes = ["cat", "dog", "fox", "owl"]
    roc = [[n / 20, min(1.0, (n / 20) ** (0.2 + 0.15 * i)), one] for i, one in enumerate(classes) for n in range(21)]
    confused = [[a, b, 90 - 10 * i if a == b else 3 * i + 2] for i, a in enumerate(classes) for b in classes]
    tables = {
        "roc_table": table(["fpr", "tpr", "class"], roc),
        "errors_table": table(["Actual", "Predicted", "nPredictions"], confused),
        "per class_table": table(["class", "accuracy"], [[one, 0.95 - 0.1 * i] for i, one in enumerate(classes)]),
        "length and score_table": table(["length", "score"], [[dice.random() * 100, dice.gauss(0, 1)] for _ in range(200)]),
        "residuals_table": table(["residual"], [[dice.gauss(0, 1)] for _ in range(500)]),
        "predictions": table(
            ["id", "text", "label", "score"],
            [[n, "a sentence that is <b>long</b> enough to be cut somewhere", classes[n % 4], dice.random()] for n in range(150)],
        ),
    }
    files = {f"media/table/{key}.table.json": body for key, body in tables.items()}
    files |= {f"media/images/samples_{step}.png": png(96, 72, step / 20) for step in (0, 5, 10, 15, 20)}
    files["media/html/report.html"] = b"<h1>Report</h1><p>All of it in a sandbox.</p><script>document.title = 'x'</script>"
    for path, body in files.items():
        tracking.artifacts.put(ctx, Owner.run, run.id, path, tracking.artifacts.blobs.put([body]))
    rows: list[dict[str, Any]] = []
    for step in range(200):
        row: dict[str, Any] = {"_step": step, "_timestamp": start_ms / 1000 + step}
        row |= {
            "loss": 2.3 * math.exp(-step / 60) + 0.05 * dice.random(),
            "accuracy": 1 - math.exp(-step / 50),
            "lr": 0.1 * (1 - step / 200),
        }
        if step in (0, 5, 10, 15, 20):
            row["samples"] = {"_type": "image-file", "path": f"media/images/samples_{step}.png", "caption": f"after step {step}"}
        rows.append(row)
    rows[-1] |= {key: {"_type": "table-file", "path": f"media/table/{key}.table.json"} for key in tables}
    rows[-1]["report"] = {"_type": "html-file", "path": "media/html/report.html"}
    counts = [int(100 * math.exp(-(((n - 32) / 12) ** 2))) for n in range(64)]
    rows[-1]["gradients"] = {"_type": "histogram", "values": counts, "packedBins": {"min": -1.0, "size": 1 / 32, "count": 64}}
    events = [
        json.dumps({"_timestamp": start_ms / 1000 + n * 15, "system.cpu": 40 + 10 * dice.random(), "system.gpu.0.memory": 60 + n / 10})
        for n in range(60)
    ]
    lines = [Line(n, "", "", f"epoch {n} loss {2.3 * math.exp(-n / 60):.4f}") for n in range(40)]
    lines.append(Line(40, "error", "", "UserWarning: the learning rate is <very> small"))
    tracking.reports.append(ctx, run.id, rows=[json.dumps(row) for row in rows], events=events, lines=lines)
    tracking.reports.update(ctx, run.id, config=json.dumps({**config, "_wandb": private}), labels=("baseline", "paper"))
    return run.id


def half_a_sweep(tracking: Tracking, sweeps: Sweeps, ctx: Context, experiment: str, *, runs: int = 12) -> str:
    """A sweep whose runs but the last two have ended."""
    sweep = sweeps.create(ctx, experiment, SWEEP)
    agent = sweeps.join(ctx, sweep.name, "gpu-1")
    for n in range(runs):
        sweeps.heartbeat(ctx, agent.id, [])
        trial = sweeps.trials(ctx, sweep.id)[-1]
        assert trial.run_id is not None
        lr, depth = float(trial.args["lr"]), float(trial.args["depth"])
        best = 0.2 + abs(math.log10(lr) + 2.5) * 0.3 + abs(depth - 8) * 0.02
        rows = [json.dumps({"_step": step, "val/loss": best + math.exp(-step / 4)}) for step in range(20)]
        tracking.reports.append(ctx, trial.run_id, rows=rows, state="running" if n >= runs - 2 else "finished")
    return sweep.name


def log(tracking: Tracking, sweeps: Sweeps, ctx: Context, made: dict[str, str], now: int) -> None:
    experiment = tracking.experiments.create(ctx, "imagenet-100").id
    made["rich"] = rich_run(tracking, ctx, experiment, now - 900_000)
    made["sweep"] = half_a_sweep(tracking, sweeps, ctx, experiment)
    # One point more a second, as it would be in a run that goes on.
    tracking.metrics.log(ctx, made["rich"], metrics=[Metric("accuracy", 0.98, now, 200)])
