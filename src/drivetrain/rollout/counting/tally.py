"""The counts of one rollout, in memory: what each guardrail saw of each unit in each phase, and what follows from that.

In whichever order and pieces lines are counted, the counts are the same (see `batch`). Only the looks depend on when they were taken; each
was valid then.

A unit that has been stable's comes to the canary with another chance than one that nobody knows, and one that is the canary's stays there:
so counts are kept by stratum, `since` being the last phase before in which the unit was stable's (`NEW`: none; `OURS`: it was the
canary's).

Memory has a bound: beyond `MOST` rows only every second unit is kept, by its hash, which has nothing to do with that of the assignment.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from drivetrain.rollout.counting.batch import (
    EXPOSURES,
    FORMAT,
    Batch,
    Place,
    Slot,
    check_format,
    packed,
    packed_rows,
    unpacked,
    unpacked_rows,
)
from drivetrain.rollout.judging import looks
from drivetrain.rollout.judging.looks import Cell
from drivetrain.rollout.model import Count, Looked, Tallied

NEW, OURS = 0, -1
MOST = 500_000
"""Rows (units × phases) that are kept in memory, in some 200 MB; of each mean that is watched, about as much again."""
LOOK_EVERY = 100
"""Requests between two looks, at least; later on, a twentieth of the phase's."""
LOOK_SHARE = 0.05
RETURNING = 1.1
"""Requests a unit from which on people are said to come back."""
WINDOWS = 4
ARMS = ("canary", "stable")


class _Block:
    """What was seen since a look. `phase`: the newest one in it."""

    __slots__ = ("alone", "new", "phase", "requests", "rows")

    def __init__(self) -> None:
        self.rows: defaultdict[Place, dict[int, int]] = defaultdict(dict)
        self.alone: defaultdict[Place, Counter[int]] = defaultdict(Counter)
        self.requests = 0
        self.new = 0
        self.phase = 0


class Tally:
    """`shares`: of each phase the canary's share of what is compared (0 to 1); outside of that, nothing is."""

    def __init__(self, slots: Sequence[Slot], shares: Mapping[int, float]) -> None:
        self.slots = tuple(slots)
        self._alike = sum(((1 << slot.width) - 1) << slot.at for slot in self.slots if slot.kind != "mean")
        self.shares = dict(shares)
        self.level = 0
        self.people = 0
        self._kept = 0
        self._rows: defaultdict[Place, dict[int, int]] = defaultdict(dict)
        self._firsts: defaultdict[tuple[int, int, int], dict[int, tuple[int, int]]] = defaultdict(dict)
        self._counts: defaultdict[tuple[int, int, int, int, int], list[int]] = defaultdict(lambda: [0] * 8)
        self._cells: defaultdict[tuple[int, int, int, int], Counter[Cell]] = defaultdict(Counter)
        self._requests: Counter[int] = Counter()
        self._opinions: Counter[int] = Counter()
        self._opined: Counter[int] = Counter()
        self._touched: defaultdict[int, set[int]] = defaultdict(set)
        self._looked: dict[int, Looked] = {}
        self._block = _Block()
        self._blocks: list[_Block] = []
        self._phase = 0

    # Counting.

    def add(self, batch: Batch) -> None:
        """Count a batch, and take the look that was taken after it."""
        if batch.said:
            self._hear(batch)
            return
        block = self._block
        for phase, times in batch.requests.items():
            self._requests[phase] += times
            block.requests += times
            block.phase = max(block.phase, phase)
        for place, some in batch.alone.items():
            for delta, times in some.items():
                block.alone[place][delta & self._alike] += times  # values differ from request to request: windows do without them
                self._move(*place, NEW, 0, delta, times, firsts=True)
                block.new += times * (self.slots[0].read(delta)[0] > 0)
        for place in sorted(batch.named):
            found = self._kept_of(batch.named[place])
            _add(block.rows[place], found)
            fresh = self._merge(*place, found)
            block.new += fresh
            self.people += fresh
        self._count_firsts(batch.firsts)
        if self._kept > MOST:
            self._thin()
        if batch.looked:
            self.look()

    def _hear(self, batch: Batch) -> None:
        """What people say goes into the phase of the answer at once; no window is kept of it, for it comes late and in no order."""
        for place in sorted(batch.named):
            self._merge(*place, self._kept_of(batch.named[place]))
        for slot in self.slots:
            if not slot.said:
                continue
            said = [(phase, count) for guard, phase, count in batch.heard if guard == slot.guard]
            self._touched[slot.guard] |= {phase for phase, _ in said}
            self._opinions[slot.guard] += sum(count for _, count in said)
            again = slot.guard in batch.corrected
            if again:
                before = self._looked.get(slot.guard, Looked())
                self._looked[slot.guard] = msgspec.structs.replace(before, best=None)
                self._touched[slot.guard] |= {phase for guard, _, phase, _ in self._cells if guard == slot.guard}
            fresh = self._opinions[slot.guard] - self._opined[slot.guard]
            if self._touched[slot.guard] and (again or fresh >= max(LOOK_EVERY // 5, LOOK_SHARE * self._opined[slot.guard])):
                self._opined[slot.guard] = self._opinions[slot.guard]
                phases = [phase for phase in sorted(self._touched.pop(slot.guard)) if 0.0 < self.shares.get(phase, 0.0) < 1.0]
                self._note(slot, [self._whole(slot, phase) for phase in phases], phases[-1] if phases else 0)

    def _kept_of(self, rows: dict[int, int]) -> dict[int, int]:
        return {unit: delta for unit, delta in rows.items() if self._keeps(unit)} if self.level else rows

    def _keeps(self, unit: int) -> bool:
        return not unit & ((1 << self.level) - 1)

    def _merge(self, phase: int, arm: int, found: Mapping[int, int]) -> int:
        """Add to the units' rows; how many of them nobody knew."""
        rows = self._rows[phase, arm]
        earlier = [place for place in sorted(self._rows, reverse=True) if place[0] < phase and self._rows[place]]
        later = [place for place in self._rows if place[0] > phase and self._rows[place]]
        moves: Counter[tuple[int, int, int]] = Counter()
        fresh = 0
        known = found.keys() & rows.keys()
        for unit in known:
            delta, old = found[unit], rows[unit]
            rows[unit] = old + delta
            moves[old, delta, self._since(unit, earlier) if earlier else NEW] += 1
        new = found if not known else {unit: delta for unit, delta in found.items() if unit not in known}
        if earlier or later:
            for unit, delta in new.items():
                since = self._since(unit, earlier)
                fresh += since == NEW and not any(unit in self._rows[place] for place in later)
                if later:
                    self._reordered(unit, phase, arm, later)
                moves[0, delta, since] += 1
        else:
            fresh = len(new)
            for delta, times in Counter(new.values()).items():
                moves[0, delta, NEW] += times
        rows.update(new)
        self._kept += len(new)
        for (old, delta, since), times in moves.items():
            self._move(phase, arm, since, old, old + delta, times)
        return fresh

    def _since(self, unit: int, earlier: Sequence[Place]) -> int:
        for place in earlier:
            if unit in self._rows[place]:
                return place[0] if place[1] else OURS
        return NEW

    def _reordered(self, unit: int, phase: int, arm: int, later: Sequence[Place]) -> None:
        """A line of an earlier phase came after one of a later phase: there, the unit belongs to another stratum than was thought."""
        for place in later:
            row = self._rows[place].get(unit)
            if row is None:
                continue
            between = [other for other in sorted(self._rows, reverse=True) if other[0] < place[0]]
            before = self._since(unit, between)
            self._rows[phase, arm][unit] = 0
            after = self._since(unit, between)
            del self._rows[phase, arm][unit]
            if before != after:
                self._move(*place, before, row, 0, 1)
                self._move(*place, after, 0, row, 1)
                self._move_firsts(place, unit, before, after)

    def _move(self, phase: int, arm: int, since: int, old: int, new: int, times: int, *, firsts: bool = False) -> None:
        """`times` units of a stratum had the row `old`, and have the row `new`. `firsts`: their values are the first ones."""
        for slot in self.slots:
            n0, was = slot.read(old)
            n1, now = slot.read(new)
            if n0 == n1 and was == now:
                continue
            c0, c1 = min(n0, looks.CAP), min(n1, looks.CAP)
            for way in range(len(now)):
                count = self._counts[slot.guard, way, phase, since, arm]
                if not way:
                    count[0] += times * ((n1 > 0) - (n0 > 0))
                    count[2] += times * (n1 - n0)
                    count[4] += times * (c1 - c0)
                    count[5] += times * (c1 * c1 - c0 * c0)
                if slot.kind == "mean":
                    if firsts:
                        count[6] += times * now[0]
                        count[7] += times * now[0] * now[0]
                else:
                    count[1] += times * ((now[way] > 0) - (was[way] > 0))
                    count[3] += times * (now[way] - was[way])
                if slot.guard == EXPOSURES:
                    continue
                cells = self._cells[slot.guard, way, phase, arm]
                if n0:
                    cell = _cell(slot, n0, was[way])
                    cells[cell] -= times
                    if not cells[cell]:
                        del cells[cell]
                if n1:
                    cells[_cell(slot, n1, now[way])] += times

    def _count_firsts(self, firsts: Iterable[tuple[int, int, int, int, int, int]]) -> None:
        """Of each unit the value of its first request (by its time) counts, whichever was read first."""
        for guard, phase, arm, unit, moment, value in firsts:
            if not self._keeps(unit):
                continue
            known = self._firsts[guard, phase, arm]
            before = known.get(unit)
            if before is None or (moment, value) < before:
                known[unit] = (moment, value)
                earlier = [place for place in sorted(self._rows, reverse=True) if place[0] < phase]
                count = self._counts[guard, 0, phase, self._since(unit, earlier), arm]
                count[6] += value - (before[1] if before else 0)
                count[7] += value * value - (before[1] ** 2 if before else 0)

    def _move_firsts(self, place: Place, unit: int, before: int, after: int) -> None:
        for guard in [slot.guard for slot in self.slots if slot.kind == "mean"]:
            first = self._firsts[guard, *place].get(unit)
            if first is not None:
                for since, sign in ((before, -1), (after, 1)):
                    count = self._counts[guard, 0, place[0], since, place[1]]
                    count[6] += sign * first[1]
                    count[7] += sign * first[1] ** 2

    def _thin(self) -> None:
        """Keep every second unit."""
        while self._kept > MOST:
            self.level += 1
            places = sorted(self._rows, reverse=True)
            gone: list[tuple[Place, int, int]] = []
            for i, place in enumerate(places):
                earlier = [other for other in places[i + 1 :] if other[0] < place[0]]
                gone += [(place, unit, self._since(unit, earlier)) for unit in self._rows[place] if not self._keeps(unit)]
            moves: Counter[tuple[Place, int, int]] = Counter()
            for place, unit, since in gone:
                moves[place, since, self._rows[place].pop(unit)] += 1
                for guard in [slot.guard for slot in self.slots if slot.kind == "mean"]:
                    first = self._firsts[guard, *place].pop(unit, None)
                    if first is not None:
                        count = self._counts[guard, 0, place[0], since, place[1]]
                        count[6] -= first[1]
                        count[7] -= first[1] ** 2
            for (place, since, row), times in moves.items():
                self._move(*place, since, row, 0, times)
            self._kept -= len(gone)
            self.people = len({unit for rows in self._rows.values() for unit in rows})
            for block in (self._block, *self._blocks):
                for place, rows in block.rows.items():
                    block.rows[place] = {unit: row for unit, row in rows.items() if self._keeps(unit)}

    # Looking.

    @property
    def due(self) -> bool:
        """Whether there is enough that is new for another look."""
        return self._block.requests >= max(LOOK_EVERY, LOOK_SHARE * self._requests[self._block.phase])

    def look(self) -> None:
        """Look at the newest phase: at what came since the last look, since the fourth last one, and at all of it."""
        phase = self._block.phase or self._phase
        if phase != self._phase:
            self._blocks, self._phase = [], phase
        self._blocks = [*self._blocks, self._block][-WINDOWS:]
        self._block = _Block()
        if not self._returning(phase):
            self._blocks[-1].rows.clear()
            self._blocks[-1].alone.clear()
            return
        windows = [_window(self._blocks[-1:], phase), _window(self._blocks, phase)]
        for slot in self.slots:
            if slot.said or slot.guard == EXPOSURES:
                continue
            seen = [self._evidence(slot, phase, _window_cells(slot, window)) for window in windows]
            self._note(slot, [*seen, self._whole(slot, phase)], phase)

    def _returning(self, phase: int) -> bool:
        """Whether people come back in this phase, or have come back to it, while something is left to chance. Only they give a look
        something to see: of the others, units as they come tell as much."""
        rows = sum(len(self._rows[phase, arm]) for arm in range(len(ARMS)))
        back = self._requests[phase] >= RETURNING * (rows << self.level) or phase > min(self.shares)
        return rows > 0 and back and 0.0 < self.shares.get(phase, 0.0) < 1.0

    def _whole(self, slot: Slot, phase: int) -> float:
        return self._evidence(slot, phase, [self._arms(slot, way, phase) for way in range(slot.ways)])

    def _arms(self, slot: Slot, way: int, phase: int) -> tuple[Counter[Cell], Counter[Cell]]:
        return self._cells[slot.guard, way, phase, 0], self._cells[slot.guard, way, phase, 1]

    def _evidence(self, slot: Slot, phase: int, by_way: Sequence[tuple[Mapping[Cell, int], Mapping[Cell, int]]]) -> float:
        share = self.shares[phase]
        if slot.kind == "mix":  # a way may have become more common, or less
            told = [arms for arms in by_way if any(cell[1] for some in arms for cell in some)]
            both = [(looks.shares(canary, stable), looks.shares(stable, canary)) for canary, stable in told]
            logs = [looks.log_e(up, share, tolerance=slot.tolerance) for up, _ in both]
            logs += [looks.log_e(down, 1.0 - share, tolerance=slot.tolerance) for _, down in both]
            return looks.together(logs)
        canary, stable = by_way[0]
        units = looks.means(canary, stable) if slot.kind == "mean" else looks.shares(canary, stable)
        return looks.log_e(units, share, tolerance=slot.tolerance)

    def _note(self, slot: Slot, found: Sequence[float], phase: int) -> None:
        if not found:
            return
        before = self._looked.get(slot.guard, Looked())
        number = before.number + 1
        last = looks.together(found)
        kept = last - looks.spent(number)
        best = kept if before.best is None else max(before.best, kept)
        could = self._could(slot, phase, len(found)) - looks.spent(number + 1)
        self._looked[slot.guard] = Looked(number=number, best=best, last=last, could=could, phase=phase)

    def _could(self, slot: Slot, phase: int, windows: int) -> float:
        """log E, had the canary failed all that it was asked, or said one thing to all (what stable says most, or least): what these units
        could show, in one of so many `windows`."""
        if slot.kind == "mix":
            arms = [self._arms(slot, way, phase) for way in range(slot.ways)]
            said = [sum(cell[1] * count for cell, count in stable.items()) for _, stable in arms]
            return max(self._evidence(slot, phase, _saying(arms, said.index(of(said)))) for of in (max, min)) - math.log(windows)
        canary, stable = self._arms(slot, 0, phase)
        units, worst = looks.shares(canary, stable), 1.0
        if slot.kind == "mean":  # twice what is allowed
            units = looks.means(canary, stable)
            worst = 2.0 * max(slot.tolerance, 1.0) * max((one.value for one in units), default=0.0)
        seen = looks.log_e(looks.failing(units, worst), self.shares[phase], tolerance=slot.tolerance)
        return seen - math.log(windows)

    # What others read, and what is kept.

    def told(self) -> Tallied:
        """What the judge needs."""
        counts: defaultdict[int, list[Count]] = defaultdict(list)
        for (guard, way, phase, since, arm), values in sorted(self._counts.items()):
            if any(values):
                names = ("units", "bad", "requests", "bad_requests", "weight", "weights", "total", "squares")
                counts[guard].append(Count(phase=phase, arm=ARMS[arm], since=since, way=way, **dict(zip(names, values, strict=True))))
        blocks = [*self._blocks[-1:], self._block]
        return Tallied(
            counts=dict(counts),
            looked=dict(self._looked),
            people=self.people << self.level,
            recent=sum(block.requests for block in blocks),
            recent_new=sum(block.new for block in blocks) << self.level,
            level=self.level,
        )

    def pack(self) -> bytes:
        """All of it, to go on from."""
        state = {
            "format": FORMAT,
            "level": self.level,
            "people": self.people,
            "rows": _packed_places(self._rows),
            "firsts": [(list(key), list(known.items())) for key, known in self._firsts.items()],
            "counts": [(list(key), [packed(value) for value in values]) for key, values in self._counts.items()],
            "cells": [(list(key), list(cells.items())) for key, cells in self._cells.items()],
            "requests": dict(self._requests),
            "opinions": dict(self._opinions),
            "opined": dict(self._opined),
            "touched": {guard: sorted(phases) for guard, phases in self._touched.items()},
            "looked": self._looked,
            "blocks": [_packed_block(block) for block in (*self._blocks, self._block)],
            "phase": self._phase,
        }
        return msgspec.msgpack.encode(state)

    def unpack(self, data: bytes) -> None:
        """Go on from what was packed."""
        state: dict[str, Any] = msgspec.msgpack.decode(data, strict=False)
        check_format(state.get("format"))
        self.level, self.people, self._phase = state["level"], state["people"], state["phase"]
        self._rows.update(_unpacked_places(state["rows"]))
        self._kept = sum(len(rows) for rows in self._rows.values())
        for key, known in state["firsts"]:
            self._firsts[tuple(key)].update({unit: (moment, value) for unit, (moment, value) in known})
        for key, values in state["counts"]:
            self._counts[tuple(key)][:] = [unpacked(value) for value in values]
        for key, cells in state["cells"]:
            self._cells[tuple(key)].update({(weight, bucket): count for (weight, bucket), count in cells})
        for name in ("requests", "opinions", "opined"):
            getattr(self, f"_{name}").update(state[name])
        for guard, phases in state["touched"].items():
            self._touched[guard] = set(phases)
        self._looked = msgspec.convert(state["looked"], dict[int, Looked])
        *self._blocks, self._block = [_unpacked_block(block) for block in state["blocks"]]


def _add(rows: dict[int, int], found: Mapping[int, int]) -> None:
    """Add to rows; mostly they are of other units."""
    known = rows.keys() & found.keys()
    if known:
        found = {**found, **{unit: rows[unit] + found[unit] for unit in known}}
    rows.update(found)


def _cell(slot: Slot, requests: int, amount: int) -> Cell:
    return looks.mean_cell(requests, amount) if slot.kind == "mean" else looks.share_cell(requests, amount)


def _saying(arms: Sequence[tuple[Counter[Cell], Counter[Cell]]], one: int) -> list[tuple[Counter[Cell], Counter[Cell]]]:
    """The same units, were the canary to say this to all of them."""
    return [(_all_of(canary, looks.GRID if way == one else 0), stable) for way, (canary, stable) in enumerate(arms)]


def _all_of(cells: Mapping[Cell, int], bucket: int) -> Counter[Cell]:
    """The same units, were all their requests of one kind."""
    found: Counter[Cell] = Counter()
    for (weight, _), count in cells.items():
        found[weight, bucket] += count
    return found


def _window(blocks: Sequence[_Block], phase: int) -> tuple[Counter[int], ...]:
    """Of each arm, how many of its units have which row in these blocks together."""
    arms = []
    for arm in range(len(ARMS)):
        rows: dict[int, int] = {}
        alike: Counter[int] = Counter()
        for block in blocks:
            alike.update(block.alone.get((phase, arm), {}))
            for unit, row in block.rows.get((phase, arm), {}).items():
                rows[unit] = rows.get(unit, 0) + row
        alike.update(rows.values())
        arms.append(alike)
    return tuple(arms)


def _window_cells(slot: Slot, window: Sequence[Counter[int]]) -> list[tuple[Counter[Cell], Counter[Cell]]]:
    """By way, the cells of both arms."""
    found: list[tuple[Counter[Cell], Counter[Cell]]] = [(Counter(), Counter()) for _ in range(slot.ways)]
    for arm, alike in enumerate(window):
        for row, count in alike.items():
            n, amounts = slot.read(row)
            if n:
                for way, amount in enumerate(amounts):
                    found[way][arm][_cell(slot, n, amount)] += count
    return found


def _packed_places(by_place: Mapping[Place, Mapping[int, int]]) -> list[Any]:
    return [(*place, packed_rows(rows)) for place, rows in by_place.items()]


def _unpacked_places(places: Iterable[Any]) -> dict[Place, dict[int, int]]:
    return {(phase, arm): unpacked_rows(rows) for phase, arm, rows in places}


def _packed_block(block: _Block) -> Any:
    alone = [(list(place), [(packed(delta), times) for delta, times in some.items()]) for place, some in block.alone.items()]
    return [_packed_places(block.rows), alone, block.requests, block.new, block.phase]


def _unpacked_block(data: Any) -> _Block:
    block = _Block()
    rows, alone, block.requests, block.new, block.phase = data
    block.rows.update(_unpacked_places(rows))
    for place, some in alone:
        block.alone[place[0], place[1]].update({unpacked(delta): times for delta, times in some})
    return block
