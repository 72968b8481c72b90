"""Prompts, evaluation datasets and scorers of the unmodified mlflow client: the same as against `mlflow server`, without complaint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients.test_mlflow import mlflow
from tests.clients.test_mlflow_peer import peer
from tests.conftest import Server

__all__ = ["peer"]

pytestmark = pytest.mark.slow

# As a file: to register a scorer, its client reads the scorer's source.
SCRIPT = f"import runpy; runpy.run_path({str(Path(__file__).parent / 'mlflow_genai_script.py')!r}, run_name='__main__')"


@pytest.fixture(scope="module")
def theirs(peer: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("theirs")
    return mlflow(Server(folder, url=peer), SCRIPT, cwd=folder, uri=peer)


def test_the_client_sees_the_same(either_server: Server, theirs: Any, tmp_path: Path) -> None:
    ours = mlflow(either_server, SCRIPT, cwd=tmp_path)
    for part, told in theirs.items():
        assert ours[part] == told, part
    page = httpx.get(f"{either_server.url}/models", timeout=30).text
    assert "a model" in page and "hello" not in page  # the dashboard shows models, not prompts


def test_what_was_acknowledged_survives_a_kill(new_server: Callable[..., Server], tmp_path: Path) -> None:
    server = new_server()
    mlflow(
        server,
        """
        from mlflow.genai import datasets, scorers
        made = datasets.create_dataset("kept", experiment_id="0")
        made.merge_records([{"inputs": {"n": n}, "expectations": {"even": n % 2 == 0}} for n in range(500)])
        scorers.Guidelines(name="short", guidelines="Be short.").register(experiment_id="0")
        mlflow.genai.register_prompt("kept", "Hello {{name}}")
        print("null")
        """,
        cwd=tmp_path,
    )
    server.kill()
    server.restart()
    told = mlflow(
        server,
        """
        from mlflow.genai import datasets, scorers
        print(json.dumps([
            len(datasets.get_dataset(name="kept").to_df()),
            [one.name for one in scorers.list_scorers(experiment_id="0")],
            mlflow.genai.load_prompt("prompts:/kept@latest").template,
        ]))
        """,
        cwd=tmp_path,
    )
    assert told == [500, ["short"], "Hello {{name}}"]


def test_a_model_is_evaluated_on_a_dataset_and_its_traces_become_records(new_server: Callable[..., Server], tmp_path: Path) -> None:
    told = mlflow(
        new_server(),
        """
        from mlflow.genai import datasets
        from mlflow.genai.scorers import scorer
        mlflow.set_experiment("evaluation")
        made = datasets.create_dataset("qa")
        made.merge_records([{"inputs": {"q": str(n)}, "expectations": {"answer": str(n % 4)}} for n in range(5)])

        @scorer
        def exact(outputs, expectations):
            return outputs == expectations["answer"]

        found = mlflow.genai.evaluate(data=made, predict_fn=lambda q: q, scorers=[exact])
        run = mlflow.get_run(found.run_id)
        traces = mlflow.search_traces(run_id=found.run_id, return_type="list")
        other = datasets.create_dataset("from traces").merge_records(traces)
        print(json.dumps([
            float(found.metrics["exact/mean"]), run.data.metrics,
            [(one.dataset.name, one.dataset.source_type) for one in run.inputs.dataset_inputs],
            len(traces), sorted((row.inputs["q"], row.source_type) for row in other.to_df().itertuples()),
        ]))
        """,
        cwd=tmp_path,
    )
    assert told[:4] == [0.8, {"exact/mean": 0.8}, [["qa", "mlflow_evaluation_dataset"]], 5]
    assert told[4] == [[str(n), "TRACE"] for n in range(5)]
