"""A journal of every edit of every mask, so that a crash loses nothing.

A session writes one file, one JSON line a change, each handed to the system at once: a killed process loses no line
that was written. A frame starts out empty and without strokes; each line says which pixels and strokes took which
values. A lock beside the file is free as soon as its owner is dead, however it died.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.files import write_atomically

if TYPE_CHECKING:
    from filelock import BaseFileLock

SUFFIX = ".journal"
VERSION = 1
HEADER = {"lsegdiff-journal": VERSION}
# Bytes beyond which a journal is rewritten without what later lines have overtaken.
LIMIT = 2 * 1024**2
# What stands in ``locked`` where the user has not drawn.
NO_STROKE = -1

Frame = tuple[int, ...]


@dataclass(frozen=True)
class ImageId:
    """Which image a mask belongs to.

    Attributes
    ----------
    number
        Tells the images of one journal apart.
    name
        Of its layer.
    path
        Of the file that it was opened from, None without one.
    reader
        What opened the file; None if unknown.
    shape
        Leading frame axes, height and width; no colour axis.
    """

    number: int
    name: str
    path: str | None
    reader: str | None
    shape: tuple[int, ...]


class Values(NamedTuple):
    """Which pixels of a frame, as increasing flat indices (N,), took which values (N,), both of integers."""

    where: NDArray[np.integer]
    values: NDArray[np.integer]

    @classmethod
    def of(cls, array: NDArray[np.integer], empty: int = NO_STROKE) -> Values:
        """Return all of ``array`` (H, W) that is not ``empty``."""
        where = np.flatnonzero(array != empty)
        return cls(where, array.reshape(-1)[where])


@dataclass(frozen=True)
class Recovered:
    """The last known state of one frame.

    Attributes
    ----------
    image
        Whose mask it is.
    frame
        Index into the leading axes of the image.
    labels
        (H, W) object ids, of the smallest type that holds them.
    locked
        (H, W) int32, the user's strokes: the id that was drawn, 0 for erased, `NO_STROKE` elsewhere; None without any.
    origins
        Provenance of each object that the model made, by id.
    objects
        Rows of the table of objects: ``index``, ``class``, ``name``, ``colour``.
    time
        Of the last change, POSIX seconds.
    """

    image: ImageId
    frame: Frame
    labels: NDArray[np.integer]
    locked: NDArray[np.int32] | None
    origins: dict[int, dict[str, Any]]
    objects: list[dict[str, Any]]
    time: float


class Journal:
    """Writes what happens to the masks of one session.

    Parameters
    ----------
    folder
        Where the file is made, with the folder itself, at the first record.
    failed
        Called once, with a one-line error, when the journal cannot be written; nothing is recorded from then on.
    """

    def __init__(self, folder: Path, failed: Callable[[LSegDiffError], object] = lambda error: None) -> None:
        self._folder, self._failed = folder, failed
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        self.path = folder / f"{stamp}-{secrets.token_hex(4)}{SUFFIX}"
        self._lock: BaseFileLock | None = None
        self._file: BinaryIO | None = None
        self._limit = LIMIT
        self._ended = False

    @property
    def recording(self) -> bool:
        """False once the journal was closed or could not be written."""
        return not self._ended

    def record(
        self,
        image: ImageId,
        frame: Frame,
        pixels: Values | None = None,
        locks: Values | None = None,
        origins: Mapping[int, Mapping[str, Any]] | None = None,
    ) -> None:
        """Write down a change of one frame; what is None stays as it was."""
        self._append(_change(image, frame, pixels, locks, origins, time.time()))

    def record_objects(self, image: ImageId, objects: Sequence[Mapping[str, Any]]) -> None:
        """Write down the image's whole table of objects."""
        self._append({"image": asdict(image), "objects": objects})

    def forget(self, image: ImageId) -> None:
        """Drop the image's masks: they were removed on purpose."""
        if self._file is not None:
            self._append({"image": asdict(image), "forget": True})

    def close(self) -> None:
        """End well: nothing needs to be restored, so the file goes."""
        self._ended = True
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._lock is not None:
            lock, self._lock = self._lock, None
            with suppress(OSError):  # what stays behind is offered once more, which is no harm
                self.path.unlink(missing_ok=True)
            lock.release()
            with suppress(OSError):
                _lock_path(self.path).unlink(missing_ok=True)

    def _append(self, record: Mapping[str, Any]) -> None:
        if self._ended:
            return
        try:
            if self._file is None:
                self._file = self._open()
            _write(self._file, record)
            if self._file.tell() > self._limit:
                self._compact()
        except (OSError, NotImplementedError) as error:  # filelock raises the latter where files have no locks
            self._ended = True
            reason = getattr(error, "strerror", None) or error
            self._failed(
                LSegDiffError(
                    f"{self._folder}: autosave has stopped ({reason}); save your masks, mend the folder and open the "
                    "dock again"
                )
            )

    def _open(self) -> BinaryIO:
        from filelock import FileLock

        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(_lock_path(self.path))
        self._lock.acquire(blocking=False)
        # without a buffer: what is written is safe from the death of this process
        file = self.path.open("xb", buffering=0)
        _write(file, HEADER)
        return file

    def _compact(self) -> None:
        """Rewrite the file with one line a frame; if that cannot be done, the long one holds all the same."""
        assert self._file is not None
        self._file.close()  # Windows replaces no open file

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                for record in (HEADER, *_compacted(self.path)):
                    _write(file, record)

        with suppress(LSegDiffError):
            write_atomically(self.path, write)
        self._file = self.path.open("ab", buffering=0)
        self._limit = max(LIMIT, 2 * self._file.tell())


def smallest_type(labels: NDArray[np.integer]) -> np.dtype[Any]:
    """Return the smallest integer type that holds all of ``labels``, unsigned if it can be."""
    return np.result_type(*(np.min_scalar_type(int(limit(initial=0))) for limit in (labels.min, labels.max)))


def default_folder() -> Path:
    """Return where the journals of this user lie: the system's place for an application's state."""
    import platformdirs

    return platformdirs.user_state_path("lsegdiff", appauthor=False) / "journal"


def crashed(folder: Path) -> list[Path]:
    """Return the journals whose session ended without closing them, the oldest first; [] without a folder."""
    # a name with a dot is the rest of a rewriting that was cut off
    paths = sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))
    found = []
    for path in paths:
        if _is_journal(path):
            with _held(path) as held:
                if held:
                    found.append(path)
    return found


def read_journal(path: Path) -> list[Recovered]:
    """Return the last known state of every frame that has a mask or strokes; the last changed one comes last.

    Reading ends where a line is torn or broken; what was written before it counts. A file that is no journal gives [].

    Raises
    ------
    LSegDiffError
        If the file cannot be read.
    """
    try:
        states = [history.state() for history in _read(path)]
    except OSError as error:
        raise LSegDiffError(f"{path}: cannot be read ({error.strerror}); its masks are not restored") from error
    return [state for state in states if state.labels.any() or state.locked is not None]


def discard(path: Path) -> None:
    """Remove a crashed session's journal.

    Raises
    ------
    LSegDiffError
        If its session is alive, or the system refuses to remove it.
    """
    with _held(path) as held:
        if not held:
            raise LSegDiffError(f"{path}: is in use by another window of LSegDiff; close that one first")
        try:
            for rest in path.parent.glob(f".{path.stem}-*{SUFFIX}"):
                rest.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        except OSError as error:
            raise LSegDiffError(f"{path}: cannot be removed ({error.strerror}); remove it by hand") from error
    _lock_path(path).unlink(missing_ok=True)


# the lock


def _lock_path(path: Path) -> Path:
    return path.with_suffix(".lock")


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Hold a journal's lock within; False if its owner lives, or nobody can tell."""
    from filelock import FileLock

    lock = FileLock(_lock_path(path))
    try:
        lock.acquire(blocking=False)
    except (OSError, NotImplementedError):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


# lines


def _write(file: BinaryIO, record: Mapping[str, Any]) -> None:
    rest = memoryview(json.dumps(record, separators=(",", ":"), default=str).encode() + b"\n")
    while rest:  # a disk that fills up takes a part
        rest = rest[file.write(rest) :]


def _change(
    image: ImageId,
    frame: Frame,
    pixels: Values | None,
    locks: Values | None,
    origins: Mapping[int, Mapping[str, Any]] | None,
    moment: float,
) -> dict[str, Any]:
    record: dict[str, Any] = {"image": asdict(image), "frame": frame, "time": moment}
    for name, values in (("pixels", pixels), ("locks", locks)):
        if values is not None:
            record[name] = _encode(values)
    if origins is not None:
        record["origins"] = origins
    return record


def _encode(values: Values) -> str:
    """Return base64 of zlib of runs (3, R) int32: start, length, value; a stroke's pixels lie in few runs."""
    where, what = values
    if not where.size:
        return ""
    starts = np.concatenate(([0], 1 + np.flatnonzero((where[1:] - where[:-1] != 1) | (what[1:] != what[:-1]))))
    lengths = np.diff(starts, append=where.size)
    runs = np.stack([where[starts].astype("<i4"), lengths.astype("<i4"), what[starts].astype("<i4")])
    return base64.b64encode(zlib.compress(runs.tobytes(), 1)).decode()


def _decode(text: str, size: int) -> NDArray[np.int32]:
    """Return the runs (3, R); ValueError if they do not fit ``size`` pixels."""
    content = zlib.decompress(base64.b64decode(text, validate=True)) if text else b""
    runs = np.frombuffer(content, "<i4").reshape(3, -1)
    starts, lengths, _ = runs.astype(np.int64)
    if ((starts < 0) | (lengths < 1) | (starts + lengths > size)).any():
        raise ValueError("runs outside the frame")
    return runs


def _paint(target: NDArray[np.int32], runs: NDArray[np.int32]) -> None:
    flat = target.reshape(-1)
    for start, length, value in runs.T.tolist():  # a list of all pixels takes ten times as long
        flat[start : start + length] = value


# reading


@dataclass
class _History:
    """What a journal says of one frame, in order; ``objects`` is the image's, one list for all frames."""

    image: ImageId
    frame: Frame
    objects: list[dict[str, Any]]
    pixels: list[NDArray[np.int32]] = field(default_factory=list)
    locks: list[NDArray[np.int32]] = field(default_factory=list)
    origins: dict[int, dict[str, Any]] = field(default_factory=dict)
    time: float = 0.0

    def state(self) -> Recovered:
        labels = np.zeros(self.image.shape[-2:], np.int32)
        for runs in self.pixels:
            _paint(labels, runs)
        locked = np.full(labels.shape, NO_STROKE, np.int32)
        for runs in self.locks:
            _paint(locked, runs)
        return Recovered(
            self.image,
            self.frame,
            labels.astype(smallest_type(labels)),
            locked if (locked != NO_STROKE).any() else None,
            self.origins,
            self.objects,
            self.time,
        )


def _read(path: Path) -> list[_History]:
    """Return the frames' histories, the last changed one last."""
    histories: dict[int, dict[Frame, _History]] = {}
    objects: dict[int, list[dict[str, Any]]] = {}
    with path.open("rb") as file:
        if not _is_header(file.readline(100)):
            return []
        for line in file:
            try:
                _follow(json.loads(line), histories, objects)
            except (ValueError, TypeError, LookupError, AttributeError, zlib.error):
                break  # torn by a crash, or broken since
    return sorted((history for frames in histories.values() for history in frames.values()), key=lambda h: h.time)


def _follow(
    record: dict[str, Any], histories: dict[int, dict[Frame, _History]], objects: dict[int, list[dict[str, Any]]]
) -> None:
    """Take in one line, or raise before anything has changed."""
    about = record["image"]
    image = ImageId(**{**about, "number": int(about["number"]), "shape": tuple(map(int, about["shape"]))})
    table = objects.setdefault(image.number, [])
    if "forget" in record:
        histories.pop(image.number, None)
        del objects[image.number]
    elif "objects" in record:
        table[:] = [dict(row) for row in record["objects"]]
    else:
        frame = tuple(map(int, record["frame"]))
        *leading, height, width = image.shape
        if len(frame) != len(leading) or not all(0 <= i < n for i, n in zip(frame, leading, strict=True)):
            raise ValueError("no such frame")
        pixels = _decode(record.get("pixels", ""), height * width)
        locks = _decode(record.get("locks", ""), height * width)
        origins = {int(number): dict(origin) for number, origin in record.get("origins", {}).items()}
        moment = float(record["time"])
        frames = histories.setdefault(image.number, {})
        history = frames.setdefault(frame, _History(image, frame, table))
        history.image, history.time = image, moment
        history.pixels.append(pixels)
        history.locks.append(locks)
        if "origins" in record:
            history.origins = origins


def _compacted(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a journal that says the same in the fewest: one a frame, one a table of objects."""
    listed: set[int] = set()
    for history in _read(path):
        state = history.state()
        pixels = Values.of(state.labels, 0)
        locks = None if state.locked is None else Values.of(state.locked)
        yield _change(state.image, state.frame, pixels, locks, state.origins, state.time)
        if state.objects and state.image.number not in listed:
            listed.add(state.image.number)
            yield {"image": asdict(state.image), "objects": state.objects}


def _is_journal(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _is_header(file.readline(100))
    except OSError:
        return False


def _is_header(line: bytes) -> bool:
    try:
        return bool(json.loads(line) == HEADER)
    except ValueError:
        return False
