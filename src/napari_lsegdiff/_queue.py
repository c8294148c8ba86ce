"""The queue at work: one image after the other on the canvas, the next one ready before it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import monotonic

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image
from napari.layers._source import layer_source  # viewer.open would read the file again
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from lsegdiff_core.config import MorphologyConfig
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.hypotheses import disagreement
from lsegdiff_core.prediction import Prediction
from lsegdiff_core.project import Item, Project, Saved
from napari_lsegdiff._annotate import AnnotatePanel
from napari_lsegdiff._objects import Origin, read_sidecar
from napari_lsegdiff._queue_table import QueueTable
from napari_lsegdiff._runner import Runner
from napari_lsegdiff._session import Refined, Session
from napari_lsegdiff._worker import Failed, Finished, NewestWins, Request

# Samples that a score needs at least, and the seconds after which a user who does nothing has gone for coffee.
SCORE_SEEDS, PAUSE = 4, 60.0


@dataclass(frozen=True)
class Loaded:
    """An image file in memory, and what was saved of it."""

    name: str
    pixels: NDArray[np.uint8]
    saved: Saved | None

    def read(self) -> NDArray[np.generic]:
        """Return the image (H, W, 3) uint8."""
        return self.pixels


@dataclass(frozen=True)
class Ready:
    """A prediction of a loaded image, and its mask (H, W) bool under ``morphology``."""

    prediction: Prediction
    morphology: MorphologyConfig
    mask: NDArray[np.bool_]


class Queue(QObject):
    """Goes through a project's images in the viewer.

    Parameters
    ----------
    viewer, session, runner
        What the images are shown with, what knows their masks, and what segments them.
    panel
        The controls.
    request
        Returns the run that the dock's controls ask for, of any source; None without a model.
    morphology
        Returns how a new mask is refined.
    parent
        The dock.

    Attributes
    ----------
    wanted
        Emitted with the image layer on the canvas when it has no mask yet and needs a run.
    shown
        Emitted with the image layer when an item has come onto the canvas.
    """

    wanted = Signal(object)
    shown = Signal(object)

    def __init__(
        self,
        viewer: ViewerModel,
        session: Session,
        runner: Runner,
        panel: AnnotatePanel,
        request: Callable[[Loaded], Request | None],
        morphology: Callable[[], MorphologyConfig],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._session, self._runner, self._panel = viewer, session, runner, panel
        self._request, self._morphology = request, morphology
        self._project: Project | None = None
        self._table: QueueTable | None = None
        self._name: str | None = None  # of the item on the canvas, or on its way there
        self._image: Image | None = None
        self._loaded: dict[str, Loaded] = {}
        self._ready: dict[str, Ready] = {}
        self._fetching: str | None = None
        self._scoring = False
        self._seen = 0.0  # when the user last did something
        self._seconds = 0.0
        self._kept: NDArray[np.integer] | None = None  # the mask as it was saved, or as the model first drew it
        self._loader = NewestWins(self)
        self._refiner = NewestWins(self)
        self._loader.done.connect(self._on_loaded)
        self._refiner.done.connect(self._on_refined)
        runner.fetched.connect(self._on_fetched)
        viewer.layers.events.removed.connect(self._on_removed)
        panel.folder_chosen.connect(self.open_folder)
        panel.list_chosen.connect(self.open_list)
        panel.item_chosen.connect(self.show)
        panel.accepted.connect(self.accept)
        panel.skipped.connect(self.skip)
        panel.stepped.connect(self.step)
        panel.scored.connect(self.score)
        panel.noted.connect(lambda text: self._update(notes=text))
        panel.tagged.connect(lambda tags: self._update(tags=tags))
        panel.class_chosen.connect(self._on_class)
        panel.exported.connect(self._on_export)

    # a project

    @property
    def project(self) -> Project | None:
        """The project that is open."""
        return self._project

    def open_folder(self, folder: Path) -> None:
        """Open the project in a folder, or begin one for the images in it."""
        self._open(partial(Project.of_folder, folder))

    def open_list(self, path: Path) -> None:
        """Begin a project beside a text file, for the images that it names; or go on with it."""
        self._open(partial(Project.of_list, path))

    def _open(self, opened: Callable[[], Project]) -> None:
        self.close_project()
        try:
            self._project = opened()
        except LSegDiffError as error:
            self._fail(error)
            return
        self._table = QueueTable(self._project, self)
        self._panel.show_project(self._project, self._table)
        self._show_progress()
        first = next((item.name for item in self._project.items.values() if _open_still(item)), None)
        self.show(first or next(iter(self._project.items)))

    def close_project(self) -> None:
        """Save what is on the canvas and let go of the project."""
        self._leave()
        if self._project is not None:
            self._project.close()
        if self._table is not None:
            self._table.close()
        self._project = self._table = self._name = None
        self._drop_ahead()
        self._panel.show_project(None, None)

    def close(self) -> None:
        """Save and stop."""
        self.close_project()
        self._loader.close()
        self._refiner.close()
        self._viewer.layers.events.removed.disconnect(self._on_removed)

    # one image

    def show(self, name: str) -> None:
        """Bring an item onto the canvas."""
        if self._project is None or (name == self._name and self._image is not None):
            return
        if not self._leave():
            return
        self._name = name
        if name in self._loaded:
            self._display(self._loaded.pop(name))
        else:
            self._panel.tell(f"Loading {name}…")
            self._loader.request("show", partial(_load, self._project, name), name)

    def step(self, by: int) -> None:
        """Go to the next item of the table (1), or to the one before (-1)."""
        names = self._panel.names
        if not names:
            self._panel.tell("The table is empty; choose another filter")
            return
        place = names.index(self._name) + by if self._name in names else 0
        if 0 <= place < len(names):
            self.show(names[place])
        else:
            self._panel.tell("That was the last image of the table" if by > 0 else "This is the first image")

    def accept(self) -> None:
        """Save the mask on the canvas as good, and go on."""
        following = self._following()
        if self._name is not None and self._image is not None and self._save(accepted=True):
            self._go_on(following)

    def skip(self) -> None:
        """Leave the item out, and go on."""
        following = self._following()
        if self._name is not None and self._update(status="skipped"):
            self._go_on(following)

    def changed(self, image: Image, painted: bool) -> None:
        """Take notice of a stroke, an undo or a redo on an image's mask."""
        if image is self._image:
            self._tick()
            item = self._item()
            if painted and item is not None and item.status != "edited":
                self._update(status="edited")

    def masked(self, image: Image) -> None:
        """Take notice of a mask that the model drew on an image."""
        if image is self._image:
            self._tick()
            item = self._item()
            if item is not None and item.status == "new":
                self._update(status="predicted")
            if self._kept is None:
                self._kept = self._pixels()

    def sampled(self, image: Image, prediction: Prediction) -> None:
        """Take notice of a prediction of an image."""
        if image is self._image and self._name is not None and len(prediction.squares) > 1:
            self._update(disagreement=round(disagreement(prediction), 4))

    # many images

    def score(self) -> None:
        """Segment all new items in the background, or stop doing so."""
        if self._project is None:
            return
        self._scoring = not self._scoring
        self._panel.score_button.setText("Stop scoring" if self._scoring else "Score all")
        if self._scoring:
            self._look_ahead()
        else:
            self._runner.fetch(None)
            self._fetching = None

    # within

    def _item(self) -> Item | None:
        return None if self._project is None or self._name is None else self._project.items[self._name]

    def _pixels(self) -> NDArray[np.integer] | None:
        """Return a copy of the mask on the canvas."""
        layer = None if self._image is None else self._session.mask_layer(self._image)
        return None if layer is None else np.array(layer.data)

    def _differs(self, pixels: NDArray[np.integer]) -> bool:
        return self._kept is None or not np.array_equal(pixels, self._kept)

    def _following(self) -> str | None:
        """Return the next item of the table that is still open, from the top again after the last."""
        names = self._panel.names
        place = names.index(self._name) + 1 if self._name in names else 0
        assert self._project is not None or not names
        items = {} if self._project is None else self._project.items
        others = (name for name in names[place:] + names[:place] if name != self._name)
        return next((name for name in others if _open_still(items[name])), None)

    def _go_on(self, following: str | None) -> None:
        if following is None:
            self._panel.tell("No image of the table is left; choose another filter, or export")
        else:
            self.show(following)

    def _leave(self) -> bool:
        """Keep what is on the canvas and clear it; False if it could not be saved, or the user is drawing."""
        if self._image is None:
            return True
        if self._session.busy(self._image):
            return False
        pixels = self._pixels()
        if pixels is not None and self._differs(pixels) and not self._save(accepted=False):
            return False
        self._update_seconds()
        image, self._image = self._image, None
        self._kept = None
        for layer in [self._session.mask_layer(image), image]:
            if layer is not None and layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        return True

    def _save(self, accepted: bool) -> bool:
        assert self._project is not None
        assert self._name is not None
        assert self._image is not None
        job = self._session.job(self._image)
        layer = self._session.mask_layer(self._image)
        if layer is None:
            self._panel.tell("There is no mask yet: press Run, or wait for it")
            return False
        self._tick()
        about = self._session.provenance(self._image, job.frame) or {}
        about = {**about, "image": {**about.get("image", {}), "name": self._project.image(self._name).name}}
        try:
            self._project.save(
                self._name, np.asarray(layer.data), self._session.strokes(job), about, accepted, self._seconds
            )
        except LSegDiffError as error:
            self._fail(error)
            return False
        self._kept = self._pixels()
        self._refresh(self._name)
        self._panel.tell(f"{'Accepted' if accepted else 'Kept as a draft'}: {self._name}")
        return True

    def _display(self, loaded: Loaded) -> None:
        assert self._project is not None
        name, item = loaded.name, self._project.items[loaded.name]
        self._image = self._layer_of(loaded)
        self._seconds, self._seen = item.seconds, monotonic()
        if self._table is not None:
            self._table.mark(name)
        self._panel.show_item(item)
        self._panel.tell("")
        self._show_mask(loaded, self._ready.pop(name, None))
        self.shown.emit(self._image)
        self._look_ahead()

    def _layer_of(self, loaded: Loaded) -> Image:
        """Return the image's layer: a new one, unless a crashed session was restored and it is there already."""
        assert self._project is not None
        path = str(self._project.image(loaded.name).resolve())
        for layer in self._viewer.layers:
            if isinstance(layer, Image) and layer.source.path == path and self._session.mask_layer(layer) is not None:
                return layer
        with layer_source(path=path):
            image = Image(loaded.pixels, name=loaded.name, rgb=True)
        self._viewer.add_layer(image)
        return image

    def _show_mask(self, loaded: Loaded, ready: Ready | None) -> None:
        assert self._image is not None
        job = self._session.job(self._image)
        if self._session.mask_layer(self._image) is not None:
            return
        if loaded.saved is not None:
            saved = loaded.saved
            if saved.labels.shape == loaded.pixels.shape[:2]:
                origins, table = read_sidecar(saved.provenance)
                self._session.adopt(self._image, job.frame, saved.labels, saved.strokes, origins, table)
                self._kept = self._pixels()
                return
            self._panel.tell(f"The saved mask of {loaded.name} has another size than its image; it is segmented anew")
        run = None if ready is None else self._session.accept(job, ready.prediction)
        if ready is None or run is None or ready.morphology != self._morphology():
            self.wanted.emit(self._image)
        else:
            provenance = ready.prediction.refined(ready.morphology).provenance
            self._session.write(Refined(job, ready.mask, Origin(run, provenance)))
            self.masked(self._image)

    def _on_loaded(self, loaded: Loaded | Failed, name: str) -> None:
        if self._project is None or name not in self._project.items:
            return
        if isinstance(loaded, Failed):
            self._on_unreadable(name, loaded)
        elif name == self._name and self._image is None:
            self._display(loaded)
        else:
            self._loaded[name] = loaded
            self._fetch(loaded)

    def _on_unreadable(self, name: str, failed: Failed) -> None:
        self._update_item(name, problem=failed.line)
        if name == self._name:
            following = self._following()
            self._panel.tell(f"{failed.line}. It is left out", failed.details)
            if following is not None:
                self._name = None
                self.show(following)
        else:
            self._look_ahead()

    # ahead of the user

    def _look_ahead(self) -> None:
        """Load the next item, and when that is there, score the others if that is wanted."""
        following = self._following()
        if self._project is None or self._fetching is not None:
            return
        self._drop_ahead(keep=following)
        if following is not None and following not in self._loaded:
            self._loader.request("ahead", partial(_load, self._project, following), following)
        elif following is not None and following not in self._ready and self._loaded[following].saved is None:
            self._fetch(self._loaded[following])
        elif self._scoring:
            items = self._project.items.values()
            left = next((item.name for item in items if _unscored(item) and item.name != self._name), None)
            if left is None:
                self.score()
                self._panel.tell("All other images are scored; sort the table by Disagreement")
            elif left in self._loaded:
                self._fetch(self._loaded[left])
            else:
                self._loader.request("ahead", partial(_load, self._project, left), left)

    def _fetch(self, loaded: Loaded) -> None:
        request = None if loaded.saved is not None else self._request(loaded)
        if request is None or self._fetching is not None:
            return
        if self._scoring and len(request.sampling.seeds) < SCORE_SEEDS:
            request = replace(request, sampling=replace(request.sampling, seeds=tuple(range(SCORE_SEEDS))))
        self._fetching = loaded.name
        self._runner.fetch(request)

    def _on_fetched(self, request: Request, update: Finished | Failed) -> None:
        name, self._fetching = request.job.name, None
        if self._project is None or name not in self._project.items:
            return
        if isinstance(update, Failed):
            self._panel.tell(update.line, update.details)
            return
        prediction = update.prediction
        changes: dict[str, object] = {}
        if len(prediction.squares) > 1:
            changes["disagreement"] = round(disagreement(prediction), 4)
        if self._project.items[name].status == "new":
            changes["status"] = "predicted"
        self._update_item(name, **changes)
        if name == self._following():
            morphology = self._morphology()
            self._refiner.request(name, partial(_refine, prediction, morphology), name)
        else:
            self._loaded.pop(name, None)
            self._look_ahead()

    def _on_refined(self, ready: Ready | Failed, name: str) -> None:
        if isinstance(ready, Ready) and name in self._loaded:
            self._ready[name] = ready
        self._look_ahead()

    def _drop_ahead(self, keep: str | None = None) -> None:
        for name in [name for name in self._loaded if name != keep]:
            del self._loaded[name]
        for name in [name for name in self._ready if name != keep]:
            del self._ready[name]
        if keep is None and self._fetching is not None:
            self._fetching = None
            self._runner.fetch(None)

    # small things

    def _tick(self) -> None:
        now = monotonic()
        self._seconds += min(now - self._seen, PAUSE)
        self._seen = now

    def _update_seconds(self) -> None:
        self._tick()
        item = self._item()
        if item is not None and item.status in ("edited", "accepted", "skipped"):
            self._update(seconds=round(self._seconds, 1))

    def _update(self, **changes: object) -> bool:
        return self._name is not None and self._update_item(self._name, **changes)

    def _update_item(self, name: str, **changes: object) -> bool:
        if self._project is None:
            return False
        try:
            self._project.update(name, **changes)
        except LSegDiffError as error:
            self._fail(error)
            return False
        self._refresh(name)
        return True

    def _refresh(self, name: str) -> None:
        if self._table is not None:
            self._table.refresh(name)
        self._show_progress()

    def _show_progress(self) -> None:
        if self._project is not None:
            items = self._project.items.values()
            self._panel.show_progress(sum(not _open_still(item) for item in items), len(items))

    def _on_class(self, name: str) -> None:
        if self._project is None or self._image is None:
            return
        chosen = next((known for known in self._project.classes if known.name == name), None)
        layer = self._session.mask_layer(self._image)
        if chosen is not None and layer is not None:
            self._session.set_class(self._session.job(self._image), chosen.name, chosen.colour)
            self.changed(self._image, False)

    def _on_export(self, path: Path) -> None:
        if self._project is None:
            return
        try:
            count = self._project.export_coco(path)
        except LSegDiffError as error:
            self._fail(error)
        else:
            self._panel.tell(f"Written: {path.name} with the masks of {count} images", str(path))

    def _on_removed(self, event: object) -> None:
        if getattr(event, "value", None) is self._image:
            self._image = None

    def _fail(self, error: Exception) -> None:
        failed = Failed.of(error)
        self._panel.tell(failed.line, failed.details)


def _open_still(item: Item) -> bool:
    return item.status not in ("accepted", "skipped") and not item.problem


def _unscored(item: Item) -> bool:
    return item.status in ("new", "predicted") and item.disagreement < 0 and not item.problem


def _load(project: Project, name: str) -> Loaded:
    from lsegdiff_core.data.images import read_image

    return Loaded(name, read_image(project.image(name)), project.load(name))


def _refine(prediction: Prediction, morphology: MorphologyConfig) -> Ready:
    return Ready(prediction, morphology, prediction.refined(morphology).mask)
