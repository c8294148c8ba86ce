"""What the queue does ahead of the user: reading the next image, segmenting it, and scoring all others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from lsegdiff_core.config import MorphologyConfig, SamplingConfig
from lsegdiff_core.hypotheses import disagreement
from lsegdiff_core.prediction import Prediction
from lsegdiff_core.project import Project
from lsegdiff_core.project_file import Item
from lsegdiff_core.saved import Saved
from napari_lsegdiff._choices import ModelChoice
from napari_lsegdiff._controls import RefineControls
from napari_lsegdiff._runner import Runner
from napari_lsegdiff._worker import Failed, Finished, NewestWins, Request

# Samples that a score needs at least.
SCORE_SEEDS = 4
# Said of a model without diffusion.
ALIKE = "All samples of this model are the same, so none disagree: choose another model to score the images"


@dataclass(frozen=True)
class Loaded:
    """An image file in memory, and what was saved of it."""

    name: str
    pixels: NDArray[np.uint8]
    saved: Saved | None

    def read(self) -> NDArray[np.generic]:
        """Return the image (H, W, 3) uint8."""
        return self.pixels


class Way(NamedTuple):
    """How an image is segmented."""

    bundle: str
    device: str
    sampling: SamplingConfig


class Ahead(QObject):
    """Prepares items of a project beside the window; the user's own runs come first.

    Parameters
    ----------
    project
        Whose items.
    runner, choices, refine
        What segments, and how.
    parent
        The queue.

    Attributes
    ----------
    sampling
        How new images are segmented when the controls show something else at the moment; None otherwise.
    loaded
        Emitted with the `Loaded` of an item that was asked for by `load`.
    unreadable
        Emitted with an item's name and the `Failed`.
    predicted
        Emitted with an item's name and the disagreement of its samples, -1 for a single one.
    failed
        Emitted with the `Failed` of a run, or of a model that gives no scores.
    scored
        Emitted when no item is left to score, with the number of those whose score could not be noted.
    """

    loaded = Signal(object)
    unreadable = Signal(str, object)
    predicted = Signal(str, float)
    failed = Signal(object)
    scored = Signal(int)

    def __init__(
        self, project: Project, runner: Runner, choices: ModelChoice, refine: RefineControls, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._project, self._runner, self._choices, self._refine = project, runner, choices, refine
        self.sampling: SamplingConfig | None = None
        self._loaded: dict[str, Loaded] = {}
        self._ready: dict[str, tuple[Way, Prediction]] = {}  # their masks are made
        self._current: str | None = None
        self._following: str | None = None
        self._reading: str | None = None
        self._fetching: str | None = None
        self._scoring = False
        self._tried: set[str] = set()  # in this scoring; not every score can be noted
        self._reader, self._refiner = NewestWins(self), NewestWins(self)
        self._reader.done.connect(self._on_read)
        self._refiner.done.connect(self._on_refined)
        runner.fetched.connect(self._on_fetched)

    def close(self) -> None:
        """Stop."""
        self._reader.close()
        self._refiner.close()
        self._runner.fetched.disconnect(self._on_fetched)
        if self._fetching is not None:
            self._runner.fetch(None)

    @property
    def scoring(self) -> bool:
        """Whether all items are being scored."""
        return self._scoring

    def is_ready(self, name: str) -> bool:
        """Return whether an item can be shown at once, with the mask that the controls ask for."""
        return name in self._ready and self._ready[name][0] == self._way

    def load(self, name: str) -> None:
        """Read an item's file; `loaded` or `unreadable` follows, at once if it is at hand."""
        self._current = name
        if name in self._loaded:
            self.loaded.emit(self._loaded.pop(name))
        elif name != self._reading:
            self._reader.request("show", partial(_load, self._project, name), name)

    def take(self, name: str) -> Prediction | None:
        """Return an item's prediction if it is ready, refined and with its mask made; it is given away.

        None if the controls say something else by now.
        """
        way, prediction = self._ready.pop(name, (None, None))
        if prediction is None or way != self._way or prediction.morphology != self._refine.own:
            return None
        return prediction

    def prepare(self, following: str | None) -> None:
        """Get the item ready that comes next, and go on with the scores."""
        self._following = following
        for kept in (self._loaded, self._ready):
            for name in [name for name in kept if name not in (following, self._fetching)]:
                del kept[name]
        self._go_on()

    def score(self, wanted: bool) -> None:
        """Segment all items that nobody has looked at, with several seeds, or stop doing so."""
        self._scoring = wanted
        self._tried.clear()
        if not wanted and self._fetching is not None:
            self._fetching = None
            self._runner.fetch(None)
        self._go_on()

    def pause(self) -> None:
        """Prepare and score nothing until `prepare` or `score` is called again."""
        self._following, self._scoring = None, False

    def _go_on(self) -> None:
        if self._fetching is not None or self._reading is not None:
            return
        following = self._following
        if following is not None and following not in self._loaded:
            self._read(following)
        elif following is not None and not self.is_ready(following) and self._loaded[following].saved is None:
            self._fetch(self._loaded[following], self._way)
        elif self._scoring:
            items = self._project.items.values()
            left = [item.name for item in items if _unscored(item) and item.name != self._current]
            name = next((name for name in left if name not in self._tried), None)
            if name is None:
                self._scoring = False
                self.scored.emit(len(left))
            elif name in self._loaded:
                self._fetch(self._loaded[name], self._scoring_way)
                if self._fetching is not None:  # there is a model
                    self._tried.add(name)
            else:
                self._read(name)

    def _read(self, name: str) -> None:
        self._reading = name
        self._reader.request("ahead", partial(_load, self._project, name), name)

    def _on_read(self, result: Loaded | Failed, name: str) -> None:
        if name == self._reading:
            self._reading = None
        if isinstance(result, Failed):
            self.unreadable.emit(name, result)
            self._go_on()
        elif name == self._current:
            self.loaded.emit(result)
        else:
            self._loaded[name] = result
            self._go_on()

    @property
    def _way(self) -> Way | None:
        """How the user wants images segmented by now; None without a model."""
        bundle, sampling = self._choices.bundle, self.sampling or self._choices.sampling
        return None if bundle is None else Way(bundle, self._choices.device.currentText(), sampling)

    @property
    def _scoring_way(self) -> Way | None:
        """The same with as many seeds as a score needs."""
        way = self._way
        if way is None or len(way.sampling.seeds) >= SCORE_SEEDS:
            return way
        return way._replace(sampling=replace(way.sampling, seeds=tuple(range(SCORE_SEEDS))))

    def _fetch(self, loaded: Loaded, way: Way | None) -> None:
        if way is not None:
            self._fetching = loaded.name
            self._runner.fetch(Request(loaded, *way))

    def _on_fetched(self, request: Request, update: Finished | Failed) -> None:
        name, self._fetching = request.job.name, None
        if isinstance(update, Failed):
            self._scoring = False
            self.failed.emit(update)
            return
        prediction = update.prediction
        self.predicted.emit(name, disagreement(prediction) if len(prediction.squares) > 1 else -1.0)
        if self._scoring and len(prediction.squares) < len(request.sampling.seeds):
            self._scoring = False
            self.failed.emit(Failed(ALIKE, ""))
        way = Way(request.bundle, request.device, request.sampling)
        if name == self._following and way == self._way:
            self._refiner.request(name, partial(_refine, prediction, self._refine.own), (name, way))
            return
        if name != self._following:
            self._loaded.pop(name, None)
        self._go_on()

    def _on_refined(self, ready: Prediction | Failed, tag: tuple[str, Way]) -> None:
        name, way = tag
        if isinstance(ready, Prediction) and name in self._loaded:
            self._ready[name] = way, ready
        self._go_on()


def _unscored(item: Item) -> bool:
    return item.status in ("new", "predicted") and item.disagreement < 0 and not item.problem


def _load(project: Project, name: str) -> Loaded:
    from lsegdiff_core.data.images import read_image

    return Loaded(name, read_image(project.image(name)), project.load(name))


def _refine(prediction: Prediction, morphology: MorphologyConfig) -> Prediction:
    refined = prediction.refined(morphology)
    _ = refined.mask  # made here, beside the window, and kept
    return refined
