"""Masks to files and back, with what their sidecars say."""

from __future__ import annotations

from pathlib import Path

from napari.layers import Image
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QFileDialog, QWidget

from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.saved import Saved, read_saved
from napari_lsegdiff._choices import ImageChoice
from napari_lsegdiff._frames import Frame
from napari_lsegdiff._jobs import Job
from napari_lsegdiff._objects import read_provenance
from napari_lsegdiff._panels import ExportPanel
from napari_lsegdiff._session import Session


def adopt_saved(session: Session, image: Image, frame: Frame, saved: Saved, seconds: float) -> None:
    """Give a frame the mask that was read from a file, with the user's strokes and how it was made.

    Raises
    ------
    LSegDiffError
        As `Session.adopt`.
    """
    origins, rows = read_provenance(saved.provenance)
    session.adopt(image, frame, saved.labels, saved.strokes, origins, rows, seconds)
    layer = session.mask_layer(image)
    if layer is not None and saved.labels.any() and not (saved.labels == layer.selected_label).any():
        layer.selected_label = int(saved.labels[saved.labels > 0].min())  # there is nothing else to work on


class MaskFiles(QObject):
    """Writes the chosen image's mask, and puts one from a file back onto it.

    Parameters
    ----------
    session, images, exporter
        The masks, which image, and the controls.
    parent
        The dock.

    Attributes
    ----------
    said
        Emitted with a sentence and the whole path.
    failed
        Emitted with an error.
    opened
        Emitted with the `Job` whose mask has come from a file, the file's path, and what is to be said of it.
    """

    said = Signal(str, str)
    failed = Signal(object)
    opened = Signal(object, object, str)

    def __init__(self, session: Session, images: ImageChoice, exporter: ExportPanel, parent: QWidget) -> None:
        super().__init__(parent)
        self._session, self._images, self._window = session, images, parent
        exporter.chosen.connect(self._on_export)

    def ask(self) -> None:
        """Ask for a mask or its sidecar, and put it onto the chosen image."""
        path, _ = QFileDialog.getOpenFileName(self._window, "Open a mask", filter="Masks (*.png *.json)")
        if path:
            self.open(Path(path))

    def open(self, path: Path) -> None:
        """Put an exported mask, or the one of a sidecar, onto the chosen image's frame on the canvas."""
        image = self._images.layer
        if image is None:
            self.said.emit("No image: open the one that the mask was made of first", "")
            return
        try:
            saved = read_saved(path)
            job = self._session.job(image)
            seconds = saved.provenance.get("seconds")
            adopt_saved(self._session, image, job.frame, saved, seconds if isinstance(seconds, int | float) else 0.0)
        except LSegDiffError as error:
            self.failed.emit(error)
            return
        self.opened.emit(Job(image, job.frame, self._session.selected(image), image.name), path, saved.note)

    def _on_export(self, path: Path, format: str) -> None:
        image = self._images.layer
        if image is None:
            return
        try:
            self._session.export(image, path, format)
        except Exception as error:
            self.failed.emit(error)
        else:
            self.said.emit(f"Written: {path.name} in {path.parent.name}, with how it was made beside it", str(path))
