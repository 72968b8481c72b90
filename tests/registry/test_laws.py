"""Whatever people do to a repo in whatever order, it agrees with a model of it that fits on a page."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from drivetrain.errors import NotFound
from drivetrain.identity.model import Context
from drivetrain.registry.service import Registry
from drivetrain.store.blobs import Blobs
from tests.conftest import new_sqlite
from tests.registry.conftest import put

ADA = Context("u1", "ada", "w1", "vision")
PATHS = st.sampled_from(["a", "b", "dir/c", "dir/d"])
ALIASES = st.sampled_from(["champion", "challenger"])


class RepoMachine(RuleBasedStateMachine):
    """The model: the head's files, the history's length, version → files, alias → number, the next number."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        root = Path(self.folder.name)
        self.db = new_sqlite(root / "test.db")
        self.registry = Registry(self.db, Blobs(self.db, str(root / "blobs"), min_free=0, scratch=root / "scratch"))
        self.registry.create_repo(ADA, "m")
        self.head: dict[str, str] | None = None
        self.history = 0
        self.versions: dict[int, dict[str, str]] = {}
        self.aliases: dict[str, int] = {}
        self.next = 1

    @rule(files=st.dictionaries(PATHS, st.sampled_from("xyz"), min_size=1), replace=st.booleans())
    def commit(self, files: dict[str, str], replace: bool) -> None:
        digests = {path: put(self.registry, text) for path, text in files.items()}
        made = self.registry.commit(ADA, "m", digests, message="m", replace=replace)
        after = files if replace else {**(self.head or {}), **files}
        self.history += after != self.head
        self.head = after
        assert made.files == len(after)

    @precondition(lambda self: self.head is not None)
    @rule()
    def register(self) -> None:
        assert self.head is not None
        head = self.registry.commits(ADA, "m", limit=1)[0]
        assert self.registry.register(ADA, "m", head.id).number == self.next
        self.versions[self.next] = self.head
        self.next += 1

    @precondition(lambda self: self.versions)
    @rule(data=st.data())
    def delete_version(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.versions)))
        self.registry.delete_version(ADA, "m", number)
        del self.versions[number]
        self.aliases = {alias: at for alias, at in self.aliases.items() if at != number}

    @precondition(lambda self: self.versions)
    @rule(data=st.data(), alias=ALIASES)
    def set_alias(self, data: st.DataObject, alias: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.versions)))
        self.registry.set_alias(ADA, "m", alias, number)
        self.aliases[alias] = number

    @rule(alias=ALIASES)
    def delete_alias(self, alias: str) -> None:
        self.registry.delete_alias(ADA, "m", alias)
        self.aliases.pop(alias, None)

    @invariant()
    def it_agrees(self) -> None:
        repo = self.registry.get_repo(ADA, "m")
        assert repo.aliases == self.aliases
        assert repo.latest == max(self.versions, default=None)
        assert [v.number for v in self.registry.versions(ADA, "m")] == sorted(self.versions, reverse=True)
        for number, files in self.versions.items():
            found = self.registry.resolve(ADA, f"models:/m/{number}")
            assert {path: entry.sha256 for path, entry in self.registry.files(found.commit_id).items()} == {
                path: hashlib.sha256(text.encode()).hexdigest() for path, text in files.items()
            }
        for alias in ("champion", "challenger"):
            try:
                resolved = self.registry.resolve(ADA, f"m@{alias}").version
            except NotFound:
                resolved = None
            assert (resolved.number if resolved else None) == self.aliases.get(alias)
        if self.head is not None:
            assert len(self.registry.commits(ADA, "m", limit=1000)) == self.history

    def teardown(self) -> None:
        self.db.close()
        self.folder.cleanup()


TestRepo = RepoMachine.TestCase
TestRepo.settings = settings(max_examples=10, stateful_step_count=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
