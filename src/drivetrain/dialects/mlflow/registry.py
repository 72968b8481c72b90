"""Registered models, model versions, aliases, stages. A version is a commit of the files that its source has at that moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from drivetrain.dialects.mlflow import answers, artifact_uris
from drivetrain.dialects.mlflow import messages as m
from drivetrain.dialects.mlflow.routing import Json, Route
from drivetrain.errors import Conflict, Invalid, NotFound
from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.registry.model import Repo, Version
from drivetrain.search.conditions import Condition
from drivetrain.search.grammar import Language, parse_filter, parse_order
from drivetrain.search.languages import MODEL_VERSIONS, REGISTERED_MODELS
from drivetrain.search.tokens import from_token, to_token
from drivetrain.tags import PROMPT
from drivetrain.tracking import checks
from drivetrain.tracking.model import Page

STAGES = ("None", "Staging", "Production", "Archived")
PROMPT_SOURCES = ("dummy-source", "prompt-template")
"""What clients send as the source of a prompt, which has none."""
MAX_MODELS = 1000
MAX_VERSIONS = 200_000

_KEYS = {
    "creation_timestamp": "created_ms",
    "last_updated_timestamp": "updated_ms",
    "version_number": "number",
    "source_path": "source",
}


# --- registered models


def create_model(s: Platform, ctx: Context, body: m.CreateRegisteredModel) -> Json:
    tags = m.tags(body.tags)
    try:
        made = s.registry.create_repo(ctx, body.name, description=body.description, tags=tags)
    except Conflict as error:
        new, old = ("prompt" if PROMPT in some else "registered model" for some in (tags, s.registry.get_repo(ctx, body.name).tags))
        if new == old:
            raise
        raise Conflict(f"The name {body.name!r} of the new {new} is taken by a {old}: choose another name.", param="name") from error
    return {"registered_model": answers.registered_model(made, ())}


def get_model(s: Platform, ctx: Context, body: m.ModelName) -> Json:
    try:
        repo = s.registry.get_repo(ctx, body.name)
    except NotFound:
        # Clients show `registered model` as `prompt` where one was meant.
        message = f"There is no registered model {checks.shown(body.name)} in workspace {ctx.workspace!r}: register it first."
        raise NotFound(message, param="name") from None
    return {"registered_model": _models(s, ctx, [repo])[0]}


def rename_model(s: Platform, ctx: Context, body: m.RenameModel) -> Json:
    if not body.new_name:
        raise Invalid("Say the new name: new_name is missing.", param="new_name")
    return {"registered_model": _models(s, ctx, [s.registry.update_repo(ctx, body.name, new_name=body.new_name)])[0]}


def update_model(s: Platform, ctx: Context, body: m.UpdateModel) -> Json:
    return {"registered_model": _models(s, ctx, [s.registry.update_repo(ctx, body.name, description=body.description)])[0]}


def delete_model(s: Platform, ctx: Context, body: m.ModelName) -> Json:
    s.registry.delete_repo(ctx, body.name)
    return {}


def set_model_tag(s: Platform, ctx: Context, body: m.ModelTag) -> Json:
    checks.key(body.key, "tag")
    s.registry.set_repo_tag(ctx, body.name, body.key, body.value)
    return {}


def delete_model_tag(s: Platform, ctx: Context, body: m.ModelTag) -> Json:
    s.registry.delete_repo_tag(ctx, body.name, body.key)
    return {}


def search_models(s: Platform, ctx: Context, body: m.SearchRegistered) -> Json:
    limit = _limit(body.max_results, 100, MAX_MODELS)
    start = _start(body.page_token)
    conditions = [Condition("attribute", "kind", "=", "model"), *_conditions(body.filter, REGISTERED_MODELS)]
    found = s.registry.search_repos(ctx, conditions, order_by=_orders(body.order_by, REGISTERED_MODELS), limit=limit + 1, offset=start)
    page = Page(found[:limit], to_token([start + limit]) if len(found) > limit else None)
    return answers.page("registered_models", page, _models(s, ctx, page.items))


def latest_versions(s: Platform, ctx: Context, body: m.LatestVersions) -> Json:
    wanted = {_stage(stage) for stage in body.stages}
    repo = s.registry.get_repo(ctx, body.name)
    found = _latest(s.registry.versions(ctx, repo.slug))
    return answers.lean({"model_versions": [answers.version(one) for one in found if not wanted or one.stage in wanted]})


# --- versions


def create_version(s: Platform, ctx: Context, body: m.CreateVersion) -> Json:
    repo = s.registry.get_repo(ctx, body.name)
    tags = m.tags(body.tags)
    is_prompt = PROMPT in tags
    if is_prompt and body.source not in PROMPT_SOURCES:
        raise Invalid(f"A prompt has no source, not {checks.shown(body.source)}: send {PROMPT_SOURCES[0]!r}.", param="source")
    found = artifact_uris.Source({}) if is_prompt else artifact_uris.source(s, ctx, body.source)
    run_id = s.tracking.runs.get(ctx, body.run_id).id if body.run_id else found.run_id
    model_id = s.tracking.models.get(ctx, body.model_id).id if body.model_id else found.model_id
    if body.source.startswith("models:/") and body.run_id and found.run_id and body.run_id != found.run_id:
        raise Invalid(f"The source was made by run {found.run_id}, not by {body.run_id}: leave run_id out.", param="run_id")
    if body.source.startswith("models:/") and body.model_id and body.model_id != found.model_id:
        other = f"the logged model {found.model_id}" if found.model_id else "no logged model"
        raise Invalid(f"The source is of {other}, not of {body.model_id}: leave model_id out.", param="model_id")
    commit = s.registry.commit(ctx, repo.slug, found.files, message=f"Register {body.source}"[:1000])
    made = s.registry.register(
        ctx,
        repo.slug,
        commit.id,
        run_id=run_id,
        model_id=model_id,
        derived_from=found.version_id,
        source=body.source,
        description=body.description,
        tags=tags,
    )
    return _version(made)


def get_version(s: Platform, ctx: Context, body: m.VersionName) -> Json:
    return _version(_find(s, ctx, body.name, body.version))


def update_version(s: Platform, ctx: Context, body: m.UpdateVersion) -> Json:
    return _version(s.registry.update_version(ctx, body.name, _number(body.version), description=body.description))


def delete_version(s: Platform, ctx: Context, body: m.VersionName) -> Json:
    s.registry.delete_version(ctx, body.name, _number(body.version))
    return {}


def search_versions(s: Platform, ctx: Context, body: m.SearchRegistered) -> Json:
    limit = _limit(body.max_results, 10_000, MAX_VERSIONS)
    start = _start(body.page_token)
    conditions = _conditions(body.filter, MODEL_VERSIONS)
    found = s.registry.search_versions(ctx, conditions, order_by=_orders(body.order_by, MODEL_VERSIONS), limit=limit + 1, offset=start)
    page = Page(found[:limit], to_token([start + limit]) if len(found) > limit else None)
    return answers.page("model_versions", page, [answers.version(one) for one in page.items])


def download_uri(s: Platform, ctx: Context, body: m.VersionName) -> Json:
    # The files as they were registered: the run they came from may have changed or be gone.
    return {"artifact_uri": f"mlflow-artifacts:/versions/{_find(s, ctx, body.name, body.version).id}"}


def set_version_tag(s: Platform, ctx: Context, body: m.VersionTag) -> Json:
    checks.key(body.key, "tag")
    s.registry.set_version_tag(ctx, body.name, _number(body.version), body.key, body.value)
    return {}


def delete_version_tag(s: Platform, ctx: Context, body: m.VersionTag) -> Json:
    s.registry.delete_version_tag(ctx, body.name, _number(body.version), body.key)
    return {}


def transition_stage(s: Platform, ctx: Context, body: m.TransitionStage) -> Json:
    stage = _stage(body.stage)
    number = _number(body.version)
    if body.archive_existing_versions and stage not in ("Staging", "Production"):
        raise Invalid(f"Existing versions are archived when one goes to Staging or Production, not to {stage}.", param="stage")
    made = s.registry.update_version(ctx, body.name, number, stage=stage)
    if body.archive_existing_versions:
        for other in s.registry.versions(ctx, body.name):
            if other.stage == stage and other.number != number:
                s.registry.update_version(ctx, body.name, other.number, stage="Archived")
    return _version(made)


# --- aliases


def set_alias(s: Platform, ctx: Context, body: m.SetAlias) -> Json:
    s.registry.set_alias(ctx, body.name, body.alias, _number(body.version))
    return {}


def delete_alias(s: Platform, ctx: Context, body: m.Alias) -> Json:
    s.registry.delete_alias(ctx, body.name, body.alias)
    return {}


def version_by_alias(s: Platform, ctx: Context, body: m.Alias) -> Json:
    repo = s.registry.get_repo(ctx, body.name)
    if body.alias.lower() == "latest":  # always there, and never set
        newest = s.registry.search_versions(ctx, [Condition("attribute", "name", "=", repo.name)], order_by=[("number", False)], limit=1)
        if not newest:
            raise NotFound(f"{repo.name!r} has no version yet: register one.", param="alias")
        return _version(newest[0])
    try:
        return _version(s.registry.version_by_alias(ctx, repo.slug, body.alias))
    except NotFound as error:
        raise Invalid(error.message, param="alias") from None  # as clients of this protocol expect it


# --- helpers


def _find(s: Platform, ctx: Context, name: str, version: str) -> Version:
    return s.registry.get_version(ctx, name, _number(version))


def _version(version: Version) -> Json:
    return {"model_version": answers.version(version)}


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Invalid(f"{checks.shown(text)} is no version: versions are numbers from 1.", param="version")
    return int(text)


def _stage(text: str) -> str:
    for stage in STAGES:
        if stage.lower() == text.lower():
            return stage
    raise Invalid(f"{checks.shown(text)} is no stage: use one of {', '.join(STAGES)}.", param="stage")


def _latest(versions: Sequence[Version]) -> list[Version]:
    """Of each stage the version with the largest number."""
    by_stage: dict[str, Version] = {}
    for version in versions:
        if version.stage not in by_stage or version.number > by_stage[version.stage].number:
            by_stage[version.stage] = version
    return [by_stage[stage] for stage in STAGES if stage in by_stage]


def _models(s: Platform, ctx: Context, repos: Sequence[Repo]) -> list[Json]:
    if not repos:
        return []
    versions: dict[str, list[Version]] = {}
    for start in range(0, len(repos), 200):
        names = tuple(repo.name for repo in repos[start : start + 200])
        for version in s.registry.search_versions(ctx, [Condition("attribute", "name", "IN", names)], limit=MAX_VERSIONS):
            versions.setdefault(version.repo_id, []).append(version)
    return [answers.registered_model(repo, _latest(versions.get(repo.id, ()))) for repo in repos]


def _conditions(text: str, language: Language) -> list[Condition]:
    # Prompts are kept as models with a tag: they show only to those who ask for them. Models lack the tag, and clients that want them say
    # `!= 'true'` or `= 'false'`.
    conditions = parse_filter(text, language)
    about = [one for one in conditions if one.entity == "tag" and one.key == PROMPT]
    without = [one for one in about if (one.op, one.value) in (("!=", "true"), ("=", "false"))]
    found = [replace(one, key=one.key if one.entity == "tag" else _KEYS.get(one.key, one.key)) for one in conditions if one not in without]
    if without or not about:
        found.append(Condition("tag", PROMPT, "IS NULL"))
    return found


def _orders(items: Sequence[str], language: Language) -> list[tuple[str, bool]]:
    orders = parse_order(items, language)
    if any(order.entity != "attribute" for order in orders):
        raise Invalid(f"{language.what.capitalize()} are ordered by their attributes, not by tags.", param="order_by")
    return [(_KEYS.get(order.key, order.key), order.ascending) for order in orders]


def _limit(given: int, default: int, most: int) -> int:
    if not 0 <= given <= most:
        raise Invalid(f"A page holds 1 to {most} results, not {given}: follow the page token for more.", param="max_results")
    return given or default


def _start(token: str) -> int:
    start = from_token(token, 1)[0] if token else 0
    if not isinstance(start, int) or start < 0:
        raise Invalid("The page token is not one of this search.", param="page_token")
    return start


ROUTES = (
    Route("POST", "registered-models/create", m.CreateRegisteredModel, create_model),
    Route("GET", "registered-models/get", m.ModelName, get_model),
    Route("POST", "registered-models/rename", m.RenameModel, rename_model),
    Route("PATCH", "registered-models/update", m.UpdateModel, update_model),
    Route("DELETE", "registered-models/delete", m.ModelName, delete_model),
    Route("GET", "registered-models/search", m.SearchRegistered, search_models),
    Route("POST", "registered-models/set-tag", m.ModelTag, set_model_tag),
    Route("DELETE", "registered-models/delete-tag", m.ModelTag, delete_model_tag),
    Route("POST", "registered-models/get-latest-versions", m.LatestVersions, latest_versions),
    Route("GET", "registered-models/get-latest-versions", m.LatestVersions, latest_versions),
    Route("POST", "registered-models/alias", m.SetAlias, set_alias),
    Route("DELETE", "registered-models/alias", m.Alias, delete_alias),
    Route("GET", "registered-models/alias", m.Alias, version_by_alias),
    Route("POST", "model-versions/create", m.CreateVersion, create_version),
    Route("GET", "model-versions/get", m.VersionName, get_version),
    Route("PATCH", "model-versions/update", m.UpdateVersion, update_version),
    Route("DELETE", "model-versions/delete", m.VersionName, delete_version),
    Route("GET", "model-versions/search", m.SearchRegistered, search_versions),
    Route("GET", "model-versions/get-download-uri", m.VersionName, download_uri),
    Route("POST", "model-versions/set-tag", m.VersionTag, set_version_tag),
    Route("DELETE", "model-versions/delete-tag", m.VersionTag, delete_version_tag),
    Route("POST", "model-versions/transition-stage", m.TransitionStage, transition_stage),
)
