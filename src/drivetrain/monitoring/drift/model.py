"""The nouns of drift: what a window of live data showed against its reference."""

from __future__ import annotations

from msgspec import Struct


class Bar(Struct, frozen=True):
    """One bar of a histogram: its label (a category, or where it begins), and the share of rows of reference and live."""

    label: str
    reference: float
    live: float


class Estimate(Struct, frozen=True, kw_only=True):
    """An estimated measure of a window, with its 95 % interval of chance. `calibrated`: by rows with known answers; else the model's own
    confidence was taken at its word."""

    measure: str
    value: float
    low: float
    high: float
    rows: int
    calibrated: bool = True
    words: str = ""


class Feature(Struct, kw_only=True):
    """One feature. `effect`: by `measure`; the Wasserstein distance in robust standard deviations, the Jensen–Shannon distance of
    categories, or Cohen's h of two shares (`proportion`), unless other measures were chosen. `expected`: the mean effect of windows without
    drift. `p`: how often those are so far away; `q`: after correction for the number of features."""

    name: str
    kind: str
    measure: str
    effect: float
    expected: float
    p: float
    q: float = 1.0
    drifted: bool = False
    missing_reference: float = 0.0
    missing_live: float = 0.0
    words: str = ""
    bars: list[Bar] = []


class Report(Struct, kw_only=True):
    """Features by effect, the greatest first. `enough`: whether the window had rows enough for a verdict. `estimated`: how many answers
    are right, before labels come, of a model that answers with probabilities."""

    rows_reference: int
    rows_live: int
    enough: bool
    features: list[Feature]
    source: str = ""
    notes: list[str] = []
    estimated: Estimate | None = None

    @property
    def drifted(self) -> list[Feature]:
        return [feature for feature in self.features if feature.drifted]
