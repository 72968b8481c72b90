"""docs/contributing/add-a-dialect.md, followed on a copy of the house, then asked as people would."""

from __future__ import annotations

import urllib.request
from http.client import HTTPResponse
from pathlib import Path
from urllib.error import HTTPError

import pytest

from drivetrain.client import Client
from tests.conftest import Server, wait_for
from tests.contributing.worked import follow


@pytest.mark.slow
def test_a_dialect_answers_in_its_own_words(tmp_path: Path, gguf_model: Path) -> None:
    server = Server(tmp_path / "home", ("--web", "1"), environ={"PYTHONPATH": str(follow("add-a-dialect", tmp_path))}).start()
    try:
        with Client(server.url, server.token) as client:
            client.push(gguf_model, "smollm2")
            client.deployments.deploy("bot", "smollm2")
            client.deployments.wait("bot")

            def ask(name: str) -> HTTPResponse:
                asked = urllib.request.Request(f"{server.url}/plain/{name}", b"Say hello.", {"content-type": "text/plain"})
                answer: HTTPResponse = urllib.request.urlopen(asked, timeout=120)
                return answer

            answer = ask("bot")
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            assert answer.read().decode().strip()
            (event,) = wait_for(lambda: client.requests.recent(deployment="bot"), what="the event")
            assert (event.dialect, event.task, event.status) == ("plain", "chat", 200)
            assert event.id == answer.headers["x-request-id"]
            with pytest.raises(HTTPError) as refused:
                ask("nobody")
            assert refused.value.code == 404 and "nobody" in refused.value.read().decode()
    finally:
        server.stop()
