"""Children of a process that is killed are gone at once, however busy they are."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from drivetrain.compute.local import ALLOWED, Local
from tests.chaos.common import alive
from tests.conftest import wait_for

PARENT = """
import sys, time
from pathlib import Path
from drivetrain.compute.local import Local
local = Local(Path(sys.argv[1]), Path(sys.argv[1]))
children = [local.start("tests.compute.child", [mode], log=f"{mode}.log") for mode in ("idle", "busy", "family")]
print(*(child.pid for child in children), flush=True)
time.sleep(600)
"""


def test_children_die_with_their_parent(tmp_path: Path) -> None:
    """One sleeps, one holds the interpreter's lock for minutes, one has a child of its own."""
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        for mode in ("idle", "busy", "family"):
            wait_for(lambda mode=mode: "ready" in (tmp_path / f"{mode}.log").read_text(), seconds=20)  # type: ignore[misc]
        grandchildren = children[2].children()
        assert grandchildren
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
        wait_for(lambda: not [one for one in (*children, *grandchildren) if alive(one)], seconds=1.0, what="the end of the children")


def test_a_child_that_begins_after_its_parents_death_ends(tmp_path: Path) -> None:
    local = Local(tmp_path, tmp_path)
    child = local.start("tests.compute.child", ["late"], log="late.log")
    local.close()
    assert child.wait(20) == -signal.SIGKILL
    assert "ready" not in (tmp_path / "late.log").read_text()


def test_children_do_not_inherit_what_points_clients_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("DRIVETRAIN_API_KEY", "dt-" + "s" * 40)
    local = Local(tmp_path, tmp_path)
    child = local.start("tests.compute.child", ["environ"], log="environ.log", environ={"OMP_NUM_THREADS": "1"})
    child.wait(20)
    local.close()
    names = set((tmp_path / "environ.log").read_text().split())
    assert "OMP_NUM_THREADS" in names
    assert names <= {*ALLOWED, "OMP_NUM_THREADS", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}


def test_stop_asks_before_it_kills(tmp_path: Path) -> None:
    local = Local(tmp_path, tmp_path)
    polite = local.start("tests.compute.child", ["polite"], log="polite.log")
    deaf = local.start("tests.compute.child", ["deaf"], log="deaf.log")
    for name in ("polite", "deaf"):
        wait_for(lambda name=name: "ready" in (tmp_path / f"{name}.log").read_text(), seconds=20)  # type: ignore[misc]
    polite.stop(20)
    deaf.stop(0.2)
    local.close()
    assert polite.code == 0
    assert polite.last_words().endswith("finished")
    assert deaf.code == -signal.SIGKILL
