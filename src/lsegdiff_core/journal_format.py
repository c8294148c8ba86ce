"""What stands in a journal: lines of changes, and the masks that they lead to.

A frame starts out empty and without strokes; each line says which pixels and strokes took which values.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

VERSION = 2
HEADER = {"lsegdiff-journal": VERSION}
# 1 does not know samples; a program that knows only 1 lets journals of 2 alone
READABLE = [{"lsegdiff-journal": version} for version in (1, VERSION)]
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
    sample
        The plugin and the key of the sample that it was opened as; None for any other image.
    project
        Folder of the project that it is annotated in; None outside one.
    """

    number: int
    name: str
    path: str | None
    reader: str | None
    shape: tuple[int, ...]
    sample: tuple[str, str] | None = None
    project: str | None = None


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


def smallest_type(labels: NDArray[np.integer]) -> np.dtype[Any]:
    """Return the smallest integer type that holds all of ``labels``, unsigned if it can be."""
    return np.result_type(*(np.min_scalar_type(int(limit(initial=0))) for limit in (labels.min, labels.max)))


# lines


def write_line(file: BinaryIO, record: Mapping[str, Any]) -> None:
    """Write one line."""
    rest = memoryview(json.dumps(record, separators=(",", ":"), default=str).encode() + b"\n")
    while rest:  # a disk that fills up takes a part
        rest = rest[file.write(rest) :]


def change(
    image: ImageId,
    frame: Frame,
    pixels: Values | None,
    locks: Values | None,
    origins: Mapping[int, Mapping[str, Any]] | None,
    moment: float,
) -> dict[str, Any]:
    """Return the line of a change of one frame at ``moment``, POSIX seconds; what is None stays as it was."""
    record: dict[str, Any] = {"image": asdict(image), "frame": frame, "time": moment}
    for name, values in (("pixels", pixels), ("locks", locks)):
        if values is not None:
            record[name] = _encode(values)
    if origins is not None:
        record["origins"] = origins
    return record


def table(image: ImageId, objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the line that lists all objects of an image."""
    return {"image": asdict(image), "objects": objects}


def removal(image: ImageId) -> dict[str, Any]:
    """Return the line after which nothing of an image's masks counts."""
    return {"image": asdict(image), "forget": True}


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


def read_states(path: Path) -> Iterator[Recovered]:
    """Yield the last known state of every frame, the last changed one last; none if the file is no journal.

    Reading ends where a line is torn or broken; an `OSError` says that the file cannot be read.
    """
    histories: dict[int, dict[Frame, _History]] = {}
    objects: dict[int, list[dict[str, Any]]] = {}
    with path.open("rb") as file:
        if not _is_header(file.readline(100)):
            return
        for line in file:
            try:
                _follow(json.loads(line), histories, objects)
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError, zlib.error):
                break  # torn by a crash, or broken since
    for history in sorted((h for frames in histories.values() for h in frames.values()), key=lambda h: h.time):
        yield history.state()


def _follow(
    record: dict[str, Any], histories: dict[int, dict[Frame, _History]], objects: dict[int, list[dict[str, Any]]]
) -> None:
    """Take in one line, or raise before anything has changed."""
    image = _image(record["image"])
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


def _image(about: dict[str, Any]) -> ImageId:
    sample = about.get("sample")
    known = {
        "number": int(about["number"]),
        "shape": tuple(map(int, about["shape"])),
        "sample": None if sample is None else (str(sample[0]), str(sample[1])),
    }
    return ImageId(**{**about, **known})


def compacted(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a journal that says the same in the fewest: one a frame, one a table of objects."""
    listed: set[int] = set()
    for state in read_states(path):
        pixels = Values.of(state.labels, 0)
        locks = None if state.locked is None else Values.of(state.locked)
        yield change(state.image, state.frame, pixels, locks, state.origins, state.time)
        if state.objects and state.image.number not in listed:
            listed.add(state.image.number)
            yield table(state.image, state.objects)


def is_journal(path: Path) -> bool:
    """Return whether a file can be read and begins as journals do."""
    try:
        with path.open("rb") as file:
            return _is_header(file.readline(100))
    except OSError:
        return False


def _is_header(line: bytes) -> bool:
    try:
        return json.loads(line) in READABLE
    except ValueError:
        return False
