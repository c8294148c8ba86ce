"""Layers that only show something: agreement, strokes, and the mask while it forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels
from napari.utils.colormaps import Colormap, DirectLabelColormap
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from lsegdiff_core.data.geometry import Geometry
from napari_lsegdiff._frames import Frame
from napari_lsegdiff._layers import UNLOCKED

# A layer with this in its metadata is nothing to segment.
OVERLAY = "lsegdiff overlay"
AGREEMENT, STROKES, PREVIEW = "agreement", "strokes", "preview"

# Clear where all samples agree, bright where they are split.
_SPLIT = Colormap(
    [[1.0, 0.2, 0.3, 0.95], [1.0, 0.85, 0.1, 0.9], [1.0, 1.0, 0.6, 0.5], [0.0, 0.0, 0.0, 0.0]],
    name="agreement",
    controls=[0.0, 0.4, 0.8, 1.0],
)
_FORMING = Colormap([[0.0, 0.9, 1.0, 0.0], [0.0, 0.9, 1.0, 0.7]], name="forming")
_DRAWN = DirectLabelColormap(color_dict={None: "#00000000", 0: "#00000000", 1: "#7cff4d", 2: "#ff4d6a"})


def is_overlay(layer: object) -> bool:
    """Return whether a layer only shows something."""
    return bool(getattr(layer, "metadata", {}).get(OVERLAY))


class Overlays:
    """At most one layer of each kind for each image; the user's active layer stays active.

    Parameters
    ----------
    viewer
        Where they are shown.
    taken
        Called with the kind of a layer that somebody else has removed.
    """

    def __init__(self, viewer: ViewerModel, taken: Callable[[str], None] = lambda kind: None) -> None:
        self._viewer, self._taken = viewer, taken
        self._layers: dict[tuple[Image, str], Image | Labels] = {}
        self._going: list[Image | Labels] = []  # hidden, and taken away after the event at hand
        viewer.layers.events.removed.connect(self._on_removed)

    def close(self) -> None:
        """Stop listening to the viewer and take the layers away."""
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        for layer in (*self._layers.values(), *self._going):
            self._remove(layer)

    def layers(self, image: Image) -> list[Image | Labels]:
        """Return those that an image has."""
        return [layer for (known, _), layer in self._layers.items() if known is image]

    def show_agreement(self, image: Image, frame: Frame, agreement: NDArray[np.float32]) -> None:
        """Show where samples agree: (H, W) float32 in [0.5, 1]."""
        look = {"colormap": _SPLIT, "contrast_limits": (0.5, 1.0), "opacity": 0.8}
        layer = self._show(image, AGREEMENT, agreement, _placed(image, frame), look)
        layer.colorbar.visible = True

    def show_preview(self, image: Image, frame: Frame, square: NDArray[np.float32], geometry: Geometry) -> None:
        """Show the estimate of a sampler step, (S, S) float32 in [0, 1], where the square lies in the image."""
        look = {"colormap": _FORMING, "contrast_limits": (0.0, 1.0), "interpolation2d": "linear"}
        self._show(image, PREVIEW, square, _placed(image, frame, geometry, len(square)), look)

    def show_strokes(self, image: Image, frame: Frame, locked: NDArray[np.int32] | None) -> None:
        """Show what the user locked, (H, W) of ids and `UNLOCKED`: green where an object is, red where none is."""
        if locked is None or not (locked != UNLOCKED).any():
            self.hide(image, STROKES)
            return
        kinds = np.where(locked > 0, np.uint8(1), np.uint8(2))
        kinds[locked == UNLOCKED] = 0
        self._show(image, STROKES, kinds, _placed(image, frame), {"colormap": _DRAWN, "opacity": 0.8})

    def hide(self, image: Image, kind: str) -> None:
        """Take a layer away, after the event at hand: that may be the removal of several layers, this one included."""
        layer = self._layers.pop((image, kind), None)
        if layer is not None:
            self._going.append(layer)
            QTimer.singleShot(0, self._remove_hidden)

    def _remove_hidden(self) -> None:
        while self._going:
            self._remove(self._going.pop())

    def _remove(self, layer: Image | Labels) -> None:
        if layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _show(
        self, image: Image, kind: str, data: NDArray[Any], affine: NDArray[np.float64], look: dict[str, Any]
    ) -> Image | Labels:
        data = data.reshape((1,) * (image.ndim - 2) + data.shape)
        layer = self._layers.get((image, kind))
        if layer is not None and layer.data.shape == data.shape:
            layer.affine = affine
            layer.data = data
            return layer
        self.hide(image, kind)
        active = self._viewer.layers.selection.active
        make = Labels if kind == STROKES else Image
        layer = make(
            data,
            name=f"{kind} ({image.name})",
            affine=affine,
            units=image.units,
            axis_labels=image.axis_labels,
            metadata={OVERLAY: True},
            **look,
        )
        self._layers[image, kind] = layer
        # the user has chosen nothing: nobody shall follow
        with self._viewer.layers.selection.events.active.blocker():
            self._viewer.add_layer(layer)
            layer.editable = False
            self._viewer.layers.selection.active = active
        return layer

    def _on_removed(self, event: Any) -> None:
        for key in [key for key, layer in self._layers.items() if event.value is layer]:
            del self._layers[key]
            self._taken(key[1])
        for image, kind in [key for key in self._layers if key[0] is event.value]:
            self.hide(image, kind)


def _placed(image: Image, frame: Frame, geometry: Geometry | None = None, size: int = 0) -> NDArray[np.float64]:
    """Return the affine matrix that puts a plane onto a frame of ``image``, or a square of ``size`` onto its box."""
    ndim = image.ndim
    world = np.eye(ndim + 1)
    origin = np.asarray(image.data_to_world(np.zeros(ndim)))
    for axis in range(ndim):
        world[:ndim, axis] = np.asarray(image.data_to_world(np.eye(ndim)[axis])) - origin
    world[:ndim, ndim] = origin
    plane = np.eye(ndim + 1)
    plane[: len(frame), ndim] = frame
    if geometry is not None:
        top, left, bottom, right = geometry.box
        for axis, start, end in ((ndim - 2, top, bottom), (ndim - 1, left, right)):
            # pixel areas are aligned: napari puts whole numbers in the middle of pixels
            plane[axis, axis] = (end - start) / size
            plane[axis, ndim] = start - 0.5 + 0.5 * plane[axis, axis]
    placed: NDArray[np.float64] = world @ plane
    return placed
