"""What a run was made with, found without being asked: git, script, Python, packages, machine, seeds."""

from __future__ import annotations

import getpass
import importlib.metadata
import os
import platform
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from drivetrain.tags import GIT_BRANCH, GIT_COMMIT, SOURCE, SOURCE_KIND, USER

MAX_DIFF = 1 << 20


def tags() -> dict[str, str]:
    """Under MLflow's names where it has one."""
    script = sys.argv[0] if sys.argv and sys.argv[0] not in ("", "-c") else ""
    found = {
        USER: _user(),
        SOURCE: str(Path(script).absolute()) if script else "<interactive>",
        SOURCE_KIND: "LOCAL",
        GIT_COMMIT: _git("rev-parse", "HEAD").strip(),
        GIT_BRANCH: _git("rev-parse", "--abbrev-ref", "HEAD").strip(),
        "drivetrain.arguments": " ".join(sys.argv[1:])[:5000],
        "drivetrain.host": socket.gethostname(),
        "drivetrain.python": platform.python_version(),
        "drivetrain.system": platform.platform(),
        "drivetrain.cpus": str(os.cpu_count()),
        "drivetrain.gpus": gpus(),
    }
    return {key: value for key, value in (found | seeds()).items() if value}


def seeds() -> dict[str, str]:
    """Of frameworks that the script has imported already; none is imported for this."""
    found = {}
    if torch := sys.modules.get("torch"):
        found["drivetrain.seed.torch"] = str(torch.initial_seed())
    if numpy := sys.modules.get("numpy"):
        state = numpy.random.get_state(legacy=True)
        # Right after seeding the first word of the state is the seed's own; later it says nothing.
        if state[2] == 624 and state[1][0] != 0:
            found["drivetrain.seed.numpy"] = str(int(state[1][0]))
    return found


def diff() -> str:
    """What is not committed yet."""
    return _git("diff", "HEAD")[:MAX_DIFF]


def requirements() -> str:
    names = {f"{one.metadata['Name']}=={one.version}" for one in importlib.metadata.distributions() if one.metadata["Name"]}
    return "".join(f"{line}\n" for line in sorted(names, key=str.lower))


def gpus() -> str:
    if shutil.which("nvidia-smi") is None:
        return ""
    return ", ".join(line.strip() for line in _run("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines())


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _git(*arguments: str) -> str:
    return _run("git", "--no-optional-locks", *arguments) if shutil.which("git") else ""


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace", timeout=10, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""
