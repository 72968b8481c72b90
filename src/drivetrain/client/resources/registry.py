"""The registry: repos, their versions, aliases and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from drivetrain.answers import registry as answers
from drivetrain.client.push import segment
from drivetrain.client.resources.resource import API, Resource
from drivetrain.registry.model import Commit, Ref, Repo, Resolved, Version


class Models(Resource):
    """The registry. `name` is a slug or display name; `kind` is model, dataset, space, artifact or prompt."""

    def list(self, *, kind: str = "model", limit: int | None = None) -> list[Repo]:
        return self._get(answers.RepoList, "/repos", kind=kind, limit=limit).repos

    def get(self, name: str, *, kind: str = "model") -> answers.RepoWithVersions:
        """The repo with its versions (the newest first) and refs."""
        return self._get(answers.RepoWithVersions, f"/repos/{segment(name)}", kind=kind)

    def create(self, name: str, *, kind: str = "model", description: str = "", tags: Mapping[str, str] | None = None) -> Repo:
        return self._send(Repo, "POST", "/repos", {"name": name, "kind": kind, "description": description, "tags": {**(tags or {})}})

    def update(self, name: str, *, kind: str = "model", new_name: str | None = None, description: str | None = None) -> Repo:
        """Change what is given."""
        return self._send(Repo, "PATCH", f"/repos/{segment(name)}", {"name": new_name, "description": description}, kind=kind)

    def delete(self, name: str, *, kind: str = "model") -> None:
        self._do("DELETE", f"/repos/{segment(name)}", kind=kind)

    def set_tag(self, name: str, key: str, value: str, *, kind: str = "model") -> None:
        self._do("PUT", f"/repos/{segment(name)}/tags/{segment(key)}", {"value": value}, kind=kind)

    def delete_tag(self, name: str, key: str, *, kind: str = "model") -> None:
        self._do("DELETE", f"/repos/{segment(name)}/tags/{segment(key)}", kind=kind)

    def set_ref(self, name: str, ref_kind: str, ref: str, target: str = "main", *, kind: str = "model") -> Ref:
        """Let a `branch` or `tag` name the commit that `target` names."""
        return self._send(Ref, "PUT", f"/repos/{segment(name)}/refs/{segment(ref_kind)}/{segment(ref)}", {"target": target}, kind=kind)

    def delete_ref(self, name: str, ref_kind: str, ref: str, *, kind: str = "model") -> None:
        self._do("DELETE", f"/repos/{segment(name)}/refs/{segment(ref_kind)}/{segment(ref)}", kind=kind)

    def commits(self, name: str, *, ref: str = "main", kind: str = "model", limit: int = 100) -> Sequence[Commit]:
        """The newest first."""
        return self._get(answers.CommitList, f"/repos/{segment(name)}/commits", ref=ref, kind=kind, limit=limit).commits

    def versions(self, name: str) -> Sequence[Version]:
        """The newest first."""
        return self._get(answers.VersionList, f"/repos/{segment(name)}/versions").versions

    def version(self, name: str, number: int) -> Version:
        return self._get(Version, f"/repos/{segment(name)}/versions/{number}")

    def register(
        self,
        name: str,
        *,
        commit: str | None = None,
        run_id: str | None = None,
        source: str = "",
        description: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> Version:
        """Register a commit that is there (by default the head of main) as a version."""
        asked = {"commit": commit, "run_id": run_id, "source": source, "description": description, "tags": {**(tags or {})}}
        return self._send(Version, "POST", f"/repos/{segment(name)}/versions", asked)

    def update_version(self, name: str, number: int, *, description: str | None = None, stage: str | None = None) -> Version:
        """Change what is given."""
        return self._send(Version, "PATCH", f"/repos/{segment(name)}/versions/{number}", {"description": description, "stage": stage})

    def delete_version(self, name: str, number: int, *, kind: str = "model") -> None:
        self._do("DELETE", f"/repos/{segment(name)}/versions/{number}", kind=kind)

    def set_version_tag(self, name: str, number: int, key: str, value: str) -> None:
        self._do("PUT", f"/repos/{segment(name)}/versions/{number}/tags/{segment(key)}", {"value": value})

    def delete_version_tag(self, name: str, number: int, key: str) -> None:
        self._do("DELETE", f"/repos/{segment(name)}/versions/{number}/tags/{segment(key)}")

    def files(self, name: str, *, ref: str = "latest", kind: str = "model") -> answers.Manifest:
        return self._get(answers.Manifest, f"/repos/{segment(name)}/files", ref=ref, kind=kind)

    def download(self, name: str, path: str, target: Path, *, ref: str = "latest", kind: str = "model") -> int:
        """Write one file of the repo to `target`; its size in bytes."""
        url = f"{API}/repos/{segment(name)}/files/{'/'.join(segment(part) for part in path.split('/'))}"
        return self._save(url, target, ref=ref, kind=kind)

    def set_alias(self, name: str, alias: str, version: int) -> None:
        self._do("PUT", f"/repos/{segment(name)}/aliases/{segment(alias)}", {"version": version})

    def delete_alias(self, name: str, alias: str) -> None:
        self._do("DELETE", f"/repos/{segment(name)}/aliases/{segment(alias)}")

    def resolve(self, name: str) -> Resolved:
        """What a name in any protocol's form means: repo, version, commit."""
        return self._get(Resolved, "/resolve", name=name)
