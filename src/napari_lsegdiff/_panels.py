"""Two small parts of the dock: the run with its progress and status, and the export."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QGroupBox,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from lsegdiff_core.export import SUFFIXES
from napari_lsegdiff._controls import row
from napari_lsegdiff._progress import ProgressBar
from napari_lsegdiff._text import StatusLine, Wrapped

# what each of the exporters' formats is
FORMATS = {
    "png": "Black and white PNG: 255 on the mask",
    "indexed-png": "PNG with the object's number as the pixel's value and a colour for each",
    "coco": "COCO annotations: run lengths (RLE), one for each object",
}


class RunPanel(QWidget):
    """The Run button, which is Cancel during a run, a progress bar and one status line.

    Attributes
    ----------
    said
        Emitted with each message, and with its tooltip.
    """

    said = Signal(str, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.button = QPushButton()
        self.button.setMinimumHeight(34)
        self.progress = ProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(8)
        self.label = StatusLine()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.button, self.progress, self.label):
            column.addWidget(widget)
        self.set_running(False)

    def say(self, text: str, tooltip: str = "") -> None:
        """Show a status line; ``tooltip`` holds the whole story when there is more to it."""
        self.label.say(text, tooltip)
        self.said.emit(text, tooltip)

    def show_progress(self, done: int, total: int) -> None:
        """Show ``done`` of ``total`` steps; a total of 0 means that nobody knows."""
        self.progress.show_progress(done, total)

    def set_running(self, running: bool) -> None:
        """Turn the button into Cancel or back into Run."""
        self.button.setText("Cancel" if running else "Run")
        self.button.setToolTip(
            "Stop after the current step; the old mask stays" if running else "Segment the image with the model"
        )
        self.show_progress(0, 0 if running else 1)


class ExportPanel(QGroupBox):
    """Format and file; ``chosen`` carries the path and the format's name."""

    chosen = Signal(object, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Export", parent)
        self.suggested = Path("mask")
        self.format = QComboBox()
        for name, tip in FORMATS.items():
            self.format.addItem(name)
            self.format.setItemData(self.format.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
        self.format.setToolTip("File format of the mask; its provenance is written beside it")
        self.button = QPushButton("Export…")
        self.button.setToolTip("Write the current frame's mask to a file")
        self.said = Wrapped()
        self.said.hide()
        choice = row(self.format, self.button)
        choice.setStretch(0, 1)
        column = QVBoxLayout(self)
        column.addLayout(choice)
        column.addWidget(self.said)
        self.button.clicked.connect(self._on_clicked)

    def say(self, text: str, tooltip: str) -> None:
        """Show what became of an export: the dock's status line may be out of sight down here."""
        self.said.setText(text)
        self.said.setToolTip(tooltip)
        self.said.setVisible(bool(text))

    def _on_clicked(self) -> None:
        name = self.format.currentText()
        suffix = SUFFIXES[name]
        text, _ = QFileDialog.getSaveFileName(
            self, "Export the mask", f"{self.suggested}{suffix}", f"{name} (*{suffix})"
        )
        if text:
            path = Path(text)
            self.chosen.emit(path if path.suffix else path.with_suffix(suffix), name)
