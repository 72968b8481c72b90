"""The home: made once, opened many times, refused when it cannot be trusted."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import stat
from pathlib import Path

import pytest

from drivetrain.errors import Conflict, Invalid, NotFound
from drivetrain.store.home import RUNTIME_LENGTH, Home, refuse_network


def test_what_a_home_is(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "a" / "home")
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((home.path / "secret.key").stat().st_mode) == 0o600
    assert len(home.secret) == 32
    assert (home.path / "format").read_text() == "1\n"
    assert len(str(home.runtime)) <= RUNTIME_LENGTH
    assert stat.S_IMODE(home.runtime.stat().st_mode) == 0o700
    again = Home.open(home.path, create=False)
    assert (again.secret, again.server_id, again.runtime) == (home.secret, home.server_id, home.runtime)
    other = Home.open(tmp_path / "b")
    assert other.secret != home.secret
    assert other.server_id != home.server_id


def test_a_new_home_may_hold_settings_but_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "drivetrain.toml").write_text("port = 1\n")
    assert Home.open(tmp_path).path == tmp_path
    other = tmp_path / "documents"
    other.mkdir()
    (other / "letter.txt").write_text("mine")
    with pytest.raises(Invalid, match=r"not a drivetrain home.*letter\.txt"):
        Home.open(other)
    assert [path.name for path in other.iterdir() if not path.name.startswith(".")] == ["letter.txt"]


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no drivetrain home"):
        Home.open(tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists()
    home = Home.open(tmp_path / "home")
    (home.path / "secret.key").write_bytes(b"short")
    with pytest.raises(Invalid, match=r"secret\.key is damaged"):
        Home.open(home.path)
    (home.path / "format").write_text("2\n")
    with pytest.raises(Invalid, match=r"newer drivetrain \(format 2"):
        Home.open(home.path)
    (home.path / "format").write_text("what?")
    with pytest.raises(Invalid, match="damaged"):
        Home.open(home.path)
    (tmp_path / "file").write_text("")
    with pytest.raises(Invalid, match="cannot be used"):
        Home.open(tmp_path / "file")


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_network_file_systems_are_refused(kind: str) -> None:
    mounts = [("/", "ext4"), ("/data", kind), ("/data/local", "xfs")]
    with pytest.raises(Invalid, match="local disk"):
        refuse_network(Path("/data/home"), mounts)
    refuse_network(Path("/data/local/home"), mounts)
    refuse_network(Path("/database"), mounts)


def test_one_server_for_a_home(home: Home) -> None:
    with home.lock(), pytest.raises(Conflict, match=rf"process {os.getpid()}"), Home.open(home.path).lock():
        pass
    with home.lock():
        pass


def test_a_runtime_folder_that_is_gone_or_not_ours_is_made_anew(home: Home, tmp_path: Path) -> None:
    old = home.runtime
    shutil.rmtree(old)
    new = Home.open(home.path).runtime
    assert new.is_dir()
    assert new != old
    shutil.rmtree(new)
    new.symlink_to(tmp_path)
    third = Home.open(home.path).runtime
    assert third != new
    new.unlink()
    third.chmod(0o755)
    assert Home.open(home.path).runtime != third


def _open(path: Path) -> tuple[bytes, str, str]:
    home = Home.open(path)
    return home.secret, home.server_id, str(home.runtime)


def test_many_processes_make_one_home(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert len(set(pool.map(_open, [tmp_path / "home"] * 8))) == 1
