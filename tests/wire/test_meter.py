"""Counts of answers, over several processes."""

from __future__ import annotations

import re
from pathlib import Path

from drivetrain.wire.meter import Meter, exposition, share_file, siblings


def test_processes_of_one_family_add_up(tmp_path: Path) -> None:
    mine, other, stranger = Meter(), Meter(), Meter()
    for meter, times in ((mine, 1), (other, 2), (stranger, 100)):
        for _ in range(times):
            meter.count("openai", 200, 0.02)
    other.count("openai", 500, 700.0)
    other.share(share_file(tmp_path, 7, process=1))
    stranger.share(share_file(tmp_path, 8, process=2))
    (tmp_path / "meter-7-3.json").write_text("torn")
    text = "\n".join(exposition(mine.total(siblings(tmp_path, 7))))
    assert 'drivetrain_http_requests_total{dialect="openai",status="200"} 3' in text
    assert 'drivetrain_http_requests_total{dialect="openai",status="500"} 1' in text
    buckets = [int(count) for count in re.findall(r"_bucket.* (\d+)", text)]
    assert buckets == sorted(buckets)
    assert (buckets[0], buckets[-2], buckets[-1]) == (0, 3, 4)
    assert 'duration_seconds_sum{dialect="openai"} 700.06' in text
    assert mine.lines["openai"]["200"].count == 1, "showing the sum changes nothing"


def test_what_has_not_changed_is_not_written(tmp_path: Path) -> None:
    meter, file = Meter(), tmp_path / "meter-1-1.json"
    meter.share(file)
    assert not file.exists()
    meter.count("a", 200, 0.1)
    meter.share(file)
    file.unlink()
    meter.share(file)
    assert not file.exists()
