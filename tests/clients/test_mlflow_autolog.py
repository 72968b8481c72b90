"""Autolog, as mlflow has it for scikit-learn and transformers for mlflow: nothing in the script says what to log."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.test_mlflow import mlflow
from tests.conftest import Server

pytestmark = pytest.mark.slow


def test_a_grid_search_has_a_run_for_each_candidate_and_models_that_load(server: Server, tmp_path: Path) -> None:
    told = mlflow(
        server,
        """
        mlflow.set_experiment("grid")
        mlflow.sklearn.autolog(log_input_examples=True, max_tuning_runs=2)
        import sklearn.metrics
        from sklearn.datasets import load_iris
        from sklearn.linear_model import Ridge
        from sklearn.model_selection import GridSearchCV, train_test_split
        x, y = load_iris(return_X_y=True, as_frame=True)
        seen, fresh, known, asked = train_test_split(x, y, random_state=0)
        with mlflow.start_run(run_name="search") as run:
            search = GridSearchCV(Ridge(), {"alpha": [0.1, 1.0, 100.0]}, cv=3).fit(seen, known)
            guessed = search.predict(fresh)
            sklearn.metrics.r2_score(asked, guessed)
            sklearn.metrics.mean_squared_error(asked, guessed)
            search.score(fresh, asked)
        mlflow.sklearn.autolog(disable=True)
        me = run.info.run_id
        found = client.get_run(me)
        children = client.search_runs(
            [found.info.experiment_id], f"tags.`mlflow.parentRunId` = '{me}'", order_by=["metrics.mean_test_score DESC"]
        )
        models = mlflow.search_logged_models([found.info.experiment_id], f"source_run_id = '{me}'", output_format="list")
        model = next(model for model in models if model.name == "model")
        loaded = mlflow.pyfunc.load_model(model.model_uri)
        print(json.dumps({
            "params": found.data.params, "metrics": sorted(found.data.metrics), "status": found.info.status,
            "estimator": found.data.tags["estimator_name"],
            "children": [[one.data.params["alpha"], one.info.status, "mean_test_score" in one.data.metrics] for one in children],
            "models": sorted([model.name, str(model.status)] for model in models),
            "measured": sorted({metric.dataset_name for metric in model.metrics if metric.key.startswith("training_")}),
            "files": sorted(file.path for file in client.list_artifacts(me)),
            "rows": len(open(mlflow.artifacts.download_artifacts(run_id=me, artifact_path="cv_results.csv")).readlines()),
            "inputs": sorted(one.tags[0].value for one in found.inputs.dataset_inputs),
            "outputs": len(found.outputs.model_outputs), "linked": {one.model_id for one in found.outputs.model_outputs}
                == {model.model_id for model in models},
            "columns": loaded.metadata.signature.inputs.input_names(), "example": loaded.input_example.shape[1],
            "same": bool(abs(loaded.predict(fresh) - guessed).max() < 1e-9),
        }))
        """,
        cwd=tmp_path,
    )
    assert told["params"]["best_alpha"] in ("0.1", "1.0") and told["params"]["cv"] == "3"
    assert {"best_cv_score", "training_r2_score", "training_score"} <= set(told["metrics"])
    # What is measured after the fit is logged to the run whose model made the predictions.
    assert {"r2_score_fresh", "mean_squared_error_fresh", "GridSearchCV_score_fresh"} <= set(told["metrics"])
    assert told["status"] == "FINISHED" and told["estimator"] == "GridSearchCV"
    assert [child[1:] for child in told["children"]] == [["FINISHED", True]] * 2
    assert told["models"] == [["best_estimator", "READY"], ["model", "READY"]] and told["measured"] == ["dataset"]
    assert {"cv_results.csv", "estimator.html", "metric_info.json"} <= set(told["files"]) and told["rows"] == 4
    assert told["inputs"] == ["eval", "train"] and told["outputs"] == 2 and told["linked"]
    assert len(told["columns"]) == told["example"] == 4 and told["same"]


def test_a_transformer_s_training_is_logged_by_its_own_callback(server: Server, tmp_path: Path) -> None:
    told = mlflow(
        server,
        """
        os.environ |= {"HF_MLFLOW_LOG_ARTIFACTS": "1", "MLFLOW_TAGS": json.dumps({"team": "red"}), "HF_HUB_OFFLINE": "1"}
        import torch
        from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

        class Rows(torch.utils.data.Dataset):
            def __len__(self):
                return 16

            def __getitem__(self, n):
                return {"input_ids": torch.tensor([n % 7 + 1] * 4), "attention_mask": torch.ones(4, dtype=torch.long),
                        "labels": torch.tensor(n % 2)}

        torch.manual_seed(0)
        torch.set_num_threads(1)
        mlflow.set_experiment("tiny")
        shape = BertConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
                           max_position_embeddings=8)
        arguments = TrainingArguments(
            "out", run_name="tiny", num_train_epochs=2, per_device_train_batch_size=4, logging_steps=1, report_to=["mlflow"],
            use_cpu=True, eval_strategy="epoch", save_strategy="epoch", disable_tqdm=True,
        )
        model = BertForSequenceClassification(shape)
        trainer = Trainer(model=model, args=arguments, train_dataset=Rows(), eval_dataset=Rows())
        trainer.train()
        (run,) = client.search_runs([mlflow.get_experiment_by_name("tiny").experiment_id])
        me = run.info.run_id
        models = {model.name: model for model in (client.get_logged_model(one.model_id) for one in run.outputs.model_outputs)}
        folder = mlflow.artifacts.download_artifacts(models["checkpoint-8"].artifact_location + "/artifacts/checkpoint-8")
        again = BertForSequenceClassification.from_pretrained(folder)
        same = all(bool((a == b).all()) for a, b in zip(again.state_dict().values(), model.state_dict().values()))
        print(json.dumps({
            "run": [run.info.run_name, run.info.status, run.data.tags["team"]],
            "params": [run.data.params[key] for key in ("hidden_size", "num_train_epochs", "model_type")], "many": len(run.data.params),
            "steps": [point.step for point in client.get_metric_history(me, "loss")],
            "evaluated": [point.step for point in client.get_metric_history(me, "eval_loss")],
            "checkpoints": sorted(models), "same": same,
        }))
        """,
        cwd=tmp_path,
    )
    assert told["run"] == ["tiny", "FINISHED", "red"]
    assert told["params"] == ["8", "2", "bert"] and told["many"] > 100  # more than fit in one batch
    assert told["steps"] == list(range(1, 9)) and told["evaluated"] == [4, 8]
    assert told["checkpoints"] == ["checkpoint-4", "checkpoint-8"] and told["same"]
