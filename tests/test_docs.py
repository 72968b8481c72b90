"""Nothing undocumented: every setting, command and mount is in the docs, and what the docs show runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from drivetrain.config import ClientSettings, Settings
from tests.cli.conftest import program
from tests.conftest import Server

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def settings_table() -> str:
    """The table of docs/reference/settings.md, made from the settings themselves."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for kind in (Settings, ClientSettings):
        for f in fields(kind):
            default = "" if f.name == "home" else f.default
            shown = f"`{default}`" if default not in ("", ()) else ""
            lines.append(f"| `{f.name}` | {shown} | {f.metadata['doc'].replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs/reference/settings.md").read_text()
    assert settings_table() in page, "docs/reference/settings.md differs from config.py; write it anew with: python -m tests.test_docs"
    assert len(fields(Settings)) < 40


def test_every_loop_is_documented() -> None:
    """The table of loops tells of those that the supervisor runs, and of no others; a star, of one server at a time."""
    rows = re.findall(r'^            loop\("(\w+)", .*', (ROOT / "src/drivetrain/supervisor.py").read_text(), re.MULTILINE)
    page = (ROOT / "docs/explanation/processes.md").read_text()
    assert rows and set(re.findall(r"^\| `(\w+)`(?: \*)? \|", page, re.MULTILINE)) == set(rows)
    leased = re.findall(r'^            loop\("(\w+)", .*lease=', (ROOT / "src/drivetrain/supervisor.py").read_text(), re.MULTILINE)
    assert set(re.findall(r"^\| `(\w+)` \* \|", page, re.MULTILINE)) == set(leased)


def engines_table() -> str:
    """What docs/reference/engines.md says of each engine, made from the declarations."""
    from drivetrain.engines.options import declared
    from drivetrain.engines.table import ENGINES

    parts = []
    for engine in sorted(ENGINES, key=lambda one: one.name):
        formats = ", ".join(one.title for one in engine.formats)
        code = any(one.runs_code for one in engine.formats)
        parts += [f"## {engine.name}", "", f"Serves {engine.serves} (format {formats}): {', '.join(engine.tasks)}."]
        start = "Models are started by `drivetrain deploy` alone, since the format can carry code."
        parts += [start if code else "Models start when they are first called by name; no deployment is needed.", ""]
        parts += [f"Without the package `{one.module}`: {one.without}. `pip install {one.install}`" for one in engine.packages]
        rows = [f"| `{one.name}` | {one.takes} | {one.otherwise} | {one.help} |" for one in declared(engine.options)]
        if rows:
            parts += ["", "| option | takes | otherwise | for |", "|---|---|---|---|", *rows]
        parts.append("")
    return "\n".join(parts).rstrip()


def test_every_engine_is_documented() -> None:
    page = (ROOT / "docs/reference/engines.md").read_text()
    assert engines_table() in page, "docs/reference/engines.md differs from the declarations; write it anew with: python -m tests.test_docs"


def commands() -> list[str]:
    """Every command, as one types it."""

    def walk(command: object, path: list[str]) -> list[str]:
        children = getattr(command, "commands", None)
        if not children:
            return [" ".join(path)]
        return [line for name, child in sorted(children.items()) if not child.hidden for line in walk(child, [*path, name])]

    return walk(program(), ["drivetrain"])


def test_every_command_is_documented() -> None:
    page = (ROOT / "docs/reference/commands.md").read_text()
    missing = [command for command in commands() if f"`{command}" not in page]
    assert not missing, f"docs/reference/commands.md does not mention {missing}"


def told_in_docs() -> Iterator[tuple[str, str]]:
    """(where, command line) of what the docs say to type."""
    for page in PAGES:
        text = page.read_text()
        blocks = re.findall(r"```\w*(?: run)?\n(.*?)```", text, re.DOTALL)
        lines = [line for block in blocks for line in block.splitlines()] + re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
        yield from ((page.name, line) for line in lines if line.startswith("drivetrain "))


def told_by_the_program() -> Iterator[tuple[str, str]]:
    """(where, command line) of what messages and help advise to type."""
    for file in sorted((ROOT / "src").rglob("*.py")):
        for line in file.read_text().splitlines():
            yield from (
                (file.name, found) for found in re.findall(r"(?:`|: |→ |with )(drivetrain [a-z](?:(?!drivetrain )[^`\"\[])*)", line)
            )


def unknown(line: str) -> str | None:
    """What of a command line is no command, subcommand or option of it."""
    at = program()
    options: set[str] = set()
    for word in re.split(r"[\s,;()]+", line.partition("#")[0].strip())[1:]:
        word = word.rstrip(".…:'")
        children = getattr(at, "commands", None)
        if word.startswith("-"):
            options |= {name for one in at.params for name in [*one.opts, *one.secondary_opts]}
            name = word.partition("=")[0]
            if len(name) > 1 and name not in options | {"--help", "-h"}:
                return name
        elif children and re.fullmatch(r"[a-z][a-z-]*", word):
            if word not in children:
                return word
            at = children[word]
        elif children and not word:
            return None
        elif children:
            return None  # `drivetrain {verb} …`: made up of parts
    return None


@pytest.mark.parametrize("told", [told_in_docs, told_by_the_program])
def test_what_people_are_told_to_type_exists(told: Callable[[], Iterator[tuple[str, str]]]) -> None:
    found = [(where, line) for where, line in told()]
    assert len(found) > 50
    wrong = [f"{where}: {what!r} in {line!r}" for where, line in found if (what := unknown(line)) is not None]
    assert not wrong, "\n".join(wrong)


def test_every_mount_is_documented() -> None:
    from drivetrain.app import mounts

    page = (ROOT / "docs/reference/mounts.md").read_text()
    missing = [prefix for prefix in mounts() if f"`{prefix}" not in page]
    assert not missing, f"docs/reference/mounts.md does not mention {missing}"


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}, which does not exist"


def examples() -> list[tuple[Path, str, str]]:
    """The code blocks that are marked to be run: ```python run and ```sh run. Those of one page run in order, in one folder."""
    return [(page, kind, code) for page in PAGES for kind, code in re.findall(r"```(python|sh) run\n(.*?)```", page.read_text(), re.DOTALL)]


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted({page for page, _, _ in examples()}), ids=lambda page: page.stem)
def test_examples_run(page: Path, server: Server, tmp_path: Path) -> None:
    binaries = Path(sys.executable).parent
    environ = {k: v for k, v in os.environ.items() if not k.startswith("DRIVETRAIN_")}
    environ |= {"PATH": f"{binaries}:{environ['PATH']}", "DRIVETRAIN_URL": server.url, "MLFLOW_DISABLE_TELEMETRY": "true"}
    for line in subprocess.run(
        [binaries / "drivetrain", "env"], env=environ, capture_output=True, text=True, check=True
    ).stdout.splitlines():
        if found := re.fullmatch(r"export (\w+)='?([^']*)'?", line):
            environ[found[1]] = found[2]
    for owner, kind, code in examples():
        if owner != page:
            continue
        command = [sys.executable, "-c", code] if kind == "python" else ["bash", "-euo", "pipefail", "-c", code]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{code}\n--- printed\n{done.stdout}\n{done.stderr}"


if __name__ == "__main__":
    for name, table in (("settings", settings_table()), ("engines", engines_table())):
        file = ROOT / f"docs/reference/{name}.md"
        whole = re.compile(rf"(<!-- {name}:.*?-->\n).*(<!-- /{name} -->)", re.DOTALL)
        file.write_text(whole.sub(lambda found, text=table: f"{found[1]}{text}\n{found[2]}", file.read_text()))  # type: ignore[misc]
