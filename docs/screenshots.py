"""Make the pictures of the documentation: a person segments and corrects synthetic images in the viewer.

make screenshots
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import imageio.v3 as iio
import napari
import numpy as np
from napari.components import ViewerModel
from napari.layers import Labels
from qtpy.QtCore import QRect, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QDialog, QWidget

from lsegdiff_core.data.phantom import draw_phantom
from lsegdiff_core.journal import Journal, default_folder
from lsegdiff_core.journal_format import NO_STROKE
from lsegdiff_core.project import Project
from napari_lsegdiff._class_editor import ClassEditor
from napari_lsegdiff._session import Session
from napari_lsegdiff._widget import SegmentationDock

DOCS = Path(__file__).parent
LIMIT = 120
# Two phantoms that lie over each other: the samples disagree on what is one polyp.
OVERLAID_SEEDS = (46, 47)


class Person:
    """Somebody at the viewer, who waits for what happens and takes pictures."""

    def __init__(self) -> None:
        self.viewer = napari.Viewer()
        self.viewer.window.resize(1280, 800)
        self.dock = SegmentationDock(self.viewer)
        self.viewer.window.add_dock_widget(self.dock, name="LSegDiff")

    @property
    def mask(self) -> Labels | None:
        return next((layer for layer in self.viewer.layers if layer.name.endswith(" mask")), None)

    def wait(self, condition: Callable[[], bool]) -> None:
        end = monotonic() + LIMIT
        while not condition():
            QApplication.instance().processEvents()
            if monotonic() > end:
                raise SystemExit(f"nothing happened for {LIMIT} s; the dock says: {self.dock.status}")

    def pause(self, seconds: float = 0.6) -> None:
        end = monotonic() + seconds
        self.wait(lambda: monotonic() > end)

    def press(self, button: object) -> None:
        ended: list[bool] = []
        self.dock.finished.connect(ended.append)
        button.click()
        self.wait(lambda: bool(ended) and not self.dock.comparing)
        self.dock.finished.disconnect(ended.append)
        self.pause()

    def look_at(self, widget: QWidget) -> None:
        self.dock.tabs.currentWidget().ensureWidgetVisible(widget)

    def picture(self, name: str) -> None:
        self.pause()
        self.viewer.window.screenshot(str(DOCS / f"{name}.png"), flash=False)

    def picture_of(self, widget: QWidget, name: str, height: int | None = None) -> None:
        self.pause()
        part = QRect(0, 0, widget.width(), height or widget.height())
        widget.grab(part).save(str(DOCS / f"{name}.png"))


def crash() -> None:
    """Leave behind what a session does that is killed: a mask that nobody saved."""
    journal, viewer = Journal(default_folder()), ViewerModel()
    session = Session(viewer, journal=journal)
    frame = draw_phantom(1)
    session.draw(session.job(viewer.add_image(frame.image, name="frame_0001")), frame.mask)
    journal.close(keep=True)
    session.close()


def restore(person: Person) -> None:
    """Be offered what the crashed session left behind."""
    bar = person.dock.recovery_bar
    person.picture_of(person.dock, "restoring", 134)
    bar.later_button.click()


def segment(person: Person) -> None:
    """Open the sample and run; twice, for the first time torch and the model load."""
    person.viewer.open_sample("napari-lsegdiff", "synthetic_polyp")
    person.pause()
    person.viewer.reset_view()
    for _ in range(2):
        person.press(person.dock.panel.button)
    person.picture("viewer")


def correct(person: Person) -> None:
    """Correct its mask by a stroke, then by a point and a box."""
    dock, viewer = person.dock, person.viewer
    labels = viewer.layers["Synthetic polyp mask"]
    person.look_at(dock.gallery)

    # the person holds the fold at the right for a part of the polyp
    rows, columns = np.nonzero(labels.data)
    row, right = int(rows.mean()), int(columns.max())
    labels.brush_size, labels.mode = 36, "paint"
    with labels.block_history():
        for offset in range(0, 40, 5):
            labels.paint((row, right + offset), 1)
    dock.correct.show_strokes.setChecked(True)
    person.picture("correcting-stroke")
    person.press(dock.correct.redraw_button)
    person.picture("correcting-redrawn")
    dock.correct.show_strokes.setChecked(False)

    dock.correct.outside.click()
    viewer.layers["Synthetic polyp points"].add((row - 90, right))
    dock.correct.box.click()
    top, left, bottom, end = [rows.min() - 40, columns.min() - 40, rows.max() + 40, min(right + 70, 620)]
    viewer.layers["Synthetic polyp shapes"].add_rectangles(
        np.array([[top, left], [top, end], [bottom, end], [bottom, left]])
    )
    person.press(dock.correct.redraw_button)
    person.picture("correcting-points")


def start_over(person: Person) -> None:
    """Start from a rough outline at a low strength, then part a mask into two objects."""
    dock, viewer = person.dock, person.viewer
    labels = viewer.layers["Synthetic polyp mask"]
    rows, columns = np.nonzero(labels.data)
    viewer.layers.remove("Synthetic polyp points")
    viewer.layers.remove("Synthetic polyp shapes")
    dock.correct.box.click()
    top, left, bottom, right = rows.min() - 30, columns.min() - 50, rows.max() + 20, columns.max() + 10
    viewer.layers["Synthetic polyp shapes"].add_ellipses(
        np.array([[top, left], [top, right], [bottom, right], [bottom, left]])
    )
    person.picture("correcting-outline")
    dock.correct.strength.setValue(0.6)
    person.press(dock.correct.redraw_button)
    person.picture("correcting-strength")
    dock.correct.strength.setValue(1.0)

    viewer.layers.remove("Synthetic polyp shapes")
    viewer.layers.selection.active = labels
    labels.brush_size, labels.mode = 60, "paint"
    with labels.block_history():
        labels.paint((120, 160), 1)
    dock.correct.split_button.click()
    dock.correct.show_strokes.setChecked(False)
    person.picture("correcting-split")


def compare(person: Person) -> None:
    """Ask for several samples of an image that is hard to read, and see where they agree."""
    dock, viewer = person.dock, person.viewer
    viewer.layers.clear()
    one, other = (draw_phantom(seed, 480, 640).image for seed in OVERLAID_SEEDS)
    viewer.add_image(((one.astype(float) + other) / 2).round().astype("uint8"), name="Doubtful polyp")
    viewer.reset_view()
    dock.choices.seeds.setValue(8)
    dock.refine.confidence.setValue(0)  # what the model is in doubt about stays in its hypotheses
    person.press(dock.panel.button)
    person.wait(lambda: dock.gallery.list.count() > 0)
    dock.gallery.agreement.setChecked(True)
    person.pause()
    person.look_at(dock.gallery)
    person.picture("correcting-hypotheses")


def annotate(person: Person) -> None:
    """Open a project in which two images are done, correct the third and score the others."""
    dock, viewer = person.dock, person.viewer
    dock.gallery.agreement.setChecked(False)
    viewer.layers.clear()
    person.pause()
    dock.choices.seeds.setValue(1)
    with tempfile.TemporaryDirectory() as folder:
        frames = Path(folder) / "colonoscopy"
        frames.mkdir()
        for seed in range(1, 9):
            iio.imwrite(frames / f"frame_{seed:04d}.png", draw_phantom(seed, polyp=seed % 5 != 0).image)
        project = Project.of_folder(frames)
        project.save("frame_0001", draw_phantom(1).mask.astype(np.uint8), None, {}, accepted=True, seconds=8)
        project.update("frame_0002", status="skipped", tags=("blurred",))
        project.close()
        dock.tabs.setCurrentIndex(1)
        dock.queue.open_folder(frames)
        person.wait(lambda: person.mask is not None)
        person.mask.paint((60, 60), 1)
        dock.annotate.score_button.click()
        person.wait(lambda: dock.annotate.score_button.text() == "Score all")
        viewer.reset_view()
        person.picture("annotating")
        dock.annotate.classes_button.click()
        editor = dock.findChild(ClassEditor)
        person.wait(editor.become.isVisible)  # the objects are counted
        person.picture_of(editor, "classes")
        editor.reject()

        (frames / "frame_0005.png").write_bytes(b"cut off")
        for name in ("frame_0004", "frame_0006"):
            dock.annotate.next_button.click()
            person.wait(lambda name=name: name in viewer.layers)
        person.picture_of(dock, "unreadable")

        strokes = np.full((480, 640), NO_STROKE, np.int32)
        strokes[:20, :20] = 0
        for index, name in enumerate(dock.queue.project.items):
            drawn = strokes if index % 2 else None
            dock.queue.project.save(name, draw_phantom(1).mask.astype(np.uint8), drawn, {}, accepted=True, seconds=8)
        dock.annotate.learn_button.click()
        person.wait(lambda: "painted" in dock.learn.text.text())
        person.picture_of(dock.learn, "learning")
        dock.learn.hide()
        dock.queue.close_project()


def look_around(person: Person) -> None:
    """Check the model in the About tab, and list the keys."""
    dock = person.dock
    dock.tabs.setCurrentIndex(2)
    person.wait(dock.about.copy_button.isEnabled)
    dock.about.check_button.click()
    person.wait(lambda: dock.about.status.text().startswith("Passed"))
    person.picture_of(dock.about.parentWidget(), "about")
    QTest.keyClick(dock.annotate.table, Qt.Key.Key_H)
    (window,) = (child for child in dock.findChildren(QDialog) if child.isVisible())
    person.picture_of(window, "keys")
    window.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as state:
        os.environ["XDG_STATE_HOME"] = state  # no crashed session of whoever makes the pictures is offered
        crash()
        person = Person()
        restore(person)
        segment(person)
        correct(person)
        start_over(person)
        compare(person)
        annotate(person)
        look_around(person)
        person.viewer.close()


if __name__ == "__main__":
    main()
