"""Regular expressions that take time in proportion to the text, and mean the same in both databases.

What is understood is what RE2 and PostgreSQL's own engine have in common: nothing that refers back or looks around, which is what makes
engines slow. RE2 checks each pattern, and finds for SQLite; PostgreSQL finds by itself, once the pattern is written in its way.
Letters of classes (`\\w`, `\\d`, `\\s`, `[:alpha:]`) are those of ASCII.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from drivetrain.errors import Invalid

MAX_PATTERN = 500
MAX_REPEAT = 255
"""What PostgreSQL counts to."""
FUNCTION = "drivetrain_found"
"""What SQLite calls `found` by."""

_CLASSES = {"d": "0-9", "w": "A-Za-z0-9_", "s": " \\t\\n\\f\\r"}
_POSIX = {
    "alpha": "A-Za-z",
    "digit": "0-9",
    "alnum": "A-Za-z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": " \\t\\n\\v\\f\\r",
    "blank": " \\t",
    "xdigit": "0-9A-Fa-f",
    "word": "A-Za-z0-9_",
    "punct": "!-/:-@\\[-`{-~",
}
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_REPEAT = re.compile(r"\*|\+|\?|\{(\d+)(?:,(\d*))?\}", re.ASCII)
_HEX = re.compile(r"x(?:([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]{1,6})\})")
_POSIX_CLASS = re.compile(r"\[:(\^?\w*):\]")
_ASSERTIONS = {"b": "\\y", "B": "\\Y", "A": "\\A", "z": "\\Z"}
_LOOKS = {"(?=": "looks ahead", "(?!": "looks ahead", "(?<=": "looks behind", "(?<!": "looks behind", "(?>": "is atomic"}


def found(pattern: str, text: Any) -> bool | None:
    """Whether the pattern is found in a text; nothing is known of what is no text."""
    return _understood(pattern)[0].search(text) is not None if isinstance(text, str) else None


def compiled(pattern: str) -> Any:
    """RE2's pattern. Raises `Invalid`, which says what it is that is not understood."""
    return _understood(pattern)[0]


def in_postgres(pattern: str) -> str:
    """The same pattern as PostgreSQL writes it. Raises `Invalid`."""
    return _understood(pattern)[1]


@lru_cache(maxsize=256)
def _understood(pattern: str) -> tuple[Any, str]:
    import re2  # a library of its own, which most processes never need

    if len(pattern) > MAX_PATTERN:
        raise Invalid(f"A regular expression has at most {MAX_PATTERN} characters; this one has {len(pattern)}.", param="filter")
    written = _Reader(pattern).read()
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options), written
    except re2.error as error:
        why = error.args[0]
        raise _refused(pattern, why.decode(errors="replace") if isinstance(why, bytes) else str(why)) from None


def _refused(pattern: str, why: str) -> Invalid:
    return Invalid(f"The regular expression {pattern[:60]!r} is not understood: {why}.", param="filter")


class _Reader:
    """Reads a pattern once, from left to right. What is no pattern at all is left to RE2 to refuse."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.line_ends = False
        """Whether a dot means these too."""

    def read(self) -> str:
        if "\x00" in self.pattern:
            raise self.refused("it contains a NUL character")
        written: list[str] = []
        if flags := re.match(r"\(\?([is]+)\)", self.pattern):
            self.at = flags.end()
            self.line_ends = "s" in flags[1]
            written += ["(?i)"] if "i" in flags[1] else []
        repeatable = False
        while self.at < len(self.pattern):
            if times := _REPEAT.match(self.pattern, self.at):
                written.append(self.repeat(times, repeatable))
                repeatable = False
            else:
                piece, repeatable = self.piece()
                written.append(piece)
        return "".join(written)

    def piece(self) -> tuple[str, bool]:
        """The next piece, and whether it may be repeated."""
        letter = self.pattern[self.at]
        if letter == "\\":
            return self.escape()
        if letter == "[":
            return self.bracket(), True
        if letter == "(":
            return self.group(), False
        self.at += 1
        if letter == ".":
            return "." if self.line_ends else "[^\\n]", True
        if letter in "|^$":
            return letter, False
        return (letter if letter == ")" else _literal(letter)), True

    def repeat(self, times: re.Match[str], repeatable: bool) -> str:
        if not repeatable:
            raise self.refused(f"there is nothing to repeat before the {times[0]!r} at character {self.at + 1}")
        for count in (times[1], times[2]):
            if count and int(count) > MAX_REPEAT:
                raise self.refused(f"{times[0]} repeats more than {MAX_REPEAT} times")
        self.at = times.end()
        if self.pattern.startswith("?", self.at):  # as few as possible: where something is found is not asked
            self.at += 1
        return times[0]

    def group(self) -> str:
        rest = self.pattern[self.at :]
        for sign, what in _LOOKS.items():
            if rest.startswith(sign):
                raise self.refused(f"the group {sign}…) {what}, which no engine does in linear time")
        head = re.match(r"\((?:\?(?::|P?<[A-Za-z_]\w*>))?", rest)
        if head is None or (head[0] == "(" and rest.startswith("(?")):
            raise self.refused(f"{rest[:4]!r} at character {self.at + 1}: flags are i and s, and stand at the beginning, as (?i)")
        self.at += head.end()
        return "(?:"

    def escape(self) -> tuple[str, bool]:
        letter = self.pattern[self.at + 1 : self.at + 2]
        if letter in _ASSERTIONS and letter:
            self.at += 2
            return _ASSERTIONS[letter], False
        if letter.lower() in _CLASSES and letter:
            self.at += 2
            return f"[{'^' if letter.isupper() else ''}{_CLASSES[letter.lower()]}]", True
        return _literal(self.character()), True

    def character(self) -> str:
        """The next character, be it written as it is or with a backslash."""
        letter = self.pattern[self.at]
        self.at += 1
        if letter != "\\":
            return letter
        if not (letter := self.pattern[self.at : self.at + 1]):
            raise self.refused("it ends with a backslash")
        if code := _HEX.match(self.pattern, self.at):
            self.at = code.end()
            number = int(code[1] or code[2], 16)
            if not 0 < number <= 0x10FFFF or 0xD800 <= number < 0xE000:
                raise self.refused(f"\\{code[0]} is no character")
            return chr(number)
        self.at += 1
        if letter in _CONTROLS:
            return _CONTROLS[letter]
        if letter in "123456789":
            raise self.refused(f"\\{letter} refers back to a group, which no engine does in linear time")
        if letter.isalnum() or not letter.isascii():
            raise self.refused(f"\\{letter} is not one of \\d, \\w, \\s, \\b, \\A, \\z, \\n, \\t, \\xHH or a sign")
        return letter

    def bracket(self) -> str:
        """A class as [^…]."""
        begun = self.at
        self.at += 1
        out = "["
        if self.pattern.startswith("^", self.at):
            self.at, out = self.at + 1, "[^"
        first = True
        while first or not self.pattern.startswith("]", self.at):
            if self.at >= len(self.pattern):
                raise self.refused(f"the [ at character {begun + 1} is not closed")
            first = False
            if named := _POSIX_CLASS.match(self.pattern, self.at):
                if named[1] not in _POSIX:
                    raise self.refused(f"{named[0]} is not one of {', '.join(f'[:{name}:]' for name in _POSIX)}")
                out, self.at = out + _POSIX[named[1]], named.end()
            elif (letter := self.pattern[self.at + 1 : self.at + 2]) and self.pattern[self.at] == "\\" and letter.lower() in _CLASSES:
                if letter.isupper():
                    raise self.refused(f"\\{letter} stands in brackets: say what is meant without it")
                out, self.at = out + _CLASSES[letter], self.at + 2
            else:
                out += self.span()
        self.at += 1
        return out + "]"

    def span(self) -> str:
        low = self.character()
        if not re.match(r"-[^\]]", self.pattern[self.at :], re.DOTALL):
            return _literal(low)
        self.at += 1
        return f"{_literal(low)}-{_literal(self.character())}"

    def refused(self, why: str) -> Invalid:
        return _refused(self.pattern, why)


def _literal(letter: str) -> str:
    return f"\\{letter}" if letter.isascii() and letter.isprintable() and not letter.isalnum() and letter not in " _" else letter
