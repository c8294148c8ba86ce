"""Points, boxes and outlines as hints, drawn with napari's own Points and Shapes layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Points, Shapes
from numpy.typing import NDArray

from lsegdiff_core.drawing import disc, ellipse, polygon
from lsegdiff_core.hints import BACKGROUND, FOREGROUND, NONE
from napari_lsegdiff._frames import Frame, frame_shape, place_of

# Radius of the disc that a point stands for, as a share of the image's diagonal.
RADIUS = 0.0125
INSIDE, OUTSIDE = "inside", "outside"
COLOURS = {INSIDE: "#7cff4d", OUTSIDE: "#ff4d6a"}
BOXES = ("rectangle",)
OUTLINES = ("ellipse", "polygon")


class HintLayers:
    """One layer of points and one of shapes for each image, made when the user asks for them.

    Parameters
    ----------
    viewer
        Where they are shown.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._points: dict[Image, Points] = {}
        self._shapes: dict[Image, Shapes] = {}
        viewer.layers.events.removed.connect(self._on_removed)

    def close(self) -> None:
        """Stop listening to the viewer; the layers stay."""
        self._viewer.layers.events.removed.disconnect(self._on_removed)

    def place_points(self, image: Image, kind: str) -> Points:
        """Let the user place points of a kind, `INSIDE` or `OUTSIDE`."""
        if image not in self._points:
            layer = Points(
                np.empty((0, image.ndim)),
                features={"kind": np.empty(0, dtype=object)},
                feature_defaults={"kind": kind},
                face_color="kind",
                face_color_cycle=COLOURS,
                border_color="black",
                size=max(6.0, 2 * RADIUS * math.hypot(*frame_shape(image))),
                name=f"{image.name} points",
                **place_of(image),
            )
            self._points[image] = layer
            self._viewer.add_layer(layer)
        layer = self._points[image]
        layer.feature_defaults = {"kind": kind}
        layer.selected_data = set()
        self._viewer.layers.selection.active = layer
        layer.mode = "add"
        return layer

    def draw_shapes(self, image: Image) -> Shapes:
        """Let the user draw a box, which keeps the object inside, or an outline, which starts a mask."""
        if image not in self._shapes:
            layer = Shapes(
                ndim=image.ndim,
                face_color="transparent",
                edge_color="#00e5ff",
                edge_width=max(1.0, math.hypot(*frame_shape(image)) / 400),
                name=f"{image.name} shapes",
                **place_of(image),
            )
            self._shapes[image] = layer
            self._viewer.add_layer(layer)
        layer = self._shapes[image]
        self._viewer.layers.selection.active = layer
        layer.mode = "add_rectangle"
        return layer

    def locked(self, image: Image, frame: Frame) -> NDArray[np.uint8] | None:
        """Return what points and boxes say, (H, W) uint8 as in `lsegdiff_core.hints.Hints`; None if they say nothing.

        Everything outside all boxes is background; a later point lies over an earlier one.
        """
        shape = frame_shape(image)
        locked = np.full(shape, NONE, np.uint8)
        boxes = [polygon(shape, vertices) for kind, vertices, _ in self._drawn(image, frame) if kind in BOXES]
        if boxes:
            locked[~np.logical_or.reduce(boxes)] = BACKGROUND
        points = self._points.get(image)
        if points is not None:
            for position, kind in zip(points.data, points.features["kind"], strict=True):
                if _frame_of(position) == frame:
                    inside = disc(shape, tuple(position[-2:]), RADIUS * math.hypot(*shape))
                    locked[inside] = FOREGROUND if kind == INSIDE else BACKGROUND
        return locked if locked.any() else None

    def take_outline(self, image: Image, frame: Frame) -> NDArray[np.bool_] | None:
        """Return the inside of the ellipses and polygons of a frame, (H, W) bool, and remove them; None without any."""
        shape = frame_shape(image)
        outlines = [(vertices, kind, index) for kind, vertices, index in self._drawn(image, frame) if kind in OUTLINES]
        if not outlines:
            return None
        fill = {"ellipse": ellipse, "polygon": polygon}
        mask: NDArray[np.bool_] = np.logical_or.reduce([fill[kind](shape, vertices) for vertices, kind, _ in outlines])
        layer = self._shapes[image]
        layer.selected_data = {index for _, _, index in outlines}
        layer.remove_selected()
        return mask

    def _drawn(self, image: Image, frame: Frame) -> list[tuple[str, NDArray[np.floating], int]]:
        layer = self._shapes.get(image)
        if layer is None:
            return []
        shapes = enumerate(zip(layer.shape_type, layer.data, strict=True))
        return [(kind, data[:, -2:], index) for index, (kind, data) in shapes if _frame_of(data[0]) == frame]

    def _on_removed(self, event: Any) -> None:
        for layers in (self._points, self._shapes):
            for image in [image for image, layer in layers.items() if event.value in (image, layer)]:
                del layers[image]


def _frame_of(position: NDArray[np.floating]) -> Frame:
    return tuple(round(float(value)) for value in position[:-2])
