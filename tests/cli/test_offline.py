"""What the command line does without a server: help, advice, and work on a home itself."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cli.conftest import Drivetrain, Said, program, run


def commands() -> list[list[str]]:
    """Every command, with the groups."""

    def walk(command: object, path: list[str]) -> list[list[str]]:
        children = getattr(command, "commands", {})
        return [path] + [line for name, child in children.items() for line in walk(child, [*path, name])]

    return walk(program(), [])


ASKING = [
    ["pull", "pypi:x"],  # these two wait longest
    ["jobs", "show", "x"],
    ["ps"],
    ["models"],
    ["models", "list"],
    ["models", "show", "x"],
    ["models", "files", "x"],
    ["models", "alias", "x", "a", "1"],
    ["models", "delete", "x", "--yes"],
    ["runs"],
    ["runs", "show", "x"],
    ["jobs"],
    ["jobs", "log", "x"],
    ["jobs", "cancel", "x"],
    ["deploy", "x", "y"],
    ["undeploy", "x"],
    ["scale", "x", "1"],
    ["restart", "x"],
    ["chat", "x", "hello"],
    ["trace", "x"],
    ["feedback", "x", "thumbs", "true"],
    ["keys"],
    ["keys", "list"],
    ["keys", "create"],
    ["keys", "revoke", "x"],
    ["keys", "require"],
    ["users"],
    ["users", "create", "x"],
    ["users", "disable", "x"],
    ["users", "enable", "x"],
    ["workspaces"],
    ["workspaces", "create", "x"],
    ["workspaces", "members", "x"],
    ["workspaces", "add", "x", "y"],
    ["workspaces", "remove", "x", "y"],
]


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_every_command_explains_itself(path: list[str]) -> None:
    command = program()
    for name in path:
        command = command.commands[name]
    assert command.help
    assert len(command.help) > 10
    for param in command.params:
        shown = getattr(param, "help", None)
        assert shown or param.name in ("help", "context"), f"{' '.join(path)}: {param.name} says nothing"
    if path and path != ["up"] and not getattr(command, "commands", None):
        assert any("--json" in param.opts for param in command.params), f"{' '.join(path)} has no --json"


@pytest.fixture(scope="module", autouse=True)
def asked(nowhere: Drivetrain) -> Iterator[list[Future[Said]]]:
    """What each of `ASKING` says. They run beside the other tests, since some wait a while for a server that may be starting again."""
    with ThreadPoolExecutor(4) as pool:
        yield [pool.submit(nowhere, *arguments, "--json") for arguments in ASKING]


@pytest.mark.parametrize(
    "arguments", [["deploy"], ["nonsense"], ["keys", "create", "--scope", "all"], ["ps", "--wrong"], ["scale", "x", "-1"]]
)
def test_a_wrong_command_line_is_told_apart(nowhere: Drivetrain, arguments: list[str]) -> None:
    said = nowhere(*arguments)
    assert said.code == 2
    assert said.out == ""
    assert nowhere(*arguments, "--json").json["error"]["exit_code"] == 2


def test_env_prints_what_shells_read(nowhere: Drivetrain) -> None:
    exported = nowhere("env", "--json").ok().json
    wandb = {"WANDB_BASE_URL", "WANDB_API_KEY"}
    assert set(exported) == {"DRIVETRAIN_URL", "MLFLOW_TRACKING_URI", "OPENAI_BASE_URL", "OPENAI_API_KEY", "OLLAMA_HOST"} | wandb
    assert re.fullmatch(r"dt-[A-Za-z0-9]{40}", exported["OPENAI_API_KEY"])
    posix = dict(shlex.split(line)[1].split("=", 1) for line in nowhere("env").ok().out.splitlines())
    fish = dict(line.removeprefix("set -gx ").rstrip(";").split(" ", 1) for line in nowhere("env", "--shell", "fish").ok().out.splitlines())
    assert posix == fish == exported == nowhere("env", "--shell", "json").json


def test_env_passes_a_key_to_every_client(nowhere: Drivetrain) -> None:
    key = "dt-" + "a1" * 20
    exported = nowhere("env", "--json", DRIVETRAIN_API_KEY=key, DRIVETRAIN_WORKSPACE="vision").ok().json
    names = ("DRIVETRAIN_API_KEY", "OPENAI_API_KEY", "MLFLOW_TRACKING_TOKEN", "OLLAMA_API_KEY")
    assert {exported[name] for name in names} == {key}
    assert exported["DRIVETRAIN_WORKSPACE"] == "vision"


def test_env_works_in_a_shell(nowhere: Drivetrain) -> None:
    script = nowhere("env").ok().out + '\necho "$OPENAI_BASE_URL"'
    assert subprocess.run(["sh", "-ec", script], capture_output=True, text=True).stdout.strip().endswith("/v1")


def test_keys_of_a_home_without_a_server(tmp_path: Path) -> None:
    home = tmp_path / "home"
    refused = run("keys", "require", "--home", home)
    assert refused.code == 1
    assert "--scope admin" in refused.err
    secret = run("keys", "create", "--home", home, "--scope", "admin", "--name", "me").ok().out.strip()
    assert re.fullmatch(r"dt-[A-Za-z0-9]{40}", secret)
    run("keys", "require", "--home", home).ok()
    (listed,) = run("keys", "list", "--home", home, "--json").ok().json
    assert (listed["name"], sorted(listed["scopes"])) == ("me", ["admin", "invoke", "read", "write"])
    assert secret not in json.dumps(listed)
    assert run("keys", "revoke", listed["id"], "--home", home).code == 1  # the last admin's
    run("keys", "require", "--off", "--home", home).ok()
    run("keys", "revoke", listed["id"], "--home", home).ok()


def test_a_home_in_use_is_left_alone(tmp_path: Path) -> None:
    from drivetrain.store.home import Home

    home = Home.open(tmp_path / "home")
    with home.lock():
        said = run("keys", "create", "--home", home.path, "--json")
    assert said.code == 1
    assert "Another drivetrain" in said.json["error"]["message"]


def test_doctor_looks_and_changes_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    looked = run("doctor", "--home", home, "--json", DRIVETRAIN_URL="http://127.0.0.1:1").ok().json
    assert looked["ok"]
    assert not home.exists()
    assert {"home", "disk", "memory", "sockets", "database", "server"} <= {check["name"] for check in looked["checks"]}
    run("keys", "create", "--home", home).ok()
    assert "All is well" in run("doctor", "--home", home, DRIVETRAIN_URL="http://127.0.0.1:1").ok().out


def test_doctor_finds_what_is_wrong(tmp_path: Path) -> None:
    home = tmp_path / "home"
    run("keys", "create", "--home", home).ok()
    (home / "drivetrain.db").write_bytes(b"not a database" * 1000)
    (home / "drivetrain.db-wal").unlink(missing_ok=True)
    (home / "secret.key").chmod(0o644)
    said = run("doctor", "--home", home, "--json", DRIVETRAIN_URL="http://127.0.0.1:1")
    assert said.code == 1
    bad = {check["name"]: check["text"] for check in said.json["checks"] if check["state"] == "bad"}
    assert set(bad) == {"home", "database"}
    assert "chmod 600" in bad["home"]


def test_the_import_is_quick() -> None:
    code = "import time; t = time.perf_counter(); import drivetrain as dt; dt.__version__; print(time.perf_counter() - t)"
    fastest = min(float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout) for _ in range(3))
    assert fastest < 0.15


def test_heavy_libraries_stay_out_of_the_command_line() -> None:
    code = "import sys, drivetrain.cli.main; print(*({'httpx', 'fastapi', 'sqlalchemy', 'polars', 'numpy', 'mlflow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == ""


def test_completion_is_offered() -> None:
    # The shell is named: who runs the tests may have none among its parents.
    said = run("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "complete" in said.out and said.code == 0
    completed = run(_DRIVETRAIN_COMPLETE="complete_bash", COMP_WORDS="drivetrain de", COMP_CWORD="1")
    assert "deploy" in completed.out.split()


@pytest.mark.parametrize("number", range(len(ASKING)), ids=[" ".join(arguments) for arguments in ASKING])
def test_no_server_says_how_to_start_one(asked: list[Future[Said]], number: int) -> None:
    said = asked[number].result()
    assert said.code == 5
    assert said.json["error"]["exit_code"] == 5
    lines = said.err.strip().splitlines()
    assert len(lines) == 1
    assert "drivetrain up" in lines[0]
