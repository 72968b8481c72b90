"""What is known of a deployment's outputs before a guardrail on them counts: what the version before answers, and what was trained on.

It is fixed once, as the lines of latencies are, so that the same answers count the same whenever they are counted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec import Struct

from drivetrain.profiles.model import Profile
from drivetrain.rollout.counting.batch import WAYS
from drivetrain.serving.gateway.outputs import Seen, hidden

FEWEST = 50
"""Answers of the version before that show what its answers are like."""
COMMON = 0.02
"""A form that so many of its answers have is one of its own."""
RARELY = 0.05
"""Share of the answers of the version before that may be outside of what was trained on."""
MOST_CLASSES = 1_000
PARTS = 10


class Known(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`low` and `high`: the range of what was trained on, or `classes`: its values, plain and hidden. `forms`: types and inner shapes that
    the version before answers with. `edges`: where its predictions, being numbers, are cut into parts of about the same size; `common`: its
    commonest ones, being classes."""

    low: float | None = None
    high: float | None = None
    classes: tuple[str, ...] = ()
    forms: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    common: tuple[str, ...] = ()

    def way(self, said: float | str) -> int:
        """Which kind of prediction this is, from 0 on."""
        if isinstance(said, float) and self.edges:
            return bisect_left(self.edges, said)
        name = named(said)
        return self.common.index(name) if name in self.common else len(self.common)

    def strange(self, form: str, said: float | str | None) -> bool:
        """Whether an answer is of a form that the version before does not have, or outside of what was trained on."""
        if self.forms and form not in self.forms:
            return True
        if said is None or form == "text" or (form.startswith("BYTES") and isinstance(said, float)):
            return False  # of text it is a length
        if isinstance(said, float) and self.low is not None and self.high is not None:
            return not self.low <= said <= self.high
        return bool(self.classes) and named(said) not in self.classes


def named(said: float | str) -> str:
    """A prediction as the name of a class, as profiles name them: 3 and 3.0 are one."""
    if isinstance(said, float):
        return str(int(said)) if said.is_integer() else repr(said)
    return said


def learned(answers: Iterable[Seen], profile: Profile | None) -> Known:
    """What these answers of the version before, and the profile of what was trained on, tell of outputs."""
    some = [one for one in answers if one.form and not one.wrong]
    forms = Counter(one.form for one in some)
    said = [one.said for one in some if one.said is not None]
    edges, common = _parts(said)
    low = high = None
    classes: tuple[str, ...] = ()
    target = profile.column(profile.target) if profile is not None and profile.target else None
    if target is not None and target.kind == "numeric" and target.sketch is not None and target.sketch.count:
        low, high = target.sketch.low, target.sketch.high
    elif target is not None and target.kind == "categorical" and not target.other and len(target.counts) <= MOST_CLASSES:
        classes = (*target.counts, *map(hidden, target.counts))
    trained = Known(low=low, high=high, classes=classes)
    if sum(trained.strange(one.form, one.said) for one in some) > RARELY * len(some):
        # What it answers is no value of that column: a probability of it, say, or a number for its name.
        low, high, classes = None, None, ()
    return Known(
        low=low,
        high=high,
        classes=classes,
        forms=tuple(form for form, count in forms.items() if count >= COMMON * len(some)) if len(some) >= FEWEST else (),
        edges=edges,
        common=common,
    )


def _parts(said: Sequence[float | str]) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """How predictions are told apart: numbers of many values by their quantiles, others by name."""
    if len(said) < FEWEST:
        return (), ()
    numbers = sorted(one for one in said if isinstance(one, float))
    if len(numbers) == len(said) and len(set(numbers)) > WAYS:
        edges = sorted({numbers[len(numbers) * i // PARTS] for i in range(1, PARTS)})
        return tuple(edges), ()
    return (), tuple(name for name, _ in Counter(map(named, said)).most_common(WAYS - 1))
