"""Bare napari, in a process of its own: it does what the plugin did, with the same arrays in layers of the same types.

Two viewers in one process are drawn by two OpenGL contexts, which disturb one another in a software driver.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import napari
import numpy as np
from heartbeat import Heartbeat, Measured, wait
from numpy.typing import NDArray
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QLabel

WINDOW = (1280, 800)


class Viewer:
    """A napari viewer that knows whether its canvas was drawn since the last change of its layers."""

    def __init__(self) -> None:
        self.napari = napari.Viewer()
        self.napari.window.resize(*WINDOW)
        self.heartbeat = Heartbeat()
        self.drawn = True
        self.canvas = self.napari.window._qt_viewer.canvas
        self.canvas.events.draw.connect(self._on_draw)
        self.napari.layers.events.inserted.connect(self._on_layers)
        self.napari.layers.events.removed.connect(self._on_layers)

    def clear(self) -> None:
        # a software driver crashes when layers go and others come between two drawings
        self.napari.layers.clear()
        wait(lambda: self.drawn)

    def show(self, image: NDArray[np.uint8]) -> None:
        """Show nothing but an image."""
        self.clear()
        self.napari.add_image(image, name="frame")
        wait(lambda: self.drawn)

    def front(self) -> None:
        """Bring the window to the front: one that lies below another costs less to draw."""
        self.napari.window._qt_window.raise_()

    def _on_draw(self, event: object) -> None:
        self.drawn = True

    def _on_layers(self, event: object) -> None:
        self.drawn = False


class Preview(NamedTuple):
    """A mask while it forms: (S, S) float32 over ``box``, which is top, left, bottom and right in pixels."""

    square: NDArray[np.float32]
    box: tuple[int, int, int, int]


class Mask(NamedTuple):
    """A new Labels layer of (H, W); the preview goes."""

    labels: NDArray[np.uint8]


class Write(NamedTuple):
    """Pixels of the newest layer that get other values, as one undo item."""

    where: tuple[NDArray[np.intp], ...]
    values: NDArray[np.uint8]


Action = Preview | Mask | Write
_viewers: list[Viewer] = []


def begin(width: int, canvas: tuple[int, int]) -> None:
    """Open the viewer, with an empty dock of ``width`` pixels, so that the canvas has as many as the plugin's."""
    viewer = Viewer()
    _viewers[:] = [viewer]
    beside = QLabel("bare napari")
    beside.setFixedWidth(width)
    viewer.napari.window.add_dock_widget(beside, area="right")
    wait(lambda: tuple(viewer.canvas.size) == canvas)


def end() -> None:
    _viewers.pop().napari.close()


def show(image: NDArray[np.uint8], mask: NDArray[np.uint8] | None = None) -> None:
    """Show an image, and a mask on it."""
    (viewer,) = _viewers
    viewer.show(image)
    if mask is not None:
        viewer.napari.add_labels(mask)


def swap(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> Measured:
    """Exchange the layers for others, until they are drawn."""
    (viewer,) = _viewers

    def start() -> None:
        viewer.clear()
        viewer.napari.add_image(image)
        viewer.napari.add_labels(mask)

    viewer.front()
    return viewer.heartbeat.measure(start, lambda: viewer.drawn)


def watch(seconds: float) -> Measured:
    """Do nothing for a while."""
    (viewer,) = _viewers
    viewer.front()
    return viewer.heartbeat.watch(seconds)


def replay(moments: list[tuple[float, Action]]) -> Measured:
    """Do what was recorded, each action at its second."""
    (viewer,) = _viewers
    left = len(moments)

    def act(action: Action) -> None:
        nonlocal left
        left -= 1
        layers = viewer.napari.layers
        if isinstance(action, Write):
            layers[-1].data_setitem(action.where, action.values)
        elif isinstance(action, Preview):
            _show_preview(viewer.napari, action)
        else:
            viewer.napari.add_labels(action.labels)
            if "preview" in layers:
                layers.remove("preview")

    def start() -> None:
        for moment, action in moments:
            QTimer.singleShot(round(moment * 1000), partial(act, action))

    viewer.front()
    return viewer.heartbeat.measure(start, lambda: left == 0)


def _show_preview(viewer: napari.Viewer, preview: Preview) -> None:
    if "preview" in viewer.layers:
        viewer.layers["preview"].data = preview.square
        return
    top, left, bottom, right = preview.box
    scale = np.divide((bottom - top, right - left), preview.square.shape)
    viewer.add_image(
        preview.square,
        name="preview",
        scale=scale,
        translate=np.add((top, left), (scale - 1) / 2),
        colormap="cyan",
        contrast_limits=(0, 1),
        interpolation2d="linear",
        blending="translucent",
    )
