"""How long the window was blocked, and waiting that does not block it."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import NamedTuple

from qtpy.QtCore import QEventLoop, Qt, QTimer

INTERVAL = 2  # milliseconds between two beats
LIMIT = 120.0  # seconds
# Seconds before an operation, in which nothing of the one before is left, and after it, for the last drawing.
REST, REDRAW = 0.5, 0.3
# A block up to this long, in seconds, is not felt; what goes beyond it is stutter.
FELT = 0.05


class Measured(NamedTuple):
    """Seconds from the start of an operation to its end, the longest block of the window meanwhile, and its stutter."""

    seconds: float
    blocked: float
    stutter: float


class Heartbeat:
    """Beats in the window's thread; whatever delays a beat has blocked the window for as long.

    Attributes
    ----------
    gaps
        Seconds between the beats since the last reset.
    """

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self._beat = perf_counter()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(INTERVAL)
        self._timer.timeout.connect(self._on_beat)
        self._timer.start()

    @property
    def longest(self) -> float:
        """The longest gap, in seconds; one that goes on counts as well."""
        return max(self._all)

    @property
    def stutter(self) -> float:
        """Seconds by which all gaps together, each for itself, exceed what is not felt."""
        return sum(max(0.0, gap - FELT) for gap in self._all)

    @property
    def _all(self) -> list[float]:
        return [*self.gaps, perf_counter() - self._beat]

    def reset(self) -> None:
        self.gaps.clear()
        self._beat = perf_counter()

    def stop(self) -> None:
        self._timer.stop()

    def measure(self, start: Callable[[], object], done: Callable[[], bool]) -> Measured:
        """Start an operation and wait until it is done; its last drawing counts for the block, not for the time."""
        pause(REST)
        self.reset()
        began = perf_counter()
        start()
        wait(done)
        seconds = perf_counter() - began
        pause(REDRAW)
        return Measured(seconds, self.longest, self.stutter)

    def watch(self, seconds: float) -> Measured:
        """Measure for a while, without starting anything."""
        end: list[float] = []
        return self.measure(lambda: end.append(perf_counter() + seconds), lambda: perf_counter() > end[0])

    def _on_beat(self) -> None:
        now = perf_counter()
        self.gaps.append(now - self._beat)
        self._beat = now


def wait(condition: Callable[[], bool]) -> None:
    """Let the window work until ``condition`` holds; the program ends if that takes longer than `LIMIT`."""
    # an event loop that sleeps, as a user's does: one that spins would take a core from the network
    loop, end = QEventLoop(), perf_counter() + LIMIT
    poll = QTimer()
    poll.setInterval(1)
    poll.timeout.connect(lambda: loop.quit() if condition() or perf_counter() > end else None)
    poll.start()
    loop.exec_()
    poll.stop()
    if not condition():
        raise SystemExit(f"what was waited for did not happen within {LIMIT:.0f} s")


def pause(seconds: float) -> None:
    """Let the window work for a while."""
    end = perf_counter() + seconds
    wait(lambda: perf_counter() > end)
