"""Static files: read once, addressed by the hash of them all, so that browsers may keep them for ever."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

from fastapi import APIRouter, Request, Response

FOLDER = Path(__file__).parent / "static"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".json": "application/json",
}
SHEET = "css/all.css"
SHEETS = ("tokens", "base", "pages", "serving", "rollout", "monitoring")
"""What `SHEET` is made of, in this order: one request for what every page asks for. Runs have a sheet of their own beside it."""
_FOREVER = "public, max-age=31536000, immutable"


class Assets:
    """The files of `static/`, and the sheets of styles in one. `url(name)` is where a page finds one."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.suffix in _TYPES}
        digest = hashlib.sha256()
        for name, path in self._files.items():
            digest.update(name.encode() + b"\0" + path.read_bytes())
        self.build = digest.hexdigest()[:12]
        self._packed: dict[str, bytes] = {}

    def url(self, name: str) -> str:
        """The address of a file. One hash stands for all, so that files may name each other by relative paths."""
        return f"/static/{self.build}/{name}"

    def get(self, name: str, *, packed: bool) -> Response:
        parts = [f"css/{part}.css" for part in SHEETS] if name == SHEET else [name]
        paths = [self._files[part] for part in parts if part in self._files]
        if not paths:
            return Response(status_code=404)
        kind = paths[0].suffix
        headers = {"cache-control": _FOREVER, "vary": "accept-encoding"}
        if packed and kind != ".woff2":
            if name not in self._packed:
                self._packed[name] = gzip.compress(_joined(paths), 6, mtime=0)
            return Response(self._packed[name], headers=headers | {"content-encoding": "gzip"}, media_type=_TYPES[kind])
        return Response(_joined(paths), headers=headers, media_type=_TYPES[kind])


def _joined(paths: list[Path]) -> bytes:
    return b"".join(path.read_bytes() for path in paths)


def routes(assets: Assets) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/static/{build}/{name:path}")
    def static(build: str, name: str, request: Request) -> Response:
        response = assets.get(name, packed="gzip" in request.headers.get("accept-encoding", ""))
        if build != assets.build:
            response.headers["cache-control"] = "no-cache"  # an old page asks: give it what there is, but do not keep it
        return response

    @router.get("/favicon.ico")
    def favicon() -> Response:
        return assets.get("favicon.svg", packed=False)

    return router
