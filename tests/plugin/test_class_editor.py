"""The editor of a project's classes."""

from __future__ import annotations

import pytest
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractItemView, QColorDialog, QDialogButtonBox, QWidget

from lsegdiff_core.classes import DEFAULT_CLASSES, ObjectClass
from napari_lsegdiff._class_editor import COLOUR, COUNTING, NAME, OBJECTS, ClassEditor

POLYP, INSTRUMENT, LUMEN = DEFAULT_CLASSES
USED = {"polyp": 12, "lumen": 1}


class Editing:
    """An open editor, and what it emits."""

    def __init__(self, editor: ClassEditor, window: QWidget) -> None:
        self.editor, self.window = editor, window
        self.results: list[tuple[list[ObjectClass], dict[str, str]]] = []
        editor.edited.connect(lambda classes, moved: self.results.append((classes, moved)))
        self.ok = editor.buttons.button(QDialogButtonBox.StandardButton.Ok)

    def select(self, row: int) -> None:
        self.editor.table.setCurrentCell(row, NAME)

    def rename(self, row: int, name: str) -> None:
        self.editor.table.item(row, NAME).setText(name)

    def remove(self, row: int, become: str | None = None) -> None:
        self.select(row)
        if become is not None:
            self.editor.become.setCurrentText(become)
        assert self.editor.remove_button.isEnabled()
        self.editor.remove_button.click()

    @property
    def names(self) -> list[str]:
        return [self.editor.table.item(row, NAME).text() for row in range(self.editor.table.rowCount())]


@pytest.fixture
def counting(qtbot) -> Editing:
    """An editor that does not know yet how many objects there are."""
    window = QWidget()
    qtbot.addWidget(window)
    editor = ClassEditor(DEFAULT_CLASSES, window)
    editor.open()
    return Editing(editor, window)


@pytest.fixture
def editing(counting: Editing) -> Editing:
    counting.editor.show_used(USED)
    return counting


def test_classes_can_be_edited_while_their_objects_are_counted(counting: Editing):
    editor = counting.editor
    assert [editor.table.item(row, OBJECTS).text() for row in range(3)] == [COUNTING] * 3
    counting.rename(0, "adenoma")
    editor.add_button.click()
    counting.rename(3, "stool")
    counting.ok.click()
    classes = [ObjectClass("adenoma", POLYP.colour), INSTRUMENT, LUMEN]
    ((edited, moved),) = counting.results
    assert (edited[:3], edited[3].name, moved) == (classes, "stool", {"polyp": "adenoma"})


def test_only_a_class_that_has_no_objects_can_be_removed_while_they_are_counted(counting: Editing):
    editor = counting.editor
    for row in range(3):
        counting.select(row)
        assert not editor.remove_button.isEnabled()
        assert editor.remove_button.toolTip() == "The objects of the selected class are being counted"
    editor.add_button.click()
    counting.remove(3)
    assert counting.names == ["polyp", "instrument", "lumen"]


def test_counts_that_come_later_reach_classes_that_were_renamed_and_leave_the_name_being_written(counting: Editing):
    editor = counting.editor
    counting.rename(0, "adenoma")
    editor.add_button.click()  # its name is being written
    assert editor.table.state() == QAbstractItemView.State.EditingState
    editor.show_used(USED)
    assert editor.table.state() == QAbstractItemView.State.EditingState
    assert [editor.table.item(row, OBJECTS).text() for row in range(4)] == ["12", "", "1", ""]
    counting.remove(0, "lumen")
    assert counting.names == ["instrument", "lumen", "class 1"]


def test_shows_the_classes_with_their_objects(editing: Editing):
    table = editing.editor.table
    assert editing.names == ["polyp", "instrument", "lumen"]
    assert [table.item(row, OBJECTS).text() for row in range(3)] == ["12", "", "1"]
    assert table.item(0, COLOUR).toolTip() == POLYP.colour
    assert all(table.horizontalHeaderItem(column).toolTip() for column in range(3))
    assert all(button.toolTip() for button in (editing.editor.add_button, editing.editor.remove_button))


def test_objects_follow_a_new_name(editing: Editing):
    editing.rename(0, " adenoma ")
    editing.ok.click()
    assert editing.results == [([ObjectClass("adenoma", POLYP.colour), INSTRUMENT, LUMEN], {"polyp": "adenoma"})]


def test_colour_is_chosen_by_a_click(editing: Editing, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(QColorDialog, "getColor", lambda *args: QColor("#ff0000"))
    editing.editor.table.cellClicked.emit(2, COLOUR)
    editing.editor.table.cellClicked.emit(1, NAME)
    monkeypatch.setattr(QColorDialog, "getColor", lambda *args: QColor())  # cancelled
    editing.editor.table.cellClicked.emit(0, COLOUR)
    editing.ok.click()
    assert editing.results == [([POLYP, INSTRUMENT, ObjectClass("lumen", "#ff0000")], {})]


def test_added_class_has_a_name_and_a_colour_of_its_own(editing: Editing, qtbot):
    for _ in range(2):
        editing.editor.add_button.click()
    editing.rename(4, "stool")
    editing.ok.click()
    ((classes, moved),) = editing.results
    assert [known.name for known in classes[3:]] == ["class 1", "stool"]
    assert len({known.colour for known in classes}) == 5
    assert moved == {}


def test_class_in_use_is_not_removed_without_saying_where_its_objects_go(editing: Editing):
    editor = editing.editor
    editing.select(2)
    assert "1 object is “lumen”. To remove the class, say what it becomes:" in editor.question.text()
    editing.select(0)
    assert not editor.remove_button.isEnabled()
    assert "12 objects are “polyp”. To remove the class, say what they become:" in editor.question.text()
    assert [editor.become.itemText(index) for index in range(editor.become.count())][1:] == ["instrument", "lumen"]
    editor.become.setCurrentText("lumen")
    assert editor.remove_button.isEnabled()
    editor.remove_button.click()
    assert editing.names == ["instrument", "lumen"]
    assert editor.table.item(1, OBJECTS).text() == "13"
    editing.ok.click()
    assert editing.results == [([INSTRUMENT, LUMEN], {"polyp": "lumen"})]


def test_class_without_objects_goes_without_a_question(editing: Editing):
    editing.select(1)
    assert editing.editor.become.isHidden()
    editing.remove(1)
    editing.ok.click()
    assert editing.results == [([POLYP, LUMEN], {})]


def test_objects_go_on_when_their_new_class_is_renamed_or_removed_too(editing: Editing):
    editing.remove(2, "polyp")
    editing.rename(0, "adenoma")
    editing.remove(0, "instrument")
    editing.ok.click()
    assert editing.results == [([INSTRUMENT], {"polyp": "instrument", "lumen": "instrument"})]


def test_last_class_stays(editing: Editing):
    editing.remove(1)
    editing.remove(1, "polyp")
    assert not editing.editor.remove_button.isEnabled()
    assert editing.editor.become.isHidden()
    assert editing.editor.remove_button.toolTip() == "A project needs at least one class"


@pytest.mark.parametrize(("name", "said"), [("lumen", "'lumen' is there twice"), ("  ", "a class needs a name")])
def test_names_that_make_no_sense_are_not_accepted(editing: Editing, name: str, said: str):
    editing.rename(0, name)
    assert said in editing.editor.problem.text()
    assert not editing.ok.isEnabled()
    editing.rename(0, "polyp")
    assert editing.editor.problem.text() == ""
    assert editing.ok.isEnabled()


def test_cancel_changes_nothing_and_leaves_no_window(editing: Editing, qtbot):
    editing.rename(0, "adenoma")
    editing.editor.buttons.button(QDialogButtonBox.StandardButton.Cancel).click()
    qtbot.waitUntil(lambda: not editing.window.findChildren(ClassEditor))
    assert editing.results == []


def test_counts_and_colours_are_not_written_by_hand(editing: Editing):
    for column in (COLOUR, OBJECTS):
        assert not editing.editor.table.item(0, column).flags() & Qt.ItemFlag.ItemIsEditable
