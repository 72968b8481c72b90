from __future__ import annotations

import pytest

from drivetrain.errors import Invalid, NotFound
from drivetrain.identity.model import Context
from drivetrain.tracking.model import Owner
from drivetrain.tracking.service import Tracking


def put(tracking: Tracking, ctx: Context, owner: str, path: str, content: bytes = b"x", kind: Owner = Owner.run) -> str:
    blob = tracking.artifacts.blobs.put([content])
    tracking.artifacts.put(ctx, kind, owner, path, blob)
    return blob.sha256


def test_files_are_listed_by_folder_and_make_a_manifest(tracking: Tracking, ctx: Context) -> None:
    run = tracking.runs.create(ctx).id
    for path in ("a.txt", "model/MLmodel", "model/data/w.bin", "model.txt", "ü b/c"):
        put(tracking, ctx, run, path, path.encode())
    assert [(a.path, a.is_dir) for a in tracking.artifacts.listing(ctx, Owner.run, run)] == [
        ("a.txt", False),
        ("model", True),
        ("model.txt", False),
        ("ü b", True),
    ]
    assert [a.path for a in tracking.artifacts.listing(ctx, Owner.run, run, "model/")] == ["model/MLmodel", "model/data"]
    assert [(a.path, a.size) for a in tracking.artifacts.listing(ctx, Owner.run, run, "a.txt")] == [("a.txt", 5)]
    assert tracking.artifacts.listing(ctx, Owner.run, run, "mod") == []
    assert set(tracking.artifacts.manifest(ctx, Owner.run, run, "model")) == {"MLmodel", "data/w.bin"}
    assert len(tracking.artifacts.live_blobs()) == 5


def test_a_file_is_replaced_and_deleted(tracking: Tracking, ctx: Context) -> None:
    run = tracking.runs.create(ctx).id
    put(tracking, ctx, run, "d/a", b"one")
    second = put(tracking, ctx, run, "d/a", b"two")
    assert tracking.artifacts.get(ctx, Owner.run, run, "d/a").sha256 == second
    put(tracking, ctx, run, "d/b/c")
    assert tracking.artifacts.delete(ctx, Owner.run, run, "d/b") == 1
    assert tracking.artifacts.delete(ctx, Owner.run, run, "d") == 1
    with pytest.raises(NotFound):
        tracking.artifacts.get(ctx, Owner.run, run, "d/a")


def test_no_name_is_a_file_and_a_folder(tracking: Tracking, ctx: Context) -> None:
    run = tracking.runs.create(ctx).id
    put(tracking, ctx, run, "a/b")
    for path in ("a", "a/b/c"):
        with pytest.raises(Invalid, match="file and a folder"):
            put(tracking, ctx, run, path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/a",
        "../a",
        "a/../b",
        "a//b",
        "./a",
        "a/",
        "a\\b",
        "%2e%2e/a",
        "a/%252e%252e/b",
        "%2Fetc/passwd",
        "%25252e%25252e",
        "a\x00",
        "C:/a",
    ],
)
def test_no_path_leads_out(tracking: Tracking, ctx: Context, path: str) -> None:
    run = tracking.runs.create(ctx).id
    with pytest.raises(Invalid, match="path"):
        put(tracking, ctx, run, path)


def test_percent_signs_in_names_are_letters(tracking: Tracking, ctx: Context) -> None:
    run = tracking.runs.create(ctx).id
    put(tracking, ctx, run, "100%.txt")
    put(tracking, ctx, run, "a%20b")
    assert [a.path for a in tracking.artifacts.listing(ctx, Owner.run, run)] == ["100%.txt", "a%20b"]


def test_artifacts_are_the_workspace_s_own(tracking: Tracking, ctx: Context, stranger: Context) -> None:
    run = tracking.runs.create(ctx).id
    put(tracking, ctx, run, "a")
    put(tracking, ctx, ctx.workspace_id, "free", kind=Owner.workspace)
    for kind, owner in ((Owner.run, run), (Owner.workspace, ctx.workspace_id)):
        with pytest.raises(NotFound):
            tracking.artifacts.listing(stranger, kind, owner)
        with pytest.raises(NotFound):
            put(tracking, stranger, owner, "b", kind=kind)
        with pytest.raises(NotFound):
            tracking.artifacts.delete(stranger, kind, owner, "a")
    tracking.runs.delete(ctx, run)
    with pytest.raises(Invalid, match="deleted"):
        put(tracking, ctx, run, "b")
