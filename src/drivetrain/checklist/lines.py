"""The lines of the production checklist: pure functions of what is known of one deployment.

Each line says how it is, why that matters, and the command that mends it. A required line that is `missing` means: not ready for users.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from drivetrain.checklist.model import Line, Standing
from drivetrain.config import Settings
from drivetrain.monitoring.model import Alert, Channel, Monitor
from drivetrain.registry.model import Version
from drivetrain.rollout.counting.measures import parse
from drivetrain.rollout.model import Rollout, State
from drivetrain.serving.lineage import SEEDS
from drivetrain.serving.model import Deployment, Variant
from drivetrain.tracking.model import Run

LOOPBACK = ("127.0.0.1", "localhost", "::1")
DAY_MS = 86_400_000
BACKUP_DAYS = 7
SCRIPT_TAG = "drivetrain.script"
"""Of runs that retraining made: the commit of the script in the registry."""
ARRIVED = (State.promoted, State.closed)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of one deployment and of the server around it. `logged_profile`: its run has one, whether it was read already or not.

    `earlier`: variants that served before and whose version can still be deployed, the newest first. `requests`: of the last day.
    """

    deployment: Deployment
    variant: Variant | None
    settings: Settings
    auth: str
    version: Version | None = None
    run: Run | None = None
    reference: tuple[str, bool] | None = None
    logged_profile: bool = False
    said: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    named: bool | None = None
    monitors: Sequence[Monitor] = ()
    alerts: Sequence[Alert] = ()
    channels: Sequence[Channel] = ()
    rollouts: Sequence[Rollout] = ()
    variants: int = 1
    earlier: Sequence[Variant] = ()
    retraining: str | None = None
    retraining_paused: bool = False
    backup_ms: int | None = None
    now_ms: int = 0

    @property
    def name(self) -> str:
        return self.deployment.name

    @property
    def source(self) -> str:
        """What serves, as commands take it."""
        return source_of(self.variant) if self.variant is not None else "NAME@VERSION"


Check = Callable[[Facts], Line]


def lines(facts: Facts) -> tuple[Line, ...]:
    return tuple(check(facts) for check in CHECKS)


def source_of(variant: Variant) -> str:
    slug = variant.repo.rpartition("/")[2]
    return f"{slug}@{variant.version if variant.version is not None else variant.commit[:12]}"


def _answers(facts: Facts) -> Line:
    why = "Users get answers from replicas that are ready; everything else is about keeping it so."
    deployment = facts.deployment
    mine = facts.variant.id if facts.variant is not None else None
    if count := sum(one.state == "ready" and one.variant_id == mine for one in deployment.replicas):
        return _line("answers", Standing.ok, f"{count} {'replica is' if count == 1 else 'replicas are'} ready", why, required=True)
    if deployment.state == "idle":
        what = "it starts when it is called: the first user waits for that"
        return _line("answers", Standing.warn, what, why, f"drivetrain scale {facts.name} 2", required=True)
    if deployment.state == "ready":
        what = "what serves has no ready replica; another version stands in for it"
        return _line("answers", Standing.missing, what, why, "drivetrain ps", required=True)
    what = f"it is {deployment.state}" + (f": {deployment.problem}" if deployment.problem else "")
    return _line("answers", Standing.missing, what, why, "drivetrain ps", required=True)


def _spare(facts: Facts) -> Line:
    why = "A replica that dies is replaced by itself; with a second one nobody waits meanwhile."
    least = facts.variant.min_replicas if facts.variant is not None else 0
    if least >= 2:
        return _line("spare replica", Standing.ok, f"{least} replicas always run", why)
    what = "one replica: while it is replaced, requests wait" if least else "no replica is kept running"
    return _line("spare replica", Standing.warn, what, why, f"drivetrain scale {facts.name} 2")


def _lineage(facts: Facts) -> Line:
    why = "Every answer can be traced to the version, run, code, seed and data behind it, and the version can be made again."
    version, run = facts.version, facts.run
    if version is None:
        what = "what serves is no registered version" if facts.variant is not None else "nothing serves"
        return _line("lineage", Standing.missing, what, why, f"drivetrain deploy {facts.name} NAME@VERSION", required=True)
    if run is None:
        what = f"{version.repo} {version.number} came from {version.source or 'an upload'}, not from a run that is known here"
        fix = "mlflow.<flavour>.log_model(model, registered_model_name=…) within mlflow.start_run()"
        return _line("lineage", Standing.warn, what, why, fix, required=True)
    wanted = {
        "git commit (run the script in a git checkout)": run.git_commit or run.tags.get(SCRIPT_TAG),
        'seed (mlflow.log_param("seed", …))': any(name in run.params for name in SEEDS),
        "data set (mlflow.log_input(mlflow.data.from_pandas(…)))": run.inputs,
    }
    gone = [name for name, there in wanted.items() if not there]
    what = f"{version.repo} {version.number} from run {run.name}"
    if gone:
        first = [name.partition(" (")[0] for name in gone]
        fix = "; ".join(name.partition(" (")[2].removesuffix(")") for name in gone)
        return _line("lineage", Standing.warn, f"{what}, which recorded no {' and no '.join(first)}", why, fix, required=True)
    return _line("lineage", Standing.ok, f"{what}, with commit, seed and data", why, required=True)


def _reference(facts: Facts) -> Line:
    why = "Drift is seen by comparing live inputs with the data that the model was trained on."
    fix = "drivetrain.log_profile(train, target=…) in the script" + (
        f"; or: drivetrain profile FILE --run {facts.run.id}" if facts.run else ""
    )
    if facts.logged_profile or (facts.reference is not None and not facts.reference[1]):
        return _line("drift reference", Standing.ok, "the training data's profile", why, required=True)
    if facts.reference is not None:
        return _line("drift reference", Standing.warn, f"{facts.reference[0]} stand in for the training data", why, fix, required=True)
    return _line(
        "drift reference", Standing.missing, "no profile of the training data, and too few requests to learn one", why, fix, required=True
    )


def _labels(facts: Facts) -> Line:
    why = "Errors are seen by themselves; wrong answers only by labels or by what users say."
    labels, others = facts.said.get("label", 0), {name: count for name, count in facts.said.items() if name != "label"}
    if labels:
        return _line("labels", Standing.ok, f"{labels:,} labels have come", why)
    fix = "drivetrain feedback REQUEST_ID label VALUE --label"
    if others:
        told = ", ".join(f"{count:,} × {name}" for name, count in sorted(others.items())[:3])
        return _line("labels", Standing.ok, f"feedback comes: {told}", why)
    return _line("labels", Standing.missing, "nothing has been said of any answer", why, fix)


def _units(facts: Facts) -> Line:
    why = "A rollout keeps each user on one version, and counts users, only where requests say whose they are."
    if facts.named is None:
        return _line("units", Standing.warn, "no requests yet", why, "send the header X-Drivetrain-Unit (or the body's user)")
    if facts.named:
        return _line("units", Standing.ok, "requests say whose they are", why)
    return _line("units", Standing.warn, "no request says whose it is", why, "send the header X-Drivetrain-Unit (or the body's user)")


def _monitors(facts: Facts) -> Line:
    why = "Nobody looks all the time; the monitors do."
    paused = [one.kind for one in facts.monitors if one.paused]
    if paused:
        fix = f"drivetrain monitor resume {facts.name} {paused[0]}"
        return _line("monitors", Standing.warn, f"{', '.join(paused)} is paused", why, fix, required=True)
    if not facts.monitors:
        return _line("monitors", Standing.missing, "nothing watches it", why, f"drivetrain monitor list {facts.name}", required=True)
    return _line("monitors", Standing.ok, f"{', '.join(one.kind for one in facts.monitors)} are watched", why, required=True)


def _alerts(facts: Facts) -> Line:
    why = "Something that is known to be wrong should be looked after before it meets more users."
    unseen = [one for one in facts.alerts if one.state == "open" and one.severity != "info"]
    if unseen:
        what = f"{len(unseen)} open, first: {unseen[0].title}"
        return _line("open alerts", Standing.warn, what, why, f"drivetrain alerts show {unseen[0].id[-8:]}")
    return _line("open alerts", Standing.ok, "none", why)


def _channel(facts: Facts) -> Line:
    why = "An alert that reaches nobody is none."
    telling = [one for one in facts.channels if one.kind != "log"]
    works = [one for one in telling if one.worked_ms is not None and not one.problem]
    if works:
        return _line("alert channel", Standing.ok, f"{', '.join(one.name for one in works)}: a message has arrived", why, required=True)
    if telling:
        first = telling[0]
        what = f"{first.name}: {first.problem}" if first.problem else f"{first.name} was never tested"
        return _line("alert channel", Standing.warn, what, why, f"drivetrain alerts channels test {first.name}", required=True)
    what = "alerts go to the log alone" if facts.channels else "nobody is told of alerts"
    fix = "drivetrain alerts channels add team webhook https://…"
    return _line("alert channel", Standing.missing, what, why, fix, required=True)


def _guardrails(facts: Facts) -> Line:
    why = "A worse version is caught at a small share of the traffic, and taken back by itself."
    fix = f"drivetrain rollout start {facts.name} NAME@VERSION --plan safe -g label_error"
    mine = next(
        (one for one in facts.rollouts if facts.variant is not None and one.canary == facts.variant.id and one.state in ARRIVED), None
    )
    if mine is None:
        what = (
            "the first version; the next one should come by a rollout"
            if facts.variants <= 1
            else "what serves went live at once, unwatched"
        )
        return _line("guardrails", Standing.warn, what, why, fix)
    names = [one.measure for one in mine.plan.guardrails]
    what = f"came by the plan {mine.plan.name}, guarded by {', '.join(names)}"
    if facts.said and not any(parse(name).source == "feedback" for name in names):
        return _line("guardrails", Standing.warn, f"{what}; none of them is about wrong answers, though these are reported", why, fix)
    return _line("guardrails", Standing.ok, what, why)


def _way_back(facts: Facts) -> Line:
    why = "When all else fails, the version before serves again."
    open_one = next((one for one in facts.rollouts if one.state is State.promoted), None)
    if open_one is not None:
        return _line("way back", Standing.ok, f"{open_one.stable_name} is still warm: drivetrain rollout rollback {facts.name}", why)
    if facts.earlier:
        source = source_of(facts.earlier[0])
        return _line("way back", Standing.ok, f"{source} served before: drivetrain deploy {facts.name} {source}", why)
    fix = f"drivetrain rollout start {facts.name} NAME@VERSION (the version of today is the way back then)"
    return _line("way back", Standing.missing, "no other version has served", why, fix)


def _capture(facts: Facts) -> Line:
    why = "Drift, traces and retraining need inputs and outputs; people's data should be kept no longer than needed."
    kept, days = facts.deployment.capture, facts.settings.event_retention_days
    fix = f"drivetrain deploy {facts.name} {facts.source} --capture all (or sampled)"
    if kept == "all":
        return _line("capture", Standing.ok, f"all inputs and outputs are kept for {days:g} days", why)
    if kept == "sampled":
        return _line("capture", Standing.ok, f"{facts.deployment.capture_rate:.0%} of inputs and outputs are kept for {days:g} days", why)
    what = "inputs and outputs are kept as hashes" if kept == "hashed" else "neither inputs nor outputs are kept"
    return _line("capture", Standing.warn, f"{what}: drift and training sets cannot be made of them", why, fix)


def _keys(facts: Facts) -> Line:
    why = "Without keys, everybody who reaches the server may ask it, change it and read what others asked."
    if facts.auth == "keys":
        return _line("keys", Standing.ok, "required", why, required=True)
    if facts.settings.host in LOOPBACK and not facts.settings.allowed_hosts:
        what = f"not required; the server listens to this machine alone ({facts.settings.host})"
        return _line("keys", Standing.warn, what, why, "drivetrain keys require", required=True)
    fix = "drivetrain keys create --scope admin; then: drivetrain keys require"
    return _line("keys", Standing.missing, "not required, and others can reach the server", why, fix, required=True)


def _backup(facts: Facts) -> Line:
    why = "A disk breaks some day; a copy elsewhere holds runs, versions, events and decisions."
    fix = "drivetrain backup drivetrain-$(date +%F).tar"
    if facts.backup_ms is None:
        return _line("backup", Standing.missing, "none was ever made", why, fix, required=True)
    days = (facts.now_ms - facts.backup_ms) / DAY_MS
    told = "today" if days < 1 else f"{days:.0f} {'day' if round(days) == 1 else 'days'} ago"
    state = Standing.ok if days <= BACKUP_DAYS else Standing.warn
    return _line("backup", state, f"the last one was made {told}", why, "" if state is Standing.ok else fix, required=True)


def _retraining(facts: Facts) -> Line:
    why = "When the world moves, a version that has seen it is trained, judged and rolled out by itself."
    fix = f"drivetrain retrain policy {facts.name} --script train.py"
    if facts.retraining is None:
        return _line("retraining", Standing.missing, "no policy", why, fix)
    if facts.retraining_paused:
        return _line("retraining", Standing.warn, "the policy is paused", why, f"drivetrain retrain resume {facts.name}")
    return _line("retraining", Standing.ok, facts.retraining, why)


def _prices(facts: Facts) -> Line:
    why = "What a version costs is a guardrail only where its price is known."
    if facts.variant is not None and facts.variant.prices:
        told = ", ".join(f"{name} {value:g}" for name, value in facts.variant.prices.items())
        return _line("prices", Standing.ok, told, why)
    fix = f"drivetrain deploy {facts.name} {facts.source} --price request=0.001 (or million_in=…, million_out=…)"
    return _line("prices", Standing.missing, "none, so requests cost nothing", why, fix)


def _limits(facts: Facts) -> Line:
    why = "Overload is refused early and clearly, before everybody waits."
    it = facts.settings
    what = f"{it.queue_limit} requests may wait, {it.queue_seconds:g} s at most; an answer may take {it.request_seconds:g} s"
    if it.queue_seconds > 300 or it.request_seconds > 3600:
        return _line("limits", Standing.warn, what, why, "queue_seconds = 60 and request_seconds = 600 in drivetrain.toml")
    return _line("limits", Standing.ok, what, why)


def _line(name: str, state: Standing, what: str, why: str, fix: str = "", *, required: bool = False) -> Line:
    return Line(name=name, state=state, required=required, what=what, why=why, fix=fix)


CHECKS: tuple[Check, ...] = (
    _answers,
    _lineage,
    _reference,
    _monitors,
    _channel,
    _keys,
    _backup,
    _spare,
    _way_back,
    _guardrails,
    _labels,
    _units,
    _alerts,
    _capture,
    _retraining,
    _prices,
    _limits,
)
"""Required ones first, in the order in which they are shown."""
