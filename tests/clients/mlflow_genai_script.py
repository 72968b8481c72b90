"""What a client can do with prompts, evaluation datasets and scorers, told as JSON. See test_mlflow_genai.py."""

import json
import math
import re
import threading
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import PromptModelConfig
from mlflow.exceptions import MlflowException
from mlflow.genai import datasets, judges, scorers
from mlflow.genai.scorers.registry import list_scorer_versions
from pydantic import BaseModel

warnings.simplefilter("ignore", FutureWarning)  # the older names of the functions for prompts
client = MlflowClient()
seen: dict[str, Any] = {}


class Answer(BaseModel):
    text: str
    score: float


def shown(error: MlflowException) -> list[Any]:
    return [error.error_code, error.get_http_status_code()]


def tried(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except MlflowException as error:
        return shown(error)


def settled() -> None:
    """Clients note in the background which experiment uses a prompt."""
    for thread in threading.enumerate():
        if thread.name.startswith("link_prompt"):
            thread.join(60)


def hidden(text: str | None) -> str | None:
    return None if text is None else re.sub(r"\b(?:[dm]r?-)?[0-9a-f]{32}\b", "ID", text)


mlflow.set_experiment("words")
words = client.get_experiment_by_name("words").experiment_id
other = client.create_experiment("other words")

# --- prompts


def prompt(one: Any) -> Any:
    if one is None:
        return None
    return {
        "name": one.name,
        "version": one.version,
        "template": one.template,
        "message": one.commit_message,
        "tags": one.tags,
        "aliases": one.aliases,
        "variables": sorted(one.variables),
        "text": one.is_text_prompt,
        "uri": one.uri,
        "format": one.response_format,
        "config": one.model_config,
    }


chat = [{"role": "system", "content": "You are {{ style }}."}, {"role": "user", "content": "Hallo {{name}} – ü"}]
client.create_registered_model("a model", tags={"k": "v"}, description="no prompt")
seen["registered"] = [
    prompt(mlflow.genai.register_prompt("hello", "Hello {{name}}", commit_message="first", tags={"team": "red"})),
    prompt(mlflow.genai.register_prompt("hello", "Hello dear {{name}}", commit_message="second", tags={"team": "blue", "more": "1"})),
    prompt(mlflow.genai.register_prompt("hello", chat, response_format=Answer)),
    prompt(
        mlflow.genai.register_prompt(
            "config",
            "x" * 20_000,
            model_config=PromptModelConfig(model_name="gpt-5", temperature=0.5, max_tokens=7),
            response_format={"a": "b"},
        )
    ),
    prompt(mlflow.register_prompt("older", "Older {{ a }} {{ b.c }}")),
]
settled()
client.set_prompt_alias("hello", "production", 1)
mlflow.genai.set_prompt_alias("hello", "production", version=2)
mlflow.genai.set_prompt_alias("hello", "candidate", version=3)
seen["loaded"] = [
    prompt(mlflow.genai.load_prompt(*what, cache_ttl_seconds=0))
    for what in (
        ("hello", 1),
        ("hello", "2"),
        ("prompts:/hello/3",),
        ("prompts:/hello@production",),
        ("prompts:/hello@candidate",),
        ("prompts:/hello@latest",),
        ("hello",),
        ("config",),
        ("older", 1),
    )
]
seen["formatted"] = [
    mlflow.genai.load_prompt("hello", 2).format(name="you"),
    mlflow.genai.load_prompt("hello", 3).format(style="short", name="you"),
]
seen["missing"] = [
    tried(lambda: mlflow.genai.load_prompt("hello", 9)),
    tried(lambda: mlflow.genai.load_prompt("prompts:/hello@nobody")),
    tried(lambda: mlflow.genai.load_prompt("absent", 1)),
    tried(lambda: mlflow.genai.load_prompt("a model", 1)),
    mlflow.genai.load_prompt("hello", 9, allow_missing=True),
    mlflow.genai.load_prompt("prompts:/hello@nobody", allow_missing=True),
    mlflow.genai.load_prompt("absent", allow_missing=True),
    tried(lambda: mlflow.genai.register_prompt("a model", "no")),
    tried(lambda: mlflow.genai.register_prompt("bad name", "no")),
    tried(lambda: client.create_registered_model("hello")),
    tried(lambda: mlflow.genai.set_prompt_alias("hello", "latest", version=1)),
    tried(lambda: mlflow.genai.set_prompt_alias("hello", "v3", version=1)),
    tried(lambda: mlflow.genai.set_prompt_alias("hello", "x", version=77)),
    tried(lambda: client.create_prompt("hello")),
    tried(lambda: client.create_model_version("hello", "s3://bucket/x", tags={"mlflow.prompt.is_prompt": "true"})),
    tried(lambda: client.create_prompt_version("absent", "x")),
]
settled()
is_prompt = "tags.`mlflow.prompt.is_prompt`"
seen["hidden"] = {
    "models": [m.name for m in client.search_registered_models()],
    "versions": [v.name for v in client.search_model_versions()],
    "named": [m.name for m in client.search_registered_models("name = 'hello'")],
    "versions of it": [v.version for v in client.search_model_versions("name = 'hello'")],
    **{
        text: [m.name for m in client.search_registered_models(f"{is_prompt} {text}")]
        for text in ("= 'true'", "!= 'true'", "= 'false'", "!= 'false'", "= 'TRUE'")
    },
    "versions asked for": [(v.name, v.version) for v in client.search_model_versions(f"{is_prompt} = 'true' AND name = 'hello'")],
    "older first": [m.name for m in client.search_registered_models(f"{is_prompt} = 'true'", order_by=["name DESC"])],
}


def found(page: Any) -> Any:
    return [(one.name, one.description, one.tags) for one in page]


seen["search"] = {
    "all": found(mlflow.genai.search_prompts()),
    "like": found(mlflow.genai.search_prompts("name LIKE 'he%'")),
    "ilike": found(client.search_prompts("name ILIKE 'HE%'", order_by=["name DESC"])),
    "tag": found(mlflow.genai.search_prompts("tags.team = 'blue'")),
    "experiment": found(mlflow.genai.search_prompts(f"experiment_id = '{words}'")),
    "no experiment": found(mlflow.genai.search_prompts(f"experiment_id = '{other}'")),
    "bad": tried(lambda: mlflow.genai.search_prompts("colour = 'red'")),
}
first = client.search_prompts(max_results=2)
seen["pages"] = [found(first), found(client.search_prompts(max_results=2, page_token=first.token)), bool(first.token)]
seen["versions"] = [tried(lambda: [(v.version, v.template) for v in client.search_prompt_versions("config")])]
seen["versions"] += [tried(partial(client.search_prompt_versions, name)) for name in ("absent", "a model")]
client.set_prompt_tag("hello", "owner", "ann")
client.delete_prompt_tag("hello", "team")
mlflow.genai.set_prompt_tag("hello", "lang", "de")
mlflow.genai.delete_prompt_tag("hello", "lang")
client.set_prompt_version_tag("hello", 1, "note", "old")
mlflow.genai.set_prompt_version_tag("hello", 2, "note", "ü\n")
mlflow.genai.delete_prompt_version_tag("hello", 2, "more")
about = client.get_prompt("hello")
seen["tags"] = [about.tags, about.description, [prompt(mlflow.genai.load_prompt("hello", n, cache_ttl_seconds=0)) for n in (1, 2)]]
seen["none"] = [client.get_prompt("absent"), client.get_prompt("a model")]
with mlflow.start_run() as run:
    mlflow.genai.load_prompt("hello", 1)
    logged = mlflow.create_external_model(name="bot")
for version in (1, 3):
    client.link_prompt_version_to_run(run.info.run_id, f"prompts:/hello/{version}")
client.link_prompt_version_to_run(run.info.run_id, mlflow.genai.load_prompt("config", 1))
client.link_prompt_version_to_model("hello", "2", logged.model_id)
seen["linked"] = [
    json.loads(client.get_run(run.info.run_id).data.tags["mlflow.linkedPrompts"]),
    json.loads(client.get_logged_model(logged.model_id).tags["mlflow.linkedPrompts"]),
    [prompt(one) for one in client.list_logged_prompts(run.info.run_id)],
    tried(lambda: client.link_prompt_version_to_run("0" * 32, "prompts:/hello/1")),
    tried(lambda: client.detach_prompt_from_run(run.info.run_id, "prompts:/hello/1")),
]
settled()
mlflow.genai.delete_prompt_alias("hello", "candidate")
client.delete_prompt_version("hello", "3")
seen["gone"] = [
    tried(lambda: mlflow.genai.load_prompt("prompts:/hello@candidate", cache_ttl_seconds=0)),
    tried(lambda: mlflow.genai.load_prompt("hello", 3, cache_ttl_seconds=0)),
    prompt(mlflow.genai.register_prompt("hello", "after")),
    tried(lambda: client.delete_prompt("hello")),
]
settled()
client.delete_prompt("older")
seen["gone"] += [found(mlflow.genai.search_prompts()), tried(lambda: mlflow.genai.load_prompt("older", 1, cache_ttl_seconds=0))]


# --- evaluation datasets


def dataset(one: Any) -> Any:
    tags = {key: value for key, value in one.tags.items() if key != "mlflow.user"}
    parts = [json.loads(part) if part is not None else None for part in (one.schema, one.profile)]
    ids = sorted("words" if e == words else "other" if e == other else e for e in one.experiment_ids)
    return [one.name, tags, parts, ids, len(one.digest), bool(one.created_by), one.created_by == one.last_updated_by, one.dataset_id[:2]]


def records(one: Any) -> Any:
    rows = datasets.get_dataset(dataset_id=one.dataset_id).to_df().to_dict("records")
    for row in rows:
        row["dataset_record_id"] = row["dataset_record_id"][:3]
        row.pop("created_time")
        row["tags"].pop("mlflow.user", None)
        row["source"] = row["source"] and row["source"].to_dict()
    rows.sort(key=lambda row: json.dumps(row["inputs"]))  # of one moment, those of mlflow's server come in any order
    return [{key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()} for row in rows]


qa = datasets.create_dataset("qa", experiment_id=words, tags={"stage": "test", "n": "1"})
plain = datasets.create_dataset("plain")
both = datasets.create_dataset("both", experiment_id=[words, other], tags={"stage": "prod"})
seen["made"] = [dataset(one) for one in (qa, plain, both)]
qa.merge_records(
    [
        {"inputs": {"question": "What?", "k": 3}, "expectations": {"answer": "That.", "min": 0.5}},
        {"inputs": {"question": "Why?"}, "tags": {"hard": "yes"}},
        {"inputs": {"question": "Why?"}, "expectations": {"answer": "Because."}},
        {"inputs": {"k": 3, "question": "What?"}, "outputs": {"text": "this", "list": [1, None], "deep": {"ü": True}}},
        {"inputs": {"question": "Where?"}, "source": {"source_type": "document", "source_data": {"source_id": "d1", "page": 2}}},
        {"inputs": {"question": "Who?"}, "source": {"source_type": "TRACE", "source_data": {"trace_id": "tr-1"}}, "outputs": "me"},
        {"inputs": {"question": "When?"}, "outputs": None, "expectations": {"answer": None}},
    ]
)
seen["merged"] = [dataset(datasets.get_dataset(dataset_id=qa.dataset_id)), records(qa)]
qa.merge_records(
    pd.DataFrame(
        [
            {"inputs": {"question": "Why?"}, "expectations": {"more": [1]}},
            {"inputs": {"question": "New?"}, "expectations": {"answer": "No."}},
        ]
    )
)
seen["merged again"] = [dataset(datasets.get_dataset(name="qa")), records(qa)]
plain.merge_records([{"inputs": {"n": n, "text": "ü" * 50}, "expectations": {"even": n % 2 == 0}} for n in range(2345)])
ordered = datasets.get_dataset(dataset_id=plain.dataset_id).to_df()
seen["many"] = [
    len(ordered),
    sorted(row["n"] for row in ordered["inputs"]) == list(range(2345)),
    dataset(datasets.get_dataset(name="plain")),
]
store = mlflow.tracking._tracking_service.utils._get_store()
token, sizes, ids = None, [], set()
while True:
    page, token = store._load_dataset_records(plain.dataset_id, max_results=1000, page_token=token)
    sizes.append(len(page))
    ids |= {record.dataset_record_id for record in page}
    if not token:
        break
seen["paged"] = [sizes, len(ids)]
some = list(ordered["dataset_record_id"])
seen["deleted"] = [plain.delete_records(some[:3]), plain.delete_records(some[:4]), plain.delete_records(["dr-none"])]
seen["deleted"] += [dataset(datasets.get_dataset(name="plain")), len(datasets.get_dataset(name="plain").to_df())]
both.merge_records([{"inputs": {"goal": "find", "persona": "student"}}])
seen["emptied"] = [both.delete_records(list(both.to_df()["dataset_record_id"])), datasets.get_dataset(name="both").profile]
seen["wrong"] = [
    tried(lambda: qa.merge_records([{"inputs": {"goal": "find"}}])),
    tried(lambda: store.upsert_dataset_records(qa.dataset_id, [{"inputs": {"a": 1}, "source": {"source_type": "ROCK"}}])),
    tried(lambda: datasets.get_dataset(dataset_id="d-" + "0" * 32)),
    tried(lambda: datasets.get_dataset(name="absent")),
    tried(lambda: datasets.set_dataset_tags("d-" + "0" * 32, {"a": "b"})),
    tried(lambda: datasets.delete_dataset_tag("d-" + "0" * 32, "a")),
    tried(lambda: datasets.delete_dataset(dataset_id="d-" + "0" * 32)),
    tried(lambda: datasets.add_dataset_to_experiments(qa.dataset_id, ["99999"])),
    tried(lambda: datasets.add_dataset_to_experiments("d-" + "0" * 32, [words])),
    tried(lambda: datasets.remove_dataset_from_experiments("d-" + "0" * 32, [words])),
    tried(lambda: client.create_dataset("")),
    tried(lambda: store.get_dataset_experiment_ids("d-" + "0" * 32)),
]
datasets.set_dataset_tags(qa.dataset_id, {"stage": "final", "none": None, "number": 5, "odd key/x": "ü", "mine": True})
datasets.delete_dataset_tag(qa.dataset_id, "n")
datasets.delete_dataset_tag(qa.dataset_id, "absent")
seen["set"] = dataset(datasets.get_dataset(dataset_id=qa.dataset_id))
joined = [datasets.add_dataset_to_experiments(plain.dataset_id, [words, other])]
joined += [datasets.remove_dataset_from_experiments(plain.dataset_id, [words, "99999"])]
joined += [datasets.remove_dataset_from_experiments(plain.dataset_id, [words])]
seen["joined"] = [dataset(one) for one in joined]


def search(*what: Any, **more: Any) -> Any:
    return tried(lambda: [one.name for one in datasets.search_datasets(*what, **more)])


for n in range(7):
    datasets.create_dataset(f"many {n}", experiment_id=other, tags={"n": str(n), "stage": "x"})
seen["found"] = {
    "all": sorted(search()),
    "of words": search(words, order_by=["name"]),
    "of both": search([words, other], order_by=["name DESC"]),
    "of none": search(["99999"]),
    **{
        text: search(filter_string=text, order_by=["name ASC"])
        for text in (
            "name = 'qa'",
            'name = "qa"',
            "name != 'qa'",
            "name LIKE 'many%'",
            "name LIKE 'MANY%'",
            "name ILIKE 'MANY _'",
            "name IN ('qa', 'both')",
            "tags.stage = 'x'",
            "tags.stage != 'x'",
            "tags.stage LIKE 'f%' AND name = 'qa'",
            "tags.n = '3' AND tags.stage = 'x'",
            "created_time > 0",
            "created_time < 1000",
            "last_update_time >= 1000",
            "created_by = 'nobody'",
            "last_updated_by != 'nobody' AND name = 'qa'",
            "colour = 'red'",
            "created_time = 'x'",
            "tags.n > 1",
            "name = 'a' OR name = 'b'",
            "params.a = 'b'",
        )
    },
    **{
        f"by {order}": search(order_by=[order], filter_string="name LIKE 'many%'")
        for order in ("name", "created_time", "created_time DESC")
    },
    "by colour": search(order_by=["colour"]),
    "by tag": search(order_by=["tags.n"]),
    "few": search(order_by=["created_time"], filter_string="name LIKE 'many%'", max_results=3),
}
pages, token = [], None
while True:
    page = client.search_datasets(max_results=3, filter_string="name LIKE 'many%'", order_by=["name DESC"], page_token=token)
    pages.append([one.name for one in page])
    token = page.token
    if not token:
        break
seen["dataset pages"] = pages
held = datasets.get_dataset(name="plain")
datasets.delete_dataset(dataset_id=plain.dataset_id)
seen["dataset gone"] = [
    tried(lambda: held.merge_records([{"inputs": {"a": 1}}])),
    search(filter_string="name = 'plain'"),
    held.experiment_ids,
]
with mlflow.start_run() as run:
    mlflow.log_input(datasets.get_dataset(name="qa"), context="eval")
used = client.get_run(run.info.run_id).inputs.dataset_inputs[0]
seen["used"] = [used.dataset.name, used.dataset.source_type, hidden(used.dataset.source), [(tag.key, tag.value) for tag in used.tags]]


# --- scorers


def scorer(one: Any) -> Any:
    dumped = one.model_dump()
    if dumped["builtin_scorer_pydantic_data"]:
        dumped["builtin_scorer_pydantic_data"]["required_columns"].sort()  # out of a set
    return [type(one).__name__, one.name, dumped, one.status.name]


@scorers.scorer  # type: ignore[untyped-decorator]
def exact(outputs: Any) -> bool:
    return bool(outputs)


judge = judges.make_judge(name="tone", instructions="Is {{ outputs }} polite?", model="openai:/gpt-4o-mini", feedback_value_type=bool)
rude = judges.make_judge(name="tone", instructions="Is {{ outputs }} rude?", model="openai:/gpt-4o-mini", feedback_value_type=bool)
seen["scorers made"] = [
    scorer(one.register(experiment_id=words))
    for one in (judge, rude, scorers.RelevanceToQuery(), scorers.Guidelines(name="short", guidelines="Be short."))
]
scorers.RelevanceToQuery().register(name="elsewhere", experiment_id=other)
seen["scorers"] = {
    "list": [scorer(one) for one in scorers.list_scorers(experiment_id=words)],
    "active": [one.name for one in scorers.list_scorers()],
    "versions": [(scorer(one), number) for one, number in list_scorer_versions(name="tone", experiment_id=words)],
    "newest": scorer(scorers.get_scorer(name="tone", experiment_id=words)),
    "first": scorer(scorers.get_scorer(name="tone", experiment_id=words, version=1)),
    "raw": [(one.scorer_name, one.scorer_version, one.experiment_id == words) for one in store.list_scorers(words)],
}
seen["no scorer"] = [
    tried(lambda: exact.register(experiment_id=words)),
    tried(lambda: scorers.get_scorer(name="absent", experiment_id=words)),
    tried(lambda: scorers.get_scorer(name="tone", experiment_id=words, version=9)),
    tried(lambda: list_scorer_versions(name="absent", experiment_id=words)),
    tried(lambda: scorers.list_scorers(experiment_id="99999")),
    tried(lambda: scorers.delete_scorer(name="absent", experiment_id=words, version="all")),
    tried(lambda: scorers.delete_scorer(name="tone", experiment_id=words, version=9)),
    tried(lambda: store.register_scorer(words, "bad", "{")),
    tried(lambda: store.register_scorer(words, "  ", "{}")),
    tried(lambda: store.register_scorer("99999", "bad", "{}")),
]
scorers.delete_scorer(name="tone", experiment_id=words, version=2)
seen["scorer gone"] = [scorer(scorers.get_scorer(name="tone", experiment_id=words))]
seen["scorer gone"] += [scorer(rude.register(experiment_id=words)), scorers.get_scorer(name="tone", experiment_id=words).instructions]
scorers.delete_scorer(name="tone", experiment_id=words, version="all")
seen["scorer gone"] += [tried(lambda: scorers.get_scorer(name="tone", experiment_id=words)), [one.name for one in scorers.list_scorers()]]
client.delete_experiment(other)
seen["scorer gone"] += [
    tried(lambda: scorers.list_scorers(experiment_id=other)),
    search(other, order_by=["name"], filter_string="name LIKE 'm%'"),
]
settled()
print(json.dumps(seen, default=str))
