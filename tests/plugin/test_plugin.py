"""The manifest and what it offers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from napari.layers import Labels
from npe2 import PluginManifest

import napari_lsegdiff
from napari_lsegdiff._sample_data import synthetic_polyp
from napari_lsegdiff._writer import write_labels

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


def test_dock_opens_without_torch():
    result = subprocess.run([sys.executable, "-c", NO_TORCH], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_sample_data():
    ((image, attributes, kind),) = synthetic_polyp()
    assert kind == "image"
    assert attributes["name"] == "Synthetic polyp"
    assert image.shape == (480, 640, 3)
    assert image.dtype == np.uint8


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
    written = write_labels(str(tmp_path / "mask.png"), layer_data, attributes)
    assert [Path(path).name for path in written] == ["mask_0000.png", "mask_0001.png"]
    np.testing.assert_array_equal(_ids(Path(written[1])), data[1])
    sidecar = json.loads((tmp_path / "mask_0001.provenance.json").read_text())
    assert sidecar["edited"] is True


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
