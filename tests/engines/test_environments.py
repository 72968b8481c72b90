"""What a model pins, whether it is met, and environments built with the real pip from a wheel made here."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from drivetrain.client import Client
from drivetrain.engines import environments
from drivetrain.engines.pyfunc.declaration import requirements
from drivetrain.errors import DrivetrainError, Invalid
from drivetrain.jobs.handle import Handle
from drivetrain.jobs.kinds import Environment


def wheel(folder: Path, name: str, version: str) -> None:
    """A wheel of one module that knows its version."""
    info = f"{name}-{version}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


def job(tmp_path: Path, *requirements: str, said: list[str] | None = None) -> Handle[Environment]:
    """A job as the loop starts it, on a home whose pip looks into the folder `wheels` only. What it tells of its progress is `said`."""
    home = tmp_path / "home"
    (home / "jobs" / "j").mkdir(parents=True, exist_ok=True)
    (home / "drivetrain.toml").write_text(f'pip_args = ["--no-index", "--find-links", "{tmp_path}/wheels"]\n')
    spec, client = Environment(requirements=list(requirements)), Client("http://127.0.0.1:1", "")
    return Handle(spec, home / "jobs" / "j", client, lambda _done, _total, message: said.append(message) if said is not None else None)


def test_requirements_are_read() -> None:
    text = "numpy>=1.0  # a comment\n\n# another\nscikit-learn==1.5.2\ncloudpickle == 3.0.0 ; python_version < '3'\nnumpy>=1.0\n"
    assert environments.parse(text) == ('cloudpickle==3.0.0; python_version < "3"', "numpy>=1.0", "scikit-learn==1.5.2")


@pytest.mark.parametrize(
    "line",
    ["--index-url https://evil.example", "-r other.txt", "-e .", "./local", "git+https://x/y", "x @ https://x/y.whl", "a b", "x; rm -rf /"],
)
def test_only_plain_requirements_are_taken(line: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        environments.parse(f"numpy\n{line}\n")
    with pytest.raises(Invalid):
        environments.run(job(tmp_path, line))


def test_what_is_not_met_is_said() -> None:
    assert environments.problems(["numpy>=1", "no-such-thing==1; python_version < '3'"]) == []
    missing, old = environments.problems(["no-such-thing==1", "numpy==1.0"])
    assert missing == "no-such-thing==1 is not installed"
    assert "numpy==1.0 is wanted" in old


def test_mlflow_is_not_needed_where_it_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("mlflow==3.0.0\nscikit-learn==1.5.2\n")
    (tmp_path / "MLmodel").write_text("flavors: {sklearn: {}, python_function: {loader_module: mlflow.sklearn}}")
    assert requirements(tmp_path, {}) == ("scikit-learn==1.5.2",)
    (tmp_path / "MLmodel").write_text("flavors: {python_function: {loader_module: mlflow.pyfunc.model}}")
    assert requirements(tmp_path, {}) == ("mlflow==3.0.0", "scikit-learn==1.5.2")
    assert requirements(tmp_path, {"environment": "inherit"}) == ()
    (tmp_path / "requirements.txt").unlink()
    assert requirements(tmp_path, {}) == ()


@pytest.mark.slow
def test_an_environment_has_its_own_packages_first_and_ours_behind(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "tinydep", "2.0")
    wheel(tmp_path / "wheels", "msgspec", "99.0")
    made = environments.run(job(tmp_path, "tinydep==2.0", "msgspec==99.0"))
    python = environments.python_of(environments.folder_of(tmp_path / "home", ["tinydep==2.0", "msgspec==99.0"]))
    assert python is not None
    assert str(python).startswith(made.folder)
    code = "import tinydep, msgspec, drivetrain, httptools; print(tinydep.VERSION, msgspec.VERSION)"
    said = subprocess.run([str(python), "-c", code], capture_output=True, text=True)
    assert said.stdout.split() == ["2.0", "99.0"], said.stderr
    # It is there now: nothing is built again.
    told: list[str] = []
    again = job(tmp_path, "msgspec==99.0", "tinydep==2.0", said=told)
    assert environments.run(again).folder == made.folder
    assert told == []


@pytest.mark.slow
def test_an_interrupted_build_is_made_anew_and_a_failed_one_leaves_nothing(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "tinydep", "2.0")
    folder = environments.folder_of(tmp_path / "home", ["tinydep==2.0"])
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text("half")
    assert environments.python_of(folder) is None
    environments.run(job(tmp_path, "tinydep==2.0"))
    assert environments.python_of(folder) is not None
    with pytest.raises(DrivetrainError, match=r"tinydep==3\.0"):
        environments.run(job(tmp_path, "tinydep==3.0"))
    assert not environments.folder_of(tmp_path / "home", ["tinydep==3.0"]).exists()
