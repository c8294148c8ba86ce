"""The class of the selected object, and the project's classes, at work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from napari.layers import Image, Labels
from qtpy.QtCore import QObject, Signal

from lsegdiff_core.classes import ObjectClass
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.project import Project
from napari_lsegdiff._annotate import AnnotatePanel
from napari_lsegdiff._class_editor import ClassEditor
from napari_lsegdiff._objects import object_rows, reclass, set_class
from napari_lsegdiff._session import Session
from napari_lsegdiff._worker import Failed, NewestWins


class ClassChoice(QObject):
    """Gives objects their class, and changes the classes of the project together with its objects.

    Parameters
    ----------
    session, panel
        The masks and the controls.
    shown
        Returns the project that is open and its image on the canvas.
    parent
        The queue.

    Attributes
    ----------
    chosen
        Emitted with the image when the user has said what its selected object is.
    edited
        Emitted when the project has got other classes.
    failed
        Emitted with a `Failed`.
    """

    chosen = Signal(object)
    edited = Signal()
    failed = Signal(object)

    def __init__(
        self,
        session: Session,
        panel: AnnotatePanel,
        shown: Callable[[], tuple[Project | None, Image | None]],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._session, self._panel, self._shown = session, panel, shown
        self._editor: ClassEditor | None = None
        self._counter = NewestWins(self)
        self._counter.done.connect(self._on_counted)
        panel.class_chosen.connect(self._on_class)
        panel.classes_asked.connect(self._on_asked)

    def close(self) -> None:
        """Count nothing any more."""
        self._counter.close()

    def set_classes(self, classes: Sequence[ObjectClass], moved: Mapping[str, str]) -> None:
        """Change the project's classes; objects of a class in ``moved`` get the one that stands there."""
        project, _ = self._shown()
        if project is None:
            return
        try:
            project.set_classes(classes, moved)
        except LSegDiffError as error:
            self.failed.emit(Failed.of(error))
            return
        self._session.classes = project.classes
        layer = self._layer()
        if layer is not None:
            reclass(layer, project.classes, moved)
        self._panel.show_classes(project.classes)
        self.edited.emit()

    def _layer(self) -> Labels | None:
        _, image = self._shown()
        return None if image is None else self._session.mask_layer(image)

    def _on_class(self, name: str) -> None:
        project, image = self._shown()
        layer = self._layer()
        if project is None or image is None or layer is None:
            return
        chosen = next((known for known in project.classes if known.name == name), None)
        if chosen is not None:
            set_class(layer, self._session.selected(image), chosen.name, chosen.colour)
            self.chosen.emit(image)

    def _on_asked(self) -> None:
        project, _ = self._shown()
        if project is None:
            return
        layer = self._layer()
        rows = [] if layer is None else object_rows(layer)
        shown = Counter(row.get("class", "") for row in rows)
        editor = self._editor = ClassEditor(project.classes, self._panel)
        editor.edited.connect(self.set_classes)
        editor.finished.connect(self._on_finished)
        editor.open()
        # reads the sidecars of all masks
        self._counter.request("count", lambda: project.class_counts() | shown, editor)

    def _on_counted(self, used: Counter[str] | Failed, editor: ClassEditor) -> None:
        if editor is not self._editor:
            return
        if isinstance(used, Failed):
            editor.reject()
            self.failed.emit(used)
        else:
            editor.show_used(used)

    def _on_finished(self) -> None:
        self._editor = None
