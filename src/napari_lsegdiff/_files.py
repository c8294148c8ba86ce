"""Masks to files and back, with what their sidecars say."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from napari.components import ViewerModel
from napari.layers import Image
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QFileDialog, QWidget

from lsegdiff_core.data.images import pixel_hash, read_image, to_rgb
from lsegdiff_core.data.readers import SUFFIXES
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.saved import Saved, read_saved
from napari_lsegdiff._choices import ImageChoice
from napari_lsegdiff._frames import Frame, read_frame
from napari_lsegdiff._objects import read_provenance
from napari_lsegdiff._panels import ExportPanel
from napari_lsegdiff._session import Session
from napari_lsegdiff._worker import Failed

# What stands first in the file dialog; napari reads more.
IMAGES = f"Images ({' '.join(f'*{suffix}' for suffix in SUFFIXES)})"


def open_images(viewer: ViewerModel, paths: Sequence[str]) -> Failed | None:
    """Open each file as a layer; return what is to be said of those that cannot be, None if all could."""
    refused: dict[str, str] = {}
    for path in paths:
        try:
            viewer.open(path, plugin="napari")
        except Exception as error:  # readers raise whatever they like
            refused[Path(path).name] = _reason(Path(path), error)
    if not refused:
        return None
    reasons = "\n".join(refused.values())
    if len(refused) == 1:
        return Failed(reasons, reasons)
    return Failed(f"{', '.join(refused)}: cannot be opened as images; let the mouse rest here to read why", reasons)


def _reason(path: Path, error: Exception) -> str:
    try:
        read_image(path)
    except LSegDiffError as ours:  # says what to do
        return str(ours)
    return f"{path}: cannot be opened ({error}); save it as one of {', '.join(SUFFIXES)}"


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
        Emitted with what became of an export, a sentence and the whole story.
    failed
        Emitted with what keeps a mask from being opened.
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
            self.failed.emit(LSegDiffError("No image: open the one that the mask was made of first"))
            return
        try:
            saved = read_saved(path)
            job = self._session.job(image)
            seconds = saved.provenance.get("seconds")
            notes = "; ".join(filter(None, (saved.note, _doubt(image, job.frame, saved))))
            adopt_saved(self._session, image, job.frame, saved, seconds if isinstance(seconds, int | float) else 0.0)
        except LSegDiffError as error:
            self.failed.emit(error)
            return
        self.opened.emit(self._session.job(image), path, notes)

    def _on_export(self, path: Path, format: str) -> None:
        image = self._images.layer
        if image is None:
            return
        try:
            self._session.export(image, path, format)
        except Exception as error:
            failed = Failed.of(error)
            self.said.emit(failed.line, failed.details)
        else:
            self.said.emit(f"Written: {path.name} in {path.parent.name}, with how it was made beside it", str(path))


def _doubt(image: Image, frame: Frame, saved: Saved) -> str:
    """Return what there is to say of a mask whose sidecar speaks of other pixels than those of the frame."""
    about = saved.provenance.get("image", {})
    known = about.get("sha256")
    with suppress(LSegDiffError):  # what cannot be segmented is no image that a mask was made of
        if known is None or known == pixel_hash(to_rgb(read_frame(image, frame), image.name)):
            return ""
    return f"it was made of another image ({about.get('name')}); make sure that it belongs to this one"
