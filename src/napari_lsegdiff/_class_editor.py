"""The editor of a project's classes: names, colours, and where the objects of a removed class go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from lsegdiff_core.classes import ObjectClass, check_classes
from lsegdiff_core.errors import LSegDiffError
from napari_lsegdiff._controls import row
from napari_lsegdiff._pictures import PATCH, patch
from napari_lsegdiff._text import Wrapped

COLUMNS = ("Class", "Colour", "Objects")
TIPS = (
    "Double-click to rename; its objects follow",
    "Click to choose another colour",
    "How many objects of your project have this class",
)
NAME, COLOUR, OBJECTS = range(3)
# Given to new classes in turn; none of them is a colour of mucosa or skin.
NEW_COLOURS = ("#7cff4d", "#ff9500", "#2f7bff", "#ff4dd2", "#00e5ff", "#ffe100", "#b388ff", "#ffffff")
CHOOSE = "Choose a class…"
COUNTING = "…"


@dataclass
class _Row:
    """A class as it is being edited; ``holds`` are the old names of the classes whose objects have it."""

    name: str
    colour: str
    holds: list[str]


class ClassEditor(QDialog):
    """A table of classes; nothing is changed before OK.

    A class that may have objects can be removed only when it is known how many, see `show_used`.

    Parameters
    ----------
    classes
        As they are.
    parent
        Its window is the dialog's.

    Attributes
    ----------
    edited
        Emitted on OK with the list of `ObjectClass` from now on, and a dict from each old name whose objects get
        another one to that name.
    """

    edited = Signal(object, object)

    def __init__(self, classes: Sequence[ObjectClass], parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Classes of this project")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._used: Mapping[str, int] | None = None
        self._rows = [_Row(known.name, known.colour, [known.name]) for known in classes]
        self.table = QTableWidget(0, len(COLUMNS))
        for place, (title, tip) in enumerate(zip(COLUMNS, TIPS, strict=True)):
            head = QTableWidgetItem(title)
            head.setToolTip(tip)
            self.table.setHorizontalHeaderItem(place, head)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        self.table.verticalHeader().hide()
        self.table.setIconSize(QSize(PATCH, PATCH))
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setShowGrid(False)
        self.add_button = QPushButton("Add")
        self.add_button.setToolTip("Adds a class; write its name into the table")
        self.remove_button = QPushButton("Remove")
        self.become = QComboBox()
        self.become.setToolTip("The class that the objects get when theirs is removed")
        self.question, self.problem = Wrapped(), Wrapped()
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel)

        column = QVBoxLayout(self)
        column.addWidget(self.table, 1)
        column.addLayout(row(self.add_button, self.remove_button))
        column.addWidget(self.question)
        column.addWidget(self.become)
        column.addWidget(self.problem)
        column.addWidget(self.buttons)
        self.resize(360, 380)
        self.table.itemChanged.connect(self._on_renamed)
        self.table.cellClicked.connect(self._on_clicked)
        self.table.currentCellChanged.connect(lambda *cells: self._ask())
        self.add_button.clicked.connect(self._on_add)
        self.remove_button.clicked.connect(self._on_remove)
        self.become.currentIndexChanged.connect(lambda index: self._allow())
        self.buttons.accepted.connect(self._on_ok)
        self.buttons.rejected.connect(self.reject)
        self._show(0)

    def show_used(self, used: Mapping[str, int]) -> None:
        """Show how many objects each class has, by its name as it was when the editor was opened."""
        self._used = used
        cells = self.table.model()
        self.table.blockSignals(True)
        for place, known in enumerate(self._rows):  # not anew: the user may be writing into the table
            cells.setData(cells.index(place, OBJECTS), self._count(known))
        self.table.blockSignals(False)
        self._ask()

    def _show(self, current: int) -> None:
        """Fill the table; ``current`` is the row that is selected."""
        self.table.blockSignals(True)
        self.table.setRowCount(len(self._rows))
        for index, known in enumerate(self._rows):
            name, colour = QTableWidgetItem(known.name), QTableWidgetItem()
            count = QTableWidgetItem(self._count(known))
            colour.setIcon(patch(known.colour))
            fixed = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
            for place, item in ((NAME, name), (COLOUR, colour), (OBJECTS, count)):
                item.setToolTip(known.colour if place == COLOUR else TIPS[place])
                if place != NAME:
                    item.setFlags(fixed)
                self.table.setItem(index, place, item)
        self.table.setCurrentCell(current, NAME)
        self.table.blockSignals(False)
        self._ask()

    def _objects(self, known: _Row) -> int | None:
        """Return how many objects have a class, None as long as nobody knows."""
        if self._used is None:
            return None if known.holds else 0
        return sum(self._used.get(name, 0) for name in known.holds)

    def _count(self, known: _Row) -> str:
        objects = self._objects(known)
        return COUNTING if objects is None else str(objects or "")

    def _ask(self) -> None:
        """Ask where the objects of the selected class go if it is removed."""
        current = self.table.currentRow()
        known = self._rows[current] if current >= 0 else None
        objects = 0 if known is None else self._objects(known)
        self.become.clear()
        self.become.addItem(CHOOSE)
        for other in self._rows:
            if other is not known:
                self.become.addItem(patch(other.colour), other.name)
        asked = bool(objects) and len(self._rows) > 1
        for widget in (self.question, self.become):
            widget.setVisible(asked)
        if known is not None:
            count, become = ("1 object is", "it becomes") if objects == 1 else (f"{objects} objects are", "they become")
            self.question.setText(f"{count} “{known.name}”. To remove the class, say what {become}:")
        self._allow()

    def _allow(self) -> None:
        """Let the buttons be pressed that can be."""
        current = self.table.currentRow()
        counted = current >= 0 and self._objects(self._rows[current]) is not None
        answered = self.become.isHidden() or self.become.currentIndex() > 0
        self.remove_button.setEnabled(counted and len(self._rows) > 1 and answered)
        if len(self._rows) == 1:
            tip = "A project needs at least one class"
        elif current >= 0 and not counted:
            tip = "The objects of the selected class are being counted"
        else:
            tip = "Removes the selected class"
        self.remove_button.setToolTip(tip)
        problem = ""
        try:
            check_classes(self._classes())
        except LSegDiffError as error:
            problem = str(error)
        self.problem.setText(problem)
        self.buttons.button(QDialogButtonBox.StandardButton.Ok).setEnabled(not problem)

    def _classes(self) -> list[ObjectClass]:
        return [ObjectClass(known.name, known.colour) for known in self._rows]

    def _on_renamed(self, item: QTableWidgetItem) -> None:
        if item.column() == NAME:
            self._rows[item.row()].name = item.text().strip()
            self._ask()

    def _on_clicked(self, index: int, column: int) -> None:
        if column == COLOUR:
            chosen = QColorDialog.getColor(QColor(self._rows[index].colour), self, "Colour of the class")
            if chosen.isValid():
                self._rows[index].colour = chosen.name()
                self._show(index)

    def _on_add(self) -> None:
        taken = {known.colour.lower() for known in self._rows}
        colour = next((colour for colour in NEW_COLOURS if colour not in taken), NEW_COLOURS[0])
        names = {known.name for known in self._rows}
        number = next(number for number in range(1, len(names) + 2) if f"class {number}" not in names)
        self._rows.append(_Row(f"class {number}", colour, []))
        self._show(len(self._rows) - 1)
        self.table.edit(self.table.currentIndex())

    def _on_remove(self) -> None:
        current = self.table.currentRow()
        known = self._rows[current]
        if not self.become.isHidden():
            others = [other for other in self._rows if other is not known]
            others[self.become.currentIndex() - 1].holds += known.holds
        self._rows.remove(known)
        self._show(min(current, len(self._rows) - 1))

    def _on_ok(self) -> None:
        moved = {old: known.name for known in self._rows for old in known.holds if old != known.name}
        self.edited.emit(self._classes(), moved)
        self.accept()
