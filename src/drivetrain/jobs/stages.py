"""Work in stages, each done once: killed anywhere and started again, on this server or another, a job goes on where it was.

What was done is written down outside of the process (`Ledger`), stage by stage; what is written down is not done again. Between an effect
and its line in the ledger a process may be killed: so each stage begins by looking for what an earlier attempt has left, by a name that is
the same in every attempt (a tag, an idempotency key, a file that is whole or not there), and takes that over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from drivetrain.jobs.handle import Handle
from drivetrain.jobs.model import Done, StageDone

Act = Callable[[], Done | None]
"""Does a stage, or finds that an earlier attempt has. None: it is not over, and is gone on with elsewhere."""


class Ledger(Protocol):
    """What was done of one work. `ended`: there is nothing more to do, whatever was done."""

    @property
    def done(self) -> Mapping[str, StageDone]: ...
    @property
    def ended(self) -> bool: ...
    def tell(self, stage: str, done: Done) -> None:
        """Write down that a stage was done. Told again, it stays as it was told first."""
        ...


def run(job: Handle[Any], ledger: Ledger, stages: Mapping[str, Act]) -> None:
    """Do what is not done yet, in this order, until all is or the work has ended."""
    for number, (stage, act) in enumerate(stages.items()):
        if ledger.ended:
            return
        if (before := ledger.done.get(stage)) is not None:
            job.log(f"[{stage}] was done before: {before.words}")
            continue
        job.progress(number, len(stages), stage.replace("_", " "))
        done = act()
        if done is None:
            return
        ledger.tell(stage, done)
        job.log(f"[{stage}] {done.words}")
