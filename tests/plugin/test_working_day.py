"""A working day at the queue: 30 frames, corrections, a crash, an export; nothing is lost, and memory stays."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import psutil
import pytest
from napari.layers import Labels
from numpy.typing import NDArray
from pycocotools import mask as mask_tools
from qtpy.QtTest import QTest

from lsegdiff_core.data.phantom import draw_phantom
from lsegdiff_core.predictor import Predictor
from lsegdiff_core.project import FOLDER
from napari_lsegdiff._layers import UNLOCKED
from napari_lsegdiff._shortcuts import DEFAULT
from napari_lsegdiff._widget import SegmentationDock

# decoding in pycocotools
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

FRAMES = 30
SIZE = 64  # of the tiny model's square
HEIGHT, WIDTH = 900, 1200
SCALE = 6  # phantoms are drawn smaller, so that it is quick; an array of the image a frame would be 71 MB in the end
WARM = 8  # frames until everything that is made once has been made
MOST = 50  # MB
CRASH = 20  # the frame in the middle of which the session dies


@pytest.fixture
def doubtful(calls: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several seeds every third sees another lesion."""

    def cone(y: float, x: float) -> NDArray[np.float32]:
        rows, columns = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE
        return np.clip(1 - 1.5 * np.hypot(rows - y, columns - x), 0, 1).astype(np.float32)

    def decode(self: Predictor, z: object) -> NDArray[np.float32]:
        return np.stack([cone(0.5, 0.5) if number % 3 else cone(0.3, 0.3) for number in range(1, len(z) + 1)])

    monkeypatch.setattr(Predictor, "decode", decode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The day's frames."""
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(FRAMES):
        image = draw_phantom(number, HEIGHT // SCALE, WIDTH // SCALE).image
        large = image.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
        iio.imwrite(frames / f"frame_{number:02}.png", large, compress_level=1)
    return frames


@pytest.fixture
def quick() -> Iterator[None]:
    """napari collects garbage whenever a layer goes; what was there before the day needs not be looked through."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class User:
    """Somebody at the queue, who notes in a folder what was painted and what was accepted."""

    def __init__(self, viewer: object, dock: SegmentationDock, qtbot: object, notes: Path) -> None:
        self.viewer, self.dock, self.qtbot, self.notes = viewer, dock, qtbot, notes
        self.strokes = np.full((HEIGHT, WIDTH), UNLOCKED, np.int16)  # on the frame on the canvas
        self.skipped: set[str] = set()
        self.memory: list[float] = []

    # what is seen

    @property
    def name(self) -> str:
        """The frame on the canvas."""
        (image,) = (layer for layer in self.viewer.layers if layer.name.startswith("frame_") and " " not in layer.name)
        return image.name

    @property
    def mask(self) -> Labels:
        return self.viewer.layers[f"{self.name} mask"]

    def settle(self) -> None:
        dock = self.dock
        idle = lambda: dock._arrivals.idle and dock._correction._surveyor.idle  # noqa: E731
        self.wait(lambda: idle() and not dock.running and dock._runner.idle)

    def wait(self, condition: Callable[[], bool]) -> None:
        self.qtbot.waitUntil(condition, timeout=60_000)

    def wait_for(self, name: str) -> None:
        layers = self.viewer.layers
        self.wait(lambda: len(layers) == 2 and name in layers and f"{name} mask" in layers)
        self.settle()

    # what is done

    def press(self, key: str) -> None:
        modifier, _, letter = key.rpartition("-")
        assert not modifier
        QTest.keyClick(self.viewer.window._qt_viewer.canvas.native, letter)

    def paint(self, start: tuple[float, float], end: tuple[float, float], value: int) -> None:
        """Draw a stroke between two places, given as shares of the image's height and width."""
        mask = self.mask
        before = mask.data.copy()
        mask.brush_size = 20
        with mask.block_history():
            for share in np.linspace(start, end, 9):
                mask.paint(tuple(share * (HEIGHT, WIDTH)), value)
        drawn = mask.data != before  # pixels that had the value already are no part of it
        assert drawn.any()
        self.strokes[drawn] = value

    def rediffuse(self) -> None:
        with self.qtbot.waitSignal(self.dock.finished, timeout=60_000) as ended:
            self.press(DEFAULT.rediffuse)
        assert ended.args == [True], self.dock.status
        self.settle()

    def correct(self) -> None:
        self.paint((0.06, 0.06), (0.08, 0.31), 1)
        self.paint((0.5, 0.46), (0.53, 0.52), 0)
        self.rediffuse()

    def adopt(self) -> None:
        self.paint((0.89, 0.06), (0.92, 0.31), 1)
        self.dock.choices.seeds.setValue(6)
        self.rediffuse()
        self.wait(lambda: self.dock.gallery.list.count() == 2)
        before = self.mask.data.copy()
        self.dock.gallery.chosen.emit(1)
        self.settle()
        assert (self.mask.data != before).any()
        self.dock.choices.seeds.setValue(1)

    def undo(self) -> None:
        self.paint((0.14, 0.73), (0.22, 0.79), 1)
        painted, kept = self.mask.data.copy(), self.strokes.copy()
        self.paint((0.89, 0.73), (0.94, 0.79), 1)
        self.mask.undo()
        np.testing.assert_array_equal(self.mask.data, painted)
        self.mask.redo()
        assert (self.mask.data != painted).any()
        self.mask.undo()
        self.strokes = kept

    def slide(self) -> None:
        before = self.mask.data.copy()
        slider = self.dock.refine.threshold
        slider.setSliderDown(True)
        for value in (0.6, 0.7, 0.3):
            slider.setValue(value)
        slider.setSliderDown(False)
        self.settle()
        assert self.mask.data.sum() > before.sum()
        self.dock.refine.reset_button.click()  # or the next frames would be refined like this one
        self.settle()
        np.testing.assert_array_equal(self.mask.data, before)

    def accept(self) -> None:
        np.savez_compressed(self.notes / self.name, shown=self.mask.data, strokes=self.strokes)
        self.strokes[:] = UNLOCKED
        self.press(DEFAULT.accept)

    def skip(self) -> None:
        self.skipped.add(self.name)
        self.press(DEFAULT.skip)

    def measure(self) -> None:
        gc.collect()
        self.memory.append(psutil.Process().memory_info().rss / 2**20)

    def crash(self, journals: Path, folder: Path) -> None:
        """Die as a process does: what stays is the journal, and the project as it is on the disk."""
        left = folder.with_name("left")
        shutil.copytree(journals, left, ignore=shutil.ignore_patterns("*.lock"))
        self.viewer.layers.clear()  # nothing is left that closing could save
        self.viewer.window.remove_dock_widget(self.dock)
        for path in left.glob("*.journal"):
            shutil.copy(path, journals / f"crashed-{path.name}")

    def restore(self, bundle: str, folder: Path) -> None:
        """Begin a new session, and go on where the one before died."""
        self.dock = SegmentationDock(self.viewer)
        self.viewer.window.add_dock_widget(self.dock, name="LSegDiff again")
        self.dock.choices.choose(bundle)
        assert "1 mask" in self.dock.recovery_bar.label.text()
        self.dock.recovery_bar.restore_button.click()
        assert self.dock.queue.project is not None
        assert self.dock.queue.project.folder.parent == folder


def test_a_working_day(
    viewer: object,
    dock: SegmentationDock,
    doubtful: None,
    quick: None,
    bundle: str,
    folder: Path,
    journals: Path,
    tmp_path: Path,
    qtbot: object,
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    user = User(viewer, dock, qtbot, notes)
    dock.annotate.folder_chosen.emit(folder)
    for number in range(FRAMES):
        name = f"frame_{number:02}"
        user.wait_for(name)
        user.measure()
        if number % 10 == 9:
            user.skip()
            continue
        (user.correct, user.adopt, user.undo, user.slide, lambda: None)[number % 5]()
        if number == CRASH:
            drawn = user.mask.data.copy()
            user.crash(journals, folder)
            user.restore(bundle, folder)
            user.wait_for(name)
            np.testing.assert_array_equal(user.mask.data, drawn)
            user.rediffuse()  # under the strokes from before the crash
        user.accept()

    project = user.dock.queue.project
    assert project is not None
    user.wait(lambda: all(item.status in ("accepted", "skipped") for item in project.items.values()))
    assert {name for name, item in project.items.items() if item.status == "skipped"} == user.skipped
    accepted = {path.stem: np.load(path) for path in sorted(notes.iterdir())}
    assert len(accepted) == FRAMES - len(user.skipped) == 27
    assert sum((noted["strokes"] != UNLOCKED).any() for noted in accepted.values()) == 18
    for name, noted in accepted.items():
        saved = iio.imread(folder / FOLDER / "masks" / f"{name}.png", mode="P")
        np.testing.assert_array_equal(saved, noted["shown"], err_msg=name)
        strokes = noted["strokes"]
        np.testing.assert_array_equal(saved[strokes != UNLOCKED], strokes[strokes != UNLOCKED], err_msg=name)

    user.dock.annotate.exported.emit(tmp_path / "day.json")
    data = json.loads((tmp_path / "day.json").read_text())
    files = {image["id"]: Path(image["file_name"]).stem for image in data["images"]}
    assert sorted(files.values()) == list(accepted)
    for image, name in files.items():
        runs = [known["segmentation"] for known in data["annotations"] if known["image_id"] == image]
        exported = np.logical_or.reduce([mask_tools.decode(run) for run in runs])
        np.testing.assert_array_equal(exported, accepted[name]["shown"] > 0, err_msg=name)

    # a new session is a new process elsewhere: what it loads for itself is no growth
    sessions = (user.memory[WARM : CRASH + 1], user.memory[CRASH + 4 :])
    grown = sum(max(session) - session[0] for session in sessions)
    assert grown < MOST, f"memory grew by {grown:.0f} MB: {[round(used) for used in user.memory]}"
    user.dock.queue.close_project()
