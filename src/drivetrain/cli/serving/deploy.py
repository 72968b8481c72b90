"""`drivetrain deploy`, `ps`, `scale`, `restart`, `undeploy`: put models live and watch them."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from drivetrain.answers.serving import LiveDeployment
from drivetrain.cli import output
from drivetrain.cli.connect import connect, deployment_names, model_names
from drivetrain.cli.output import JsonFlag, ago, console, note, size
from drivetrain.cli.rollout.rollout import plan_of, told
from drivetrain.engines.options import declared
from drivetrain.engines.table import ENGINES, names
from drivetrain.errors import Invalid
from drivetrain.serving.model import Capture, Deployment, Unit, Variant

Name = Annotated[str, typer.Argument(help="The deployment.", autocompletion=deployment_names)]


def _options_of_engines() -> str:
    """For the command's help: each engine's options with what they take."""
    told = {engine.name: [f"{one.name} ({one.takes})" for one in declared(engine.options)] for engine in ENGINES}
    return " ".join(f"{name}: {', '.join(some)}." for name, some in sorted(told.items()) if some)


def deploy(
    name: Annotated[str, typer.Argument(help="What clients will call it: model=NAME.", autocompletion=deployment_names)],
    source: Annotated[
        str, typer.Argument(help="A registered model: NAME, NAME@alias, NAME@3, models:/NAME@alias …", autocompletion=model_names)
    ],
    engine: Annotated[str, typer.Option(help=f"{', '.join(sorted(names()))}; auto chooses by the model's format.")] = "auto",
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help=f"An option of the engine, as KEY=VALUE. {_options_of_engines()}")
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(min=0, help="Replicas that always run (1). 0: started by the first request.", show_default=False)
    ] = None,
    max_replicas: Annotated[int | None, typer.Option(min=1, help="Most replicas.")] = None,
    capture: Annotated[Capture, typer.Option(help="What events keep of inputs and outputs.")] = Capture.all,
    unit: Annotated[
        Unit | None,
        typer.Option(help="Whom rollouts assign to a version: a person, who stays with it, or each request.", show_default=False),
    ] = None,
    rollout: Annotated[
        str | None, typer.Option(help="Move traffic by steps instead of at once: safe, fast, shadow, or 1,10,50,100.", show_default=False)
    ] = None,
    price: Annotated[
        list[str] | None, typer.Option("--price", help="What it costs, as million_in=0.5, million_out=1.5 (tokens) or request=0.01.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it answers, or say why it does not.")] = False,
    timeout: Annotated[float, typer.Option(help="Longest wait, in seconds.")] = 600.0,
    as_json: JsonFlag = False,
) -> None:
    """Put a registered model live under a name.

    Under a name that exists already the new version starts beside the old one and takes the traffic when it is ready; the old one finishes
    what it has begun.

    With --rollout, the new version gets its traffic step by step and is judged on the way: see `drivetrain rollout`.

    `drivetrain deploy classifier models:/classifier@champion --wait`
    """
    body: dict[str, Any] = {
        "engine": engine,
        "options": _options(option or []),
        "min_replicas": replicas,
        "max_replicas": max_replicas,
        "capture": capture.value,
        "unit": unit.value if unit is not None else None,
        "prices": _prices(price or []),
    }
    with connect() as client:
        if rollout is not None:
            del body["capture"], body["unit"]  # these are the deployment's, and stay
            body["options"] = body["options"] or None  # as at the version before
            begun = client.rollouts.start(name, source, plan=plan_of(rollout), **body)
            told(begun, as_json=as_json, watch=wait)
            return
        least = 1 if replicas is None else replicas
        shown = client.deployments.deploy(name, source, **body | {"min_replicas": least, "max_replicas": max_replicas or max(1, least)})
        if wait:
            with output.progress(f"starting {name}", of_bytes=False) as tell:
                shown = client.deployments.wait(
                    name, timeout=timeout, watch=lambda seen: tell(0, 0, f"{name}: {seen.state} {seen.problem}".rstrip())
                )
        url = client.url
    output.show(shown, lambda one: _deployed(one, source, url, waited=wait), as_json=as_json)


def _deployed(one: LiveDeployment, source: str, url: str, *, waited: bool) -> None:
    variant = _live(one)
    what = f"{_repo(one, variant)} {_version(variant)} on {variant.engine}" if variant else source
    console().print(f"[bold]{one.name}[/] is {one.state}: {what}", soft_wrap=True)
    if variant and variant.why:
        note(f"[dim]{variant.why}[/]")
    note(f"[dim]Dashboard: {url}/deployments/{one.name}{'' if waited else '     Watch it: drivetrain ps'}[/]")


def ps(as_json: JsonFlag = False) -> None:
    """List deployments with their replicas: state, version, memory, and what is wrong if something is."""
    with connect() as client:
        found = client.deployments.list()
    output.show(found, _table, as_json=as_json)


def _table(deployments: list[LiveDeployment]) -> None:
    made = output.table("deployment", "state", "version", "engine", ">replicas", ">memory", "since")
    lines = []
    for one in deployments:
        variant = _live(one)
        replicas = [replica for replica in one.replicas if replica.state != "stopped"]
        ready = sum(replica.state == "ready" for replica in replicas)
        version = f"{_repo(one, variant)} {_version(variant)}" if variant else ""
        memory = sum(replica.memory_bytes for replica in replicas)
        count = f"{ready}/{max(len(replicas), variant.min_replicas if variant else 0)}"
        engine = variant.engine if variant else ""
        lines.append((one.name, output.state(one.state), version, engine, count, size(memory) if memory else "", ago(one.created_ms)))
    output.rows(made, lines, empty="Nothing is deployed. Put a model live with: drivetrain deploy NAME MODEL --wait")
    for one in deployments:
        if one.problem:
            note(f"[red]{one.name}[/]: {one.problem}")


def undeploy(name: Name, as_json: JsonFlag = False) -> None:
    """Take a deployment away. Requests that have begun are finished; the registered model stays."""
    with connect() as client:
        client.deployments.delete(name)
    said = f"{name} is gone. Its model and its events are still there."
    output.show({"name": name, "deleted": True}, said, as_json=as_json)


def scale(
    name: Name,
    replicas: Annotated[int, typer.Argument(min=0, help="Replicas that always run; 0: on demand.")],
    max_replicas: Annotated[int | None, typer.Option(min=1, help="Most replicas.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say how many replicas a deployment runs."""
    with connect() as client:
        shown = client.deployments.scale(name, min_replicas=replicas, max_replicas=max_replicas or max(1, replicas))
    output.show(shown, f"{name} will run {replicas} replica{'' if replicas == 1 else 's'}.", as_json=as_json)


def restart(name: Name, as_json: JsonFlag = False) -> None:
    """Replace the replicas of a deployment by new ones, without refusing a request."""
    with connect() as client:
        shown = client.deployments.restart(name)
    output.show(shown, f"{name} is restarting. Watch it: drivetrain ps", as_json=as_json)


def _live(deployment: Deployment) -> Variant | None:
    live = [variant for variant in deployment.variants if variant.retired_ms is None]
    return max(live, key=lambda variant: variant.created_ms, default=None)


def _repo(deployment: Deployment, variant: Variant) -> str:
    """Without the workspace, where that is the deployment's own."""
    return variant.repo.removeprefix(f"{deployment.workspace}/")


def _version(variant: Variant) -> str:
    return f"v{variant.version}" if variant.version else variant.commit[:10]


def _prices(given: list[str]) -> dict[str, float] | None:
    """NAME=NUMBER, several of them or separated by commas."""
    found: dict[str, float] = {}
    for text in [part for some in given for part in some.split(",")]:
        name, equals, value = text.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise Invalid(f"--price {text!r}: write it as million_out=1.5.")
    return found or None


def _options(given: list[str]) -> dict[str, Any]:
    """KEY=VALUE; values are read as JSON where they are that, else as text."""
    found: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise Invalid(f"--option {text!r}: write it as KEY=VALUE.")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found
