"""The queue at work: one image after the other on the canvas, the next one ready before it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from napari.components import ViewerModel
from napari.layers import Image
from qtpy.QtCore import QObject, QTimer, Signal

from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.hypotheses import disagreement
from lsegdiff_core.journal_format import ImageId
from lsegdiff_core.prediction import Prediction
from lsegdiff_core.project import FOLDER, Project
from lsegdiff_core.project_file import Item
from napari_lsegdiff._ahead import Ahead, Loaded
from napari_lsegdiff._annotate import AnnotatePanel
from napari_lsegdiff._canvas import Canvas
from napari_lsegdiff._choices import SamplingControls
from napari_lsegdiff._class_choice import ClassChoice
from napari_lsegdiff._controls import RefineControls
from napari_lsegdiff._landing import Landing
from napari_lsegdiff._open_project import OpenProject
from napari_lsegdiff._queue_table import UNREADABLE
from napari_lsegdiff._runner import Runner
from napari_lsegdiff._segmentation import Segmentation
from napari_lsegdiff._session import Session
from napari_lsegdiff._worker import Failed

# Milliseconds in which the canvas is drawn without the old layers. A software driver (Mesa's) crashes when layers go
# and others come between two drawings, in any viewer and without this plugin.
DRAWN = 60
# Reasons that a tooltip lists.
MOST_LINES = 20
# Seconds on an image that are worth writing the project for once more: a mask that was just saved has brought its own.
LONGER = 1.0


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
    segmentation, arrivals
        What draws masks and brings them onto the canvas: one on its way is waited for.
    parent
        The dock.

    Attributes
    ----------
    wanted
        Emitted with the image layer on the canvas when it has no mask yet and needs a run.
    remasked
        Emitted when a saved mask is on the canvas again, or objects have got other classes.
    """

    wanted = Signal(object)
    remasked = Signal()

    def __init__(
        self,
        viewer: ViewerModel,
        session: Session,
        runner: Runner,
        panel: AnnotatePanel,
        sampling: SamplingControls,
        refine: RefineControls,
        segmentation: Segmentation,
        arrivals: Landing,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._session, self._runner, self._panel = session, runner, panel
        self._segmentation, self._arrivals = segmentation, arrivals
        self._later: Callable[[], None] | None = None  # what the user asked for while a mask was on its way
        arrivals.settled.connect(self._on_settled)
        self._sampling, self._refine = sampling, refine
        self._unsaved: set[Path] = set()  # images whose masks have left the canvas and could not be saved
        self._shown: OpenProject | None = None
        self._name: str | None = None  # of the item on the canvas
        self._coming: str | None = None  # of the one on its way there
        self._past = 1  # where to go on if that one cannot be read; see `show`
        self._ahead: Ahead | None = None
        self._news = ""  # what is to be said when the next image is shown
        self._left_out: list[str] = []  # why images before it are not
        self._canvas = Canvas(viewer, session, sampling, self)
        self._canvas.leaving.connect(self._on_leaving)
        self._classes = ClassChoice(session, panel, lambda: (self.project, self._canvas.image), self)
        self._classes.chosen.connect(self._on_class_chosen)
        self._classes.edited.connect(self.remasked)
        self._classes.failed.connect(self._on_failed)
        panel.folder_chosen.connect(self.open_folder)
        panel.list_chosen.connect(self.open_list)
        panel.item_chosen.connect(partial(self.show, past=0))
        panel.accepted.connect(self.accept)
        panel.skipped.connect(self.skip)
        panel.stepped.connect(self.step)
        panel.scored.connect(self.score)
        panel.noted.connect(lambda text: self._update(notes=text))
        panel.tagged.connect(lambda tags: self._update(tags=tags))
        panel.exported.connect(self._on_export)

    @property
    def kept(self) -> bool:
        """Whether all that has left the canvas could be saved, if only later."""
        return not self._unsaved

    # a project

    @property
    def project(self) -> Project | None:
        """The project that is open."""
        return None if self._shown is None else self._shown.project

    def open_folder(self, folder: Path) -> None:
        """Open the project in a folder, or begin one for the images in it."""
        self._open(partial(Project.of_folder, folder))

    def open_list(self, path: Path) -> None:
        """Begin a project beside a text file, for the images that it names; or go on with it."""
        self._open(partial(Project.of_list, path))

    def resume(self, images: Sequence[ImageId]) -> bool:
        """Open the project that these restored images were annotated in, or that their folder holds, if none is open.

        Returns whether they are a project's.
        """
        if self._shown is not None:
            return self._canvas.first_restored(self._shown.project) is not None
        # a folder's own project is asked for by that folder: images that were added since are appended
        projects = [Path(image.project) for image in images if image.project]
        folders = [path.parent if path.name == FOLDER else path for path in projects]
        folders += [Path(image.path).parent for image in images if image.path and not image.project]
        folder = next(filter(Project.in_folder, folders), None)
        if folder is not None:
            self.open_folder(folder)
        return folder is not None

    def _open(self, opened: Callable[[], Project]) -> None:
        if not self._keep():
            return
        folder, name = (None, None) if self._shown is None else (self._shown.project.folder, self._name)
        self.close_project()
        try:
            project = opened()
        except LSegDiffError as error:
            failed = self._fail(error)
            if folder is not None:
                self._reopen(folder, name, failed.line)
            return
        self._begin(project)
        self._news = project.news
        # what was restored after a crash comes first
        self.show(self._canvas.first_restored(project) or project.first_open)

    def _reopen(self, folder: Path, name: str | None, why: str) -> None:
        """Go back to the project that was open, and say why the one that was wanted instead is not."""
        try:
            project = Project.open(folder)
        except LSegDiffError:
            return
        self._begin(project)
        self._news = why
        self.show(name or project.first_open)

    def _begin(self, project: Project) -> None:
        self._shown = OpenProject(project, self._panel, self)
        self._shown.failed.connect(self._on_failed)
        self._ahead = Ahead(project, self._runner, self._sampling.model, self._refine, self)
        self._ahead.loaded.connect(self._display)
        self._ahead.unreadable.connect(self._on_unreadable)
        self._ahead.predicted.connect(self._on_predicted)
        self._ahead.failed.connect(self._on_failed)
        self._ahead.scored.connect(self._on_scored)
        self._session.classes = project.classes
        self._left_out = []

    def close_project(self) -> bool:
        """Save what is on the canvas and let go of the project; False if it could not be saved and stays there."""
        kept = self._keep()
        self._canvas.show_own_sampling()
        if kept:
            self._canvas.clear()
        else:
            self._note_unsaved()
        if self._shown is not None:
            self._shown.close()
        if self._ahead is not None:
            self._ahead.close()
        self._shown = self._ahead = self._name = self._coming = self._later = None
        self._canvas.image = None
        self._session.classes = ()
        self._show_scoring()
        return kept

    def close(self) -> None:
        """Save and stop."""
        self.close_project()
        self._classes.close()
        self._canvas.close()

    # one image

    def show(self, name: str, past: int = 1) -> None:
        """Bring an item onto the canvas.

        If it cannot be read, the next open one comes (``past`` is 1), the one before it (-1), or none (0).
        """
        if self._ahead is None or (name == self._name and self._canvas.image is not None):
            return
        if self._unsettled(partial(self.show, name, past)) or not self._keep():
            return
        self._coming, self._past = name, past
        self._panel.tell(f"Loading {name}…")
        self._ahead.load(name)

    def step(self, by: int) -> None:
        """Go to the next item of the table (1), or to the one before (-1)."""
        neighbour = self._panel.neighbour(self._coming or self._name, by)
        if neighbour is not None:
            self.show(neighbour, past=by)
        elif not self._panel.names:
            self._panel.tell("The table is empty; choose another filter, or empty the search")
        else:
            self._panel.tell("That was the last image of the table" if by > 0 else "This is the first image")

    def accept(self) -> None:
        """Save the mask on the canvas as good, and go on."""
        if self._name is None or self._canvas.image is None or self._unsettled(self.accept):
            return
        if self._segmentation.running and self._canvas.mask is not None:
            self._panel.tell("The mask is being drawn again: wait for it, or cancel, then press again")
            return
        following = self._following()
        if self._save(accepted=True):
            self._go_on(following)

    def skip(self) -> None:
        """Leave the item out, and go on."""
        if self._name is None or self._unsettled(self.skip):
            return
        following = self._following()
        if self._keep() and self._update(status="skipped"):
            self._go_on(following)

    def changed(self, image: Image, painted: bool) -> None:
        """Take notice of a stroke, an undo or a redo on an image's mask."""
        item = self._item()
        if painted and image is self._canvas.image and item is not None and item.status != "edited":
            self._update(status="edited")

    def follow(self, image: Image) -> None:
        """Show the class of the object that is selected in an image's mask."""
        if image is self._canvas.image:
            self._panel.show_class(self._canvas.selected_class)

    def masked(self, image: Image) -> None:
        """Take notice of a mask that the model drew on an image."""
        if image is self._canvas.image:
            item = self._item()
            if item is not None and item.status == "new":
                self._update(status="predicted")
            self._canvas.masked()

    def sampled(self, image: Image, prediction: Prediction) -> None:
        """Take notice of a prediction of an image."""
        if image is self._canvas.image and self._name is not None and len(prediction.squares) > 1:
            self._update(disagreement=round(disagreement(prediction), 4))

    def score(self) -> None:
        """Segment all new items in the background, or stop doing so."""
        if self._ahead is not None:
            self._ahead.score(not self._ahead.scoring)
            self._show_scoring()

    # within

    def _item(self) -> Item | None:
        return None if self._shown is None or self._name is None else self._shown[self._name]

    def _following(self) -> str | None:
        """Return the next item of the table that is still open, from the top again after the last."""
        return None if self._shown is None else self._shown.following(self._coming or self._name, besides=self._name)

    def _go_on(self, following: str | None) -> None:
        if following is None:
            done = self._shown is not None and self._shown.done
            left = "No open image is left in the table; choose another filter, or empty the search"
            self._tell_news("All images are done: press Export all…" if done else left)
        else:
            self.show(following)

    def _tell_news(self, text: str = "") -> None:
        """Say what there was to say with the next image, and ``text``; of many images that are left out, the first."""
        left_out, more = self._left_out, len(self._left_out) - 1
        said = f"Left out: {left_out[0]}" if left_out else ""
        if more > 0:
            said += f", and {more} more; the filter '{UNREADABLE}' shows them"
        self._panel.tell(". ".join(filter(None, (self._news, said, text))), "\n".join(left_out[:MOST_LINES]))
        self._news, self._left_out = "", []

    def _keep(self) -> bool:
        """Save what was changed on the canvas; False if that is not possible, or the user is drawing."""
        if self._canvas.image is None:
            return True
        if self._drawing():
            return False
        if self._canvas.changed and not self._save(accepted=False):
            return False
        self._update_seconds()
        return True

    def _unsettled(self, action: Callable[[], None]) -> bool:
        """Return whether the mask on the canvas cannot be left yet: the user draws, or a slider's result is on its way.

        In the latter case ``action`` follows when it has come.
        """
        if self._drawing():
            return True
        if self._canvas.mask is None or self._arrivals.idle:
            return False
        self._later = action
        return True

    def _on_settled(self) -> None:
        later, self._later = self._later, None
        if later is not None:
            later()

    def _drawing(self) -> bool:
        """Return whether the user is in the middle of a stroke, and say so: half of it is nothing to save."""
        drawing = self._canvas.image is not None and self._session.busy(self._canvas.image)
        if drawing:
            self._panel.tell("You are drawing: end the stroke, then press again")
        return drawing

    def _on_leaving(self) -> None:
        if not self._keep():
            self._note_unsaved()
            if self._canvas.mask is not None:
                self._session.hold(self._canvas.mask)

    def _note_unsaved(self) -> None:
        if self._shown is not None and self._name is not None:
            self._unsaved.add(self._shown.image(self._name))

    def _save(self, accepted: bool) -> bool:
        assert self._shown is not None
        assert self._name is not None
        if self._canvas.mask is None:
            self._panel.echo("There is no mask yet: press Run in the Segment tab, or wait for it")
            return False
        try:
            self._canvas.save(self._shown.project, self._name, accepted)
        except LSegDiffError as error:
            self._fail(error)
            return False
        self._unsaved.discard(self._shown.image(self._name))
        self._shown.refresh(self._name)
        self._panel.tell(f"{'Accepted' if accepted else 'Kept as a draft'}: {self._name}")
        return True

    def _display(self, loaded: Loaded) -> None:
        if loaded.name != self._coming or not self._keep():
            return
        self._name = None
        QTimer.singleShot(DRAWN if self._canvas.clear() else 0, partial(self._place, loaded))

    def _place(self, loaded: Loaded) -> None:
        if self._shown is None or self._ahead is None or loaded.name != self._coming:
            return
        name, item = loaded.name, self._shown[loaded.name]
        project = self._shown.project
        self._canvas.place(name, project.image(name), loaded.pixels, item.seconds, project.folder)
        self._name, self._coming = name, None
        self._shown.mark(name)
        if item.problem:  # by now it can be read
            self._update(problem="")
        self._panel.show_item(item)
        self._show_mask(loaded, self._ahead.take(name))
        self._prepare()

    def _show_mask(self, loaded: Loaded, ready: Prediction | None) -> None:
        assert self._shown is not None
        assert self._ahead is not None
        image, saved = self._canvas.image, loaded.saved
        if image is None:
            return
        if self._canvas.mask is not None:  # restored after a crash
            behind = saved is not None and self._canvas.keep_behind(saved)
            redo = "Restored. Another mask of this image was saved: Redo (Ctrl+Shift+Z) shows that one"
            self._tell_news(redo if behind else "Restored as it was after your last stroke")
            return
        if saved is not None and saved.labels.shape == loaded.pixels.shape[:2]:
            self._tell_news(saved.note)  # before the mask has something to say
            self._canvas.adopt(saved, self._shown[loaded.name].seconds)
            self._ahead.sampling = self._canvas.own_sampling
            self.remasked.emit()
            return
        other = f"The saved mask of {loaded.name} has another size than its image; it is segmented anew"
        self._tell_news("" if saved is None else other)
        self._canvas.show_own_sampling()
        self._ahead.sampling = None
        if ready is not None and self._canvas.draw(ready):
            self.masked(image)
        else:
            self.wanted.emit(image)

    def _on_unreadable(self, name: str, failed: Failed) -> None:
        if self._shown is None or self._ahead is None:
            return
        folder = self._shown.image(name).parent
        there = folder.is_dir()
        if not there:  # a drive that was taken out: no image is to blame
            self._panel.tell(f"{folder}: the folder is gone; bring it back, then click on an image")
        turn = name == self._following()  # it was read ahead
        if not there or not self._shown.update(name, problem=failed.line):
            self._ahead.pause()
            self._show_scoring()
        elif name == self._coming:
            self._pass_over(name, failed.line)
        else:
            if turn:  # said with the image that is shown instead
                self._left_out.append(failed.line)
            self._prepare()

    def _pass_over(self, name: str, why: str) -> None:
        """Go on from an image that cannot be read, or stay."""
        if self._past:
            self._left_out.append(why)
        other = {1: self._following(), -1: self._panel.neighbour(name, -1), 0: None}[self._past]
        if other not in (None, self._name):
            self.show(other, self._past)
            return
        self._coming = None
        item = self._item()
        if item is not None:
            self._panel.show_item(item)
        self._tell_news("" if self._past else f"Not shown: {why}")
        self._prepare()

    def _on_predicted(self, name: str, disagreement: float) -> None:
        if self._shown is None:
            return
        changes: dict[str, object] = {} if disagreement < 0 else {"disagreement": round(disagreement, 4)}
        if self._shown[name].status == "new":
            changes["status"] = "predicted"
        self._shown.update(name, **changes)
        self._show_scoring()

    def _on_scored(self, lost: int) -> None:
        self._show_scoring()
        if self._shown is not None:
            self._panel.tell(self._shown.scoring_result(lost))

    def _on_failed(self, failed: Failed) -> None:
        self._show_scoring()
        self._panel.tell(failed.line, failed.details)

    def _show_scoring(self) -> None:
        scoring = self._ahead is not None and self._ahead.scoring
        scored = self._shown.scored if self._shown is not None and scoring else ""
        self._panel.score_button.setText(f"Stop ({scored})" if scoring else "Score all")

    def _prepare(self) -> None:
        if self._ahead is not None:
            self._ahead.prepare(self._following())

    # small things

    def _update_seconds(self) -> None:
        item = self._item()
        if item is None or self._canvas.image is None or item.status not in ("edited", "accepted", "skipped"):
            return
        seconds = round(self._canvas.seconds, 1)
        if seconds - item.seconds >= LONGER:
            self._update(seconds=seconds)

    def _update(self, **changes: object) -> bool:
        return self._shown is not None and self._name is not None and self._shown.update(self._name, **changes)

    def _on_class_chosen(self, image: Image) -> None:
        self._canvas.reclassed = True
        self.changed(image, painted=True)
        self.remasked.emit()

    def _on_export(self, path: Path) -> None:
        if self._shown is None:
            return
        try:
            count = self._shown.project.export_coco(path)
        except LSegDiffError as error:
            self._fail(error)
        else:
            self._panel.tell(
                f"Written: {path.name} with the masks of {count} image{'s' if count > 1 else ''}", str(path)
            )

    def _fail(self, error: Exception) -> Failed:
        failed = Failed.of(error)
        self._panel.tell(failed.line, failed.details)
        return failed
