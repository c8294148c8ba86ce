"""From a probability to the canvas: masks are refined beside the window and written when the user is not drawing."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QObject, QTimer, Signal

from lsegdiff_core.errors import LSegDiffError
from napari_lsegdiff._jobs import Job, Refined
from napari_lsegdiff._session import Session
from napari_lsegdiff._worker import Failed, NewestWins

# While the user is drawing, a mask waits this long before it tries again, in milliseconds.
RETRY = 30


class Landing(QObject):
    """Refines and writes masks; of those that wait for one object, the newest.

    Attributes
    ----------
    written
        Emitted with each `Refined` that has come onto the canvas.
    failed
        Emitted with the `Failed` of one that has not.
    settled
        Emitted when no mask is on its way any more.
    """

    written = Signal(object)
    failed = Signal(object)
    settled = Signal()

    def __init__(self, session: Session, parent: QObject) -> None:
        super().__init__(parent)
        self._session = session
        self._refiner = NewestWins(self)
        self._waiting: dict[Job, tuple[Refined, int | None]] = {}
        self._retry = QTimer(self)
        self._retry.setInterval(RETRY)
        self._retry.timeout.connect(self._write)
        self._refiner.done.connect(self._on_refined)

    @property
    def idle(self) -> bool:
        """True when no mask is on its way."""
        return self._refiner.idle and not self._waiting

    @property
    def waiting(self) -> bool:
        """True while a mask waits for the end of a stroke."""
        return bool(self._waiting)

    def request(self, job: Job, function: Callable[[], Refined], merge: int | None = None) -> None:
        """Make a mask with ``function`` and show it; writes in a row with the same ``merge`` are one undo item."""
        self._refiner.request(job, function, merge)

    def close(self) -> None:
        """Write nothing any more."""
        self._refiner.close()
        self._retry.stop()
        self._waiting.clear()

    def _on_refined(self, result: Refined | Failed, merge: int | None) -> None:
        if isinstance(result, Failed):
            self.failed.emit(result)
            self._tell_settled()
        else:
            self._waiting[result.job] = (result, merge)
            self._write()

    def _write(self) -> None:
        for job, (refined, merge) in list(self._waiting.items()):
            try:
                if not self._session.write(refined, merge):
                    continue  # the user is drawing
            except LSegDiffError as error:
                del self._waiting[job]
                self.failed.emit(Failed.of(error))
                continue
            del self._waiting[job]
            self.written.emit(refined)
        if self._waiting:
            self._retry.start()
        else:
            self._retry.stop()
            self._tell_settled()

    def _tell_settled(self) -> None:
        if self.idle:
            self.settled.emit()
