"""Static files: what is vendored is what its makers published, small, and kept by browsers."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from drivetrain.web.assets import FOLDER, SHEET, SHEETS, Assets
from tests.web.conftest import Site

VENDOR = FOLDER / "vendor"
TEMPLATES = FOLDER.parent / "templates"


def test_vendored_files_are_those_of_the_manifest() -> None:
    manifest = json.loads((VENDOR / "manifest.json").read_text())
    assert {entry["file"] for entry in manifest} == {path.name for path in VENDOR.iterdir() if path.is_file()} - {"manifest.json"}
    for entry in manifest:
        assert hashlib.sha256((VENDOR / entry["file"]).read_bytes()).hexdigest() == entry["sha256"], entry["file"]
        assert entry["name"] and entry["version"] and entry["license"]
        assert (VENDOR / "licenses" / f"{entry['name'].strip('@').replace('/', '-')}.txt").stat().st_size > 300


def test_scripts_and_styles_are_small() -> None:
    sizes = [path.stat().st_size for path in FOLDER.rglob("*") if path.is_file() and "echarts" not in path.name]
    assert sum(sizes) < 1_500_000


def test_files_may_be_kept_for_ever(site: Site) -> None:
    assets = Assets()
    answer = site.get(assets.url("css/base.css"), **{"accept-encoding": "gzip"})
    assert answer.status_code == 200
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["content-type"].startswith("text/css")
    assert site.get("/static/000000000000/css/base.css").headers["cache-control"] == "no-cache"
    assert site.get(f"/static/{assets.build}/../../format.py").status_code == 404
    assert site.get(f"/static/{assets.build}/%2e%2e/format.py").status_code == 404


@pytest.mark.parametrize("template", sorted(TEMPLATES.rglob("*.html")), ids=lambda path: path.stem)
def test_templates_have_nothing_inline(template: Path) -> None:
    text = template.read_text()
    assert not re.search(r"\son[a-z]+=", text), "event handlers belong into static/js"
    assert not re.search(r"<style|\sstyle=", text), "styles belong into static/css"
    assert not re.search(r"<script(?![^>]*\ssrc=)", text), "scripts belong into static/js"
    assert "| safe" not in re.sub(r"'[^']*' \| safe", "", text), "only constants of the template itself may go unescaped"


def test_the_sheets_of_all_pages_are_one(site: Site) -> None:
    """A sheet of every room but runs, which its own pages ask for beside it."""
    assert {*SHEETS, "runs"} == {path.stem for path in (FOLDER / "css").iterdir()}
    sheets = [site.get(Assets().url(f"css/{name}.css")).text for name in SHEETS]
    assert site.get(Assets().url(SHEET)).text == "".join(sheets)
    for page in ("/", "/deployments", "/sign-in"):
        assert re.findall(r'<link rel="stylesheet" href="([^"]+)">', site.get(page).text) == [Assets().url(SHEET)]


def test_five_type_sizes() -> None:
    for sheet in (FOLDER / "css").iterdir():
        sizes = set(re.findall(r"font-size:\s*([^;]+);", sheet.read_text()))
        assert sizes <= {f"var(--t{i})" for i in range(1, 6)}, f"{sheet.name}: {sizes}"


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast_is_aa(theme: str) -> None:
    """WCAG 2.2, 1.4.3 and 1.4.11: 4.5 to 1 for text, 3 to 1 for lines of charts."""
    blocks = re.findall(r'(?::root|:root\[data-theme="dark"\]) \{(.*?)\n\}', (FOLDER / "css/tokens.css").read_text(), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", blocks[0 if theme == "light" else 1]))

    def ratio(one: str, other: str) -> float:
        low, high = sorted((luminance(colours[one]), luminance(colours[other])))
        return (high + 0.05) / (low + 0.05)

    for ground in ("paper", "raised", "sunk", "hover"):
        for ink in ("ink", "ink-2", "ink-3", "accent", "good", "warn", "bad"):
            assert ratio(ink, ground) >= 4.5, f"{ink} on {ground}: {ratio(ink, ground):.2f}"
        for i in range(10):
            assert ratio(f"c{i}", ground) >= 3, f"c{i} on {ground}"
    for tone in ("good", "warn", "bad", "accent"):
        assert ratio(tone, f"{tone}-wash") >= 4.5, tone
        assert ratio("ink", f"{tone}-wash") >= 4.5, tone
    assert ratio("accent-ink", "accent") >= 4.5
