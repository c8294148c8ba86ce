"""Progress that does not hold up the window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QProgressBar

T = TypeVar("T")
# Milliseconds between two things that are shown: whoever reads is slower, and each costs a drawing of the window.
PACE = 100


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
        self._timer.setInterval(PACE)
        self._timer.timeout.connect(self._on_timeout)

    def __call__(self, thing: T) -> None:
        """Show ``thing`` now or, unless another comes first, soon."""
        self._waiting = [thing]
        if not self._timer.isActive():
            self._on_timeout()

    def drop(self) -> None:
        """Forget what waits; what comes next is shown at once."""
        self._waiting.clear()
        self._timer.stop()

    def _on_timeout(self) -> None:
        if self._waiting:
            self._show(self._waiting.pop())
            self._timer.start()
