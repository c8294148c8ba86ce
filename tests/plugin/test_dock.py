"""The path of a user, in a real viewer."""

from __future__ import annotations

import gc
import json
import logging
import shutil
import threading
from pathlib import Path
from time import sleep

import imageio.v3 as iio
import numpy as np
import PIL.Image
import pytest
from napari.utils._test_utils import read_only_mouse_event
from napari.utils.interactions import mouse_move_callbacks, mouse_press_callbacks, mouse_release_callbacks
from pycocotools import mask as mask_utils
from qtpy.QtCore import QEvent, QPoint, Qt, QThreadPool
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QDockWidget, QFileDialog, QStyle, QStyleOptionComboBox, QWidgetItem

from lsegdiff_core.bundle import MANIFEST
from lsegdiff_core.classes import DEFAULT_CLASSES
from lsegdiff_core.predictor import Predictor
from napari_lsegdiff._widget import SegmentationDock
from napari_lsegdiff._worker import OUT_OF_MEMORY, PredictorCache


def settle(qtbot, dock):
    qtbot.waitUntil(lambda: dock._arrivals.idle, timeout=10_000)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # decoding in pycocotools
def test_from_sample_to_file(viewer, dock, run, calls, qtbot, monkeypatch, tmp_path: Path):
    # sample image -> Run -> Labels layer
    viewer.open_sample("napari-lsegdiff", "synthetic_polyp")
    assert dock.panel.button.text() == "Run"
    assert run(), dock.status
    labels = viewer.layers["Synthetic polyp mask"]
    model = labels.data.copy()
    assert model.shape == (480, 640)
    assert set(np.unique(model)) == {0, 1}
    assert dock.panel.button.text() == "Run"
    assert (calls.encode, calls.denoise) == (1, 3)

    # a stroke, and Ctrl+Z
    labels.brush_size = 20
    with labels.block_history():
        labels.paint((20, 20), 1)
        labels.paint((20, 30), 1)
    assert labels.data[20, 25] == 1
    labels.undo()
    np.testing.assert_array_equal(labels.data, model)

    # again, and a slider: no network runs, and the stroke stays
    labels.paint((20, 20), 1)
    labels.paint((240, 320), 0)
    stroke_on, stroke_off = labels.data[20, 20] == 1, labels.data[240, 320] == 0
    assert stroke_on
    assert stroke_off
    before = labels.data.copy()
    dock.refine.threshold.setValue(0.7)
    settle(qtbot, dock)
    assert (calls.encode, calls.denoise) == (1, 3)
    assert (labels.data != before).any()
    assert labels.data[20, 20] == 1
    assert labels.data[240, 320] == 0
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)
    assert dock.refine.threshold.value() == pytest.approx(0.5)
    labels.redo()

    # Cancel during a run of 50 steps
    shown = labels.data.copy()
    calls.delay = 0.05
    dock.choices.steps.setValue(50)
    dock.panel.button.click()
    assert dock.panel.button.text() == "Cancel"
    started = calls.denoise
    qtbot.waitUntil(lambda: calls.denoise > started + 1, timeout=10_000)
    with qtbot.waitSignal(dock.finished) as signal:
        dock.panel.button.click()
    assert signal.args == [False]
    assert dock.panel.button.text() == "Run"
    qtbot.waitUntil(lambda: dock._runner.idle, timeout=10_000)
    assert calls.denoise < started + 50
    calls.delay = 0.0
    np.testing.assert_array_equal(labels.data, shown)
    assert calls.encode == 1

    # out of memory in step 2
    whole = Predictor.denoise

    def fail(self, z, sigma, cond, steps=[]):  # noqa: B006
        steps.append(1)
        if len(steps) == 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB\nGPU 0 has a total capacity of …")
        return whole(self, z, sigma, cond)

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "denoise", fail)
        assert not run()
    assert dock.status == OUT_OF_MEMORY
    assert "20.00 GiB" in dock.panel.label.toolTip()
    assert dock.panel.button.text() == "Run"
    np.testing.assert_array_equal(labels.data, shown)

    # export, and read it back
    for index, name in enumerate(("binary.png", "indexed.png", "objects.json")):
        path = tmp_path / name
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *args, path=path: (str(path), ""))
        dock.exporter.format.setCurrentIndex(index)
        dock.exporter.button.click()
        assert dock.status.startswith(f"Written: {path.name} in {path.parent.name}")
        assert dock.exporter.said.text() == dock.status
    np.testing.assert_array_equal(iio.imread(tmp_path / "binary.png"), labels.data * 255)
    with PIL.Image.open(tmp_path / "indexed.png") as indexed:
        np.testing.assert_array_equal(np.asarray(indexed), labels.data)
    (annotation,) = json.loads((tmp_path / "objects.json").read_text())["annotations"]
    np.testing.assert_array_equal(mask_utils.decode(annotation["segmentation"]), labels.data)

    # and a run after all that works, on the same layer, under the strokes
    assert run()
    assert dock._session.mask_layer(viewer.layers["Synthetic polyp"]) is labels
    qtbot.waitUntil(lambda: len(viewer.layers) == 2)  # the preview goes after the run
    assert labels.data[20, 20] == 1


def boom(*args: object, **kwargs: object) -> None:
    raise RuntimeError("boom")


@pytest.mark.parametrize(
    "where",
    [
        "napari_lsegdiff._worker.PredictorCache.predictor",
        "napari_lsegdiff._jobs.Job.read",
        "lsegdiff_core.predictor.Predictor.encode",
        "lsegdiff_core.predictor.Predictor.denoise",
        "lsegdiff_core.predictor.Predictor.decode",
        "lsegdiff_core.prediction.refine",
    ],
)
def test_runtime_error_in_the_worker_does_not_leave_the_run_hanging(viewer, dock, run, qtbot, monkeypatch, where):
    viewer.add_image(np.full((60, 60), 90, np.uint8), name="a")
    with monkeypatch.context() as patch:
        patch.setattr(where, boom)
        assert not run()
    assert dock.status == "Failed: boom (RuntimeError)"
    assert dock.panel.button.text() == "Run"
    qtbot.waitUntil(lambda: dock._runner.idle, timeout=10_000)
    assert run(), dock.status


def test_time_of_a_run_leaves_out_the_loading(viewer, dock, run, monkeypatch):
    viewer.add_image(np.full((100, 120), 100, np.uint8), name="a")
    assert run()
    load = PredictorCache.predictor
    monkeypatch.setattr(PredictorCache, "predictor", lambda *args: (sleep(3), load(*args))[1])
    assert run()
    assert float(dock.status.removesuffix(" s").split()[-1]) < 3, dock.status


def test_status_of_another_image_is_cleared(viewer, dock, run):
    viewer.add_image(np.full((100, 120), 100, np.uint8), name="a")
    assert run()
    assert dock.status
    viewer.add_image(np.full((100, 120), 50, np.uint8), name="b")
    assert dock.status == ""


def test_same_image_is_encoded_once(viewer, dock, run, calls):
    image = viewer.add_image(np.random.default_rng(0).integers(0, 255, (80, 90, 3), dtype=np.uint8))
    assert run()
    assert run()
    assert calls.encode == 1
    image.data[:10] = 0
    assert run()
    assert calls.encode == 2


def test_an_image_that_is_chosen_by_hand_comes_to_the_front(viewer, dock, run, qtbot):
    layers, images = viewer.layers, {}
    for name in ("a", "b"):
        images[name] = viewer.add_image(np.full((60, 60), 90, np.uint8), name=name)
        assert run()
    viewer.add_image(np.full((60, 60), 90, np.uint8), name="c")
    dock.images.layer = images["a"]
    dock.correct.inside.click()
    dock.correct.show_strokes.setChecked(True)
    layers["a mask"].paint((5, 5), 1)
    dock.images.layer = images["b"]
    qtbot.waitUntil(lambda: len(layers) == 6)  # the strokes are gone
    assert layers[-1].name == "a points", "only a choice by hand moves anything"
    layers["a"].visible = layers["a mask"].visible = False
    QTest.keyClick(dock.images, Qt.Key.Key_Up)
    assert dock.images.layer is images["a"]
    assert layers.selection.active is layers["a mask"]
    assert [layer.name for layer in layers] == ["b", "b mask", "c", "a", "a mask", "strokes (a)", "a points"]
    assert layers["a"].visible
    assert layers["a mask"].visible
    assert [dock.images.itemText(index) for index in range(3)] == ["a", "b", "c"]
    QTest.keyClick(dock.images, Qt.Key.Key_End)
    assert layers.selection.active is layers["c"]
    assert layers[-1] is layers["c"]


def test_an_image_with_strokes_on_show_can_be_chosen(viewer, dock, run, qtbot):
    for name in ("a", "b"):
        viewer.add_image(np.full((60, 60), 90, np.uint8), name=name)
        assert run()
        viewer.layers[f"{name} mask"].paint((5, 5), 1)
    dock.correct.show_strokes.setChecked(True)
    for key, name in ((Qt.Key.Key_Up, "a"), (Qt.Key.Key_Down, "b")):
        QTest.keyClick(dock.images, key)
        qtbot.wait(50)
        assert dock.images.layer is viewer.layers[name]
        assert viewer.layers.selection.active is viewer.layers[f"{name} mask"]
        assert [layer.name for layer in viewer.layers if "strokes" in layer.name] == [f"strokes ({name})"]


def test_one_undo_item_for_a_drag(viewer, dock, run, qtbot):
    viewer.add_image(np.full((100, 120), 100, np.uint8), name="a")
    assert run()
    labels = viewer.layers["a mask"]
    first = labels.data.copy()
    slider = dock.refine.threshold
    slider.setSliderDown(True)
    for value in (0.55, 0.6, 0.7, 0.8):
        slider.setValue(value)
        settle(qtbot, dock)
    slider.setSliderDown(False)
    last = labels.data.copy()
    assert last.sum() < first.sum()
    slider.setSliderDown(True)
    slider.setValue(0.3)
    settle(qtbot, dock)
    slider.setSliderDown(False)
    labels.undo()
    np.testing.assert_array_equal(labels.data, last)
    labels.undo()
    np.testing.assert_array_equal(labels.data, first)


def test_a_mask_waits_for_the_mouse(viewer, dock, run, qtbot):
    viewer.add_image(np.full((100, 120), 100, np.uint8), name="a")
    assert run()
    labels = viewer.layers["a mask"]
    with labels.block_history():
        labels.paint((5, 5), 1)
        dock.refine.threshold.setValue(0.8)
        qtbot.waitUntil(lambda: dock._arrivals.waiting, timeout=10_000)
        during = labels.data.copy()
        qtbot.wait(80)
        np.testing.assert_array_equal(labels.data, during)
    settle(qtbot, dock)
    assert (labels.data != during).any()
    assert labels.data[5, 5] == 1
    labels.undo()
    np.testing.assert_array_equal(labels.data, during)


def test_image_renamed_and_removed_during_a_run(viewer, dock, calls, qtbot):
    image = viewer.add_image(np.full((60, 60), 90, np.uint8), name="a")
    dock.choices.steps.setValue(20)
    calls.delay = 0.02
    dock.panel.button.click()
    image.name = "b"
    assert dock.images.currentText() == "b"
    qtbot.waitUntil(lambda: not dock.running, timeout=20_000)
    assert "b mask" in viewer.layers

    dock.panel.button.click()
    with qtbot.waitSignal(dock.finished) as signal:
        viewer.layers.remove(image)
    assert signal.args == [False]
    assert "removed" in dock.status
    assert dock.panel.button.text() == "Run"
    assert dock.images.layer is None
    qtbot.waitUntil(lambda: dock._runner.idle, timeout=10_000)
    qtbot.waitUntil(lambda: [layer.name for layer in viewer.layers] == ["b mask"])


def test_mask_removed_during_a_run_comes_anew(viewer, dock, run, calls, qtbot):
    viewer.add_image(np.full((60, 60), 90, np.uint8), name="a")
    assert run()
    calls.delay = 0.1
    with qtbot.waitSignal(dock.finished, timeout=20_000) as signal:
        dock.panel.button.click()
        viewer.layers.remove("a mask")
    assert signal.args == [True]
    assert "a mask" in viewer.layers


def test_mask_renamed_during_a_run_is_written_where_it_is(viewer, dock, run, calls, qtbot):
    viewer.add_image(np.full((60, 60), 90, np.uint8), name="a")
    assert run()
    labels = viewer.layers["a mask"]
    labels.data_setitem((np.array([30]), np.array([30])), 0)
    calls.delay = 0.1
    with qtbot.waitSignal(dock.finished, timeout=20_000) as signal:
        dock.panel.button.click()
        labels.name = "b"
    assert signal.args == [True]
    assert [layer.name for layer in viewer.layers if layer.name.endswith("mask")] == []
    assert dock._session.mask_layer(viewer.layers["a"]) is labels


def test_run_right_after_cancel(viewer, dock, qtbot):
    viewer.add_image(np.full((60, 60), 90, np.uint8), name="a")
    dock.panel.button.click()
    dock.panel.button.click()
    assert not dock.running
    with qtbot.waitSignal(dock.finished, timeout=20_000) as signal:
        dock.panel.button.click()
    assert signal.args == [True]


def test_errors_are_one_line(viewer, dock, run):
    assert not run()
    assert dock.status.startswith("No image")
    image = viewer.add_image(np.full((60, 60), np.nan, np.float32), name="a")
    assert not run()
    assert "NaN" in dock.status
    assert "\n" not in dock.status
    viewer.layers.remove(image)
    viewer.add_image(np.zeros((60, 70, 3), np.uint8), rgb=False, name="grey stack")
    assert not run()
    assert "rgb=True" in dock.status


def test_a_folder_that_is_no_bundle(dock, monkeypatch, tmp_path):
    before = dock.choices.bundle
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *args: str(tmp_path))
    last = dock.choices.model.count() - 1
    dock.choices.model.setCurrentIndex(last)
    dock.choices.model.activated.emit(last)
    assert "not found" in dock.status
    assert dock.choices.bundle == before
    assert dock.choices.model.currentData() == before


def test_licence_and_devices_are_shown(viewer, dock, run):
    assert dock.choices.licence.text() == "BSD-3-Clause. Not a medical device"
    assert dock.choices.device.count() == 1
    viewer.add_image(np.full((60, 60), 90, np.uint8))
    assert run()
    assert dock.choices.device.findText("cpu") > 0


def test_open_several_images(viewer, dock, monkeypatch, tmp_path):
    paths = []
    for name in ("one", "two"):
        paths.append(str(tmp_path / f"{name}.png"))
        iio.imwrite(paths[-1], np.zeros((40, 50, 3), np.uint8))
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *args, **options: (paths, ""))
    dock.open_button.click()
    assert [layer.name for layer in viewer.layers] == ["one", "two"]
    assert dock.images.currentText() == "two"
    viewer.layers.selection.active = viewer.layers["one"]
    assert dock.images.layer is viewer.layers["one"]


def test_what_is_no_image_is_named_and_the_others_open(viewer, dock, monkeypatch, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    iio.imwrite(tmp_path / "good.png", np.zeros((40, 50, 3), np.uint8))
    paths = [str(tmp_path / name) for name in ("notes.txt", "gone.png", "good.png")]
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *args, **options: (paths, ""))
    dock.open_button.click()
    assert [layer.name for layer in viewer.layers] == ["good"]
    assert dock.status.startswith("notes.txt, gone.png: cannot be opened as images")
    assert f"{paths[1]}: no such file" in dock.panel.label.toolTip()
    paths[1:] = []
    dock.open_button.click()
    assert dock.status == f"{paths[0]}: cannot be read as an image; is it truncated, or not an image at all?"


def test_the_size_that_is_said_follows_a_slider(viewer, dock, run, qtbot):
    viewer.add_image(np.full((100, 120), 100, np.uint8), name="a")
    assert run()
    dock.refine.threshold.setValue(0.01)
    qtbot.waitUntil(lambda: dock._arrivals.idle)
    assert dock.status == f"Mask of {np.count_nonzero(viewer.layers['a mask'].data):,} px"


def test_that_autosave_has_stopped_stays_on_show(viewer, journals, request):
    journals.write_text("no folder")
    dock = request.getfixturevalue("dock")
    run = request.getfixturevalue("run")
    viewer.add_image(np.full((100, 120), 100, np.uint8), name="a")
    assert run()
    viewer.layers["a mask"].paint((5, 5), 1)
    assert "autosave has stopped" in dock.warning.text()
    assert not dock.warning.isHidden()


def test_forget_strokes_button(viewer, dock, run):
    viewer.add_image(np.full((100, 120), 100, np.uint8), name="a")
    assert run()
    labels = viewer.layers["a mask"]
    model = labels.data.copy()
    assert not dock.correct.forget_button.isEnabled()
    labels.paint((5, 5), 2)
    assert dock.correct.forget_button.isEnabled()
    dock.correct.forget_button.click()
    np.testing.assert_array_equal(labels.data, model)
    assert not dock.correct.forget_button.isEnabled()


def test_from_the_plugins_menu(viewer, bundle, calls, qtbot):
    container, dock = viewer.window.add_plugin_dock_widget("napari-lsegdiff", "LSegDiff")
    dock.choices.choose(bundle)
    viewer.add_image(np.full((60, 60), 90, np.uint8), name="a")
    # floating and hiding is not closing
    container.setFloating(True)
    container.setFloating(False)
    container.hide()
    container.show()
    with qtbot.waitSignal(dock.finished, timeout=20_000) as signal:
        dock.panel.button.click()
    assert signal.args == [True]


def test_a_new_model_brings_its_threshold(viewer, dock, run, bundle, qtbot):
    viewer.add_image(np.full((100, 120), 100, np.uint8), name="a")
    dock.refine.threshold.setValue(0.8)
    assert run()
    assert dock.refine.morphology.threshold == 0.8
    dock.choices.choose(bundle)
    viewer.layers["a mask"].paint((5, 5), 1)
    assert dock.refine.morphology.threshold == 0.8
    assert run()
    assert dock.refine.morphology.threshold == 0.5
    dock.refine.reset_button.click()
    settle(qtbot, dock)
    assert dock.refine.morphology.threshold == 0.5


def test_toggling_and_min_area_are_undo_items(viewer, dock, run, qtbot):
    viewer.add_image(np.full((100, 120), 100, np.uint8), name="a")
    assert run()
    labels = viewer.layers["a mask"]
    labels.paint((5, 5), 1)
    dock.refine.min_area.setValue(1_000_000)
    settle(qtbot, dock)
    assert labels.data.sum() == (labels.data[:20, :20] == 1).sum() > 0
    labels.undo()
    assert labels.data[50, 60] == 1
    assert dock.refine.min_area.value() == 0


def test_a_real_mouse_stroke(viewer, dock, run, qtbot):
    """Drive the drag callbacks as the canvas does."""
    viewer.add_image(np.full((100, 120), 100, np.uint8), name="a")
    assert run()
    labels = viewer.layers["a mask"]
    model = labels.data.copy()
    labels.mode = "paint"

    def event(kind, position):
        return read_only_mouse_event(kind, is_dragging=kind == "mouse_move", button=1, position=position)

    mouse_press_callbacks(labels, event("mouse_press", (5, 5)))
    mouse_move_callbacks(labels, event("mouse_move", (5, 40)))
    during = labels.data.copy()
    assert (during != model).any()
    dock.refine.threshold.setValue(0.8)
    qtbot.waitUntil(lambda: dock._arrivals.waiting, timeout=10_000)
    np.testing.assert_array_equal(labels.data, during)
    mouse_release_callbacks(labels, event("mouse_release", (5, 40)))
    settle(qtbot, dock)
    assert (labels.data != during).any()
    labels.undo()
    np.testing.assert_array_equal(labels.data, during)
    labels.undo()
    np.testing.assert_array_equal(labels.data, model)


@pytest.mark.parametrize("how", ["dock", "viewer"])
def test_closing_during_a_run_stops_it(viewer, dock, calls, qtbot, how):
    viewer.add_image(np.full((60, 60), 90, np.uint8), name="a")
    assert run_started(dock, calls, qtbot)
    closers = dock._closers
    worker = dock._runner._worker
    counts = [len(viewer.layers.events.inserted.callbacks), len(viewer.dims.events.current_step.callbacks)]
    if how == "dock":
        viewer.window.remove_dock_widget(dock)
        after = [len(viewer.layers.events.inserted.callbacks), len(viewer.dims.events.current_step.callbacks)]
        assert [b - a for a, b in zip(after, counts, strict=True)] == [1, 1]
    else:
        viewer.close()
    qtbot.waitUntil(lambda: not worker.is_running, timeout=10_000)
    assert calls.denoise < 50
    assert not closers.calls


def run_started(dock, calls, qtbot) -> bool:
    calls.delay = 0.05
    dock.choices.steps.setValue(50)
    dock.panel.button.click()
    qtbot.waitUntil(lambda: calls.denoise > 0, timeout=20_000)
    return dock.running


def test_closed_dock_leaves_neither_widgets_nor_threads(viewer, bundle, calls, qtbot):
    viewer.add_image(np.full((60, 60), 90, np.uint8), name="a")
    pool = QThreadPool.globalInstance()

    def open_run_and_close() -> None:
        dock = SegmentationDock(viewer)
        viewer.window.add_dock_widget(dock, name="LSegDiff")
        dock.choices.choose(bundle)
        with qtbot.waitSignal(dock.finished, timeout=20_000):
            dock.panel.button.click()
        qtbot.waitUntil(lambda: pool.activeThreadCount() == 0, timeout=20_000)
        viewer.window.remove_dock_widget(dock)
        viewer.layers.remove("a mask")  # napari's own controls go with it

    def left() -> tuple[int, set[threading.Thread]]:
        gc.collect()
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        return len(QApplication.allWidgets()), set(threading.enumerate())

    open_run_and_close()  # what the first one loads stays
    before = left()
    for _ in range(2):
        open_run_and_close()
    after = left()
    assert after[0] <= before[0]
    assert after[1] <= before[1]


def test_passes_reach_the_sampling(dock):
    for flip, zoom in ((True, False), (True, True), (False, True), (False, False)):
        dock.choices.flip.setChecked(flip)
        dock.choices.zoom.setChecked(zoom)
        assert (dock.choices.sampling.flip, dock.choices.sampling.zoom) == (flip, zoom)


def test_passes_follow_the_bundles_default(dock, bundle, tmp_path):
    folder = shutil.copytree(bundle, tmp_path / "zooming")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["sampling"].update(flip=True, zoom=True)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    for choice, on in ((folder, True), (bundle, False)):
        dock.choices.choose(str(choice))
        assert (dock.choices.flip.isChecked(), dock.choices.zoom.isChecked()) == (on, on)


def test_the_log_says_what_a_person_chose(viewer, dock, run, caplog):
    viewer.add_image(np.full((60, 60), 90, np.uint8), name="a")
    dock.choices.seeds.setValue(4)
    dock.choices.flip.setChecked(True)
    with caplog.at_level(logging.INFO, "napari_lsegdiff"):
        assert run()
    assert "Segmented 60 x 60 pixels on cpu in " in caplog.text
    assert " s: seeds 4, each 3 steps of ddim, mirror on, zoom off\n" in caplog.text


def test_a_run_with_every_pass(viewer, dock, run, calls, monkeypatch):
    viewer.add_image(np.random.default_rng(0).integers(0, 255, (100, 120, 3), dtype=np.uint8), name="a")
    shown = []
    monkeypatch.setattr(dock.panel, "show_progress", lambda done, total: shown.append((done, total)))
    dock.choices.seeds.setValue(4)
    dock.choices.flip.setChecked(True)
    dock.choices.zoom.setChecked(True)
    assert run(), dock.status
    assert calls.denoise == 24
    steps = [step for step in shown if step[1] > 1]
    assert steps == sorted(set(steps)), "never back, and none twice"
    assert set(steps) <= {(done, 24) for done in range(25)}
    assert viewer.layers["a mask"].data.any()


def test_no_control_is_cut_in_the_narrowest_dock(dock):
    dock.panel.say("/home/someone/" + "x" * 200)
    dock.annotate.tell("Accepted: " + "x" * 200)
    dock.correct.show_object(1, "pedunculated " * 20)
    narrowest = QWidgetItem(dock).minimumSize().width()
    pages = [dock.tabs.widget(index) for index in range(dock.tabs.count())]
    assert max(page.minimumSizeHint().width() for page in pages) <= narrowest < 420


@pytest.fixture
def shown(dock, viewer, qtbot):
    """The dock as it appears, as narrow as it can be."""
    window = viewer.window._qt_window
    window.show()
    qtbot.waitExposed(window)
    window.resizeDocks([around(dock)], [1], Qt.Orientation.Horizontal)
    qtbot.waitUntil(lambda: around(dock).width() <= QWidgetItem(dock).minimumSize().width())
    return dock


def around(dock) -> QDockWidget:
    """Return what napari puts around the dock."""
    return next(other for other in dock.window().findChildren(QDockWidget) if other.isAncestorOf(dock))


def test_title_lies_over_no_tab(shown):
    title = around(shown).titleBarWidget().geometry()
    assert shown.tabs.tabBar().mapTo(around(shown), QPoint(0, 0)).y() >= title.bottom()


def test_every_class_of_a_new_project_can_be_read(shown, qtbot):
    panel = shown.annotate
    shown.tabs.setCurrentIndex(1)
    panel.show_classes(DEFAULT_CLASSES)
    qtbot.waitUntil(panel.object_class.isVisible)
    option = QStyleOptionComboBox()
    panel.object_class.initStyleOption(option)
    field = panel.object_class.style().subControlRect(
        QStyle.ComplexControl.CC_ComboBox, option, QStyle.SubControl.SC_ComboBoxEditField, panel.object_class
    )
    icon = panel.object_class.iconSize().width()
    for known in DEFAULT_CLASSES:
        assert panel.object_class.fontMetrics().horizontalAdvance(known.name) + icon < field.width()


def test_name_of_a_long_image_does_not_widen_the_choice(viewer, dock):
    before = dock.images.minimumSizeHint().width()
    viewer.add_image(np.zeros((20, 20)), name="frame" * 20)
    assert dock.images.currentText() == "frame" * 20
    assert dock.images.minimumSizeHint().width() == before
    dock.images.grab()
