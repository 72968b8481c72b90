"""The environment of a Python model: this interpreter's own where it satisfies what the model pins, else one that a job builds.

A built environment is a virtual environment with the model's own packages first and, behind them, those that drivetrain itself runs with:
only what differs is installed. It is cached by the digest of what was asked for. The job's handler is `run`.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path

from drivetrain import config
from drivetrain.errors import DrivetrainError, Invalid, StorageFull
from drivetrain.jobs.handle import Handle
from drivetrain.jobs.kinds import Built, Environment

READY = ".ready"
_MOST = 500


def parse(text: str) -> tuple[str, ...]:
    """The requirements in the text of a requirements.txt. Raises `Invalid` for options, addresses and paths: they name what no one here
    has chosen to trust."""
    from packaging.requirements import InvalidRequirement, Requirement

    found: list[str] = []
    for line in text.replace("\\\n", " ").splitlines():
        line = re.sub(r"(^|\s)#.*$", "", line).strip()
        if not line:
            continue
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            raise Invalid(
                f"The model's requirements.txt has a line that is no plain requirement: {line[:100]!r}. Log the model with "
                'pip_requirements=["name==version", …], or deploy it with the option environment=inherit.'
            ) from None
        if requirement.url is not None:
            raise Invalid(
                f"The model's requirements.txt names an address ({line[:100]!r}); only packages by name and version are installed."
            )
        found.append(str(requirement))
    if len(found) > _MOST:
        raise Invalid(f"The model's requirements.txt has {len(found)} lines; at most {_MOST} are taken.")
    return tuple(sorted(set(found)))


def problems(requirements: Sequence[str]) -> list[str]:
    """In what this interpreter does not satisfy them; [] when it does."""
    from packaging.requirements import Requirement

    found = []
    for line in requirements:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            installed = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{requirement} is not installed")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            found.append(f"{requirement} is wanted, {installed} is installed")
    return found


def digest(requirements: Sequence[str]) -> str:
    """The name of the environment that satisfies these on this interpreter."""
    text = "\n".join([sys.version, sys.prefix, *sorted(requirements)])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def folder_of(home: Path, requirements: Sequence[str]) -> Path:
    return home / "cache" / "environments" / digest(requirements)


def python_of(folder: Path) -> Path | None:
    """The interpreter of a built environment; None when it is not there, or not whole."""
    python = folder / "bin" / "python"
    return python if (folder / READY).exists() and python.exists() else None


def run(job: Handle[Environment]) -> Built:
    """The handler of jobs of kind `environment`."""
    lines = job.spec.requirements
    if any("\n" in line for line in lines):
        raise Invalid("Each requirement is a line of its own, such as scikit-learn==1.5.2.", param="requirements")
    requirements = parse("\n".join(lines))
    home = job.folder.parent.parent  # jobs work in HOME/jobs/ID
    target = folder_of(home, requirements)
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the same environment may be wanted twice
        if python_of(target) is None:
            build(target, requirements, job, config.load(home).pip_args)
    return Built(folder=str(target), digest=target.name, requirements=list(requirements))


def build(target: Path, requirements: Sequence[str], job: Handle[Environment], pip_args: Sequence[str]) -> None:
    """Make the environment in `target`. What an interrupted attempt left there is thrown away."""
    shutil.rmtree(target, ignore_errors=True)
    job.progress(0, 0, f"making an environment for {len(requirements)} requirements")
    venv.create(target, symlinks=True, with_pip=False)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(target), "platbase": str(target)}))
    behind = dict.fromkeys(path for path in sys.path if path.endswith(("site-packages", "dist-packages")) and Path(path).is_dir())
    # addsitedir also follows what those folders themselves point at, such as an editable installation of drivetrain.
    lines = [f"import site; site.addsitedir({path!r})" for path in behind]
    (packages / "behind.pth").write_text("".join(f"{line}\n" for line in lines))
    if requirements:
        _install(target, requirements, job, pip_args)
    (target / READY).touch()


def _install(target: Path, requirements: Sequence[str], job: Handle[Environment], pip_args: Sequence[str]) -> None:
    asked = target / "requirements.txt"
    asked.write_text("".join(f"{line}\n" for line in requirements))
    command = [str(target / "bin" / "python"), "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    command += [*pip_args, "-r", str(asked)]
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    said: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ
    ) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            said.append(line.rstrip())
            job.log(line.rstrip())
            if line.startswith(("Collecting ", "Downloading ", "Installing ", "Building ")):
                job.progress(0, 0, line.strip()[:200])
    if pip.returncode != 0:
        shutil.rmtree(target, ignore_errors=True)
        if any("No space left" in line for line in said):
            raise StorageFull("The disk is full: the environment was not made. Free some space and deploy again.")
        errors = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR")]
        raise DrivetrainError(
            f"pip could not install what the model pins: {(errors or said or ['it said nothing'])[-1][:300]} "
            "The job's log shows all of it. With the option environment=inherit the model runs on what is installed here."
        )
