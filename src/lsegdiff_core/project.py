"""An annotation project: many images, and for each a status, notes and a mask; all of it plain files in one folder.

::

    project/
      lsegdiff-project.json          images, classes, and for each image its status, score, notes and tags
      masks/NAME.png                 accepted masks: indexed PNG, with NAME.provenance.json, which holds the strokes
      drafts/NAME.png                masks that were edited and not accepted yet, likewise

`masks/` beside the images' folder is what `lsegdiff train` and `evaluate` read.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from lsegdiff_core.config import from_dict, read_json
from lsegdiff_core.data.readers import list_images
from lsegdiff_core.data.splits import read_split
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.export import coco, export_labels, sidecar_path
from lsegdiff_core.files import write_text
from lsegdiff_core.journal import NO_STROKE

FILE = "lsegdiff-project.json"
FOLDER = "lsegdiff"
LOCK = ".lsegdiff-project.lock"
FORMAT = 1
STATUSES = ("new", "predicted", "edited", "accepted", "skipped")


@dataclass(frozen=True)
class Item:
    """One image of a project.

    Attributes
    ----------
    image
        Its file, relative to the project's folder, or absolute where there is no such way.
    name
        Unique in the project; its mask's file is called ``name.png``.
    status
        One of `STATUSES`.
    disagreement
        1 - mean pairwise IoU of the model's samples, in [0, 1]; -1 as long as nobody knows.
    seconds
        Time that the user spent on it.
    notes, tags
        The user's.
    problem
        Why the image could not be read; empty if it could.
    """

    image: str
    name: str
    status: str = "new"
    disagreement: float = -1.0
    seconds: float = 0.0
    notes: str = ""
    tags: tuple[str, ...] = ()
    problem: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise LSegDiffError(f"status: unknown name '{self.status}'; choose one of {', '.join(STATUSES)}")
        if not self.name or Path(self.name).name != self.name:
            raise LSegDiffError(f"name: '{self.name}' is no file's name; give it without folders")


@dataclass(frozen=True)
class ObjectClass:
    """A class of objects and its colour, ``#rrggbb``."""

    name: str
    colour: str


DEFAULT_CLASSES = (
    ObjectClass("polyp", "#00e5ff"),
    ObjectClass("instrument", "#ffe100"),
    ObjectClass("lumen", "#b388ff"),
)


@dataclass(frozen=True)
class _File:
    format: int
    classes: tuple[ObjectClass, ...]
    items: tuple[Item, ...]


class Saved(NamedTuple):
    """What was saved of an image: labels (H, W), the user's pixels (H, W) int32 (`NO_STROKE` elsewhere), provenance."""

    labels: NDArray[np.uint8]
    strokes: NDArray[np.int32]
    provenance: dict[str, Any]


class Project:
    """A project that this session has open; no other session can open it meanwhile.

    Parameters
    ----------
    folder
        Where its files lie.
    classes, items
        What `create` and `open` found.

    Raises
    ------
    LSegDiffError
        If another session has it open, or the folder cannot be written to.
    """

    def __init__(self, folder: Path, classes: Sequence[ObjectClass], items: Iterable[Item]) -> None:
        self.folder = folder
        self.classes = tuple(classes)
        self.items = {item.name: item for item in items}
        self._lock = FileLock(folder / LOCK)
        try:
            self._lock.acquire(blocking=False)
        except Timeout as error:
            raise LSegDiffError(f"{folder}: is open in another session; close it there first") from error
        except OSError as error:
            raise LSegDiffError(f"{folder}: cannot be written to ({error.strerror}); choose another folder") from error

    @classmethod
    def create(cls, folder: Path, images: Sequence[Path], classes: Sequence[ObjectClass] = DEFAULT_CLASSES) -> Project:
        """Start a project for image files.

        Parameters
        ----------
        folder
            Where it is written; made when missing.
        images
            Files, in the order of the queue; they are not opened here.
        classes
            What the objects can be.

        Raises
        ------
        LSegDiffError
            Without images, if the folder holds a project already, or cannot be written.
        """
        if not images:
            raise LSegDiffError(f"{folder}: a project needs images; give at least one")
        if (folder / FILE).exists():
            raise LSegDiffError(f"{folder / FILE}: exists already; open it instead")
        items: dict[str, Item] = {}
        for path in dict.fromkeys(path.absolute() for path in images):
            name = path.stem if path.stem not in items else path.name.replace(".", "_")
            while name in items:
                name += "_"
            items[name] = Item(_way(path, folder), name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LSegDiffError(
                f"{folder}: cannot be made ({error.strerror}); list the images in a text file elsewhere and open that"
            ) from error
        project = cls(folder, classes, items.values())
        try:
            project._write()
        except LSegDiffError:
            project.close()
            raise
        return project

    @classmethod
    def of_folder(cls, folder: Path) -> Project:
        """Open the project in ``folder`` or in its subfolder `FOLDER`, or begin one there for the images in it.

        Raises
        ------
        LSegDiffError
            As `open` and `create`, or if there are no images.
        """
        return cls._of(folder if (folder / FILE).is_file() else folder / FOLDER, lambda: list_images(folder))

    @classmethod
    def of_list(cls, path: Path) -> Project:
        """Open or begin the project of a text file with one image path a line, in a folder beside it.

        Paths are relative to the text file; lines that begin with ``#`` are skipped.

        Raises
        ------
        LSegDiffError
            As `open` and `create`, or if the file cannot be read.
        """
        return cls._of(
            path.with_name(f"{path.stem}-{FOLDER}"), lambda: [path.parent / line for line in read_split(path)]
        )

    @classmethod
    def _of(cls, folder: Path, images: Callable[[], Sequence[Path]]) -> Project:
        return cls.open(folder) if (folder / FILE).is_file() else cls.create(folder, images())

    @classmethod
    def open(cls, folder: Path) -> Project:
        """Open the project in ``folder``.

        Raises
        ------
        LSegDiffError
            If there is none, its file is not in order (the message names the field), or another session has it open.
        """
        path = folder / FILE
        if not path.is_file():
            raise LSegDiffError(f"{folder}: holds no {FILE}; choose a project's folder")
        data = read_json(path)
        if isinstance(data, Mapping) and data.get("format") != FORMAT:
            raise LSegDiffError(f"{path}: format {data.get('format')!r} is not {FORMAT}; update this program")
        known = from_dict(_File, data, str(path))
        names = [item.name for item in known.items]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise LSegDiffError(f"{path}: names '{twice}' twice; rename one of the items")
        if not known.items or not known.classes:
            raise LSegDiffError(f"{path}: holds no {'classes' if known.items else 'items'}; add one")
        return cls(folder, known.classes, known.items)

    def close(self) -> None:
        """Let other sessions open it."""
        self._lock.release()

    def image(self, name: str) -> Path:
        """Return where the image of an item lies."""
        return self.folder / self.items[name].image

    def update(self, name: str, **changes: Any) -> Item:
        """Change fields of an item and save the project; returns the item as it is now.

        Raises
        ------
        LSegDiffError
            If it cannot be saved; nothing is changed then.
        """
        old = self.items[name]
        self.items[name] = dataclasses.replace(old, **changes)
        try:
            if self.items[name] != old:
                self._write()
        except LSegDiffError:
            self.items[name] = old
            raise
        return self.items[name]

    def set_classes(self, classes: Sequence[ObjectClass]) -> None:
        """Change the classes that objects can have, and save the project."""
        self.classes = tuple(classes)
        self._write()

    def save(
        self,
        name: str,
        labels: NDArray[np.integer],
        strokes: NDArray[np.int32] | None,
        provenance: Mapping[str, Any],
        accepted: bool,
        seconds: float,
    ) -> None:
        """Write an image's mask, accepted or as a draft, and its status.

        Parameters
        ----------
        name
            The item.
        labels
            (H, W): the objects' ids, at most 255.
        strokes
            (H, W): what the user drew, an id or 0, and `NO_STROKE` elsewhere.
        provenance
            Ready for JSON; ``strokes``, ``changed``, the share of pixels that the user drew, and ``seconds`` are added.
        accepted
            Whether it is good as it is.
        seconds
            Time that the user spent on the image, all in all.

        Raises
        ------
        LSegDiffError
            If a file cannot be written; the mask from before stays then.
        """
        drawn = np.full(labels.shape, NO_STROKE, np.int32) if strokes is None else strokes
        values = [int(value) for value in np.unique(drawn) if value != NO_STROKE]
        about = {
            **provenance,
            "strokes": [{"id": value, **coco.run_lengths(drawn == value)} for value in values],
            "changed": float((drawn != NO_STROKE).mean()),
            "seconds": round(seconds, 1),
        }
        mask = self._mask(name, accepted)
        export_labels(labels, mask, "indexed-png", about)
        other = self._mask(name, not accepted)
        for path in (other, sidecar_path(other)):
            path.unlink(missing_ok=True)
        self.update(name, status="accepted" if accepted else "edited", seconds=round(seconds, 1))

    def load(self, name: str) -> Saved | None:
        """Return what was saved of an item, the accepted mask before a draft; None if there is nothing.

        Raises
        ------
        LSegDiffError
            If a file is there but cannot be read.
        """
        mask = next((path for path in (self._mask(name, True), self._mask(name, False)) if path.is_file()), None)
        if mask is None:
            return None
        labels = _read_png(mask).astype(np.uint8)
        provenance = read_json(sidecar_path(mask)) if sidecar_path(mask).is_file() else {}
        if not isinstance(provenance, dict):
            raise LSegDiffError(f"{sidecar_path(mask)}: expected an object with named fields; correct or remove it")
        strokes = np.full(labels.shape, NO_STROKE, np.int32)
        try:
            for runs in provenance.pop("strokes", []):
                strokes[coco.from_run_lengths(runs)] = int(runs["id"])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise LSegDiffError(f"{sidecar_path(mask)}: its strokes cannot be read; remove that field") from error
        return Saved(labels, strokes, provenance)

    def accepted(self) -> list[tuple[Path, Path]]:
        """Return image and mask of all accepted items, in the queue's order."""
        return [
            (self.image(name), self._mask(name, True)) for name, item in self.items.items() if item.status == "accepted"
        ]

    def export_coco(self, path: Path) -> int:
        """Write all accepted masks as one COCO file; returns how many images it holds.

        Raises
        ------
        LSegDiffError
            Without accepted masks, or if a file cannot be read or written.
        """
        frames = []
        for image, mask in self.accepted():
            provenance = read_json(sidecar_path(mask)) if sidecar_path(mask).is_file() else {}
            frames.append((_read_png(mask), {**provenance, "image": {"name": image.name}}))
        if not frames:
            raise LSegDiffError(f"{self.folder}: no mask is accepted yet; accept one before exporting")
        write_text(path, coco.encode_all(frames).decode())
        return len(frames)

    def _mask(self, name: str, accepted: bool) -> Path:
        return self.folder / ("masks" if accepted else "drafts") / f"{name}.png"

    def _write(self) -> None:
        # written at every change, so that it has to be fast for thousands of images: one line an item, without what has
        # its default
        classes = json.dumps([dataclasses.asdict(known) for known in self.classes], ensure_ascii=False)
        lines = (json.dumps(_told(item), ensure_ascii=False) for item in self.items.values())
        items = ",\n  ".join(lines)
        text = f'{{\n "format": {FORMAT},\n "classes": {classes},\n "items": [\n  {items}\n ]\n}}\n'
        write_text(self.folder / FILE, text)


_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Item)}


def _told(item: Item) -> dict[str, Any]:
    """Return the fields of an item that are not as by default."""
    return {name: value for name, value in vars(item).items() if value != _DEFAULTS[name]}


def _way(path: Path, folder: Path) -> str:
    """Return ``path`` as seen from ``folder``, with forward slashes, so that both can move together."""
    try:
        return Path(os.path.relpath(path, folder.absolute())).as_posix()
    except ValueError:  # another drive
        return path.as_posix()


def _read_png(path: Path) -> NDArray[np.integer]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            pixels = np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise LSegDiffError(f"{path}: cannot be read as a PNG ({error}); remove it to start again") from error
    if pixels.ndim != 2:
        raise LSegDiffError(f"{path}: holds colours, not ids; give an indexed or a grey PNG")
    return pixels
