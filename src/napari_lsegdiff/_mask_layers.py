"""The Labels layers that hold the masks of a viewer's images, with what is written down of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels
from numpy.typing import NDArray

from lsegdiff_core.classes import ObjectClass
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.journal import Journal
from lsegdiff_core.journal_format import Recovered
from napari_lsegdiff._autosave import Autosave
from napari_lsegdiff._clock import WorkClock
from napari_lsegdiff._frames import Frame, about_image, current_frame, new_labels
from napari_lsegdiff._layers import MaskLog, Origins
from napari_lsegdiff._objects import METADATA, describe, list_objects, sidecar


class MaskLayers:
    """One Labels layer for each image that has a mask, with its log, its time and its line in the journal.

    Parameters
    ----------
    viewer
        A viewer or a bare ViewerModel.
    changed
        Called with the image after a stroke (with True), an undo or a redo (with False) on its mask.
    journal
        Records every change of the masks; whoever made it closes it.

    Attributes
    ----------
    classes
        What objects can be; empty as long as no project says so.
    """

    def __init__(self, viewer: ViewerModel, changed: Callable[[Image, bool], None], journal: Journal | None) -> None:
        self._viewer = viewer
        self._changed = changed
        self.classes: Sequence[ObjectClass] = ()
        self._autosave = Autosave(journal)
        self._clock = WorkClock()
        self._logs: dict[Image, MaskLog] = {}

    def close(self) -> None:
        """Stop listening to the layers; they stay."""
        for log in self._logs.values():
            log.close()
        self._autosave.close()
        self._logs.clear()

    def log(self, image: Image) -> MaskLog | None:
        """Return the log of the image's mask; None without a mask, or if its layer was made into something else."""
        log = self._logs.get(image)
        if log is not None and not log.usable:
            log.close()
            del self._logs[image]
            return None
        return log

    def image_of(self, labels: object) -> Image | None:
        """Return the image whose mask ``labels`` is."""
        return next((image for image, log in self._logs.items() if log.layer is labels), None)

    def create(
        self,
        image: Image,
        frame: Frame,
        pixels: NDArray[np.integer],
        locked: NDArray[np.int32] | None,
        origins: Origins,
    ) -> MaskLog:
        """Add the layer of an image's mask, with one frame (H, W) in it, and return its log."""
        viewer, labels = self._viewer, new_labels(image, frame, pixels)

        def frame_on_canvas() -> Frame | None:
            try:
                return current_frame(viewer, labels)
            except LSegDiffError:
                return None

        def on_changed(frames: list[Frame], numbers: set[int], painted: bool) -> None:
            list_objects(labels, numbers, classes=self.classes)
            self.note(image, log, frames)
            self._changed(image, painted)

        log = MaskLog(labels, frame_on_canvas, on_changed, self._autosave.follow(image, labels))
        log.adopt(frame, pixels, locked, origins)
        self._logs[image] = log
        viewer.add_layer(labels)
        return log

    def forget(self, layer: object) -> None:
        """Let go of a layer that was removed from the viewer: an image, or its mask."""
        self._autosave.forget(layer)
        self._clock.forget(layer)
        for image, log in list(self._logs.items()):
            if layer is image or layer is log.layer:
                log.close()
                del self._logs[image]

    # what is written down

    @property
    def recording(self) -> bool:
        """Whether every change of the masks is being written into the journal."""
        return self._autosave.recording

    def keep(self, labels: Labels, recovered: Iterable[Recovered]) -> None:
        """Record the masks of a layer whose image is not at hand, until the layer is removed."""
        self._autosave.keep(labels, recovered)

    def hold(self, labels: Labels) -> None:
        """Leave a mask in the journal when its layer goes."""
        self._autosave.hold(labels)

    def spent(self, image: Image, frame: Frame) -> float:
        """Return the seconds that the user has spent on a frame until now."""
        return self._clock.tick(image, frame)

    def start(self, image: Image, frame: Frame, seconds: float) -> None:
        """Begin to count the time that the user spends on a frame, from ``seconds`` on."""
        self._clock.start(image, frame, seconds)

    def note(self, image: Image, log: MaskLog, frames: Iterable[Frame]) -> None:
        """Keep the layer's metadata true, so that the writer knows how each frame was made."""
        known = log.layer.metadata.setdefault(METADATA, {})
        for frame in frames:
            known[frame] = self._known(image, log, frame)

    def sidecar(self, image: Image, log: MaskLog, frame: Frame) -> dict[str, Any]:
        """Return what is written beside the mask of a frame: how it was made, its objects and the user's part."""
        return sidecar(self._known(image, log, frame), log.pixels(frame), log.layer.features)

    def _known(self, image: Image, log: MaskLog, frame: Frame) -> dict[str, Any]:
        made = describe(log.origins(frame), log.edited(frame))
        # a run knows its image better: also its pixels' hash
        return {
            "image": about_image(image),
            **made,
            "strokes": log.locked(frame),
            "seconds": self._clock.tick(image, frame),
        }
