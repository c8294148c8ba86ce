"""The manifest and what it offers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from napari._app_model import get_app_model
from napari._app_model.constants._menus import is_menu_contributable
from napari.layers import Labels
from napari.plugins import _npe2
from npe2 import PluginManifest

import napari_lsegdiff
from napari_lsegdiff._dock import RememberingDock
from napari_lsegdiff._sample_data import synthetic_polyp, synthetic_skin_lesion, synthetic_video
from napari_lsegdiff._writer import write_coco, write_indexed

NO_TORCH = """
import sys
import napari_lsegdiff, lsegdiff_core
assert "torch" not in sys.modules, "torch came with the import"
import napari
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication
application = QApplication([])
from napari_lsegdiff._widget import SegmentationDock
dock = SegmentationDock(ViewerModel())
dock.show()
application.processEvents()
assert "torch" not in sys.modules, "torch came with the dock"
dock.close()
"""


def test_manifest_is_valid():
    manifest = PluginManifest.from_file(Path(napari_lsegdiff.__file__).with_name("napari.yaml"))
    assert manifest.name == "napari-lsegdiff"
    manifest.validate_imports()
    assert [widget.display_name for widget in manifest.contributions.widgets] == ["LSegDiff"]
    contributions = manifest.contributions
    named = [
        *(item.command for items in contributions.menus.values() for item in items),
        *(item.command for item in contributions.readers),
        *(item.command for item in contributions.writers),
        *(item.command for item in contributions.sample_data),
    ]
    assert set(named) < {command.id for command in contributions.commands}
    assert all(is_menu_contributable(menu) for menu in contributions.menus)
    for group in contributions.configurations.values():
        for setting in group.properties.values():
            assert setting.title
            assert setting.description


def test_neither_a_qt_binding_nor_all_of_napari_is_required():
    required = [line for line in requires("napari-lsegdiff") or [] if "extra ==" not in line]
    assert any(line.startswith("qtpy") for line in required)
    assert not [line for line in required if re.match(r"(PySide|PyQt|napari)", line, re.IGNORECASE)]


def test_dock_opens_without_torch():
    result = subprocess.run([sys.executable, "-c", NO_TORCH], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("sample", "shape"),
    [
        (synthetic_polyp, (480, 640, 3)),
        (synthetic_skin_lesion, (480, 640, 3)),
        (synthetic_video, (24, 360, 480, 3)),
    ],
)
def test_sample_data(sample, shape):
    ((image, attributes, kind),) = sample()
    assert kind == "image"
    assert attributes["name"].startswith("Synthetic")
    assert image.shape == shape
    assert image.dtype == np.uint8


def test_video_opens_as_a_stack_of_colour_frames(make_napari_viewer):
    (layer,) = make_napari_viewer().open_sample("napari-lsegdiff", "synthetic_video")
    assert layer.rgb
    assert layer.ndim == 3


@pytest.mark.parametrize("command", ["segment", "annotate", "export"])
def test_commands_open_one_dock(make_napari_viewer, command):
    viewer = make_napari_viewer()
    execute = get_app_model().commands.execute_command
    for _ in range(2):
        execute(f"napari-lsegdiff.{command}").result()
        (dock,) = viewer.window.dock_widgets.values()
        assert isinstance(dock, RememberingDock)
        assert dock._viewer is viewer, "a proxy's layers are never identical"
        assert dock.isVisibleTo(viewer.window._qt_window)
    if command == "export":
        assert "no mask" in dock.status
    # the Plugins menu finds the same dock, and puts it away
    execute("napari-lsegdiff.dock")
    assert not dock.parentWidget().isVisible()
    assert len(viewer.window.dock_widgets) == 1


def test_menus_hold_the_commands(make_napari_viewer):
    make_napari_viewer()
    menus = get_app_model().menus

    def titles(menu):
        return [item.command.title for item in menus.get_menu(menu) if hasattr(item, "command")]

    assert "Segment an image… (LSegDiff)" in titles("napari/layers/segment")
    assert "Annotate a folder of images… (LSegDiff)" in titles("napari/file/io_utilities")
    assert "Export the mask… (LSegDiff)" in titles("napari/file/io_utilities")


def test_the_save_dialog_offers_every_format(make_napari_viewer, tmp_path):
    viewer = make_napari_viewer()
    data = np.zeros((20, 30), np.uint8)
    data[3:9, 4:20] = 3
    layer = viewer.add_labels(data)
    text, writers = _npe2.file_extensions_string_for_layers([layer])
    ours = [writer for writer in writers if writer.command.startswith("napari-lsegdiff.")]
    assert [writer.filename_extensions for writer in ours] == [[".png"], [".png"], [".json"]]
    for writer in ours:
        assert f"LSegDiff {writer.display_name} (*" in text
        path = tmp_path / f"{writer.command}{writer.filename_extensions[0]}"
        assert viewer.layers.save(str(path), selected=True, _writer=writer) == [str(path)]
    np.testing.assert_array_equal(_ids(tmp_path / "napari-lsegdiff.write_indexed.png"), data)
    np.testing.assert_array_equal(_ids(tmp_path / "napari-lsegdiff.write_binary.png"), (data > 0) * 255)
    (annotation,) = json.loads((tmp_path / "napari-lsegdiff.write_coco.json").read_text())["annotations"]
    assert (annotation["id"], annotation["area"]) == (3, 96)


def test_save_selected_layer(make_napari_viewer, tmp_path):
    viewer = make_napari_viewer()
    data = np.zeros((20, 30), np.uint8)
    data[3:9, 4:20] = 1
    data[12:15, 4:20] = 2
    layer = viewer.add_labels(data)
    path = tmp_path / "mask.png"
    assert layer.save(str(path), plugin="napari-lsegdiff") == [str(path)]
    np.testing.assert_array_equal(_ids(path), data)
    sidecar = json.loads((tmp_path / "mask.provenance.json").read_text())
    assert "napari-lsegdiff" in sidecar["versions"]


def test_a_stack_is_written_frame_by_frame(tmp_path):
    data = np.zeros((2, 20, 30), np.uint8)
    data[1, 3:9, 4:20] = 1
    layer = Labels(data, metadata={"lsegdiff": {(1,): {"image": {"name": "x"}, "edited": True}}})
    layer_data, attributes, _ = layer.as_layer_data_tuple()
    written = write_indexed(str(tmp_path / "mask.png"), layer_data, attributes)
    assert [Path(path).name for path in written] == ["mask_0000.png", "mask_0001.png"]
    np.testing.assert_array_equal(_ids(Path(written[1])), data[1])
    sidecar = json.loads((tmp_path / "mask_0001.provenance.json").read_text())
    assert sidecar["edited"] is True


def test_a_stack_of_coco_files(tmp_path):
    data = np.zeros((2, 20, 30), np.uint8)
    data[1, 3:9, 4:20] = 1
    written = write_coco(str(tmp_path / "mask.json"), data, {})
    assert [len(json.loads(Path(path).read_text())["annotations"]) for path in written] == [0, 1]


def _ids(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image)


def test_demo_takes_a_picture(bundle, tmp_path):
    command = [sys.executable, "-m", "napari_lsegdiff.demo", "--out", str(tmp_path), "--bundle", bundle, "--screenshot"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"viewer    {tmp_path / 'viewer.png'}\n"
    assert iio.imread(tmp_path / "viewer.png").shape[1] > 800


SLOW_COMPARISON = """
import time
import napari
from qtpy.QtWidgets import QApplication
from napari_lsegdiff import _correction, demo
from napari_lsegdiff._correct import Gallery

def slow(*arguments, survey=_correction.survey):
    time.sleep(2)
    return survey(*arguments)

def screenshot(viewer, path, **options):
    print(*(widget.say.text() for widget in QApplication.allWidgets() if isinstance(widget, Gallery)))
    open(path, "w").close()

_correction.survey, napari.Viewer.screenshot = slow, screenshot
demo.main(["--screenshot", "--out", "."])
"""


def test_demo_waits_for_the_comparison_of_the_samples(tmp_path):
    command = [sys.executable, "-c", SLOW_COMPARISON]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "All samples agree" in result.stdout


@pytest.mark.parametrize("content", [None, b"no image"])
def test_demo_says_what_is_wrong(content, tmp_path):
    path = tmp_path / "broken.png"
    if content is not None:
        path.write_bytes(content)
    command = [sys.executable, "-m", "napari_lsegdiff.demo", "--image", str(path), "--screenshot"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert "broken.png" in result.stderr
    assert "Traceback" not in result.stderr
