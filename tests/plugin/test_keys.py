from __future__ import annotations

from dataclasses import asdict

import pytest
import yaml
from app_model import Action, Application
from app_model.types import KeyBindingRule, KeyCode, KeyMod
from napari.components import ViewerModel
from napari.settings import get_settings
from napari.utils.key_bindings import coerce_keybinding
from napari.utils.shortcuts import default_shortcuts
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QComboBox, QLabel, QLineEdit, QListWidget, QPushButton, QTableView, QWidget
from superqt import QLabeledSlider

from napari_lsegdiff._keys import Keys
from napari_lsegdiff._settings import load_settings
from napari_lsegdiff._shortcuts import DEFAULT, MEANINGS, Shortcuts, checked


def bound(viewer: ViewerModel) -> set[str]:
    return {str(key) for key in viewer.keymap}


def test_default_keys_are_distinct_and_none_that_layers_of_napari_use():
    taken = {str(key) for keys in default_shortcuts.values() for key in keys}
    ours = [str(coerce_keybinding(key)) for key in asdict(DEFAULT).values()]
    assert len(set(ours)) == len(ours)
    assert not taken & set(ours)
    assert set(asdict(DEFAULT)) == set(MEANINGS)


@pytest.mark.parametrize(
    ("wanted", "given", "refused"),
    [
        ({"next": "Shift-N", "previous": "N"}, Shortcuts(next="Shift-N", previous="N"), []),
        ({"accept": "Q", "skip": "J"}, Shortcuts(accept="Q", skip="J"), []),
        ({"skip": "J", "accept": "Q"}, Shortcuts(accept="Q", skip="J"), []),
        ({"accept": "J", "skip": "J"}, Shortcuts(accept="J"), ["skip"]),
        # a wish that falls back to its default takes the key back from who wanted it
        ({"accept": "Q", "skip": "B"}, DEFAULT, ["skip", "accept"]),
    ],
)
def test_keys_can_be_exchanged_in_any_order(wanted: dict[str, str], given: Shortcuts, refused: list[str]):
    shortcuts, problems = checked(wanted)
    assert shortcuts == given
    assert [line.partition(":")[0] for line in problems] == refused


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ({"accept": "Ctrl-K"}, ""),
        ({"accept": "M"}, "accept: 'M' is used by napari (new label); the default K holds"),
        ({"accept": "ctrl-shift-c"}, "accept: 'ctrl-shift-c' is used by napari (toggle console visibility)"),
        ({"accept": "Ctrl-Z"}, "accept: 'Ctrl-Z' is used by napari (in Labels layers)"),
        ({"accept": "G"}, "accept: 'G' is the key of 'rediffuse'; the default K holds"),
        ({"accept": "Left"}, "accept: 'Left' moves through lists, frames and fields"),
        ({"accept": "Ctrl-Shift-Up"}, "accept: 'Ctrl-Shift-Up' moves through lists, frames and fields"),
        ({"accept": "PageUp"}, "accept: 'PageUp' moves through lists, frames and fields; the default K holds"),
        ({"accept": "Shift-Home"}, "accept: 'Shift-Home' moves through lists, frames and fields; the default K holds"),
        ({"accept": "Alt-F"}, "accept: 'Alt-F' is left to the window's menus, as all with Alt; the default K holds"),
        ({"accept": "Control"}, "accept: 'Control' is only held with another key"),
        ({"accept": "Ctrl-Shift"}, "accept: 'Ctrl-Shift' is only held with another key"),
        ({"accept": "Ctrl-K Ctrl-L"}, "accept: 'Ctrl-K Ctrl-L' is no key"),
        ({"accept": "Ctrl-é"}, "accept: 'Ctrl-é' is no key"),
        ({"accept": "no key"}, "accept: 'no key' is no key"),
        ({"accept": ""}, "accept: '' is no key"),
    ],
)
def test_keys_can_be_changed_but_not_taken_from_another(wanted: dict[str, str], problem: str):
    shortcuts, problems = checked(wanted)
    assert [line[: len(problem)] for line in problems] == ([problem] if problem else [])
    assert shortcuts == (DEFAULT if problem else Shortcuts(accept="Ctrl-K"))


def test_keys_that_the_user_gave_to_napari_are_taken(monkeypatch):
    shortcuts = get_settings().shortcuts
    theirs = {"napari:new_label": [coerce_keybinding("J")], "napari:toggle_grid": [coerce_keybinding("K")]}
    monkeypatch.setattr(shortcuts, "shortcuts", shortcuts.shortcuts | theirs)
    given, problems = checked({"skip": "J"})
    assert given == DEFAULT
    assert problems == [
        "skip: 'J' is used by napari (new label); the default Q holds",
        "accept: the default 'K' is used by napari (toggle grid); choose another key for one of the two",
    ]
    assert checked({"accept": "Ctrl-J"}) == (Shortcuts(accept="Ctrl-J"), [])


def test_keys_of_menus_are_taken(monkeypatch):
    app = Application("menus")
    rule = KeyBindingRule(primary=KeyMod.CtrlCmd | KeyCode.KeyO)
    app.register_action(Action(id="open", title="Open File(s)...", callback=print, keybindings=[rule]))
    monkeypatch.setattr(Application, "get_app", {"napari": app}.get)
    assert checked({"accept": "Ctrl-O"})[1] == [
        "accept: 'Ctrl-O' is used by napari (in a menu: Open File(s)); the default K holds"
    ]
    Application.destroy("menus")


def test_settings_hold_the_keys(no_settings):
    no_settings.parent.mkdir(parents=True)
    no_settings.write_text(yaml.safe_dump({"keys": {"skip": "J", "next": "M"}}))
    settings, problems = load_settings()
    assert settings.shortcuts == Shortcuts(skip="J")
    assert problems == [f"{no_settings}: keys.next: 'M' is used by napari (new label); the default N holds"]


def test_keys_are_free_again_after_closing(qtbot):
    viewer, parent, pressed = ViewerModel(), QWidget(), []
    qtbot.addWidget(parent)
    before = bound(viewer)
    keys = Keys(viewer, Shortcuts(skip="J"), {"skip": lambda: pressed.append("skip")}, parent)
    assert bound(viewer) - before == {"J", "H"}
    viewer.keymap[coerce_keybinding("J")](viewer)
    assert pressed == ["skip"]
    keys.close()
    assert bound(viewer) == before


def test_help_lists_every_key_and_goes_again(qtbot):
    parent = QWidget()
    qtbot.addWidget(parent)
    keys = Keys(ViewerModel(), DEFAULT, {}, parent)
    keys.show_help()
    texts = {label.text() for label in keys._help.findChildren(QLabel)}
    assert set(MEANINGS.values()) <= texts
    assert any("File > Preferences" in text and "when the dock is opened again" in text for text in texts)
    assert {"<b>K</b>", "<b>⇧N</b>"} <= texts
    (button,) = keys._help.findChildren(QPushButton)
    assert button.icon().isNull()
    keys.show_help()
    assert not keys._help.isVisible()
    keys.close()


def test_help_names_the_file_where_napari_has_no_settings_of_plugins(qtbot, monkeypatch, no_settings):
    monkeypatch.delattr("napari.settings.get_plugin_settings", raising=False)
    parent = QWidget()
    qtbot.addWidget(parent)
    keys = Keys(ViewerModel(), DEFAULT, {}, parent)
    keys.show_help()
    texts = [label.text() for label in keys._help.findChildren(QLabel)]
    assert any(str(no_settings) in text for text in texts)
    assert not any("Preferences" in text for text in texts)
    keys.close()


def test_lists_and_choices_leave_letters_to_the_keys(viewer, dock):
    pressed = []
    for key in ("N", "Shift-N", "1"):
        viewer.bind_key(key, lambda viewer, key=key: pressed.append(key), overwrite=True)
    lists = [widget for kind in (QComboBox, QTableView, QListWidget) for widget in dock.findChildren(kind)]
    assert {dock.annotate.status, dock.annotate.table, dock.choices.model, dock.gallery.list} <= set(lists)
    dock.annotate.status.setEnabled(True)
    before = [widget.currentText() for widget in lists if isinstance(widget, QComboBox)]
    for widget in lists:
        pressed.clear()
        QTest.keyClick(widget, Qt.Key.Key_N)
        QTest.keyClick(widget, Qt.Key.Key_N, Qt.KeyboardModifier.ShiftModifier)
        QTest.keyClick(widget, Qt.Key.Key_1)
        assert pressed == ["N", "Shift-N", "1"], widget.toolTip()
    assert [widget.currentText() for widget in lists if isinstance(widget, QComboBox)] == before


def test_numbers_leave_letters_to_the_keys_and_keep_what_makes_a_number(viewer, dock):
    pressed = []
    for key in ("N", "Shift-N", "1", "E", "-"):
        viewer.bind_key(key, lambda viewer, key=key: pressed.append(key), overwrite=True)
    sliders = dock.findChildren(QLabeledSlider)
    labels = [field for slider in sliders for field in slider.findChildren(QLineEdit)]
    boxes = [dock.choices.seeds, dock.refine.min_area]
    assert len(labels) >= len(sliders) > 3
    for field in (*labels, *boxes):
        pressed.clear()
        field.setEnabled(True)
        QTest.keyClick(field, Qt.Key.Key_N)
        QTest.keyClick(field, Qt.Key.Key_N, Qt.KeyboardModifier.ShiftModifier)
        assert pressed == ["N", "Shift-N"]
        field.selectAll()
        for digit in (Qt.Key.Key_1, Qt.Key.Key_E, Qt.Key.Key_Minus):
            QTest.keyClick(field, digit)
        assert pressed == ["N", "Shift-N"]
        assert field.text().startswith("1")


def test_a_number_counts_before_the_key_that_is_pressed_after_it(viewer, dock):
    values = []
    fields = [
        (field, slider.value)
        for slider in (dock.choices.steps, dock.correct.strength, dock.refine.threshold)
        for field in slider.findChildren(QLineEdit)
    ]
    fields.append((dock.refine.min_area, dock.refine.min_area.value))
    for field, value in fields:
        viewer.bind_key("N", lambda viewer, value=value: values.append(value()), overwrite=True)
        field.setEnabled(True)
        field.selectAll()
        QTest.keyClicks(field, "0.7" if value() <= 1 else "7")
        QTest.keyClick(field, Qt.Key.Key_N)
    assert values == [7, 0.7, 0.7, 7]


def test_keys_move_every_slider(dock):
    keys = Qt.Key
    sliders = dock.findChildren(QLabeledSlider)
    assert {dock.choices.steps, dock.correct.strength, dock.refine.threshold, dock.refine.confidence} < set(sliders)
    for slider in sliders:
        low, high, step = slider.minimum(), slider.maximum(), slider.singleStep()
        pressed = slider.focusProxy()
        for key, value in (
            (keys.Key_Home, low),
            (keys.Key_Right, low + step),
            (keys.Key_Up, low + 2 * step),
            (keys.Key_Left, low + step),
            (keys.Key_Down, low),
            (keys.Key_PageUp, low + slider.pageStep()),
            (keys.Key_PageDown, low),
            (keys.Key_End, high),
            (keys.Key_Right, high),
        ):
            QTest.keyClick(pressed, key)
            assert slider.value() == pytest.approx(value), (slider.toolTip(), key)
            (label,) = slider.findChildren(QLineEdit)
            assert float(label.text()) == pytest.approx(value)


def test_choices_keep_the_keys_that_move_them_and_text_fields_keep_all(viewer, dock):
    pressed = []
    viewer.bind_key("N", lambda viewer: pressed.append("N"), overwrite=True)
    status = dock.annotate.status
    status.setEnabled(True)
    QTest.keyClick(status, Qt.Key.Key_Down)
    assert status.currentIndex() == 1
    dock.annotate.about.setEnabled(True)
    for field in (dock.annotate.notes, dock.annotate.tags, dock.annotate.search):
        field.setEnabled(True)
        QTest.keyClick(field, Qt.Key.Key_N)
        assert field.text() == "n"
    assert not pressed
