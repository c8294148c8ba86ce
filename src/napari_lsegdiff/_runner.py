"""One run at a time beside the window, of which the newest counts."""

from __future__ import annotations

from collections.abc import Generator
from threading import Event
from typing import Any

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, Signal

from lsegdiff_core.memory import Memory, memory_in_use
from napari_lsegdiff._worker import Devices, Failed, Finished, PredictorCache, Request, Update, segment


class Runner(QObject):
    """Runs `segment` in a thread; a new request stops the run before it.

    Attributes
    ----------
    updated
        Emitted in the window's thread with each `Update` of the newest request; nothing of an older one comes through.
    fetched
        Emitted with a request that was made by `fetch`, and its `Finished` or `Failed`.
    """

    updated = Signal(object)
    fetched = Signal(object, object)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._cache = PredictorCache()
        self._worker: Any = None
        self._stopped = Event()  # set: the worker shall end
        self._request: Request | None = None  # what the worker does
        self._wanted: Request | None = None  # what was asked for last, unless it was stopped
        self._ahead: Request | None = None  # what is done while nothing else is

    @property
    def idle(self) -> bool:
        """True when no thread is at work, not even on the last step of a stopped run."""
        return self._worker is None

    def start(self, request: Request) -> bool:
        """Run a request; False if a stopped run has to finish its step first."""
        self._wanted = request
        if self._worker is not None:
            self._stopped.set()
            return False
        self._begin()
        return True

    def stop(self) -> None:
        """Stop at the next step; nothing more is heard of it."""
        self._wanted = None
        if self._worker is None:
            self._begin()
        elif self._request is not self._ahead:
            self._stopped.set()

    def fetch(self, request: Request | None) -> None:
        """Run a request, instead of the one before it, as long as nothing else is to be done; None drops it."""
        dropped, self._ahead = self._ahead, request
        if self._worker is None:
            self._begin()
        elif self._request is dropped:
            self._stopped.set()

    def close(self) -> None:
        """Stop everything."""
        self._wanted = self._ahead = None
        if self._worker is not None:
            self._stopped.set()

    def unload(self) -> tuple[Memory, Memory] | None:
        """Free the model and return the memory in use before and after; None, and nothing done, during a run."""
        if not self.idle:
            return None
        before = memory_in_use()
        self._cache.clear()
        return before, memory_in_use()

    def _begin(self) -> None:
        self._request = self._wanted or self._ahead
        if self._request is None:
            return
        self._stopped = Event()
        worker = create_worker(_until, self._stopped, segment(self._cache, self._request))
        worker.yielded.connect(self._on_update)
        worker.finished.connect(self._on_finished)
        self._worker = worker
        worker.start()

    def _on_update(self, update: Update) -> None:
        if self._request is self._wanted or isinstance(update, Devices):
            self.updated.emit(update)
        elif self._request is self._ahead and isinstance(update, Finished | Failed):
            self._ahead = None
            self.fetched.emit(self._request, update)

    def _on_finished(self) -> None:
        self._worker = None
        if self._wanted is not None and self._wanted is self._request:
            return  # its result is on its way to the canvas; `stop` follows
        self._begin()


def _until(stopped: Event, updates: Generator[Update, None, None]) -> Generator[Update, None, None]:
    """Yield updates until somebody has said stop.

    ``quit`` of the worker would leave the generator where it is, and napari's list of tasks never lets go of a worker:
    image, networks and samples would stay in memory.
    """
    try:
        for update in updates:
            if stopped.is_set():
                return
            yield update
    finally:
        updates.close()
