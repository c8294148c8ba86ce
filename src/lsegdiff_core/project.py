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
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from lsegdiff_core.accepted import MASKS, accepted_files
from lsegdiff_core.classes import DEFAULT_CLASSES, ObjectClass, check_classes, reclassed
from lsegdiff_core.data.images import NO_FILE, file_size
from lsegdiff_core.data.readers import list_images, read_image_list
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.export import SIDECAR, coco, export_labels, sidecar_path, sidecar_text
from lsegdiff_core.files import remove_leftovers, write_text, write_together
from lsegdiff_core.project_file import FILE, Item, append_images, image_file, project_text, read_project_file, relative
from lsegdiff_core.saved import Saved, is_mask, read_saved, read_sidecar, user_part

FOLDER = "lsegdiff"
LOCK = ".lsegdiff-project.lock"
DRAFTS = "drafts"


class Project:
    """A project that this session has open; no other session can open it meanwhile.

    Parameters
    ----------
    folder
        Where its files lie.
    classes, items
        What `create` and `open` found. Open images whose file is missing are marked as unreadable.

    Attributes
    ----------
    added
        How many images have come to its folder or list since it was open last.
    repeated
        How many lines of the list were left out of those, since others name the same image.

    Raises
    ------
    LSegDiffError
        If another session has it open, or the folder cannot be written to.
    """

    def __init__(self, folder: Path, classes: Sequence[ObjectClass], items: Iterable[Item]) -> None:
        self.folder = folder
        self.classes = tuple(classes)
        self.items = {item.name: item for item in items}
        self.added = self.repeated = 0
        self._lock = FileLock(folder / LOCK)
        try:
            self._lock.acquire(blocking=False)
        except Timeout as error:
            raise LSegDiffError(f"{folder}: is open in another session; close it there first") from error
        except OSError as error:
            raise LSegDiffError(f"{folder}: cannot be written to ({error.strerror}); choose another folder") from error
        try:
            self._remove_leftovers()
            self._mark_missing()
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(cls, folder: Path, images: Sequence[Path], classes: Sequence[ObjectClass] = DEFAULT_CLASSES) -> Project:
        """Start a project for image files.

        Parameters
        ----------
        folder
            Where it is written; made when missing.
        images
            Files, in the order of the queue; they are not opened here. One that is there twice is one image.
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
        append_images(items, images, folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LSegDiffError(
                f"{folder}: cannot be made ({error.strerror}), but masks go there; list the images in a text file "
                "elsewhere, and open that"
            ) from error
        project = cls(folder, classes, items.values())
        project.repeated = len(images) - len(items)
        try:
            project._write()
        except LSegDiffError:
            project.close()
            raise
        return project

    @classmethod
    def of_folder(cls, folder: Path) -> Project:
        """Open the project in ``folder`` or in its subfolder `FOLDER`, or begin one there for the images in it.

        Images that have come to ``folder`` since then are appended. Masks that were exported into it are no images.

        Raises
        ------
        LSegDiffError
            As `open` and `create`, or if there are no images.
        """
        if (folder / FILE).is_file():
            return cls.open(folder)  # the project's own folder: its images lie somewhere else
        return cls._of(folder / FOLDER, lambda: [path for path in list_images(folder) if not is_mask(path)])

    @staticmethod
    def in_folder(folder: Path) -> bool:
        """Whether `of_folder` would open a project rather than begin one."""
        return (folder / FILE).is_file() or (folder / FOLDER / FILE).is_file()

    @classmethod
    def of_list(cls, path: Path) -> Project:
        """Open or begin the project of a text file with one image path a line, in a folder beside it.

        Paths are relative to the text file; lines that begin with ``#`` are skipped, and new ones are appended as in
        `of_folder`.

        Raises
        ------
        LSegDiffError
            As `open` and `create`, or if the file cannot be read or not one line is an image file.
        """
        return cls._of(path.with_name(f"{path.stem}-{FOLDER}"), lambda: read_image_list(path))

    @classmethod
    def _of(cls, folder: Path, images: Callable[[], Sequence[Path]]) -> Project:
        if not (folder / FILE).is_file():
            return cls.create(folder, images())
        project = cls.open(folder)
        # neither images that are gone nor a full disk keep anybody from the masks; it is done at the next opening
        with suppress(LSegDiffError):
            project._add(images())
        return project

    @classmethod
    def open(cls, folder: Path) -> Project:
        """Open the project in ``folder``.

        Raises
        ------
        LSegDiffError
            If there is none, its file is not in order (the message names the field), or another session has it open.
        """
        known = read_project_file(folder)
        return cls(folder, known.classes, known.items)

    def _add(self, images: Sequence[Path]) -> None:
        """Append those image files that are not among the items yet."""
        known = {item.image for item in self.items.values()}
        new = [path for path in images if relative(path.absolute(), self.folder) not in known]
        if new:  # perhaps only the way there is another one, through a link
            known = {str(self.image(name).resolve()) for name in self.items}
            new = [path for path in new if str(path.resolve()) not in known]
        before = len(self.items)
        append_images(self.items, new, self.folder)
        self.added = len(self.items) - before
        self.repeated = len(new) - self.added
        if self.added:
            self._mark_missing()
            self._write()

    def _mark_missing(self) -> None:
        """Mark open images whose file is not there as unreadable, and as open those whose file has come back.

        Where the folder is gone, too, a drive was taken out: no image is to blame.
        """
        is_folder = cache(os.path.isdir)
        for name, item in self.items.items():
            if item.done and NO_FILE not in item.problem:
                continue
            path = os.path.join(self.folder, item.image)  # a Path would take longer than to ask for the file
            problem = ""
            if not os.path.isfile(path) and is_folder(os.path.dirname(path)):
                try:
                    file_size(self.image(name))
                except LSegDiffError as error:
                    problem = str(error)
            if problem != item.problem:
                self.items[name] = dataclasses.replace(item, problem=problem)

    @property
    def news(self) -> str:
        """What the user should know of the images, in words: what `added` and `repeated` say, and what is missing."""
        missing = sum(NO_FILE in item.problem for item in self.items.values())
        told = (
            f"{self.added} new image{'s' if self.added > 1 else ''}" if self.added else "",
            f"Lines of the list that name an image again were left out: {self.repeated}" if self.repeated else "",
            f"Image files that are not there: {missing}" if missing else "",
        )
        return ". ".join(filter(None, told))

    @property
    def first_open(self) -> str:
        """Name of the first item that is not done yet, or of the first of all when all are."""
        return next((name for name, item in self.items.items() if not item.done), next(iter(self.items)))

    def close(self) -> None:
        """Let other sessions open it."""
        self._lock.release()

    def image(self, name: str) -> Path:
        """Return where the image of an item lies."""
        return image_file(self.folder, self.items[name])

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

    def class_counts(self) -> Counter[str]:
        """Return how many objects of each class the saved masks hold; it reads all sidecars, in any thread.

        Raises
        ------
        LSegDiffError
            If a sidecar cannot be read.
        """
        abouts = (read_sidecar(path) for path in self._sidecars())
        return Counter(item["class"] for about in abouts for item in about.get("objects", []) if item.get("class"))

    def set_classes(self, classes: Sequence[ObjectClass], moved: Mapping[str, str] | None = None) -> None:
        """Change the classes that objects can have, in the project and in the sidecars of its masks.

        Parameters
        ----------
        classes
            From now on.
        moved
            From the name of a class that was renamed or removed to the one that its objects get.

        Raises
        ------
        LSegDiffError
            If there are no classes or two of one name, saved objects would be left without one, or a file cannot be
            read or written. Nothing is changed then.
        """
        check_classes(classes)
        gone = {known.name for known in self.classes} - {known.name for known in classes} - set(moved or {})
        texts: dict[Path, str] = {}
        for path in self._sidecars():
            about = read_sidecar(path)
            objects = about.get("objects", [])
            left = next((item["class"] for item in objects if item.get("class") in gone), None)
            if left is not None:
                raise LSegDiffError(f"classes: '{left}' is still in use, by {path}; say which class its objects get")
            changed = [reclassed(item, item["id"], classes, moved or {}) for item in objects]
            if changed != objects:
                texts[path] = sidecar_text({**about, "objects": changed})
        before, self.classes = self.classes, tuple(classes)
        texts[self.folder / FILE] = project_text(self.classes, self.items.values())
        try:
            self._check_there()
            write_together(
                {path: partial(Path.write_text, data=text, encoding="utf-8") for path, text in texts.items()}
            )
        except LSegDiffError:
            self.classes = before
            raise

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
            (H, W): what the user drew, an id or 0, and `lsegdiff_core.journal_format.NO_STROKE` elsewhere; None without
            any.
        provenance
            Ready for JSON; what `lsegdiff_core.saved.user_part` says is added.
        accepted
            Whether it is good as it is.
        seconds
            Time that the user spent on the image, all in all.

        Raises
        ------
        LSegDiffError
            If a file cannot be written, the mask from before stays then; or if the draft of an accepted mask, or the
            accepted mask of a draft, cannot be removed.
        """
        self._check_there()
        about = {**provenance, **user_part(strokes, seconds)}
        mask = self._mask(name, accepted)
        export_labels(labels, mask, "indexed-png", about)
        other = self._mask(name, not accepted)
        for path in (other, sidecar_path(other)):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:  # Windows holds on to a file that is open elsewhere
                raise LSegDiffError(
                    f"{path}: cannot be removed ({error.strerror}); close it elsewhere and save again"
                ) from error
        self.update(name, status="accepted" if accepted else "edited", seconds=round(seconds, 1))

    def load(self, name: str) -> Saved | None:
        """Return what was saved of an item, the accepted mask before a draft; None if there is nothing.

        Raises
        ------
        LSegDiffError
            If a file is there but cannot be read.
        """
        mask = self._saved(name)
        return None if mask is None else read_saved(mask)

    def accepted(self) -> list[tuple[Path, Path]]:
        """Return image and mask of all accepted items, in the queue's order."""
        return [(image, mask) for _, image, mask in accepted_files(self.folder, self.items.values())]

    def export_coco(self, path: Path) -> int:
        """Write all accepted masks as one COCO file; returns how many images it holds.

        Its categories are the project's classes; an object of which nobody said what it is has the first of them.

        Raises
        ------
        LSegDiffError
            Without accepted masks, or if a file cannot be read or written.
        """
        classes = [known.name for known in self.classes]
        frames = []
        for image, mask in self.accepted():
            saved = read_saved(mask)
            about = {"objects": saved.provenance.get("objects", []), "classes": classes, "image": {"name": image.name}}
            frames.append((saved.labels, about))
        if not frames:
            raise LSegDiffError(f"{self.folder}: no mask is accepted yet; accept one before exporting")
        write_text(path, coco.encode_all(frames).decode())
        return len(frames)

    def _remove_leftovers(self) -> None:
        def ours(file: str) -> bool:
            return file.removesuffix(".png") in self.items or file.removesuffix(SIDECAR) in self.items

        remove_leftovers(self.folder, lambda file: file == FILE)
        for part in (MASKS, DRAFTS):
            remove_leftovers(self.folder / part, ours)

    def _mask(self, name: str, accepted: bool) -> Path:
        return self.folder / (MASKS if accepted else DRAFTS) / f"{name}.png"

    def _saved(self, name: str) -> Path | None:
        """Return where the mask of an item stands, the accepted one before a draft; None if there is none."""
        return next((path for path in (self._mask(name, True), self._mask(name, False)) if path.is_file()), None)

    def _sidecars(self) -> Iterator[Path]:
        """Return the sidecars of all saved masks."""
        paths = (sidecar_path(mask) for mask in map(self._saved, self.items) if mask is not None)
        return (path for path in paths if path.is_file())

    def _check_there(self) -> None:
        # a drive that was taken out would otherwise get a new folder in the place where it was
        if not self.folder.is_dir():
            raise LSegDiffError(f"{self.folder}: the folder is gone; bring it back, then go on. Nothing was saved")

    def _write(self) -> None:
        self._check_there()
        write_text(self.folder / FILE, project_text(self.classes, self.items.values()))
