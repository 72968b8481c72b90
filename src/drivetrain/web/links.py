"""Where the links lead that MLflow's client prints: "View run at …/mlflow/#/experiments/1/runs/…".

What follows the '#' never reaches a server: a script of the page reads it and goes to the page that shows it here.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from drivetrain.platform import Platform
from drivetrain.web.render import Pages

ADDRESSES = ("/mlflow", "/mlflow/")


def routes(platform: Platform, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)

    def lead_on(request: Request) -> Response:
        return pages.page(request, "links.html", path=[])

    for address in ADDRESSES:
        router.add_api_route(address, lead_on, methods=["GET", "HEAD"])
    return router
