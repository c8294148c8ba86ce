"""Points, boxes and outlines as hints, drawn with napari's own Points and Shapes layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Points, Shapes
from numpy.typing import NDArray

from lsegdiff_core.drawing import box, disc, ellipse, polygon
from lsegdiff_core.hints import BACKGROUND, FOREGROUND, NONE
from napari_lsegdiff._frames import Frame, frame_shape, place_of
from napari_lsegdiff._jobs import Job

# Radius of the disc that a point stands for, as a share of the image's diagonal.
RADIUS = 0.0125
INSIDE, OUTSIDE = "inside", "outside"
COLOURS = {INSIDE: "#7cff4d", OUTSIDE: "#ff4d6a"}
OUTLINES = {"ellipse": ellipse, "polygon": polygon}


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

    def layers(self, image: Image) -> list[Points | Shapes]:
        """Return those of an image."""
        return [layers[image] for layers in (self._shapes, self._points) if image in layers]

    def place_points(self, job: Job, kind: str) -> Points:
        """Let the user place points of a kind, `INSIDE` or `OUTSIDE`, for an object."""
        image = job.image
        if image not in self._points:
            layer = Points(
                np.empty((0, image.ndim)),
                features={"kind": np.empty(0, dtype=object), "object": np.empty(0, dtype=int)},
                feature_defaults={"kind": kind, "object": job.number},
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
        layer.feature_defaults = {"kind": kind, "object": job.number}
        layer.selected_data = set()
        self._viewer.layers.selection.active = layer
        layer.mode = "add"
        return layer

    def draw_shapes(self, job: Job) -> Shapes:
        """Let the user draw a box, which keeps the object inside, or an outline, which starts a mask."""
        image = job.image
        if image not in self._shapes:
            layer = Shapes(
                ndim=image.ndim,
                features={"object": np.empty(0, dtype=int)},
                feature_defaults={"object": job.number},
                face_color="transparent",
                edge_color="#00e5ff",
                edge_width=max(1.0, math.hypot(*frame_shape(image)) / 400),
                name=f"{image.name} shapes",
                **place_of(image),
            )
            self._shapes[image] = layer
            self._viewer.add_layer(layer)
        layer = self._shapes[image]
        layer.feature_defaults = {"object": job.number}
        self._viewer.layers.selection.active = layer
        layer.mode = "add_rectangle"
        return layer

    def locked(self, job: Job) -> NDArray[np.uint8] | None:
        """Return what the object's points and boxes say, (H, W) uint8 as `lsegdiff_core.hints.Hints`; None if nothing.

        Everything outside all boxes is background; a later point lies over an earlier one.
        """
        shape = frame_shape(job.image)
        locked = np.full(shape, NONE, np.uint8)
        boxes = [box(shape, vertices) for kind, vertices, _ in self._drawn(job) if kind == "rectangle"]
        if boxes:
            locked[~np.logical_or.reduce(boxes)] = BACKGROUND
        points = self._points.get(job.image)
        if points is not None:
            for position, (kind, number) in zip(points.data, points.features[["kind", "object"]].values, strict=True):
                if _frame_of(position) == job.frame and number == job.number:
                    inside = disc(shape, tuple(position[-2:]), RADIUS * math.hypot(*shape))
                    locked[inside] = FOREGROUND if kind == INSIDE else BACKGROUND
        return locked if locked.any() else None

    def outline(self, job: Job) -> NDArray[np.bool_] | None:
        """Return the inside of the object's ellipses and polygons in its frame, (H, W) bool; None without any."""
        shape = frame_shape(job.image)
        masks = [OUTLINES[kind](shape, vertices) for kind, vertices, _ in self._drawn(job) if kind in OUTLINES]
        return np.logical_or.reduce(masks) if masks else None

    def remove_outline(self, job: Job) -> None:
        """Take those ellipses and polygons away: they have become a mask."""
        layer = self._shapes[job.image]
        layer.selected_data = {index for kind, _, index in self._drawn(job) if kind in OUTLINES}
        layer.remove_selected()

    def _drawn(self, job: Job) -> list[tuple[str, NDArray[np.floating], int]]:
        layer = self._shapes.get(job.image)
        if layer is None:
            return []
        shapes = enumerate(zip(layer.shape_type, layer.data, layer.features["object"], strict=True))
        return [
            (kind, data[:, -2:], index)
            for index, (kind, data, number) in shapes
            if _frame_of(data[0]) == job.frame and number == job.number
        ]

    def _on_removed(self, event: Any) -> None:
        for layers in (self._points, self._shapes):
            for image in [image for image, layer in layers.items() if event.value in (image, layer)]:
                del layers[image]


def _frame_of(position: NDArray[np.floating]) -> Frame:
    return tuple(round(float(value)) for value in position[:-2])
