"""From an image layer to a prediction to labels: the controller, without Qt and without torch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels
from numpy.typing import NDArray

import lsegdiff_core
from lsegdiff_core.config import MorphologyConfig
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.prediction import Prediction
from napari_lsegdiff._frames import Frame, current_frame, new_labels, read_frame
from napari_lsegdiff._layers import MaskLog

# Frames whose probability is kept for the sliders; a frame of 4000 x 3000 takes 48 MB.
KEPT_PREDICTIONS = 8
# Where a Labels layer's metadata says how its frames were made, for the writer.
METADATA = "lsegdiff"


@dataclass(frozen=True)
class Job:
    """One frame of one image layer, to be segmented."""

    image: Image
    frame: Frame
    name: str

    def read(self) -> NDArray[np.generic]:
        """Return the frame's pixels; may be slow for a lazy stack."""
        return read_frame(self.image, self.frame)


@dataclass(frozen=True)
class Refined:
    """A mask that is ready to be shown: ``labels`` (H, W) uint8 with its provenance."""

    image: Image
    frame: Frame
    labels: NDArray[np.uint8]
    provenance: dict[str, Any]


class Session:
    """Predictions and masks of the image layers of a viewer.

    Parameters
    ----------
    viewer
        A viewer or a bare ViewerModel.
    changed
        Called after a stroke, an undo or a redo on one of the masks.
    """

    def __init__(self, viewer: ViewerModel, changed: Callable[[], None] = lambda: None) -> None:
        self._viewer = viewer
        self._changed = changed
        self._masks: dict[Image, MaskLog] = {}
        self._predictions: OrderedDict[tuple[Image, Frame], Prediction] = OrderedDict()
        viewer.layers.events.removed.connect(self._on_removed)

    def close(self) -> None:
        """Stop listening to the viewer; the layers stay."""
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        for log in self._masks.values():
            log.close()
        self._masks.clear()
        self._predictions.clear()

    def job(self, image: Image) -> Job:
        """Return what a run would segment now: the frame of ``image`` on the canvas.

        Raises
        ------
        LSegDiffError
            If the layer was removed or is not made of pictures.
        """
        if image not in self._viewer.layers:
            raise LSegDiffError(f"{image.name}: the layer was removed; choose another image")
        return Job(image, current_frame(self._viewer, image), image.name)

    def accept(self, job: Job, prediction: Prediction) -> bool:
        """Keep a prediction for the sliders; False if its image is gone meanwhile."""
        if job.image not in self._viewer.layers:
            return False
        key = (job.image, job.frame)
        self._predictions[key] = prediction
        self._predictions.move_to_end(key)
        while len(self._predictions) > KEPT_PREDICTIONS:
            self._predictions.popitem(last=False)
        return True

    def refinement(self, image: Image, frame: Frame, morphology: MorphologyConfig) -> Callable[[], Refined] | None:
        """Return a function, safe in any thread, that makes the mask; None without a prediction of the frame."""
        prediction = self._predictions.get((image, frame))
        if prediction is None:
            return None
        refined = prediction.refined(morphology)
        return lambda: Refined(image, frame, refined.labels, refined.provenance)

    def write(self, refined: Refined, merge: Hashable = None) -> bool:
        """Show a mask in the image's Labels layer, which is made when there is none.

        Parameters
        ----------
        refined
            What to show; the user's strokes stay above it.
        merge
            Writes in a row with the same value make one undo item.

        Returns
        -------
        bool
            False while the user is drawing: try again when the mouse is released.
        """
        if refined.image not in self._viewer.layers:
            return True
        log = self._log(refined.image)
        if log is None:
            self._create(refined)
            return True
        if log.busy:
            return False
        log.write(refined.frame, refined.labels, refined.provenance, merge)
        self._describe(log, [refined.frame])
        return True

    def mask_layer(self, image: Image) -> Labels | None:
        """Return the Labels layer that holds the image's mask."""
        log = self._log(image)
        return None if log is None else log.layer

    def image_of(self, labels: object) -> Image | None:
        """Return the image whose mask ``labels`` is."""
        return next((image for image, log in self._masks.items() if log.layer is labels), None)

    def provenance(self, image: Image, frame: Frame) -> dict[str, Any] | None:
        """Return how the mask on show was made, with ``edited``; None without one."""
        log = self._log(image)
        source = None if log is None else log.source(frame)
        return None if log is None or source is None else {**source, "edited": log.edited(frame)}

    def forget_strokes(self, image: Image) -> bool:
        """Drop the user's strokes on the current frame and show the model's mask; False if there is nothing to drop."""
        log = self._log(image)
        frame = current_frame(self._viewer, image)
        if log is None or log.busy or not log.edited(frame):
            return False
        source = log.source(frame) or {}
        prediction = self._predictions.get((image, frame))
        pure = None
        if prediction is not None and "morphology" in source:
            pure = prediction.refined(MorphologyConfig(**source["morphology"])).labels
        log.forget(frame, pure)
        self._describe(log, [frame])
        return True

    def export(self, image: Image, path: Path, format: str) -> None:
        """Write the current frame of the image's mask to ``path``.

        Raises
        ------
        LSegDiffError
            If there is no mask or the file cannot be written.
        """
        log = self._log(image)
        if log is None:
            raise LSegDiffError(f"{image.name}: has no mask yet; press Run first")
        from lsegdiff_core.export import export_labels

        frame = current_frame(self._viewer, image)
        provenance = self.provenance(image, frame) or unknown_provenance()
        export_labels(log.pixels(frame).copy(), path, format, provenance)

    def _log(self, image: Image) -> MaskLog | None:
        log = self._masks.get(image)
        if log is not None and not log.usable:
            log.close()
            del self._masks[image]
            return None
        return log

    def _create(self, refined: Refined) -> None:
        image, viewer = refined.image, self._viewer
        labels = new_labels(image, refined.frame, refined.labels)

        def frame_on_canvas() -> Frame | None:
            try:
                return current_frame(viewer, labels)
            except LSegDiffError:
                return None

        log = MaskLog(labels, frame_on_canvas, lambda frames: self._on_edited(log, frames))
        log.adopt(refined.frame, refined.provenance)
        self._masks[image] = log
        viewer.add_layer(labels)
        self._describe(log, [refined.frame])

    def _on_edited(self, log: MaskLog, frames: list[Frame]) -> None:
        self._describe(log, frames)
        self._changed()

    def _describe(self, log: MaskLog, frames: list[Frame]) -> None:
        """Keep the layer's metadata true, so that the writer knows how each frame was made."""
        known = log.layer.metadata.setdefault(METADATA, {})
        for frame in frames:
            known[frame] = {**(log.source(frame) or unknown_provenance()), "edited": log.edited(frame)}

    def _on_removed(self, event: Any) -> None:
        gone = event.value
        for image, log in list(self._masks.items()):
            if gone is image or gone is log.layer:
                log.close()
                del self._masks[image]
        for key in [key for key in self._predictions if key[0] is gone]:
            del self._predictions[key]


def unknown_provenance() -> dict[str, Any]:
    """Return what is known of a mask that no prediction made."""
    return {"versions": {"napari-lsegdiff": lsegdiff_core.__version__, "numpy": np.__version__}}
