"""What the process that compares windows is told, and what it answers."""

from __future__ import annotations

from msgspec import Struct

from drivetrain.monitoring.drift.model import Report
from drivetrain.monitoring.drift.report import Options
from drivetrain.profiles.model import Profile


class Work(Struct, kw_only=True):
    """`spools`: paths of spool files and how many bytes of each to take. `rows`: rows files of segments. Of the events in them, those of
    the deployment and the variants, with ids after `after` and up to `upto`; of more than `most`, the newest. Without a `reference`
    (a profile as JSON) the window's own profile is all that is made; `before` are profiles of earlier windows to put it together with.
    `windows`: events enough for several windows of `events` each are cut into so many at most, in their order."""

    deployment: str
    variants: list[str] = []
    spools: list[tuple[str, int]] = []
    rows: list[str] = []
    after: str = ""
    upto: str = ""
    most: int = 20_000
    windows: int = 1
    events: int = 1
    reference: Profile | None = None
    before: list[Profile] = []
    learn: bool = False  # the window becomes a reference: learn what windows of it look like
    source: str = ""
    options: Options = Options()


class Done(Struct, kw_only=True):
    """One window. `last`: the id of the last event that was taken; `first_ms` and `last_ms` its window."""

    events: int
    last: str
    first_ms: int
    last_ms: int
    window: Profile
    report: Report | None = None
