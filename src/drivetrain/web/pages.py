"""The dashboard: all pages as one router, mounted at `/`.

`OPEN` are the paths that somebody unknown may see: the sign-in page and what it is drawn with, and the page that only leads on.
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter

from drivetrain.platform import Platform
from drivetrain.web import assets, keys, links, live, overview, reference, search, signin
from drivetrain.web.assets import Assets
from drivetrain.web.monitoring import alerts, drift, quality
from drivetrain.web.registry import models
from drivetrain.web.render import Pages
from drivetrain.web.rollout import checklist, retraining, rollouts
from drivetrain.web.runs import compare, panels, sweeps
from drivetrain.web.runs import index as runs
from drivetrain.web.runs import run as runpage
from drivetrain.web.serving import deployments, playground, requests

OPEN = ("/sign-in", "/static", "/favicon.ico", *links.ADDRESSES)


def routes(platform: Platform, stopping: Callable[[], bool] = lambda: False) -> APIRouter:
    """All pages. `stopping` tells when the process is to end: live pages let go then."""
    files = Assets()
    pages = Pages(files, platform.home.cache / "pages")
    router = assets.routes(files)
    for part in (
        signin,
        overview,
        compare,
        runs,
        runpage,
        panels,
        sweeps,
        models,
        rollouts,
        alerts,
        drift,
        quality,
        retraining,
        checklist,
        deployments,
        requests,
        playground,
        keys,
        reference,
        links,
        search,
    ):
        router.routes.extend(part.routes(platform, pages).routes)
    router.routes.extend(live.routes(platform, pages, stopping).routes)
    return router
