"""The queue, in a real viewer."""

from __future__ import annotations

import json
import os
import shutil
import struct
import zlib
from pathlib import Path
from threading import Event

import imageio.v3 as iio
import numpy as np
import PIL.Image
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from lsegdiff_core.bundle import available_bundles
from lsegdiff_core.classes import DEFAULT_CLASSES, ObjectClass
from lsegdiff_core.journal import crashed, read_journal
from lsegdiff_core.journal_format import ImageId
from lsegdiff_core.project import FOLDER, Project
from lsegdiff_core.project_file import FILE
from napari_lsegdiff._class_editor import COUNTING, NAME, OBJECTS, ClassEditor
from napari_lsegdiff._shortcuts import DEFAULT
from napari_lsegdiff._widget import SegmentationDock

SHAPE = (60, 80)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


# A PNG of a hundred bytes whose header promises 60000 x 60000 pixels.
BOMB = (
    b"\x89PNG\r\n\x1a\n"
    + _chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    + _chunk(b"IDAT", zlib.compress(bytes(99)))
    + _chunk(b"IEND", b"")
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images, each of its own colour."""
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(5):
        picture = np.full((*SHAPE, 3), 60 + 30 * number, np.uint8)
        picture[20:40, 30:50, 0] = 250
        iio.imwrite(frames / f"frame_{number}.png", picture)
    return frames


class User:
    """What somebody at the queue does and waits for."""

    def __init__(self, dock, viewer, qtbot):
        self.dock, self.viewer, self.qtbot = dock, viewer, qtbot
        self.queue, self.panel = dock.queue, dock.annotate

    def open(self, folder: Path) -> None:
        self.panel.folder_chosen.emit(folder)
        self.wait("frame_0")

    def wait(self, name: str) -> None:
        self.qtbot.waitUntil(lambda: self.images == [name] and self.mask is not None, timeout=20_000)

    def press(self, key: str) -> None:
        wanted = key.replace("-", "+")
        self.viewer.keymap[next(known for known in self.viewer.keymap if str(known) == wanted)](self.viewer)

    @property
    def images(self) -> list[str]:
        return [layer.name for layer in self.viewer.layers if type(layer).__name__ == "Image"]

    @property
    def mask(self):
        return next((layer for layer in self.viewer.layers if layer.name.endswith(" mask")), None)

    @property
    def items(self):
        return self.queue.project.items

    def paint(self, row: int = 5, column: int = 5, value: int = 1) -> None:
        with self.mask.block_history():
            self.mask.paint((row, column), value)

    def crash(self, journals: Path, tmp_path: Path) -> None:
        """Leave what a crash leaves: the journal as it is, and the project unlocked."""
        left = tmp_path / "left"
        shutil.copytree(journals, left)
        self.viewer.layers.clear()  # as if the session had never come to saving
        self.queue.close_project()
        for path in left.glob("*.journal"):
            shutil.copy(path, journals / f"crashed-{path.name}")


@pytest.fixture
def user(dock, viewer, qtbot, folder: Path) -> User:
    someone = User(dock, viewer, qtbot)
    yield someone
    if someone.queue.project is not None:
        someone.queue.close_project()


def full_disk(*_: object, **__: object) -> None:
    """Stands in for a method that writes."""
    raise OSError(28, "No space left on device")


def statuses(user: User) -> list[str]:
    return [item.status for item in user.items.values()]


def test_folder_becomes_a_project_and_its_first_image_is_segmented(user: User, folder: Path):
    user.open(folder)
    assert (folder / FOLDER / FILE).is_file()
    assert statuses(user)[0] == "predicted"
    assert user.panel.table.model().rowCount() == 5
    assert user.panel.progress.maximum() == 5
    user.qtbot.waitUntil(lambda: statuses(user)[1] == "predicted", timeout=20_000)


def test_the_brush_stays_in_the_hand(user: User, folder: Path):
    user.open(folder)
    user.mask.mode, user.mask.brush_size = "erase", 23
    for name in ("frame_1", "frame_2"):  # one with a mask that is ready or soon comes, and one more
        user.press(DEFAULT.next)
        user.wait(name)
        assert (user.mask.mode, user.mask.brush_size) == ("erase", 23)
        assert user.viewer.layers.selection.active is user.mask
    user.press(DEFAULT.accept)
    user.wait("frame_3")
    user.press(DEFAULT.previous)
    user.wait("frame_2")
    assert (user.mask.mode, user.mask.brush_size) == ("erase", 23)


def test_keys_work_after_a_click_on_the_table_and_on_its_filter(user: User, folder: Path):
    user.open(folder)
    table, status = user.panel.table, user.panel.status
    QTest.mouseClick(
        table.viewport(), Qt.MouseButton.LeftButton, pos=table.visualRect(table.model().index(2, 0)).center()
    )
    user.wait("frame_2")
    QTest.keyClick(table, Qt.Key.Key_K)
    user.wait("frame_3")
    assert statuses(user)[2] == "accepted"
    QTest.keyClick(status, Qt.Key.Key_N)
    user.wait("frame_4")
    assert status.currentIndex() == 0


def test_a_mask_of_another_model_is_named_and_the_chosen_one_stays(user: User, folder: Path, bundle: str):
    user.open(folder)
    user.paint()
    user.queue.accept()
    user.wait("frame_1")
    polyp = available_bundles()[0]
    user.dock.choices.choose(polyp)
    user.queue.show("frame_0")
    user.wait("frame_0")
    assert user.panel.say.text().startswith("This mask was made with tiny (")
    assert user.dock.choices.bundle == polyp
    user.dock.choices.choose(bundle)
    user.queue.show("frame_1")
    user.wait("frame_1")
    user.queue.show("frame_0")
    user.wait("frame_0")
    assert "made with" not in user.panel.say.text()


def test_what_a_run_says_is_said_beside_the_queue(user: User, folder: Path):
    user.open(folder)
    user.queue.accept()
    user.wait("frame_1")
    user.dock.run()
    user.qtbot.waitUntil(lambda: not user.dock.running, timeout=20_000)
    assert user.panel.say.text() == user.dock.status != ""
    user.paint()
    user.qtbot.waitUntil(lambda: user.panel.say.text() == "")


def test_next_image_is_ready_before_it_is_asked_for(user: User, folder: Path, calls):
    user.open(folder)
    user.qtbot.waitUntil(lambda: user.queue._ahead.is_ready("frame_1"), timeout=20_000)
    asked = calls.denoise
    user.press(DEFAULT.next)
    user.wait("frame_1")
    # neither is the file read nor the network asked
    assert user.mask.data.any()
    assert user.dock.images.layer.name == "frame_1"
    assert calls.denoise == asked
    # the probability is at hand, too: a slider works
    before = user.mask.data.copy()
    user.dock.refine.threshold.setValue(0.8)
    user.qtbot.waitUntil(lambda: (user.mask.data != before).any(), timeout=10_000)


def test_accepted_mask_is_on_disk_at_once_with_its_provenance(user: User, folder: Path):
    user.open(folder)
    user.paint(2, 3)
    drawn = user.mask.data.copy()
    user.press(DEFAULT.accept)
    project = folder / FOLDER
    np.testing.assert_array_equal(iio.imread(project / "masks" / "frame_0.png", mode="P"), drawn)
    about = json.loads((project / "masks" / "frame_0.provenance.json").read_text())
    assert about["edited"] is True
    assert about["image"]["name"] == "frame_0.png"
    assert about["sampling"]["strength"] == 1.0
    assert 0 < about["changed"] < 0.1
    assert about["seconds"] > 0
    assert statuses(user)[0] == "accepted"
    assert user.panel.progress.value() == 1
    user.wait("frame_1")


def test_mask_that_was_left_comes_back_with_its_strokes(user: User, folder: Path):
    user.open(folder)
    user.paint(2, 3)
    user.paint(30, 40, 0)
    drawn = user.mask.data.copy()
    assert statuses(user)[0] == "edited"
    user.press(DEFAULT.next)
    user.wait("frame_1")
    assert (folder / FOLDER / "drafts" / "frame_0.png").is_file()
    user.press(DEFAULT.previous)
    user.wait("frame_0")
    np.testing.assert_array_equal(user.mask.data, drawn)
    assert statuses(user)[0] == "edited"
    # the strokes are the user's still: a new run keeps them
    with user.qtbot.waitSignal(user.dock.finished, timeout=20_000):
        user.dock.redraw()
    assert user.mask.data[2, 3] == 1
    assert user.mask.data[30, 40] == 0


def test_image_that_nobody_touched_leaves_no_draft(user: User, folder: Path):
    user.open(folder)
    user.press(DEFAULT.next)
    user.wait("frame_1")
    assert not (folder / FOLDER / "drafts").exists()
    assert statuses(user)[0] == "predicted"


def test_skipped_image_is_passed_over(user: User, folder: Path):
    user.open(folder)
    user.press(DEFAULT.skip)
    user.wait("frame_1")
    assert statuses(user)[0] == "skipped"
    assert user.panel.progress.value() == 1
    user.press(DEFAULT.accept)
    user.wait("frame_2")
    user.queue.show("frame_4")
    user.wait("frame_4")
    user.press(DEFAULT.accept)
    # after the last one from the top again, past what is done
    user.wait("frame_2")


def test_everything_is_there_after_closing_and_opening(user: User, folder: Path):
    user.open(folder)
    user.paint(2, 3)
    drawn = user.mask.data.copy()
    user.panel.notes.setText("stool below")
    user.panel.notes.editingFinished.emit()
    user.panel.tags.setText("blurred,  left ,blurred,")
    user.panel.tags.editingFinished.emit()
    user.queue.close_project()
    assert user.images == []
    again = Project.open(folder / FOLDER)
    item = again.items["frame_0"]
    assert (item.status, item.notes, item.tags) == ("edited", "stool below", ("blurred", "left"))
    np.testing.assert_array_equal(again.load("frame_0").labels, drawn)
    again.close()
    user.open(folder)
    np.testing.assert_array_equal(user.mask.data, drawn)
    assert user.panel.tags.text() == "blurred, left"


def test_broken_image_is_named_and_the_queue_goes_on(user: User, folder: Path):
    (folder / "frame_1.png").write_bytes(b"no image")
    (folder / "frame_0.png").write_bytes(b"")
    user.panel.folder_chosen.emit(folder)
    user.wait("frame_2")
    assert "frame_0.png: cannot be read as an image" in user.items["frame_0"].problem
    assert "frame_0.png: cannot be read" in user.panel.say.text(), "why this one is shown first"
    assert user.panel.say.text().endswith(", and 1 more; the filter 'unreadable' shows them")
    for name in ("frame_0", "frame_1"):
        assert f"{name}.png: cannot be read" in user.panel.say.toolTip()
    user.press(DEFAULT.previous)
    user.qtbot.waitUntil(lambda: "frame_1.png" in user.items["frame_1"].problem, timeout=20_000)
    user.wait("frame_2")
    assert user.panel.table.model().index(0, 1).data() == "unreadable"
    user.qtbot.waitUntil(lambda: "frame_1.png: cannot be read" in user.panel.say.text(), timeout=20_000)
    assert user.panel.say.text().startswith("Left out: ")


def test_many_broken_images_are_said_in_a_few_lines(user: User, folder: Path):
    for number in range(40):
        (folder / f"frame_0_{number:02d}.png").write_bytes(b"no image")
    user.open(folder)
    user.press(DEFAULT.accept)
    user.wait("frame_1")
    said = user.panel.say
    assert said.text().startswith(f"Left out: {folder / 'frame_0_00.png'}: cannot be read")
    assert said.text().endswith(", and 39 more; the filter 'unreadable' shows them")
    assert len(said.toolTip().splitlines()) == 20


def test_click_on_an_unreadable_image_says_why_and_stays(user: User, folder: Path):
    broken = folder / "frame_3.png"
    good = broken.read_bytes()
    broken.write_bytes(b"no image")
    user.open(folder)
    table = user.panel.table

    def click() -> None:
        place = table.visualRect(table.model().index(3, 0)).center()
        QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)

    for _ in range(2):
        user.panel.tell("")
        click()
        user.qtbot.waitUntil(lambda: user.panel.say.text().startswith(f"Not shown: {broken}: cannot be read"))
        assert user.images == ["frame_0"]
        assert table.currentIndex().row() == 0, "its tags are those on show"
    user.press(DEFAULT.next)
    user.wait("frame_1")
    broken.write_bytes(good)
    click()
    user.wait("frame_3")
    assert user.items["frame_3"].problem == ""


def test_previous_goes_back_past_an_unreadable_image(user: User, folder: Path):
    user.open(folder)
    user.queue.show("frame_3")
    user.wait("frame_3")
    (folder / "frame_2.png").write_bytes(b"no image")
    user.press(DEFAULT.previous)
    user.wait("frame_1")
    assert user.panel.say.text().startswith(f"Left out: {folder / 'frame_2.png'}: cannot be read")


def test_unreadable_image_that_was_read_ahead_is_said_in_its_turn_once(user: User, folder: Path):
    (folder / "frame_1.png").write_bytes(b"no image")
    user.open(folder)
    user.qtbot.waitUntil(lambda: user.queue._ahead.is_ready("frame_2"), timeout=20_000)
    assert "cannot be read" not in user.panel.say.text()
    user.press(DEFAULT.accept)
    user.wait("frame_2")
    assert user.panel.say.text().startswith(f"Left out: {folder / 'frame_1.png'}: cannot be read")
    user.press(DEFAULT.accept)
    user.wait("frame_3")
    assert "frame_1" not in user.panel.say.text()


def test_unreadable_image_that_would_have_been_the_last_is_said_at_the_end(user: User, folder: Path):
    for number in (1, 2, 4):
        (folder / f"frame_{number}.png").unlink()
    (folder / "frame_3.png").write_bytes(b"no image")
    user.open(folder)
    user.qtbot.waitUntil(lambda: bool(user.items["frame_3"].problem), timeout=20_000)
    user.press(DEFAULT.accept)
    assert "frame_3.png: cannot be read" in user.panel.say.text()
    assert user.panel.say.text().endswith("All images are done: press Export all…")


def test_scoring_notes_how_much_samples_differ(user: User, folder: Path):
    user.open(folder)
    user.panel.score_button.click()
    assert user.panel.score_button.text().startswith("Stop (")
    user.qtbot.waitUntil(lambda: user.panel.score_button.text() == "Score all", timeout=60_000)
    scored = [item.disagreement for name, item in user.items.items() if name != "frame_0"]
    assert all(0 <= value <= 1 for value in scored)
    assert set(statuses(user)) == {"predicted"}
    assert user.images == ["frame_0"]
    assert "of 5 images have a score; sort the table by Disagree" in user.panel.say.text()


def test_scoring_says_that_nothing_is_left_to_score(user: User, folder: Path):
    for number in range(1, 5):
        (folder / f"frame_{number}.png").write_bytes(b"no image")
    user.open(folder)
    user.panel.score_button.click()
    user.qtbot.waitUntil(lambda: "No image was scored: none of the others" in user.panel.say.text(), timeout=20_000)
    assert user.panel.score_button.text() == "Score all"


@pytest.fixture
def direct_bundle(bundle: str, tmp_path: Path) -> str:
    """The tiny model without diffusion, whose samples are all the same."""
    folder = tmp_path / "direct"
    shutil.copytree(bundle, folder)
    manifest = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    manifest["model"]["method"] = "direct"
    (folder / "bundle.json").write_text(json.dumps(manifest), encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize(
    ("why", "said"), [("no diffusion", "All samples of this model are the same"), ("full disk", "Scores not saved: 4")]
)
def test_scoring_ends_without_scores(
    user: User, folder: Path, direct_bundle: str, monkeypatch: pytest.MonkeyPatch, why: str, said: str
):
    if why == "no diffusion":
        user.dock.choices.choose(direct_bundle)
    user.open(folder)
    if why == "full disk":
        monkeypatch.setattr(Path, "write_text", full_disk)
    user.panel.score_button.click()
    user.qtbot.waitUntil(lambda: user.panel.score_button.text() == "Score all", timeout=20_000)
    monkeypatch.undo()
    assert [item.disagreement for item in user.items.values()] == [-1] * 5
    assert said in user.panel.say.text()
    user.panel.score_button.click()  # they are tried again
    assert user.panel.score_button.text().startswith("Stop (")
    user.qtbot.waitUntil(lambda: user.panel.score_button.text() == "Score all", timeout=20_000)


def test_run_comes_before_scoring(user: User, folder: Path, calls):
    user.open(folder)
    calls.delay = 0.05
    user.panel.score_button.click()
    user.qtbot.waitUntil(lambda: not user.dock._runner.idle, timeout=10_000)
    with user.qtbot.waitSignal(user.dock.finished, timeout=20_000) as signal:
        user.dock.run()
    assert signal.args == [True]
    calls.delay = 0.0
    user.qtbot.waitUntil(lambda: user.panel.score_button.text() == "Score all", timeout=60_000)


def test_viewer_closed_while_the_queue_works_ahead_leaves_nothing_running(user: User, folder: Path, calls):
    user.open(folder)
    calls.delay = 0.05
    user.panel.score_button.click()
    user.qtbot.waitUntil(lambda: not user.dock._runner.idle, timeout=10_000)
    worker = user.dock._runner._worker
    user.viewer.close()
    user.qtbot.waitUntil(lambda: not worker.is_running, timeout=10_000)
    again = Project.open(folder / FOLDER)  # it is free again
    again.close()


def test_filter_narrows_what_next_goes_through(user: User, folder: Path):
    user.open(folder)
    user.panel.search.setText("FRAME_3")
    assert user.panel.names == ["frame_3"]
    user.press(DEFAULT.next)
    user.wait("frame_3")
    user.panel.search.setText("")
    user.panel.status.setCurrentText("accepted")
    assert user.panel.names == []
    user.press(DEFAULT.next)
    assert "table is empty" in user.panel.say.text()


def test_table_sorts_by_disagreement(user: User, folder: Path):
    user.open(folder)
    user.qtbot.waitUntil(lambda: user.queue._ahead.is_ready("frame_1"), timeout=20_000)
    for name, value in (("frame_2", 0.9), ("frame_4", 0.4)):
        user.queue.project.update(name, disagreement=value)
    from qtpy.QtCore import Qt

    user.panel.table.sortByColumn(2, Qt.SortOrder.DescendingOrder)
    assert user.panel.names[:2] == ["frame_2", "frame_4"]


def test_class_of_an_object_reaches_the_mask_and_coco(user: User, folder: Path, tmp_path: Path):
    user.open(folder)
    assert user.panel.object_class.currentText() == "polyp"
    user.panel.class_chosen.emit("lumen")
    assert user.panel.object_class.currentText() == "lumen"
    assert user.dock.correct.object.text() == "Object 1: lumen 1"
    np.testing.assert_allclose(user.mask.colormap.map(1)[:3], [0xB3 / 255, 0x88 / 255, 1.0], atol=0.01)
    user.press(DEFAULT.accept)
    user.wait("frame_1")
    user.panel.exported.emit(tmp_path / "all.json")
    data = json.loads((tmp_path / "all.json").read_text())
    names = {item["id"]: item["name"] for item in data["categories"]}
    assert [names[item["category_id"]] for item in data["annotations"]] == ["lumen"]
    assert "masks of 1 image" in user.panel.say.text()


def test_class_alone_is_worth_keeping(user: User, folder: Path):
    user.open(folder)
    user.panel.class_chosen.emit("lumen")
    assert statuses(user)[0] == "edited"
    user.press(DEFAULT.next)
    user.wait("frame_1")
    user.press(DEFAULT.previous)
    user.wait("frame_0")
    assert user.panel.object_class.currentText() == "lumen"
    # and its colour is that of the class still
    np.testing.assert_allclose(user.mask.colormap.map(1)[:3], [0xB3 / 255, 0x88 / 255, 1.0], atol=0.01)


def test_edited_classes_reach_canvas_table_sidecars_and_coco(user: User, folder: Path, tmp_path: Path):
    user.open(folder)
    user.press(DEFAULT.accept)
    user.wait("frame_1")
    user.panel.classes_button.click()
    (editor,) = user.panel.findChildren(ClassEditor)
    user.qtbot.waitUntil(lambda: editor.table.item(0, 2).text() == "1", timeout=10_000)
    editor.table.item(0, NAME).setText("adenoma")
    editor.add_button.click()
    editor.table.item(3, NAME).setText("stool")
    editor.buttons.accepted.emit()
    names = ["adenoma", "instrument", "lumen", "stool"]
    assert [known.name for known in user.queue.project.classes] == names
    assert [user.panel.object_class.itemText(index) for index in range(4)] == names
    # on the canvas
    assert user.panel.object_class.currentText() == "adenoma"
    assert user.dock.correct.object.text() == "Object 1: adenoma 1"
    # on the disk
    about = json.loads((folder / FOLDER / "masks" / "frame_0.provenance.json").read_text())
    assert [(item["class"], item["name"]) for item in about["objects"]] == [("adenoma", "adenoma 1")]
    # of a mask that the model makes from now on, though it speaks of polyps
    user.press(DEFAULT.next)
    user.wait("frame_2")
    assert user.panel.object_class.currentText() == "adenoma"
    user.panel.exported.emit(tmp_path / "all.json")
    data = json.loads((tmp_path / "all.json").read_text())
    assert [item["name"] for item in data["categories"]] == names
    # and after opening the project again
    user.queue.close_project()
    assert user.dock._session.classes == ()
    user.panel.folder_chosen.emit(folder)
    user.wait("frame_1")
    assert user.dock._session.classes == user.queue.project.classes
    assert user.panel.object_class.itemText(3) == "stool"


def test_colour_of_a_class_is_shown_at_once(user: User, folder: Path):
    user.open(folder)
    user.queue._classes.set_classes([ObjectClass("polyp", "#ff0000"), *DEFAULT_CLASSES[1:]], {})
    np.testing.assert_allclose(user.mask.colormap.map(1), [1, 0, 0, 1], atol=0.01)
    user.mask.selected_label = 2
    user.paint(50, 70, 2)
    np.testing.assert_allclose(user.mask.colormap.map(2), [1, 0, 0, 1], atol=0.01)


def test_class_on_the_canvas_is_in_use(user: User, folder: Path):
    user.open(folder)
    user.panel.class_chosen.emit("lumen")
    user.panel.classes_button.click()
    (editor,) = user.panel.findChildren(ClassEditor)
    editor.table.setCurrentCell(2, NAME)
    user.qtbot.waitUntil(lambda: not editor.become.isHidden(), timeout=10_000)
    assert not editor.remove_button.isEnabled()
    editor.become.setCurrentText("polyp")
    editor.remove_button.click()
    editor.buttons.accepted.emit()
    assert user.panel.object_class.currentText() == "polyp"


def test_sidecar_that_is_broken_stops_the_editor_by_name(user: User, folder: Path):
    user.open(folder)
    user.press(DEFAULT.accept)
    user.wait("frame_1")
    (folder / FOLDER / "masks" / "frame_0.provenance.json").write_text("{")
    user.panel.classes_button.click()
    said = "frame_0.provenance.json: is damaged or no JSON file"
    user.qtbot.waitUntil(lambda: said in user.panel.say.text(), timeout=10_000)
    user.qtbot.waitUntil(lambda: not user.panel.findChildren(ClassEditor), timeout=10_000)


def test_classes_can_be_edited_while_their_objects_are_counted(user: User, folder: Path, monkeypatch):
    counted, count = Event(), Project.class_counts

    def slow(project: Project) -> object:
        counted.wait(10)
        return count(project)

    monkeypatch.setattr(Project, "class_counts", slow)
    user.open(folder)
    user.panel.classes_button.click()
    (first,) = user.panel.findChildren(ClassEditor)
    first.table.item(0, NAME).setText("adenoma")
    first.buttons.accepted.emit()
    assert user.panel.object_class.currentText() == "adenoma"
    user.qtbot.waitUntil(lambda: not user.panel.findChildren(ClassEditor), timeout=10_000)
    user.panel.classes_button.click()
    (second,) = user.panel.findChildren(ClassEditor)
    assert second.table.item(0, OBJECTS).text() == COUNTING
    counted.set()
    user.qtbot.waitUntil(lambda: second.table.item(0, OBJECTS).text() == "1", timeout=10_000)
    second.reject()


def test_saved_mask_shows_its_strength_and_the_users_own_comes_back(user: User, folder: Path):
    user.open(folder)
    user.dock.correct.strength.setValue(0.6)
    user.paint(2, 3)
    with user.qtbot.waitSignal(user.dock.finished, timeout=20_000):
        user.dock.redraw()
    user.press(DEFAULT.accept)
    user.wait("frame_1")
    user.dock.correct.strength.setValue(0.8)
    user.press(DEFAULT.previous)
    user.wait("frame_0")
    assert user.dock.correct.strength.value() == pytest.approx(0.6)
    user.press(DEFAULT.next)
    user.wait("frame_1")
    assert user.dock.correct.strength.value() == pytest.approx(0.8)


def test_time_goes_on_where_it_was(user: User, folder: Path):
    user.open(folder)
    user.queue.close_project()
    project = Project.open(folder / FOLDER)
    project.save("frame_0", np.ones(SHAPE, np.uint8), None, {}, accepted=False, seconds=500)
    project.close()
    user.open(folder)
    user.press(DEFAULT.accept)
    assert 500 <= user.items["frame_0"].seconds < 560


def test_huge_images_are_named_and_the_queue_goes_on(user: User, folder: Path):
    (folder / "frame_1.png").write_bytes(BOMB)
    PIL.Image.new("L", (12_000, 9_000)).save(folder / "frame_2.jpg")
    (folder / "frame_2.png").unlink()
    user.open(folder)
    user.press(DEFAULT.accept)
    user.wait("frame_3")
    user.qtbot.waitUntil(lambda: statuses(user)[4] == "predicted", timeout=20_000)
    assert "frame_1.png: Image size (3600000000 pixels) is too large" in user.items["frame_1"].problem
    assert "frame_2.jpg: 12000 x 9000 pixels is too large (at most 50 million" in user.items["frame_2"].problem
    assert "save a smaller copy" in user.items["frame_2"].problem


@pytest.mark.skipif(os.name == "nt", reason="Windows renames no folder with an open file in it: the lock")
def test_folder_that_disappears_is_said_and_no_image_is_blamed(user: User, folder: Path, tmp_path: Path):
    user.open(folder)
    user.qtbot.waitUntil(lambda: user.queue._ahead.is_ready("frame_1"), timeout=20_000)
    gone = tmp_path / "taken out"
    folder.rename(gone)
    user.panel.score_button.click()
    user.queue.show("frame_3")
    user.qtbot.waitUntil(lambda: f"{folder}: the folder is gone" in user.panel.say.text(), timeout=20_000)
    user.qtbot.waitUntil(lambda: user.queue._ahead._reader.idle, timeout=20_000)  # it does not try for ever
    assert not any(item.problem for item in user.items.values())
    assert user.panel.score_button.text() == "Score all"
    assert not folder.exists()
    # what is on the canvas stays there, and is saved when the folder is back
    user.paint(2, 3)
    user.press(DEFAULT.accept)
    assert "the folder is gone" in user.panel.say.text()
    assert user.images == ["frame_0"]
    gone.rename(folder)
    user.press(DEFAULT.accept)
    assert statuses(user)[0] == "accepted"
    user.queue.show("frame_3")
    user.wait("frame_3")


def test_images_that_disappear_are_not_blamed_one_after_the_other(user: User, folder: Path, tmp_path: Path):
    (tmp_path / "list.txt").write_text("\n".join(f"frames/frame_{number}.png" for number in range(5)))
    user.panel.list_chosen.emit(tmp_path / "list.txt")
    user.wait("frame_0")
    user.qtbot.waitUntil(lambda: user.queue._ahead.is_ready("frame_1"), timeout=20_000)
    folder.rename(tmp_path / "taken out")
    user.queue.show("frame_3")
    user.qtbot.waitUntil(lambda: "frames: the folder is gone" in user.panel.say.text(), timeout=20_000)
    user.qtbot.waitUntil(lambda: user.queue._ahead._reader.idle, timeout=20_000)
    assert not any(item.problem for item in user.items.values())
    assert user.images == ["frame_0"]


def test_mask_edited_into_nonsense_is_named_and_can_be_mended(user: User, folder: Path):
    user.open(folder)
    user.press(DEFAULT.accept)
    user.wait("frame_1")
    mask = folder / FOLDER / "masks" / "frame_0.png"
    sidecar = mask.with_name("frame_0.provenance.json")
    for path, nonsense, said in (
        (sidecar, b'{"objects": [{"id": "one"}]}', "provenance.objects"),
        (sidecar, b'{"sampling": {"steps": "many"}, "objects": [{"id": 1, "colour": "loud"}]}', ""),
        (mask, b"no image", "cannot be read as a PNG"),
    ):
        good = path.read_bytes()
        path.write_bytes(nonsense)
        user.queue.show("frame_0")
        if said:
            user.qtbot.waitUntil(lambda said=said: said in user.items["frame_0"].problem, timeout=20_000)
            assert path.name in user.items["frame_0"].problem
        else:  # what is not needed to show the mask
            user.wait("frame_0")
        path.write_bytes(good)
        user.queue.show("frame_0")
        user.wait("frame_0")
        assert user.items["frame_0"].problem == ""
        user.queue.show("frame_1")
        user.wait("frame_1")


def test_mask_of_another_size_is_said_and_not_overwritten_unasked(user: User, folder: Path):
    user.open(folder)
    user.press(DEFAULT.accept)
    user.wait("frame_1")
    mask = folder / FOLDER / "masks" / "frame_0.png"
    PIL.Image.new("L", (9, 7), 1).save(mask)
    before = mask.read_bytes()
    user.press(DEFAULT.previous)
    user.wait("frame_0")
    assert "frame_0 has another size than its image; it is segmented anew" in user.panel.say.text()
    assert user.mask.data.shape == SHAPE
    user.press(DEFAULT.next)
    user.wait("frame_1")
    assert mask.read_bytes() == before


def test_project_file_edited_while_it_is_open_is_written_anew(user: User, folder: Path):
    user.open(folder)
    (folder / FOLDER / FILE).write_text("{ nonsense")
    user.press(DEFAULT.accept)
    user.wait("frame_1")
    user.queue.close_project()
    again = Project.open(folder / FOLDER)
    assert again.items["frame_0"].status == "accepted"
    again.close()


def test_full_disk_keeps_the_image_on_the_canvas(user: User, folder: Path, monkeypatch: pytest.MonkeyPatch):
    user.open(folder)
    user.paint(2, 3)
    monkeypatch.setattr(Path, "write_bytes", full_disk)
    for key in (DEFAULT.accept, DEFAULT.next):
        user.press(key)
        assert "No space left on device" in user.panel.say.text()
        assert user.images == ["frame_0"]
        assert user.mask.data[2, 3] == 1
    monkeypatch.undo()
    user.press(DEFAULT.accept)
    user.wait("frame_1")


def test_second_session_is_told_and_changes_nothing(user: User, folder: Path):
    other = Project.of_folder(folder)
    user.panel.folder_chosen.emit(folder)
    assert "is open in another session" in user.panel.say.text()
    assert user.queue.project is None
    assert not user.panel.accept_button.isEnabled()
    other.close()
    user.open(folder)


def test_image_layer_that_is_deleted_can_be_shown_again(user: User, folder: Path):
    user.open(folder)
    user.viewer.layers.clear()
    user.press(DEFAULT.accept)
    user.queue.show("frame_0")
    user.wait("frame_0")


def test_keys_do_nothing_without_a_project(user: User):
    for key in (DEFAULT.accept, DEFAULT.skip, DEFAULT.next, DEFAULT.previous):
        user.press(key)


def test_crash_in_the_queue_loses_no_stroke(user: User, folder: Path, journals: Path, tmp_path: Path):
    # a session on the second image
    user.open(folder)
    user.press(DEFAULT.next)
    user.wait("frame_1")
    user.paint(2, 3)
    user.paint(30, 40, 0)
    drawn = user.mask.data.copy()
    user.crash(journals, tmp_path)

    dock = SegmentationDock(user.viewer)
    user.viewer.window.add_dock_widget(dock, name="again")
    assert "1 mask" in dock.recovery_bar.label.text()
    dock.recovery_bar.restore_button.click()
    again = User(dock, user.viewer, user.qtbot)
    assert dock.queue.project is not None, "what the session was working on opens again"
    assert dock.tabs.tabText(dock.tabs.currentIndex()) == "Annotate"
    user.qtbot.waitUntil(lambda: again.panel.say.text().startswith("Restored as it was"), timeout=20_000)
    assert again.images == ["frame_1"]
    np.testing.assert_array_equal(again.mask.data, drawn)
    again.press(DEFAULT.accept)
    np.testing.assert_array_equal(iio.imread(folder / FOLDER / "masks" / "frame_1.png", mode="P"), drawn)
    dock.queue.close_project()


def test_a_mask_is_restored_in_the_project_that_it_was_drawn_in(
    user: User, folder: Path, journals: Path, tmp_path: Path
):
    user.open(folder)
    user.press(DEFAULT.accept)
    user.wait("frame_1")
    user.queue.close_project()
    text = tmp_path / "hard.txt"
    text.write_text(str(folder / "frame_0.png"))
    user.panel.list_chosen.emit(text)
    user.wait("frame_0")
    user.paint(2, 3)
    drawn = user.mask.data.copy()
    user.crash(journals, tmp_path)

    dock = SegmentationDock(user.viewer)
    user.viewer.window.add_dock_widget(dock, name="again")
    assert dock.recovery_bar.label.text().endswith("(frame_0)")
    dock.recovery_bar.restore_button.click()
    again = User(dock, user.viewer, user.qtbot)
    user.qtbot.waitUntil(lambda: again.panel.say.text().startswith("Restored as it was"), timeout=20_000)
    assert dock.queue.project.folder.name == f"hard-{FOLDER}"
    np.testing.assert_array_equal(again.mask.data, drawn)
    dock.queue.close_project()
    project = Project.of_folder(folder)
    assert project.items["frame_0"].status == "accepted"
    assert not np.array_equal(project.load("frame_0").labels, drawn)
    project.close()


def test_masks_of_no_project_are_restored_in_front(user: User, folder: Path, tmp_path: Path):
    user.dock.tabs.setCurrentIndex(1)
    user.dock._recovery.restored.emit([])  # of a sample
    assert user.dock.tabs.tabText(user.dock.tabs.currentIndex()) == "Segment"
    # also while a project is open
    user.open(folder)
    user.dock.tabs.setCurrentIndex(1)
    user.viewer.layers.clear()
    user.dock._recovery.restored.emit([ImageId(1, "another", str(tmp_path / "another.png"), None, SHAPE)])
    assert user.dock.tabs.tabText(user.dock.tabs.currentIndex()) == "Segment"


def test_a_mask_that_was_saved_by_another_session_is_behind_the_restored_one(
    user: User, folder: Path, journals: Path, tmp_path: Path
):
    user.open(folder)
    user.paint(2, 3)
    drawn = user.mask.data.copy()
    user.crash(journals, tmp_path)
    project = Project.of_folder(folder)
    other = np.zeros(SHAPE, np.uint8)
    other[30:50, 30:50] = 1
    project.save("frame_0", other, None, {}, accepted=False, seconds=1)
    project.close()

    dock = SegmentationDock(user.viewer)
    user.viewer.window.add_dock_widget(dock, name="again")
    dock.recovery_bar.restore_button.click()
    again = User(dock, user.viewer, user.qtbot)
    user.qtbot.waitUntil(lambda: again.panel.say.text().startswith("Restored. Another mask"), timeout=20_000)
    np.testing.assert_array_equal(again.mask.data, drawn)
    again.mask.redo()
    np.testing.assert_array_equal(again.mask.data, other)
    again.mask.undo()
    np.testing.assert_array_equal(again.mask.data, drawn)
    dock.queue.close_project()


# closing


@pytest.mark.parametrize("how", ["dock", "script"])
@pytest.mark.parametrize("why", ["full disk", "folder gone"])
def test_what_cannot_be_saved_at_the_end_can_be_restored(
    user: User, folder: Path, journals: Path, monkeypatch: pytest.MonkeyPatch, why: str, how: str
):
    user.open(folder)
    user.paint(2, 3)
    drawn = user.mask.data.copy()
    if why == "full disk":
        monkeypatch.setattr(Path, "write_bytes", full_disk)
    else:
        folder.rename(folder.with_name("taken out"))
    if how == "dock":
        user.viewer.window.remove_dock_widget(user.dock)
    else:
        user.viewer.close()  # takes the layers away first
    (journal,) = crashed(journals)
    (state,) = read_journal(journal)
    np.testing.assert_array_equal(state.labels, drawn)
    assert state.image.name == "frame_0"


def test_what_was_saved_at_the_end_needs_no_restoring(user: User, folder: Path, journals: Path):
    user.open(folder)
    user.paint(2, 3)
    user.viewer.close()
    assert (folder / FOLDER / "drafts" / "frame_0.png").is_file()
    assert crashed(journals) == []
    assert not list(journals.iterdir())


def test_what_could_not_be_saved_but_was_later_needs_no_restoring(
    user: User, folder: Path, journals: Path, monkeypatch: pytest.MonkeyPatch
):
    user.open(folder)
    user.paint(2, 3)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full_disk)
        user.viewer.layers.clear()
    assert not user.queue.kept
    user.press(DEFAULT.next)
    user.wait("frame_1")
    user.press(DEFAULT.accept)
    user.wait("frame_2")
    assert not user.queue.kept, "that was another one"
    user.queue.show("frame_0")
    user.wait("frame_0")
    user.press(DEFAULT.accept)
    user.wait("frame_2")
    assert user.queue.kept
    user.viewer.close()
    assert crashed(journals) == []


def test_other_folder_is_not_opened_before_the_mask_is_saved(
    user: User, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    user.open(folder)
    user.paint(2, 3)
    other = tmp_path / "other"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns(FOLDER))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full_disk)
        user.panel.folder_chosen.emit(other)
    assert "No space left on device" in user.panel.say.text()
    assert user.queue.project.folder == folder / FOLDER
    assert user.mask.data[2, 3] == 1
    user.panel.folder_chosen.emit(other)
    assert user.queue.project.folder == other / FOLDER
    assert (folder / FOLDER / "drafts" / "frame_0.png").is_file()


# what has changed since the project was open last


def test_images_that_were_added_to_the_folder_are_said(user: User, folder: Path):
    user.open(folder)
    user.queue.close_project()
    for number in (7, 8, 9):
        shutil.copy(folder / "frame_0.png", folder / f"frame_{number}.png")
    user.open(folder)
    user.qtbot.waitUntil(lambda: "3 new images" in user.panel.say.text(), timeout=10_000)
    assert user.panel.names[-3:] == ["frame_7", "frame_8", "frame_9"]
    assert user.panel.progress.maximum() == 8
    user.queue.close_project()
    user.open(folder)
    assert "new image" not in user.panel.say.text()


def test_lines_of_a_list_that_are_left_out_or_lead_nowhere_are_said(user: User, folder: Path, tmp_path: Path):
    names = ["frame_0", "gone", "frame_1", "frame_0"]
    (tmp_path / "list.txt").write_text("\n".join(f"frames/{name}.png" for name in names))
    user.panel.list_chosen.emit(tmp_path / "list.txt")
    user.wait("frame_0")
    assert user.panel.say.text() == (
        "Lines of the list that name an image again were left out: 1. Image files that are not there: 1"
    )
    assert user.panel.names == names[:3]
    assert user.items["gone"].problem.startswith(f"{folder / 'gone.png'}: no such file")
    user.queue.show("gone")
    user.wait("frame_1")
    assert user.panel.say.text().startswith(f"Left out: {folder / 'gone.png'}: no such file")


def test_text_that_lists_no_image_is_refused(user: User, tmp_path: Path):
    path = tmp_path / "README.txt"
    path.write_text("# Frames\n\nSee the manual.\n")
    user.panel.list_chosen.emit(path)
    assert "README.txt: none of its lines (1) is an image file" in user.panel.say.text()
    assert user.queue.project is None


def test_mask_that_was_changed_elsewhere_is_said(user: User, folder: Path):
    user.open(folder)
    user.paint(2, 3)
    user.press(DEFAULT.accept)
    user.wait("frame_1")
    PIL.Image.fromarray(np.full(SHAPE, 3, np.uint8)).save(folder / FOLDER / "masks" / "frame_0.png")
    user.press(DEFAULT.previous)
    user.wait("frame_0")
    assert (user.mask.data == 3).all()
    assert "frame_0.png was changed elsewhere" in user.panel.say.text()


def test_previous_goes_back_from_an_image_that_has_left_the_filter(user: User, folder: Path):
    user.open(folder)
    user.queue.show("frame_3")
    user.wait("frame_3")
    for name in ("frame_0", "frame_1", "frame_4"):
        user.queue.project.update(name, tags=("left",))
    user.panel.search.setText("left")
    assert user.panel.names == ["frame_0", "frame_1", "frame_4"]
    user.press(DEFAULT.previous)
    user.wait("frame_1")
    user.queue.show("frame_3")
    user.wait("frame_3")
    user.press(DEFAULT.next)
    user.wait("frame_4")


def test_half_a_stroke_is_not_accepted(user: User, folder: Path):
    user.open(folder)
    with user.mask.block_history():  # the mouse is held
        user.mask.paint((2, 3), 1)
        for key in (DEFAULT.accept, DEFAULT.skip, DEFAULT.next):
            user.panel.tell("")
            user.press(key)
            assert "You are drawing: end the stroke" in user.panel.say.text()
        assert not (folder / FOLDER / "masks").exists()
        user.mask.paint((2, 4), 1)
    user.press(DEFAULT.accept)
    user.wait("frame_1")
    assert statuses(user)[0] == "accepted"
    assert (iio.imread(folder / FOLDER / "masks" / "frame_0.png", mode="P")[2, 3:5] == 1).all()


# what was made ready, and what the controls say by now


def choose_copy(dock: SegmentationDock, tmp_path: Path) -> None:
    """Choose another model."""
    dock.choices.choose(shutil.copytree(dock.choices.bundle, tmp_path / "another").as_posix())


@pytest.mark.parametrize(
    "change",
    [
        lambda dock, _: dock.choices.steps.setValue(5),
        lambda dock, _: dock.choices.seeds.setValue(2),
        lambda dock, _: dock.choices.flip.toggle(),
        lambda dock, _: dock.choices.device.setCurrentText("cpu"),
        choose_copy,
    ],
    ids=["steps", "seeds", "mirror", "device", "model"],
)
def test_mask_that_was_made_ready_otherwise_is_made_anew(user: User, folder: Path, calls, tmp_path: Path, change):
    user.open(folder)
    user.qtbot.waitUntil(lambda: user.queue._ahead.is_ready("frame_1"), timeout=20_000)
    change(user.dock, tmp_path)
    asked = calls.denoise
    user.press(DEFAULT.next)
    user.wait("frame_1")
    assert calls.denoise > asked
    session = user.dock._session
    assert session.sampling(session.job(user.dock.images.layer)) == user.dock.choices.sampling


def test_scoring_does_not_change_how_the_next_mask_is_made(user: User, folder: Path):
    user.open(folder)
    assert len(user.dock.choices.sampling.seeds) == 1
    user.panel.score_button.click()
    user.qtbot.waitUntil(lambda: user.panel.score_button.text() == "Score all", timeout=60_000)
    user.qtbot.waitUntil(lambda: user.queue._ahead.is_ready("frame_1"), timeout=20_000)
    assert user.items["frame_1"].disagreement >= 0
    user.press(DEFAULT.next)
    user.wait("frame_1")
    assert user.dock._session.sampling(user.dock._session.job(user.dock.images.layer)).seeds == (0,)


def test_mask_of_one_sample_is_not_among_the_doubtful(user: User, folder: Path):
    user.open(folder)
    assert (statuses(user)[0], user.items["frame_0"].disagreement) == ("predicted", -1)
    user.panel.status.setCurrentText("doubtful")
    assert user.panel.names == []
    user.queue._shown.update("frame_2", disagreement=0.3)
    assert user.panel.names == ["frame_2"]
    user.press(DEFAULT.next)
    user.wait("frame_2")


@pytest.mark.parametrize("leave", [DEFAULT.accept, DEFAULT.skip, DEFAULT.next])
def test_the_last_change_of_a_slider_is_waited_for(user: User, folder: Path, leave: str):
    user.open(folder)
    user.paint()  # a draft is kept on the way to the next image, too
    user.dock.refine.opening.setValue(7)
    assert not user.dock._arrivals.idle
    user.press(leave)
    user.wait("frame_1")
    kept = folder / FOLDER / ("masks" if leave == DEFAULT.accept else "drafts") / "frame_0.provenance.json"
    assert json.loads(kept.read_text())["morphology"]["opening"] == 7


def test_a_mask_that_is_drawn_again_is_not_accepted_before_it_is_there(user: User, folder: Path):
    user.open(folder)
    user.paint()
    user.press(DEFAULT.rediffuse)
    user.press(DEFAULT.accept)
    assert user.panel.say.text() == "The mask is being drawn again: wait for it, or cancel, then press again"
    user.qtbot.waitUntil(lambda: not user.dock.running, timeout=20_000)
    assert statuses(user)[0] == "edited"
    user.press(DEFAULT.accept)
    user.wait("frame_1")
    assert statuses(user)[0] == "accepted"


def test_the_dock_follows_a_saved_mask_that_comes_back(user: User, folder: Path):
    user.open(folder)
    user.paint()
    user.panel.class_chosen.emit("instrument")
    user.press(DEFAULT.next)
    user.wait("frame_1")
    assert user.panel.object_class.currentText() == "polyp"
    user.press(DEFAULT.previous)
    user.wait("frame_0")
    assert user.panel.object_class.currentText() == "instrument"
    for widget in (user.dock.exporter.button, user.dock.correct.forget_button, user.dock.correct.split_button):
        assert widget.isEnabled()
    assert user.dock.correct.object.text() == "Object 1: instrument 1"


def test_a_list_that_is_refused_leaves_the_project_open(user: User, folder: Path, tmp_path: Path):
    user.open(folder)
    user.press(DEFAULT.next)
    user.wait("frame_1")
    (tmp_path / "notes.txt").write_text("no image")
    user.panel.list_chosen.emit(tmp_path / "notes.txt")
    user.wait("frame_1")
    assert user.queue.project.folder == folder / FOLDER
    assert "none of its lines (1) is an image file" in user.panel.say.text()
