"""How commands speak: tables, progress and words for people; one JSON document on stdout for programs (`--json`).

Results go to stdout, everything else (progress, notes, errors) to stderr.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import msgspec
import typer

from drivetrain.errors import DrivetrainError, Forbidden, NotFound, Unauthenticated

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

T = TypeVar("T")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.", show_default=False)]

OK, FAILED, USAGE, NOT_FOUND, REFUSED, UNREACHABLE = 0, 1, 2, 3, 4, 5
EXIT_CODES = {
    OK: "it worked",
    FAILED: "it did not; one line on stderr says why",
    USAGE: "the command line is wrong",
    NOT_FOUND: "no such thing",
    REFUSED: "not allowed: no key, or one without the right",
    UNREACHABLE: "no server answers",
}


@cache
def console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


@cache
def notes() -> Console:
    """Standard error."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def note(text: str) -> None:
    """A remark that is no result."""
    notes().print(text, soft_wrap=True)


def emit(value: object) -> None:
    """The one JSON document of a command with `--json`."""
    sys.stdout.write(json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False) + "\n")


def show(found: T, words: str | Callable[[T], object], *, as_json: bool) -> None:
    """The result of a command: its JSON document for programs; for people a sentence, or what a function prints of it."""
    if as_json:
        emit(found)
    elif isinstance(words, str):
        console().print(words, soft_wrap=True)
    else:
        words(found)


def live(seen: Iterable[T], drawn: Callable[[T], RenderableType]) -> T:
    """Draw what is seen in the place of what was seen before, until nothing more comes; what was seen last."""
    from rich.live import Live

    with Live(console=console(), auto_refresh=False) as screen:
        for one in seen:
            screen.update(drawn(one), refresh=True)
    return one


def as_text(found: object) -> None:
    """A thing with all that is known of it, for people to read."""
    console().print_json(data=msgspec.to_builtins(found))


def table(*columns: str, title: str | None = None) -> Table:
    """A table with these columns. A name that begins with '>' is set flush right, as numbers are."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", title=title, title_justify="left", show_edge=False)
    for name in columns:
        made.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    return made


def rows(made: Table, lines: Sequence[Sequence[object]], *, empty: str) -> None:
    """Print a table; `empty` says what to do when there is nothing yet."""
    from rich.text import Text

    if not lines:
        console().print(empty, soft_wrap=True)
        return
    for line in lines:
        made.add_row(*(cell if isinstance(cell, Text) else Text("" if cell is None else str(cell)) for cell in line))
    console().print(made)


def size(count: float | None) -> str:
    """Bytes, as people read them."""
    if count is None:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def ago(ms: float | None) -> str:
    """How long ago a moment was."""
    if not ms:
        return ""
    seconds = max(0.0, time.time() - ms / 1000)
    for limit, divisor, unit in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h"), (86400 * 60, 86400, "d")):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit} ago"
    return time.strftime("%Y-%m-%d", time.localtime(ms / 1000))


def state(word: str) -> Any:
    """A state, in the colour of what it means."""
    from rich.text import Text

    good, bad = {"ready", "FINISHED", "succeeded", "READY", "ok"}, {"failed", "failing", "FAILED", "KILLED", "bad"}
    return Text(word, style="green" if word in good else "red" if word in bad else "yellow")


class Bar(Protocol):
    """Told how far something has come. `total` 0: nobody knows yet."""

    def __call__(self, done: float, total: float, message: str) -> None: ...


@contextmanager
def progress(description: str, *, of_bytes: bool = True) -> Iterator[Bar]:
    """A progress bar on stderr while the block runs; nothing where stderr is no terminal."""
    from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TransferSpeedColumn

    columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn()]
    columns += [DownloadColumn(), TransferSpeedColumn()] if of_bytes else []
    columns += [TimeElapsedColumn()]
    with Progress(*columns, console=notes(), transient=True, disable=not notes().is_terminal) as bars:
        task = bars.add_task(description, total=None)

        def tell(done: float, total: float, message: str) -> None:
            bars.update(task, completed=done, total=total or None, description=message or description)

        yield tell


def exit_code(error: BaseException) -> int:
    """What a command ends with after `error`."""
    from drivetrain.client.http import Unreachable

    if isinstance(error, Unreachable):
        return UNREACHABLE
    if isinstance(error, NotFound):
        return NOT_FOUND
    if isinstance(error, Unauthenticated | Forbidden):
        return REFUSED
    return FAILED


def complain(error: DrivetrainError, *, as_json: bool) -> int:
    """Say in one line what went wrong and what to do; the exit code."""
    from rich.markup import escape

    code = exit_code(error)
    if as_json:
        emit({"error": {"type": type(error).__name__, "message": error.message, "exit_code": code}})
    notes().print(f"[bold red]error:[/] {escape(' '.join(error.message.split()))}", soft_wrap=True)
    return code
