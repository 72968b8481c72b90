"""The artifacts that a wandb run has logged, sent as its client sends them: what the server has already is not sent again."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from drivetrain.client.http import Connection, Json
from drivetrain.errors import Invalid
from drivetrain.portable.bring import patiently
from drivetrain.portable.wandb_log import Fields, message, messages, text, texts, whole

FILES = 1000
"""Addresses that are asked for at once."""
_BY_CLIENT = "wandb-client-artifact://"
_CREATE = "mutation CreateArtifact($input: CreateArtifactInput!) { createArtifact(input: $input) { artifact { id state } } }"
_MANIFEST = """mutation CreateArtifactManifest($input: CreateArtifactManifestInput!) {
  createArtifactManifest(input: $input) { artifactManifest { id file { uploadUrl } } }
}"""
_FILES = """mutation CreateArtifactFiles($input: CreateArtifactFilesInput!) {
  createArtifactFiles(input: $input) { files { edges { node { name uploadUrl } } } }
}"""
_COMMIT = "mutation CommitArtifact($input: CommitArtifactInput!) { commitArtifact(input: $input) { artifact { id } } }"
_ID = "query ClientIDMapping($id: ID!) { clientIDMapping(clientID: $id) { serverID } }"


def ask(connection: Connection, query: str, variables: Json) -> Json:
    """What the server answers to GraphQL. Raises `Invalid` with what it has against it."""
    answer = connection.json("POST", "/wandb/graphql", {"query": query, "variables": variables}, again=True)
    if answer.get("errors"):
        raise Invalid(str(answer["errors"][0].get("message")))
    data: Json = answer["data"]
    return data


class Artifacts:
    """`warn` is told of what could not be brought."""

    def __init__(self, connection: Connection, warn: Callable[[str], None]) -> None:
        self._c = connection
        self._warn = warn

    def log(self, record: Fields, *, project: str, run: str) -> None:
        """Send one record; the same again changes nothing."""
        name = text(record, 5)
        try:
            self._log(record, name, project, run)
        except OSError as error:
            self._warn(f"the artifact {name!r} was not imported: {error.filename} cannot be read any more")
        except Invalid as error:
            self._warn(f"the artifact {name!r} was not imported: {error}")

    def _log(self, record: Fields, name: str, project: str, run: str) -> None:
        contents = {str(entry.pop("path")): entry for entry in _entries(message(record, 12))}
        local = {path: str(entry.pop("local_path", "")) for path, entry in contents.items()}
        for entry in contents.values():
            if str(entry.get("ref", "")).startswith(_BY_CLIENT):
                entry["ref"] = self._by_server(entry["ref"])
        given = {
            "projectName": project,
            "runName": run,
            "artifactTypeName": text(record, 4),
            "artifactCollectionName": name,
            "digest": text(record, 6),
            "description": text(record, 7) or None,
            "metadata": text(record, 8) or None,
            "aliases": [{"artifactCollectionName": name, "alias": alias} for alias in texts(record, 11)],
            "tags": [{"tagName": tag} for tag in texts(record, 19)],
            "clientID": text(record, 15) or None,
        }
        made = ask(self._c, _CREATE, {"input": given})["createArtifact"]["artifact"]
        if made["state"] == "COMMITTED":
            return
        files = [path for path, entry in contents.items() if not entry.get("ref")]
        for start in range(0, len(files), FILES):
            some = files[start : start + FILES]
            wanted = [{"artifactID": made["id"], "name": path, "md5": contents[path]["digest"]} for path in some]
            found = ask(self._c, _FILES, {"input": {"artifactFiles": wanted}})["createArtifactFiles"]["files"]["edges"]
            for node in (edge["node"] for edge in found):
                if node["uploadUrl"]:
                    self._send(node["uploadUrl"], Path(local[node["name"]]))
        manifest = message(record, 12)
        policy = {text(one, 1): json.loads(text(one, 2)) for one in messages(manifest, 3)}
        whole_ = {"version": 1, "storagePolicy": text(manifest, 2), "storagePolicyConfig": policy, "contents": contents}
        asked = {"artifactID": made["id"], "name": "wandb_manifest.json", "digest": text(record, 6), "type": "FULL"}
        place = ask(self._c, _MANIFEST, {"input": asked})["createArtifactManifest"]["artifactManifest"]["file"]
        patiently(lambda: self._put(place["uploadUrl"], iter([json.dumps(whole_).encode()])))
        ask(self._c, _COMMIT, {"input": {"artifactID": made["id"]}})

    def _by_server(self, ref: str) -> str:
        """A reference to an artifact by what its client called it, as others find it: with the server's id in hex."""
        client, _, path = ref.removeprefix(_BY_CLIENT).partition("/")
        found = ask(self._c, _ID, {"id": client})["clientIDMapping"]
        if found is None:
            raise Invalid(f"it refers to the artifact {client[:40]!r}, which is not here")
        return f"wandb-artifact://{base64.b64decode(found['serverID']).hex()}/{path}"

    def _send(self, url: str, file: Path) -> None:
        def send() -> None:
            with file.open("rb") as data:
                self._put(url, iter(lambda: data.read(1 << 20), b""))

        patiently(send)

    def _put(self, url: str, content: Iterator[bytes]) -> None:
        parts = urlsplit(url)
        self._c.send("PUT", f"{parts.path}?{parts.query}", content=content)


def _entries(manifest: Fields) -> Iterator[Json]:
    """Path, digest, and where there: ref, size, extra, local_path. Those of a large manifest are in a file beside."""
    if file := text(manifest, 5):
        with gzip.open(file, "rt") as lines:
            yield from map(json.loads, lines)
        return
    for one in messages(manifest, 4):
        entry: Json = {"path": text(one, 1), "digest": text(one, 2), "size": whole(one, 4)}
        for number, key in ((3, "ref"), (6, "local_path"), (7, "birthArtifactID")):
            if said := text(one, number):
                entry[key] = said
        if extra := {text(item, 1): json.loads(text(item, 2)) for item in messages(one, 16)}:
            entry["extra"] = extra
        yield entry
