"""A session is killed in the worst moment, and the next one has everything up to the last finished stroke."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels
from npe2 import PluginManager, PluginManifest
from qtpy.QtWidgets import QMessageBox

from lsegdiff_core.config import MorphologyConfig
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.journal import Journal, crashed, read_journal
from lsegdiff_core.journal_format import Recovered
from napari_lsegdiff._jobs import Refined
from napari_lsegdiff._layers import UNLOCKED, MaskLog
from napari_lsegdiff._objects import METADATA, Origin
from napari_lsegdiff._recovery import Recovery, RecoveryBar, recover
from napari_lsegdiff._sample_data import NAME, synthetic_polyp
from napari_lsegdiff._session import Session

SHAPE = (40, 50)
SAMPLE = ("napari-lsegdiff", "synthetic_polyp")
PROVENANCE = {"bundle": {"name": "tiny"}, "classes": ["polyp"], "morphology": {"threshold": 0.5}}


def disc(radius: float, centre: tuple[float, float] = (20, 25)) -> np.ndarray:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.hypot(y - centre[0], x - centre[1]) <= radius


def stroke(layer: Labels, frame: tuple[int, ...], mask: np.ndarray, value: int) -> None:
    """A drag of the mouse: several pieces in one undo item."""
    with layer.block_history():
        for row in np.flatnonzero(mask.any(axis=1)):
            columns = np.flatnonzero(mask[row])
            index = (*frame, row, columns)
            layer.data_setitem(np.broadcast_arrays(*index), value)


def write(session: Session, image: Image, mask: np.ndarray, number: int = 1, merge: int | None = None) -> None:
    job = session.job(image)
    assert session.write(
        Refined(type(job)(image, job.frame, number, job.name), mask, Origin(None, PROVENANCE)), merge=merge
    )


def die(journal: Journal) -> Path:
    """End without closing; what the system does with a killed process."""
    assert journal._file is not None
    assert journal._lock is not None
    journal._file.close()
    journal._lock.release()
    return journal.path


@pytest.fixture(autouse=True)
def _readers() -> None:
    """napari's own readers and our samples, which a viewer without a window does not load."""
    manager = PluginManager.instance()
    for name in ("napari", "napari-lsegdiff"):
        if name not in manager._manifests:
            manager.register(PluginManifest.from_distribution(name))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "images" / "polyp.png"
    path.parent.mkdir()
    iio.imwrite(path, np.full((*SHAPE, 3), 120, np.uint8))
    return path


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    book = Journal(tmp_path / "journal")
    yield book
    book.close()


@pytest.fixture
def recorded(journal: Journal) -> Session:
    """A session with a journal."""
    return Session(ViewerModel(), journal=journal)


@pytest.fixture
def opened(recorded: Session, picture: Path) -> Image:
    """An image from a file in that session."""
    (image,) = recorded._viewer.open(str(picture), plugin="napari")
    return image


def state(session: Session, image: Image) -> tuple[object, ...]:
    """All that a crash must not take."""
    labels, job = session.mask_layer(image), session.job(image)
    assert labels is not None
    locked = session.strokes(job)
    known = session.provenance(image, job.frame)
    del known["seconds"]
    # the strokes stand in it as an array, and time goes on
    theirs = {frame: about.keys() - {"strokes", "seconds"} for frame, about in labels.metadata[METADATA].items()}
    return (
        labels.data.tolist(),
        None if locked is None or (locked == UNLOCKED).all() else locked.tolist(),
        known,
        labels.features.to_dict("list"),
        {frame: {key: labels.metadata[METADATA][frame][key] for key in keys} for frame, keys in theirs.items()},
    )


# a killed process

can_kill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system kills otherwise")

CHILD = """
import json, os, signal, sys
from pathlib import Path
import numpy as np
from napari.components import ViewerModel
from napari.plugins import _initialize_plugins
from lsegdiff_core import journal
from napari_lsegdiff._objects import Origin
from napari_lsegdiff._jobs import Refined
from napari_lsegdiff._session import Session

_initialize_plugins()
folder, picture, end = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
viewer = ViewerModel()
session = Session(viewer, journal=journal.Journal(folder))
(image,) = viewer.open(picture, plugin="napari") if Path(picture).exists() else viewer.open_sample(*picture.split())
mask = np.zeros(image.data.shape[:2], bool)
mask[10:30, 10:30] = True
provenance = {"classes": ["polyp"], "morphology": {"threshold": 0.5}}
assert session.write(Refined(session.job(image), mask, Origin(session.accept(session.job(image), None), provenance)))
layer = session.mask_layer(image)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def line(row, value):
    with layer.block_history():
        for column in range(5, 45, 5):
            layer.data_setitem((np.full(5, row), np.arange(column, column + 5)), value)

line(3, 2)
line(15, 0)
line(20, 4)
layer.undo()
np.savez(folder.parent / "expected.npz", labels=layer.data, locked=session.strokes(session.job(image)))
if end == "stroke":
    with layer.block_history():
        layer.data_setitem((np.full(9, 35), np.arange(9)), 3)
        die()
elif end == "write":
    def half(file, record):
        whole = json.dumps(record).encode()
        file.write(whole[: len(whole) // 2])
        die()
    journal.write_line = half
    line(36, 3)
else:
    session._masks._autosave._journal._limit = 0
    journal.write_atomically.__globals__["_rename"] = lambda *_: die()
    layer.redo()
"""


def killed(folder: Path, picture: str, end: str) -> list[Recovered]:
    """What a session on ``picture``, a path or the two words of a sample, leaves when it is killed."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), picture, end], capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    (path,) = crashed(folder)
    return read_journal(path)


@can_kill
@pytest.mark.parametrize("end", ["stroke", "write", "rewriting"])
def test_kill_and_restore(end: str, tmp_path: Path, picture: Path, session: Session) -> None:
    recovered = killed(tmp_path / "journal", str(picture), end)
    expected = np.load(tmp_path / "expected.npz")
    assert expected["labels"].max() == 2
    if end == "rewriting":  # the redo was written, only the rewriting was not ended
        expected = {name: values.copy() for name, values in expected.items()}
        for values in expected.values():
            values[20, 5:45] = 4

    assert recover(session._viewer, session, recovered) == "Restored 1 mask"
    (image,) = (layer for layer in session._viewer.layers if isinstance(layer, Image))
    assert image.source.path == str(picture)
    labels = session.mask_layer(image)
    np.testing.assert_array_equal(labels.data, expected["labels"])
    np.testing.assert_array_equal(session.strokes(session.job(image)), expected["locked"])
    known = session.provenance(image, ())
    assert known["morphology"] == {"threshold": 0.5}
    assert known["edited"] is True
    assert session.run(session.job(image)) is None
    # it was there before: undo has nothing to take back
    labels.undo()
    np.testing.assert_array_equal(labels.data, expected["labels"])
    # and the strokes hold against the model
    write(session, image, np.ones(SHAPE, bool))
    locked = expected["locked"]
    np.testing.assert_array_equal(labels.data[locked != UNLOCKED], locked[locked != UNLOCKED])


@can_kill
def test_kill_and_restore_a_sample(tmp_path: Path, session: Session) -> None:
    recovered = killed(tmp_path / "journal", " ".join(SAMPLE), "stroke")
    expected = np.load(tmp_path / "expected.npz")
    viewer = session._viewer
    for _ in range(2):
        assert recover(viewer, session, recovered) == "Restored 1 mask"
        image, labels = viewer.layers
        np.testing.assert_array_equal(image.data, synthetic_polyp()[0][0])
        assert image.source.sample == SAMPLE
        assert session.mask_layer(image) is labels
        np.testing.assert_array_equal(labels.data, expected["labels"])
        np.testing.assert_array_equal(session.strokes(session.job(image)), expected["locked"])


# within one process


def test_undo_redo_and_the_models_writes_are_followed(recorded: Session, opened: Image, journal: Journal) -> None:
    write(recorded, opened, disc(8))
    layer = recorded.mask_layer(opened)

    def check() -> None:
        labels, job = layer.data, recorded.job(opened)
        found = read_journal(journal.path)
        if not labels.any() and not found:
            return
        np.testing.assert_array_equal(found[0].labels, labels)
        locked = recorded.strokes(job)
        if found[0].locked is None:
            assert locked is None or (locked == UNLOCKED).all()
        else:
            np.testing.assert_array_equal(found[0].locked, locked)

    check()
    stroke(layer, (), disc(3, (5, 5)), 2)
    check()
    for radius in (9, 10, 11):
        write(recorded, opened, disc(radius), merge=1)
        check()
    for _ in range(4):
        layer.undo()
        check()
    for _ in range(4):
        layer.redo()
        check()
    assert recorded.forget_strokes(recorded.job(opened))
    check()
    layer.undo()
    check()
    assert recorded.split(recorded.job(opened)) == 1
    check()


def test_property_any_history_reads_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random strokes, fills, undos, redos, model writes, splits and changes of type, on the frames of a stack."""
    for seed in range(12):
        generator = np.random.default_rng(seed)
        journal = Journal(tmp_path / str(seed))
        journal._limit = 10**9 if seed % 2 else 3000
        monkeypatch.setattr("lsegdiff_core.journal.LIMIT", journal._limit)
        viewer = ViewerModel()
        session = Session(viewer, journal=journal)
        image = viewer.add_image(np.zeros((3, *SHAPE), np.uint8), name="film")
        for _ in range(60):
            viewer.dims.set_point(0, int(generator.integers(3)))
            job, layer = session.job(image), session.mask_layer(image)
            mask = disc(generator.uniform(1, 12), tuple(generator.uniform(0, 50, 2)))
            number = int(generator.integers(0, 5))
            kind = int(generator.integers(9))
            if layer is None or kind < 2:
                write(session, image, mask, max(1, number), merge=[None, 7][kind % 2])
            elif kind < 4:
                stroke(layer, job.frame, mask, number)
            elif kind == 4:
                layer.undo()
            elif kind == 5:
                layer.redo()
            elif kind == 6:
                layer.selected_label = max(1, number)
                session.split(session.job(image))
            elif kind == 7:
                session.forget_strokes(job)
            elif layer.data.dtype == np.uint8 and generator.integers(4) == 0:
                layer.data = layer.data.astype(np.int32)
        log = session._masks.log(image)
        found = {state.frame: state for state in read_journal(journal.path)}
        for frame in log._frames:
            known = found.pop(frame, None)
            labels = np.zeros(SHAPE, int) if known is None else known.labels
            np.testing.assert_array_equal(labels, log._frames[frame].seen)
            np.testing.assert_array_equal(labels, layer.data[frame])
            locked = log.locked(frame)
            if known is None or known.locked is None:
                assert locked is None or (locked == UNLOCKED).all()
            else:
                np.testing.assert_array_equal(known.locked, locked)
            if known is not None:
                assert known.origins == {number: origin.provenance for number, origin in log.origins(frame).items()}
                rows = layer.features.to_dict("records")
                assert known.objects == [row for row in rows if row["index"]]
        assert not found

        # and the next session has it all
        expected = layer.data.copy()
        path = die(journal)
        other = ViewerModel()
        again = Session(other)
        other.add_image(np.zeros((3, *SHAPE), np.uint8), name="film")
        recover(other, again, read_journal(path))
        restored = again.mask_layer(other.layers["film"])
        assert (restored is None) == (not expected.any())
        assert restored is None or np.array_equal(restored.data, expected)
        session.close()
        again.close()


def test_restoring_is_the_same_again_and_after_another_crash(
    recorded: Session, opened: Image, journal: Journal, tmp_path: Path
) -> None:
    write(recorded, opened, disc(8))
    layer = recorded.mask_layer(opened)
    stroke(layer, (), disc(3, (5, 5)), 2)
    layer.features = {**layer.features.to_dict("list"), "name": ["background", "the flat one", "other"]}
    expected = state(recorded, opened)
    path = die(journal)
    for _ in range(2):
        viewer, second = ViewerModel(), Journal(tmp_path / "second")
        session = Session(viewer, journal=second)
        for _ in range(2):
            assert recover(viewer, session, read_journal(path)) == "Restored 1 mask"
            assert len(viewer.layers) == 2
            assert state(session, viewer.layers["polyp"]) == expected
        path = die(second)


def test_stack_with_large_ids_lies_on_its_image(journal: Journal, recorded: Session, session: Session) -> None:
    place = {"scale": (2.5, 1, 2), "translate": (3, 4, 5), "name": "film"}
    image = recorded._viewer.add_image(np.zeros((3, *SHAPE), np.uint8), **place)
    recorded.adopt(image, (2,), disc(5).astype(np.uint8))
    large = disc(5) * np.int64(70_000)
    recorded.adopt(image, (0,), large)
    layer = recorded.mask_layer(image)
    assert layer.data.dtype == np.uint32
    np.testing.assert_array_equal(layer.data[0], large)
    assert not layer.data[1].any()
    layer.undo()
    np.testing.assert_array_equal(layer.data[2], disc(5))

    other = session._viewer.add_image(np.zeros((3, *SHAPE), np.uint8), **place)
    assert recover(session._viewer, session, read_journal(journal.path)) == "Restored 2 masks"
    restored = session.mask_layer(other)
    np.testing.assert_array_equal(restored.data, layer.data)
    np.testing.assert_array_equal(restored.translate, image.translate)
    np.testing.assert_array_equal(restored.scale, image.scale)


def test_what_lies_there_by_now_comes_back_with_undo(session: Session, add_image: Callable[..., Image]) -> None:
    image = add_image(np.zeros(SHAPE, np.uint8))
    write(session, image, disc(8))
    layer = session.mask_layer(image)
    stroke(layer, (), disc(3, (5, 5)), 2)
    before = layer.data.copy()
    locked = np.where(disc(4), 1, UNLOCKED).astype(np.int32)
    session.adopt(image, (), disc(4).astype(np.uint8), locked, {1: {"classes": ["other"]}})
    np.testing.assert_array_equal(layer.data, disc(4))
    np.testing.assert_array_equal(session.strokes(session.job(image)), locked)
    layer.undo()
    np.testing.assert_array_equal(layer.data, before)
    np.testing.assert_array_equal(session.strokes(session.job(image)) == 2, disc(3, (5, 5)))
    assert session.provenance(image, ())["classes"] == ["polyp"]


def test_what_does_not_fit_is_refused(session: Session, add_image: Callable[..., Image]) -> None:
    image = add_image(np.zeros(SHAPE, np.uint8), name="a")
    fine = np.zeros(SHAPE, np.uint8)
    with pytest.raises(LSegDiffError, match="a: is 40 x 50 pixels, the mask 50 x 40"):
        session.adopt(image, (), fine.T)
    with pytest.raises(LSegDiffError, match="the mask 4 x 5"):
        session.adopt(image, (), fine, np.zeros((4, 5), np.int32))
    with pytest.raises(LSegDiffError, match="no frame"):
        session.adopt(image, (0,), fine)
    assert session.mask_layer(image) is None
    session.adopt(image, (), fine)
    with session.mask_layer(image).block_history(), pytest.raises(LSegDiffError, match="end the stroke"):
        session.adopt(image, (), disc(3).astype(np.uint8))
    session._viewer.layers.remove(image)
    with pytest.raises(LSegDiffError, match="removed"):
        session.adopt(image, (), fine)


def test_provenance_of_another_version_is_no_error(session: Session, add_image: Callable[..., Image]) -> None:
    image = add_image(np.zeros(SHAPE, np.uint8))
    session.adopt(image, (), disc(3).astype(np.uint8), origins={1: {"morphology": {"sharpen": 3}}})
    assert session.morphology(session.job(image)) is None
    session.adopt(image, (), disc(3).astype(np.uint8), origins={1: {"morphology": {"threshold": 0.25}}})
    assert session.morphology(session.job(image)) == MorphologyConfig(threshold=0.25)


def test_a_mask_is_forgotten_with_its_layer_and_not_with_its_image(
    recorded: Session, opened: Image, journal: Journal
) -> None:
    write(recorded, opened, disc(8))
    layer = recorded.mask_layer(opened)
    recorded._viewer.layers.remove(opened)
    assert len(read_journal(journal.path)) == 1
    recorded._viewer.layers.remove(layer)
    assert read_journal(journal.path) == []


def test_closing_lets_go_of_the_layers(recorded: Session, opened: Image) -> None:
    write(recorded, opened, disc(8))
    layer = recorded.mask_layer(opened)
    recorded.close()
    assert not any("_autosave" in str(callback) for callback in layer.events.features.callbacks)


# which image


@pytest.fixture
def lost(recorded: Session, opened: Image, journal: Journal) -> list[Recovered]:
    """The mask of an image from a file, and a stroke."""
    write(recorded, opened, disc(8))
    stroke(recorded.mask_layer(opened), (), disc(3, (5, 5)), 2)
    return read_journal(journal.path)


def test_an_image_that_is_open_is_taken_whatever_its_name(
    session: Session, lost: list[Recovered], picture: Path
) -> None:
    viewer = session._viewer
    other = viewer.add_image(np.zeros(SHAPE, np.uint8), name="polyp")
    (image,) = viewer.open(str(picture), plugin="napari", name="renamed")
    recover(viewer, session, lost)
    assert session.mask_layer(image) is not None
    assert session.mask_layer(other) is None
    assert len(viewer.layers) == 3


def test_an_image_of_the_same_name_does_not_replace_a_file_that_is_there(
    session: Session, lost: list[Recovered], picture: Path
) -> None:
    other = session._viewer.add_image(np.zeros(SHAPE, np.uint8), name="polyp")
    recover(session._viewer, session, lost)
    assert session.mask_layer(other) is None
    assert session._viewer.layers[1].source.path == str(picture)


def test_a_moved_file_is_found_by_name_and_size(session: Session, lost: list[Recovered], picture: Path) -> None:
    viewer = session._viewer
    moved = picture.rename(picture.parent.parent / "polyp.png")
    viewer.add_image(np.zeros((9, 9), np.uint8), name="polyp")
    (image,) = viewer.open(str(moved), plugin="napari", name="polyp")
    image.name, viewer.layers[0].name = "x", "y"
    image.name = "polyp"
    assert recover(viewer, session, lost) == "Restored 1 mask"
    assert session.mask_layer(image) is not None


@pytest.fixture
def lost_sample(recorded: Session, journal: Journal) -> list[Recovered]:
    """The mask of a sample, whose layer was given another name."""
    (image,) = recorded._viewer.open_sample(*SAMPLE)
    image.name = "mine"
    write(recorded, image, np.ones(image.data.shape[:2], bool))
    return read_journal(journal.path)


def test_a_sample_that_is_open_is_taken_whatever_its_name(session: Session, lost_sample: list[Recovered]) -> None:
    viewer = session._viewer
    viewer.open_sample(*SAMPLE)
    for _ in range(2):
        assert recover(viewer, session, lost_sample) == "Restored 1 mask"
        assert [layer.name for layer in viewer.layers] == [NAME, f"{NAME} mask"]


@pytest.mark.parametrize(
    ("change", "why"),
    [({"sample": ("no-plugin", "polyp")}, "sample polyp cannot be opened"), ({"sample": None}, "was no file")],
)
def test_a_sample_that_cannot_be_had_is_said(
    session: Session, lost_sample: list[Recovered], change: dict[str, object], why: str
) -> None:
    lost = [replace(state, image=replace(state.image, **change)) for state in lost_sample]
    assert recover(session._viewer, session, lost).endswith(f"without an image: mine ({why})")
    assert [layer.name for layer in session._viewer.layers] == ["mine mask"]


@pytest.mark.parametrize("why", ["is gone", "cannot be opened", "has another size now"])
def test_a_mask_without_its_image_is_a_layer_of_its_own(
    why: str, lost: list[Recovered], picture: Path, tmp_path: Path
) -> None:
    if why == "is gone":
        picture.unlink()
    elif why == "cannot be opened":
        lost = [replace(state, image=replace(state.image, reader="a plugin that is gone")) for state in lost]
    else:
        iio.imwrite(picture, np.zeros((7, 8, 3), np.uint8))
    viewer, journal = ViewerModel(), Journal(tmp_path / "second")
    session = Session(viewer, journal=journal)
    for _ in range(2):
        said = recover(viewer, session, lost)
        assert said.startswith("Restored 1 mask; as layers of their own, without an image: polyp (")
        assert str(picture) in said
        assert why in said
        (layer,) = viewer.layers
        assert layer.name == "polyp mask"
        np.testing.assert_array_equal(layer.data, lost[0].labels)
        assert layer.metadata[METADATA][()]["morphology"] == {"threshold": 0.5}
        assert layer.features["class"].tolist() == ["none", "polyp", "polyp"]
    # another crash does not lose it either, nor its strokes
    (again,) = read_journal(journal.path)
    np.testing.assert_array_equal(again.locked, lost[0].locked)
    assert (again.image.path, again.objects) == (str(picture), lost[0].objects)
    viewer.layers.remove(layer)
    assert read_journal(journal.path) == []
    journal.close()


def test_a_file_opened_twice_has_two_masks(
    recorded: Session, opened: Image, journal: Journal, picture: Path, session: Session
) -> None:
    (second,) = recorded._viewer.open(str(picture), plugin="napari")
    write(recorded, opened, disc(8))
    write(recorded, second, disc(4))
    recover(session._viewer, session, read_journal(journal.path))
    images = [layer for layer in session._viewer.layers if isinstance(layer, Image)]
    assert [image.name for image in images] == [opened.name, second.name]
    for image, radius in zip(images, (8, 4), strict=True):
        np.testing.assert_array_equal(session.mask_layer(image).data, disc(radius))


def test_two_crashes_with_one_image_give_one_layer_and_the_later_mask(
    recorded: Session, opened: Image, journal: Journal, picture: Path, tmp_path: Path, session: Session
) -> None:
    write(recorded, opened, disc(8))
    later = Journal(tmp_path / "later")
    another = Session(ViewerModel(), journal=later)
    another._viewer.add_image(np.zeros(SHAPE, np.uint8), name="first")
    write(another, another._viewer.layers[0], disc(2))
    (image,) = another._viewer.open(str(picture), plugin="napari")
    write(another, image, disc(4))
    recovered = read_journal(journal.path) + read_journal(later.path)
    recover(session._viewer, session, recovered)
    images = [layer for layer in session._viewer.layers if isinstance(layer, Image)]
    assert [image.name for image in images] == ["polyp"]
    np.testing.assert_array_equal(session.mask_layer(images[0]).data, disc(4))
    later.close()


# the bar


@pytest.fixture
def bar(qtbot: object) -> RecoveryBar:
    widget = RecoveryBar()
    qtbot.addWidget(widget)
    return widget


@pytest.fixture
def said(bar: RecoveryBar, journal: Journal, tmp_path: Path) -> Iterator[tuple[Recovery, list[str], Session]]:
    """The bar at work in a new session that has a journal of its own in the same folder."""
    own = Journal(tmp_path / "journal")
    session = Session(ViewerModel(), journal=own)
    recovery = Recovery(session._viewer, session, bar, tmp_path / "journal")
    sentences: list[str] = []
    recovery.said.connect(sentences.append)
    yield recovery, sentences, session
    own.close()


def test_bar_restores(bar: RecoveryBar, said, lost: list[Recovered], journal: Journal) -> None:
    recovery, sentences, session = said
    recovery.look()
    assert bar.isHidden(), "the other session lives"
    path = die(journal)
    recovery.look()
    assert not bar.isHidden()
    assert bar.label.text().startswith("LSegDiff ended before all was saved: 1 mask from ")
    bar.restore_button.click()
    assert sentences == ["Restored 1 mask"]
    assert bar.isHidden()
    assert not path.exists()
    np.testing.assert_array_equal(session.mask_layer(session._viewer.layers["polyp"]).data, lost[0].labels)


def test_bar_waits_and_discards(
    bar: RecoveryBar, said, lost: list[Recovered], journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    recovery, sentences, session = said
    path = die(journal)
    recovery.look()
    bar.later_button.click()
    assert bar.isHidden()
    assert path.exists()
    recovery.look()
    monkeypatch.setattr(QMessageBox, "question", lambda *_: QMessageBox.StandardButton.No)
    bar.discard_button.click()
    assert path.exists()
    monkeypatch.setattr(QMessageBox, "question", lambda *_: QMessageBox.StandardButton.Yes)
    bar.discard_button.click()
    assert bar.isHidden()
    assert not path.exists()
    assert not sentences
    assert not session._viewer.layers


def test_a_journal_without_masks_goes_by_itself(bar: RecoveryBar, said, journal: Journal) -> None:
    recovery, _, _ = said
    image = ViewerModel().add_image(np.zeros(SHAPE, np.uint8))
    MaskLog(Labels(np.zeros(SHAPE, np.uint8)), lambda: ()).close()
    session = Session(ViewerModel(), journal=journal)
    session._viewer.layers.append(image)
    write(session, image, disc(3))
    session._viewer.layers.remove(session.mask_layer(image))
    path = die(journal)
    recovery.look()
    assert bar.isHidden()
    assert not path.exists()


def test_without_a_journal_of_its_own_the_old_one_stays(
    bar: RecoveryBar, said, lost: list[Recovered], journal: Journal
) -> None:
    recovery, sentences, session = said
    session._masks._autosave._journal.close()
    path = die(journal)
    recovery.look()
    bar.restore_button.click()
    assert sentences == ["Restored 1 mask"]
    assert path.exists()
    assert bar.isHidden()


def test_restoring_during_a_stroke_can_be_done_again(
    bar: RecoveryBar, said, lost: list[Recovered], journal: Journal, picture: Path
) -> None:
    recovery, sentences, session = said
    (image,) = session._viewer.open(str(picture), plugin="napari")
    write(session, image, disc(2))
    path = die(journal)
    recovery.look()
    with session.mask_layer(image).block_history():
        bar.restore_button.click()
    assert "end the stroke first" in sentences[-1]
    assert path.exists()
    bar.restore_button.click()
    assert sentences[-1] == "Restored 1 mask"
    np.testing.assert_array_equal(session.mask_layer(image).data, lost[0].labels)
