"""The Annotate tab: the queue of images, what to do with the one on the canvas, and notes on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qtpy.QtCore import QModelIndex, QSize, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHeaderView,
    QLineEdit,
    QMenu,
    QPushButton,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from lsegdiff_core.classes import ObjectClass
from lsegdiff_core.project import FOLDER, Project
from lsegdiff_core.project_file import Item
from napari_lsegdiff._controls import row
from napari_lsegdiff._pictures import patch
from napari_lsegdiff._progress import ProgressBar
from napari_lsegdiff._queue_table import DOUBT, FILTERS, NAME_ROLE, THUMBNAIL, QueueFilter, QueueTable
from napari_lsegdiff._shortcuts import DEFAULT, Shortcuts, written
from napari_lsegdiff._text import StatusLine, elided

COCO = "annotations.json"


class AnnotatePanel(QWidget):
    """The controls of the queue; `Queue` does the work. Its buttons name their ``shortcuts``.

    Attributes
    ----------
    folder_chosen, list_chosen
        Emitted with the path of a folder of images or a project, or of a text file of image paths.
    item_chosen
        Emitted with an item's name.
    accepted, skipped, scored
        Emitted when the button was pressed.
    stepped
        Emitted with 1 or -1.
    noted, tagged
        Emitted when the user has finished writing.
    class_chosen
        Emitted with the name of the class of the selected object.
    classes_asked
        Emitted when the user wants to edit the classes.
    exported
        Emitted with the path of the COCO file to write.
    learning
        Emitted when the model is to learn from the accepted masks.
    """

    folder_chosen = Signal(object)
    list_chosen = Signal(object)
    item_chosen = Signal(str)
    accepted = Signal()
    skipped = Signal()
    scored = Signal()
    stepped = Signal(int)
    noted = Signal(str)
    tagged = Signal(tuple)
    class_chosen = Signal(str)
    classes_asked = Signal()
    exported = Signal(object)
    learning = Signal()

    def __init__(self, shortcuts: Shortcuts = DEFAULT, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._filter: QueueFilter | None = None
        self._suggested = Path(COCO)
        self._told = False
        self.open_button = QPushButton("Open…")
        self.open_button.setToolTip("A folder of images, a list of image files, or a project that you began")
        menu = QMenu(self.open_button)
        menu.addAction("Folder of images, or project…", self._on_folder)
        menu.addAction("Text file with one image path a line…", self._on_list)
        self.open_button.setMenu(menu)
        self.title = elided()
        self.progress = ProgressBar()
        self.progress.setToolTip("Done are images that are accepted or skipped")

        self.status = QComboBox()
        self.status.addItems(FILTERS)
        self.status.setToolTip(
            "Which images the table shows, and Next and Previous go through; doubtful: the model's samples disagree by "
            f"{DOUBT} or more"
        )
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search names, tags, notes")
        self.search.setClearButtonEnabled(True)
        self.search.setToolTip("Shows only images with this text in their name, tags or notes")
        self.table = QTableView()
        self.table.setToolTip("Click on an image to work on it; click on a column's title to sort")
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setSortingEnabled(True)
        self.table.setIconSize(QSize(THUMBNAIL, THUMBNAIL))
        self.table.setShowGrid(False)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        self.table.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.table.setMinimumHeight(180)

        self.accept_button = QPushButton(f"Accept, next ({written(shortcuts.accept)})")
        self.accept_button.setMinimumHeight(34)
        self.accept_button.setToolTip("Saves the mask as good and goes on to the next image")
        self.skip_button = QPushButton(f"Skip ({written(shortcuts.skip)})")
        self.skip_button.setToolTip("Leaves this image out and goes on to the next; nothing is deleted")
        self.previous_button = QPushButton(f"Previous ({written(shortcuts.previous)})")
        self.previous_button.setToolTip("The image before in the table; what you drew here is kept as a draft")
        self.next_button = QPushButton(f"Next ({written(shortcuts.next)})")
        self.next_button.setToolTip("The next image in the table; what you drew here is kept as a draft")
        self.score_button = QPushButton("Score all")
        self.score_button.setToolTip(
            "Segments every new image with several seeds and notes how much the samples disagree, so that the table "
            "can be sorted by it, or show the doubtful ones only; pressed again, it stops"
        )
        self.export_button = QPushButton("Export all…")
        self.export_button.setToolTip("Writes the accepted masks of all images as one COCO file")
        self.learn_button = QPushButton("Learn…")
        self.learn_button.setToolTip("Trains the model further on the masks that you accepted, and compares both")

        self.classes_button = QPushButton("Classes…")
        self.classes_button.setToolTip("Add, rename, recolour or remove the classes of this project")
        self.object_class = QComboBox()
        self.object_class.setToolTip("What the selected object is; choose the object with the layer's label picker")
        self.tags = QLineEdit()
        self.tags.setPlaceholderText("blurred, stool, …")
        self.tags.setToolTip("Your own marks, separated by commas")
        self.notes = QLineEdit()
        self.notes.setToolTip("Anything worth knowing of this image")
        self.say = StatusLine()

        self.about = QGroupBox("This image")
        form = QFormLayout(self.about)
        choice = row(self.object_class, self.classes_button)
        choice.setStretch(0, 1)
        form.addRow("Class", choice)
        form.addRow("Tags", self.tags)
        form.addRow("Notes", self.notes)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        top = row(self.open_button, self.title)
        top.setStretch(1, 1)
        column.addLayout(top)
        column.addWidget(self.progress)
        column.addLayout(row(self.status, self.search))
        column.addWidget(self.table, 1)
        column.addWidget(self.say)  # a long message takes its room from the table: the buttons stay under the mouse
        column.addLayout(row(self.score_button, self.learn_button, self.export_button))
        column.addWidget(self.accept_button)
        column.addLayout(row(self.previous_button, self.skip_button, self.next_button))
        column.addWidget(self.about)
        self._connect()
        self.show_project(None, None)

    def _connect(self) -> None:
        self.status.currentTextChanged.connect(lambda text: self._narrow())
        self.search.textChanged.connect(lambda text: self._narrow())
        self.table.activated.connect(self._on_row)
        self.table.clicked.connect(self._on_row)
        self.accept_button.clicked.connect(lambda: self.accepted.emit())
        self.skip_button.clicked.connect(lambda: self.skipped.emit())
        self.previous_button.clicked.connect(lambda: self.stepped.emit(-1))
        self.next_button.clicked.connect(lambda: self.stepped.emit(1))
        self.score_button.clicked.connect(lambda: self.scored.emit())
        self.export_button.clicked.connect(self._on_export)
        self.learn_button.clicked.connect(lambda: self.learning.emit())
        # after the Return key the keys are the queue's again
        for line in (self.notes, self.tags):
            line.returnPressed.connect(self.table.setFocus)
        self.table.horizontalHeader().sectionClicked.connect(lambda section: self.table.scrollToTop())
        self.notes.editingFinished.connect(lambda: self.noted.emit(self.notes.text()))
        self.tags.editingFinished.connect(self._on_tags)
        self.classes_button.clicked.connect(lambda: self.classes_asked.emit())
        self.object_class.activated.connect(lambda index: self.class_chosen.emit(self.object_class.itemText(index)))

    def show_project(self, project: Project | None, table: QueueTable | None) -> None:
        """Show a project, or that there is none."""
        self._filter = None if table is None else QueueFilter(table, self)
        self.table.setModel(self._filter)
        if table is None or project is None:
            self.title.setText("Open a folder of images to begin")
            self.title.setToolTip("")
            self.progress.reset()
            for shown in (self.object_class, self.tags, self.notes):
                shown.clear()
        else:
            header = self.table.horizontalHeader()
            header.setHighlightSections(False)
            header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
            header.resizeSection(1, max(header.sectionSizeHint(1), table.widest_status(self.table)))
            header.resizeSection(2, header.sectionSizeHint(2))
            self.table.verticalHeader().setDefaultSectionSize(table.row_height(self.table))
            self.table.sortByColumn(-1, Qt.SortOrder.AscendingOrder)  # as the project lists them
            # a project that was begun in a folder of images bears that folder's name
            self.title.setText(project.folder.parent.name if project.folder.name == FOLDER else project.folder.name)
            self.title.setToolTip(str(project.folder))
            self._suggested = project.folder.parent / COCO
            self.show_classes(project.classes)
        for widget in (
            self.progress,
            self.status,
            self.search,
            self.table,
            self.score_button,
            self.export_button,
            self.learn_button,
            self.accept_button,
            self.skip_button,
            self.previous_button,
            self.next_button,
            self.about,
        ):
            widget.setEnabled(project is not None)

    def show_progress(self, done: int, unreadable: int, total: int) -> None:
        """Show how many images are accepted or skipped, and how many cannot be read."""
        self.progress.setFormat(f"{done} of {total} done" + (f", {unreadable} unreadable" if unreadable else ""))
        self.progress.show_progress(done + unreadable, max(1, total))

    def show_item(self, item: Item) -> None:
        """Show an item's tags and notes, and its row."""
        self.tags.setText(", ".join(item.tags))
        self.notes.setText(item.notes)
        for line in (self.tags, self.notes):
            line.setCursorPosition(0)
        if self._filter is not None and (index := self._filter.place(item.name)).isValid():
            self.table.setCurrentIndex(index)
            self.table.scrollTo(index)

    def show_classes(self, classes: Sequence[ObjectClass]) -> None:
        """List the project's classes with their colours."""
        self.object_class.clear()
        for known in classes:
            self.object_class.addItem(patch(known.colour), known.name)

    def show_class(self, name: str) -> None:
        """Show the class of the selected object; nothing if the project does not know it."""
        self.object_class.setCurrentIndex(self.object_class.findText(name))

    def tell(self, text: str, tooltip: str = "") -> None:
        """Show a message of the queue."""
        self._told = bool(text)
        self.say.say(text, tooltip)

    def echo(self, text: str, tooltip: str = "") -> None:
        """Show what goes with the mask on the canvas, until the next such message; one of the queue goes before it."""
        if not self._told:
            self.say.say(text, tooltip)

    @property
    def names(self) -> list[str]:
        """The items in the table, in their order."""
        return [] if self._filter is None else self._filter.names

    def neighbour(self, name: str | None, by: int) -> str | None:
        """Return the item in the table after another one (1), or before it (-1); see `QueueFilter.neighbour`."""
        return None if self._filter is None else self._filter.neighbour(name, by)

    def others(self, name: str | None) -> list[str]:
        """Return all other items in the table; see `QueueFilter.others`."""
        return [] if self._filter is None else self._filter.others(name)

    def _narrow(self) -> None:
        if self._filter is not None:
            self._filter.narrow(self.status.currentText(), self.search.text())
            self.tell("" if self._filter.rowCount() else self._filter.why_empty)

    def _on_row(self, index: QModelIndex) -> None:
        self.item_chosen.emit(str(index.data(NAME_ROLE)))

    def _on_tags(self) -> None:
        self.tagged.emit(tuple(dict.fromkeys(tag.strip() for tag in self.tags.text().split(",") if tag.strip())))

    def _on_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder of images, or of a project")
        if folder:
            self.folder_chosen.emit(Path(folder))

    def _on_list(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Text file with one image path a line", filter="Text (*.txt)")
        if path:
            self.list_chosen.emit(Path(path))

    def _on_export(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Export all accepted masks", str(self._suggested), "COCO (*.json)")
        if path:
            self.exported.emit(Path(path).with_suffix(".json"))
