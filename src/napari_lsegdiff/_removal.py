"""Knows when layers are being removed: one that came meanwhile would stand in the way of whoever removes all."""

from __future__ import annotations

from napari.components import ViewerModel
from qtpy.QtCore import QObject, QTimer, Signal


class Removal(QObject):
    """The removal of one or many layers of a viewer, from the first one to the end of the event.

    Parameters
    ----------
    viewer
        Whose layers are watched.
    parent
        The dock.

    Attributes
    ----------
    under_way
        Whether layers are being removed. An inserted layer ends it, too.
    over
        Emitted after the event in which layers were removed.
    """

    over = Signal()

    def __init__(self, viewer: ViewerModel, parent: QObject) -> None:
        super().__init__(parent)
        self.under_way = False
        self._events = viewer.layers.events
        self._end = QTimer(self)
        self._end.setSingleShot(True)
        self._end.timeout.connect(self._on_end)
        self._events.removing.connect(self._on_removing)
        self._events.inserting.connect(self._on_inserting)

    def close(self) -> None:
        """Stop watching."""
        self._events.removing.disconnect(self._on_removing)
        self._events.inserting.disconnect(self._on_inserting)
        self._end.stop()

    def _on_removing(self, event: object) -> None:
        self.under_way = True
        self._end.start(0)

    def _on_inserting(self, event: object) -> None:
        self.under_way = False

    def _on_end(self) -> None:
        self.under_way = False
        self.over.emit()
