"""What a run logged beside numbers: media of its history rows, plots made of its tables, and the lines of its console."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request, Response

from drivetrain.errors import Invalid
from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.tracking.model import Line, Owner
from drivetrain.web.format import number
from drivetrain.web.render import HEADERS, Pages, viewer
from drivetrain.web.runs import plots
from drivetrain.web.runs.plots import Body, Plot

Viewer = Annotated[Context, Depends(viewer)]
ROWS = 100
MOST_PANELS = 60
MOST_LINES = 1000
MOST_BYTES = 8 << 20
TABLE_ROWS = 100
# A document of a user's: its scripts run, in an origin of its own from which nothing can be reached.
SANDBOX = {
    **HEADERS,
    "content-security-policy": "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; font-src data:; frame-ancestors 'self'",
}
_IMAGES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp"}
_PLAYED = {".wav": "audio/wav", ".mp3": "audio/mpeg", ".ogg": "audio/ogg", ".mp4": "video/mp4", ".webm": "video/webm"}
_SHOWN = {**_IMAGES, **_PLAYED, ".html": "text/html; charset=utf-8", ".htm": "text/html; charset=utf-8"}
# By wandb's names: a file of one kind, and where a list of such files is.
_KINDS = {"image-file": "image", "html-file": "html", "audio-file": "audio", "video-file": "video"}
_LISTS = {"audio": "audio", "videos": "videos", "html": "html"}
_TABLES = ("table-file", "incremental-table-file")


@dataclass(frozen=True)
class Frame:
    """A picture at one step."""

    step: int
    url: str
    caption: str = ""


@dataclass(frozen=True)
class Panel:
    """One thing to look at. `kind`: image, html, audio, video, table, histogram, plot or other. `bars`: (height in percent, words) of a
    histogram. `frames`: the same picture at earlier steps, the last one being this."""

    key: str
    step: int
    kind: str
    url: str = ""
    caption: str = ""
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    bars: Sequence[tuple[float, str]] = ()
    plot: Plot | None = None
    frames: Sequence[Frame] = ()

    def frames_json(self) -> str:
        """For the page's script: (step, address, caption) of each."""
        return json.dumps([(one.step, one.url, one.caption) for one in self.frames])


def lines(platform: Platform, ctx: Context, run_id: str) -> list[Line]:
    return platform.tracking.history.console(ctx, run_id, limit=MOST_LINES, last=True)


@dataclass
class _Looker:
    """Looks through one run."""

    platform: Platform
    ctx: Context
    run_id: str
    files: Mapping[str, Any]

    def panels(self) -> list[Panel]:
        """Of each key its latest media, among the rows looked at."""
        latest: dict[str, list[Panel]] = {}
        frames: dict[tuple[str, int], list[Frame]] = {}
        tables: dict[str, tuple[int, str]] = {}
        for step, row in self.platform.tracking.history.media(self.ctx, self.run_id, limit=ROWS):
            for key, value in row.items():
                if not isinstance(value, dict):
                    continue
                if value.get("_type") in _TABLES and value.get("path") in self.files:
                    tables.setdefault(key, (step, value["path"]))
                    continue
                found = list(self._media(key, step, value))
                for n, one in enumerate(found):
                    if one.kind == "image":
                        frames.setdefault((key, n), []).append(Frame(step, one.url, one.caption))
                if found:
                    latest.setdefault(key, found)
        for key, some in latest.items():
            for n, panel in enumerate(some):
                if len(seen := frames.get((key, n), ())) > 1:
                    some[n] = Panel(key, panel.step, "image", panel.url, panel.caption, frames=seen[::-1])
        latest |= self._of_tables(tables)
        shown = {url for some in latest.values() for panel in some for url in (panel.url, *(one.url for one in panel.frames))}
        for path in sorted(self.files):
            url = _url(self.run_id, path)
            if not path.startswith("media/") and _ending(path) in _IMAGES and url not in shown:
                latest[path] = [Panel(path, -1, "image", url)]
        # Tables take a whole line: they come last.
        keys = sorted(latest, key=lambda key: (latest[key][0].kind == "table", key))
        return [panel for key in keys for panel in latest[key]][:MOST_PANELS]

    def _media(self, key: str, step: int, value: Mapping[str, Any]) -> Iterator[Panel]:
        kind = str(value.get("_type"))
        path = value.get("path")
        if kind == "histogram":
            yield from _histogram(key, step, value)
        elif kind == "images/separated":
            captions = value.get("captions")
            for n, name in enumerate(value.get("filenames") or ()):
                caption = captions[n] if isinstance(captions, list) and n < len(captions) else ""
                if isinstance(name, str) and name in self.files:
                    yield Panel(key, step, "image", _url(self.run_id, name), str(caption or ""))
        elif kind in _LISTS and isinstance(value.get(_LISTS[kind]), list):
            captions = value.get("captions")
            for n, one in enumerate(value[_LISTS[kind]]):
                if isinstance(one, dict):
                    caption = captions[n] if isinstance(captions, list) and n < len(captions) else ""
                    yield from self._media(key, step, {"caption": caption, **one})
        elif isinstance(path, str) and path in self.files and kind.endswith("-file"):
            shown = _KINDS.get(kind, "other")
            if shown in ("audio", "video") and _ending(path) not in _SHOWN:
                shown = "other"
            url = _download(self.run_id, path) if shown == "other" else _url(self.run_id, path)
            yield Panel(key, step, shown, url, str(value.get("caption") or ""))

    def _of_tables(self, tables: dict[str, tuple[int, str]]) -> dict[str, list[Panel]]:
        """Tables, and in the place of those that a plot is made of, the plot."""
        found: dict[str, list[Panel]] = {}
        specs = self.platform.tracking.reports.get(self.ctx, self.run_id).private.get("visualize") if tables else None
        for key, spec in (specs if isinstance(specs, dict) else {}).items():
            name = next((name for name in (f"{key}_table", f"Custom Chart Tables/{key}_table", key) if name in tables), None)
            if name is None or isinstance(body := self._body(tables[name][1]), str):
                continue
            if (drawn := plots.plot(spec, body)) is not None:
                step, path = tables.pop(name)
                found[key] = [Panel(key, step, "plot", _download(self.run_id, path), drawn.title, plot=drawn)]
        for key, (step, path) in tables.items():
            body, url = self._body(path), _download(self.run_id, path)
            if isinstance(body, str):
                found[key] = [Panel(key, step, "other", url, body)]
                continue
            rows = [[_cell(one) for one in row] for row in body.rows[:TABLE_ROWS]]
            more = len(body.rows) - len(rows)
            words = f"{number(more)} more rows in the file" if more > 0 else ""
            found[key] = [Panel(key, step, "table", url, words, body.columns, rows)]
        return found

    def _body(self, path: str) -> Body | str:
        """What is in a table's file, or why it cannot be shown."""
        found = self.platform.tracking.artifacts.get(self.ctx, Owner.run, self.run_id, path)
        if found.size > MOST_BYTES:
            return "This table is too large to be shown here."
        try:
            body = json.loads(self.platform.tracking.artifacts.blobs.read_bytes(found.sha256))
            return Body([str(one) for one in body["columns"]], [list(row) for row in body["data"]])
        except (ValueError, KeyError, TypeError):
            return "This table cannot be read."


def panels(platform: Platform, ctx: Context, run_id: str, files: Mapping[str, Any]) -> list[Panel]:
    return _Looker(platform, ctx, run_id, files).panels()


def _histogram(key: str, step: int, value: Mapping[str, Any]) -> Iterator[Panel]:
    counts, bins = value.get("values"), value.get("bins")
    packed = value.get("packedBins")
    if isinstance(packed, dict) and isinstance(counts, list):
        low, width = packed.get("min"), packed.get("size")
        if isinstance(low, int | float) and isinstance(width, int | float):
            bins = [low + width * n for n in range(len(counts) + 1)]
    if not isinstance(counts, list) or not isinstance(bins, list) or not 0 < len(counts) < len(bins) <= 1025:
        return
    if all(isinstance(one, int | float) for one in [*counts, *bins]):
        yield Panel(key, step, "histogram", bars=plots.histogram(counts, bins))


def _cell(value: Any) -> str:
    if (known := plots.number(value)) is not None:
        return number(known, 6)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else text[:199] + "…"


def _ending(path: str) -> str:
    return path[path.rfind(".") :].lower() if "." in path else ""


def _url(run_id: str, path: str) -> str:
    return f"/media/{run_id}/{quote(path)}"


def _download(run_id: str, path: str) -> str:
    return f"/api/v1/runs/{run_id}/artifacts/{quote(path)}"


def routes(platform: Platform, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)

    @router.get("/media/{run_id}/{path:path}")
    def media(request: Request, ctx: Viewer, run_id: str, path: str) -> Response:
        """A file of a run to be looked at or listened to, or a document in a sandbox."""
        found = platform.tracking.artifacts.get(ctx, Owner.run, run_id, path)
        kind = _SHOWN.get(_ending(path))
        if kind is None or found.size > MOST_BYTES:
            raise Invalid("This file is not shown here: download it from the run's files.", param="path")
        # What is there under this name may be written anew: ask each time, and take from the cache what has stayed the same.
        headers = SANDBOX | {"cache-control": "private, no-cache", "etag": f'"{found.sha256}"'}
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(platform.tracking.artifacts.blobs.read_bytes(found.sha256), media_type=kind, headers=headers)

    return router
