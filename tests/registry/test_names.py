"""Names: what one protocol writes, every other understands."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.errors import Invalid
from drivetrain.registry import names
from drivetrain.registry.names import Name

SLUG = st.from_regex(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,20}[A-Za-z0-9])?", fullmatch=True)
REPO = st.text(min_size=1, max_size=40).filter(
    lambda t: t.strip() and t not in (".", "..") and not re.search(r"[/:@\x00-\x1f\x7f]", t) and t != "models"
)
REF = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_+-]{0,20}", fullmatch=True)
ALIAS = st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True).filter(lambda t: t.lower() != "latest" and not re.fullmatch(r"[vV]\d+", t))
NAMES = st.one_of(
    st.builds(Name, REPO, st.none() | SLUG, st.none() | REF),
    st.builds(Name, REPO, st.none(), st.integers(1, 10**8).map(str), st.just("version")),
    st.builds(Name, REPO, st.none(), ALIAS, st.just("alias")),
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("digits", Name("digits")),
        ("ws/digits", Name("digits", "ws")),
        ("digits@champion", Name("digits", None, "champion")),
        ("ws/digits@refs/pr/1", Name("digits", "ws", "refs/pr/1")),
        ("llama3:8b", Name("llama3", None, "8b")),
        ("owner/llama:5c7d5dc6dd8bf75c", Name("llama", "owner", "5c7d5dc6dd8bf75c")),
        ("models:/digits/3", Name("digits", None, "3", "version")),
        ("models:/digits/latest", Name("digits", None, "latest", "version")),
        ("models:/My Model@champion", Name("My Model", None, "champion", "alias")),
        ("models:/digits", Name("digits")),
        ("ft:smollm2:ws:support:42", Name("support", "ws", "42")),
        ("ft:smollm2::support:", Name("support")),
    ],
)  # fmt: skip
def test_every_protocol_is_understood(text: str, name: Name) -> None:
    assert names.parse(text) == name


@given(NAMES)
def test_the_canonical_text_reads_back(name: Name) -> None:
    assert names.parse(str(name)) == name


@given(st.text(max_size=60))
def test_any_text_is_a_name_or_refused_with_advice(text: str) -> None:
    try:
        name = names.parse(text)
    except Invalid as error:
        assert len(error.message) > 20
    else:
        assert name.repo
        assert "/" not in name.repo
        assert names.parse(str(name)) == name


@given(st.text(min_size=1, max_size=300).filter(lambda t: t.strip()))
def test_a_slug_can_be_made_of_every_display_name(text: str) -> None:
    slug = names.slug_of(text)
    assert names.check_slug(slug) == slug
    assert names.slug_of(slug) == slug


@pytest.mark.parametrize("text", ["", "-x", "x/", "a..b", "a b", "v1", "API", "x" * 97, "ü", "a."])
def test_what_cannot_be_a_slug(text: str) -> None:
    with pytest.raises(Invalid):
        names.check_slug(text)


@pytest.mark.parametrize("text", ["latest", "Latest", "v1", "V12", "", "a b", "a/b", "x" * 256, "ä"])
def test_what_cannot_be_an_alias(text: str) -> None:
    with pytest.raises(Invalid):
        names.check_alias(text)


@pytest.mark.parametrize(
    "text",
    ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".", "a\\b", "a\x00b", "C:/x", "C:x", "a/./b", "x" * 1025, "\ud800"],
)
def test_paths_that_leave_their_place_are_refused(text: str) -> None:
    with pytest.raises(Invalid):
        names.check_path(text)


@given(st.lists(st.from_regex(r"[A-Za-z0-9_ äß-]{1,20}", fullmatch=True), min_size=1, max_size=5))
def test_ordinary_paths_are_taken_as_they_are(parts: list[str]) -> None:
    path = "/".join(parts)
    assert names.check_path(path) == path


@given(st.text(max_size=80))
def test_a_path_that_is_taken_stays_below_its_root(text: str) -> None:
    from pathlib import PurePosixPath

    try:
        path = names.check_path(text)
    except Invalid:
        return
    parts = PurePosixPath(path).parts
    assert ".." not in parts
    assert not PurePosixPath(path).is_absolute()
    assert "/".join(parts) == path
