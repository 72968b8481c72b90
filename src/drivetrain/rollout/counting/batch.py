"""What one count adds to a tally, and how it is written down.

A unit's row is one integer for each phase: counters side by side, of so many bits that they never run over, so that whatever one request
adds for all guardrails is one addition. Rows and all sums of them are integers: in whichever order and pieces they are added, the sum is
the same.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from drivetrain.errors import Invalid

EXPOSURES = -1
"""In place of a guardrail's number: units as they were assigned."""
FORMAT = 1
"""Of what is written down of tallies."""
WAYS = 12
"""Kinds of predictions that are told apart, at most."""
_BITS, _WIDE = 32, 96
_MASK, _WIDE_MASK = (1 << _BITS) - 1, (1 << _WIDE) - 1

Kind = Literal["count", "mean", "mix"]
Place = tuple[int, int]
"""Phase and arm (0: canary, 1: stable)."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a guardrail has its counters within a row: how often it saw the unit, then how often that was bad (of a mean, the sum; of a
    mix, how often each way)."""

    guard: int
    kind: Kind
    at: int
    tolerance: float = 1.0
    said: bool = False
    """Of what people say, and not of events."""

    @property
    def ways(self) -> int:
        return WAYS if self.kind == "mix" else 1

    @property
    def width(self) -> int:
        return _BITS + (_WIDE if self.kind == "mean" else _BITS * self.ways)

    def once(self, amount: int, way: int = 0) -> int:
        """What one observation adds to a row. `amount`: 0 or 1 for good or bad; of a mean, the value."""
        return (1 << self.at) + (amount << (self.at + _BITS * (1 + way)))

    def read(self, row: int) -> tuple[int, tuple[int, ...]]:
        """How often it was seen, and how much was bad, by way."""
        of = row >> self.at
        if self.kind == "mean":
            return of & _MASK, ((of >> _BITS) & _WIDE_MASK,)
        return of & _MASK, tuple((of >> (_BITS * (1 + way))) & _MASK for way in range(self.ways))


def layout(guards: Iterable[tuple[int, Kind, float, bool]]) -> tuple[Slot, ...]:
    """The slots of these guardrails (number, kind, tolerance, whether it is of what people say), after that of the exposures."""
    slots, at = [], 0
    for guard, kind, tolerance, said in ((EXPOSURES, "count", 1.0, False), *guards):
        slots.append(Slot(guard, kind, at, tolerance, said))
        at += slots[-1].width
    return tuple(slots)


Firsts = list[tuple[int, int, int, int, int, int]]


class Batch:
    """Some observations. `named`: by place, what is added to each unit's row; `alone`: by place, what was added by requests that are units
    of their own, and how often. `firsts`: guard, phase, arm, unit, time, value: for means, which count each unit's first. `requests`: by
    phase. `said`: by people; `heard` by guard
    and phase how many opinions; after a correction the guards `corrected` are looked at anew. `looked`: a look was taken after
    it."""

    __slots__ = ("alone", "corrected", "firsts", "heard", "looked", "named", "requests", "said")

    def __init__(
        self,
        named: dict[Place, dict[int, int]] | None = None,
        alone: dict[Place, Counter[int]] | None = None,
        firsts: Firsts | None = None,
        requests: dict[int, int] | None = None,
        *,
        said: bool = False,
        heard: Sequence[tuple[int, int, int]] = (),
        corrected: Sequence[int] = (),
        looked: bool = False,
    ) -> None:
        self.named = named or {}
        self.alone = alone or {}
        self.firsts = firsts or []
        self.requests = requests or {}
        self.said = said
        self.heard = heard
        self.corrected = corrected
        self.looked = looked

    def __bool__(self) -> bool:
        return bool(self.named or self.alone or self.firsts or self.requests)

    def pack(self) -> bytes:
        """As it is written down."""
        named = [(*place, packed_rows(rows)) for place, rows in self.named.items()]
        alone = [(*place, [(packed(delta), times) for delta, times in some.items()]) for place, some in self.alone.items()]
        told = list(self.heard), list(self.corrected), self.looked
        return msgspec.msgpack.encode((FORMAT, named, alone, self.firsts, self.requests, self.said, *told))

    @classmethod
    def unpack(cls, data: bytes) -> Batch:
        """Raises `Invalid` for what another version of drivetrain has written."""
        form, *values = msgspec.msgpack.decode(data)
        check_format(form)
        named, alone, firsts, requests, said, heard, corrected, looked = values
        return cls(
            {(phase, arm): unpacked_rows(rows) for phase, arm, rows in named},
            {(phase, arm): Counter({unpacked(delta): times for delta, times in some}) for phase, arm, some in alone},
            [tuple(first) for first in firsts],
            requests,
            said=said,
            heard=[tuple(one) for one in heard],
            corrected=corrected,
            looked=looked,
        )


def check_format(form: object) -> None:
    """Raises `Invalid` unless tallies are written as this version does."""
    if form != FORMAT:
        raise Invalid("It was counted by another version of drivetrain, in another form.")


def packed(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)


def unpacked(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def packed_rows(rows: Mapping[int, int]) -> tuple[bytes, list[bytes], bytes]:
    """Units, the different rows that they have, and which of those each has: many are alike."""
    kinds = {row: number for number, row in enumerate(dict.fromkeys(rows.values()))}
    return array("Q", rows).tobytes(), [packed(row) for row in kinds], array("I", map(kinds.__getitem__, rows.values())).tobytes()


def unpacked_rows(data: Sequence[Any]) -> dict[int, int]:
    units, kinds, which = data
    rows = [unpacked(row) for row in kinds]
    return dict(zip(array("Q", units), map(rows.__getitem__, array("I", which)), strict=True))
