"""The Annotate tab by itself: what it shows of a project, in a narrow dock, too."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QIcon
from qtpy.QtTest import QTest

from lsegdiff_core.project import Project
from lsegdiff_core.project_file import STATUSES
from napari_lsegdiff._annotate import AnnotatePanel
from napari_lsegdiff._queue_table import DOUBTFUL, LINES, LONGEST, MARGIN, UNREADABLE, QueueTable
from napari_lsegdiff._text import BREAK

LONG = "patient_0042_examination_2024-03-17_sigmoideum_video_0003_white_light_frame_000123"
NAME, STATUS, DISAGREE = range(3)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    frames = tmp_path / ("colonoscopy_of_the_archive_" * 3)
    frames.mkdir()
    for stem in ("frame_1", "frame_2", LONG):
        iio.imwrite(frames / f"{stem}.png", np.zeros((20, 30, 3), np.uint8))
    project = Project.of_folder(frames)
    project.update("frame_1", status="accepted")
    project.update("frame_2", problem="it is damaged", tags=("blurred",), notes="ask again")
    yield project
    project.close()


@pytest.fixture
def table(project: Project) -> QueueTable:
    table = QueueTable(project)
    yield table
    table.close()


@pytest.fixture
def panel(project: Project, table: QueueTable, qtbot) -> AnnotatePanel:
    panel = AnnotatePanel()
    qtbot.addWidget(panel)
    panel.show_project(project, table)
    return panel


def cell(table: QueueTable, name: str, column: int, role: Qt.ItemDataRole) -> object:
    return table.data(table.place(name).siblingAtColumn(column), role)


def test_no_name_makes_it_wider(panel):
    panel.tell(f"Accepted: {LONG * 3}")
    assert panel.minimumSizeHint().width() <= 320
    assert panel.title.text() == "colonoscopy_of_the_archive_" * 3


def test_a_long_message_takes_its_room_from_the_table(panel, qtbot):
    panel.resize(320, 640)
    panel.show()
    panel.tell("one line")
    qtbot.waitUntil(lambda: panel.say.height() > 0)
    place, height = panel.accept_button.y(), panel.table.height()
    panel.tell("many words " * 25)
    qtbot.waitUntil(lambda: panel.table.height() < height)
    assert panel.accept_button.y() == place


def test_every_status_fits_its_column(panel):
    header, words = panel.table.horizontalHeader(), panel.table.fontMetrics()
    for status in (*STATUSES, UNREADABLE):
        assert words.horizontalAdvance(status) + 2 * MARGIN <= header.sectionSize(STATUS)
    assert header.sectionSizeHint(DISAGREE) <= header.sectionSize(DISAGREE)


def test_a_closed_project_leaves_nothing_behind(panel, project):
    panel.show_progress(2, 0, 3)
    assert panel.progress.text() == "2 of 3 done"
    panel.show_progress(1, 1, 3)
    assert (panel.progress.value(), panel.progress.text()) == (2, "1 of 3 done, 1 unreadable")
    panel.show_item(project.items["frame_2"])
    panel.show_project(None, None)
    assert panel.object_class.currentText() == ""
    assert panel.title.text() == "Open a folder of images to begin"
    assert panel.progress.text() == panel.tags.text() == panel.notes.text() == ""
    assert not panel.accept_button.isEnabled()


def test_long_names_lose_their_middle_and_may_be_broken(table):
    shown = cell(table, LONG, NAME, Qt.ItemDataRole.DisplayRole)
    start, end = shown.replace(BREAK, "").split("…")
    assert LONG.startswith(start)
    assert LONG.endswith(end)
    assert len(start + end) == LONGEST
    assert shown.count(BREAK) == LONGEST
    assert LONG in cell(table, LONG, NAME, Qt.ItemDataRole.ToolTipRole)
    assert cell(table, "frame_1", NAME, Qt.ItemDataRole.DisplayRole).replace(BREAK, "") == "frame_1"


def test_a_row_has_room_for_its_lines_and_tags_have_the_last_one(panel, project, table):
    assert panel.table.rowHeight(0) >= LINES * panel.table.fontMetrics().lineSpacing() + MARGIN
    project.update(LONG, tags=("blurred", "stool"))
    name, tags = cell(table, LONG, NAME, Qt.ItemDataRole.DisplayRole).split("\n")
    start, end = name.replace(BREAK, "").split("…")
    assert tags == "blurred, stool"
    assert LONG.startswith(start)
    assert LONG.endswith(end)
    assert LONGEST / 2 < len(start + end) < LONGEST * (LINES - 1) / LINES


def test_a_click_on_disagree_brings_the_most_doubtful_first(panel, project):
    for name, score in (("frame_1", 0.02), (LONG, 0.4)):
        project.update(name, disagreement=score)
    header = panel.table.horizontalHeader()
    for column, expected in (
        (DISAGREE, [LONG, "frame_1", "frame_2"]),
        (DISAGREE, ["frame_2", "frame_1", LONG]),
        (NAME, ["frame_1", "frame_2", LONG]),
    ):
        place = QPoint(header.sectionViewportPosition(column) + header.sectionSize(column) // 2, header.height() // 2)
        QTest.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=place)
        assert panel.names == expected


def test_statuses_differ_behind_their_words(table):
    tints = {name: cell(table, name, STATUS, Qt.ItemDataRole.BackgroundRole) for name in ("frame_1", "frame_2", LONG)}
    assert tints[LONG] is None
    assert tints["frame_1"] != tints["frame_2"]
    assert all(tints[name].alpha() < 128 for name in ("frame_1", "frame_2"))  # the theme's own text stays readable


def test_tooltip_says_all(table):
    *_, problem, tags, notes = cell(table, "frame_2", NAME, Qt.ItemDataRole.ToolTipRole).splitlines()
    assert (problem, tags, notes) == ("it is damaged", "blurred", "ask again")


def test_a_selected_row_keeps_its_picture(table, qtbot):
    cell(table, "frame_1", NAME, Qt.ItemDataRole.DecorationRole)
    qtbot.waitUntil(lambda: table._reader.idle)
    icon = cell(table, "frame_1", NAME, Qt.ItemDataRole.DecorationRole)
    selected, normal = (icon.pixmap(20, 20, mode).toImage() for mode in (QIcon.Mode.Selected, QIcon.Mode.Normal))
    assert selected == normal


def test_a_filter_that_nothing_fits_is_said(panel):
    panel.search.setText("no such name")
    assert panel.say.text().startswith("No image fits")
    panel.search.setText("frame_1")
    assert panel.say.text() == ""


def test_the_filter_of_doubtful_images_names_its_limit(panel, project):
    panel.status.setCurrentText(DOUBTFUL)
    assert panel.say.text() == "No image has a score yet: press Score all, then those with 0.1 or more are shown here"
    project.update("frame_1", disagreement=0.02)
    panel.search.setText("frame")
    assert panel.say.text().startswith("No image fits that has a score of 0.1 or more; choose another filter")
