"""The About tab: versions, devices, the model's card, its check, and the log of this session."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from functools import partial

import qtpy
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QGuiApplication, QShowEvent
from qtpy.QtWidgets import (
    QGridLayout,
    QGroupBox,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from lsegdiff_core.doctor import WARNING, Card, Check, Report, check, examine
from lsegdiff_core.memory import Memory, memory_in_use
from napari_lsegdiff._controls import row
from napari_lsegdiff._log import SessionLog
from napari_lsegdiff._text import elided
from napari_lsegdiff._worker import Failed, NewestWins

logger = logging.getLogger(__name__)
LOG_HEIGHT = 130


class AboutPanel(QWidget):
    """What a user reads, and sends along with a question.

    Nothing heavy happens in the window's thread: the facts are gathered in a worker whenever the panel becomes visible.

    Attributes
    ----------
    unload
        Emitted when the user wants the model's memory back; answer with `show_unloaded`.
    """

    unload = Signal()
    _logged = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._bundle: str | None = None
        self._device = "auto"
        self._report: Report | None = None
        self._worker = NewestWins(self)
        self._build()
        self._worker.done.connect(self._on_done)
        # a record comes in any thread, the signal carries it into the window's
        self._logged.connect(self._show_log)
        self._log = SessionLog(self._logged.emit)

    def _build(self) -> None:
        self.versions, self.devices = _Facts("Versions"), _Facts("This computer")
        self.card = _CardBox()
        self.check_button = QPushButton("Check the model")
        self.check_button.setToolTip("Asks the model for the result that it was released with, and compares")
        self.unload_button = QPushButton("Unload model")
        self.unload_button.setToolTip("Gives the model's memory back; the next run loads it again")
        self.status = _text("")
        self.log = QPlainTextEdit()
        self.log.setReadOnly(True)
        self.log.setFixedHeight(LOG_HEIGHT)
        self.log.setToolTip("What happened since the dock was opened; it names no image")
        self.log.setPlaceholderText("Nothing happened yet")
        self.copy_button = QPushButton("Copy report")
        self.copy_button.setToolTip(
            "Copies versions, devices, the model's name and hash, and the log as text, to send along with a question; "
            "it names no image"
        )
        log_box = QGroupBox("Log of this session")
        inside = QVBoxLayout(log_box)
        inside.addWidget(self.log)
        inside.addWidget(self.copy_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.card)
        column.addLayout(row(self.check_button, self.unload_button))
        column.addWidget(self.status)
        for widget in (self.versions, self.devices, log_box):
            column.addWidget(widget)
        column.addStretch(1)
        self.check_button.clicked.connect(self._on_check)
        self.unload_button.clicked.connect(self.unload)
        self.copy_button.clicked.connect(self._on_copy)
        self.copy_button.setEnabled(False)
        self.check_button.setEnabled(False)

    @property
    def report(self) -> str:
        """All of it as plain text, without paths and without names of images."""
        return "\n".join([str(self._report or ""), f"{'memory':16s} {memory_in_use()}", WARNING, "", *self._log.lines])

    def show_model(self, bundle: str | None, device: str) -> None:
        """Say which bundle (name or folder) and which device are chosen."""
        self._bundle, self._device = bundle, device
        self.check_button.setEnabled(bundle is not None)
        if self.isVisible():
            self._gather()

    def show_unloaded(self, memory: tuple[Memory, Memory] | None) -> None:
        """Show the memory in use before and after the model was unloaded; None if it could not be."""
        if memory is None:
            self.status.setText("A run is under way: cancel it, or wait for its end, and unload then")
        else:
            self.status.setText(f"Memory in use: {memory[0]} before, {memory[1]} now")
            if self.isVisible():
                self._gather()

    def close_events(self) -> None:
        """Stop listening to the log and to the worker."""
        self._log.close()
        self._worker.close()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        """Gather the facts anew: the memory changes."""
        super().showEvent(event)
        self._gather()

    def _gather(self) -> None:
        self._worker.request("report", partial(_gather, self._bundle))

    def _on_copy(self) -> None:
        QGuiApplication.clipboard().setText(self.report)
        self.status.setText("Copied the report; paste it into your message")

    def _on_check(self) -> None:
        if self._bundle is not None:
            self.check_button.setEnabled(False)
            self.status.setText("Checking…")
            self._worker.request("check", partial(_check, self._bundle, self._device), "check")

    def _on_done(self, result: Report | Check | Failed, tag: str | None) -> None:
        if tag == "check":
            self.check_button.setEnabled(self._bundle is not None)
        if isinstance(result, Failed):
            self.status.setText(result.line)
            self.status.setToolTip(result.details)
        elif isinstance(result, Check):
            self.status.setText(str(result))
        else:
            self._report = result
            self.versions.show_facts(result.versions)
            self.devices.show_facts({**result.devices, "memory in use": str(memory_in_use())})
            self.card.show_card(result.card)
            self.copy_button.setEnabled(True)

    def _show_log(self) -> None:
        self.log.setPlainText("\n".join(self._log.lines))
        bar = self.log.verticalScrollBar()
        bar.setValue(bar.maximum())


class _Rows(QGroupBox):
    """Names and values below each other; a form's rows do not always have the height of a text in several lines."""

    def __init__(self, title: str) -> None:
        super().__init__(title)
        self._grid = QGridLayout(self)
        self._grid.setColumnStretch(1, 1)

    def add_row(self, name: str, value: QLabel) -> None:
        """Add a name and a value, or without a name something over the whole width."""
        place = self._grid.rowCount()
        value.setIndent(0)  # at the top, a label would leave room above its text, too
        if name:
            label = QLabel(name)
            label.setIndent(0)
            self._grid.addWidget(label, place, 0, Qt.AlignmentFlag.AlignTop)
            self._grid.addWidget(value, place, 1)
        else:
            self._grid.addWidget(value, place, 0, 1, 2)


class _Facts(_Rows):
    """Names and values that may change; the names stay."""

    def __init__(self, title: str) -> None:
        super().__init__(title)
        self._values: dict[str, QLabel] = {}

    def show_facts(self, facts: Mapping[str, str]) -> None:
        for name, value in facts.items():
            if name not in self._values:
                self._values[name] = _text("")
                self.add_row(name, self._values[name])
            self._values[name].setText(value)


class _CardBox(_Rows):
    """The chosen bundle's card."""

    def __init__(self) -> None:
        super().__init__("Model")
        self.text, self.licence = _text(""), _text("")
        self.validation = _text("")
        self.validation.setToolTip("Measured on the images that the weights were chosen with; not a test result")
        self.sha256, self.folder = elided(), elided()
        for label in (self.sha256, self.folder):
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.warning = _text(f"<b>{WARNING}</b>")
        self.add_row("", self.text)
        for name, widget in (
            ("Licence", self.licence),
            ("Validation", self.validation),
            ("SHA-256", self.sha256),
            ("Folder", self.folder),
        ):
            self.add_row(name, widget)
        self.add_row("", self.warning)

    def show_card(self, card: Card | None) -> None:
        if card is None:
            self.text.setText("No model is chosen")
        else:
            self.text.setText(f"{card.manifest.name}: {card.manifest.description}")
        self.licence.setText("" if card is None else card.manifest.licence)
        # a score stays on one line with its steps
        scores = "" if card is None else card.validation.replace(" at ", "\u00a0at\u00a0")
        self.validation.setText(scores or "none")
        for label, value in (
            (self.sha256, "" if card is None else card.sha256),
            (self.folder, "" if card is None else str(card.folder)),
        ):
            label.setText(value)
            label.setToolTip(value)


def _text(text: str) -> QLabel:
    label = QLabel(text)
    label.setWordWrap(True)
    label.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


def _gather(bundle: str | None) -> Report:
    report = examine(bundle)
    binding = qtpy.PYSIDE_VERSION or qtpy.PYQT_VERSION or ""
    return dataclasses.replace(report, versions={**report.versions, qtpy.API_NAME: binding})


def _check(bundle: str, device: str) -> Check:
    found = check(bundle, device)
    logger.info("Check of the model: %s", found)
    return found
