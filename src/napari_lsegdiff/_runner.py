"""One run at a time beside the window, of which the newest counts."""

from __future__ import annotations

from typing import Any

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, Signal

from lsegdiff_core.memory import Memory, memory_in_use
from napari_lsegdiff._worker import Devices, PredictorCache, Request, Update, segment


class Runner(QObject):
    """Runs `segment` in a thread; a new request stops the run before it.

    Attributes
    ----------
    updated
        Emitted in the window's thread with each `Update` of the newest request; nothing of an older one comes through.
    """

    updated = Signal(object)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._cache = PredictorCache()
        self._worker: Any = None
        self._request: Request | None = None  # what the worker does
        self._wanted: Request | None = None  # what was asked for last, unless it was stopped

    @property
    def idle(self) -> bool:
        """True when no thread is at work, not even on the last step of a stopped run."""
        return self._worker is None

    def start(self, request: Request) -> bool:
        """Run a request; False if a stopped run has to finish its step first."""
        self._wanted = request
        if self._worker is not None:
            self._worker.quit()
            return False
        self._begin()
        return True

    def stop(self) -> None:
        """Stop at the next step; nothing more is heard of it."""
        self._wanted = None
        if self._worker is not None:
            self._worker.quit()

    def unload(self) -> tuple[Memory, Memory] | None:
        """Free the model and return the memory in use before and after; None, and nothing done, during a run."""
        if not self.idle:
            return None
        before = memory_in_use()
        self._cache.clear()
        return before, memory_in_use()

    def _begin(self) -> None:
        self._request = self._wanted
        worker = create_worker(segment, self._cache, self._request)
        worker.yielded.connect(self._on_update)
        worker.finished.connect(self._on_finished)
        self._worker = worker
        worker.start()

    def _on_update(self, update: Update) -> None:
        if self._request is self._wanted or isinstance(update, Devices):
            self.updated.emit(update)

    def _on_finished(self) -> None:
        self._worker = None
        if self._wanted is not None and self._wanted is not self._request:
            self._begin()
