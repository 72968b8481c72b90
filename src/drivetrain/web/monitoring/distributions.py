"""Two distributions over each other, and an effect beside what is allowed: small drawings that the server makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from drivetrain.web import format as fmt


class Pair(NamedTuple):
    """One bar: what it stands for, and the shares of rows of the reference and of the live window."""

    label: str
    reference: float
    live: float


def overlay(bars: Sequence[Pair], *, steps: bool, label: str) -> Markup:
    """Reference as a filled shape, live as a line over it (`steps`: a histogram of numbers), or narrow bars in wide ones (categories)."""
    if not bars:
        return Markup("")
    top = max(max(bar.reference, bar.live) for bar in bars) or 1.0
    width = 100 / len(bars)
    drawn = _steps(bars, width, top) if steps else _bars(bars, width, top)
    hits = Markup("").join(
        Markup('<rect class="hit" x="{}" y="0" width="{}" height="40"><title>{}</title></rect>').format(
            f"{i * width:.2f}", f"{width:.2f}", _says(bars, i, steps)
        )
        for i in range(len(bars))
    )
    return Markup('<svg class="overlay" viewBox="0 0 100 40" preserveAspectRatio="none" role="img" aria-label="{}">{}{}</svg>').format(
        label, drawn, hits
    )


def _says(bars: Sequence[Pair], i: int, steps: bool) -> str:
    name = bars[i].label
    if steps:
        name = f"{name} to {bars[i + 1].label}" if i + 1 < len(bars) else f"{name} and more"
    return f"{name}: reference {fmt.percent(bars[i].reference)}, live {fmt.percent(bars[i].live)}"


def _height(share: float, top: float) -> float:
    return 38 * share / top


def _steps(bars: Sequence[Pair], width: float, top: float) -> Markup:
    def outline(shares: Sequence[float]) -> str:
        points = []
        for i, share in enumerate(shares):
            y = 39.5 - _height(share, top)
            points += [f"{i * width:.2f} {y:.2f}", f"{(i + 1) * width:.2f} {y:.2f}"]
        return "M" + " ".join(points)

    reference, live = outline([bar.reference for bar in bars]), outline([bar.live for bar in bars])
    return Markup(
        '<path class="reference" d="{} 100 39.5 0 39.5Z"/>'
        '<path class="observed area" d="{} 100 39.5 0 39.5Z"/><path class="observed" d="{}"/>'
    ).format(reference, live, live)


def _bars(bars: Sequence[Pair], width: float, top: float) -> Markup:
    parts = []
    for i, bar in enumerate(bars):
        for kind, share, inset in (("reference", bar.reference, 0.1), ("observed", bar.live, 0.3)):
            height = max(0.6 if share else 0.0, _height(share, top))
            parts.append(
                Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
                    kind, f"{(i + inset) * width:.2f}", f"{39.5 - height:.2f}", f"{(1 - 2 * inset) * width:.2f}", f"{height:.2f}"
                )
            )
    return Markup("").join(parts)


def effect_bar(effect: float, least: float, expected: float, scale: float, *, drifted: bool, label: str) -> Markup:
    """An effect as a bar, with a tick where it begins to matter and a faint part for what chance alone shows."""

    def at(value: float) -> str:
        return f"{100 * min(1.0, max(0.0, value) / scale):.2f}"

    return Markup(
        '<svg class="effect" viewBox="0 0 100 16" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<rect class="whole" x="0" y="5" width="100" height="6"/><rect class="{}" x="0" y="5" width="{}" height="6"/>'
        '<rect class="chance" x="0" y="5" width="{}" height="6"/><line class="least" x1="{}" x2="{}" y1="1" y2="15"/></svg>'
    ).format(
        escape(label),
        "drifted" if drifted else "calm",
        at(effect),
        at(min(expected, effect) if expected == expected else 0.0),
        at(least),
        at(least),
    )


def interval_bar(low: float, point: float, high: float, bound: float, *, good: bool | None, label: str) -> Markup:
    """An interval of a difference, with a line at nothing and one where a bound is: from −`reach` to +`reach`."""
    reach = 1.15 * max(abs(low), abs(high), abs(bound), 0.02)

    def at(value: float) -> str:
        return f"{100 * (value + reach) / (2 * reach):.2f}"

    tone = "sure" if good else "unsure" if good is None else "worse"
    return Markup(
        '<svg class="interval" viewBox="0 0 100 24" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<line class="nothing" x1="{}" x2="{}" y1="0" y2="24"/><line class="bound" x1="{}" x2="{}" y1="3" y2="21"/>'
        '<line class="{} reach" x1="{}" x2="{}" y1="12" y2="12"/><line class="{} point" x1="{}" x2="{}" y1="6" y2="18"/></svg>'
    ).format(label, at(0), at(0), at(bound), at(bound), tone, at(low), at(high), tone, at(point), at(point))
