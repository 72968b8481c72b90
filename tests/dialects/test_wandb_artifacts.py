"""Artifacts by wandb's protocol: large files in parts, which survive kill -9, what is not sent again, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
from collections.abc import Callable
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import Server

pytestmark = pytest.mark.slow

CREATE = (
    "mutation C($input: CreateArtifactInput!) { createArtifact(input: $input) { artifact { id state versionIndex aliases { alias } } } }"
)
FILES = """mutation F($input: CreateArtifactFilesInput!) { createArtifactFiles(input: $input) { files { edges { node {
    storagePath uploadUrl uploadMultipartUrls { uploadID uploadUrlParts { partNumber uploadUrl } } artifact { id } } } } } }"""
MANIFEST = """mutation M($id: ID!) { createArtifactManifest(input: {artifactID: $id, name: "wandb_manifest.json", digest: "", type: FULL}) {
    artifactManifest { id file { uploadUrl } } } }"""
COMMIT = "mutation C($id: ID!) { commitArtifact(input: {artifactID: $id}) { artifact { id digest versionIndex state fileCount size } } }"
COMPLETE = """mutation X($id: ID!, $path: String!, $upload: ID!) { completeMultipartUploadArtifact(input: {
    completeMultipartAction: Complete, completedParts: [], artifactID: $id, storagePath: $path, uploadID: $upload}) { digest } }"""
READ = (
    "query A($id: ID!) { artifact(id: $id) { state files { edges { node { name directUrl } } } currentManifest { file { directUrl } } } }"
)


def post(server: Server, query: str, **variables: Any) -> dict[str, Any]:
    answer = httpx.post(f"{server.url}/wandb/graphql", json={"query": query, "variables": variables}, timeout=60)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ask(server: Server, query: str, **variables: Any) -> dict[str, Any]:
    answer = post(server, query, **variables)
    assert "errors" not in answer, answer
    found: dict[str, Any] = next(iter(answer["data"].values()))
    return found


def create(server: Server, digest: str, name: str = "large", **more: Any) -> dict[str, Any]:
    given = {"projectName": "p", "artifactTypeName": "data", "artifactCollectionName": name, "digest": digest, **more}
    found: dict[str, Any] = ask(server, CREATE, input={"enableDigestDeduplication": True, **given})["artifact"]
    return found


def announce(server: Server, artifact: str, name: str, content: bytes, **more: Any) -> dict[str, Any]:
    one = {"artifactID": artifact, "name": name, "md5": digest_of(content), **more}
    node: dict[str, Any] = ask(server, FILES, input={"artifactFiles": [one]})["files"]["edges"][0]["node"]
    return node


def digest_of(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()


def put_manifest(server: Server, artifact: str, contents: dict[str, Any]) -> None:
    made = ask(server, MANIFEST, id=artifact)["artifactManifest"]
    sent = httpx.put(made["file"]["uploadUrl"], json={"version": 1, "storagePolicy": "wandb-storage-policy-v1", "contents": contents})
    assert sent.status_code == 200, sent.text


def kill_all(server: Server) -> None:
    assert server.process is not None
    family = [psutil.Process(server.process.pid), *server.family()]
    for one in family:
        os.kill(one.pid, signal.SIGKILL)
    psutil.wait_procs(family, 30)
    server.process.wait(30)
    server.start()


def test_parts_survive_a_kill_and_content_is_sent_once(new_server: Callable[..., Server]) -> None:
    server = new_server()
    pieces = [bytes([n]) * 70_000 for n in range(3)]
    content = b"".join(pieces)
    artifact = create(server, "d1", aliases=[{"artifactCollectionName": "large", "alias": "big.one"}], clientID="c1")
    assert artifact["state"] == "PENDING" and create(server, "d1", clientID="c1")["id"] == artifact["id"]
    given = [{"partNumber": n + 1, "hexMD5": hashlib.md5(piece).hexdigest()} for n, piece in enumerate(pieces)]
    node = announce(server, artifact["id"], "big.bin", content, uploadPartsInput=given)
    upload = node["uploadMultipartUrls"]
    assert [one["partNumber"] for one in upload["uploadUrlParts"]] == [1, 2, 3]
    urls = [one["uploadUrl"] for one in upload["uploadUrlParts"]]
    assert httpx.put(urls[0], content=pieces[0]).headers["etag"] == f'"{given[0]["hexMD5"]}"'
    early = post(server, COMPLETE, id=artifact["id"], path=node["storagePath"], upload=upload["uploadID"])
    assert "Of the file's 3 parts 1 have arrived" in early["errors"][0]["message"]
    kill_all(server)
    for url, piece in zip(urls[1:], pieces[1:], strict=True):
        assert httpx.put(url, content=piece).status_code == 200
    kill_all(server)
    for _ in range(2):  # a client that missed the answer asks again
        done = ask(server, COMPLETE, id=artifact["id"], path=node["storagePath"], upload=upload["uploadID"])
        assert done["digest"] == digest_of(content)
    assert "manifest has not arrived" in post(server, COMMIT, id=artifact["id"])["errors"][0]["message"]
    entry = {"digest": digest_of(content), "size": len(content), "birthArtifactID": artifact["id"], "local_path": "/home/ann/secret"}
    put_manifest(server, artifact["id"], {"big.bin": entry, "far": {"digest": "x", "ref": "s3://b/k", "size": 1}})
    kill_all(server)
    for _ in range(2):
        made = ask(server, COMMIT, id=artifact["id"])["artifact"]
        assert (made["versionIndex"], made["state"], made["fileCount"], made["size"]) == (0, "COMMITTED", 2, len(content) + 1)
    kill_all(server)

    read = ask(server, READ, id=artifact["id"])
    (file,) = [edge["node"] for edge in read["files"]["edges"]]
    assert httpx.get(file["directUrl"]).content == content
    part = httpx.get(file["directUrl"], headers={"range": "bytes=70000-70009"})
    assert (part.status_code, part.content) == (206, b"\x01" * 10)
    manifest = httpx.get(read["currentManifest"]["file"]["directUrl"]).json()
    assert "secret" not in json.dumps(manifest) and manifest["contents"]["far"]["ref"] == "s3://b/k"

    # The same digest is the same version, and its content is not asked for again, whoever has it.
    again = create(server, "d1", aliases=[{"artifactCollectionName": "large", "alias": "new"}])
    assert again["id"] == artifact["id"] and again["state"] == "COMMITTED"
    assert sorted(one["alias"] for one in again["aliases"]) == ["big.one", "latest", "new"]
    # The registry has the same files.
    repo = httpx.get(f"{server.url}/api/v1/repos/p--large", params={"kind": "artifact"}).json()
    assert [one["number"] for one in repo["versions"]] == [1]
    other = create(server, "d2", name="other")
    assert announce(server, other["id"], "same.bin", content)["uploadUrl"] is None


def test_what_is_wrong_is_refused_without_repeating(server: Server) -> None:
    artifact = create(server, "w1", name="wrong")["id"]
    url = announce(server, artifact, "a", b"announced")["uploadUrl"]
    sent = httpx.put(url, content=b"another")
    assert sent.status_code == 400 and "announced" in sent.text
    assert httpx.put(url.replace(artifact, "0" * 32), content=b"announced").status_code in (401, 403)
    put_manifest(server, artifact, {"a": {"digest": digest_of(b"announced"), "size": 9}})
    assert "has not arrived" in post(server, COMMIT, id=artifact)["errors"][0]["message"]
    for given, words in (
        ({"artifactCollectionName": "a/b"}, "cannot be the name"),
        ({"artifactCollectionName": "wrong", "artifactTypeName": "model"}, "has type 'data'"),
    ):
        body = {"projectName": "p", "artifactTypeName": "data", "digest": "x", **given}
        assert words in post(server, CREATE, input=body)["errors"][0]["message"]
    assert (
        "base64 of an md5"
        in post(server, FILES, input={"artifactFiles": [{"artifactID": artifact, "name": "a", "md5": "?"}]})["errors"][0]["message"]
    )
    assert post(server, READ, id="f" * 32)["data"] == {"artifact": None}
