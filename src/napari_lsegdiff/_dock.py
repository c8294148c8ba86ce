"""The dock as napari's menus open it: the way the last one was closed."""

from __future__ import annotations

import logging
from typing import Any

import napari
from qtpy.QtCore import QTimer
from qtpy.QtGui import QShowEvent

from lsegdiff_core.bundle import available_bundles
from lsegdiff_core.errors import LSegDiffError
from napari_lsegdiff._state import State, Values, load_state, save_state
from napari_lsegdiff._widget import SegmentationDock

logger = logging.getLogger(__name__)


class RememberingDock(SegmentationDock):
    """The dock of a person at work; a `SegmentationDock` itself always opens as settings and model suggest.

    Parameters
    ----------
    napari_viewer
        The viewer whose images are segmented.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self._whole = _whole_view(napari_viewer)
        state = load_state()
        if state is not None:
            self._resume(state)
        # at once: a model of one's own would be hard to find again after a crash
        self.choices.chosen.connect(lambda manifest: save_state(self._state()))
        # the last one is called first: before the queue closes, and the controls show what it leaves behind
        self._closers.calls.append(lambda: save_state(self._state()))

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        """Let the canvas, which the dock makes narrower, show the whole of what it showed whole before."""
        super().showEvent(event)
        whole, self._whole = self._whole, None
        if whole is not None and whole == _view(self._viewer):
            QTimer.singleShot(0, self._viewer.reset_view)

    def _suggested(self) -> Values:
        return Values(self._settings.device, self.choices.suggested, self.refine.default)

    def _state(self) -> State:
        choices, came_along = self.choices, available_bundles()
        return State(
            choices.bundle or "",
            tuple(bundle for bundle in choices.bundles if bundle not in came_along),
            Values(choices.device.currentText(), self.sampling.own or self.sampling.shown, self.refine.own),
            self._suggested(),
            self.correct.auto.isChecked(),
            self.tabs.tabText(self.tabs.currentIndex()),
        )

    def _resume(self, state: State) -> None:
        for folder in state.folders:
            try:
                self.choices.offer(folder)
            except LSegDiffError:
                logger.warning("A model of the last session is not there any more; it is left out of the list")
        if state.bundle in self.choices.bundles:
            self.choices.choose(state.bundle)
        values = state.values(self._suggested())
        self.choices.show_device(values.device)
        if self.choices.bundle == state.bundle:
            self.sampling.show(values.sampling)
            self.refine.set_own(values.morphology)
            self._segmentation.suggested = values.morphology
        self.correct.auto.setChecked(state.after_stroke)
        titles = [self.tabs.tabText(index) for index in range(self.tabs.count())]
        if state.tab in titles:
            self.tabs.setCurrentIndex(titles.index(state.tab))


View = tuple[tuple[float, ...], float, tuple[float, ...]]


def _view(viewer: napari.viewer.Viewer) -> View:
    """Return which part of the world is on the canvas: centre, zoom and angles."""
    camera = _camera(viewer)
    return tuple(camera.center), camera.zoom, tuple(camera.angles)


def _whole_view(viewer: napari.viewer.Viewer) -> View | None:
    """Return the view if it is the one of all layers that napari begins with; None if somebody has moved it."""
    before = _view(viewer)
    viewer.reset_view()
    if before == _view(viewer):
        return before
    camera = _camera(viewer)
    camera.center, camera.zoom, camera.angles = before
    return None


def _camera(viewer: napari.viewer.Viewer) -> Any:
    return getattr(viewer, "scene", viewer).camera  # napari 0.8 has no scene
