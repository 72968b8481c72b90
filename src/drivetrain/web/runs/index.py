"""Runs: which one is best and why. A table over all of them, in the order, columns and groups that its address asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse

from drivetrain.errors import Invalid
from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.web.format import colours, plural
from drivetrain.web.render import HEADERS, Pages, viewer
from drivetrain.web.runs import columns as runtable
from drivetrain.web.runs.shape import Shape, of_query, toggled
from drivetrain.web.runs.views import GroupRow, RunRow, RunsPage, ViewRow

Viewer = Annotated[Context, Depends(viewer)]
PAGE = 100
MOST_PICKED = 20
MOST_PINNED = 50
OF_A_GROUP = 20
NONE = "(none)"


def table(platform: Platform, ctx: Context, shape: Shape) -> RunsPage:
    experiments = platform.tracking.experiments.all(ctx)
    names = {one.id: one.name for one in experiments}
    wanted = [shape.experiment] if shape.experiment else list(names)
    problem, rows, token = "", [], None
    order = replace(shape, sort="").order_by() if shape.group else shape.order_by()
    try:
        page = platform.tracking.runs.search(
            ctx, wanted, filter=shape.condition() or None, order_by=order, limit=PAGE, token=shape.token or None
        )
        rows, token = [runtable.row(run, names, shape) for run in page.items], page.token
    except Invalid as error:
        problem = error.message
    pinned = [runtable.row(run, names, shape) for run in platform.tracking.runs.get_many(ctx, shape.pinned)] if shape.pinned else []
    columns = runtable.columns([*pinned, *rows], shape)
    shown = [column for column in columns if column.shown]
    metrics = [column.key for column in shown if column.kind == "metrics"]
    groups, more_groups = list[GroupRow](), False
    if shape.group and not problem:
        try:
            groups, more_groups = _groups(platform, ctx, shape, wanted, names, metrics)
        except Invalid as error:
            problem = error.message
    total = None
    if not token and not shape.token:
        total = len(rows)
    elif not shape.filter and not problem:
        total = platform.tracking.groups.count(ctx, wanted)
    label = next((column.label for column in columns if column.key == shape.group), shape.group)
    return RunsPage(
        rows=[one for one in rows if not one.pinned],
        pinned=pinned,
        groups=groups,
        more_groups=more_groups,
        columns=columns,
        shown=shown,
        name_column=runtable.column("run_name", shape, label="Run"),
        group_columns={key: runtable.column(key, shape, label=text) for key, text in (("value", label), ("runs", "Runs"))},
        experiments=[(one.id, one.name) for one in experiments],
        experiment=shape.experiment,
        filter=shape.filter,
        problem=problem,
        group=shape.group,
        best=runtable.best([*pinned, *rows], metrics),
        next_url=replace(shape, token=token).url() if token else "",
        first_url=replace(shape, token="").url() if shape.token else "",
        picked=shape.picked,
        total=total,
        count_url=Shape(experiment=shape.experiment, filter=shape.filter).url("/runs/count"),
        views=views(platform, ctx, shape),
        view=shape.view,
        sweeps=platform.sweeps.count(ctx, shape.experiment) if shape.experiment in names else 0,
        is_empty=not rows and not shape.filter and not shape.experiment,
        brief=runtable.brief,
    )


def _groups(
    platform: Platform, ctx: Context, shape: Shape, wanted: Sequence[str], names: dict[str, str], metrics: Sequence[str]
) -> tuple[list[GroupRow], bool]:
    order = "value" if shape.sort == "value" else shape.sort.partition(".")[2] if shape.sort.startswith("metrics.") else ""
    found, more = platform.tracking.groups.search(
        ctx,
        wanted,
        shape.by(),
        metrics=[key.partition(".")[2] for key in metrics],
        filter=shape.condition() or None,
        order_by=order,
        descending=shape.descending or not shape.sort,
    )

    def row(value: str | None) -> Sequence[RunRow]:
        one = shape.within(value)
        ids = [one.experiment] if one.experiment else wanted
        runs = platform.tracking.runs.search(ctx, ids, filter=one.condition() or None, order_by=one.order_by(), limit=OF_A_GROUP)
        return [runtable.row(run, names, shape) for run in runs.items]

    rows = []
    for one in found:
        key = NONE if one.value is None else one.value
        is_open = key in shape.opened
        rows.append(
            GroupRow(
                label=names.get(key, key) if shape.group == "experiment" else key or "(empty)",
                runs=one.runs,
                latest_ms=one.latest_ms,
                metrics=one.metrics,
                url=shape.within(one.value).url(),
                toggle_url=replace(shape, opened=toggled(shape.opened, key)).url(),
                is_open=is_open,
                rows=row(one.value) if is_open else (),
            )
        )
    return rows, more


def views(platform: Platform, ctx: Context, shape: Shape) -> list[ViewRow]:
    now = shape.kept()
    return [
        ViewRow(one.name, replace(of_query(one.query), view=one.name).url(), one.user, one.updated_ms, one.query == now)
        for one in platform.tracking.views.all(ctx)
    ]


def routes(platform: Platform, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)

    @router.get("/runs")
    def runs(
        request: Request,
        ctx: Viewer,
        experiment: str = "",
        filter: str = "",  # noqa: A002  the name in the address
        sort: str = "",
        dir: str = "",  # noqa: A002
        group: str = "",
        token: str = "",
        view: str = "",
        col: Annotated[tuple[str, ...], Query()] = (),
        pick: Annotated[tuple[str, ...], Query()] = (),
        pin: Annotated[tuple[str, ...], Query()] = (),
        open: Annotated[tuple[str, ...], Query()] = (),  # noqa: A002
    ) -> Response:
        shape = Shape(
            experiment, filter.strip(), sort, dir == "desc", col, group, pick[:MOST_PICKED], pin[:MOST_PINNED], open, view[:120], token
        )
        shown = table(platform, ctx, shape)
        path = [("Runs", "/runs")]
        if experiment:
            path.append((dict(shown.experiments).get(experiment, experiment), f"/runs?experiment={quote(experiment)}"))
        return pages.page(request, "runs/runs.html", path=path, view=shown, shape=shape, colours=colours(sorted(shape.picked)))

    @router.get("/runs/count")
    def count(ctx: Viewer, experiment: str = "", filter: str = "") -> Response:  # noqa: A002
        ids = [experiment] if experiment else [one.id for one in platform.tracking.experiments.all(ctx)]
        shape = Shape(filter=filter.strip())
        try:
            text = plural(platform.tracking.groups.count(ctx, ids, filter=shape.condition() or None), "run")
        except Invalid:
            text = ""  # the page has said what is wrong with the filter
        return PlainTextResponse(text, headers=HEADERS)

    @router.post("/runs/views")
    def save(ctx: Viewer, name: Annotated[str, Form()] = "", query: Annotated[str, Form()] = "") -> Response:
        shape = of_query(query)
        kept = platform.tracking.views.save(ctx, name, shape.kept())
        return RedirectResponse(replace(shape, view=kept.name).url(), status_code=303, headers=HEADERS)

    @router.post("/runs/views/delete")
    def delete(ctx: Viewer, name: Annotated[str, Form()] = "", query: Annotated[str, Form()] = "") -> Response:
        platform.tracking.views.delete(ctx, name)
        return RedirectResponse(of_query(query).url(), status_code=303, headers=HEADERS)

    @router.get("/experiments/{experiment_id}")
    def experiment_page(experiment_id: str) -> Response:
        return RedirectResponse(f"/runs?experiment={quote(experiment_id, safe='')}", status_code=303, headers=HEADERS)

    return router
