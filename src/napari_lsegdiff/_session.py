"""From an image layer to a prediction to labels: the controller, without Qt and without torch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels
from numpy.typing import NDArray

from lsegdiff_core.classes import ObjectClass
from lsegdiff_core.config import MorphologyConfig, SamplingConfig
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.hints import BACKGROUND, FOREGROUND, NONE, Hints
from lsegdiff_core.journal import Journal
from lsegdiff_core.journal_format import Recovered, smallest_type
from lsegdiff_core.morphology import components
from lsegdiff_core.prediction import Prediction
from napari_lsegdiff._frames import Frame, check_fit, current_frame, file_name, frame_shape, widen
from napari_lsegdiff._jobs import Job, Refined
from napari_lsegdiff._layers import UNLOCKED, MaskLog, Origins, check_number
from napari_lsegdiff._mask_layers import MaskLayers
from napari_lsegdiff._objects import Origin, list_objects, unknown_provenance
from napari_lsegdiff._runs import Runs


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
    """

    def __init__(
        self,
        viewer: ViewerModel,
        changed: Callable[[Image, bool], None] = lambda image, painted: None,
        journal: Journal | None = None,
    ) -> None:
        self._viewer = viewer
        self._masks = MaskLayers(viewer, changed, journal)
        self._runs = Runs()
        viewer.layers.events.removed.connect(self._on_removed)

    def close(self) -> None:
        """Stop listening to the viewer; the layers stay."""
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._masks.close()
        self._runs.clear()

    @property
    def classes(self) -> Sequence[ObjectClass]:
        """What objects can be; empty as long as no project says so."""
        return self._masks.classes

    @classes.setter
    def classes(self, classes: Sequence[ObjectClass]) -> None:
        self._masks.classes = classes

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
        return Job(image, current_frame(self._viewer, image), self.selected(image), file_name(image))

    def selected(self, image: Image) -> int:
        """Return the id of the object that the user works on: the label chosen in the mask's layer, 1 at first."""
        log = self._masks.log(image)
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
        log = self._masks.log(job.image)
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
        log = self._masks.log(job.image)
        others = None if log is None else self._others(log, job)
        return None if others is None or not others.any() else Hints(np.where(others, np.uint8(BACKGROUND), NONE))

    def _others(self, log: MaskLog, job: Job) -> NDArray[np.bool_]:
        pixels = log.pixels(job.frame)
        others: NDArray[np.bool_] = (pixels != 0) & (pixels != job.number)
        return others

    def accept(self, job: Job, prediction: Prediction) -> int | None:
        """Keep a prediction for the sliders and return its number; None if its image is gone meanwhile."""
        return self._runs.add(job.image, prediction) if job.image in self._viewer.layers else None

    # what is shown

    def kept(self, run: int | None) -> Prediction | None:
        """Return the prediction of a run, if it is still at hand."""
        return self._runs.prediction(run)

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
        log = self._masks.log(refined.job.image)
        frame, number = refined.job.frame, refined.job.number
        if log is None:
            check_number(number, np.dtype(np.uint8))
            pixels = refined.mask.astype(np.uint8) * np.uint8(number)
            log = self._masks.create(refined.job.image, frame, pixels, None, {number: refined.origin})
        elif log.busy:
            return False
        else:
            log.write(frame, refined.mask, number, refined.origin, merge)
        classes = refined.origin.provenance.get("classes")
        list_objects(log.layer, [number], classes[0] if classes else None, classes=self.classes)
        self._masks.note(refined.job.image, log, [frame])
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
        log = self._masks.log(image)
        dtype = np.promote_types(smallest_type(labels), np.uint8 if locked is None else smallest_type(locked.clip(0)))
        made: Origins = {number: Origin(None, dict(origin)) for number, origin in (origins or {}).items()}
        if log is None:
            log = self._masks.create(image, frame, labels.astype(dtype), locked, made)
        elif log.busy:
            raise LSegDiffError(f"{image.name}: is being drawn on; end the stroke first")
        else:
            widen(log.layer, dtype)
            log.adopt(frame, labels, locked, made)
        numbers = np.unique(labels).tolist()
        list_objects(log.layer, numbers, rows=features, classes=self.classes)
        self._masks.start(image, frame, seconds)
        self._masks.note(image, log, [frame])

    def spent(self, job: Job) -> float:
        """Return the seconds that the user has spent on the job's frame until now."""
        return self._masks.spent(job.image, job.frame)

    def start(self, job: Job, seconds: float) -> None:
        """Begin to count the time that the user spends on the job's frame, from ``seconds`` on."""
        self._masks.start(job.image, job.frame, seconds)

    @property
    def recording(self) -> bool:
        """Whether every change of the masks is being written down."""
        return self._masks.recording

    def keep(self, labels: Labels, recovered: Iterable[Recovered]) -> None:
        """Record the masks of a layer whose image is not at hand, until the layer is removed."""
        self._masks.keep(labels, recovered)

    def hold(self, labels: Labels) -> None:
        """Leave a mask in the journal when its layer goes: it could not be saved."""
        self._masks.hold(labels)

    def mask_layer(self, image: Image) -> Labels | None:
        """Return the Labels layer that holds the image's mask."""
        log = self._masks.log(image)
        return None if log is None else log.layer

    def busy(self, image: Image) -> bool:
        """Whether the user is drawing on the image's mask at this moment."""
        log = self._masks.log(image)
        return log is not None and log.busy

    def image_of(self, labels: object) -> Image | None:
        """Return the image whose mask ``labels`` is."""
        return self._masks.image_of(labels)

    def strokes(self, job: Job) -> NDArray[np.int32] | None:
        """Return the user's pixels (H, W), `UNLOCKED` elsewhere; None without any."""
        log = self._masks.log(job.image)
        return None if log is None else log.locked(job.frame)

    def morphology(self, job: Job) -> MorphologyConfig | None:
        """Return how the object on show was refined; None if no model made it, or nobody knows."""
        origin = self._origin(job)
        return None if origin is None else origin.config("morphology", MorphologyConfig)

    def sampling(self, job: Job) -> SamplingConfig | None:
        """Return how the object on show was sampled; None if no model made it, or nobody knows."""
        origin = self._origin(job)
        return None if origin is None else origin.config("sampling", SamplingConfig)

    def bundle(self, job: Job) -> tuple[str, str] | None:
        """Return name and sha256 of the model that made the object on show; None if none did, or nobody knows."""
        origin = self._origin(job)
        return None if origin is None else origin.bundle

    def edited(self, job: Job) -> bool:
        """Whether the user changed anything in the frame."""
        log = self._masks.log(job.image)
        return log is not None and log.edited(job.frame)

    def provenance(self, image: Image, frame: Frame) -> dict[str, Any] | None:
        """Return how the masks on show were made, with the objects and the user's part; None without any."""
        log = self._masks.log(image)
        return None if log is None or not log.origins(frame) else self._masks.sidecar(image, log, frame)

    # what the user asks for beside a run

    def forget_strokes(self, job: Job) -> bool:
        """Drop the user's strokes on the frame and show the model's masks; False if there is nothing to drop."""
        log = self._masks.log(job.image)
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
        self._masks.note(job.image, log, [job.frame])
        return True

    def split(self, job: Job) -> int:
        """Make each part of the object an object of its own, as one undo item; return the number of parts.

        The largest part keeps the id; the others get the next free ones.
        """
        log = self._masks.log(job.image)
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
        self._masks.note(job.image, log, [job.frame])
        return count

    def export(self, image: Image, path: Path, format: str) -> None:
        """Write the current frame of the image's mask to ``path``.

        Raises
        ------
        LSegDiffError
            If there is no mask or the file cannot be written.
        """
        log = self._masks.log(image)
        if log is None:
            raise LSegDiffError(f"{image.name}: has no mask yet; press Run first")
        from lsegdiff_core.export import export_labels

        frame = current_frame(self._viewer, image)
        export_labels(log.pixels(frame).copy(), path, format, self._masks.sidecar(image, log, frame))

    # within

    def _origin(self, job: Job) -> Origin | None:
        log = self._masks.log(job.image)
        return None if log is None else log.origins(job.frame).get(job.number)

    def _on_removed(self, event: Any) -> None:
        self._masks.forget(event.value)
        self._runs.forget(event.value)
