"""A progress bar that does not hold up the window."""

from __future__ import annotations

from qtpy.QtWidgets import QProgressBar


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
