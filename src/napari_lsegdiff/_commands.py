"""What napari's menus and its command palette offer: each command opens the dock where the work is done."""

from __future__ import annotations

import napari
import napari.viewer
from qtpy.QtWidgets import QTabWidget

from napari_lsegdiff._dock import RememberingDock
from napari_lsegdiff._widget import SegmentationDock

# The name that napari itself gives the dock, when it is opened from the Plugins menu: there shall be only one.
DOCK_NAME = "LSegDiff (LSegDiff)"


def segment(viewer: napari.viewer.Viewer) -> None:
    """Open the dock to segment an image."""
    open_dock(viewer, "Segment")


def annotate(viewer: napari.viewer.Viewer) -> None:
    """Open the dock to annotate a folder of images."""
    open_dock(viewer, "Annotate")


def export(viewer: napari.viewer.Viewer) -> None:
    """Ask where to write the mask of the chosen image; without a mask the dock says so."""
    dock = open_dock(viewer, "Segment")
    if dock.exporter.button.isEnabled():
        dock.exporter.button.click()
    else:
        dock.panel.say("There is no mask to export: choose an image and press Run first")


def open_dock(viewer: napari.viewer.Viewer, tab: str) -> SegmentationDock:
    """Show the viewer's dock with one of its tabs in front, by its title; it is made when there is none."""
    # a command gets a proxy, whose layers are proxies too and never identical to one another
    viewer = getattr(viewer, "__wrapped__", viewer)
    found = (widget for widget in viewer.window.dock_widgets.values() if isinstance(widget, SegmentationDock))
    dock = next(found, None)
    if dock is None:
        dock = RememberingDock(viewer)
        viewer.window.add_dock_widget(dock, name=DOCK_NAME)
    frame = dock.parentWidget()
    if frame is not None:
        frame.show()
        frame.raise_()
    tabs = dock.findChild(QTabWidget)
    if tabs is not None:
        titles = [tabs.tabText(index) for index in range(tabs.count())]
        tabs.setCurrentIndex(titles.index(tab))
    return dock
