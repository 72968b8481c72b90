"""Artifacts with the unmodified wandb client: log, use, name, link, find, download and delete them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clients.scripts import cli
from tests.clients.wandb_script import script
from tests.conftest import Server

pytestmark = pytest.mark.slow


def test_versions_aliases_and_downloads(either_server: Server, tmp_path: Path) -> None:
    told = script(
        either_server,
        """
        import pathlib, shutil
        project = os.environ["WANDB_PROJECT"]
        folder = pathlib.Path("files"); (folder / "sub").mkdir(parents=True)
        (folder / "a.txt").write_text("one"); (folder / "sub" / "b ü=.bin").write_bytes(b"x" * 100_000)
        seen = []
        with wandb.init(id="maker") as run:
            for n, text in enumerate(["one", "one", "two"]):
                (folder / "a.txt").write_text(text)
                made = wandb.Artifact("data.set", type="dataset", description="d", metadata={"n": n})
                made.add_dir("files")
                with made.new_file("extra.txt") as file:
                    file.write("extra")
                logged = run.log_artifact(made, aliases=["best.one", "x"], tags=["t1"])
                logged.wait()
                seen.append([logged.version, sorted(logged.aliases), logged.digest == made.digest])
        shutil.rmtree(os.environ["WANDB_CACHE_DIR"], ignore_errors=True)
        with wandb.init(id="user") as run:
            used = run.use_artifact("data.set:best.one")
            got = pathlib.Path(used.download(root="got"))
            one = run.use_artifact("data.set:v0").get_entry("a.txt").download(root="first")
        api = wandb.Api()
        found = api.artifact(f"{project}/data.set:latest")
        found.verify("got")
        run = api.run(f"{project}/user")
        done(seen=seen, text=(got / "a.txt").read_text(), size=(got / "sub" / "b ü=.bin").stat().st_size
             , extra=(got / "extra.txt").read_text(),
             first=pathlib.Path(one).read_text(), version=found.version, files=sorted(f.name for f in found.files()),
             count=found.file_count,
             maker=found.logged_by().id, users=[r.id for r in found.used_by()], meta=found.metadata, tags=found.tags,
             description=found.description,
             inputs=sorted(a.name for a in run.used_artifacts()), outputs=[a.name for a in api.run(f"{project}/maker").logged_artifacts()],
             versions=[a.version for a in api.artifacts("dataset", f"{project}/data.set")],
             types=[t.name for t in api.artifact_types(project)],
             collections=[c.name for c in api.artifact_collections(project, "dataset")],
             exists=api.artifact_exists(f"{project}/data.set:v1"),
             missing=api.artifact_exists(f"{project}/data.set:v7"))
        """,
        tmp_path,
    )
    assert [one[0] for one in told["seen"]] == ["v0", "v0", "v1"] and all(one[2] for one in told["seen"])
    assert told["seen"][2][1] == ["best.one", "latest", "x"]
    assert (told["text"], told["size"], told["extra"], told["first"]) == ("two", 100_000, "extra", "one")
    assert told["files"] == ["a.txt", "extra.txt", "sub/b ü=.bin"] and told["count"] == 3
    assert (told["version"], told["maker"], told["users"], told["meta"]) == ("v1", "maker", ["user"], {"n": 2})
    assert (told["tags"], told["description"]) == (["t1"], "d")
    assert told["inputs"] == ["data.set:v0", "data.set:v1"] and told["outputs"] == ["data.set:v0", "data.set:v1"]
    assert told["versions"] == ["v1", "v0"] and "dataset" in told["types"] and told["collections"] == ["data.set"]
    assert told["exists"] is True and told["missing"] is False

    def native(*words: str) -> Any:
        return json.loads(cli(either_server, "artifacts", *words, "--json"))

    (name,) = [one["slug"] for one in native("list") if one["slug"].startswith(f"{tmp_path.name}--")]
    assert {one["number"]: sorted(one["aliases"]) for one in native("show", name)["versions"]} == {1: [], 2: ["x"]}
    assert native("files", name, "--ref", "1")["files"]["a.txt"]["size"] == 3
    assert native("download", name, str(tmp_path / "native"), "--ref", "x")["files"] == 3
    assert (tmp_path / "native" / "a.txt").read_text() == "two"
    native("delete", name, "--version", "2", "--yes")
    assert [one["number"] for one in native("show", name)["versions"]] == [1]
    left = """
        api = wandb.Api()
        done(latest=api.artifact(os.environ["WANDB_PROJECT"] + "/data.set:latest").version)
    """
    assert script(either_server, left, tmp_path) == {"latest": "v0"}
    native("delete", name, "--yes")
    assert not [one for one in native("list") if one["slug"] == name]


def test_references_changes_links_and_deletion(server: Server, tmp_path: Path) -> None:
    told = script(
        server,
        """
        import pathlib
        project = os.environ["WANDB_PROJECT"]
        pathlib.Path("there.txt").write_text("there")
        with wandb.init(id="r") as run:
            made = wandb.Artifact("refs", type="dataset")
            made.add_reference("file://" + str(pathlib.Path("there.txt").resolve()))
            made.add_reference("s3://bucket/never/asked", checksum=False, name="far")
            run.log_artifact(made).wait()
            for n in range(3):
                one = wandb.Artifact("weights", type="weights", metadata={"n": n})
                with one.new_file("w.bin") as file:
                    file.write("w" * (n + 1))
                logged = run.log_artifact(one); logged.wait()
            linked = run.link_artifact(logged, f"{project}/chosen", aliases=["prod"])
            more = wandb.Artifact("refs2", type="dataset")
            more.add_reference(logged.get_entry("w.bin").ref_url(), name="again.bin")
            run.log_artifact(more).wait()
        api = wandb.Api()
        refs = api.artifact(f"{project}/refs:v0")
        far = refs.get_entry("far").ref
        got = pathlib.Path(refs.get_entry("there.txt").download(root="got")).read_text()
        again = pathlib.Path(api.artifact(f"{project}/refs2:latest").get_entry("again.bin").download(root="got2")).read_text()
        one = api.artifact(f"{project}/weights:v1")
        one.description = "new"; one.metadata["k"] = [1]; one.aliases.append("kept"); one.tags.append("tag"); one.save()
        read = wandb.Api().artifact(f"{project}/weights:kept")
        chosen = wandb.Api().artifact(f"{project}/chosen:prod")
        try:
            read.delete()
            refused = False
        except Exception:
            refused = True
        wandb.Api().artifact(f"{project}/weights:v1").delete(delete_aliases=True)
        wandb.Api().artifact(f"{project}/weights:v2").delete(delete_aliases=True)
        left = wandb.Api().artifact(f"{project}/weights:latest").version
        draft = wandb.Api().artifact(f"{project}/weights:v0").new_draft()
        with draft.new_file("more.txt") as file:
            file.write("more")
        with wandb.init(id="s") as run:
            run.log_artifact(draft).wait()
        drafted = wandb.Api().artifact(f"{project}/weights:latest")
        done(far=far, got=got, again=again, description=read.description, meta=read.metadata, aliases=read.aliases, tags=read.tags,
             chosen=[chosen.source_version, chosen.version, chosen.name], refused=refused, left=left, drafted=drafted.version,
             files=sorted(drafted.manifest.entries))
        """,
        tmp_path,
    )
    assert (told["far"], told["got"], told["again"]) == ("s3://bucket/never/asked", "there", "www")
    assert (told["description"], told["meta"], told["aliases"], told["tags"]) == ("new", {"n": 1, "k": [1]}, ["kept"], ["tag"])
    assert told["chosen"] == ["v2", "v0", "chosen:prod"] and told["refused"] is True
    assert (told["left"], told["drafted"], told["files"]) == ("v0", "v3", ["more.txt", "w.bin"])


def test_tables_models_and_code(server: Server, tmp_path: Path) -> None:
    told = script(
        server,
        """
        import pathlib
        project = os.environ["WANDB_PROJECT"]
        pathlib.Path("model.bin").write_bytes(b"m" * 1000); pathlib.Path("main.py").write_text("print(1)")
        with wandb.init(id="r") as run:
            run.log({"t": wandb.Table(columns=["a", "b"], data=[[1, "x"], [2, "y"]])})
            run.log_model("model.bin", name="net", aliases=["good"])
            run.log_code(".")
            made = wandb.Artifact("inc", type="dataset")
            with made.new_file("1.txt") as f: f.write("1")
            run.log_artifact(made).wait()
            more = wandb.Artifact("inc", type="dataset", incremental=True)
            with more.new_file("2.txt") as f: f.write("2")
            run.log_artifact(more).wait()
        with wandb.init(id="u") as run:
            net = pathlib.Path(run.use_model("net:good")).read_bytes()
            table = run.use_artifact("run-r-t:v0").get("t")
        api = wandb.Api()
        done(net=len(net), rows=table.data, types=sorted(t.name for t in api.artifact_types(project)),
             inc=sorted(api.artifact(f"{project}/inc:latest").manifest.entries))
        """,
        tmp_path,
    )
    assert (told["net"], told["rows"], told["inc"]) == (1000, [[1, "x"], [2, "y"]], ["1.txt", "2.txt"])
    assert {"code", "dataset", "model", "run_table"} <= set(told["types"])


def test_a_model_is_the_registrys(either_server: Server, tmp_path: Path) -> None:
    """What wandb logs and links as a model, mlflow finds, loads, names and deletes; wandb sees that."""
    told = script(
        either_server,
        """
        import pathlib, mlflow
        project = os.environ["WANDB_PROJECT"]
        client = mlflow.MlflowClient()
        with wandb.init(id="maker") as run:
            for n in range(3):
                made = wandb.Artifact("net", type="model", description=f"try {n}")
                with made.new_file("weights/w.bin") as file:
                    file.write("w" * (n + 1))
                logged = run.log_artifact(made, aliases=["good"]); logged.wait()
                if n:
                    linked = run.link_artifact(logged, "model-registry/Best Net", aliases=["champion"])
        (name,) = [one.name for one in client.search_registered_models() if one.name.startswith(project)]
        versions = {int(one.version): one for one in client.search_model_versions(f"name='{name}'")}
        load = mlflow.artifacts.load_text
        good = client.get_model_version_by_alias(name, "good")
        text = load(f"models:/{name}@good/weights/w.bin")
        client.set_registered_model_alias(name, "best", "2")
        best = wandb.Api().artifact(f"{project}/net:best")
        champion = client.get_model_version_by_alias("Best Net", "champion")
        chosen = load("models:/Best Net@champion/weights/w.bin")
        client.delete_model_version("Best Net", "2")
        left = wandb.Api().artifact("model-registry/Best Net:latest")
        client.delete_model_version(name, "3")
        newest = wandb.Api().artifact(f"{project}/net:latest")
        client.delete_registered_model(name)
        gone = wandb.Api().artifact_exists(f"{project}/net:v0")
        with wandb.init(id="again") as run:
            made = wandb.Artifact("net", type="model")
            with made.new_file("w.bin") as file:
                file.write("anew")
            run.log_artifact(made).wait()
        collection = wandb.Api().artifact_collection("model", "model-registry/Best Net")
        collection.delete()
        with wandb.init(id="brief") as run:
            made = wandb.Artifact("draft", type="model")
            with made.new_file("w.bin") as file:
                file.write("draft")
            run.log_artifact(made).wait()
        with wandb.init(id="repeats") as run:
            made = wandb.Artifact("draft", type="model")
            with made.new_file("w.bin") as file:
                file.write("draft")
            run.log_artifact(made).wait()
        wandb.Api().run(f"{project}/repeats").delete(delete_artifacts=True)
        kept = wandb.Api().artifact_exists(f"{project}/draft:v0")
        wandb.Api().run(f"{project}/brief").delete(delete_artifacts=True)
        brief = wandb.Api().artifact_exists(f"{project}/draft:v0")
        done(brief=brief, kept=kept, described=[versions[n].description for n in (1, 2, 3)],
             run=client.get_run(versions[1].run_id).info.run_name is not None,
             good=int(good.version), text=text, best=[best.version, sorted(best.aliases)],
             champion=int(champion.version), chosen=chosen, left=[left.version, left.source_version], newest=newest.version, gone=gone,
             again=wandb.Api().artifact(f"{project}/net:latest").version, names=[one.name for one in client.search_registered_models()])
        """,
        tmp_path,
    )
    assert told["described"] == ["try 0", "try 1", "try 2"] and told["run"]
    assert (told["good"], told["text"], told["best"]) == (3, "www", ["v1", ["best"]])
    assert (told["champion"], told["chosen"]) == (2, "www")
    assert told["left"] == ["v0", "v1"] and told["newest"] == "v1" and told["gone"] is False
    assert told["again"] == "v0" and told["names"] == [f"{tmp_path.name}--draft", f"{tmp_path.name}--net"]
    assert told["brief"] is False and told["kept"] is True


def test_a_file_of_more_than_two_gib(server: Server, tmp_path: Path) -> None:
    """The client sends such in parts."""
    told = script(
        server,
        """
        import hashlib, pathlib, shutil
        size = 2 * 1024**3 + 12345
        with open("big.bin", "wb") as file:
            file.truncate(size)
            for place, data in ((1 << 30, b"middle"), (size - 3, b"end")):
                file.seek(place); file.write(data)
        def digest(path):
            with open(path, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        with wandb.init(id="big") as run:
            made = wandb.Artifact("big", type="weights")
            made.add_file("big.bin", policy="immutable")
            run.log_artifact(made).wait()
        shutil.rmtree(os.environ["WANDB_CACHE_DIR"], ignore_errors=True)
        got = pathlib.Path(wandb.Api().artifact(os.environ["WANDB_PROJECT"] + "/big:v0").download(root="got")) / "big.bin"
        done(same=digest(got) == digest("big.bin"), size=got.stat().st_size)
        shutil.rmtree("got"); shutil.rmtree(os.environ["WANDB_CACHE_DIR"], ignore_errors=True)
        """,
        tmp_path,
        timeout=500,
    )
    assert told == {"same": True, "size": 2 * 1024**3 + 12345}
