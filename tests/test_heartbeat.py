"""The benchmarks' heartbeat sees how long the window was blocked."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def heartbeat(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("heartbeat")


@pytest.fixture
def clock(heartbeat: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds on a clock that only a test moves, so that a slow machine changes nothing."""
    now = [0.0]
    monkeypatch.setattr(heartbeat, "perf_counter", lambda: now[0])
    return now


def test_longest_gap_is_that_of_a_deliberate_block(heartbeat: ModuleType, clock: list[float], qtbot) -> None:
    beat = heartbeat.Heartbeat()
    for seconds in (0.25, 3.0, 0.5):
        clock[0] += seconds  # the window's thread is here, so nothing beats
        seen = len(beat.gaps)
        qtbot.waitUntil(lambda seen=seen: len(beat.gaps) > seen + 1)
    assert beat.longest == 3.0
    assert sorted(gap for gap in beat.gaps if gap) == [0.25, 0.5, 3.0]
    beat.reset()
    assert beat.longest == 0
    clock[0] += 2.0
    assert beat.longest == 2.0, "a block that goes on counts"
    beat.stop()


def test_a_block_within_an_operation_is_measured(
    heartbeat: ModuleType, clock: list[float], qtbot, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qtpy.QtCore import QTimer

    monkeypatch.setattr(heartbeat, "pause", lambda seconds: None)
    beat = heartbeat.Heartbeat()
    clock[0] += 9.0  # before the operation
    done = []

    def block(seconds: float) -> None:
        clock[0] += seconds
        done.append(seconds)

    def start() -> None:
        block(1.0)
        QTimer.singleShot(20, lambda: block(4.0))

    measured = beat.measure(start, lambda: len(done) == 2)
    assert measured.seconds == 5.0
    assert measured.blocked == 4.0
    assert measured.stutter == pytest.approx(0.95 + 3.95)
    beat.stop()


def test_summary_compares_with_bare_napari(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    responsiveness = importlib.import_module("responsiveness")
    blocks = [(0.3, 0.1), (0.5, 0.2), (0.4, 0.4)]
    rows = [
        {"case": "a", "round": n, "blocked": ours, "blocked by bare napari": bare}
        for n, (ours, bare) in enumerate(blocks)
    ]
    (row,) = responsiveness.summarise(rows)
    (still,) = responsiveness.summarise([{"case": "b", "stutter": 0.1, "stutter by bare napari": 0.0}])
    assert (still["difference"], still["ratio"]) == (0.1, None)
    assert (row["case"], row["measure"]) == ("a", "blocked")
    assert (row["median"], row["median by bare napari"]) == (0.4, 0.2)
    assert row["difference"] == pytest.approx(0.2)
    assert row["ratio"] == pytest.approx(2)
    assert (row["worst"], row["worst by bare napari"]) == (0.5, 0.4)
    assert row["worst difference"] == pytest.approx(0.3)
