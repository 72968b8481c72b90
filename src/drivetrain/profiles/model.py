"""What a profile says of a table: one column after the other."""

from __future__ import annotations

from msgspec import Struct

from drivetrain.profiles.sketch import Sketch

FORMAT = 2
"""Of format 1, which knows neither identifiers nor times, everything can be read and compared."""
FILE = "drivetrain/profile.json"
"""The artifact of a run that holds the profile of its training data."""


class Null(Struct, frozen=True):
    """How far windows of `size` rows drawn from the very same data are from it: mean and standard deviation of the effect."""

    size: int
    mean: float
    std: float


class Column(Struct, kw_only=True):
    """One column. `kind`: numeric (`sketch`), categorical (`counts`, by the value as text), identifier (`counts` of the forms of values
    that are nearly all different), time (`sketch` of seconds since 1970), text (`vocabulary`, the commonest words; its scalars are numeric
    columns of their own, named `column · scalar`) or words (`column · wording`: `counts` of the texts that have each of the words that tell
    texts apart).

    `other`: the rows whose category is beyond the cap, or whose value is no time. `distinct`: how many different values were seen, at
    least; 0 if that is not known. `nulls`: of words, which come together: learned from the texts, since it cannot be told from counts what
    windows without drift look like.
    """

    name: str
    kind: str
    rows: int
    missing: int = 0
    sketch: Sketch | None = None
    counts: dict[str, int] = {}
    other: int = 0
    distinct: int = 0
    vocabulary: list[str] = []
    nulls: list[Null] = []

    @property
    def present(self) -> int:
        return self.rows - self.missing


class Calibration(Struct, frozen=True):
    """How often a model is right at each confidence, learned from rows with known answers that it was not trained on: a rising staircase,
    `right[i]` from the confidence `scores[i]` on."""

    scores: list[float]
    right: list[float]
    rows: int


class Profile(Struct, kw_only=True):
    """A table's columns. `target`: the column that a model of it predicts. `source`: where it came from, in words. `calibration`: of the
    model's confidence, where that was logged. `from_ms`, `to_ms`: when the rows of a live window came; 0 if that is not known. A profile of
    a newer format than this program knows is no `Profile`."""

    rows: int
    columns: list[Column]
    target: str | None = None
    source: str = ""
    calibration: Calibration | None = None
    from_ms: int = 0
    to_ms: int = 0
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.format > FORMAT:
            raise ValueError(f"this profile has format {self.format}; this version of drivetrain reads up to {FORMAT}: update it")

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)
