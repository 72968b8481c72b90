"""The unmodified `tritonclient` and MLflow's scoring protocol, in their own processes, against a real server and a real classifier."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.scripts import cli, run
from tests.conftest import Server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def digits_server(server: Server, digits_model: Path) -> Server:
    """`server` with a classifier of digits deployed as `digits`."""
    cli(server, "pull", str(digits_model), "--name", "digits")
    cli(server, "deploy", "digits", "digits", "--wait")
    return server


def test_every_way_to_ask_gives_the_same_answers(digits_server: Server) -> None:
    got = run(
        digits_server.url,
        """
import json, os, urllib.request
import numpy as np, tritonclient.http as triton
from sklearn.datasets import load_digits
x, y = load_digits(return_X_y=True)
x, y = x[-200:], y[-200:]
client = triton.InferenceServerClient(os.environ["KSERVE_HOST"])
about = client.get_model_metadata("digits")
def ask(binary, dtype):
    tensor = triton.InferInput(about["inputs"][0]["name"], list(x.shape), triton.np_to_triton_dtype(dtype))
    tensor.set_data_from_numpy(x.astype(dtype), binary_data=binary)
    outputs = None if binary else [triton.InferRequestedOutput(about["outputs"][0]["name"], binary_data=False)]
    return client.infer("digits", [tensor], outputs=outputs).as_numpy(about["outputs"][0]["name"]).tolist()
def invoke(body, kind="application/json"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(os.environ["SERVER_URL"] + "/invoke/digits/invocations", data, {"content-type": kind})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["predictions"]
names = [f"c{i}" for i in range(64)]
lines = "\\n".join([",".join(names)] + [",".join(map(str, row)) for row in x]).encode()
answers = {
    "binary": ask(True, np.float64), "json": ask(False, np.float64), "single": ask(True, np.float32),
    "inputs": invoke({"inputs": x.tolist()}), "instances": invoke({"instances": x.tolist()}),
    "split": invoke({"dataframe_split": {"columns": names, "data": x.tolist()}}),
    "records": invoke({"dataframe_records": [dict(zip(names, row)) for row in x.tolist()]}),
    "csv": invoke(lines, "text/csv"),
}
print(json.dumps({"answers": answers, "truth": y.tolist(), "ready": client.is_model_ready("digits"), "versions": about["versions"]}))
""",
    )
    answers = got["answers"]
    assert all(answer == answers["binary"] for answer in answers.values()), {k: v[:5] for k, v in answers.items()}
    right = sum(a == b for a, b in zip(answers["binary"], got["truth"], strict=True))
    assert right > 170
    assert got["ready"]
    assert got["versions"] == ["1"]


def test_errors_are_the_librarys_own(digits_server: Server) -> None:
    got = run(
        digits_server.url,
        """
import json, os
import numpy as np, tritonclient.http as triton
from tritonclient.utils import InferenceServerException
client = triton.InferenceServerClient(os.environ["KSERVE_HOST"])
def failed(name, shape):
    tensor = triton.InferInput("x", list(shape), "FP64")
    tensor.set_data_from_numpy(np.zeros(shape))
    try:
        client.infer(name, [tensor])
    except InferenceServerException as error:
        return [error.status(), error.message()]
print(json.dumps([failed("nobody", (1, 64)), failed("digits", (1, 3))]))
""",
    )
    assert got[0][0] == "404"
    assert "nobody" in got[0][1]
    assert got[1][0] == "400"
    assert "64" in got[1][1]
