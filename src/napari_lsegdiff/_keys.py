"""Keys for what an annotator does most, and the window that lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from napari.components import ViewerModel
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QIcon, QKeyEvent
from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QLabel,
    QListWidget,
    QTableView,
    QWidget,
)

from napari_lsegdiff._settings import settings_place
from napari_lsegdiff._shortcuts import MEANINGS, Shortcuts, written
from napari_lsegdiff._text import Wrapped


class _LettersPass(QObject):
    """Lets letters and digits through a list to the viewer; Qt would search the list for them."""

    def __init__(self, lists: Iterable[QWidget], parent: QObject) -> None:
        super().__init__(parent)
        for widget in lists:
            widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Ignore a printable key in the widget's place: Qt then offers it to the widgets around it."""
        if event.type() != QEvent.Type.KeyPress or not isinstance(event, QKeyEvent):
            return False
        modifiers = Qt.KeyboardModifier
        held = event.modifiers() & (modifiers.ControlModifier | modifiers.AltModifier | modifiers.MetaModifier)
        text = event.text()
        if held or not text.isprintable() or not text.strip():  # the space bar opens and selects
            return False
        event.ignore()
        return True


class Keys:
    """Binds actions to the viewer's keys, which tables, lists and choices of the dock leave alone.

    Parameters
    ----------
    viewer
        Whose keys.
    shortcuts
        Which keys.
    actions
        What each does, by the names in `Shortcuts`.
    parent
        The dock; also of the window that lists the keys.
    """

    def __init__(
        self, viewer: ViewerModel, shortcuts: Shortcuts, actions: Mapping[str, Callable[[], object]], parent: QWidget
    ) -> None:
        self._viewer, self._shortcuts, self._parent = viewer, shortcuts, parent
        self._actions = {**actions, "help": self.show_help}
        self._help: QDialog | None = None
        for name, action in self._actions.items():
            viewer.bind_key(getattr(shortcuts, name), lambda viewer, action=action: action(), overwrite=True)
        kinds = (QComboBox, QTableView, QListWidget)
        _LettersPass((widget for kind in kinds for widget in parent.findChildren(kind)), parent)

    def close(self) -> None:
        """Free the keys."""
        for name in self._actions:
            self._viewer.bind_key(getattr(self._shortcuts, name), None)
        if self._help is not None:
            self._help.close()

    def show_help(self) -> None:
        """List the keys in a small window; it goes when the key is pressed again."""
        if self._help is not None and self._help.isVisible():
            self._help.close()
            return
        self._help = QDialog(self._parent)
        self._help.setWindowTitle("Keys of LSegDiff")
        form = QFormLayout(self._help)
        for name, meaning in MEANINGS.items():
            form.addRow(f"<b>{written(getattr(self._shortcuts, name))}</b>", QLabel(meaning))
        form.addRow(QLabel("Undo and redo, brush and eraser have napari's keys: Ctrl+Alt+/ lists them."))
        form.addRow(Wrapped(f"Change the keys {settings_place()}; that takes effect when the dock is opened again."))
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.button(QDialogButtonBox.StandardButton.Close).setIcon(QIcon())  # Qt's is black in a dark theme, too
        buttons.rejected.connect(self._help.close)
        form.addRow(buttons)
        self._help.show()
