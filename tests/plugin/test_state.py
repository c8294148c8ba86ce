"""What the dock remembers from one session to the next."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import platformdirs
import pytest

from lsegdiff_core.bundle import MANIFEST, available_bundles
from lsegdiff_core.config import MorphologyConfig, SamplingConfig, to_dict
from napari_lsegdiff import _state
from napari_lsegdiff._dock import RememberingDock
from napari_lsegdiff._state import State, Values, load_state, save_state, state_file
from napari_lsegdiff._widget import SegmentationDock, _Closers

CHOSEN = Values(
    "cpu",
    SamplingConfig(9, "heun", (0, 1, 2), flip=True, zoom=True, strength=0.35),
    MorphologyConfig(0.6, 2.0, 3.0, False, 40, 1.0, True, 0.2),
)


@pytest.fixture
def opened(viewer, calls) -> Callable[[], RememberingDock]:
    """Open a dock, as the menu does."""

    def make() -> RememberingDock:
        dock = RememberingDock(viewer)
        viewer.window.add_dock_widget(dock, name="LSegDiff")
        return dock

    return make


@pytest.fixture
def change(no_state: Path) -> Callable[..., None]:
    """Write a state."""

    def write(**fields: object) -> None:
        save_state(replace(State(available_bundles()[0]), **fields))

    return write


def set_all(dock: SegmentationDock) -> None:
    dock.choices.show_device(CHOSEN.device)
    dock.sampling.show(CHOSEN.sampling)
    dock.refine.set_own(CHOSEN.morphology)
    dock.correct.auto.setChecked(True)
    dock.tabs.setCurrentIndex(1)


def values(dock: SegmentationDock) -> Values:
    return Values(dock.choices.device.currentText(), dock.sampling.shown, dock.refine.morphology)


def test_a_dock_opens_as_the_last_one_was_closed(viewer, opened, bundle, tmp_path):
    tuned = str(shutil.copytree(bundle, tmp_path / "tuned"))
    dock = opened()
    dock.choices.choose(tuned)
    dock.choices.choose(bundle)
    set_all(dock)
    viewer.window.remove_dock_widget(dock)
    again = opened()
    assert values(again) == CHOSEN
    assert again.choices.bundle == bundle
    assert {bundle, tuned} < set(again.choices.bundles)
    assert again.choices.model.currentText() == "tiny"
    assert again.correct.auto.isChecked()
    assert again.tabs.currentIndex() == 1
    # another model shows what it suggests, and Reset does, too
    again.refine.reset_button.click()
    assert again.refine.morphology == MorphologyConfig()
    again.choices.choose(tuned)
    assert again.sampling.model.sampling == SamplingConfig(steps=3)


def test_a_model_that_was_chosen_outlives_a_killed_napari(opened, bundle):
    dock = opened()
    assert load_state() is None
    dock.choices.choose(bundle)
    state = load_state()
    assert (state.bundle, state.folders) == (bundle, (bundle,))
    assert state.chosen.sampling == dock.choices.suggested == SamplingConfig(steps=3)


def test_closing_napari_keeps_the_state(viewer, opened, no_state):
    set_all(opened())
    viewer.close()
    assert load_state().chosen == CHOSEN


def test_the_next_run_refines_as_the_last_session_did(viewer, opened, bundle, qtbot):
    dock = opened()
    dock.choices.choose(bundle)
    set_all(dock)
    viewer.window.remove_dock_widget(dock)
    again = opened()
    viewer.add_image(np.full((60, 60), 90, np.uint8), name="a")
    with qtbot.waitSignal(again.finished, timeout=20_000) as signal:
        again.run()
    assert signal.args == [True], again.status
    assert again._session.morphology(again._shown()) == CHOSEN.morphology


def test_what_a_saved_mask_was_made_with_is_not_remembered(viewer, opened):
    dock = opened()
    own = dock.sampling.shown
    dock.refine.threshold.setValue(0.42)  # by hand
    chosen = dock.refine.morphology
    dock.sampling.lend(CHOSEN.sampling)
    dock.refine.show_morphology(CHOSEN.morphology)
    viewer.window.remove_dock_widget(dock)
    assert load_state().chosen.sampling == own
    assert load_state().chosen.morphology == chosen != CHOSEN.morphology


def test_another_model_ends_the_loan_of_the_controls(opened):
    dock = opened()
    dock.sampling.lend(CHOSEN.sampling)
    dock.choices.choose(dock.choices.bundle)
    assert dock.sampling.own is None
    assert dock.sampling.shown == dock.choices.suggested


def test_what_cannot_be_closed_holds_nothing_up(caplog):
    closed = []
    closers = _Closers()
    closers.calls += [lambda: closed.append("lock"), lambda: {}["gone"], lambda: closed.append("keys")]
    closers.close()
    assert closed == ["keys", "lock"]
    assert "could not be closed" in caplog.text


@pytest.fixture
def camera(viewer) -> object:
    """The viewer's; napari 0.8 has no scene."""
    return getattr(viewer, "scene", viewer).camera


def test_an_image_that_was_seen_whole_still_is(viewer, camera, opened, qtbot):
    viewer.window.resize(900, 700)
    viewer.show()
    viewer.add_image(np.zeros((300, 600), np.uint8))
    viewer.reset_view()
    before = camera.zoom
    opened()
    qtbot.waitUntil(lambda: camera.zoom < before)
    qtbot.wait(100)
    zoom = camera.zoom
    viewer.reset_view()
    assert camera.zoom == pytest.approx(zoom)


def test_a_view_that_the_user_chose_stays(viewer, camera, opened, qtbot):
    viewer.show()
    viewer.add_image(np.zeros((300, 600), np.uint8))
    camera.zoom, camera.center = 5.0, (0.0, 100.0, 200.0)
    opened()
    qtbot.wait(200)
    assert (camera.zoom, tuple(camera.center)) == (5.0, (0.0, 100.0, 200.0))


def test_a_view_that_was_chosen_before_the_dock_is_seen_stays(viewer, camera, opened, qtbot):
    viewer.add_image(np.zeros((300, 600), np.uint8))
    opened()
    camera.zoom = 5.0
    viewer.show()
    qtbot.wait(200)
    assert camera.zoom == 5.0


def test_a_bare_dock_neither_reads_nor_writes_a_state(viewer, change, no_state):
    change(chosen=CHOSEN, after_stroke=True)
    before = no_state.read_bytes()
    dock = SegmentationDock(viewer)
    viewer.window.add_dock_widget(dock, name="LSegDiff")
    assert not dock.correct.auto.isChecked()
    dock.choices.steps.setValue(20)
    viewer.window.remove_dock_widget(dock)
    assert no_state.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "\x00\xff",
        '{"colour": "red"}',
        '{"tab": 3}',
        '{"folders": [1]}',
        '{"chosen": {"device": "tpu"}}',
        '{"chosen": {"sampling": {"steps": 99}}}',
        '{"chosen": {"morphology": {"threshold": NaN}}}',
    ],
)
def test_a_state_that_is_nonsense_is_left_out(no_state, caplog, content):
    no_state.parent.mkdir()
    no_state.write_text(content, encoding="latin-1")
    with caplog.at_level(logging.WARNING):
        assert load_state() is None
    assert "last state is not taken" in caplog.text
    assert str(no_state) not in caplog.text


def test_a_dock_opens_with_a_nonsense_state_and_mends_it(viewer, opened, no_state):
    no_state.parent.mkdir()
    no_state.write_text("{")
    dock = opened()
    assert dock.status == ""
    viewer.window.remove_dock_widget(dock)
    mended = load_state()
    assert mended == State(available_bundles()[0], (), mended.suggested, mended.suggested, False, "Segment")


def test_a_model_that_is_gone_is_left_out(opened, change, tmp_path, caplog):
    gone = str(tmp_path / "gone")
    change(bundle=gone, folders=(gone,), chosen=CHOSEN, after_stroke=True)
    with caplog.at_level(logging.WARNING):
        dock = opened()
    assert "not there any more" in caplog.text
    assert "gone" not in dock.choices.bundles
    assert dock.choices.bundle == available_bundles()[0]
    assert dock.sampling.shown == dock.choices.suggested, "those were the settings of another model"
    assert dock.correct.auto.isChecked()
    assert dock.status == ""


def test_settings_and_models_that_have_changed_go_before_the_state(opened, viewer, no_settings, bundle, tmp_path):
    folder = shutil.copytree(bundle, tmp_path / "changing")
    dock = opened()
    dock.choices.choose(str(folder))
    set_all(dock)
    viewer.window.remove_dock_widget(dock)
    no_settings.parent.mkdir()
    no_settings.write_text(json.dumps({"segmentation": {"device": "cuda"}, "refinement": {"threshold": 0.8}}))
    again = opened()
    assert values(again) == Values("cuda", CHOSEN.sampling, MorphologyConfig(0.8))
    viewer.window.remove_dock_widget(again)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["sampling"]["steps"] = 6
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert values(opened()) == Values("cuda", SamplingConfig(steps=6), MorphologyConfig(0.8))


def test_values_beyond_the_controls_stop_at_their_ends(opened, change):
    dock = opened()
    suggested = dock._suggested()
    far = MorphologyConfig(opening=1e300, smooth=1e300, min_area=10**30)
    change(suggested=suggested, chosen=Values("cpu", SamplingConfig(seeds=tuple(range(99))), far))
    again = opened()
    assert again.refine.morphology.min_area == again.refine.min_area.maximum()
    assert again.refine.morphology.opening == 30
    assert again.choices.seeds.value() == 16


def test_a_system_that_refuses_does_not_keep_the_dock_open(viewer, opened, no_state, caplog):
    no_state.parent.write_text("no folder")
    dock = opened()
    with caplog.at_level(logging.WARNING):
        viewer.window.remove_dock_widget(dock)
    assert "state is not kept" in caplog.text
    assert not dock._closers.calls


def test_a_state_reads_back_as_it_was_written(no_state):
    state = State("polyp", ("/tmp/ä",), CHOSEN, Values(), True, "About")
    save_state(state)
    assert load_state() == state
    assert json.loads(no_state.read_text()) == to_dict(state)


def test_the_file_stands_in_the_users_state_folder(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setattr(platformdirs, "user_state_path", lambda name, appauthor: tmp_path / name)
    assert _state.state_file is state_file
    assert state_file() == tmp_path / "lsegdiff" / "dock.json"
