"""Regular expressions mean in both databases what Python's mean, take linear time, and say what they do not understand."""

from __future__ import annotations

import contextlib
import re

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivetrain.errors import Invalid
from drivetrain.search.conditions import Condition
from drivetrain.search.sql import compare
from drivetrain.store import patterns
from drivetrain.store.sql import Database

TEXTS = [
    "",
    "a",
    "A",
    "ab",
    "aab",
    "b-a",
    "a.b",
    "a_1",
    "12",
    "1 2",
    "a\nb",
    "\n",
    "]",
    "[x]",
    "{2}",
    "a|b",
    "\\d",
    "^$",
    "(a)",
    "run 12",
    "a\tb",
    "-",
]


def meant(database: Database, pattern: str, texts: list[str]) -> list[bool]:
    """Which of the texts the database finds the pattern in."""
    found = compare(sa.column("text", sa.Text), Condition("", "text", "RLIKE", pattern), sqlite=database.kind == "sqlite")
    some = sa.union_all(*(sa.select(sa.literal(n).label("n"), sa.literal(one, sa.Text).label("text")) for n, one in enumerate(texts)))
    with database.read() as c:
        met: set[int] = set(c.scalars(sa.select(sa.column("n")).select_from(some.subquery()).where(found)))
    return [n in met for n in range(len(texts))]


END = "\x01"
"""The end of the text, which Python writes in another way."""
atoms = st.sampled_from(
    [
        *["a", "b", "A", "1", " ", "-", "_", ".", "\\.", "\\d", "\\D", "\\w", "\\W", "\\s", "\\S", "\\b", "\\B", "^", END, "\\A", "\\\\"],
        *["\\n", "\\t", "\n", "\\[", "\\]", "\\{", "\\|", "\\(", "]", "\\x41", "[ab]", "[^ab]", "[a-b1]", "[]a]", "[^]]", "[\\d_]"],
        *["[\\w-]", "[\\s.]", "[-a]", "[.^$|]", "[\\x41-\\x42]"],
    ]
)
repeats = st.sampled_from(["", "", "", "*", "+", "?", "*?", "+?", "{2}", "{1,}", "{0,2}", "{1,2}?"])
pieces = st.builds(lambda atom, times: atom + times, atoms, repeats)
expressions = st.recursive(
    st.lists(pieces, max_size=4).map("".join),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("|".join),
        st.builds(lambda kind, one, times: f"({kind}{one}){times}", st.sampled_from(["", "?:", "?P<n>"]), inner, repeats),
        st.builds(lambda one, other: one + other, inner, inner),
    ),
    max_leaves=4,
)


def test_both_databases_find_what_python_finds(database: Database) -> None:
    @settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(
        st.sampled_from(["", "", "(?i)", "(?s)", "(?is)"]), expressions, st.lists(st.text("aAb1_ -.\n\t[]{}|\\^$(", max_size=6), max_size=4)
    )
    def check(flags: str, expression: str, more: list[str]) -> None:
        ours = flags + expression.replace(END, "$")
        try:
            theirs = re.compile(flags + expression.replace(END, "\\Z"), re.ASCII)
        except re.error:
            with contextlib.suppress(Invalid):
                meant(database, ours, TEXTS)
            return
        try:
            found = meant(database, ours, TEXTS + more)
        except Invalid:
            assert re.search(r"(\^|\$|\\[bBA])[*+?{]", ours), ours  # only what stands between letters is not repeated here
            return
        assert found == [theirs.search(text) is not None for text in TEXTS + more], ours

    check()


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(?=a)b", "looks ahead"),
        ("(?!a)b", "looks ahead"),
        ("(?<=a)b", "looks behind"),
        ("(?<!a)b", "looks behind"),
        (r"(a)\1", r"\\1 refers back"),
        ("(?P<n>a)(?P=n)", r"\(\?P="),
        ("a(?i)b", "stand at the beginning"),
        ("(?m)^a", "stand at the beginning"),
        (r"\pL", r"\\p is not one of"),
        (r"\Qa", r"\\Q is not one of"),
        ("(", "missing"),
        (")", "unexpected"),
        ("[a", "not closed"),
        ("[b-a]", "range"),
        ("[[:none:]]", "is not one of"),
        (r"[\D]", r"\\D stands in brackets"),
        ("*a", "nothing to repeat"),
        ("a**", "nothing to repeat"),
        ("a{256}", "repeats more than 255 times"),
        ("((a{100}){100}){100}", "repetition"),
        ("a\\", "ends with a backslash"),
        ("a\x00", "NUL"),
        (r"\x{110000}", "no character"),
        ("a" * 501, "at most 500 characters"),
    ],
)
def test_what_is_not_understood_is_said(pattern: str, why: str) -> None:
    with pytest.raises(Invalid, match=why) as caught:
        patterns.in_postgres(pattern)
    assert caught.value.param == "filter"


def test_classes_and_letters_of_all_kinds(database: Database) -> None:
    texts = ["a", "Z", "5", "_", " ", "é", "ß", "日", "😀", "!", "\r\n", "~"]
    for pattern, expected in (
        ("^[[:alpha:]]$", ["a", "Z"]),
        ("^[[:punct:]]$", ["_", "!", "~"]),
        ("^[[:space:][:digit:]]+$", ["5", " ", "\r\n"]),
        ("^\\w$", ["a", "Z", "5", "_"]),
        ("^[^[:alnum:]]$", ["_", " ", "é", "ß", "日", "😀", "!", "~"]),
        ("^.$", ["a", "Z", "5", "_", " ", "é", "ß", "日", "😀", "!", "~"]),
        ("^[é-日]$", ["é", "日"]),
        ("^\\x{1F600}$", ["😀"]),
        ("", texts),
    ):
        assert [text for text, met in zip(texts, meant(database, pattern, texts), strict=True) if met] == expected, pattern


def test_patterns_that_keep_other_engines_busy_for_ever_are_answered(database: Database) -> None:
    text = "a" * 20_000
    for pattern in ("^(a+)+$", "^(a|aa)+b", "(a*)*b", "(.*)(.*)(.*)(.*)x", "^(([a-z])+.)+[A-Z]([a-z])+$"):
        assert meant(database, pattern, [text]) == [pattern.endswith("+$") and "Z" not in pattern]
