"""Detectors of change, beside river's."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from river import drift

from drivetrain.monitoring.detectors import Adwin, Ddm, EDetector, PageHinkley


def stream(seed: int, *rates: tuple[int, float]) -> Iterator[float]:
    chance = random.Random(seed)
    return (float(chance.random() < rate) for count, rate in rates for _ in range(count))


def found(add: Callable[[float], bool], values: Iterator[float]) -> list[int]:
    return [i for i, value in enumerate(values) if add(value)]


def rivers(detector: drift.ADWIN | drift.PageHinkley) -> Callable[[float], bool]:
    def add(value: float) -> bool:
        detector.update(value)
        return bool(detector.drift_detected)

    return add


@pytest.mark.parametrize("seed", range(5))
def test_adwin_cuts_where_rivers_does(seed: int) -> None:
    def values() -> Iterator[float]:
        return stream(seed, (1500, 0.05), (1500, 0.25), (1000, 0.1))

    ours, theirs = found(Adwin().add, values()), found(rivers(drift.ADWIN()), values())
    assert ours and theirs
    assert abs(ours[0] - theirs[0]) <= 64
    assert 1500 <= ours[0] <= 2000


def test_adwin_seldom_cuts_a_stream_without_change() -> None:
    assert sum(bool(found(Adwin().add, stream(seed, (3000, 0.1)))) for seed in range(40)) <= 2


def test_adwin_knows_its_window() -> None:
    one = Adwin()
    values = list(stream(0, (1000, 0.2)))
    for value in values:
        one.add(value)
    assert one.width == 1000
    assert one.mean == pytest.approx(sum(values) / 1000)


@pytest.mark.parametrize("seed", range(5))
def test_page_hinkley_finds_what_rivers_finds(seed: int) -> None:
    def values() -> Iterator[float]:
        return stream(seed, (1000, 0.1), (1000, 0.6))

    theirs = found(rivers(drift.PageHinkley(mode="up", alpha=0.9999)), values())
    ours = found(PageHinkley().add, values())
    assert ours and theirs
    assert abs(ours[0] - theirs[0]) <= 5


def test_ddm_finds_a_rise_and_no_fall() -> None:
    from river.drift.binary import DDM

    def values(*rates: tuple[int, float]) -> list[float]:
        return list(stream(1, *rates))

    ours, theirs = Ddm(), DDM()
    rise = values((1000, 0.1), (1000, 0.4))
    mine = [i for i, value in enumerate(rise) if ours.add(bool(value))]
    others = []
    for i, value in enumerate(rise):
        theirs.update(bool(value))
        if theirs.drift_detected:
            others.append(i)
    assert abs(mine[0] - others[0]) <= 3
    assert [i for i, value in enumerate(values((1500, 0.4), (1500, 0.1))) if Ddm().add(bool(value))] == []


@pytest.mark.parametrize("seed", range(5))
def test_the_e_detector_finds_a_rise_over_its_line(seed: int) -> None:
    ours = found(EDetector(0.1).add, stream(seed, (1000, 0.07), (1000, 0.25)))
    assert ours and 1000 <= ours[0] <= 1300


def test_the_e_detector_keeps_its_promise_at_the_line() -> None:
    """On average, 1/alpha values at least until a false alarm: also where the values hang together."""
    alpha, longest = 1 / 500, 4000

    def until(values: Iterator[float]) -> int:
        return next(iter(found(EDetector(0.1, alpha=alpha).add, values)), longest - 1) + 1

    def bursts(seed: int) -> Iterator[float]:
        """Ten in a row are as the mean of what came before allows, no more: all or nothing, by turns."""
        chance = random.Random(seed)
        for _ in range(longest // 10):
            high = chance.random() < 0.5
            yield from (float(chance.random() < (0.1 if high else 0.02)) for _ in range(10))

    for make in (lambda seed: stream(seed, (longest, 0.1)), bursts, lambda _: iter([0.1] * longest)):
        runs = [until(make(seed)) for seed in range(60)]
        assert sum(runs) / len(runs) >= 1 / alpha


def test_the_e_detector_starts_anew() -> None:
    one = EDetector(0.1)
    assert sum(one.add(1.0) for _ in range(40)) >= 2
    with pytest.raises(ValueError, match="between 0 and 1"):
        EDetector(1.0)
