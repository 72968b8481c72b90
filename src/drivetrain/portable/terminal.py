"""What a script printed, as the lines that a terminal would show in the end: progress bars overwrite themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

WINDOW = 200
"""How many lines back the cursor can go."""
MAX_COLUMNS = 100_000
_PIECE = re.compile(r"\x1b\[([0-9;?]*)([@-~])|\x1b[^\[]?|[\r\n\b]|[^\x1b\r\n\b]+", re.DOTALL)


@dataclass(slots=True)
class Row:
    """A line; `cells` are letters with the colours set before them."""

    number: int
    time: float
    cells: list[str] = field(default_factory=list)


class Numbers:
    """Line numbers, shared by the two streams of a process."""

    def __init__(self) -> None:
        self.next = 0

    def take(self) -> int:
        self.next += 1
        return self.next - 1


class Terminal:
    """One stream. `write` gives the lines that cannot change any more; `rest` what is left at the end."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._rows: list[Row] = []
        self._y = 0
        self._x = 0
        self._colour = ""

    def write(self, text: str, time: float) -> Iterator[tuple[int, float, str]]:
        for found in _PIECE.finditer(text):
            piece, command = found[0], found[2]
            if command:
                self._command(command, found[1] or "", time)
            elif piece == "\n":
                self._row(time)
                self._y, self._x = self._y + 1, 0
            elif piece == "\r":
                self._x = 0
            elif piece == "\b":
                self._x = max(0, self._x - 1)
            elif not piece.startswith("\x1b"):
                self._put(piece, time)
            while len(self._rows) > WINDOW:
                yield _shown(self._rows.pop(0))
                self._y = max(0, self._y - 1)

    def rest(self) -> Iterator[tuple[int, float, str]]:
        if self._rows and self._colour:
            self._rows[-1].cells.append(self._colour)
            self._colour = ""
        yield from map(_shown, self._rows)
        self._rows.clear()

    def _row(self, time: float) -> Row:
        while len(self._rows) <= self._y:
            self._rows.append(Row(self._numbers.take(), time))
        return self._rows[self._y]

    def _put(self, text: str, time: float) -> None:
        row = self._row(time)
        end = min(self._x + len(text), MAX_COLUMNS)
        row.cells += [" "] * (self._x - len(row.cells))
        letters = list(text[: end - self._x])
        if letters and self._colour:
            letters[0], self._colour = self._colour + letters[0], ""
        row.cells[self._x : end] = letters
        row.time, self._x = time, end

    def _command(self, command: str, given: str, time: float) -> None:
        count = max(1, min(int(given), MAX_COLUMNS)) if given.isascii() and given.isdigit() and len(given) < 7 else 1
        if command == "m":
            if self._rows and 0 < self._x == len(self._rows[min(self._y, len(self._rows) - 1)].cells) and given in ("", "0"):
                self._rows[min(self._y, len(self._rows) - 1)].cells[-1] += f"\x1b[{given}m"  # the end of a colour belongs to what it ends
            else:
                self._colour += f"\x1b[{given}m"
        elif command == "A":
            self._y = max(0, self._y - count)
        elif command == "B":
            self._y = min(self._y + count, len(self._rows))
        elif command == "C":
            self._x = min(self._x + count, MAX_COLUMNS)
        elif command == "D":
            self._x = max(0, self._x - count)
        elif command == "G":
            self._x = count - 1
        elif command == "K":
            row = self._row(time)
            if given in ("", "0"):
                del row.cells[self._x :]
            elif given == "2":
                row.cells.clear()


def _shown(row: Row) -> tuple[int, float, str]:
    return row.number, row.time, "".join(row.cells)
