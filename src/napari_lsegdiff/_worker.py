"""What runs beside the window: segmentation and refinement; torch is loaded here and nowhere else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from napari.qt.threading import create_worker
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from lsegdiff_core.bundle import bundle_hash, find_bundle
from lsegdiff_core.config import SamplingConfig
from lsegdiff_core.data.geometry import Geometry
from lsegdiff_core.data.images import pixel_hash
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.hints import Hints
from lsegdiff_core.memory import ran_out_of_memory, release_memory
from lsegdiff_core.prediction import Prediction

if TYPE_CHECKING:
    from lsegdiff_core.predictor import Predictor

logger = logging.getLogger(__name__)

# Seconds until the first picture of the mask while it forms, and between two: a short run needs none, making the layer
# would take longer than the run, and drawing every step cost more than the sampling.
PREVIEW_AFTER, PREVIEW_EVERY = 0.5, 0.1
# Encoded images that are kept: the one on the canvas, and the one that is made ready meanwhile.
KEPT_IMAGES = 2
OUT_OF_MEMORY = "Out of memory: close other programs or images, then run again"
ON_THE_CPU = "on the CPU, since the GPU's memory did not suffice"


class Stage(NamedTuple):
    """What happens next; ``done`` of ``total`` sampler steps, 0 of 0 when that is not known."""

    text: str
    done: int = 0
    total: int = 0


class Devices(NamedTuple):
    """The devices of this machine, known once torch is loaded."""

    names: list[str]


class Preview(NamedTuple):
    """The first seed's estimate so far, (S, S) float32 in [0, 1], and where the square lies in the image."""

    square: NDArray[np.float32]
    geometry: Geometry


class Finished(NamedTuple):
    """The run's result, and what the user should know of how it came about."""

    prediction: Prediction
    note: str = ""


class Failed(NamedTuple):
    """One ``line`` for the user and the whole story."""

    line: str
    details: str

    @classmethod
    def of(cls, error: Exception) -> Failed:
        """Put an exception into words; nothing of it is kept, its traceback would hold the networks' memory."""
        details = f"{type(error).__name__}: {error}"
        if isinstance(error, LSegDiffError):
            logger.info("Refused: the dock says why, for this log names no images")
            return cls(" ".join(str(error).split()), details)
        logger.error("Failed: %s", details)
        if ran_out_of_memory(error):
            return cls(OUT_OF_MEMORY, details)
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
        return cls(f"Failed: {first} ({type(error).__name__})", details)


Update = Stage | Devices | Preview | Finished | Failed


class Source(Protocol):
    """Something with a name that an image can be read from."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def read(self) -> NDArray[np.generic]:
        """Return the pixels."""


@dataclass(frozen=True)
class Request:
    """One run as the user asked for it; ``bundle`` is a name or a folder."""

    job: Source
    bundle: str
    device: str
    sampling: SamplingConfig
    hints: Hints | None = None


class PredictorCache:
    """Keeps one predictor for each bundle and device, and knows which image each has encoded."""

    def __init__(self) -> None:
        self._predictors: dict[Hashable, Predictor] = {}
        self._images: dict[Predictor, dict[Hashable, object]] = {}

    def predictor(self, bundle: str, device: str) -> Predictor:
        """Return the predictor; loads torch and the weights the first time."""
        folder = find_bundle(bundle)
        # the hash is part of the key: a bundle that was trained anew in place is another bundle
        key = (folder, bundle_hash(folder), device)
        if key not in self._predictors:
            from lsegdiff_core.predictor import Predictor

            made = self._predictors[key] = Predictor(bundle, device)
            logger.info("Loaded %s (%s…) on %s", made.identity["name"], made.identity["sha256"][:8], made.device)
        return self._predictors[key]

    def clear(self) -> None:
        """Forget every predictor and give its memory back; not while one is at work."""
        self._predictors.clear()
        self._images.clear()
        release_memory()
        logger.info("Unloaded the model")

    def encode(self, predictor: Predictor, image: NDArray[np.generic], name: str) -> None:
        """Give the predictor an image, unless it is one of the last that it had."""
        key = (name, image.shape, image.dtype.str, pixel_hash(image))
        known = self._images.setdefault(predictor, {})
        if key in known:
            predictor.encoded = known[key]
            return
        predictor.set_image(image, name)
        known[key] = predictor.encoded
        while len(known) > KEPT_IMAGES:
            del known[next(iter(known))]


def segment(cache: PredictorCache, request: Request) -> Generator[Update, None, None]:
    """Segment one frame; every ``yield`` is a place where the worker can be stopped.

    When a GPU has too little memory even for one sample at a time, the run is done on the CPU; the next one tries the
    GPU again. Failures are yielded: a napari generator worker that raises RuntimeError never says that it ended, and
    most of torch's errors are RuntimeErrors.
    """
    try:
        try:
            yield from _segment(cache, request)
            return
        except Exception as error:
            if not ran_out_of_memory(error) or _on_cpu(request.device):
                raise
        # only out here is the failed run's memory free: the exception's traceback held it
        logger.warning("Out of memory on the GPU: going on on the CPU")
        release_memory()
        yield Stage("The GPU's memory does not suffice: once more on the CPU…")
        yield from _segment(cache, replace(request, device="cpu"), ON_THE_CPU)
    except Exception as error:
        yield Failed.of(error)


def _segment(cache: PredictorCache, request: Request, note: str = "") -> Generator[Update, None, None]:
    yield Stage("Loading the model…")
    predictor = cache.predictor(request.bundle, request.device)
    from lsegdiff_core.devices import available_devices

    yield Devices(available_devices())
    yield Stage("Reading the image…")
    image = request.job.read()
    yield Stage("Looking at the image…")
    started = monotonic()
    cache.encode(predictor, image, request.job.name)
    sampling = request.sampling
    yield Stage("Sampling…", 0, sampling.total_steps)
    run = predictor.steps(sampling, request.hints)
    due = monotonic() + PREVIEW_AFTER
    while True:
        try:
            progress = next(run)
        except StopIteration as end:
            prediction = end.value
            break
        # in all: each view of the image takes the steps that the user chose
        yield Stage(f"Sampling… {progress.done / progress.total:.0%}", progress.done, progress.total)
        if monotonic() > due and progress.done < progress.total:
            yield Preview(progress.estimate(), progress.geometry)
            due = monotonic() + PREVIEW_EVERY
    source, seeds = prediction.source, len(prediction.source["sampling"]["seeds"])
    if source["batch"] < seeds and source["device"] != "cpu":
        note = f"{source['batch']} of {seeds} samples at once, since the GPU's memory did not suffice"
    height, width = prediction.probability.shape
    logger.info(
        "Segmented %d x %d pixels on %s in %.2f s: seeds %d, each %d steps of %s, mirror %s, zoom %s%s",
        *(width, height, source["device"], monotonic() - started, seeds, sampling.steps, sampling.sampler),
        *("on" if chosen else "off" for chosen in (sampling.flip, sampling.zoom)),
        f"; {note}" if note else "",
    )
    yield Finished(prediction, note)


def _on_cpu(device: str) -> bool:
    from lsegdiff_core.devices import resolve_device

    return resolve_device(device).type == "cpu"


class NewestWins(QObject):
    """Runs one short function at a time beside the window; of those that wait under one key, only the newest.

    ``done`` carries the function's result, or a `Failed`, and the tag that came with it.
    """

    done = Signal(object, object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._waiting: dict[Hashable, tuple[Callable[[], Any], object]] = {}
        self._running = False
        self._closed = False

    @property
    def idle(self) -> bool:
        """True when nothing runs and nothing waits."""
        return not self._running and not self._waiting

    def request(self, key: Hashable, function: Callable[[], Any], tag: object = None) -> None:
        """Run ``function`` soon, instead of whatever still waits under ``key``."""
        self._waiting[key] = (function, tag)
        if not self._running:
            self._start()

    def close(self) -> None:
        """Forget what waits and report nothing any more."""
        self._closed = True
        self._waiting.clear()

    def _start(self) -> None:
        key = next(iter(self._waiting))
        self._running = True
        # napari's list of tasks never lets go of a worker, so it must hold nothing large when its work is done; this is
        # let go in the window's thread, for it may hold a widget
        work = [self._waiting.pop(key)]
        worker = create_worker(_attempt, work)
        worker.returned.connect(self._on_returned)
        worker.finished.connect(lambda: work.clear())
        worker.start()

    def _on_returned(self, outcome: tuple[Any, object]) -> None:
        self._running = False
        if self._closed:
            return
        self.done.emit(*outcome)
        if self._waiting and not self._running:
            self._start()


def _attempt(work: list[tuple[Callable[[], Any], object]]) -> tuple[Any, object]:
    ((function, tag),) = work
    try:
        return function(), tag
    except Exception as error:
        return Failed.of(error), tag
