"""The worked examples of docs/contributing, followed to the letter: a copy of the house is changed as a page says, and then used."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import drivetrain

ROOT = Path(__file__).parent.parent.parent
_STEP = re.compile(r"`(src/drivetrain/[^`]+)`[^\n]*:\n\n```(\w+)\n(.*?)```", re.DOTALL)


def follow(page: str, into: Path) -> Path:
    """Do what `docs/contributing/<page>.md` says on a copy of the house in `into`; the folder to put on PYTHONPATH.

    A block after a path is the file, or with `diff` what changes in it: lines with a blank or "-" before them must be there together.
    """
    source = into / "src"
    shutil.copytree(Path(drivetrain.__file__).parent, source / "drivetrain", ignore=shutil.ignore_patterns("__pycache__"))
    told = (ROOT / "docs/contributing" / f"{page}.md").read_text()
    steps = _STEP.findall(told)
    blocks = len(re.findall(r"^```(?:python|diff)$", told, re.MULTILINE))
    assert blocks == len(steps) > 0, f"docs/contributing/{page}.md has {blocks} blocks, of which {len(steps)} come after a path and a colon"
    for path, language, text in steps:
        file = into / path
        if language == "diff":
            file.write_text(changed(file.read_text(), text, path))
        else:
            assert not file.exists(), f"{path} is there already"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    return source


def changed(text: str, diff: str, path: str) -> str:
    """`text` after the hunks of `diff`, which are divided by lines of "@@"."""
    for hunk in re.split(r"^@@.*\n", diff, flags=re.MULTILINE):
        lines = hunk.splitlines()
        before = "\n".join(line[1:] for line in lines if line[:1] != "+")
        after = "\n".join(line[1:] for line in lines if line[:1] != "-")
        if lines:
            assert text.count(before) == 1, f"{path} has {text.count(before)} times:\n{before}"
            text = text.replace(before, after)
    return text
