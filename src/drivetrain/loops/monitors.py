"""Monitors: ask every deployment the standing questions, and raise or resolve alerts by the answers.

One server at a time asks. Windows of drift are compared in a process of their own; what it has seen is in the database, so that a loop
that was killed goes on after the last window.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from drivetrain.identity.model import Context, Scope
from drivetrain.loops.loop import Loop
from drivetrain.monitoring import accuracy, checks, kinds, shares
from drivetrain.monitoring.alerts.service import Alerts
from drivetrain.monitoring.drift.report import Options
from drivetrain.monitoring.drift.work import Done, Work
from drivetrain.monitoring.kinds import Finding
from drivetrain.monitoring.model import Monitor, Window
from drivetrain.monitoring.service import Monitors
from drivetrain.serving.lineage import Lineages
from drivetrain.serving.model import Deployment, Variant
from drivetrain.serving.service import Serving
from drivetrain.store.child import run_child
from drivetrain.store.events.lookup import Events
from drivetrain.store.ids import now_ms, uuid7_ms

log = logging.getLogger(__name__)
M = TypeVar("M", bound=msgspec.Struct)

CHILD_SECONDS = 600.0
JOIN_MS = 3_600_000
MINUTE_MS = 60_000
_SEVERITY = {"errors": "bad", "latency": "warn", "drift": "warn", "quality": "bad"}
_OF_A_VERSION = frozenset({"drift", "quality"})
_TITLES = {
    "errors": "{} answers with errors",
    "latency": "{} has become slow",
    "drift": "The inputs or outputs of {} have drifted",
    "quality": "{} has become worse",
}


class MonitorRunner:
    """`clock`: milliseconds since 1970, by which minutes of requests and labels are taken."""

    def __init__(
        self,
        monitors: Monitors,
        serving: Serving,
        events: Events,
        lineages: Lineages,
        alerts: Alerts,
        *,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self._monitors = monitors
        self._serving = serving
        self._events = events
        self._lineages = lineages
        self._alerts = alerts
        self._clock = clock
        self._compared: dict[str, tuple[float, tuple[str, int]]] = {}  # when windows were last looked for, after what, of how many requests

    def step(self, loop: Loop) -> None:
        if not loop.mine():
            return
        self._lineages.join(since_ms=now_ms() - JOIN_MS)
        for deployment in self._serving.everything():
            if not loop.mine():
                return
            if deployment.implicit:
                continue
            try:
                self._ask(deployment, loop)
            except Exception:
                log.exception("the monitors of %s failed; they are asked again", deployment.name)

    def _ask(self, deployment: Deployment, loop: Loop) -> None:
        self._monitors.ensure(deployment)
        variant = main_variant(deployment)
        if variant is not None:
            self._outlived(deployment, variant)
        for kind, (monitor, before) in self._monitors.of(deployment.id).items():
            if monitor.paused or not loop.mine():
                continue
            finding, memory = self._check(deployment, variant, kind, monitor, before)
            if finding is None:
                continue
            if (finding.state, finding.words, memory) != (monitor.state, monitor.words, before):
                self._monitors.answered(monitor, finding.state, finding.words, memory=memory)
            self._tell(monitor, finding, variant)

    def _outlived(self, deployment: Deployment, variant: Variant) -> None:
        """What was wrong with a version that serves no longer is over: its successor is asked anew."""
        for alert in self._alerts.lasting(deployment.workspace_id, deployment.name):
            if alert.source in _OF_A_VERSION and alert.evidence.get("variant", variant.id) != variant.id:
                self._alerts.resolve_key(deployment.workspace_id, alert.key)

    def _check(
        self, deployment: Deployment, variant: Variant | None, kind: str, monitor: Monitor, before: str
    ) -> tuple[Finding | None, str]:
        """The answer, and what the monitor remembers from now on."""
        now = self._clock()
        config = kinds.stored_config(kind, monitor.config)
        if isinstance(config, kinds.Errors | kinds.Latency):
            counted = _remembered(before, shares.Memory)
            if isinstance(config, kinds.Errors):
                finding = checks.errors(self._events, deployment.id, config, counted, now)
            else:
                finding = checks.latency(self._events, deployment.id, config, counted, now)
            return finding, _kept(counted)
        if variant is None:
            return None, before
        if isinstance(config, kinds.Quality):
            labelled = _remembered(before, accuracy.Memory)
            if labelled.variant != variant.id:
                labelled = accuracy.Memory(variant=variant.id)
            finding = self._monitors.quality(deployment.id, variant.id, config, labelled, until_ms=now - checks.SETTLED_MS)
            return finding, _kept(labelled)
        return self._drift(deployment, variant, monitor, config), before

    def _drift(self, deployment: Deployment, variant: Variant, monitor: Monitor, config: kinds.Drift) -> Finding | None:
        last, before = self._compared.get(deployment.id, (float("-inf"), ("", -1)))
        if time.monotonic() - last < config.seconds:
            return None
        since = max(uuid7_ms(monitor.cursor) if monitor.cursor else 0, variant.created_ms)
        # The hash of a rollout splits people: what either arm gets alone is unlike the whole by construction.
        arms = [one.id for one in live_variants(deployment)]
        # Whole minutes are counted: perhaps a few more than there are, never fewer. Where nothing has come since, there is no need to look.
        until = now_ms() + MINUTE_MS
        asked = sum(self._events.total([deployment.id], since_ms=since, until_ms=until, variant=arm).requests for arm in arms)
        if (monitor.cursor, asked) == before:
            return None
        if asked < config.rows:
            return None if monitor.checked_ms else Finding(state="waiting", words=f"It compares every {config.rows} requests.")
        self._compared[deployment.id] = time.monotonic(), (monitor.cursor, asked)
        acting = acting_for(deployment)
        reference = self._monitors.references.of(acting, variant)
        with self._events.files(deployment.workspace_id, deployment.id, since_ms=since) as (spools, rows):
            work = Work(
                deployment=deployment.id,
                variants=arms,
                spools=spools,
                rows=rows,
                after=monitor.cursor,
                most=config.most,
                windows=config.of if reference is not None else 1,
                events=config.rows,
                reference=reference,
                learn=reference is None,
                source=f"the first {config.rows} live requests or more",
                options=Options(
                    least_effect=config.least_effect,
                    false_discoveries=config.false_discoveries,
                    numeric=config.numeric,
                    categorical=config.categorical,
                ),
            )
            done = msgspec.json.decode(
                run_child("drivetrain.monitoring.drift.worker", msgspec.json.encode(work), seconds=CHILD_SECONDS), type=list[Done]
            )
        newest = done[-1]
        if sum(one.events for one in done) < config.rows:
            return None
        if newest.window.rows < config.rows // 2:
            self._monitors.skip(monitor, newest.last)
            return Finding(state="waiting", words="Its events keep no inputs that could be compared: see the policy --capture.")
        if newest.report is None:
            self._monitors.references.learned(variant, newest.window)
            self._monitors.skip(monitor, newest.last)
            rows_in = f"{newest.window.rows} live rows stand in for it"
            return Finding(state="waiting", words=f"No profile of the training data was logged (drivetrain.log_profile): {rows_in}.")
        windows: list[Window] = []
        for one in done:
            if one.report is not None:
                windows = self._monitors.took(
                    monitor, variant, one.report, one.window, cursor=one.last, from_ms=one.first_ms, to_ms=one.last_ms
                )
                monitor = msgspec.structs.replace(monitor, cursor=one.last)
        return drift_finding(config, windows, [(one.name, one.effect, one.words) for one in newest.report.drifted])

    def _tell(self, monitor: Monitor, finding: Finding, variant: Variant | None) -> None:
        key = f"{monitor.kind}:{monitor.deployment_id}"
        if finding.state == "ok":
            self._alerts.resolve_key(monitor.workspace_id, key)
        elif finding.state == "alarm":
            self._alerts.raise_alert(
                workspace_id=monitor.workspace_id,
                deployment=monitor.deployment,
                source=monitor.kind,
                key=key,
                severity=_SEVERITY[monitor.kind],
                title=_TITLES[monitor.kind].format(monitor.deployment),
                text=finding.words,
                evidence={**finding.evidence, "variant": variant.id if variant is not None else None},
                undo=f"To hear no more of it: drivetrain monitor pause {monitor.deployment} {monitor.kind}",
            )


def _remembered(text: str, kind: type[M]) -> M:
    """What an earlier version remembered otherwise is forgotten: the monitor begins anew."""
    try:
        return msgspec.json.decode(text, type=kind) if text else kind()
    except msgspec.DecodeError:
        return kind()


def _kept(memory: msgspec.Struct) -> str:
    return msgspec.json.encode(memory).decode()


def drift_finding(config: kinds.Drift, windows: list[Window], drifted: list[tuple[str, float, str]]) -> Finding:
    """Persistence: `persistence` of the last `of` windows must have drifted."""
    last = windows[: config.of]
    bad = sum(window.drifted > 0 for window in last)
    told = f"{bad} of the last {len(last)} windows have drifted"
    evidence = {
        "window": last[0].id,
        "windows": len(last),
        "windows_drifted": bad,
        "rows": last[0].rows,
        "since_ms": _since(config, windows),
        "features": [{"name": name, "effect": effect, "words": words} for name, effect, words in drifted[:20]],
    }
    if bad >= config.persistence:
        names = ", ".join(name for name, _, _ in drifted[:5]) + (" …" if len(drifted) > 5 else "")
        which = f": {len(drifted)} of {last[0].features} features of the newest ({names})" if drifted else ""
        return Finding(state="alarm", words=f"{told}{which}.", evidence=evidence)
    if bad:
        return Finding(state="waiting", words=f"{told}; {config.persistence} are needed for an alarm.", evidence=evidence)
    return Finding(state="ok", words=f"None of the last {len(last)} windows has drifted.", evidence=evidence)


def live_variants(deployment: Deployment) -> list[Variant]:
    """The variants that have traffic: one, or both arms of a rollout."""
    return [variant for variant in deployment.variants if variant.retired_ms is None and variant.weight > 0]


def _since(config: kinds.Drift, windows: list[Window]) -> int:
    """When the drift began: the oldest window before which it was calm for long enough to end an alarm."""
    since, calm = windows[0].from_ms, 0
    for window in windows:
        calm = 0 if window.drifted else calm + 1
        if calm > config.of - config.persistence:
            break
        if window.drifted:
            since = window.from_ms
    return since


def main_variant(deployment: Deployment) -> Variant | None:
    """The variant with the most traffic."""
    return max(live_variants(deployment), key=lambda variant: variant.weight, default=None)


def acting_for(deployment: Deployment) -> Context:
    """The loop's own context in the deployment's workspace: it may read there."""
    return Context(
        user_id="",
        user_name="drivetrain",
        workspace_id=deployment.workspace_id,
        workspace=deployment.workspace,
        scopes=frozenset({Scope.read}),
    )
