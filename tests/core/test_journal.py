"""What the journal promises: nothing that was written is lost, whatever ended the session."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lsegdiff_core import files, journal
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.journal import Journal, crashed, default_folder, discard, read_journal
from lsegdiff_core.journal_format import NO_STROKE, ImageId, Recovered, Values, change

IMAGE = ImageId(1, "polyp", "/data/polyp.png", "napari", (20, 30))
STACK = ImageId(2, "film", None, None, (3, 20, 30))
ROWS = [{"index": 1, "class": "polyp", "name": "the flat one", "colour": "#00e5ff"}]
MADE = {1: {"bundle": {"name": "polyp"}, "morphology": {"threshold": 0.5}}}


def rectangle(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    labels = np.zeros((20, 30), np.uint8)
    labels[top:bottom, left:right] = 1
    return labels


def painted(rows: slice, columns: slice, value: int) -> Values:
    inside = np.zeros((20, 30), bool)
    inside[rows, columns] = True
    where = np.flatnonzero(inside)
    return Values(where.astype(np.uint32), np.full(where.size, value, np.uint8))


def die(book: Journal) -> Path:
    """End without closing, as a crash does: the system frees the lock and keeps what was written."""
    assert book._file is not None
    assert book._lock is not None
    book._file.close()
    book._lock.release()
    return book.path


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Journal]:
    """A journal of a mask that a model made, and a stroke on it."""
    book = Journal(tmp_path / "journal")
    book.record(IMAGE, (), Values.of(rectangle(3, 4, 9, 20), 0), origins=MADE)
    book.record_objects(IMAGE, ROWS)
    stroke = painted(slice(8, 12), slice(2, 7), 2)
    book.record(IMAGE, (), stroke, stroke)
    yield book
    book.close()


def expected() -> tuple[np.ndarray, np.ndarray]:
    labels, locked = rectangle(3, 4, 9, 20), np.full((20, 30), NO_STROKE, np.int32)
    labels[8:12, 2:7] = locked[8:12, 2:7] = 2
    return labels, locked


def same(one: Recovered, other: Recovered) -> bool:
    return (one.image, one.frame, one.origins, one.objects, one.time) == (
        (other.image, other.frame, other.origins, other.objects, other.time)
    ) and all(np.array_equal(a, b) for a, b in ((one.labels, other.labels), (one.locked, other.locked)))


def test_round_trip(book: Journal) -> None:
    (state,) = read_journal(die(book))
    labels, locked = expected()
    assert (state.image, state.frame, state.origins, state.objects) == (IMAGE, (), MADE, ROWS)
    np.testing.assert_array_equal(state.labels, labels)
    np.testing.assert_array_equal(state.locked, locked)
    assert (state.labels.dtype, state.locked.dtype) == (np.uint8, np.int32)


def test_sample_comes_back_and_older_journals_know_none(tmp_path: Path) -> None:
    book = Journal(tmp_path)
    sample = replace(IMAGE, path=None, reader=None, sample=("plugin", "polyp"))
    book.record(sample, (), painted(slice(0, 2), slice(0, 2), 1))
    path = die(book)
    (state,) = read_journal(path)
    assert state.image == sample
    header, line = path.read_text(encoding="utf-8").splitlines()
    record = json.loads(line)
    del record["image"]["sample"]
    header = header.replace("2", "1")
    path.write_text(f"{header}\n{json.dumps(record)}\n", encoding="utf-8")
    assert crashed(tmp_path) == [path]
    (older,) = read_journal(path)
    assert older.image == replace(sample, sample=None)
    np.testing.assert_array_equal(older.labels, state.labels)


def test_large_ids_frames_and_masks_that_were_taken_back(tmp_path: Path) -> None:
    book = Journal(tmp_path)
    where = np.arange(5)
    book.record(STACK, (2,), Values(where, np.array([300, 300, 70_000, 1, 1])))
    book.record(STACK, (0,), Values(where, np.ones(5, np.uint8)), Values(where, np.ones(5, np.int32)))
    book.record(STACK, (0,), Values(where, np.zeros(5, np.uint8)), Values(where, np.full(5, NO_STROKE)))
    book.record(IMAGE, (), Values(where, np.array([4, 0, 4, 0, 4])))
    film, polyp = read_journal(die(book))
    assert (film.frame, film.labels.dtype, film.locked) == ((2,), np.uint32, None)
    assert film.labels[0, :6].tolist() == [300, 300, 70_000, 1, 1, 0]
    assert (polyp.image, polyp.labels[0, :6].tolist()) == (IMAGE, [4, 0, 4, 0, 4, 0])


def test_an_erased_frame_is_no_empty_one(tmp_path: Path) -> None:
    book = Journal(tmp_path)
    where = np.arange(5)
    book.record(IMAGE, (), locks=Values(where, np.zeros(5, np.int32)))
    (state,) = read_journal(die(book))
    assert not state.labels.any()
    assert (state.locked == 0).sum() == 5


def test_a_removed_mask_is_forgotten_and_may_come_again(book: Journal) -> None:
    book.record(STACK, (1,), painted(slice(0, 2), slice(0, 2), 1))
    book.forget(IMAGE)
    assert [state.image for state in read_journal(book.path)] == [STACK]
    book.record(IMAGE, (), painted(slice(0, 1), slice(0, 1), 5))
    state = read_journal(die(book))[-1]
    assert (state.labels.sum(), state.locked, state.origins, state.objects) == (5, None, {}, [])


def test_no_file_before_the_first_record_and_none_after_the_end(tmp_path: Path) -> None:
    book = Journal(tmp_path / "journal")
    book.forget(IMAGE)
    assert not (tmp_path / "journal").exists()
    book.record_objects(IMAGE, ROWS)
    assert book.path.is_file()
    assert book.recording
    book.close()
    assert not list((tmp_path / "journal").iterdir())
    book.record_objects(IMAGE, ROWS)
    book.close()
    assert not list((tmp_path / "journal").iterdir())
    assert not book.recording


def test_last_record_torn_at_every_byte(book: Journal) -> None:
    whole = die(book).read_bytes()
    start = whole.rstrip().rindex(b"\n") + 1
    before = rectangle(3, 4, 9, 20)
    after, locked = expected()
    for end in range(start, len(whole) + 1):
        book.path.write_bytes(whole[:end])
        (state,) = read_journal(book.path)
        complete = end >= len(whole) - 1  # the line's end says nothing of its own
        np.testing.assert_array_equal(state.labels, after if complete else before)
        assert (state.locked is not None) == complete
        assert not complete or np.array_equal(state.locked, locked)


def test_a_broken_line_in_the_middle_ends_reading_there(book: Journal) -> None:
    book.record(IMAGE, (), painted(slice(15, 17), slice(0, 5), 3))
    lines = die(book).read_bytes().splitlines()
    where = np.arange(3)
    outside = Values(where + 599, where + 1)
    image = {"number": 1, "name": "polyp", "path": None, "reader": None, "shape": [20, 30]}
    broken = [
        b"\x00" * 50,
        b"[]",
        b"3",
        b"[" * 100_000,
        b'{"image":{}}',
        lines[3][:-30] + b"AAAA" + lines[3][-26:],
        json.dumps(change(IMAGE, (), outside, None, None, 0)).encode(),
        json.dumps({"image": image, "frame": [1], "time": 0}).encode(),
        json.dumps({"image": image, "frame": [], "time": None}).encode(),
        json.dumps({"image": image, "frame": [], "time": 0, "pixels": "AAAA"}).encode(),
    ]
    for line in broken:
        book.path.write_bytes(b"\n".join([*lines[:3], line, *lines[4:]]))
        (state,) = read_journal(book.path)
        np.testing.assert_array_equal(state.labels, rectangle(3, 4, 9, 20))
        assert state.locked is None


def test_compaction_keeps_every_state_and_the_size_is_bounded(
    book: Journal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(journal, "LIMIT", 20_000)
    book._limit = 20_000
    twin = Journal(tmp_path / "twin")
    twin._limit = 10**9
    for other in read_journal(book.path):
        locks = Values.of(other.locked)
        twin.record(IMAGE, (), Values.of(other.labels, 0), locks, MADE)
        twin.record_objects(IMAGE, ROWS)
    # the model found nothing here: how it was asked must outlive a compaction all the same
    for both in (book, twin):
        both.record(STACK, (0,), origins=MADE)
    generator = np.random.default_rng(0)
    sizes = []
    for step in range(300):
        where = np.sort(generator.choice(600, 200, replace=False))
        values = Values(where, generator.integers(0, 4, 200))
        for both in (book, twin):
            both.record(IMAGE if step % 3 else STACK, () if step % 3 else (1,), values, values)
        sizes.append(book.path.stat().st_size)
    for both in (book, twin):
        both.record(STACK, (0,), Values(np.arange(3), np.ones(3, np.uint8)))
    assert max(sizes) < 25_000
    assert twin.path.stat().st_size > 100_000
    states, others = read_journal(book.path), read_journal(twin.path)
    assert len(states) == len(others) == 3
    for state, other in zip(states, others, strict=True):
        assert same(state, Recovered(**{**vars(other), "time": state.time}))
    assert states[-1].origins == MADE
    twin.close()
    # the file is still the living session's
    assert crashed(book.path.parent) == []
    assert crashed(die(book).parent) == [book.path]


def test_compaction_that_fails_loses_nothing(book: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    book._limit = 0
    monkeypatch.setattr(files, "_rename", refuse)
    stroke = painted(slice(15, 17), slice(0, 5), 3)
    book.record(IMAGE, (), stroke, stroke)
    book.record(IMAGE, (), origins={})
    assert book.recording
    (state,) = read_journal(die(book))
    assert (state.labels == 3).sum() == 10
    assert state.origins == {}
    assert [path.suffix for path in sorted(book.path.parent.iterdir())] == [".journal", ".lock"]


def test_the_rest_of_a_compaction_that_was_killed_is_no_journal_and_goes_with_it(book: Journal) -> None:
    rest = book.path.with_name(f".{book.path.stem}-abc{book.path.suffix}")
    rest.write_bytes(die(book).read_bytes()[:-20])
    assert crashed(rest.parent) == [book.path]
    discard(book.path)
    assert not list(rest.parent.iterdir())


def test_a_living_owners_journal_is_neither_listed_nor_discarded(book: Journal) -> None:
    folder = book.path.parent
    assert crashed(folder) == []
    with pytest.raises(LSegDiffError, match="in use by another window"):
        discard(book.path)
    assert len(read_journal(book.path)) == 1
    die(book)
    assert crashed(folder) == [book.path]
    assert crashed(folder) == [book.path]
    discard(book.path)
    assert crashed(folder) == []
    assert not list(folder.iterdir())


def test_a_journal_that_is_kept_is_listed_as_after_a_crash(book: Journal) -> None:
    book.close(keep=True)
    assert not book.recording
    assert crashed(book.path.parent) == [book.path]
    assert len(read_journal(book.path)) == 1
    discard(book.path)
    assert not list(book.path.parent.iterdir())


LIVE = """
import sys
from pathlib import Path
import numpy as np
from lsegdiff_core.journal import Journal
from lsegdiff_core.journal_format import ImageId, Values
book = Journal(Path(sys.argv[1]))
book.record(ImageId(1, "theirs", None, None, (20, 30)), (), Values(np.arange(7), np.ones(7, np.uint8)))
print(book.path, flush=True)
sys.stdin.readline()
"""


def test_two_sessions_at_once_and_one_is_killed(book: Journal) -> None:
    folder = book.path.parent
    with subprocess.Popen(
        [sys.executable, "-c", LIVE, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        assert theirs.parent == folder
        assert theirs != book.path
        assert crashed(folder) == []
        with pytest.raises(LSegDiffError, match="in use"):
            discard(theirs)
        other.kill()
        other.wait()
    assert crashed(folder) == [theirs]
    (state,) = read_journal(theirs)
    assert (state.image.name, state.labels.sum()) == ("theirs", 7)
    book.close()
    assert crashed(folder) == [theirs]


def test_nonsense_in_the_folder(tmp_path: Path, book: Journal) -> None:
    folder = book.path.parent
    (folder / "notes.txt").write_text("not mine")
    (folder / "empty.journal").touch()
    (folder / "noise.journal").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "newer.journal").write_text('{"lsegdiff-journal":3}\n{}\n')
    (folder / "list.journal").write_text("[1]\n")
    (folder / "folder.journal").mkdir()
    before = {path.name for path in folder.iterdir()}
    assert crashed(folder) == []
    assert crashed(tmp_path / "none") == []
    assert crashed(folder / "notes.txt") == []
    assert {path.name for path in folder.iterdir()} == before
    for name in ("empty", "noise", "newer", "list"):
        assert read_journal(folder / f"{name}.journal") == []
    for name in ("folder", "missing"):
        with pytest.raises(LSegDiffError, match=f"{name}.journal: cannot be read"):
            read_journal(folder / f"{name}.journal")
    assert crashed(die(book).parent) == [book.path]


class FullDisk:
    """A file that takes ``room`` more bytes."""

    def __init__(self, file: object, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data: memoryview) -> int:
        if not self.room:
            raise OSError(28, "No space left on device")
        written = self.file.write(data[: self.room])
        self.room -= written
        return written

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)


@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_full_disk_is_said_once_and_what_was_written_holds(book: Journal, room: int) -> None:
    said: list[LSegDiffError] = []
    book._failed = said.append
    book._file = FullDisk(book._file, room)
    stroke = painted(slice(15, 17), slice(0, 5), 3)
    for _ in range(3):
        book.record(IMAGE, (), stroke, stroke)
        book.record_objects(IMAGE, ROWS)
        book.forget(IMAGE)
    assert len(said) == 1
    assert "autosave has stopped (No space left on device)" in str(said[0])
    assert "\n" not in str(said[0])
    assert not book.recording
    (state,) = read_journal(book.path)
    np.testing.assert_array_equal(state.labels, expected()[0])
    book.close()
    assert not list(book.path.parent.iterdir())


def test_a_folder_that_cannot_be_made_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said: list[LSegDiffError] = []
    book = Journal(tmp_path / "file" / "journal", said.append)
    book.record(IMAGE, (), origins={})
    book.record(IMAGE, (), origins={})
    book.close()
    assert len(said) == 1
    assert str(said[0]).startswith(f"{tmp_path / 'file' / 'journal'}: autosave has stopped")


def test_a_system_without_locks_is_said_and_lists_nothing(book: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    import filelock

    die(book)

    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("no flock here")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    assert crashed(book.path.parent) == []
    said: list[LSegDiffError] = []
    Journal(book.path.parent, said.append).record(IMAGE, (), origins={})
    assert "no flock here" in str(said[0])


def test_default_folder_is_the_users_own() -> None:
    folder = default_folder()
    assert folder.is_absolute()
    assert (folder.name, folder.parent.name) == ("journal", "lsegdiff")
