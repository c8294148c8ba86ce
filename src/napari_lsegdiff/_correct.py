"""The part of the dock that corrects a mask: what is drawn again, with which hints, and which samples there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QSize, Signal
from qtpy.QtGui import QColor, QPainter, QPaintEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QGroupBox,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_lsegdiff._controls import ShareSlider, row
from napari_lsegdiff._pictures import icon
from napari_lsegdiff._shortcuts import DEFAULT, Shortcuts, written
from napari_lsegdiff._text import StatusLine, elided

THUMBNAIL = 88
# From 0.5 on a touch gains at least two thirds of the IoU that it gains at 1 (table of touches in docs/benchmarks.md).
USEFUL = (0.5, 1.0)


class Thumb(NamedTuple):
    """A hypothesis as a picture (h, w, 3) uint8, with the number of samples that show it."""

    picture: NDArray[np.uint8]
    votes: int
    total: int


class CorrectPanel(QGroupBox):
    """Re-diffuse, whose button names its key, and what goes with it."""

    redraw = Signal()
    point = Signal(bool)
    shapes = Signal()
    split = Signal()
    forget = Signal()
    strokes_shown = Signal(bool)

    def __init__(self, shortcuts: Shortcuts = DEFAULT, parent: QWidget | None = None) -> None:
        super().__init__("Correct", parent)
        self.redraw_button = QPushButton(f"Re-diffuse ({written(shortcuts.rediffuse)})")
        self.redraw_button.setMinimumHeight(30)
        self.redraw_button.setToolTip(
            "Paint or erase with the layer's own brush, then let the model draw the rest again: your strokes stay"
        )
        self.auto = QCheckBox("after each stroke")
        self.auto.setToolTip("Draws the rest again whenever you release the mouse")
        self.strength = ShareSlider(0.0, 1.0, 0.05)
        self.strength.setValue(1.0)
        tip = "How much is drawn again: 0 keeps the mask on show, 1 draws it anew; the bar marks the useful range"
        self.strength.setToolTip(tip)
        self.inside = QPushButton("Inside point")
        self.inside.setToolTip("Click on what belongs to the object")
        self.outside = QPushButton("Outside point")
        self.outside.setToolTip("Click on what does not belong to the object")
        self.box = QPushButton("Box, outline")
        self.box.setToolTip(
            "A rectangle: the object lies inside. An ellipse or polygon: the mask that Re-diffuse starts from"
        )
        self.split_button = QPushButton("Split parts")
        self.split_button.setToolTip("Makes each part of the selected object an object of its own (can be undone)")
        self.forget_button = QPushButton("Forget strokes")
        self.forget_button.setToolTip(
            "Drops what you painted on this frame and shows the model's mask again. Undo brings your strokes back; "
            "where the mask looks the same without them, it takes back your last change as well, if there is one"
        )
        self.forget_button.setEnabled(False)
        self.show_strokes = QCheckBox("Show strokes")
        self.show_strokes.setToolTip("Shows the pixels that your strokes hold: green inside, red outside")
        self.object = elided()
        self.object.setToolTip("Runs and sliders change this object only; choose another with the layer's label picker")

        keep, new = QLabel("keep"), QLabel("redraw")
        for label in (keep, new):
            label.setToolTip(tip)
        slider = QGridLayout()
        slider.addWidget(keep, 0, 0)
        slider.addWidget(self.strength, 0, 1)
        slider.addWidget(new, 0, 2)
        slider.addWidget(_RangeMark(self.strength), 1, 1)
        slider.setVerticalSpacing(0)

        column = QVBoxLayout(self)
        column.addLayout(row(self.redraw_button, self.auto))
        column.addLayout(slider)
        column.addLayout(row(self.inside, self.outside, self.box))
        column.addLayout(row(self.split_button, self.forget_button))
        column.addLayout(row(self.object, self.show_strokes))
        self.redraw_button.clicked.connect(lambda: self.redraw.emit())
        self.inside.clicked.connect(lambda: self.point.emit(True))
        self.outside.clicked.connect(lambda: self.point.emit(False))
        self.box.clicked.connect(lambda: self.shapes.emit())
        self.split_button.clicked.connect(lambda: self.split.emit())
        self.forget_button.clicked.connect(lambda: self.forget.emit())
        self.show_strokes.toggled.connect(self.strokes_shown)

    def show_object(self, number: int, name: str) -> None:
        """Say which object is worked on."""
        self.object.setText(f"Object {number}" + (f": {name}" if name else ""))


class Gallery(QGroupBox):
    """The hypotheses of several seeds; ``chosen`` carries the place of the one that was clicked."""

    chosen = Signal(int)
    agreement_shown = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Hypotheses", parent)
        self.say = StatusLine()
        self.agreement = QCheckBox("Show agreement")
        self.agreement.setToolTip(
            "A layer that is bright where the samples disagree. It compares samples of this model; "
            "it is no probability of disease. There is none as long as the mask has one sample only"
        )
        self.list = QListWidget()
        self.list.setViewMode(QListWidget.ViewMode.IconMode)
        self.list.setFlow(QListWidget.Flow.LeftToRight)
        self.list.setWrapping(False)
        self.list.setMovement(QListWidget.Movement.Static)
        self.list.setIconSize(QSize(THUMBNAIL, THUMBNAIL))
        self.list.setToolTip("Click on one to take it; undo brings the mask before back")
        column = QVBoxLayout(self)
        for widget in (self.say, self.list, self.agreement):
            column.addWidget(widget)
        self.list.itemClicked.connect(lambda item: self.chosen.emit(self.list.row(item)))
        self.agreement.toggled.connect(self.agreement_shown)
        self.clear()

    def clear(self, text: str = "A run with several seeds shows here what else the model holds possible") -> None:
        """Show no hypotheses, and why."""
        self.list.clear()
        self.list.hide()
        self.say.setText(text)

    def show_thumbs(self, thumbs: Sequence[Thumb]) -> None:
        """Show the hypotheses, the one with the most votes first."""
        self.list.clear()
        for thumb in thumbs:
            item = QListWidgetItem(icon(thumb.picture), f"{thumb.votes} of {thumb.total}")
            self.list.addItem(item)
        self.list.setFixedHeight(max((thumb.picture.shape[0] for thumb in thumbs), default=0) + 52)
        self.list.show()
        self.say.setText("Click on the one that you think is right")


class _RangeMark(QWidget):
    """A bar under a slider that marks its useful range."""

    def __init__(self, slider: ShareSlider) -> None:
        super().__init__()
        self._slider = slider
        self.setFixedHeight(4)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw the bar."""
        # the slider's own label takes the right part of its width
        label = self._slider._label.width() + 6
        width = self.width() - label
        low, high = (round(value * width) for value in USEFUL)
        painter = QPainter(self)
        painter.fillRect(low, 0, max(1, high - low), self.height(), QColor("#00b8cc"))
        painter.end()
