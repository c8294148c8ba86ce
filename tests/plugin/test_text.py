"""Labels never make the dock wider, however long a word is."""

from __future__ import annotations

import pytest
from qtpy.QtGui import QIcon
from qtpy.QtWidgets import QLabel

from napari_lsegdiff._pictures import PATCH, patch
from napari_lsegdiff._text import StatusLine, Wrapped, elided

NAMES = ("frame" * 20, "patient_0042_sigmoideum_" * 4, "/home/someone/" + "x" * 90 + ".png: is damaged")


@pytest.mark.parametrize("name", NAMES)
def test_long_words_are_broken(qtbot, name):
    label, bare = Wrapped(name), QLabel(name)
    for widget in (label, bare):
        qtbot.addWidget(widget)
        widget.setWordWrap(True)
    assert label.minimumSizeHint().width() < 250 < bare.minimumSizeHint().width()
    assert label.text() == name


def test_short_words_stay_whole(qtbot):
    label = Wrapped("Accepted: frame_0003, of <b>12</b>")
    qtbot.addWidget(label)
    assert QLabel.text(label) == label.text() == "Accepted: frame_0003, of <b>12</b>"


def test_a_second_line_moves_nothing(qtbot):
    line = StatusLine()
    qtbot.addWidget(line)
    heights = set()
    for text in ("", "one line", "two\nlines"):
        line.say(text)
        heights.add(max(line.minimumHeight(), line.heightForWidth(200)))
    assert len(heights) == 1
    assert line.toolTip() == "two\nlines"
    line.say("short", "the whole story")
    assert line.toolTip() == "the whole story"


def test_both_ends_of_a_long_text_are_shown(qtbot):
    label = elided()
    qtbot.addWidget(label)
    label.resize(150, 20)
    label.setText("0123456789" * 20)
    shown = QLabel.text(label)
    assert shown.startswith("012")
    assert "…" in shown
    assert shown.endswith("789")
    assert label.fontMetrics().horizontalAdvance(shown) <= 150 - 8


def test_a_class_keeps_its_colour_in_a_selected_row(qtbot):
    pixels = patch("#00e5ff").pixmap(PATCH, PATCH, QIcon.Mode.Selected).toImage()
    assert pixels.pixelColor(PATCH // 2, PATCH // 2).name() == "#00e5ff"
