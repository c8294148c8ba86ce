"""Masks to files and back, in a real viewer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from napari.plugins import _npe2
from PIL import Image
from qtpy.QtWidgets import QFileDialog

from lsegdiff_core.bundle import available_bundles, bundle_hash
from napari_lsegdiff._writer import write_indexed


@pytest.fixture
def image(viewer, dock):
    return viewer.add_image(np.full((96, 128, 3), 120, np.uint8), rgb=True, name="frame")


@pytest.fixture
def corrected(viewer, dock, image, run, qtbot):
    """A mask that was made with other than the default settings, painted on and drawn again at strength 0.6."""
    dock.choices.steps.setValue(5)
    dock.choices.sampler.setCurrentText("heun")
    dock.choices.seeds.setValue(3)
    assert run(), dock.status
    labels = viewer.layers["frame mask"]
    labels.brush_size = 5
    with labels.block_history():
        labels.paint((10, 10), 1)
    dock.correct.strength.setValue(0.6)
    dock.refine.opening.setValue(2)
    qtbot.waitUntil(lambda: dock._arrivals.idle, timeout=10_000)
    with qtbot.waitSignal(dock.finished, timeout=20_000) as signal:
        dock.redraw()
    assert signal.args == [True], dock.status
    return labels


def save_by_export(viewer, dock, labels, path: Path) -> None:
    dock.exporter.chosen.emit(path, "indexed-png")
    assert dock.status.startswith(f"Written: {path.name} in {path.parent.name}")


def save_by_writer(viewer, dock, labels, path: Path) -> None:
    _, writers = _npe2.file_extensions_string_for_layers([labels])
    writer = next(writer for writer in writers if writer.command == "napari-lsegdiff.write_indexed")
    viewer.layers.selection = {labels}
    assert viewer.layers.save(str(path), selected=True, _writer=writer) == [str(path)]


@pytest.mark.parametrize("save", [save_by_export, save_by_writer])
def test_saved_mask_opens_with_strokes_and_controls(viewer, dock, corrected, image, qtbot, monkeypatch, tmp_path, save):
    path = tmp_path / "mask.png"
    save(viewer, dock, corrected, path)
    about = json.loads((tmp_path / "mask.provenance.json").read_text())
    drawn = dock._session.strokes(dock._shown()) >= 0
    assert about["sampling"]["strength"] == 0.6
    assert about["changed"] == pytest.approx(drawn.mean())
    assert 0 < about["changed"] < 0.01
    assert about["seconds"] > 0
    assert [stroke["id"] for stroke in about["strokes"]] == [1]
    before = corrected.data.copy()

    # another day: the image alone, and the controls as the model suggests
    viewer.layers.clear()
    dock.choices.choose(dock.choices.bundle)
    dock.correct.strength.setValue(1.0)
    dock.refine.reset_button.click()
    again = viewer.add_image(image.data, rgb=True, name="again")
    assert (dock.choices.steps.value(), dock.choices.seeds.value()) == (3, 1)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *args, **kwargs: (str(path), ""))
    dock.open_mask_button.click()
    assert dock.status == "Opened: mask.png"
    labels = viewer.layers["again mask"]
    np.testing.assert_array_equal(labels.data, before)
    sampling = dock.sampling.shown
    assert (sampling.steps, sampling.sampler, len(sampling.seeds), sampling.strength) == (5, "heun", 3, 0.6)
    assert dock.refine.morphology.opening == 2
    assert dock._session.sampling(dock._shown()).strength == 0.6

    # saved once more, it says the same, and no less time
    save(viewer, dock, labels, tmp_path / "twice.png")
    twice = json.loads((tmp_path / "twice.provenance.json").read_text())
    for field in ("sampling", "morphology", "bundle", "objects", "strokes", "changed", "edited", "image"):
        assert twice[field] == about[field], field
    assert twice["seconds"] >= about["seconds"]

    # the strokes are the user's still
    monkeypatch.undo()
    with qtbot.waitSignal(dock.finished, timeout=20_000) as signal:
        dock.run()
    assert signal.args == [True]
    assert (labels.data[drawn] == 1).all()
    assert again in viewer.layers


def test_saved_mask_opens_with_its_model(viewer, dock, corrected, image, tmp_path, run, bundle):
    path = tmp_path / "mask.png"
    save_by_export(viewer, dock, corrected, path)
    dock.choices.choose(available_bundles()[0])
    dock.files.open(path)
    assert dock.choices.bundle == bundle
    assert dock.choices.model.currentText() == "tiny"
    assert dock.sampling.shown.steps == 5
    assert dock.status == "Opened: mask.png"
    assert run(), dock.status
    assert dock._session.morphology(dock._shown()).opening == 2


def test_opened_mask_of_another_image_says_so(viewer, dock, corrected, tmp_path):
    path = tmp_path / "mask.png"
    save_by_export(viewer, dock, corrected, path)
    viewer.add_image(np.full((96, 128, 3), 121, np.uint8), rgb=True, name="other")
    dock.files.open(path)
    assert (
        dock.status == "Opened: mask.png; it was made of another image (frame); make sure that it belongs to this one"
    )


def test_mask_opens_on_an_image_that_cannot_be_segmented(viewer, dock, corrected, tmp_path):
    path = tmp_path / "mask.png"
    save_by_export(viewer, dock, corrected, path)
    viewer.add_image(np.full((96, 128), np.nan), name="broken", contrast_limits=(0, 1))
    dock.files.open(path)
    assert dock.status.startswith("Opened: mask.png; it was made of another image (frame)")
    assert "broken mask" in viewer.layers


def test_a_mask_names_the_file_of_its_image(viewer, dock, run, tmp_path):
    Image.fromarray(np.full((96, 128, 3), 120, np.uint8)).save(tmp_path / "frame_7.png")
    (image,) = viewer.open(tmp_path / "frame_7.png", plugin="napari")
    image.name = "the seventh"
    labels = viewer.add_image(np.zeros((20, 30), np.uint8), name="drawn")
    for layer, name in ((image, "frame_7.png"), (labels, "drawn")):
        dock.images.layer = layer
        assert run(), dock.status
        dock.exporter.chosen.emit(tmp_path / "mask.json", "coco")
        assert json.loads((tmp_path / "mask.json").read_text())["images"][0]["file_name"] == name


def test_a_mask_that_no_model_made_names_its_image_too(viewer, dock, image, tmp_path):
    write_indexed(str(tmp_path / "drawn.png"), np.ones((96, 128), np.uint8), {})
    dock.files.open(tmp_path / "drawn.png")
    dock.exporter.chosen.emit(tmp_path / "mask.json", "coco")
    (about,) = json.loads((tmp_path / "mask.json").read_text())["images"]
    assert (about["file_name"], about["height"], about["width"]) == ("frame", 96, 128)


def test_opened_mask_of_an_unknown_model_says_so(viewer, dock, corrected, image, tmp_path, bundle):
    path = tmp_path / "mask.png"
    save_by_export(viewer, dock, corrected, path)
    sidecar = tmp_path / "mask.provenance.json"
    sidecar.write_text(sidecar.read_text().replace(bundle_hash(Path(bundle)), "0123456789abcdef"))
    dock.files.open(path)
    assert dock.choices.bundle == bundle
    assert dock.status == "Opened: mask.png; made with tiny (01234567…), which is not in the list of models"


def test_mask_that_is_opened_over_another_can_be_undone(viewer, dock, corrected, tmp_path):
    save_by_export(viewer, dock, corrected, tmp_path / "mask.png")
    shown = corrected.data.copy()
    corrected.paint((80, 100), 1)
    painted = corrected.data.copy()
    dock.files.open(tmp_path / "mask.provenance.json")  # the sidecar stands for its mask
    np.testing.assert_array_equal(corrected.data, shown)
    corrected.undo()
    np.testing.assert_array_equal(corrected.data, painted)


def test_slider_of_an_opened_mask_says_that_a_run_is_needed(viewer, dock, corrected, image, qtbot, tmp_path):
    save_by_export(viewer, dock, corrected, tmp_path / "mask.png")
    viewer.layers.clear()
    viewer.add_image(image.data, rgb=True, name="again")
    dock.files.open(tmp_path / "mask.png")
    dock.refine.threshold.setValue(0.9)
    assert "press Run to refine it" in dock.status


def test_what_cannot_be_opened_is_said_in_one_line(viewer, dock, tmp_path):
    (tmp_path / "no.png").write_bytes(b"no image")
    dock.files.open(tmp_path / "no.png")
    assert dock.status.startswith("No image")
    viewer.add_image(np.zeros((30, 40), np.uint8), name="a")
    dock.files.open(tmp_path / "no.png")
    assert "no.png: cannot be read as a PNG" in dock.status
    write_indexed(str(tmp_path / "large.png"), np.ones((50, 60), np.uint8), {})
    dock.files.open(tmp_path / "large.png")
    assert "is 30 x 40 pixels, the mask 50 x 60" in dock.status
    assert [layer.name for layer in viewer.layers] == ["a"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("list.json", "[]", "list.json: cannot be read as COCO annotations of one image"),
        ("list.provenance.json", "[]", "list.provenance.json: expected an object with named fields"),
        ("empty.json", "", "empty.json: is damaged or no JSON file"),
        ("empty.png", "", "empty.png: cannot be read as a PNG; choose another file"),
        ("gone.json", None, "gone.json: cannot be read (No such file or directory)"),
        ("gone.png", None, "gone.png: no such file"),
        ("folder.json", "/", "folder.json: cannot be read ("),
        ("folder.png", "/", "folder.png: no such file, or not readable ("),
    ],
)
def test_what_is_no_mask_is_said_by_name(viewer, dock, tmp_path, name, content, said):
    path = tmp_path / name
    if content == "/":
        path.mkdir()
    elif content is not None:
        path.write_text(content)
    viewer.add_image(np.zeros((30, 40), np.uint8), name="a")
    dock.files.open(path)
    assert said in dock.status
    assert [layer.name for layer in viewer.layers] == ["a"]


def test_object_that_is_there_is_selected(viewer, dock, tmp_path):
    viewer.add_image(np.zeros((30, 40), np.uint8), name="a")
    mask = np.zeros((30, 40), np.uint8)
    mask[3:9, 4:20] = 7
    write_indexed(str(tmp_path / "seven.png"), mask, {})
    dock.files.open(tmp_path / "seven.png")
    assert viewer.layers["a mask"].selected_label == 7
    assert dock._shown().number == 7


def test_button_needs_an_image(viewer, dock):
    assert not dock.open_mask_button.isEnabled()
    viewer.add_image(np.zeros((30, 40), np.uint8))
    assert dock.open_mask_button.isEnabled()


def test_mask_that_was_changed_elsewhere_is_said(viewer, dock, corrected, tmp_path):
    save_by_export(viewer, dock, corrected, tmp_path / "mask.png")
    Image.fromarray(np.asarray(corrected.data) * np.uint8(2)).save(tmp_path / "mask.png")
    dock.files.open(tmp_path / "mask.png")
    assert "Opened: mask.png; mask.png was changed elsewhere" in dock.status
    assert not dock._session.edited(dock._shown())
