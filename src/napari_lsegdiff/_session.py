"""From an image layer to a prediction to labels: the controller, without Qt and without torch."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels
from numpy.typing import NDArray

from lsegdiff_core.classes import ObjectClass
from lsegdiff_core.config import MorphologyConfig, SamplingConfig, from_dict
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.hints import BACKGROUND, FOREGROUND, NONE, Hints
from lsegdiff_core.journal import Journal
from lsegdiff_core.journal_format import Recovered, smallest_type
from lsegdiff_core.morphology import components
from lsegdiff_core.prediction import Prediction
from napari_lsegdiff._autosave import Autosave
from napari_lsegdiff._clock import WorkClock
from napari_lsegdiff._frames import Frame, check_fit, current_frame, frame_shape, new_labels, widen
from napari_lsegdiff._jobs import Job, Refined
from napari_lsegdiff._layers import UNLOCKED, MaskLog, Origins, check_number
from napari_lsegdiff._objects import METADATA, Origin, describe, list_objects, sidecar, unknown_provenance

T = TypeVar("T")

# Runs whose probability is kept for the sliders and for undo; one of a 4000 x 3000 frame takes 96 MB.
KEPT_PREDICTIONS = 8


class Session:
    """Predictions and masks of the image layers of a viewer.

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

    def __init__(
        self,
        viewer: ViewerModel,
        changed: Callable[[Image, bool], None] = lambda image, painted: None,
        journal: Journal | None = None,
    ) -> None:
        self._viewer = viewer
        self._changed = changed
        self.classes: Sequence[ObjectClass] = ()
        self._autosave = Autosave(journal)
        self._clock = WorkClock()
        self._masks: dict[Image, MaskLog] = {}
        self._predictions: OrderedDict[int, tuple[Image, Prediction]] = OrderedDict()
        self._runs = 0
        viewer.layers.events.removed.connect(self._on_removed)

    def close(self) -> None:
        """Stop listening to the viewer; the layers stay."""
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        for log in self._masks.values():
            log.close()
        self._autosave.close()
        self._masks.clear()
        self._predictions.clear()

    # a run

    def job(self, image: Image) -> Job:
        """Return what a run would segment now: the selected object in the frame of ``image`` on the canvas.

        Raises
        ------
        LSegDiffError
            If the layer was removed or is not made of pictures.
        """
        if image not in self._viewer.layers:
            raise LSegDiffError(f"{image.name}: the layer was removed; choose another image")
        return Job(image, current_frame(self._viewer, image), self.selected(image), image.name)

    def selected(self, image: Image) -> int:
        """Return the id of the object that the user works on: the label chosen in the mask's layer, 1 at first."""
        log = self._log(image)
        return 1 if log is None else log.number

    def hints(self, job: Job, drawn: NDArray[np.uint8] | None = None) -> Hints:
        """Return all that the user has said of the object: strokes, ``drawn`` below them, and the mask on show.

        Pixels of other objects are background.

        Parameters
        ----------
        job
            Which object.
        drawn
            (H, W) uint8 as `Hints.locked`: what points and boxes say.
        """
        shape = frame_shape(job.image)
        locked = np.full(shape, NONE, np.uint8) if drawn is None else drawn.copy()
        log = self._log(job.image)
        if log is None:
            return Hints(locked)
        strokes = log.locked(job.frame)
        if strokes is not None:
            locked[strokes != UNLOCKED] = BACKGROUND
            locked[strokes == job.number] = FOREGROUND
        locked[self._others(log, job)] = BACKGROUND
        current = log.pixels(job.frame) == job.number
        # an empty mask counts if the model made it; an object that nobody asked for has none
        return Hints(locked, current if current.any() or self._origin(job) is not None else None)

    def neighbours(self, job: Job) -> Hints | None:
        """Return that other objects' pixels are background, for a run that asks for nothing else; None without any."""
        log = self._log(job.image)
        others = None if log is None else self._others(log, job)
        return None if others is None or not others.any() else Hints(np.where(others, np.uint8(BACKGROUND), NONE))

    def _others(self, log: MaskLog, job: Job) -> NDArray[np.bool_]:
        pixels = log.pixels(job.frame)
        others: NDArray[np.bool_] = (pixels != 0) & (pixels != job.number)
        return others

    def accept(self, job: Job, prediction: Prediction) -> int | None:
        """Keep a prediction for the sliders and return its number; None if its image is gone meanwhile."""
        if job.image not in self._viewer.layers:
            return None
        self._runs += 1
        self._predictions[self._runs] = (job.image, prediction)
        while len(self._predictions) > KEPT_PREDICTIONS:
            self._predictions.popitem(last=False)
        return self._runs

    # what is shown

    def kept(self, run: int | None) -> Prediction | None:
        """Return the prediction of a run, if it is still at hand."""
        return self._predictions[run][1] if run is not None and run in self._predictions else None

    def run(self, job: Job) -> int | None:
        """Return the number of the run that made the object on show; None if none did."""
        origin = self._origin(job)
        return None if origin is None else origin.run

    def refinement(
        self, job: Job, morphology: MorphologyConfig, run: int | None = None
    ) -> Callable[[], Refined] | None:
        """Return a function, safe in any thread, that makes the mask of a run, by default of that on show.

        None if its prediction is not at hand.
        """
        run = self.run(job) if run is None else run
        prediction = self.kept(run)
        if prediction is None:
            return None
        refined = prediction.refined(morphology)
        made = Origin(run, refined.provenance)
        return lambda: Refined(job, refined.mask, made)

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
        if refined.job.image not in self._viewer.layers:
            return True
        log = self._log(refined.job.image)
        frame, number = refined.job.frame, refined.job.number
        if log is None:
            check_number(number, np.dtype(np.uint8))
            pixels = refined.mask.astype(np.uint8) * np.uint8(number)
            log = self._create(refined.job.image, frame, pixels, None, {number: refined.origin})
        elif log.busy:
            return False
        else:
            log.write(frame, refined.mask, number, refined.origin, merge)
        classes = refined.origin.provenance.get("classes")
        list_objects(log.layer, [number], classes[0] if classes else None, classes=self.classes)
        self._note(refined.job.image, log, [frame])
        return True

    def draw(self, job: Job, mask: NDArray[np.bool_]) -> bool:
        """Make a mask (H, W) that the user outlined the object's current one; False while the user is drawing."""
        return self.write(Refined(job, mask, Origin(None, unknown_provenance())))

    def adopt(
        self,
        image: Image,
        frame: Frame,
        labels: NDArray[np.integer],
        locked: NDArray[np.int32] | None = None,
        origins: Mapping[int, Mapping[str, Any]] | None = None,
        features: Iterable[Mapping[str, Any]] = (),
        seconds: float = 0.0,
    ) -> None:
        """Give a frame a mask from before, strokes and all, as if it had been there ever since.

        The image's Labels layer is made when there is none. A frame that holds something else by now is changed by one
        undo item.

        Parameters
        ----------
        image, frame
            Whose mask it is.
        labels
            (H, W) object ids.
        locked
            (H, W) int32, the user's strokes: the id that was drawn, 0 for erased, `UNLOCKED` elsewhere.
        origins
            Provenance of each object that a model made, by id; the probability of such a run is gone.
        features
            Rows of the table of objects (index, class, name, colour); those of known objects stay as they are.
        seconds
            Time that the user has spent on it.

        Raises
        ------
        LSegDiffError
            If the layer was removed, the mask does not fit it, or the user is drawing on it.
        """
        if image not in self._viewer.layers:
            raise LSegDiffError(f"{image.name}: the layer was removed; open the image again")
        for array in (labels, locked):
            if array is not None:
                check_fit(image, frame, array)
        log = self._log(image)
        dtype = np.promote_types(smallest_type(labels), np.uint8 if locked is None else smallest_type(locked.clip(0)))
        made: Origins = {number: Origin(None, dict(origin)) for number, origin in (origins or {}).items()}
        if log is None:
            log = self._create(image, frame, labels.astype(dtype), locked, made)
        elif log.busy:
            raise LSegDiffError(f"{image.name}: is being drawn on; end the stroke first")
        else:
            widen(log.layer, dtype)
            log.adopt(frame, labels, locked, made)
        numbers = np.unique(labels).tolist()
        list_objects(log.layer, numbers, rows=features, classes=self.classes)
        self._clock.start(image, frame, seconds)
        self._note(image, log, [frame])

    def spent(self, job: Job) -> float:
        """Return the seconds that the user has spent on the job's frame until now."""
        return self._clock.tick(job.image, job.frame)

    def start(self, job: Job, seconds: float) -> None:
        """Begin to count the time that the user spends on the job's frame, from ``seconds`` on."""
        self._clock.start(job.image, job.frame, seconds)

    @property
    def recording(self) -> bool:
        """Whether every change of the masks is being written down."""
        return self._autosave.recording

    def keep(self, labels: Labels, recovered: Iterable[Recovered]) -> None:
        """Record the masks of a layer whose image is not at hand, until the layer is removed."""
        self._autosave.keep(labels, recovered)

    def mask_layer(self, image: Image) -> Labels | None:
        """Return the Labels layer that holds the image's mask."""
        log = self._log(image)
        return None if log is None else log.layer

    def busy(self, image: Image) -> bool:
        """Whether the user is drawing on the image's mask at this moment."""
        log = self._log(image)
        return log is not None and log.busy

    def image_of(self, labels: object) -> Image | None:
        """Return the image whose mask ``labels`` is."""
        return next((image for image, log in self._masks.items() if log.layer is labels), None)

    def strokes(self, job: Job) -> NDArray[np.int32] | None:
        """Return the user's pixels (H, W), `UNLOCKED` elsewhere; None without any."""
        log = self._log(job.image)
        return None if log is None else log.locked(job.frame)

    def morphology(self, job: Job) -> MorphologyConfig | None:
        """Return how the object on show was refined; None if no model made it, or nobody knows."""
        return self._made(job, "morphology", MorphologyConfig)

    def sampling(self, job: Job) -> SamplingConfig | None:
        """Return how the object on show was sampled; None if no model made it, or nobody knows."""
        return self._made(job, "sampling", SamplingConfig)

    def _made(self, job: Job, part: str, config: type[T]) -> T | None:
        origin = self._origin(job)
        known = None if origin is None else origin.provenance.get(part)
        try:
            return None if known is None else from_dict(config, known)
        except LSegDiffError:  # another version wrote it, or somebody by hand
            return None

    def edited(self, job: Job) -> bool:
        """Whether the user changed anything in the frame."""
        log = self._log(job.image)
        return log is not None and log.edited(job.frame)

    def provenance(self, image: Image, frame: Frame) -> dict[str, Any] | None:
        """Return how the masks on show were made, with the objects and the user's part; None without any."""
        log = self._log(image)
        return None if log is None or not log.origins(frame) else self._sidecar(image, log, frame)

    # what the user asks for beside a run

    def forget_strokes(self, job: Job) -> bool:
        """Drop the user's strokes on the frame and show the model's masks; False if there is nothing to drop."""
        log = self._log(job.image)
        if log is None or log.busy or not log.edited(job.frame):
            return False
        labels, strokes = log.pixels(job.frame).copy(), log.locked(job.frame)
        origins = dict(log.origins(job.frame))
        kept = {number: self.kept(origin.run) for number, origin in origins.items()}
        if strokes is not None and all(kept.values()):
            labels[strokes != UNLOCKED] = 0
        for number, prediction in kept.items():
            if prediction is not None:
                morphology = MorphologyConfig(**origins[number].provenance["morphology"])
                pure = prediction.without_strokes().refined(morphology)
                # a run of its own, or a slider would bring the strokes back
                origins[number] = Origin(self.accept(job, pure), pure.provenance)
                labels[labels == number] = 0
                labels[pure.mask & (labels == 0)] = number
        log.forget(job.frame, labels, origins)
        self._note(job.image, log, [job.frame])
        return True

    def split(self, job: Job) -> int:
        """Make each part of the object an object of its own, as one undo item; return the number of parts.

        The largest part keeps the id; the others get the next free ones.
        """
        log = self._log(job.image)
        if log is None or log.busy:
            return 0
        pixels = log.pixels(job.frame)
        parts, count = components(pixels == job.number)
        if count < 2:
            return count
        used = {job.number, *log.origins(job.frame), *np.flatnonzero(np.bincount(pixels.ravel())).tolist()}
        used |= set(log.layer.features.get("index", ()))
        free = itertools.islice((number for number in itertools.count(1) if number not in used), count - 1)
        numbers = [0, job.number, *free]
        origins = dict(log.origins(job.frame))
        if job.number in origins:
            # the run's probability holds all parts: a slider would let each grow over the others
            origins |= dict.fromkeys(numbers[1:], Origin(None, origins[job.number].provenance))
        log.relabel(job.frame, np.where(parts > 0, np.array(numbers)[parts], pixels), origins)
        list_objects(log.layer, numbers[2:], classes=self.classes)
        self._note(job.image, log, [job.frame])
        return count

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
        export_labels(log.pixels(frame).copy(), path, format, self._sidecar(image, log, frame))

    # within

    def _log(self, image: Image) -> MaskLog | None:
        log = self._masks.get(image)
        if log is not None and not log.usable:
            log.close()
            del self._masks[image]
            return None
        return log

    def _origin(self, job: Job) -> Origin | None:
        log = self._log(job.image)
        return None if log is None else log.origins(job.frame).get(job.number)

    def _create(
        self,
        image: Image,
        frame: Frame,
        pixels: NDArray[np.integer],
        locked: NDArray[np.int32] | None,
        origins: Origins,
    ) -> MaskLog:
        viewer, labels = self._viewer, new_labels(image, frame, pixels)

        def frame_on_canvas() -> Frame | None:
            try:
                return current_frame(viewer, labels)
            except LSegDiffError:
                return None

        def on_changed(frames: list[Frame], numbers: set[int], painted: bool) -> None:
            list_objects(labels, numbers, classes=self.classes)
            self._note(image, log, frames)
            self._changed(image, painted)

        log = MaskLog(labels, frame_on_canvas, on_changed, self._autosave.follow(image, labels))
        log.adopt(frame, pixels, locked, origins)
        self._masks[image] = log
        viewer.add_layer(labels)
        return log

    def _note(self, image: Image, log: MaskLog, frames: list[Frame]) -> None:
        """Keep the layer's metadata true, so that the writer knows how each frame was made."""
        known = log.layer.metadata.setdefault(METADATA, {})
        for frame in frames:
            known[frame] = self._known(image, log, frame)

    def _known(self, image: Image, log: MaskLog, frame: Frame) -> dict[str, Any]:
        made = describe(log.origins(frame), log.edited(frame))
        return {**made, "strokes": log.locked(frame), "seconds": self._clock.tick(image, frame)}

    def _sidecar(self, image: Image, log: MaskLog, frame: Frame) -> dict[str, Any]:
        return sidecar(self._known(image, log, frame), log.pixels(frame), log.layer.features)

    def _on_removed(self, event: Any) -> None:
        gone = event.value
        self._autosave.forget(gone)
        self._clock.forget(gone)
        for image, log in list(self._masks.items()):
            if gone is image or gone is log.layer:
                log.close()
                del self._masks[image]
        for run in [run for run, (image, _) in self._predictions.items() if image is gone]:
            del self._predictions[run]
