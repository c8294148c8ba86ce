"""The queue at work: one image after the other on the canvas, the next one ready before it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image
from napari.layers._source import layer_source  # viewer.open would read the file again
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal

from lsegdiff_core.config import SamplingConfig
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.hypotheses import disagreement
from lsegdiff_core.prediction import Prediction
from lsegdiff_core.project import Item, Project
from napari_lsegdiff._ahead import Ahead, Loaded
from napari_lsegdiff._annotate import AnnotatePanel
from napari_lsegdiff._choices import SamplingControls
from napari_lsegdiff._class_choice import ClassChoice
from napari_lsegdiff._controls import RefineControls
from napari_lsegdiff._files import adopt_saved
from napari_lsegdiff._jobs import Refined
from napari_lsegdiff._objects import Origin, said_of
from napari_lsegdiff._queue_table import QueueTable
from napari_lsegdiff._runner import Runner
from napari_lsegdiff._session import Session
from napari_lsegdiff._worker import Failed

# Milliseconds in which the canvas is drawn without the old layers. A software driver (Mesa's) crashes when layers go
# and others come between two drawings, in any viewer and without this plugin.
DRAWN = 60


class Queue(QObject):
    """Goes through a project's images in the viewer.

    Parameters
    ----------
    viewer, session, runner
        What the images are shown with, what knows their masks, and what segments them.
    panel
        The controls.
    sampling, refine
        How images are segmented and new masks refined; they show how a saved mask was made while it is on the canvas.
    parent
        The dock.

    Attributes
    ----------
    wanted
        Emitted with the image layer on the canvas when it has no mask yet and needs a run.
    reclassed
        Emitted when objects have got other classes.
    """

    wanted = Signal(object)
    reclassed = Signal()

    def __init__(
        self,
        viewer: ViewerModel,
        session: Session,
        runner: Runner,
        panel: AnnotatePanel,
        sampling: SamplingControls,
        refine: RefineControls,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._session, self._runner, self._panel = viewer, session, runner, panel
        self._sampling, self._refine = sampling, refine
        self._project: Project | None = None
        self._table: QueueTable | None = None
        self._name: str | None = None  # of the item on the canvas
        self._coming: str | None = None  # of the one on its way there
        self._image: Image | None = None
        self._ahead: Ahead | None = None
        self._own: SamplingConfig | None = None  # the user's own, while the controls show that of a saved mask
        self._kept: NDArray[np.integer] | None = None  # the mask as it was saved, or as the model first drew it
        self._reclassed = False  # an object has got another class since
        self._classes = ClassChoice(session, panel, lambda: (self._project, self._image), self)
        self._classes.chosen.connect(self._on_class_chosen)
        self._classes.edited.connect(self.reclassed)
        self._classes.failed.connect(self._fail)
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
        self._ahead = Ahead(self._project, self._runner, self._sampling.model, self._refine, self)
        self._ahead.loaded.connect(self._display)
        self._ahead.unreadable.connect(self._on_unreadable)
        self._ahead.predicted.connect(self._on_predicted)
        self._ahead.failed.connect(self._on_failed)
        self._ahead.scored.connect(self._on_scored)
        self._session.classes = self._project.classes
        self._panel.show_project(self._project, self._table)
        self._show_progress()
        items = self._project.items
        # what was restored after a crash comes first
        first = next((name for name in items if self._restored(name) is not None), None)
        first = first or next((name for name, item in items.items() if _open_still(item)), None)
        self.show(first or next(iter(items)))

    def close_project(self) -> None:
        """Save what is on the canvas and let go of the project."""
        if self._keep():
            self._clear(self._image)
        if self._project is not None:
            self._project.close()
        if self._table is not None:
            self._table.close()
        if self._ahead is not None:
            self._ahead.close()
        self._project = self._table = self._ahead = self._name = self._coming = self._image = None
        self._session.classes = ()
        self._panel.show_project(None, None)
        self._show_scoring()

    def close(self) -> None:
        """Save and stop."""
        self.close_project()
        self._viewer.layers.events.removed.disconnect(self._on_removed)

    # one image

    def show(self, name: str) -> None:
        """Bring an item onto the canvas."""
        if self._ahead is None or (name == self._name and self._image is not None) or not self._keep():
            return
        self._coming = name
        self._panel.tell(f"Loading {name}…")
        self._ahead.load(name)

    def step(self, by: int) -> None:
        """Go to the next item of the table (1), or to the one before (-1)."""
        names = self._panel.names
        if not names:
            self._panel.tell("The table is empty; choose another filter")
            return
        here = self._coming or self._name
        place = names.index(here) + by if here in names else 0
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
        if self._name is not None and self._keep() and self._update(status="skipped"):
            self._go_on(following)

    def changed(self, image: Image, painted: bool) -> None:
        """Take notice of a stroke, an undo or a redo on an image's mask."""
        if image is self._image:
            item = self._item()
            if painted and item is not None and item.status != "edited":
                self._update(status="edited")

    def follow(self, image: Image) -> None:
        """Show the class of the object that is selected in an image's mask."""
        if image is self._image:
            layer = self._session.mask_layer(image)
            self._panel.show_class(said_of(layer, self._session.selected(image), "class"))

    def masked(self, image: Image) -> None:
        """Take notice of a mask that the model drew on an image."""
        if image is self._image:
            item = self._item()
            if item is not None and item.status == "new":
                self._update(status="predicted")
            if self._kept is None:
                self._kept = self._pixels()

    def sampled(self, image: Image, prediction: Prediction) -> None:
        """Take notice of a prediction of an image."""
        if image is self._image and self._name is not None and len(prediction.squares) > 1:
            self._update(disagreement=round(disagreement(prediction), 4))

    def score(self) -> None:
        """Segment all new items in the background, or stop doing so."""
        if self._ahead is not None:
            self._ahead.score(not self._ahead.scoring)
            self._show_scoring()

    # within

    def _item(self) -> Item | None:
        return None if self._project is None or self._name is None else self._project.items[self._name]

    def _pixels(self) -> NDArray[np.integer] | None:
        """Return a copy of the mask on the canvas."""
        layer = None if self._image is None else self._session.mask_layer(self._image)
        return None if layer is None else np.array(layer.data)

    def _differs(self, pixels: NDArray[np.integer]) -> bool:
        return self._reclassed or self._kept is None or not np.array_equal(pixels, self._kept)

    def _following(self) -> str | None:
        """Return the next item of the table that is still open, from the top again after the last."""
        if self._project is None:
            return None
        names, items = self._panel.names, self._project.items
        here = self._coming or self._name
        place = names.index(here) + 1 if here in names else 0
        others = (name for name in names[place:] + names[:place] if name not in (here, self._name))
        return next((name for name in others if _open_still(items[name])), None)

    def _go_on(self, following: str | None) -> None:
        if following is None:
            self._panel.tell("No image of the table is left; choose another filter, or export")
        else:
            self.show(following)

    def _keep(self) -> bool:
        """Save what was changed on the canvas; False if that is not possible, or the user is drawing."""
        if self._image is None:
            return True
        if self._session.busy(self._image):
            return False
        pixels = self._pixels()
        if pixels is not None and self._differs(pixels) and not self._save(accepted=False):
            return False
        self._update_seconds()
        return True

    def _clear(self, image: Image | None) -> None:
        """Take an image and its mask off the canvas."""
        if image is not None:
            for layer in (self._session.mask_layer(image), image):
                if layer is not None and layer in self._viewer.layers:
                    self._viewer.layers.remove(layer)

    def _save(self, accepted: bool) -> bool:
        assert self._project is not None
        assert self._name is not None
        assert self._image is not None
        job = self._session.job(self._image)
        layer = self._session.mask_layer(self._image)
        if layer is None:
            self._panel.tell("There is no mask yet: press Run, or wait for it")
            return False
        about = self._session.provenance(self._image, job.frame) or {}
        about = {**about, "image": {**about.get("image", {}), "name": self._project.image(self._name).name}}
        try:
            self._project.save(
                self._name,
                np.asarray(layer.data),
                self._session.strokes(job),
                about,
                accepted,
                self._session.spent(job),
            )
        except LSegDiffError as error:
            self._fail(error)
            return False
        self._kept, self._reclassed = self._pixels(), False
        self._refresh(self._name)
        self._panel.tell(f"{'Accepted' if accepted else 'Kept as a draft'}: {self._name}")
        return True

    def _display(self, loaded: Loaded) -> None:
        if loaded.name != self._coming or not self._keep():
            return
        before, self._image, self._name = self._image, None, None
        self._clear(before)
        QTimer.singleShot(DRAWN if before is not None else 0, partial(self._place, loaded))

    def _place(self, loaded: Loaded) -> None:
        if self._project is None or self._ahead is None or loaded.name != self._coming:
            return
        name, item = loaded.name, self._project.items[loaded.name]
        self._image = self._restored(name) or self._new_layer(loaded)
        self._name, self._coming, self._kept, self._reclassed = name, None, None, False
        self._session.start(self._session.job(self._image), item.seconds)
        if self._table is not None:
            self._table.mark(name)
        if item.problem:  # by now it can be read
            self._update(problem="")
        self._panel.show_item(item)
        self._panel.tell("")
        self._show_mask(loaded, self._ahead.take(name))
        self._prepare()

    def _restored(self, name: str) -> Image | None:
        """Return the layer of an item that is in the viewer with a mask: a crashed session was restored."""
        assert self._project is not None
        path = str(self._project.image(name).resolve())
        for layer in self._viewer.layers:
            if isinstance(layer, Image) and layer.source.path == path and self._session.mask_layer(layer) is not None:
                return layer
        return None

    def _new_layer(self, loaded: Loaded) -> Image:
        assert self._project is not None
        with layer_source(path=str(self._project.image(loaded.name).resolve())):
            image = Image(loaded.pixels, name=loaded.name, rgb=True)
        self._viewer.add_layer(image)
        return image

    def _show_mask(self, loaded: Loaded, ready: Prediction | None) -> None:
        assert self._project is not None
        assert self._image is not None
        job = self._session.job(self._image)
        if self._session.mask_layer(self._image) is not None:
            return
        if loaded.saved is not None:
            saved = loaded.saved
            if saved.labels.shape == loaded.pixels.shape[:2]:
                adopt_saved(self._session, self._image, job.frame, saved, self._project.items[loaded.name].seconds)
                job = self._session.job(self._image)
                self._kept = self._pixels()
                self._show_sampling(self._session.sampling(job))
                return
            self._panel.tell(f"The saved mask of {loaded.name} has another size than its image; it is segmented anew")
        self._show_sampling(None)
        run = None if ready is None else self._session.accept(job, ready)
        if ready is None or run is None or ready.morphology != self._refine.morphology:
            self.wanted.emit(self._image)
        else:
            self._session.write(Refined(job, ready.mask, Origin(run, ready.provenance)))
            self.masked(self._image)

    def _show_sampling(self, saved: SamplingConfig | None) -> None:
        """Show how a saved mask was sampled; for others the user's own settings come back."""
        if self._ahead is None:
            return
        if saved is not None:
            self._own = self._own or self._sampling.shown
            self._ahead.sampling = replace(self._own, strength=1.0)  # new masks start from nothing
            self._sampling.show(saved)
        elif self._own is not None:
            self._sampling.show(self._own)
            self._own = self._ahead.sampling = None

    def _on_unreadable(self, name: str, failed: Failed) -> None:
        if self._project is None or self._ahead is None:
            return
        folder = self._project.image(name).parent
        there = folder.is_dir()
        if not there:  # a drive that was taken out: no image is to blame
            self._panel.tell(f"{folder}: the folder is gone; bring it back, then click on an image")
        if not there or not self._update_item(name, problem=failed.line):
            self._ahead.pause()
            self._show_scoring()
        elif name != self._coming:
            self._prepare()
        else:
            following = self._following()
            self._panel.tell(f"{failed.line}. It is left out", failed.details)
            if following is not None:
                self.show(following)

    def _on_predicted(self, name: str, disagreement: float) -> None:
        if self._project is None:
            return
        changes: dict[str, object] = {} if disagreement < 0 else {"disagreement": round(disagreement, 4)}
        if self._project.items[name].status == "new":
            changes["status"] = "predicted"
        self._update_item(name, **changes)

    def _on_scored(self) -> None:
        self._show_scoring()
        self._panel.tell("All other images are scored; sort the table by Disagree")

    def _on_failed(self, failed: Failed) -> None:
        self._show_scoring()
        self._panel.tell(failed.line, failed.details)

    def _show_scoring(self) -> None:
        scoring = self._ahead is not None and self._ahead.scoring
        self._panel.score_button.setText("Stop scoring" if scoring else "Score all")

    def _prepare(self) -> None:
        if self._ahead is not None:
            self._ahead.prepare(self._following())

    # small things

    def _update_seconds(self) -> None:
        item = self._item()
        if item is not None and self._image is not None and item.status in ("edited", "accepted", "skipped"):
            self._update(seconds=round(self._session.spent(self._session.job(self._image)), 1))

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

    def _on_class_chosen(self, image: Image) -> None:
        self._reclassed = True
        self.changed(image, painted=True)
        self.reclassed.emit()

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
