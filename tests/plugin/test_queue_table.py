"""The table of the queue, without a window."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from qtpy.QtCore import Qt

from lsegdiff_core.project import Project
from napari_lsegdiff._queue_table import ALL, DOUBT, FILTERS, QueueFilter, QueueTable

NAMES = [f"frame_{number}" for number in range(6)]


class Shown:
    """A project's table, sorted and filtered."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.table = QueueTable(project)
        self.filter = QueueFilter(self.table)

    def update(self, name: str, **changes: object) -> None:
        self.project.update(name, **changes)
        self.table.refresh(name)

    @property
    def names(self) -> list[str]:
        return self.filter.names


@pytest.fixture
def shown(qapp: object, tmp_path: Path) -> Iterator[Shown]:
    images = [tmp_path / f"{name}.png" for name in NAMES]
    for image in images:
        image.touch()
    project = Project.create(tmp_path / "project", images)
    yield Shown(project)
    project.close()


def test_names_follow_every_change_of_the_rows(shown: Shown):
    assert shown.names == NAMES
    shown.filter.narrow("new", "")
    shown.update("frame_1", status="accepted")
    assert shown.names == [name for name in NAMES if name != "frame_1"]
    shown.update("frame_1", status="new")
    assert shown.names == NAMES
    shown.filter.narrow(ALL, "frame_4")
    assert shown.names == ["frame_4"]
    shown.filter.narrow(ALL, "")
    shown.filter.sort(2, Qt.SortOrder.DescendingOrder)
    shown.update("frame_3", disagreement=0.5)
    assert shown.names[0] == "frame_3"
    shown.update("frame_5", disagreement=0.9)
    assert shown.names[:2] == ["frame_5", "frame_3"]
    shown.filter.sort(-1)
    assert shown.names == NAMES


def test_names_are_read_again_only_when_rows_have_changed(shown: Shown, monkeypatch: pytest.MonkeyPatch):
    assert shown.names == NAMES
    monkeypatch.setattr(QueueTable, "data", lambda *_: pytest.fail("the table was read again"))
    assert shown.names == NAMES


def test_unreadable_images_have_a_filter_of_their_own(shown: Shown):
    shown.update("frame_1", problem="it is damaged")
    shown.update("frame_2", status="edited", problem="it is damaged", disagreement=0.9)
    shown.filter.narrow("unreadable", "")
    assert shown.names == ["frame_1", "frame_2"]
    for chosen in ("new", "edited", "doubtful"):
        shown.filter.narrow(chosen, "")
        assert not {"frame_1", "frame_2"} & set(shown.names)
    shown.update("frame_1", problem="")
    shown.filter.narrow("new", "")
    assert "frame_1" in shown.names


def test_doubtful_images_are_those_whose_samples_disagree(shown: Shown):
    shown.filter.narrow("doubtful", "")
    assert shown.names == []
    shown.update("frame_1", status="predicted")  # by one sample, of which nobody knows
    shown.update("frame_2", status="predicted", disagreement=0.0)
    shown.update("frame_3", status="predicted", disagreement=DOUBT)
    shown.update("frame_4", status="accepted", disagreement=1.0)
    shown.update("frame_5", status="predicted", disagreement=DOUBT - 0.001)
    assert shown.names == ["frame_3", "frame_4"]
    assert shown.table.place("frame_1").siblingAtColumn(2).data() == ""


def test_every_filter_is_known_to_the_rows(shown: Shown):
    for chosen in FILTERS:
        shown.filter.narrow(chosen, "")
        assert (shown.names == NAMES) == (chosen in (ALL, "new"))


def test_what_is_not_on_show_has_its_place_all_the_same(shown: Shown):
    shown.filter.narrow("new", "")
    shown.update("frame_2", status="predicted")
    shown.update("frame_5", status="predicted")
    assert shown.names == ["frame_0", "frame_1", "frame_3", "frame_4"]
    assert shown.filter.neighbour("frame_2", 1) == "frame_3"
    assert shown.filter.neighbour("frame_2", -1) == "frame_1"
    assert shown.filter.neighbour("frame_5", 1) is None
    assert shown.filter.neighbour("frame_5", -1) == "frame_4"
    assert shown.filter.others("frame_2") == ["frame_3", "frame_4", "frame_0", "frame_1"]
    # and those on show as ever
    assert shown.filter.neighbour("frame_1", 1) == "frame_3"
    assert shown.filter.neighbour("frame_0", -1) is None
    assert shown.filter.others("frame_3") == ["frame_4", "frame_0", "frame_1"]
    assert shown.filter.neighbour(None, 1) == shown.filter.neighbour(None, -1) == "frame_0"


@pytest.mark.parametrize(
    ("order", "neighbours"),
    [(Qt.SortOrder.AscendingOrder, ("frame_0", "frame_1")), (Qt.SortOrder.DescendingOrder, ("frame_1", "frame_0"))],
)
def test_place_is_that_of_the_sorted_table(shown: Shown, order: Qt.SortOrder, neighbours: tuple[str, str]):
    for name, value in zip(NAMES, (0.1, 0.8, 0.0, 0.5, 0.9, 0.05), strict=True):
        shown.update(name, disagreement=value)
    shown.update("frame_3", status="predicted")
    shown.filter.sort(2, order)
    shown.filter.narrow("new", "")
    assert (shown.filter.neighbour("frame_3", -1), shown.filter.neighbour("frame_3", 1)) == neighbours
