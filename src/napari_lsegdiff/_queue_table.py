"""The queue as a table: one row an image, with its thumbnail, to be sorted and filtered."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, QSortFilterProxyModel, Qt
from qtpy.QtGui import QColor, QFont, QIcon, QPixmap
from qtpy.QtWidgets import QWidget

from lsegdiff_core.project import Project
from lsegdiff_core.project_file import STATUSES, Item
from napari_lsegdiff._pictures import icon
from napari_lsegdiff._text import BREAK
from napari_lsegdiff._worker import Failed, NewestWins

Index = QModelIndex | QPersistentModelIndex
NOWHERE = QModelIndex()
COLUMNS = ("Image", "Status", "Disagree")
TIPS = (
    "The image's name, and your tags",
    "new: not looked at; predicted: the model has; edited: you have, but not accepted; accepted; skipped; unreadable",
    "Disagreement of the model's samples: 0 all agree, 1 nothing in common; empty until scored",
)
THUMBNAIL = 40
MARGIN = 4  # pixels that a cell keeps free at each side of its text, and above and below
# Lines that a row has room for. In a narrow table a name takes them all, or leaves the last one to the tags.
LINES = 3
# Characters of a name in so many lines, which are broken anywhere; names often differ in their ends only, so that a
# longer one loses its middle.
LONGEST = 26
ALL = "all"
# Thumbnails that wait to be read; whoever scrolls fast through thousands wants those on show.
MOST_WAITING = 30
SORT_ROLE = Qt.ItemDataRole.UserRole
NAME_ROLE = Qt.ItemDataRole.UserRole + 1
UNREADABLE, DOUBTFUL = "unreadable", "doubtful"
# Which items the table can show.
FILTERS = (ALL, *STATUSES, UNREADABLE, DOUBTFUL)
# Disagreement from which on a mask is doubtful: of Kvasir-SEG's validation images a quarter, and most of the bad masks.
DOUBT = 0.1
# Behind the words, so that these can be read in a dark and in a light theme.
_TINTS = {
    "edited": QColor(229, 165, 10, 64),
    "accepted": QColor(46, 194, 126, 64),
    "skipped": QColor(154, 153, 150, 48),
    UNREADABLE: QColor(224, 27, 36, 64),
}


class QueueTable(QAbstractTableModel):
    """The items of a project; thumbnails are read beside the window as rows come into view."""

    def __init__(self, project: Project, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._project = project
        self.names = list(project.items)
        self._rows = {name: row for row, name in enumerate(self.names)}
        self._icons: dict[str, QIcon] = {}
        blank = QPixmap(THUMBNAIL, THUMBNAIL)
        blank.fill(QColor(0, 0, 0, 0))
        self._blank = QIcon(blank)
        self._wanted: list[str] = []  # the one that came on show last is read first
        self._reader = NewestWins(self)
        self._reader.done.connect(self._on_read)
        self._current: str | None = None
        self._marked = QFont()
        self._marked.setUnderline(True)  # not bold: that makes a name wider than its column

    def close(self) -> None:
        """Read no more thumbnails."""
        self._reader.close()

    def item(self, row: int) -> Item:
        """Return the item of a row."""
        return self._project.items[self.names[row]]

    @property
    def scored(self) -> bool:
        """Whether any item has a disagreement."""
        return any(item.disagreement >= 0 for item in self._project.items.values())

    def place(self, name: str) -> QModelIndex:
        """Return where an item stands."""
        return self.index(self._rows[name], 0)

    def refresh(self, name: str) -> None:
        """Show an item as it is by now."""
        row = self._rows[name]
        self.dataChanged.emit(self.index(row, 0), self.index(row, len(COLUMNS) - 1))

    def mark(self, name: str | None) -> None:
        """Show which item is on the canvas."""
        before, self._current = self._current, name
        for changed in (before, name):
            if changed is not None:
                self.refresh(changed)

    def rowCount(self, parent: Index = NOWHERE) -> int:  # noqa: N802
        """Return the number of items."""
        return 0 if parent.isValid() else len(self.names)

    def columnCount(self, parent: Index = NOWHERE) -> int:  # noqa: N802
        """Return the number of columns."""
        return 0 if parent.isValid() else len(COLUMNS)

    def row_height(self, view: QWidget) -> int:
        """Return the height in pixels that keeps a row's picture and text apart from its neighbours'."""
        return max(THUMBNAIL, LINES * view.fontMetrics().lineSpacing()) + 2 * MARGIN

    def widest_status(self, view: QWidget) -> int:
        """Return the width in pixels that every status fits into."""
        words = view.fontMetrics()
        return 2 * MARGIN + max(words.horizontalAdvance(word) for word in (*STATUSES, UNREADABLE))

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:  # noqa: N802
        """Return a column's title and tooltip, or a row's number."""
        if orientation == Qt.Orientation.Horizontal:
            if role == Qt.ItemDataRole.DisplayRole:
                return COLUMNS[section]
            if role == Qt.ItemDataRole.ToolTipRole:
                return TIPS[section]
            if role == Qt.ItemDataRole.InitialSortOrderRole and section == 2:
                return Qt.SortOrder.DescendingOrder  # the most doubtful ones first
        return None

    def data(self, index: Index, role: int = 0) -> Any:
        """Return what a cell shows."""
        name = self.names[index.row()]
        item, column = self._project.items[name], index.column()
        if role == NAME_ROLE:
            return name
        if role == Qt.ItemDataRole.DisplayRole:
            return _text(item, column)
        if role == SORT_ROLE:
            return (name, len(STATUSES) if item.problem else STATUSES.index(item.status), item.disagreement)[column]
        if role == Qt.ItemDataRole.ToolTipRole:
            lines = (str(self._project.image(name)), item.problem, ", ".join(item.tags), item.notes)
            return "\n".join(filter(None, lines))
        if role == Qt.ItemDataRole.DecorationRole and column == 0:
            return self._icon(name)
        if role == Qt.ItemDataRole.BackgroundRole and column == 1:
            return _TINTS.get(_text(item, column))
        if role == Qt.ItemDataRole.FontRole and column == 0 and name == self._current:
            return self._marked
        return None

    def _icon(self, name: str) -> QIcon:
        if name not in self._icons:
            self._icons[name] = self._blank
            self._wanted.append(name)
            for late in self._wanted[:-MOST_WAITING]:
                del self._icons[late]  # is asked for again when it is on show
            del self._wanted[:-MOST_WAITING]
            if self._reader.idle:
                self._read_next()
        return self._icons[name]

    def _read_next(self) -> None:
        if self._wanted:
            name = self._wanted.pop()
            self._reader.request(name, partial(_read_thumbnail, self._project.image(name)), name)

    def _on_read(self, picture: NDArray[np.uint8] | Failed, name: str) -> None:
        if not isinstance(picture, Failed):
            self._icons[name] = icon(picture)
            index = self.place(name)
            self.dataChanged.emit(index, index, [Qt.ItemDataRole.DecorationRole])
        self._read_next()


class QueueFilter(QSortFilterProxyModel):
    """Sorts the table, and shows those rows that one of `FILTERS` lets through, with a text in name, tags or notes."""

    def __init__(self, table: QueueTable, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._table = table
        self._filter, self._text = ALL, ""
        self._names: list[str] | None = None  # None: rows have come, gone or moved since they were asked for
        for moved in (self.layoutChanged, self.rowsInserted, self.rowsRemoved, self.rowsMoved, self.modelReset):
            moved.connect(self._on_moved)
        self.setSourceModel(table)
        self.setSortRole(SORT_ROLE)

    def narrow(self, chosen: str, text: str) -> None:
        """Show the rows only that ``chosen``, one of `FILTERS`, lets through, with ``text`` in them."""
        self._filter, self._text = chosen, text.strip().casefold()
        self.invalidate()

    def filterAcceptsRow(self, row: int, parent: Index) -> bool:  # noqa: N802
        """Return whether a row is shown."""
        item = self._table.item(row)
        searched = " ".join((item.name, item.notes, *item.tags)).casefold()
        return self._filter in _filters(item) and self._text in searched

    @property
    def why_empty(self) -> str:
        """Why no row is shown, and what to do."""
        if self._filter != DOUBTFUL:
            return "No image fits; choose another filter, or empty the search"
        if not self._table.scored:
            return f"No image has a score yet: press Score all, then those with {DOUBT} or more are shown here"
        return f"No image fits that has a score of {DOUBT} or more; choose another filter, or empty the search"

    def place(self, name: str) -> QModelIndex:
        """Return where an item is on show; not valid if it is not."""
        return self.mapFromSource(self._table.place(name))

    def neighbour(self, name: str | None, by: int) -> str | None:
        """Return the item on show after another one (1), or before it (-1), which itself need not be on show.

        None at the end; the first one of all after or before None.
        """
        place = 0
        if name is not None:
            place = self._rank(name) + (by if by < 0 or name in self.names else 0)
        return self.names[place] if 0 <= place < len(self.names) else None

    def others(self, name: str | None) -> list[str]:
        """Return all other items on show: those after it, then, from the top again, those before it."""
        place = 0 if name is None else self._rank(name)
        return [other for other in self.names[place:] + self.names[:place] if other != name]

    def _rank(self, name: str) -> int:
        """Return how many of the items on show stand before one that need not be on show."""
        if name in self.names:
            return self.names.index(name)
        column, here = self.sortColumn(), self._table.place(name)
        descending = self.sortOrder() == Qt.SortOrder.DescendingOrder

        def before(other: str) -> bool:
            there = self._table.place(other)
            if column >= 0:
                mine, theirs = (place.siblingAtColumn(column).data(SORT_ROLE) for place in (here, there))
                if mine != theirs:
                    return bool((theirs > mine) if descending else (theirs < mine))
            return there.row() < here.row()

        return sum(map(before, self.names))

    @property
    def names(self) -> list[str]:
        """The items on show, in their order."""
        if self._names is None:
            self._names = [str(self.index(row, 0).data(NAME_ROLE)) for row in range(self.rowCount())]
        return self._names

    def _on_moved(self, *_: object) -> None:
        self._names = None


def _filters(item: Item) -> tuple[str, ...]:
    """Return which of `FILTERS` let an item through."""
    if item.problem:
        return (ALL, UNREADABLE)
    return (ALL, item.status, DOUBTFUL) if item.disagreement >= DOUBT else (ALL, item.status)


def _text(item: Item, column: int) -> str:
    if column == 1:
        return UNREADABLE if item.problem else item.status
    if column == 2:
        return "" if item.disagreement < 0 else f"{item.disagreement:.3f}"
    name, tags = item.name, ", ".join(item.tags)
    longest = LONGEST * (LINES - bool(tags)) // LINES
    if len(name) > longest:
        name = f"{name[: longest // 2]}…{name[-(longest // 2) :]}"
    return "\n".join(filter(None, (BREAK.join(name), tags)))


def _read_thumbnail(path: Path) -> NDArray[np.uint8]:
    from lsegdiff_core.data.images import read_image
    from lsegdiff_core.drawing import shrunk

    return shrunk(read_image(path), THUMBNAIL)
