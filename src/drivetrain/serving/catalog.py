"""What can be called by name: the deployments of a workspace, and the registry's versions that start on demand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import msgspec

from drivetrain.engines.engine import Facts
from drivetrain.engines.plan import recognise
from drivetrain.errors import Invalid, NotFound
from drivetrain.formats.format import Files
from drivetrain.identity.model import Context, Scope
from drivetrain.registry.model import FileEntry, Repo
from drivetrain.registry.service import Registry
from drivetrain.serving.model import Deployment
from drivetrain.serving.service import Serving

K = TypeVar("K")
V = TypeVar("V")
MOST_KNOWN = 10_000


class Servable(Facts, frozen=True, kw_only=True):
    """One name that a client may call, with what listings show of it. `runs_code`: it does not start merely because it is called."""

    name: str
    created_ms: int = 0
    modified_ms: int = 0
    runs_code: bool = False
    deployed: bool = False


Catalog = Callable[[Context], Sequence[Servable]]
"""Lists what a workspace can call. Control plane: reads SQL, so it is run in a thread."""


class Listing:
    """The `Catalog` of a server. What it learns of a commit it keeps, since commits do not change."""

    def __init__(self, registry: Registry, serving: Serving) -> None:
        self._registry = registry
        self._serving = serving
        self._facts: dict[str, Servable] = {}
        self._commits: dict[tuple[str, int], str] = {}
        self._lock = threading.Lock()

    def __call__(self, ctx: Context) -> list[Servable]:
        """Deployments first, then what is not deployed but would start when it is called (formats that run no code)."""
        ctx.require(Scope.read if Scope.read in ctx.scopes else Scope.invoke)
        ctx = replace(ctx, scopes=ctx.scopes | {Scope.read})  # who may call may see what there is to call
        deployments = [deployment for deployment in self._serving.list(ctx) if not deployment.implicit]
        out = [self._deployed(deployment) for deployment in deployments]
        taken = {item.name for item in out}
        stored = (self._stored(ctx, repo) for repo in self._registry.repos(ctx, kind="model") if repo.slug not in taken)
        return out + [item for item in stored if item is not None]

    def _deployed(self, deployment: Deployment) -> Servable:
        name, made = deployment.name, deployment.created_ms
        live = [variant for variant in deployment.variants if variant.retired_ms is None]
        if not live:
            return Servable(name=name, deployed=True, created_ms=made, modified_ms=made)
        main = max(live, key=lambda variant: variant.weight)
        facts = self._about(main.commit) or Servable(name="")
        return msgspec.structs.replace(
            facts, name=name, tasks=main.tasks, deployed=True, created_ms=made, modified_ms=max(made, main.created_ms)
        )

    def _stored(self, ctx: Context, repo: Repo) -> Servable | None:
        if repo.latest is None:
            return None
        key = (repo.id, repo.latest)
        commit = self._commits.get(key)
        if commit is None:
            try:
                commit = self._registry.get_version(ctx, repo.slug, repo.latest).commit_id
            except NotFound:
                return None  # deleted since it was listed
            self._keep(self._commits, key, commit)
        facts = self._about(commit)
        if facts is None or facts.runs_code:
            return None
        return msgspec.structs.replace(facts, name=repo.slug, created_ms=repo.created_ms, modified_ms=repo.updated_ms)

    def _about(self, commit: str) -> Servable | None:
        """What the files say; None when nothing here can serve them."""
        facts = self._facts.get(commit)
        if facts is None:
            facts = self._read(self._registry.files(commit))
            self._keep(self._facts, commit, facts)
        return facts if facts.format else None

    def _read(self, entries: Mapping[str, FileEntry]) -> Servable:
        files = Files(entries, self._registry.blobs.read_bytes)
        found = recognise(entries)
        if found is None or found.engine is None:
            return Servable(name="")
        try:
            facts = found.engine.describe(files, found.files)
        except Invalid:
            return Servable(name="")
        return Servable(name="", runs_code=found.format.runs_code, **msgspec.structs.asdict(facts))

    def _keep(self, known: dict[K, V], key: K, value: V) -> None:
        with self._lock:
            if len(known) >= MOST_KNOWN:
                known.clear()
            known[key] = value
