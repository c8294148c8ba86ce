"""The dock: choose an image and a model, run, refine, paint, export."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import napari
from napari.layers import Image
from qtpy.QtCore import QEvent, QTimer, Signal
from qtpy.QtWidgets import QFileDialog, QGroupBox, QPushButton, QStyle, QTabWidget, QVBoxLayout, QWidget

from lsegdiff_core.bundle import Manifest
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.journal import Journal, default_folder
from lsegdiff_core.journal_format import ImageId
from napari_lsegdiff._about import AboutPanel
from napari_lsegdiff._annotate import AnnotatePanel
from napari_lsegdiff._choices import ImageChoice, ModelChoice, SamplingControls
from napari_lsegdiff._controls import RefineControls, Scrolled, row
from napari_lsegdiff._correct import CorrectPanel, Gallery
from napari_lsegdiff._correction import Correction
from napari_lsegdiff._files import IMAGES, MaskFiles, open_images
from napari_lsegdiff._garbage import Garbage
from napari_lsegdiff._jobs import Job, Refined
from napari_lsegdiff._keys import Keys
from napari_lsegdiff._landing import Landing
from napari_lsegdiff._learn import LearnDialog
from napari_lsegdiff._panels import ExportPanel, RunPanel
from napari_lsegdiff._queue import Queue
from napari_lsegdiff._recovery import Recovery, RecoveryBar
from napari_lsegdiff._removal import Removal
from napari_lsegdiff._runner import Runner
from napari_lsegdiff._segmentation import Segmentation
from napari_lsegdiff._session import Session
from napari_lsegdiff._settings import load_settings
from napari_lsegdiff._text import Wrapped
from napari_lsegdiff._worker import Failed

logger = logging.getLogger(__name__)
# Pixels that the title bar which napari gives a dock reaches into it: it is higher than it says.
TITLE_OVERLAP = 4


class _Closers:
    """What must be done when the dock goes, however it goes; called from the last one on."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []

    def close(self, *_: object) -> None:
        while self.calls:
            try:
                self.calls.pop()()
            except Exception:  # what is left must be done all the same: locks, files and threads are let go
                logger.exception("Something could not be closed")


class SegmentationDock(QWidget):
    """The LSegDiff dock.

    Parameters
    ----------
    napari_viewer
        The viewer whose images are segmented.

    Attributes
    ----------
    finished
        Emitted after every run with True if its mask is on the canvas; `status` says what happened.
    """

    finished = Signal(bool)

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._settings, self._problems = load_settings()
        journals = self._settings.autosave_folder or default_folder()
        self._journal = Journal(journals, self._on_autosave_failed)
        self._session = Session(napari_viewer, self._on_layer_changed, self._journal)
        self.warning = Wrapped()
        self.warning.hide()
        self.recovery_bar = RecoveryBar()
        self._recovery = Recovery(napari_viewer, self._session, self.recovery_bar, journals, self)
        self._runner = Runner(self)
        self._garbage = Garbage(napari_viewer, self)
        self._arrivals = Landing(self._session, self)
        self._closers = _Closers()
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self.redraw)
        self._removal = Removal(napari_viewer, self)
        self._build()
        self._connect()

    # what it looks like

    def _build(self) -> None:
        self.open_button = QPushButton("Open images…")
        self.open_button.setIcon(self.style().standardIcon(QStyle.StandardPixmap.SP_DialogOpenButton))
        self.open_button.setToolTip("Open one or several image files as layers")
        self.open_mask_button = QPushButton("Open mask…")
        self.open_mask_button.setToolTip(
            "Put an exported mask back onto the chosen image, with your strokes and the settings it was made with"
        )
        self.images = ImageChoice(self._viewer)
        self.choices = ModelChoice(self.images, self._settings)
        self.panel = RunPanel()
        self.correct = CorrectPanel(self._settings.shortcuts)
        self.gallery = Gallery()
        self.refine = RefineControls()
        self.exporter = ExportPanel()
        self.files = MaskFiles(self._session, self.images, self.exporter, self)
        self._correction = Correction(self._viewer, self._session, self.correct, self.gallery, self)

        self.about = AboutPanel()
        self.annotate = AnnotatePanel(self._settings.shortcuts)
        self.sampling = SamplingControls(self.choices, self.correct.strength)
        self._segmentation = Segmentation(
            self._session,
            self._runner,
            self._arrivals,
            self.images,
            self.sampling,
            self.refine,
            self._correction,
            self.panel,
            self,
        )
        self.queue = Queue(
            self._viewer,
            self._session,
            self._runner,
            self.annotate,
            self.sampling,
            self.refine,
            self._segmentation,
            self._arrivals,
            self,
        )
        self.learn = LearnDialog(self.choices, self)

        segment_box = QGroupBox("Segment")
        column = QVBoxLayout(segment_box)
        column.addWidget(self.choices)
        column.addWidget(self.panel)
        opening = QWidget()
        buttons = row(self.open_button, self.open_mask_button)
        buttons.setContentsMargins(0, 0, 0, 0)
        opening.setLayout(buttons)
        parts = (opening, segment_box, self.correct, self.gallery, self.refine, self.exporter)
        self.tabs = QTabWidget()
        self.tabs.setDocumentMode(True)  # no frame: every pixel of a dock's width counts
        self.tabs.tabBar().setDrawBase(False)  # a white line in a dark theme
        self.tabs.addTab(Scrolled(*parts), "Segment")
        self.tabs.addTab(Scrolled(self.annotate), "Annotate")
        self.tabs.addTab(Scrolled(self.about), "About")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, TITLE_OVERLAP, 0, 0)
        layout.addWidget(self.warning)
        layout.addWidget(self.recovery_bar)
        layout.addWidget(self.tabs)

    def _connect(self) -> None:
        self.open_button.clicked.connect(self._on_open)
        self.images.chosen.connect(self._on_image)
        self.images.activated.connect(self._on_picked)  # the user's hand only
        self.choices.chosen.connect(self._on_model)
        self.choices.failed.connect(self._on_error)
        self.choices.said.connect(self.panel.say)
        self.panel.button.clicked.connect(self._segmentation.toggle)
        self.refine.changed.connect(self._on_refine)
        self.correct.redraw.connect(self.redraw)
        self.correct.forget.connect(self._on_forget)
        self.correct.split.connect(self._on_split)
        self._correction.adopted.connect(self._on_adopted)
        self.open_mask_button.clicked.connect(self.files.ask)
        self.panel.said.connect(self.annotate.echo)
        self.panel.said.connect(lambda *_: self.exporter.say("", ""))
        self.files.said.connect(self.panel.say)
        self.files.said.connect(self._show_export)
        self.files.failed.connect(self._on_error)
        self.files.opened.connect(self._on_opened)
        self._segmentation.sampled.connect(self.queue.sampled)
        self._segmentation.finished.connect(self._on_finished)
        self._arrivals.written.connect(self._on_written)
        self._arrivals.failed.connect(self._segmentation.not_written)
        self.queue.wanted.connect(self.run)
        self.annotate.learning.connect(lambda: self.learn.ask(self.queue.project))
        self.queue.remasked.connect(self._on_mask_changed)
        self.choices.device.currentTextChanged.connect(self._show_about)
        self.about.unload.connect(lambda: self.about.show_unloaded(self._runner.unload()))
        self._recovery.said.connect(self._on_restored)
        self._recovery.restored.connect(self._on_images_restored)
        self._removal.over.connect(self._on_mask_changed)
        layers, dims = self._viewer.layers, self._viewer.dims
        layers.events.removed.connect(self._on_removed)
        layers.selection.events.active.connect(self._on_active)
        dims.events.current_step.connect(self._on_shown)
        # the last ones first: nothing listens any more when the layers go
        self._closers.calls += [
            self.learn.stop,
            self._garbage.close,
            self._runner.close,
            self._soon.stop,
            self._removal.close,
            self._arrivals.close,
            lambda: self._journal.close(keep=not self.queue.kept),
            self._session.close,
            self._correction.close,
            self.queue.close,
            self.about.close_events,
            self.images.close_events,
            partial(dims.events.current_step.disconnect, self._on_shown),
            partial(layers.selection.events.active.disconnect, self._on_active),
            partial(layers.events.removed.disconnect, self._on_removed),
        ]
        actions: dict[str, Callable[[], object]] = {
            "rediffuse": self.redraw,
            "accept": self.queue.accept,
            "skip": self.queue.skip,
            "next": partial(self.queue.step, 1),
            "previous": partial(self.queue.step, -1),
            "run": self._segmentation.toggle,
        }
        keys = Keys(self._viewer, self._settings.shortcuts, actions, self)
        self._closers.calls.append(keys.close)
        # the bound method of a dying widget would not be called any more
        self.destroyed.connect(self._closers.close)
        if self.choices.bundle is not None:
            self.choices.choose(self.choices.bundle)
        if self._problems:
            self.panel.say(". ".join(self._problems))
        self._recovery.look()
        self._on_shown()

    def event(self, event: QEvent) -> bool:
        """Stop everything and go when the dock is closed: napari then takes the widget out of its parent."""
        closed = event.type() == QEvent.Type.Close
        if closed or (event.type() == QEvent.Type.ParentChange and self.parent() is None):
            self._closers.close()
            self.deleteLater()  # napari deletes only what was around it
        return bool(super().event(event))

    @property
    def status(self) -> str:
        """The line under the progress bar."""
        return str(self.panel.label.text())

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return self._segmentation.running

    @property
    def comparing(self) -> bool:
        """Whether the samples of the mask on show are being compared."""
        return self._correction.comparing

    def run(self) -> None:
        """Segment the chosen image's frame on the canvas with the chosen model."""
        self._segmentation.run()

    def redraw(self) -> None:
        """Segment again under the user's strokes, points and boxes; a run under way is stopped."""
        self._segmentation.redraw()

    def cancel(self) -> None:
        """Stop the run; the old mask stays."""
        self._segmentation.cancel()

    def _on_error(self, error: Exception) -> None:
        failed = Failed.of(error)
        self.panel.say(failed.line, failed.details)

    def _on_autosave_failed(self, error: Exception) -> None:
        self.warning.setText(Failed.of(error).line)  # stays: a status line is overwritten by the next message
        self.warning.show()

    # what comes of a run

    def _on_finished(self, good: bool) -> None:
        if good:
            self._garbage.settle()
        self.finished.emit(good)

    def _on_refine(self) -> None:
        self._segmentation.suggested = None
        job = self._shown()
        if job is not None:
            self._segmentation.refine(job, self.refine.gesture)

    def _on_adopted(self, job: Job, run: int) -> None:
        self._segmentation.refine(job, run=run)

    def _on_written(self, refined: Refined) -> None:
        self.queue.masked(refined.job.image)
        self._segmentation.written(refined)
        self._on_mask_changed()

    def _shown(self) -> Job | None:
        """Return the chosen image's selected object in the frame on the canvas."""
        image = self.images.layer
        try:
            return None if image is None else self._session.job(image)
        except LSegDiffError:
            return None

    def _on_layer_changed(self, image: Image, painted: bool) -> None:
        if painted:
            self.images.layer = image
        self.queue.changed(image, painted)
        self._on_mask_changed()
        if not self.running:
            self.panel.say("")  # what was said of the mask as it was before
        if painted and self.correct.auto.isChecked():
            self._soon.start()  # the stroke ends only after this event

    def _on_mask_changed(self) -> None:
        """Let the controls tell what the canvas shows, also after undo."""
        if self._removal.under_way:
            return  # it follows when they are gone; strokes and agreement are layers, too
        job = self._shown()
        self._correction.show(job)
        if job is not None:
            self.queue.follow(job.image)
        self.open_mask_button.setEnabled(job is not None)
        self.exporter.button.setEnabled(job is not None and self._session.mask_layer(job.image) is not None)
        self.exporter.suggested = Path("mask") if job is None else _mask_beside(job.image)
        morphology = None if job is None else self._session.morphology(job)
        if morphology is not None and self._arrivals.idle:
            self.refine.show_morphology(morphology)

    # what the user and the viewer do

    def _show_export(self, text: str, tooltip: str) -> None:
        self.exporter.say(text, tooltip)
        segment = self.tabs.widget(0)
        if isinstance(segment, Scrolled):  # the line has its place only after this event
            QTimer.singleShot(0, partial(segment.ensureWidgetVisible, self.exporter.said))

    def _on_open(self) -> None:
        paths, _ = QFileDialog.getOpenFileNames(self, "Open images", filter=f"{IMAGES};;All files (*)")
        refused = open_images(self._viewer, paths)
        if refused is not None:
            self.panel.say(*refused)

    def _on_model(self, manifest: Manifest) -> None:
        suggested = self._settings.morphology(manifest.morphology)
        self._segmentation.suggested = suggested
        self.refine.set_default(suggested)
        self.sampling.end_loan()
        self._show_about()

    def _show_about(self) -> None:
        self.about.show_model(self.choices.bundle, self.choices.device.currentText())

    def _on_restored(self, text: str) -> None:
        self.panel.say(text)
        self._on_mask_changed()

    def _on_images_restored(self, images: list[ImageId]) -> None:
        self.tabs.setCurrentIndex(1 if self.queue.resume(images) else 0)  # Annotate or Segment: where the work is

    def _on_forget(self) -> None:
        job = self._shown()
        if job is not None and self._session.forget_strokes(job):
            self._on_mask_changed()

    def _on_split(self) -> None:
        job = self._shown()
        if job is None:
            return
        try:
            parts = self._session.split(job)
        except LSegDiffError as error:
            self._on_error(error)
            return
        self.panel.say(f"Object {job.number} is now {parts} objects" if parts > 1 else "The object is in one part")
        self._on_mask_changed()

    def _on_opened(self, job: Job, path: Path, note: str) -> None:
        notes = [text for text in (note, self._choose_model_of(job)) if text]
        sampling = self._session.sampling(job)
        if sampling is not None:
            self.sampling.lend(sampling)
        self._on_mask_changed()
        self.panel.say("; ".join([f"Opened: {path.name}", *notes]), str(path))

    def _choose_model_of(self, job: Job) -> str:
        """Choose the model that made a mask; return what there is to say if it cannot be chosen."""
        made = self._session.bundle(job)
        if made is None:
            return ""
        name, sha256 = made
        bundle = self.choices.listed(sha256)
        if bundle is None:
            return f"made with {name} ({sha256[:8]}…), which is not in the list of models"
        if bundle != self.choices.bundle:
            self.choices.choose(bundle)
        self._segmentation.suggested = None  # the next run refines as this mask was refined
        return ""

    def _on_removed(self, event: Any) -> None:
        self._segmentation.removed(event.value)

    def _on_active(self, event: Any) -> None:
        active = event.value
        image = active if isinstance(active, Image) else self._session.image_of(active)
        if image is not None:
            self.images.layer = image

    def _on_image(self) -> None:
        if not self.running:
            self.panel.say("")  # what was said of another image
        self.sampling.show_own()
        self._on_shown()

    def _on_picked(self) -> None:
        """Bring the image to the front: a stroke lands in the mask of the active layer."""
        image = self.images.layer
        if image is None:
            return
        layers, mask = self._viewer.layers, self._session.mask_layer(image)
        own = [image] if mask is None else [image, mask]
        for layer in own:
            layer.visible = True
        for layer in (*own, *self._correction.layers(image)):
            layers.move(layers.index(layer), len(layers))
        layers.selection.active = own[-1]

    def _on_shown(self, event: object = None) -> None:
        self._on_mask_changed()


def _mask_beside(image: Image) -> Path:
    """Return what to call the image's mask, beside its file if it has one; without a suffix."""
    name = f"{Path(image.name).stem} mask"
    return Path(name) if image.source.path is None else Path(image.source.path).parent / name
