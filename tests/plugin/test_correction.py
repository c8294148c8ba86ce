"""Correcting a mask: strokes, points and outlines as hints, hypotheses, objects; in a real viewer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from time import sleep

import imageio.v3 as iio
import numpy as np
import pytest
from napari.layers import Labels
from napari.utils._test_utils import read_only_mouse_event
from napari.utils.interactions import mouse_move_callbacks, mouse_press_callbacks, mouse_release_callbacks
from qtpy.QtWidgets import QFileDialog

from lsegdiff_core.data.geometry import Geometry
from lsegdiff_core.hints import BACKGROUND, FOREGROUND, NONE
from lsegdiff_core.prediction import Prediction
from lsegdiff_core.predictor import Predictor
from napari_lsegdiff import _correction
from napari_lsegdiff._overlays import OVERLAY
from napari_lsegdiff._shortcuts import DEFAULT
from napari_lsegdiff._survey import survey
from napari_lsegdiff._worker import Preview

SIZE = 64  # of the tiny model's square


def cone(centre: tuple[float, float]) -> np.ndarray:
    y, x = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE
    return np.clip(1 - 1.5 * np.hypot(y - centre[0], x - centre[1]), 0, 1).astype(np.float32)


def settle(qtbot, dock):
    idle = lambda: dock._arrivals.idle and dock._correction._surveyor.idle  # noqa: E731
    qtbot.waitUntil(lambda: idle() and not dock.running and dock._runner.idle, timeout=20_000)


@pytest.fixture
def heard(calls, monkeypatch):
    """What each run was asked; of several seeds every third sees another lesion."""
    requests = []
    steps = Predictor.steps

    def listen(self, sampling=None, hints=None):
        requests.append((sampling, hints))
        return steps(self, sampling, hints)

    def decode(self, z):
        squares = [cone((0.5, 0.5)) if index % 3 else cone((0.3, 0.3)) for index in range(1, len(z) + 1)]
        return np.stack(squares)

    monkeypatch.setattr(Predictor, "steps", listen)
    monkeypatch.setattr(Predictor, "decode", decode)
    return requests


@pytest.fixture
def image(viewer, dock):
    return viewer.add_image(np.full((96, 128, 3), 120, np.uint8), rgb=True, name="frame")


@pytest.fixture
def redraw(dock, qtbot):
    def press() -> bool:
        with qtbot.waitSignal(dock.finished, timeout=20_000) as signal:
            dock.correct.redraw_button.click()
        settle(qtbot, dock)
        return bool(signal.args[0])

    return press


def drag(viewer, layer: Labels, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Press, move and release the mouse."""

    def event(kind: str, position: tuple[float, float]):
        return read_only_mouse_event(
            type=kind, is_dragging=kind == "mouse_move", position=position, view_direction=None
        )

    mouse_press_callbacks(layer, event("mouse_press", start))
    mouse_move_callbacks(layer, event("mouse_move", end))
    mouse_release_callbacks(layer, event("mouse_release", end))


def test_a_person_corrects_a_mask(viewer, dock, image, run, redraw, heard, qtbot, monkeypatch, tmp_path: Path):
    # segment
    assert run(), dock.status
    settle(qtbot, dock)
    labels = viewer.layers["frame mask"]
    first = labels.data.copy()
    assert heard[-1][1] is None
    assert first[48, 64] == 1

    # paint and erase with the layer's own brush, then re-diffuse
    labels.brush_size = 6
    labels.mode = "paint"
    drag(viewer, labels, (10, 100), (10, 110))
    labels.mode = "erase"
    drag(viewer, labels, (48, 60), (48, 68))
    painted = labels.data.copy()
    assert painted[10, 105] == 1
    assert painted[48, 64] == 0
    dock.correct.strength.setValue(0.6)
    assert redraw(), dock.status
    sampling, hints = heard[-1]
    assert sampling.strength == 0.6
    np.testing.assert_array_equal(hints.current, painted == 1)
    assert set(np.unique(hints.locked)) == {NONE, FOREGROUND, BACKGROUND}
    assert (hints.locked[10, 105], hints.locked[48, 64]) == (FOREGROUND, BACKGROUND)
    redrawn = labels.data.copy()
    assert (redrawn[hints.locked == FOREGROUND] == 1).all()
    assert (redrawn[hints.locked == BACKGROUND] == 0).all()

    # undo past the re-diffuse and past a stroke: its lock goes with it, and comes back with redo
    if (redrawn != painted).any():
        labels.undo()
    np.testing.assert_array_equal(labels.data, painted)
    labels.undo()
    assert labels.data[48, 64] == 1
    job = dock._shown()
    assert (dock._session.hints(job).locked == BACKGROUND).sum() == 0
    labels.redo()
    assert (dock._session.hints(job).locked == BACKGROUND).sum() > 0
    np.testing.assert_array_equal(labels.data, painted)

    # hypotheses of several seeds; one is adopted as one undoable write
    dock.choices.seeds.setValue(6)
    dock.correct.strength.setValue(1.0)
    assert redraw(), dock.status
    qtbot.waitUntil(lambda: dock.gallery.list.count() == 2, timeout=20_000)
    assert [dock.gallery.list.item(row).text() for row in range(2)] == ["4 of 6", "2 of 6"]
    before = labels.data.copy()
    dock.gallery.chosen.emit(1)
    settle(qtbot, dock)
    adopted = labels.data.copy()
    assert adopted[29, 38] == 1, "the other lesion"
    assert (adopted[hints.locked == FOREGROUND] == 1).all()
    assert dock._session.provenance(image, ())["sampling"]["seeds"] == [2, 5]
    assert dock.gallery.list.count() == 2, "another one can still be chosen"
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)
    labels.redo()

    # the stroke at the top is a part of its own
    dock.correct.split_button.click()
    assert "2 objects" in dock.status
    assert labels.data[10, 105] == 2
    assert labels.data[29, 38] == 1
    labels.undo()
    np.testing.assert_array_equal(labels.data, adopted)
    labels.redo()

    # save: one annotation each
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *args: (str(tmp_path / "a.json"), ""))
    dock.exporter.format.setCurrentText("coco")
    dock.exporter.button.click()
    dataset = json.loads((tmp_path / "a.json").read_text())
    assert [annotation["id"] for annotation in dataset["annotations"]] == [1, 2]
    sidecar = json.loads((tmp_path / "a.provenance.json").read_text())
    assert [item["id"] for item in sidecar["objects"]] == [1, 2]
    assert sidecar["objects"][0]["name"] == "polyp 1"
    assert sidecar["objects"][0]["sampling"]["strength"] == 1.0
    assert sidecar["edited"] is True


def test_only_the_selected_object_is_redrawn(viewer, dock, image, run, redraw, heard, qtbot):
    assert run()
    settle(qtbot, dock)
    labels = viewer.layers["frame mask"]
    first = labels.data.copy()
    labels.selected_label = 2
    assert "2" in dock.correct.object.text()
    labels.brush_size = 10
    labels.paint((48, 64), 2)
    labels.paint((5, 5), 2)
    shown = labels.data.copy()
    assert run()
    settle(qtbot, dock)
    hints = heard[-1][1]
    assert (hints.locked[(shown == 1)] == BACKGROUND).all()
    assert redraw()
    np.testing.assert_array_equal(labels.data == 1, shown == 1)
    assert (labels.data[shown == 2] == 2).all()
    assert list(labels.features["index"]) == [0, 1, 2]
    # and back: what belongs to object 2 stays
    labels.selected_label = 1
    second = labels.data == 2
    dock.refine.threshold.setValue(0.3)
    settle(qtbot, dock)
    np.testing.assert_array_equal(labels.data == 2, second)
    assert (labels.data == 1).sum() > (first == 1).sum() - second.sum()


def test_redraw_after_each_stroke(viewer, dock, image, run, heard, qtbot):
    assert run()
    settle(qtbot, dock)
    labels = viewer.layers["frame mask"]
    dock.correct.auto.setChecked(True)
    asked = len(heard)
    labels.mode = "paint"
    with qtbot.waitSignal(dock.finished, timeout=20_000):
        drag(viewer, labels, (10, 100), (10, 110))
    settle(qtbot, dock)
    assert len(heard) == asked + 1
    # what the run wrote is no stroke, and neither is an undo
    labels.undo()
    qtbot.wait(100)
    assert len(heard) == asked + 1


def test_a_stroke_during_a_run_starts_it_anew(viewer, dock, image, run, calls, heard, qtbot):
    assert run()
    settle(qtbot, dock)
    labels = viewer.layers["frame mask"]
    dock.correct.auto.setChecked(True)
    calls.delay = 0.05
    dock.choices.steps.setValue(40)
    labels.mode = "paint"
    drag(viewer, labels, (10, 100), (10, 110))
    qtbot.waitUntil(lambda: any("preview" in layer.name for layer in viewer.layers), timeout=20_000)
    dock.choices.steps.setValue(2)
    drag(viewer, labels, (80, 100), (80, 110))
    settle(qtbot, dock)
    assert heard[-1][0].steps == 2
    assert (heard[-1][1].locked[[10, 80], [105, 105]] == FOREGROUND).all()
    qtbot.waitUntil(lambda: not any("preview" in layer.name for layer in viewer.layers))
    assert (labels.data[[10, 80], [105, 105]] == 1).all()


def test_the_key_redraws_and_goes_with_the_dock(viewer, dock, image, run, heard, qtbot):
    assert run()
    asked = len(heard)
    with qtbot.waitSignal(dock.finished, timeout=20_000):
        viewer.keymap[next(key for key in viewer.keymap if str(key) == DEFAULT.rediffuse)](viewer)
    assert len(heard) == asked + 1
    settle(qtbot, dock)
    dock.close()
    assert not any(str(key) == DEFAULT.rediffuse for key in viewer.keymap)


def test_points_boxes_and_outlines_are_hints(viewer, dock, image, redraw, heard, qtbot):
    dock.correct.inside.click()
    points = viewer.layers["frame points"]
    points.add((20, 30))
    dock.correct.outside.click()
    points.add((70, 90))
    dock.correct.box.click()
    shapes = viewer.layers["frame shapes"]
    shapes.add_rectangles(np.array([[5, 8], [5, 110], [80, 110], [80, 8]]))
    shapes.add_ellipses(np.array([[40, 40], [40, 60], [60, 60], [60, 40]]))
    dock.correct.strength.setValue(0.5)
    assert redraw(), dock.status
    sampling, hints = heard[-1]
    assert (hints.locked[20, 30], hints.locked[70, 90]) == (FOREGROUND, BACKGROUND)
    assert (hints.locked[[2, 90, 50, 50], [50, 50, 3, 120]] == BACKGROUND).all()
    assert hints.locked[50, 50] == NONE
    assert sampling.strength == 0.5
    assert hints.current[50, 50]
    assert abs(int(hints.current.sum()) - np.pi * 100) < 30
    labels = viewer.layers["frame mask"]
    assert labels.data[20, 30] == 1
    assert labels.data[70, 90] == 0
    # the outline has become the mask, which undo takes back; the box stays
    assert list(shapes.shape_type) == ["rectangle"]
    assert dock._shown().image is image


def test_nothing_to_keep_is_drawn_from_noise(dock, image, redraw, heard):
    dock.correct.strength.setValue(0.3)
    assert redraw(), dock.status
    assert heard[-1][0].strength == 1.0


def test_a_redraw_answers_without_mirrored_views(dock, image, run, redraw, heard):
    dock.choices.seeds.setValue(6)
    dock.choices.flip.setChecked(True)
    assert run(), dock.status
    assert redraw(), dock.status
    (first, _), (again, _) = heard
    assert (first.flip, first.seeds) == (True, tuple(range(6)))
    assert (again.flip, again.seeds) == (False, (0, 4))
    assert (dock.choices.flip.isChecked(), dock.choices.seeds.value()) == (True, 6)


def test_a_redraw_of_one_sample_says_why_there_is_nothing_to_compare(dock, image, run, redraw, qtbot):
    dock.choices.seeds.setValue(4)
    dock.choices.flip.setChecked(True)
    assert run(), dock.status
    qtbot.waitUntil(dock.gallery.agreement.isEnabled)
    assert redraw(), dock.status
    assert dock.gallery.say.text().startswith("One sample, so nothing to compare")
    assert not dock.gallery.agreement.isEnabled()


def test_hints_keep_to_their_frame(viewer, dock, redraw, heard):
    viewer.add_image(np.full((3, 60, 80), 120, np.uint8), name="stack")
    viewer.dims.set_current_step(0, 1)
    dock.correct.inside.click()
    viewer.layers["stack points"].add((1, 20, 30))
    viewer.layers["stack points"].add((2, 40, 30))
    dock.correct.box.click()
    viewer.layers["stack shapes"].add_rectangles(np.array([[2, 5, 8], [2, 5, 60], [2, 50, 60], [2, 50, 8]]))
    assert redraw(), dock.status
    locked = heard[-1][1].locked
    assert locked.shape == (60, 80)
    assert locked[20, 30] == FOREGROUND
    assert locked[40, 30] == NONE
    assert not (locked == BACKGROUND).any()


def test_agreement_and_strokes_are_shown_and_hidden(viewer, dock, image, run, heard, qtbot):
    dock.choices.seeds.setValue(3)
    assert run()
    settle(qtbot, dock)
    labels = viewer.layers["frame mask"]
    viewer.layers.selection.active = labels
    dock.gallery.agreement.setChecked(True)
    overlay = viewer.layers["agreement (frame)"]
    assert overlay.data.shape == (96, 128)
    assert overlay.data.min() == pytest.approx(2 / 3)
    assert overlay.data.max() == 1
    assert overlay.colorbar.visible
    assert viewer.layers.selection.active is labels
    assert dock.images.layer is image
    assert "agreement" not in [dock.images.itemText(index) for index in range(dock.images.count())]
    labels.paint((10, 10), 1)
    dock.correct.show_strokes.setChecked(True)
    strokes = viewer.layers["strokes (frame)"]
    assert strokes.data[10, 10] == 1
    labels.paint((40, 60), 0)
    assert strokes.data[40, 60] == 2
    dock.correct.forget_button.click()
    qtbot.waitUntil(lambda: "strokes (frame)" not in viewer.layers)
    dock.gallery.agreement.setChecked(False)
    qtbot.waitUntil(lambda: not any(layer.metadata.get(OVERLAY) for layer in viewer.layers))


def test_seeds_that_agree_say_so(dock, image, run, calls, qtbot):
    dock.choices.seeds.setValue(4)
    assert run()
    settle(qtbot, dock)
    assert "agree" in dock.gallery.say.text()
    assert dock.gallery.list.count() == 0


def test_one_hypothesis_is_no_choice(dock, image, run, calls, qtbot, monkeypatch):
    """Samples that are alike, but not as alike as those that agree."""
    monkeypatch.setattr(_correction, "survey", lambda *given: replace(survey(*given), agreed=False))
    dock.choices.seeds.setValue(4)
    assert run()
    settle(qtbot, dock)
    assert "One hypothesis" in dock.gallery.say.text()
    assert dock.gallery.list.count() == 0


def test_overlays_lie_on_a_turned_stack(viewer, dock, run, heard, qtbot):
    stack = viewer.add_image(
        np.full((3, 60, 80), 120, np.uint8), name="stack", scale=(5, 2, 2), translate=(7, -3, 4), rotate=(0, 0, 25)
    )
    viewer.dims.set_point(0, 12)
    dock.choices.seeds.setValue(3)
    assert run()
    settle(qtbot, dock)
    dock.gallery.agreement.setChecked(True)
    overlay = viewer.layers["agreement (stack)"]
    frame = dock._shown().frame
    for corner in ((0, 0), (59, 79)):
        np.testing.assert_allclose(
            overlay.data_to_world((0, *corner)), stack.data_to_world((*frame, *corner)), atol=1e-9
        )
    dock._correction.preview(dock._shown(), Preview(cone((0.5, 0.5)), Geometry((60, 80), (0, 0, 60, 80))))
    preview = viewer.layers["preview (stack)"]
    np.testing.assert_allclose(
        preview.data_to_world((0, (SIZE - 1) / 2, (SIZE - 1) / 2)), stack.data_to_world((*frame, 29.5, 39.5)), atol=1e-9
    )


def test_objects_reach_the_files(viewer, dock, image, run, heard, qtbot, tmp_path):
    assert run()
    settle(qtbot, dock)
    labels = viewer.layers["frame mask"]
    labels.paint((5, 5), 3)
    assert list(labels.features["index"]) == [0, 1, 3]
    labels.save(str(tmp_path / "m.png"), plugin="napari-lsegdiff")
    assert iio.imread(tmp_path / "m.png")[5, 5].any()
    sidecar = json.loads((tmp_path / "m.provenance.json").read_text())
    assert [(item["id"], item["class"]) for item in sidecar["objects"]] == [(1, "polyp"), (3, "polyp")]
    assert "sampling" in sidecar["objects"][0]
    assert "sampling" not in sidecar["objects"][1]


def test_a_slider_that_moves_as_a_run_lands_does_not_lose_the_run(viewer, dock, image, run, heard, qtbot, monkeypatch):
    assert run()
    settle(qtbot, dock)
    labels = viewer.layers["frame mask"]
    first = dock._session.run(dock._shown())
    refine, slow = Prediction.mask.func, []
    monkeypatch.setattr(Prediction.mask, "func", lambda self: (sleep(0.3), slow.append(1), refine(self))[2])
    dock.refine.threshold.setValue(0.6)
    dock.run()
    qtbot.waitUntil(lambda: dock._segmentation.landing, timeout=20_000)
    dock.refine.threshold.setValue(0.7)
    settle(qtbot, dock)
    assert dock._session.run(dock._shown()) > first
    assert dock._session.morphology(dock._shown()).threshold == pytest.approx(0.7)
    assert not dock.running
    assert labels.data.any()


def test_an_outline_is_kept_until_it_has_become_a_mask(viewer, dock, image, run, heard, qtbot):
    assert run()
    settle(qtbot, dock)
    labels = viewer.layers["frame mask"]
    dock.correct.box.click()
    shapes = viewer.layers["frame shapes"]
    shapes.add_ellipses(np.array([[5, 5], [5, 25], [25, 25], [25, 5]]))
    with labels.block_history():  # the mouse is down
        dock.redraw()
        assert list(shapes.shape_type) == ["ellipse"]
    settle(qtbot, dock)
    viewer.layers.selection.active = labels
    dock.correct.auto.setChecked(True)
    labels.mode = "paint"
    with qtbot.waitSignal(dock.finished, timeout=20_000):
        drag(viewer, labels, (80, 100), (80, 110))
    settle(qtbot, dock)
    assert not len(shapes.data)
    assert heard[-1][1].current[15, 15]


def test_forgotten_strokes_stay_forgotten(viewer, dock, image, run, redraw, heard, qtbot):
    assert run()
    settle(qtbot, dock)
    labels = viewer.layers["frame mask"]
    labels.paint((10, 100), 1)
    assert redraw()
    dock.correct.forget_button.click()
    assert labels.data[10, 100] == 0
    dock.refine.threshold.setValue(0.4)
    settle(qtbot, dock)
    assert labels.data[10, 100] == 0
    assert labels.data.any()


def test_parts_do_not_grow_over_one_another(viewer, dock, image, run, heard, qtbot):
    assert run()
    settle(qtbot, dock)
    labels = viewer.layers["frame mask"]
    labels.paint((5, 5), 1)
    dock.correct.split_button.click()
    assert set(np.unique(labels.data)) == {0, 1, 2}
    split = labels.data.copy()
    dock.refine.threshold.setValue(0.2)
    settle(qtbot, dock)
    np.testing.assert_array_equal(labels.data, split)


def test_split_takes_free_ids_and_says_when_there_are_none(viewer, dock, image, run, heard, qtbot):
    assert run()
    settle(qtbot, dock)
    labels = viewer.layers["frame mask"]
    labels.brush_size = 1
    labels.paint((0, 0), 255)
    labels.paint((5, 5), 1)
    dock.correct.split_button.click()
    assert labels.data[5, 5] == 2
    labels.data_setitem((np.repeat(np.arange(0, 96, 2), 2), np.tile([100, 104], 48)), 1)
    for column in range(106, 128, 2):
        labels.data_setitem((np.arange(0, 96, 2), np.full(48, column)), 1)
    before = labels.data.copy()
    dock.correct.split_button.click()
    assert "ids up to 255" in dock.status
    np.testing.assert_array_equal(labels.data, before)


def test_hints_belong_to_their_object(viewer, dock, image, run, redraw, heard, qtbot):
    assert run()
    settle(qtbot, dock)
    labels = viewer.layers["frame mask"]
    dock.correct.outside.click()
    viewer.layers["frame points"].add((10, 10))
    dock.correct.box.click()
    viewer.layers["frame shapes"].add_rectangles(np.array([[30, 30], [30, 90], [70, 90], [70, 30]]))
    labels.selected_label = 2
    assert redraw()
    shown = labels.data == 1
    assert not (heard[-1][1].locked[~shown] == BACKGROUND).any()
    assert heard[-1][1].current is None, "nobody asked for object 2 yet"
    labels.selected_label = 1
    assert redraw()
    assert heard[-1][1].locked[10, 10] == BACKGROUND
    assert heard[-1][1].locked[90, 10] == BACKGROUND


def test_a_foreign_table_of_features_is_completed(viewer, dock, image, run, heard, qtbot):
    assert run()
    settle(qtbot, dock)
    labels = viewer.layers["frame mask"]
    labels.features = {"index": [0, 1], "area": [10, 20]}
    labels.paint((5, 5), 4)
    assert list(labels.features["index"]) == [0, 1, 4]
    assert list(labels.features["name"]) == ["", "", "lesion 4"]
    assert list(labels.features["area"])[:2] == [10, 20]


def test_image_and_overlays_can_be_removed_together(viewer, dock, image, run, heard, qtbot):
    dock.choices.seeds.setValue(3)
    assert run()
    settle(qtbot, dock)
    dock.gallery.agreement.setChecked(True)
    viewer.layers["frame mask"].paint((10, 10), 1)
    dock.correct.show_strokes.setChecked(True)
    assert len(viewer.layers) == 4
    viewer.layers.selection = set(viewer.layers)
    viewer.layers.remove_selected()
    qtbot.wait(50)
    assert not len(viewer.layers)


@pytest.fixture
def overlays(viewer, dock, image, run, heard, qtbot):
    """Strokes and agreement on show."""
    dock.choices.seeds.setValue(3)
    assert run()
    settle(qtbot, dock)
    viewer.layers["frame mask"].paint((10, 10), 1)
    dock.gallery.agreement.setChecked(True)
    dock.correct.show_strokes.setChecked(True)
    return {dock.correct.show_strokes: "strokes (frame)", dock.gallery.agreement: "agreement (frame)"}


def test_all_layers_can_be_cleared_with_overlays_on_show(viewer, overlays, monkeypatch, qtbot):
    def insert(self, index, value):
        raise AssertionError(f"{value.name} came while the layers went")

    with monkeypatch.context() as patch:
        patch.setattr(type(viewer.layers), "insert", insert)
        viewer.layers.clear()
    qtbot.wait(50)
    assert not len(viewer.layers)


def test_nothing_comes_while_layers_of_several_images_go(viewer, dock, overlays, run, monkeypatch, qtbot):
    viewer.add_image(np.full((50, 60, 3), 90, np.uint8), rgb=True, name="other")
    assert run()
    test_all_layers_can_be_cleared_with_overlays_on_show(viewer, overlays, monkeypatch, qtbot)
    assert dock.correct.object.text() == ""
    assert not dock.correct.redraw_button.isEnabled()


def test_a_layer_that_comes_after_one_has_gone_hides_nothing(viewer, dock, overlays, qtbot):
    viewer.layers.remove("frame mask")
    viewer.add_points(np.zeros((1, 2)))
    qtbot.waitUntil(lambda: not dock.exporter.button.isEnabled())
    qtbot.waitUntil(lambda: "strokes (frame)" not in viewer.layers)


@pytest.mark.parametrize("place", [0, 1])
def test_an_overlay_that_the_user_deletes_stays_away(viewer, dock, overlays, qtbot, place):
    box, name = list(overlays.items())[place]
    (other,) = set(overlays) - {box}
    viewer.layers.remove(name)
    assert not box.isChecked()
    assert other.isChecked()
    viewer.layers["frame mask"].paint((30, 30), 1)
    qtbot.wait(50)
    assert name not in viewer.layers
    assert overlays[other] in viewer.layers
    box.setChecked(True)
    assert name in viewer.layers


def test_the_image_whose_mask_is_painted_is_redrawn(viewer, dock, image, run, heard, qtbot):
    assert run()
    settle(qtbot, dock)
    labels = viewer.layers["frame mask"]
    viewer.add_image(np.full((50, 60, 3), 90, np.uint8), rgb=True, name="other")
    assert dock.images.layer.name == "other"
    dock.correct.auto.setChecked(True)
    with qtbot.waitSignal(dock.finished, timeout=20_000):
        labels.paint((10, 100), 1)
    settle(qtbot, dock)
    assert dock.images.layer is image
    assert heard[-1][1].locked.shape == (96, 128)
