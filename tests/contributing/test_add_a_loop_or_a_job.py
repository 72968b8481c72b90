"""docs/contributing/add-a-loop-or-a-job.md, followed on a copy of the house, then used as people would."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from drivetrain.client import Client
from drivetrain.errors import Invalid
from tests.conftest import Server, wait_for
from tests.contributing.worked import follow


@pytest.mark.slow
def test_a_loop_and_a_kind_of_job_are_added(tmp_path: Path) -> None:
    changed = {"PYTHONPATH": str(follow("add-a-loop-or-a-job", tmp_path)), "DRIVETRAIN_MIN_FREE_DISK_BYTES": "0"}
    server = Server(tmp_path / "home", ("--web", "1"), environ=changed).start()
    try:
        with Client(server.url, server.token) as client:
            model = tmp_path / "notes.gguf"
            model.write_bytes(b"GGUF" + bytes(60))
            client.push(model, "notes")
            job = client.jobs.submit("digest", {"model": "notes", "path": "notes.gguf"})
            *_, ended = client.jobs.follow(job.id)
            assert ended.result == {"sha256": sha256(model.read_bytes()).hexdigest(), "bytes": 64}, ended.error
            assert "64 bytes" in client.jobs.log(job.id)
            with pytest.raises(Invalid, match="It takes: model, path"):
                client.jobs.submit("digest", {"model": "notes"})
        log = tmp_path / "home" / "logs" / "supervisor.log"
        assert "of the disk are free" not in log.read_text()
        server.environ["DRIVETRAIN_MIN_FREE_DISK_BYTES"] = str(1 << 60)
        server.restart()
        wait_for(lambda: "MB of the disk are free" in log.read_text(), what="the loop's first words")
        assert "failed at a step" not in log.read_text()
    finally:
        server.stop()
