"""A project on show in the Annotate tab: its table, its progress, and what changes of its items."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import QObject, Signal

from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.project import Project
from lsegdiff_core.project_file import Item
from napari_lsegdiff._annotate import AnnotatePanel
from napari_lsegdiff._queue_table import QueueTable
from napari_lsegdiff._worker import Failed


class OpenProject(QObject):
    """Keeps the panel true to the project.

    Parameters
    ----------
    project
        Is closed with this.
    panel
        Shows it.
    parent
        The queue.

    Attributes
    ----------
    failed
        Emitted with the `Failed` of a change that could not be saved.
    """

    failed = Signal(object)

    def __init__(self, project: Project, panel: AnnotatePanel, parent: QObject) -> None:
        super().__init__(parent)
        self.project, self._panel = project, panel
        self._table = QueueTable(project, self)
        panel.show_project(project, self._table)
        self._show_progress()

    def close(self) -> None:
        """Let go of the project and empty the panel."""
        self.project.close()
        self._table.close()
        self._panel.show_project(None, None)

    def __getitem__(self, name: str) -> Item:
        return self.project.items[name]

    def image(self, name: str) -> Path:
        """Return where the image of an item lies."""
        return self.project.image(name)

    def update(self, name: str, **changes: object) -> bool:
        """Change fields of an item; False if that cannot be saved, nothing is changed then."""
        try:
            self.project.update(name, **changes)
        except LSegDiffError as error:
            self.failed.emit(Failed.of(error))
            return False
        self.refresh(name)
        return True

    def refresh(self, name: str) -> None:
        """Show an item as it is by now."""
        self._table.refresh(name)
        self._show_progress()

    def mark(self, name: str) -> None:
        """Show which item is on the canvas."""
        self._table.mark(name)

    def following(self, name: str | None, besides: str | None) -> str | None:
        """Return the next open item of the table after ``name``, from the top again after the last; not ``besides``."""
        return next((other for other in self._panel.others(name) if other != besides and not self[other].done), None)

    @property
    def done(self) -> bool:
        """Whether no item needs work any more."""
        return all(item.done for item in self.project.items.values())

    def scoring_result(self, lost: int) -> str:
        """Return what scoring came to, of which ``lost`` scores could not be saved."""
        if lost:
            folder = self.project.folder
            return f"Scores not saved: {lost}; see that {folder} can be written to, then press Score all again"
        if self._scored:
            left_out = f", {self._unreadable} cannot be read" if self._unreadable else ""
            of_all = f"{self._scored} of {len(self.project.items)}"
            return f"{of_all} images have a score{left_out}; sort the table by Disagree"
        return "No image was scored: none of the others is still open and can be read"

    @property
    def scored(self) -> str:
        """How many of how many images have a score."""
        return f"{self._scored}/{len(self.project.items)}"

    @property
    def _scored(self) -> int:
        """How many images have a score."""
        return sum(item.disagreement >= 0 for item in self.project.items.values())

    @property
    def _unreadable(self) -> int:
        """How many images cannot be read."""
        return sum(bool(item.problem) for item in self.project.items.values())

    def _show_progress(self) -> None:
        items, unreadable = self.project.items.values(), self._unreadable
        self._panel.show_progress(sum(item.done for item in items) - unreadable, unreadable, len(items))
