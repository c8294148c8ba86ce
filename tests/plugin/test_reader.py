"""A project's file opened as files are: by the menu, by drag and drop, by the command line and from Python."""

from __future__ import annotations

import json
from pathlib import Path

import imageio.v3 as iio
import napari
import npe2
import numpy as np
import pytest
from napari.errors import ReaderPluginError

import napari_lsegdiff
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.project import Project
from lsegdiff_core.project_file import FILE
from napari_lsegdiff._reader import open_project, project_reader
from napari_lsegdiff._widget import SegmentationDock

SHAPE = (60, 80)


@pytest.fixture
def mask() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[10:30, 20:50] = 2
    return labels


@pytest.fixture
def file(tmp_path: Path, mask: np.ndarray) -> Path:
    """The file of a project of two images: the first is accepted, the second has a draft."""
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(2):
        iio.imwrite(frames / f"frame_{number}.png", np.full((*SHAPE, 3), 60 + 30 * number, np.uint8))
    project = Project.of_folder(frames)
    for number in range(2):
        project.save(f"frame_{number}", mask, None, {}, accepted=number == 0, seconds=0)
    project.close()
    return project.folder / FILE


@pytest.fixture
def manager() -> npe2.PluginManager:
    """A plugin manager that knows this plugin alone."""
    plugins = npe2.PluginManager()
    plugins.register(npe2.PluginManifest.from_file(Path(napari_lsegdiff.__file__).with_name("napari.yaml")))
    plugins.activate("napari-lsegdiff")
    return plugins


def dock_of(viewer: napari.Viewer) -> SegmentationDock:
    (found,) = (widget for widget in viewer.window.dock_widgets.values() if isinstance(widget, SegmentationDock))
    return found


def open_in_python(viewer: napari.Viewer, file: Path) -> None:
    assert viewer.open(str(file), plugin="napari-lsegdiff") == []


def open_by_hand(viewer: napari.Viewer, file: Path) -> None:
    # what the menu, a drop and the command line call
    viewer.window._qt_viewer._qt_open([str(file)], stack=False)


@pytest.mark.parametrize("way", [open_in_python, open_by_hand])
def test_project_opens_in_the_annotate_tab(viewer, qtbot, file: Path, mask: np.ndarray, way) -> None:
    for _ in range(2):  # a second time into the same dock
        way(viewer, file)
        dock = dock_of(viewer)
        assert dock.tabs.tabText(dock.tabs.currentIndex()) == "Annotate"
        assert dock.isVisibleTo(viewer.window._qt_window)
        assert dock.queue.project.folder == file.parent
        qtbot.waitUntil(lambda: [layer.name for layer in viewer.layers] == ["frame_1", "frame_1 mask"], timeout=20_000)
        np.testing.assert_array_equal(viewer.layers["frame_1 mask"].data, mask)
    dock.queue.close_project()


def test_project_that_is_open_elsewhere_is_said_in_the_tab(viewer, dock, file: Path) -> None:
    elsewhere = Project.open(file.parent)
    assert viewer.open(str(file), plugin=None) == []
    assert "is open in another session" in dock.annotate.say.text()
    assert dock.queue.project is None
    elsewhere.close()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "expected an object with named fields, got list"),
        ("", "is damaged or no JSON file"),
        ("{}", "has format None, this version reads 1"),
        ('{"format": 1, "classes": [], "items": []}', "holds no items"),
        ("\0\xff", "is damaged or no JSON file"),
    ],
)
def test_file_that_is_no_project_is_named(viewer, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / FILE
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ReaderPluginError, match=message) as raised:
        viewer.open(str(path), plugin=None)
    assert str(path) in str(raised.value)
    assert not viewer.window.dock_widgets
    assert not viewer.layers


def test_what_is_not_there_or_a_folder_is_no_project(viewer, manager: npe2.PluginManager, tmp_path: Path) -> None:
    path = tmp_path / FILE
    with pytest.raises(LSegDiffError, match=f"holds no {FILE}"):
        open_project(str(path))
    with pytest.raises(FileNotFoundError):
        viewer.open(str(path), plugin=None)
    path.mkdir()
    with pytest.raises(LSegDiffError, match=f"holds no {FILE}"):
        open_project(str(path))
    assert not list(manager.iter_compatible_readers([str(path)]))


def test_manifest_offers_the_reader_for_this_file_alone(manager: npe2.PluginManager, file: Path) -> None:
    (reader,) = manager.iter_compatible_readers([str(file)])
    assert reader.command == "napari-lsegdiff.read_project"
    other = file.with_name("annotations.json")
    other.write_text("{}")
    assert not list(manager.iter_compatible_readers([str(other)]))
    assert project_reader(str(file)) is open_project
    assert project_reader(str(other)) is None
    assert project_reader([str(file), str(file)]) is None, "no stack"


def test_without_a_viewer_the_first_open_image_comes_with_its_mask(
    manager: npe2.PluginManager, file: Path, mask: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(napari, "current_viewer", lambda: None)
    (reader,) = manager.iter_compatible_readers([str(file)])
    read = reader.exec(kwargs={"path": [str(file)], "stack": False, "_registry": manager.commands})
    image, labels = read([str(file)], stack=False)
    assert (image[0].shape, *image[1:]) == ((*SHAPE, 3), {"name": "frame_1"}, "image")
    assert labels[1:] == ({"name": "frame_1 mask"}, "labels")
    np.testing.assert_array_equal(labels[0], mask)
    Project.open(file.parent).close()  # nobody holds it

    known = json.loads(file.read_text(encoding="utf-8"))
    known["items"][0].update(status="new", problem="not an image")
    file.write_text(json.dumps(known), encoding="utf-8")
    assert open_project(str(file))[0][1] == {"name": "frame_1"}, "unreadable ones are passed over"

    known["items"][0]["problem"] = ""
    for item in known["items"]:
        item["status"] = "accepted"
    file.write_text(json.dumps(known), encoding="utf-8")
    assert open_project(str(file))[0][1] == {"name": "frame_0"}, "all are done: the first"
