"""The file of an annotation project: its images, and what they can show."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from lsegdiff_core.classes import ObjectClass, check_classes
from lsegdiff_core.config import from_dict, read_json, require
from lsegdiff_core.errors import LSegDiffError

FILE = "lsegdiff-project.json"
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
        known = self.disagreement == -1 or 0 <= self.disagreement <= 1
        require(known, "disagreement", self.disagreement, "in [0, 1], or -1 if nobody knows")
        require(0 <= self.seconds < math.inf, "seconds", self.seconds, "a time, 0 or more")
        if not self.image or "\0" in self.image:
            raise LSegDiffError(f"image: {self.image!r} is no path; give the image's file, relative to the project")
        try:
            os.fsencode(self.image)
        except UnicodeEncodeError as error:
            raise LSegDiffError(f"image: {self.image!a} cannot be a path here; give the image's file") from error
        if not _is_name(self.name):
            raise LSegDiffError(f"name: {self.name!r} is no file's name here; give another one, without folders")

    @property
    def done(self) -> bool:
        """Whether it needs no work any more: accepted, skipped or unreadable."""
        return self.status in ("accepted", "skipped") or bool(self.problem)


@dataclass(frozen=True)
class ProjectFile:
    """What the file says: the classes that objects can have, and the images in the order of the queue."""

    format: int
    classes: tuple[ObjectClass, ...]
    items: tuple[Item, ...]


def read_project_file(folder: Path) -> ProjectFile:
    """Read the file in a project's folder.

    Raises
    ------
    LSegDiffError
        If there is none, or it is not in order; the message names the field.
    """
    path = folder / FILE
    if not path.is_file():
        raise LSegDiffError(f"{folder}: holds no {FILE}; choose a project's folder")
    data = read_json(path)
    if isinstance(data, Mapping) and data.get("format") != FORMAT:
        raise LSegDiffError(
            f"{path}: has format {data.get('format')!r}, this version reads {FORMAT}; update napari-lsegdiff"
        )
    known = from_dict(ProjectFile, data, str(path))
    _check_names((item.name for item in known.items), path, folds_case=path.with_name(FILE.upper()).exists())
    if not known.items:
        raise LSegDiffError(f"{path}: holds no items, that is no images; add one")
    try:
        check_classes(known.classes)
    except LSegDiffError as error:
        raise LSegDiffError(f"{path}: {error}") from error
    return known


def _check_names(names: Iterable[str], path: Path, folds_case: bool) -> None:
    """Refuse two names whose masks are one file, where upper and lower case are one if the file system says so."""
    seen: dict[str, str] = {}
    for name in names:
        file = name.lower() if folds_case else name
        other = seen.get(file)
        if other is not None:
            told = f"'{name}' twice" if other == name else f"'{other}' and '{name}', which are one file here"
            raise LSegDiffError(f"{path}: names {told}; rename one of the items, and its mask's files likewise")
        seen[file] = name


def append_images(items: dict[str, Item], images: Iterable[Path], folder: Path) -> None:
    """Give each image file of a project in ``folder`` an item, with a name that ``items`` does not hold yet."""
    # names become files, and to Windows and macOS A.png and a.png are one
    taken = {name.casefold() for name in items}
    for image in dict.fromkeys(relative(path.absolute(), folder) for path in images):
        name = _new_name(image, taken)
        taken.add(name.casefold())
        items[name] = Item(image, name)


def _new_name(image: str, taken: Collection[str]) -> str:
    """Return a name for an image file that is none of ``taken``, which are case-folded."""
    file = PurePath(image)
    name = file.stem if file.stem.casefold() not in taken else file.name.replace(".", "_")
    if not _is_name(name):
        name = re.sub(r"\W", "_", name) or "_"
    while name.casefold() in taken:
        name += "_"
    return name


def _is_name(name: str) -> bool:
    """Return whether a file can be called so anywhere: Linux allows any bytes, and the backslash that parts folders."""
    if name.encode(errors="ignore").decode() != name:
        return False
    return name not in ("", ".", "..") and not set(name) & set("/\\\0") and Path(name).name == name


def image_file(folder: Path, item: Item) -> Path:
    """Return where the image of an item lies, as people would write it: without ``..`` if no link makes that wrong."""
    path = folder / item.image
    plain = Path(os.path.normpath(path))
    try:
        return plain if plain.parent.samefile(path.parent) else path
    except OSError:  # a folder on the way is gone
        return plain


def relative(path: Path, folder: Path) -> str:
    """Return ``path`` as seen from ``folder``, with forward slashes, so that both can move together."""
    try:
        return Path(os.path.relpath(path, folder.absolute())).as_posix()
    except ValueError:  # another drive
        return path.as_posix()


def project_text(classes: Sequence[ObjectClass], items: Iterable[Item]) -> str:
    """Return what the file says of these classes and images."""
    # written at every change, so that it has to be fast for thousands of images: one line an item, without what has
    # its default
    known = json.dumps([dataclasses.asdict(one) for one in classes], ensure_ascii=False)
    lines = ",\n  ".join(_line(_told(item)) for item in items)
    return f'{{\n "format": {FORMAT},\n "classes": {known},\n "items": [\n  {lines}\n ]\n}}\n'


def _line(told: dict[str, Any]) -> str:
    line = json.dumps(told, ensure_ascii=False)
    # a path on Linux need not be text: what cannot be written as UTF-8 is escaped
    return line if line.encode(errors="ignore").decode() == line else json.dumps(told)


_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Item)}


def _told(item: Item) -> dict[str, Any]:
    """Return the fields of an item that are not as by default."""
    return {name: value for name, value in vars(item).items() if value != _DEFAULTS[name]}
