"""A drift report: every feature of a live window against the reference.

A p-value alone is no alarm, and neither is an effect alone: a feature has drifted when its effect is at least `least_effect` and windows
of this size without drift are hardly ever so far away (see `chance`), after Benjamini and Hochberg (JRSS-B 57, 1995) over all features.

Identifiers are compared by their form, and times are not compared while they keep up with the clock: they change by nature.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from drivetrain.monitoring.drift import proportions
from drivetrain.monitoring.drift.bars import histogram, shares, times, wording
from drivetrain.monitoring.drift.measures import Categorical, Numeric, categorical, numeric
from drivetrain.monitoring.drift.model import Bar, Feature, Report
from drivetrain.profiles.model import Column, Profile

LEAST_EFFECT = 0.1
FALSE_DISCOVERIES = 0.001
LEAST_ROWS = 30
LEAST_MISSING = 0.05
_DAY = 86_400.0
SMALL = 500
"""A reference of fewer rows is told to be small."""


class Options(Struct, frozen=True, kw_only=True):
    """When a feature has drifted: effect size, share of false discoveries, and the rows that a window needs at least. `numeric` and
    `categorical`: the measures of effect, see `measures`."""

    least_effect: float = LEAST_EFFECT
    false_discoveries: float = FALSE_DISCOVERIES
    least_rows: int = LEAST_ROWS
    numeric: Numeric = "wasserstein"
    categorical: Categorical = "jensen_shannon"


def compare(reference: Profile, live: Profile, options: Options | None = None) -> Report:
    """The report of a live window. Columns that only one of them has, and what cannot be compared, are named in the notes."""
    options = options or Options()
    features: list[Feature] = []
    notes = []
    for column in reference.columns:
        beside = live.column(column.name)
        if beside is None or not beside.rows:
            if column.name != reference.target and not _of_a_text(column, reference):
                notes.append(f"{column.name}: not among the live inputs.")
            continue
        if (note := _note(column, beside, live)) is not None:
            notes.append(note)
        features += [one for one in _features(column, beside, live, options) if one is not None]
    enough = live.rows >= options.least_rows and reference.rows >= options.least_rows
    if reference.rows < SMALL:
        notes.append(_small(reference, enough=reference.rows >= options.least_rows))
    for feature, q in zip(features, adjusted([feature.p for feature in features]), strict=True):
        feature.q = q
        least = LEAST_MISSING if feature.measure == "missing" else options.least_effect
        feature.drifted = enough and feature.effect >= least and q <= options.false_discoveries
    features.sort(key=lambda feature: (-feature.drifted, -feature.effect))
    return Report(
        rows_reference=reference.rows, rows_live=live.rows, enough=enough, features=features, source=reference.source, notes=notes
    )


def adjusted(values: Sequence[float]) -> list[float]:
    """The smallest rates of false discoveries at which each hypothesis is refused (Benjamini–Hochberg step-up)."""
    order = sorted(range(len(values)), key=lambda i: values[i], reverse=True)
    least = 1.0
    found = [1.0] * len(values)
    for rank, i in zip(range(len(values), 0, -1), order, strict=True):
        least = min(least, values[i] * len(values) / rank)
        found[i] = least
    return found


def _features(reference: Column, live: Column, window: Profile, options: Options) -> list[Feature | None]:
    """What there is to compare of a column: its values, their form where that tells more, and how many are missing."""
    gap = _part(f"{reference.name} · missing", "missing", reference, live, (reference.missing, live.missing))
    if reference.kind == "text":
        return [gap]
    if reference.kind == "time":
        form = _part(f"{reference.name} · form", "of another form", reference, live, (reference.other, live.other))
        return [None if keeps_up(live, window) else _feature(reference, live, options), form, gap]
    return [_feature(reference, live, options), gap]


def keeps_up(live: Column, window: Profile) -> bool:
    """Whether a column of times may grow with the clock: the moment of its requests is among its values, or as near to them as they are
    to each other. Without knowing that moment, it may."""
    if live.sketch is None or not live.sketch.count or not window.to_ms:
        return True
    low, high = live.sketch.low, live.sketch.high
    reach = max(high - low, _DAY)
    return low - reach <= window.to_ms / 1000 and window.from_ms / 1000 <= high + reach


def _note(reference: Column, live: Column, window: Profile) -> str | None:
    if reference.kind == "identifier":
        return f"{reference.name}: identifiers, nearly all of them different. Their values are not compared, only their form."
    if reference.kind == "time" and keeps_up(live, window):
        return f"{reference.name}: times, which grow by nature. They are not compared, only what is missing or of another form."
    return None


def _small(reference: Profile, *, enough: bool) -> str:
    if not enough:
        return f"The reference has {reference.rows} rows: too few for a verdict."
    return f"The reference has only {reference.rows} rows: what is rare in it is not known well, so that only large changes are seen."


def _feature(reference: Column, live: Column, options: Options) -> Feature | None:
    held = [side.present if side.sketch is None else side.sketch.count for side in (reference, live)]
    if not all(held):
        return None
    name = reference.name
    if reference.kind == "numeric":
        found = numeric(options.numeric, reference, live)
        bars, words = histogram(reference, live)
    elif reference.kind == "time":
        found = numeric(options.numeric, reference, live)
        bars, words = times(reference, live)
    elif reference.kind == "words":
        found = categorical(options.categorical, reference, live)
        bars, words = wording(reference, live)
    else:
        found = categorical(options.categorical, reference, live)
        bars, words = shares(reference, live), ""
        name = f"{name} · form" if reference.kind == "identifier" else name
    return Feature(
        name=name,
        kind=reference.kind,
        measure=found.measure,
        effect=found.effect,
        expected=found.expected,
        p=found.p,
        missing_reference=reference.missing / reference.rows,
        missing_live=live.missing / live.rows,
        words=words,
        bars=bars,
    )


def _part(name: str, what: str, reference: Column, live: Column, rows: tuple[int, int]) -> Feature | None:
    """Values that are missing, or of another form, are a feature of their own: the difference of the shares, by an exact test."""
    if not any(rows) or not reference.rows or not live.rows:
        return None
    before, now = rows[0] / reference.rows, rows[1] / live.rows
    return Feature(
        name=name,
        kind="missing",
        measure="missing",
        effect=abs(now - before),
        expected=0.0,
        p=proportions.chance(rows[0], reference.rows, rows[1], live.rows),
        missing_reference=before,
        missing_live=now,
        words=f"{before:.1%} of the values were {what}, now {now:.1%} are",
        bars=[Bar(what, before, now), Bar("there" if what == "missing" else "as they were", 1 - before, 1 - now)],
    )


def _of_a_text(column: Column, profile: Profile) -> bool:
    """Whether it is one of a text's own columns."""
    name, found, _ = column.name.rpartition(" · ")
    text = profile.column(name) if found else None
    return text is not None and text.kind == "text"
