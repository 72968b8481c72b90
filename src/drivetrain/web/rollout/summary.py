"""A rollout in one row, as every list of rollouts shows it: how it stands, what it moves, and what else could be rolled out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drivetrain.errors import NotFound
from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.rollout.model import OPEN, Decision, Rollout
from drivetrain.rollout.model import State as Stage
from drivetrain.rollout.planning.plans import PRESETS
from drivetrain.serving.model import Variant
from drivetrain.web import format as fmt
from drivetrain.web import naming
from drivetrain.web.rollout.views import RolloutRow, StartForm
from drivetrain.web.svg import share_bar
from drivetrain.web.views import State

_NAMES = {
    "errors": "Errors",
    "invalid_output": "Invalid output",
    "predictions": "Predictions",
    "memory": "Memory",
    "memory_mean": "Mean memory",
    "ttft": "First token",
    "timeouts": "Timeouts",
    "cost": "Cost",
    "cost_mean": "Mean cost",
    "tokens_out_mean": "Mean tokens out",
    "tokens_out_p95": "Tokens out over p95",
    "latency_mean": "Mean latency",
    "thumbs_down": "Thumbs down",
    "label_error": "Wrong by the label",
}

_UNITS = {"latency": " ms", "ttft": " ms", "memory": " MB"}


def state(rollout: Rollout) -> State:
    share = fmt.percent(rollout.share / 10_000)
    words: dict[Stage, State] = {
        Stage.starting: State("Starting", "busy", rollout.why),
        Stage.running: State(f"Running at {share}", "busy", rollout.why),
        Stage.paused: State(f"Paused at {share}", "warn", rollout.why),
        Stage.promoted: State("Promoted", "good", rollout.why),
        Stage.closed: State("Closed", "good", rollout.why),
        Stage.rolled_back: State("Rolled back", "bad", rollout.why),
        Stage.aborted: State("Aborted", "idle", rollout.why),
    }
    return words[rollout.state]


def row(platform: Platform, ctx: Context, rollout: Rollout, variants: Mapping[str, Variant] | None = None) -> RolloutRow:
    known = variants if variants is not None else variants_of(platform, ctx, rollout)
    share = rollout.share / 10_000
    return RolloutRow(
        id=rollout.id,
        url=naming.rollout_address(rollout.id),
        deployment=rollout.deployment,
        deployment_url=naming.address(rollout.deployment),
        stable=arm_name(known, rollout.stable, rollout.stable_name),
        canary=arm_name(known, rollout.canary, rollout.canary_name),
        state=state(rollout),
        share=fmt.percent(share),
        bar=share_bar(share, f"{fmt.percent(share)} of the traffic"),
        why=rollout.why,
        plan=rollout.plan.name,
        by=rollout.created_by,
        started_ms=rollout.created_ms,
        ended_ms=rollout.ended_ms,
        open=rollout.state in OPEN,
    )


def undo(one: Decision, decided: Sequence[Decision]) -> str:
    """What takes a decision back; "" where a later one has made that moot, or where the words are no command that can be run."""
    moving = [it for it in decided if it.action not in ("measuring", "held")]
    newest = bool(moving) and one.id == moving[-1].id
    return one.undo if newest and "…" not in one.undo else ""


def variants_of(platform: Platform, ctx: Context, rollout: Rollout) -> dict[str, Variant]:
    """The variants that its deployment has had, by id; none if it was deleted."""
    try:
        return {one.id: one for one in platform.serving.history(ctx, rollout.deployment)}
    except NotFound:
        return {}


def arm_name(variants: Mapping[str, Variant], variant_id: str, otherwise: str) -> str:
    return naming.serves(variants[variant_id]) if variant_id in variants else otherwise


def measure_name(measure: str) -> str:
    """A measure as people say it: latency_p95 is `Latency over p95`."""
    if measure in _NAMES:
        return _NAMES[measure]
    for sign, words in ((">", "over"), ("<", "below")):
        name, found, line = measure.partition(sign)
        if found:
            return f"{measure_name(name)} {words} {line}{_UNITS.get(name, '')}"
    kind, _, quantile = measure.rpartition("_p")
    if quantile.isdigit():
        return f"{'First token' if kind == 'ttft' else kind.capitalize()} over p{quantile}"
    if measure.startswith("invalid_output"):
        return f"Invalid output ({measure.partition(':')[2]})"
    return measure[:1].upper() + measure[1:].replace("_", " ")


def start_form(platform: Platform, ctx: Context, name: str) -> StartForm | None:
    """What could be rolled out behind a name; None while nothing can be: a rollout is open, or there is but one version."""
    deployment = platform.serving.get(ctx, name)
    variants = [one for one in sorted(deployment.variants, key=lambda it: -it.created_ms) if one.retired_ms is None]
    if deployment.implicit or deployment.rollout or not variants:
        return None
    now = variants[0]
    slug = now.repo.rpartition("/")[2]
    sources = []
    for version in platform.registry.versions(ctx, slug, limit=30):
        if version.number == now.version:
            continue
        aliases = " ".join(f"@{alias}" for alias in version.aliases)
        sources.append((f"models:/{slug}/{version.number}", f"{slug} v{version.number} {aliases}".strip()))
    plans = [(key, f"{key}: {' → '.join(_step(step.share, step.shadow) for step in plan.steps)}") for key, plan in PRESETS.items()]
    return StartForm(sources, plans, naming.serves(now)) if sources else None


def _step(share: int, shadow: int) -> str:
    return f"shadow {fmt.percent(shadow / 10_000)}" if shadow and not share else fmt.percent(share / 10_000)


def recent(platform: Platform, ctx: Context, deployment: str, limit: int = 5) -> Sequence[RolloutRow]:
    found = platform.rollouts.list(ctx, deployment=deployment, limit=limit)
    variants = {one.id: one for one in platform.serving.history(ctx, deployment)} if found else {}
    return [row(platform, ctx, one, variants) for one in found]
