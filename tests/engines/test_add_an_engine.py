"""What docs/contributing/add-an-engine.md says is done to a copy of the house, which then serves a model of a kind that it did not know."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

import drivetrain
from tests.conftest import Server

pytestmark = pytest.mark.slow

SOURCE = Path(drivetrain.__file__).parent
PAGE = Path(__file__).parents[2] / "docs/contributing/add-an-engine.md"


def build(at: Path) -> Path:
    """The house with the engine of the page: a folder and a row in `engines`, all else as it is."""
    house = at / "drivetrain"
    (house / "engines").mkdir(parents=True)
    for folder, target in ((SOURCE, house), (SOURCE / "engines", house / "engines")):
        for part in folder.iterdir():
            if part.name not in ("engines", "table.py", "__pycache__"):
                (target / part.name).symlink_to(part)
    text = PAGE.read_text()
    files = re.findall(r"^`src/drivetrain/(engines/linear/\w+\.py)`\n\n```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(files) == 2
    (house / "engines/linear").mkdir()
    (house / "engines/linear/__init__.py").touch()
    for path, code in files:
        (house / path).write_text(code)
    table = (SOURCE / "engines/table.py").read_text()
    hunks = re.findall(r"^```diff\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(hunks) == 2
    for hunk in hunks:
        lines = hunk.splitlines(keepends=True)
        before, after = ("".join(line[1:] for line in lines if line[0] in kept) for kept in (" ", " +"))
        assert table.count(before) == 1, f"the page shows a place in table.py that is not there:\n{before}"
        table = table.replace(before, after)
    (house / "engines/table.py").write_text(table)
    return at


def test_a_folder_and_a_row_are_an_engine(new_server: Callable[..., Server], tmp_path: Path) -> None:
    environ = {"PYTHONPATH": f"{build(tmp_path / 'house')}{os.pathsep}{os.environ.get('PYTHONPATH', '')}".rstrip(os.pathsep)}
    server = new_server(environ=environ)

    def drivetrain(*arguments: str, code: int = 0) -> str:
        where = {"DRIVETRAIN_HOME": str(server.home), "DRIVETRAIN_URL": server.url, "COLUMNS": "300"}
        command = [sys.executable, "-m", "drivetrain.cli.main", *arguments]
        done = subprocess.run(command, env={**os.environ, **environ, **where}, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    model = tmp_path / "model"
    model.mkdir()
    (model / "weights.json").write_text(json.dumps({"weights": [2.0, 0.126], "bias": 1.0}))
    drivetrain("pull", str(model), "--name", "price")

    # It starts when it is called by name, since its format runs no code; a deployment may choose its options.
    rows = {"inputs": [[1.0, 1.0], [2.0, 0.0]]}
    on_demand = httpx.post(f"{server.url}/invoke/price/invocations", json=rows, timeout=90)
    assert (on_demand.status_code, on_demand.json()) == (200, {"predictions": [3.126, 5.0]}), on_demand.text
    told = drivetrain("deploy", "rounded", "price", "--option", "digits=1", "--wait")
    assert "linear" in told and "weights.json holds 2 weights" in told
    rounded = httpx.post(f"{server.url}/invoke/rounded/invocations", json=rows, timeout=90)
    assert rounded.json() == {"predictions": [3.1, 5.0]}
    wrong = httpx.post(f"{server.url}/invoke/rounded/invocations", json={"inputs": [[1.0]]}, timeout=90)
    assert (wrong.status_code, "refused the input" in wrong.text) == (400, True)

    # What it declares is told, and checked, wherever engines are spoken of.
    assert "a whole number from 0 to 15" in drivetrain("deploy", "other", "price", "--option", "digits=99", code=1)
    assert "digits (a whole number from 0 to 15)" in re.sub(r"[│\s]+", " ", drivetrain("deploy", "--help"))
    assert "serves linear models in JSON" in drivetrain("doctor")
    assert "price" in [one["id"] for one in httpx.get(f"{server.url}/v1/models", timeout=30).json()["data"]]
    page = httpx.get(f"{server.url}/models/price", timeout=30).text
    assert "Linear" in page and "Digits after the point of a prediction." in page
    assert 'data-kind="tabular"' in httpx.get(f"{server.url}/playground?model=price", timeout=30).text

    # A damaged file is refused before anything starts.
    (model / "weights.json").write_text('{"bias": 1}')
    drivetrain("pull", str(model), "--name", "damaged")
    assert "weights.json is damaged" in drivetrain("deploy", "damaged", "damaged", code=1)
