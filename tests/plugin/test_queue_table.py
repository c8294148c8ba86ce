"""The table of the queue, without a window."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from qtpy.QtCore import Qt

from lsegdiff_core.project import Project
from napari_lsegdiff._queue_table import ALL, QueueFilter, QueueTable

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
    project = Project.create(tmp_path / "project", [tmp_path / f"{name}.png" for name in NAMES])
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
