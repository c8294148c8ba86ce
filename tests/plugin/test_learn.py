"""Learning from accepted masks in the dock; the process is a real one."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from qtpy.QtCore import QProcess

from lsegdiff_core.comparison import Comparison, Progress
from lsegdiff_core.data.phantom import draw_phantom
from lsegdiff_core.journal_format import NO_STROKE
from lsegdiff_core.project import Project
from napari_lsegdiff._learn import MODELS


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Eight phantoms with accepted masks, and one without."""
    for index in range(9):
        frame = draw_phantom(index, 64, 80)
        iio.imwrite(tmp_path / f"{index}.png", frame.image)
    made = Project.of_folder(tmp_path)
    for index in range(8):
        mask = draw_phantom(index, 64, 80).mask.astype(np.uint8)
        made.save(str(index), mask, None, {}, accepted=True, seconds=1.0)
    made.close()
    return tmp_path


@pytest.fixture
def dialog(dock, qtbot, project: Path, bundle: str):
    dock.choices.choose(bundle)
    dock.annotate.folder_chosen.emit(project)
    dock.annotate.learn_button.click()
    assert dock.learn.isVisible()
    return dock.learn


def test_a_new_model_is_compared_and_chosen(dock, dialog, qtbot, project: Path, bundle: str):
    assert "learns from the 8 masks that you accepted" in dialog.text.text()
    dialog.start_button.click()
    qtbot.waitUntil(lambda: "Learning" in dialog.text.text(), timeout=120_000)
    assert dialog.bar.maximum() == 24
    assert dialog.cancel_button.isVisible()
    assert not dialog.start_button.isVisible()
    qtbot.waitUntil(dialog.use_button.isVisible, timeout=120_000)
    assert "on 2 masks held out" in dialog.text.text()
    assert "2 masks say little: before you rely on the new model" in dialog.text.text()
    assert dock.choices.bundle == bundle
    dialog.use_button.click()
    new = project / "lsegdiff" / MODELS / f"{Path(bundle).name}-tuned-1"
    assert dock.choices.bundle == str(new)
    assert dock.choices.model.findData(bundle) >= 0, "the old one is gone"
    assert not dialog.isVisible()


@pytest.mark.parametrize(
    ("after", "said", "recommended"),
    [
        (0.9, "The new model is better.", "Use the new model"),
        (0.7, "The old model is better.", "Keep the old one"),
        (0.8, "Neither is better.", "Keep the old one"),
    ],
)
def test_the_better_model_is_named_and_stands_first(dialog, monkeypatch, tmp_path, after, said, recommended):
    compared = Comparison(("a", "b"), (0.8, 0.8), (0.8, after))
    monkeypatch.setattr("napari_lsegdiff._learn.read_comparison", lambda folder: compared)
    for _ in range(2):
        dialog.learner.done.emit(tmp_path / "new")
        assert dialog.text.text().startswith(f"{said} Dice 0.800 before")
        dialog.layout().activate()
        buttons = sorted((dialog.use_button, dialog.keep_button), key=lambda button: button.x())
        assert [button.isDefault() for button in buttons] == [True, False]
        assert buttons[0].text() == recommended


@pytest.mark.parametrize("answer", ["use_button", "keep_button"])
def test_a_result_that_came_while_the_dialog_was_closed_waits_for_its_answer(
    dock, dialog, monkeypatch, bundle, answer, qtbot
):
    compared = Comparison(("a", "b"), (0.8, 0.8), (0.8, 0.9))
    monkeypatch.setattr("napari_lsegdiff._learn.read_comparison", lambda folder: compared)
    dialog.reject()
    dialog.learner.done.emit(Path(bundle))
    assert dialog.isVisible()
    dialog.reject()
    dialog.ask(dock.queue.project)
    assert dialog.text.text().startswith("The new model is better.")
    getattr(dialog, answer).click()
    assert not dialog.isVisible()
    dialog.ask(dock.queue.project)
    assert "learns from the" in dialog.text.text()
    dialog.reject()
    dialog.learner.failed.emit("no room", "no room")
    assert dialog.isVisible()


def test_the_offer_says_on_how_many_masks_the_user_painted(dock, dialog, qtbot):
    qtbot.waitUntil(lambda: "Masks that you painted on: 0." in dialog.text.text())
    project = dock.queue.project
    strokes = np.full((64, 80), NO_STROKE, np.int32)
    strokes[:9] = 0
    project.save("1", np.ones((64, 80), np.uint8), strokes, {}, accepted=True, seconds=1.0)
    project.save("8", np.ones((64, 80), np.uint8), strokes, {}, accepted=False, seconds=1.0)
    dock.annotate.learn_button.click()
    qtbot.waitUntil(lambda: "Masks that you painted on: 1." in dialog.text.text())


def test_the_offer_can_be_closed(dialog):
    dialog.close_button.click()
    assert not dialog.isVisible()


def test_what_learning_has_to_say_stands_with_its_course(dialog):
    dialog.learner.progressed.emit(Progress("learning", 5, 6, "on the CPU, for the GPU's memory does not suffice"))
    assert dialog.text.text().startswith("Learning; about ")
    assert dialog.text.text().endswith(" left, on the CPU, for the GPU's memory does not suffice")


def test_cancelled_it_leaves_nothing(dock, dialog, qtbot, project: Path, bundle: str):
    dialog.start_button.click()
    models = project / "lsegdiff" / MODELS
    qtbot.waitUntil(lambda: "Learning" in dialog.text.text(), timeout=120_000)
    assert list(models.glob(f".*{Path(bundle).name}-tuned-1*"))
    dialog.cancel_button.click()
    assert "Stopped; nothing was changed" in dialog.text.text()
    assert not [path for path in models.iterdir() if path.suffix != ".lock"]
    assert dialog.start_button.isVisible()


def test_a_failure_is_said_and_can_be_tried_again(dock, dialog, qtbot, project: Path):
    (project / "3.png").write_bytes(b"no image")
    dialog.start_button.click()
    qtbot.waitUntil(lambda: "It failed" in dialog.text.text(), timeout=120_000)
    assert "3.png" in dialog.text.text()
    assert dialog.start_button.isVisible()
    assert dialog.close_button.isVisible()
    assert not dialog.learner.running


def test_too_few_masks_teach_nothing(dock, dialog):
    project = dock.queue.project
    project.update("0", status="skipped")
    dock.annotate.learn_button.click()
    assert "8 accepted masks on; so far you have accepted 7" in dialog.text.text()
    assert not dialog.start_button.isEnabled()


def test_a_closing_dock_stops_it(dock, dialog, qtbot, project: Path):
    ended = []
    dialog.start_button.click()
    qtbot.waitUntil(lambda: "Learning" in dialog.text.text(), timeout=120_000)
    process = dialog.learner.findChild(QProcess)
    process.stateChanged.connect(ended.append)
    dock.close()
    assert ended == [QProcess.ProcessState.NotRunning]
    assert not [path for path in (project / "lsegdiff" / MODELS).iterdir() if path.suffix != ".lock"]
