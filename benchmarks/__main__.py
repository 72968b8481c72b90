"""`python -m benchmarks [NAME …]`: run them (all by default) and renew the tables of benchmarks/README.md; `--table`: the tables only."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence

from benchmarks.common import RESULTS, ROOT, cell, console

ALL = ("startup", "gateway", "classic", "gaps", "events", "drift", "rollout", "sdk", "dashboard", "tracking", "filters", "local")
MARK = "<!-- results -->"


def tables() -> str:
    parts = []
    for name in ALL:
        file = RESULTS / f"{name}.json"
        if not file.exists():
            continue
        result = json.loads(file.read_text())
        measures = list(dict.fromkeys(m for s in result["samples"].values() for m in s))
        lines = [f"### {result['title']}", "", f"| | {' | '.join(measures)} |", f"|---|{'---:|' * len(measures)}"]
        lines += [f"| {who} | {' | '.join(cell(values.get(m, [])) for m in measures)} |" for who, values in result["samples"].items()]
        about = result["machine"]
        lines += [
            "",
            f"{result['when']}; {about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB; Python {about['python']}; "
            + ", ".join(f"{k} {v}" for k, v in result["versions"].items())
            + f". {result['notes']}",
            "",
        ]
        parts.append("\n".join(lines))
    return "\n".join(parts)


def main(arguments: Sequence[str]) -> None:
    chosen = [a for a in arguments if not a.startswith("-")]
    if "--table" not in arguments:
        for name in chosen or ALL:
            console.rule(name)
            importlib.import_module(f"benchmarks.{name}").main()
    page = ROOT / "benchmarks" / "README.md"
    head = page.read_text().split(MARK)[0]
    page.write_text(f"{head}{MARK}\n\n{tables()}")


if __name__ == "__main__":
    main(sys.argv[1:])
