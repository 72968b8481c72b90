"""Everything behind one answer: event → variant → version → commit → run → data, and what was said of it.

Each step is looked up where it lives. A step that was deleted in the meantime is None, with a note that says so; the rest is still told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drivetrain.errors import NotFound
from drivetrain.feedback.model import About, Opinion, Scalar
from drivetrain.feedback.service import Feedback, request_id
from drivetrain.identity.model import Context, Scope
from drivetrain.lineage.model import Thing
from drivetrain.lineage.service import Lineage as Edges
from drivetrain.registry.model import Commit, FileEntry, Version
from drivetrain.registry.service import Registry
from drivetrain.store.events.lookup import Events
from drivetrain.store.events.model import Event
from drivetrain.store.ids import now_ms, uuid7_ms
from drivetrain.tracking.model import Experiment, Input, Run
from drivetrain.tracking.service import Tracking

SEEDS = ("seed", "random_seed", "random_state", "global_seed", "rng_seed")
SETTLED_MS = 120_000


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where one answer came from. `notes` says of each missing step why it is missing."""

    event: Event
    version: Version | None
    commit: Commit | None
    files: dict[str, FileEntry]
    run: Run | None
    experiment: Experiment | None
    datasets: Sequence[Input]
    feedback: Sequence[Opinion]
    notes: Sequence[str]

    @property
    def git_commit(self) -> str | None:
        return self.run.git_commit if self.run else None

    @property
    def seed(self) -> str | None:
        """The run's seed, by the names that people give it."""
        return next((self.run.params[name] for name in SEEDS if name in self.run.params), None) if self.run else None


class Lineages:
    """Looks up lineages, and takes feedback for answers that were really given."""

    def __init__(self, events: Events, registry: Registry, tracking: Tracking, feedback: Feedback, edges: Edges) -> None:
        self._events = events
        self._registry = registry
        self._tracking = tracking
        self.feedback = feedback
        self._edges = edges

    def of(self, ctx: Context, request: str) -> Lineage:
        """The lineage of the answer with this `x-request-id`. Raises `NotFound`."""
        ctx.require(Scope.read)
        event = self.event(ctx, request)
        notes: list[str] = []
        version, commit, files = self._version(ctx, event, notes)
        run, experiment = self._run(ctx, version, notes)
        datasets = self._datasets(ctx, run)
        return Lineage(event, version, commit, files, run, experiment, datasets, self.feedback.of(ctx, event.id), notes)

    def event(self, ctx: Context, request: str) -> Event:
        """The recorded request. Raises `NotFound`."""
        ctx.require(Scope.read)
        event = self._events.find(request_id(request), workspace_id=ctx.workspace_id)
        if event is None:
            raise NotFound(
                f"There is no answer with the request id {request[:40]!r} in workspace {ctx.workspace!r}. The id is the value of the "
                "header x-request-id of an answer; events are kept for as long as event_retention_days says.",
                param="request_id",
            )
        return event

    def say(self, ctx: Context, request: str, name: str, value: Scalar, *, kind: str, source: str, comment: str) -> Opinion:
        """Add feedback or a label for an answer. Raises `NotFound` for one that was never given in this workspace."""
        ctx.require(Scope.invoke)
        plain = request_id(request)
        event = self._events.find(plain)
        # Another server's fresh events are not to be seen from here yet: what may be one of them is believed.
        fresh = event is None and -1000 < now_ms() - uuid7_ms(plain) < SETTLED_MS
        if not fresh and (event is None or event.workspace != ctx.workspace_id):
            raise NotFound(
                f"There is no answer with the request id {request[:40]!r} in workspace {ctx.workspace!r}. The id is the value of the "
                "header x-request-id of an answer.",
                param="request_id",
            )
        about = about_of(event) if event is not None else None
        return self.feedback.add(ctx, plain, name, value, kind=kind, source=source, comment=comment, about=about)

    def join(self, *, since_ms: int) -> int:
        """Find the answers of what was said before their events could be seen from here; how many were found."""
        found = 0
        for workspace_id, request in self.feedback.unjoined(since_ms=since_ms):
            event = self._events.find(request, workspace_id=workspace_id)
            if event is not None:
                self.feedback.join(workspace_id, request, about_of(event))
                found += 1
        return found

    def _version(self, ctx: Context, event: Event, notes: list[str]) -> tuple[Version | None, Commit | None, dict[str, FileEntry]]:
        if not event.commit:
            notes.append("No version gave this answer: the request ended before one was chosen.")
            return None, None, {}
        version: Version | None = None
        commit: Commit | None = None
        files: dict[str, FileEntry] = {}
        slug = event.repo.rpartition("/")[2]
        try:
            if event.version is not None:
                version = self._registry.get_version(ctx, slug, event.version)
                if version.commit_id != event.commit:  # deleted, and another model registered under its name
                    version = None
                    raise NotFound("")
        except NotFound:
            notes.append(f"{event.repo} version {event.version} has been deleted.")
        try:
            commit = self._registry.commits(ctx, slug, ref=event.commit, limit=1)[0]
            files = self._registry.files(event.commit)
        except NotFound:
            notes.append(f"The files of {event.repo} have been deleted.")
        return version, commit, files

    def _run(self, ctx: Context, version: Version | None, notes: list[str]) -> tuple[Run | None, Experiment | None]:
        if version is None:
            return None, None
        maker = self._edges.maker(ctx, version.id)
        if maker is None:
            notes.append(f"This version was not made by a run: it came from {version.source or 'an upload'}.")
            return None, None
        try:
            run = self._tracking.runs.get(ctx, maker)
        except NotFound:
            notes.append(f"The run {maker} has been deleted.")
            return None, None
        try:
            return run, self._tracking.experiments.get(ctx, run.experiment_id)
        except NotFound:
            return run, None

    def _datasets(self, ctx: Context, run: Run | None) -> Sequence[Input]:
        """What the run used, as it described that."""
        if run is None:
            return ()
        used = set(self._edges.objects(ctx, Thing("run", run.id), "used", "dataset"))
        return [one for one in run.inputs if one.dataset.id in used]


def about_of(event: Event) -> About:
    """What feedback keeps of the answer that it is about. Who failed to answer is who was meant to."""
    return About(
        event_ms=event.t // 1_000_000,
        deployment=event.deployment,
        variant=event.assigned or event.variant,
        unit=event.unit,
        rollout=event.rollout,
        phase=event.phase,
        output=event.output if not event.error else None,
    )
