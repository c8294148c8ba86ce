"""Progress that does not hold up the window."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QProgressBar

T = TypeVar("T")
# Milliseconds between two things that are shown: whoever reads is slower, and each costs a drawing of the window.
PACE = 100
# Where a drawing is slow, the window rests this many times as long before the next, for the user's hand and the model.
REST = 3


class ProgressBar(QProgressBar):
    """Is painted with the window's next frame.

    Qt's own paints at each change of value or range, and with it the whole window, the OpenGL canvas included: on two
    cores 10 ms, several times within a run that takes 100.
    """

    def show_progress(self, done: int, total: int) -> None:
        """Show ``done`` of ``total``; a total of 0 means that nobody knows."""
        self.setUpdatesEnabled(False)
        self.setRange(0, total)
        self.setValue(done)
        self.setUpdatesEnabled(True)


class Paced(Generic[T]):
    """Shows the first of many things at once, and then the newest at most ten times a second.

    Less often where drawing it takes long.

    Parameters
    ----------
    show
        Shows one.
    parent
        Owner of the timer.
    """

    def __init__(self, show: Callable[[T], None], parent: QObject) -> None:
        self._show = show
        self._waiting: list[T] = []
        self._timer = QTimer(parent)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._on_timeout)
        self._began = 0.0
        self._drawn = QTimer(parent)  # without an interval it comes when the window has drawn
        self._drawn.setSingleShot(True)
        self._drawn.timeout.connect(self._on_drawn)

    def __call__(self, thing: T) -> None:
        """Show ``thing`` now or, unless another comes first, soon."""
        self._waiting = [thing]
        if not (self._drawn.isActive() or self._timer.isActive()):
            self._on_timeout()

    def drop(self) -> None:
        """Forget what waits; what comes next is shown at once."""
        self._waiting.clear()
        self._timer.stop()
        self._drawn.stop()

    def _on_timeout(self) -> None:
        if self._waiting:
            self._began = monotonic()
            self._show(self._waiting.pop())
            self._drawn.start()

    def _on_drawn(self) -> None:
        took = 1000 * (monotonic() - self._began)
        self._timer.start(max(PACE, round(REST * took)))
