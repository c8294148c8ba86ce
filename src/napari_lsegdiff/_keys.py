"""Keys for what an annotator does most, and the window that lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from napari.components import ViewerModel
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QIcon, QKeyEvent
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QTableView,
    QWidget,
)
from superqt import QLabeledSlider

from napari_lsegdiff._settings import settings_place
from napari_lsegdiff._shortcuts import MEANINGS, Shortcuts, written
from napari_lsegdiff._text import Wrapped


class _Pass(QObject):
    """Lets some of what is typed through widgets to the viewer.

    Parameters
    ----------
    widgets
        Which ones.
    passes
        Whether a text means nothing to them.
    parent
        The dock.
    """

    def __init__(self, widgets: Iterable[QWidget], passes: Callable[[str], bool], parent: QObject) -> None:
        super().__init__(parent)
        self._passes = passes
        for widget in widgets:
            widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Ignore such a key in the widget's place: Qt then offers it to the widgets around it."""
        if event.type() != QEvent.Type.KeyPress or not isinstance(event, QKeyEvent):
            return False
        modifiers = Qt.KeyboardModifier
        held = event.modifiers() & (modifiers.ControlModifier | modifiers.AltModifier | modifiers.MetaModifier)
        if held or not self._passes(event.text()):
            return False
        _take(watched)
        event.ignore()
        return True


def _take(field: QObject) -> None:
    """Let a number that is still being typed count: what the key does may use it, or leave it behind."""
    if isinstance(field, QAbstractSpinBox):
        field.interpretText()
    elif isinstance(field, QLineEdit) and field.hasAcceptableInput():
        field.editingFinished.emit()


def _children(parent: QWidget, *kinds: type[QWidget]) -> list[QWidget]:
    return [widget for kind in kinds for widget in parent.findChildren(kind)]


def _passes_lists(text: str) -> bool:
    """Any letter, digit or sign, for which Qt would search the list; the space bar opens and selects."""
    return text.isprintable() and bool(text.strip())


def _passes_numbers(text: str) -> bool:
    """Letters, but for the exponent's: digits and signs make the number."""
    return text.isalpha() and text not in "eE"


class Keys:
    """Binds actions to the viewer's keys, which tables, lists, choices and numbers of the dock leave alone.

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
        _Pass(_children(parent, QComboBox, QTableView, QListWidget), _passes_lists, parent)
        # the number beside a slider is a text field to Qt
        numbers = [field for slider in _children(parent, QLabeledSlider) for field in _children(slider, QLineEdit)]
        _Pass([*_children(parent, QAbstractSpinBox), *numbers], _passes_numbers, parent)

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
