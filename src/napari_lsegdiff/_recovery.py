"""After a crash: the masks of the journals that were left behind, back onto their images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QMessageBox, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.journal import crashed, discard, read_journal
from lsegdiff_core.journal_format import ImageId, Recovered
from napari_lsegdiff._autosave import PROJECT
from napari_lsegdiff._frames import lone_labels, shape_of
from napari_lsegdiff._objects import METADATA, Origin, describe, list_objects
from napari_lsegdiff._overlays import is_overlay
from napari_lsegdiff._session import Session

# Images that the offer names.
MOST_NAMES = 3


def recover(viewer: ViewerModel, session: Session, recovered: Sequence[Recovered]) -> str:
    """Put masks back onto their images, which are opened where they are missing, and return a sentence on it.

    A mask whose image cannot be had is added as a Labels layer of its own. Doing it again changes nothing.

    Parameters
    ----------
    viewer, session
        Where to.
    recovered
        From `read_journal`; of two masks of one frame the later one counts.

    Raises
    ------
    LSegDiffError
        If the user is drawing on a mask; nothing more is restored, and it can be done again.
    """
    masks: dict[ImageId, list[Recovered]] = {}
    for state in recovered:
        masks.setdefault(state.image, []).append(state)
    taken: dict[Image, ImageId] = {}
    lone = []
    for wanted, states in masks.items():
        try:
            image = _image(viewer, wanted, taken)
        except LSegDiffError as error:
            _add_alone(viewer, session, states)
            lone.append(str(error))
            continue
        taken[image] = wanted
        image.metadata[PROJECT] = wanted.project
        for state in states:
            session.adopt(image, state.frame, state.labels, state.locked, state.origins, state.objects)
    restored = f"Restored {_count(len({(state.image, state.frame) for state in recovered}))}"
    return f"{restored}; as layers of their own, without an image: {'; '.join(lone)}" if lone else restored


def _image(viewer: ViewerModel, wanted: ImageId, taken: dict[Image, ImageId]) -> Image:
    """Return the layer of an image, opened if need be; an `LSegDiffError` says why there is none."""
    layers = [layer for layer in viewer.layers if _fits(layer, wanted, taken)]
    path, sample = wanted.path, wanted.sample
    found = next((layer for layer in layers if path is not None and _path(layer) == path), None)
    if found is None and path is not None and Path(path).exists():
        return _open(viewer, wanted, taken, path, lambda: viewer.open(path, plugin=wanted.reader or "napari"))
    # the file has gone, but the user may have opened it from another place
    found = found or next((layer for layer in layers if layer.name == wanted.name), None)
    # a sample that was given another name
    found = found or next((layer for layer in layers if sample is not None and layer.source.sample == sample), None)
    if found is None and sample is not None:
        return _open(viewer, wanted, taken, f"sample {sample[1]}", lambda: viewer.open_sample(*sample))
    if found is None:
        gone = "was no file" if path is None else f"{path} is gone"
        raise LSegDiffError(f"{wanted.name} ({gone})")
    return found


def _open(
    viewer: ViewerModel, wanted: ImageId, taken: dict[Image, ImageId], what: str, add: Callable[[], object]
) -> Image:
    """Return the layer that ``add`` brings of ``what``; an `LSegDiffError` says why there is none."""
    before = set(viewer.layers)
    try:
        add()
    except Exception as error:  # readers raise whatever they like
        raise LSegDiffError(f"{wanted.name} ({what} cannot be opened)") from error
    new = [layer for layer in viewer.layers if layer not in before]
    for layer in new:
        if _fits(layer, wanted, taken):
            return layer
    for layer in new:
        viewer.layers.remove(layer)
    raise LSegDiffError(f"{wanted.name} ({what} has another size now)")


def _fits(layer: object, wanted: ImageId, taken: dict[Image, ImageId]) -> bool:
    if not isinstance(layer, Image) or is_overlay(layer) or shape_of(layer) != wanted.shape:
        return False
    if layer.metadata.get(PROJECT) not in (None, wanted.project):
        return False
    other = taken.get(layer, wanted)
    # an image that was opened twice has two names; in the journals of two crashes it has one, in two projects two masks
    return (other.name, other.path, other.project) == (wanted.name, wanted.path, wanted.project)


def _path(layer: Image) -> str | None:
    return None if layer.source.path is None else str(layer.source.path)


def _add_alone(viewer: ViewerModel, session: Session, states: Sequence[Recovered]) -> None:
    """Add the frames of one mask without its image, unless they are there."""
    image = states[0].image
    dtype = np.result_type(*(state.labels for state in states))
    labels = lone_labels(image.name, image.shape, dtype)
    known = labels.metadata.setdefault(METADATA, {})
    for state in states:
        labels.data[state.frame] = state.labels
        origins = {number: Origin(None, origin) for number, origin in state.origins.items()}
        made = describe(origins, state.locked is not None)
        known[state.frame] = {**made, "strokes": state.locked, "seconds": 0.0}
        list_objects(labels, np.unique(state.labels).tolist(), rows=state.objects)
    if not any(isinstance(other, Labels) and np.array_equal(other.data, labels.data) for other in viewer.layers):
        active = viewer.layers.selection.active
        viewer.layers.insert(0, labels)  # below all images, so that no stroke goes there by mistake
        viewer.layers.selection.active = active
        session.keep(labels, states)


def _count(masks: int) -> str:
    return f"{masks} mask" if masks == 1 else f"{masks} masks"


class RecoveryBar(QWidget):
    """What can be restored, and three buttons; hidden as long as there is nothing."""

    restore = Signal()
    discard = Signal()
    later = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.label = QLabel()
        self.label.setWordWrap(True)
        self.restore_button = QPushButton("Restore")
        self.restore_button.setToolTip("Open the images again and put the masks and your strokes back onto them")
        self.discard_button = QPushButton("Discard")
        self.discard_button.setToolTip("Delete these masks for good")
        self.later_button = QPushButton("Later")
        self.later_button.setToolTip("Keep them, and ask again when LSegDiff is opened the next time")
        row = QHBoxLayout()
        for button in (self.restore_button, self.discard_button, self.later_button):
            # a narrow dock shares its width among the three
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            row.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(6, 2, 6, 0)
        column.addWidget(self.label)
        column.addLayout(row)
        self.restore_button.clicked.connect(lambda: self.restore.emit())
        self.discard_button.clicked.connect(self._on_discard)
        self.later_button.clicked.connect(lambda: self.later.emit())
        self.hide()

    def show_recovered(self, recovered: Sequence[Recovered]) -> None:
        """Say how many masks there are and of when; hide without any."""
        if recovered:
            last = datetime.fromtimestamp(max(state.time for state in recovered))
            when = f"{last:%H:%M}" if last.date() == datetime.now().date() else f"{last:%Y-%m-%d %H:%M}"
            names = list(dict.fromkeys(state.image.name for state in recovered))
            named = ", ".join([*names[:MOST_NAMES], *["…"][: len(names) - MOST_NAMES]])
            self.label.setText(
                f"LSegDiff ended before all was saved: {_count(len(recovered))} from {when} can be restored ({named})"
            )
        self.setVisible(bool(recovered))

    def _on_discard(self) -> None:
        answer = QMessageBox.question(self, "Discard masks", "Delete the masks that could be restored, for good?")
        if answer == QMessageBox.StandardButton.Yes:
            self.discard.emit()


class Recovery(QObject):
    """The bar at work.

    Parameters
    ----------
    viewer, session
        Where masks are restored.
    bar
        What the user sees.
    folder
        Of the journals.
    parent
        The dock.

    Attributes
    ----------
    said
        Emitted with a sentence on what was restored, or why not.
    restored
        Emitted with the `ImageId` of each image whose masks are back.
    """

    said = Signal(str)
    restored = Signal(list)

    def __init__(
        self, viewer: ViewerModel, session: Session, bar: RecoveryBar, folder: Path, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer, self._session, self._bar, self._folder = viewer, session, bar, folder
        self._paths: list[Path] = []
        self._recovered: list[Recovered] = []
        bar.restore.connect(self._on_restore)
        bar.discard.connect(self._on_discard)
        bar.later.connect(self._clear)

    def look(self) -> None:
        """Offer what crashed sessions have left behind."""
        self._clear()
        for path in crashed(self._folder):
            try:
                found = read_journal(path)
                if not found:
                    discard(path)
                    continue
            except LSegDiffError as error:
                self.said.emit(str(error))
                continue
            self._paths.append(path)
            self._recovered += found
        self._bar.show_recovered(self._recovered)

    def _clear(self) -> None:
        self._paths, self._recovered = [], []
        self._bar.show_recovered([])

    def _on_restore(self) -> None:
        try:
            self.said.emit(recover(self._viewer, self._session, self._recovered))
        except LSegDiffError as error:
            self.said.emit(str(error))
            return
        images = list(dict.fromkeys(state.image for state in self._recovered))
        if self._session.recording:  # its own journal holds by now whatever was restored
            self._on_discard()
        else:
            self._clear()
        self.restored.emit(images)

    def _on_discard(self) -> None:
        paths = self._paths
        self._clear()
        for path in paths:
            try:
                discard(path)
            except LSegDiffError as error:
                self.said.emit(str(error))
