"""Keeps the garbage collector from walking over half a million objects that are there to stay.

napari collects garbage whenever a layer goes, and Python does so now and then: 0.1 s of the window's thread in a bare
napari, twice as long once torch is loaded. What is frozen (`gc.freeze`) is not walked over.
"""

from __future__ import annotations

import gc
from typing import Any
from weakref import WeakSet

from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import QObject, QTimer


class Garbage(QObject):
    """Freezes what a run has loaded, and sees to it that layers are freed all the same.

    Parameters
    ----------
    viewer
        Whose layers are watched.
    parent
        The dock.
    """

    def __init__(self, viewer: ViewerModel, parent: QObject) -> None:
        super().__init__(parent)
        self._layers = viewer.layers
        self._loaded = self._frozen = False
        self._kept: WeakSet[Layer] = WeakSet()  # layers that were frozen with the rest
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self._on_empty)
        self._layers.events.removing.connect(self._on_removing)
        self._layers.events.removed.connect(self._on_removed)

    def close(self) -> None:
        """Let everything be collected again."""
        self._layers.events.removing.disconnect(self._on_removing)
        self._layers.events.removed.disconnect(self._on_removed)
        self._soon.stop()
        gc.unfreeze()

    def settle(self) -> None:
        """Freeze what is there: a run has loaded all that the next ones need."""
        if not self._loaded:
            self._loaded = True
            self._freeze()

    def _freeze(self) -> None:
        self._kept, self._frozen = WeakSet(self._layers), True
        gc.freeze()

    def _on_removing(self, event: Any) -> None:
        if self._layers[event.index] in self._kept:
            # a layer is part of reference cycles: only the collector frees it and its pixels
            self._kept.clear()
            self._frozen = False
            gc.unfreeze()

    def _on_removed(self, event: Any) -> None:
        if self._loaded and not self._frozen and not self._layers:
            self._soon.start(0)  # whoever handles this event still holds the layer

    def _on_empty(self) -> None:
        if not self._layers:
            # the layer that was removed last stays until the next time: the viewer's selection holds it
            gc.collect()
            self._freeze()
