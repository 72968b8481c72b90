"""Drift of 1M rows × 20 columns, beside Evidently in the same run; and 10M rows in bounded memory.

Contenders compare the same two frames: 16 numeric columns and 4 of categories. drivetrain's is what
monitoring does: profiles of both frames, and their comparison with a learned null. Each runs in a process of its own; only the comparison
is timed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common import alternate, console, report

ROWS = 1_000_000
LARGE = 10_000_000
NUMERIC, CATEGORIES = 16, 4

MAKE = """
import sys
import numpy as np, polars as pl
rows, path = int(sys.argv[1]), sys.argv[2]
rng = np.random.default_rng(int(sys.argv[3]))
shift = float(sys.argv[4])
names = np.array(["anna", "berta", "carl", "dora", "emil", "frida", "gustav", "hanna"])
columns = {f"n{i}": rng.normal(shift * (i % 4 == 0), 1, rows).astype(np.float32) for i in range(16)}
columns |= {f"c{i}": pl.Series(names)[rng.integers(8, size=rows)] for i in range(4)}
pl.DataFrame(columns).write_parquet(path, compression="uncompressed", row_group_size=1_000_000)
"""
TIMED = """
import json, resource, sys, time, warnings
warnings.simplefilter("ignore")
from pathlib import Path
before, now = Path(sys.argv[1]), Path(sys.argv[2])
"""
EVIDENTLY = (
    TIMED
    + """
import pandas as pd
import pandas.core.dtypes.common as moved
if not hasattr(moved, "infer_dtype_from_object"):
    moved.infer_dtype_from_object = lambda type_: type_  # Evidently 0.7 imports it; pandas 3.1 has it no more
from evidently import Report
from evidently.presets import DataDriftPreset
a, b = pd.read_parquet(before), pd.read_parquet(now)
began = time.perf_counter()
found = Report([DataDriftPreset(num_method="wasserstein", cat_method="jensenshannon")]).run(b, a).dict()
seconds = time.perf_counter() - began
"""
)
REPORT = (
    TIMED
    + """
import pandas as pd, polars, scipy.stats
from drivetrain.monitoring.drift.report import compare
from drivetrain.profiles.build import profile
a, b = pd.read_parquet(before), pd.read_parquet(now)
began = time.perf_counter()
reference = profile(a)
found = compare(reference, profile(b, like=reference, nulls=False))
seconds = time.perf_counter() - began
"""
)
FILES = REPORT.replace("pd.read_parquet(before), pd.read_parquet(now)", "before, now")
TELL = '\nprint(json.dumps({"s": seconds, "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))'


def run(code: str, before: Path, now: Path) -> tuple[float, float]:
    done = subprocess.run([sys.executable, "-c", code + TELL, str(before), str(now)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    told = json.loads(done.stdout.splitlines()[-1])
    return told["s"], told["MB"]


def make(folder: Path, rows: int) -> tuple[Path, Path]:
    files = folder / f"before-{rows}.parquet", folder / f"now-{rows}.parquet"
    for i, file in enumerate(files):
        subprocess.run([sys.executable, "-c", MAKE, str(rows), str(file), str(i), "0.3" if i else "0"], check=True)
    return files


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="drift-") as at:
        folder = Path(at)
        before, now = make(folder, ROWS)

        def contender(code: str) -> dict[str, float]:
            seconds, memory = run(code, before, now)
            return {"s": seconds, "peak MB": memory}

        samples = alternate(
            {
                "Evidently": lambda: contender(EVIDENTLY),
                "drivetrain, report": lambda: contender(REPORT),
            },
            repeats=3,
        )
        large = make(folder, LARGE)
        seconds, memory = run(FILES, *large)
        samples[f"drivetrain, report, {LARGE // 1_000_000}M rows from Parquet"] = {"s": [seconds], "peak MB": [memory]}
        medians = {name: sorted(one["s"])[len(one["s"]) // 2] for name, one in samples.items()}
        ratios = {"report": medians["Evidently"] / medians["drivetrain, report"]}
        words = f"Faster than Evidently: {ratios['report']:.0f}×."
        console.print(words)
        report(
            "drift",
            "Drift of 1M rows × 20 columns",
            samples,
            packages=("evidently", "numpy", "polars", "pandas"),
            notes=words,
            ratios=ratios,
        )


if __name__ == "__main__":
    main()
