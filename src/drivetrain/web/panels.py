"""What a run logged beside numbers: media of its history rows, and the lines of its console."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request, Response

from drivetrain.errors import Invalid
from drivetrain.identity.model import Context
from drivetrain.tracking.model import Line, Owner
from drivetrain.web.render import HEADERS, Pages, viewer
from drivetrain.web.services import Services

Viewer = Annotated[Context, Depends(viewer)]
ROWS = 50
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


@dataclass(frozen=True)
class Panel:
    """One thing to look at. `kind`: image, html, table, histogram or other. `bars`: (height in percent, words) of a histogram."""

    key: str
    step: int
    kind: str
    url: str = ""
    caption: str = ""
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    bars: Sequence[tuple[float, str]] = ()


def lines(services: Services, ctx: Context, run_id: str) -> list[Line]:
    return services.tracking.console(ctx, run_id, limit=MOST_LINES, last=True)


def panels(services: Services, ctx: Context, run_id: str, files: Mapping[str, Any]) -> list[Panel]:
    """Of each key its latest media, among the rows looked at."""
    latest: dict[str, list[Panel]] = {}
    for step, row in services.tracking.media_rows(ctx, run_id, limit=ROWS):
        for key, value in row.items():
            if key not in latest and isinstance(value, dict) and (found := list(_panels(services, ctx, run_id, key, step, value, files))):
                latest[key] = found
    shown = {panel.url for some in latest.values() for panel in some}
    for path in sorted(files):
        url = _url(run_id, path)
        if not path.startswith("media/") and _ending(path) in _IMAGES and url not in shown:
            latest[path] = [Panel(path, -1, "image", url)]
    return [panel for key in sorted(latest) for panel in latest[key]][:MOST_PANELS]


def _panels(
    services: Services, ctx: Context, run_id: str, key: str, step: int, value: Mapping[str, Any], files: Mapping[str, Any]
) -> Iterator[Panel]:
    kind = value.get("_type")
    path = value.get("path")
    if kind == "histogram":
        yield from _histogram(key, step, value)
    elif kind == "images/separated":
        captions = value.get("captions")
        for n, name in enumerate(value.get("filenames") or ()):
            caption = captions[n] if isinstance(captions, list) and n < len(captions) else ""
            if isinstance(name, str) and name in files:
                yield Panel(key, step, "image", _url(run_id, name), str(caption or ""))
    elif not isinstance(path, str) or path not in files:
        return
    elif kind == "image-file":
        yield Panel(key, step, "image", _url(run_id, path), str(value.get("caption") or ""))
    elif kind == "html-file":
        yield Panel(key, step, "html", _url(run_id, path))
    elif kind == "table-file":
        yield from _table(services, ctx, run_id, key, step, path)


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
        top = max(counts) or 1
        yield Panel(
            key,
            step,
            "histogram",
            bars=[(100 * max(0, n) / top, f"{bins[i]:.4g} to {bins[i + 1]:.4g}: {n:g}") for i, n in enumerate(counts)],
        )


def _table(services: Services, ctx: Context, run_id: str, key: str, step: int, path: str) -> Iterator[Panel]:
    found = services.tracking.get_artifact(ctx, Owner.run, run_id, path)
    url = f"/api/v1/runs/{run_id}/artifacts/{quote(path)}"
    if found.size > MOST_BYTES:
        yield Panel(key, step, "other", url, "This table is too large to be shown here.")
        return
    try:
        body = json.loads(services.tracking.blobs.read_bytes(found.sha256))
        head = [str(one) for one in body["columns"]]
        rows = [[_cell(one) for one in row] for row in body["data"][:TABLE_ROWS]]
    except (ValueError, KeyError, TypeError):
        yield Panel(key, step, "other", url, "This table cannot be read.")
        return
    more = len(body["data"]) - len(rows)
    yield Panel(key, step, "table", url, f"{more} more rows in the file" if more > 0 else "", head, rows)


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else text[:199] + "…"


def _ending(path: str) -> str:
    return path[path.rfind(".") :].lower() if "." in path else ""


def _url(run_id: str, path: str) -> str:
    return f"/media/{run_id}/{quote(path)}"


def routes(services: Services, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)

    @router.get("/media/{run_id}/{path:path}")
    def media(request: Request, ctx: Viewer, run_id: str, path: str) -> Response:
        """A file of a run to be looked at: a picture, or a document in a sandbox."""
        found = services.tracking.get_artifact(ctx, Owner.run, run_id, path)
        kind = "text/html; charset=utf-8" if _ending(path) in (".html", ".htm") else _IMAGES.get(_ending(path))
        if kind is None or found.size > MOST_BYTES:
            raise Invalid("This file is not shown as a picture: download it from the run's files.", param="path")
        return Response(services.tracking.blobs.read_bytes(found.sha256), media_type=kind, headers=SANDBOX)

    return router
