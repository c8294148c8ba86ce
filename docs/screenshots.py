"""Make the pictures of docs/correcting.md: a person corrects the synthetic sample in the viewer.

make screenshots
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

from napari_lsegdiff._widget import SegmentationDock

DOCS = Path(__file__).parent
LIMIT = 120


class Person:
    """Somebody at the viewer, who waits for what happens and takes pictures."""

    def __init__(self) -> None:
        self.viewer = napari.Viewer()
        self.viewer.window.resize(1280, 800)
        self.dock = SegmentationDock(self.viewer)
        self.viewer.window.add_dock_widget(self.dock, name="LSegDiff")
        self.viewer.open_sample("napari-lsegdiff", "synthetic_polyp")

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
        self.wait(lambda: bool(ended))
        self.dock.finished.disconnect(ended.append)
        self.pause()

    def picture(self, name: str) -> None:
        self.pause()
        self.viewer.window.screenshot(str(DOCS / f"correcting-{name}.png"), flash=False)


def main() -> None:
    person = Person()
    dock, viewer = person.dock, person.viewer
    person.press(dock.panel.button)
    labels = viewer.layers["Synthetic polyp mask"]
    scroll = dock.correct.parentWidget().parentWidget().parentWidget()
    scroll.ensureWidgetVisible(dock.gallery)

    # the person holds the fold at the right for a part of the polyp
    rows, columns = np.nonzero(labels.data)
    row, right = int(rows.mean()), int(columns.max())
    labels.brush_size, labels.mode = 36, "paint"
    with labels.block_history():
        for offset in range(0, 40, 5):
            labels.paint((row, right + offset), 1)
    dock.correct.show_strokes.setChecked(True)
    person.picture("stroke")
    person.press(dock.correct.redraw_button)
    person.picture("redrawn")
    dock.correct.show_strokes.setChecked(False)

    # points and a box
    dock.correct.outside.click()
    viewer.layers["Synthetic polyp points"].add((row - 90, right))
    dock.correct.box.click()
    box = [rows.min() - 40, columns.min() - 40, rows.max() + 40, min(right + 70, 620)]
    top, left, bottom, end = box
    viewer.layers["Synthetic polyp shapes"].add_rectangles(
        np.array([[top, left], [top, end], [bottom, end], [bottom, left]])
    )
    person.press(dock.correct.redraw_button)
    person.picture("points")
    for name in ("Synthetic polyp points", "Synthetic polyp shapes"):
        viewer.layers.remove(name)

    # several samples at many steps, and where they agree
    viewer.layers.selection.active = labels
    dock.choices.seeds.setValue(8)
    dock.choices.sampler.setCurrentText("ddpm")
    dock.choices.steps.setValue(10)
    person.press(dock.correct.redraw_button)
    person.wait(lambda: dock._correction._surveyor.idle)
    dock.gallery.agreement.setChecked(True)
    scroll.ensureWidgetVisible(dock.gallery)
    person.picture("hypotheses")
    viewer.close()


if __name__ == "__main__":
    main()
