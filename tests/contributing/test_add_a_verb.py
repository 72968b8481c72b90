"""docs/contributing/add-a-verb.md, followed on a copy of the house, then used as people would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import Server
from tests.contributing.worked import follow


@pytest.mark.slow
def test_a_verb_goes_from_the_table_to_the_page(tmp_path: Path) -> None:
    changed = {"PYTHONPATH": str(follow("add-a-verb", tmp_path))}
    server = Server(tmp_path / "home", ("--web", "1"), environ=changed).start()
    try:
        here = os.environ | changed | {"DRIVETRAIN_URL": server.url, "DRIVETRAIN_API_KEY": server.token}

        def command(*arguments: str) -> str:
            line = [sys.executable, "-m", "drivetrain.cli.main", *arguments]
            return subprocess.run(line, env=here, check=True, capture_output=True, text=True).stdout

        asked = urllib.request.Request(f"{server.url}/api/v1/runs", b"{}", {"content-type": "application/json"})
        with urllib.request.urlopen(asked) as answer:
            run = json.load(answer)["id"]
        with urllib.request.urlopen(f"{server.url}/runs/{run}") as page:
            assert "Bookmarked by" not in page.read().decode()
        assert f"{run} is bookmarked by" in command("runs", "bookmark", run)
        assert json.loads(command("runs", "bookmark", run, "--json"))["run_id"] == run
        with urllib.request.urlopen(f"{server.url}/runs/{run}") as page:
            assert "Bookmarked by" in page.read().decode()
        with urllib.request.urlopen(f"{server.url}/api/v1/openapi.json") as answer:
            schemas = json.load(answer)["components"]["schemas"]
        assert set(schemas["Bookmark"]["properties"]) == {"run_id", "user", "created_ms"}
    finally:
        server.stop()
