"""In a fresh process: open the dock and make the first run, which loads torch; or what bare napari does in their place.

`responsiveness.py` calls it and reads the line of JSON that it prints.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from time import perf_counter
from typing import Any

import napari
import numpy as np
from heartbeat import Heartbeat, Measured, wait
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QObject, QThreadPool
from qtpy.QtWidgets import QLabel


class Shown(QObject):
    """Notes when a label first shows each of its texts."""

    def __init__(self, label: QLabel) -> None:
        super().__init__(label)
        self.texts: dict[str, float] = {}
        label.installEventFilter(self)

    def eventFilter(self, watched: QLabel, event: QEvent) -> bool:  # noqa: N802
        if event.type() == QEvent.Type.Paint and watched.text():
            self.texts.setdefault(watched.text(), perf_counter())
        return False


def plugin(viewer: napari.Viewer, heartbeat: Heartbeat, bundle: str) -> dict[str, Any]:
    found: list[Any] = []

    def open_dock() -> None:
        from napari_lsegdiff._widget import SegmentationDock

        dock = SegmentationDock(viewer)
        viewer.window.add_dock_widget(dock, area="right")
        dock.choices.choose(bundle)
        found.append(dock)

    opened = heartbeat.measure(open_dock, lambda: bool(found))
    (dock,) = found
    ended: list[bool] = []
    dock.finished.connect(ended.append)
    shown = Shown(dock.panel.label)
    began: list[float] = []
    loading: list[float] = []

    def run() -> None:
        began.append(perf_counter())
        dock.panel.button.click()

    def note(update: object) -> None:
        # what follows is the first Labels layer, slow in napari by itself
        if type(update).__name__ == "Finished":
            loading.append(heartbeat.longest)

    dock._runner.updated.connect(note)

    measured = heartbeat.measure(run, lambda: bool(ended))
    if not ended[0]:
        raise SystemExit(dock.status)
    states = [{"text": text, "after": moment - began[0]} for text, moment in shown.texts.items()]
    return {"dock": opened, "run": measured, "loading": loading[0], "states": states}


def bare(viewer: napari.Viewer, heartbeat: Heartbeat, mask: NDArray[np.uint8]) -> dict[str, Measured]:
    return {
        "dock": heartbeat.measure(lambda: viewer.window.add_dock_widget(QLabel("empty"), area="right"), lambda: True),
        "run": heartbeat.measure(lambda: viewer.add_labels(mask), lambda: True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", type=Path, required=True, help="npy file (H, W, 3)")
    parser.add_argument("--mask", type=Path, help="npy file (H, W); bare napari shows it, without the plugin")
    parser.add_argument("--bundle", default="polyp")
    options = parser.parse_args()
    viewer = napari.Viewer()
    drawn: list[object] = []
    viewer.window._qt_viewer.canvas.events.draw.connect(drawn.append)
    viewer.add_image(np.load(options.image), name="frame")
    wait(lambda: bool(drawn))
    heartbeat = Heartbeat()
    if options.mask is None:
        result = plugin(viewer, heartbeat, options.bundle)
    else:
        result = bare(viewer, heartbeat, np.load(options.mask))
    print(json.dumps(result))  # `Measured` as a list
    viewer.close()
    QThreadPool.globalInstance().waitForDone()  # as napari does when it quits


if __name__ == "__main__":
    main()
