"""How a model that learnt from corrected masks compares with the one that it came from; loads no torch."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
from filelock import FileLock

from lsegdiff_core.bundle import MANIFEST, read_manifest
from lsegdiff_core.errors import LSegDiffError

# Fewer accepted masks teach nothing that could be told from chance; one in four is kept for the comparison.
LEAST, HELD_OUT = 8, 4
# What the work folders' names begin and end with, the lock in each, which its owner holds, and the one for all: a
# folder that has no owner yet is not cleared away.
BEGIN, END, LOCK, DOOR = ".lsegdiff-", ".part", "lock", ".lsegdiff-finetune.lock"


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` of a ``stage``, learning (steps) or comparing (images); ``note`` is to be said with it."""

    stage: str
    done: int
    total: int
    note: str = ""

    def __str__(self) -> str:
        return ", ".join(filter(None, (f"{self.stage} {self.done}/{self.total}", self.note)))

    @classmethod
    def parse(cls, line: str) -> Progress | None:
        """Return what a line of ``lsegdiff finetune`` says, None if it is another line."""
        found = re.fullmatch(r"(\w+) (\d+)/(\d+)(?:, (.+))?", line.strip())
        return None if found is None else cls(found[1], int(found[2]), int(found[3]), found[4] or "")


@dataclass(frozen=True)
class Comparison:
    """Dice of both bundles on the masks that were held out, image by image in the order of ``names``."""

    names: tuple[str, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def better(self) -> int:
        """On how many images the new bundle is better."""
        return int(np.greater(self.after, self.before).sum())

    @property
    def worse(self) -> int:
        """On how many images the new bundle is worse."""
        return int(np.less(self.after, self.before).sum())

    def __str__(self) -> str:
        return (
            f"Dice {np.mean(self.before):.3f} before, {np.mean(self.after):.3f} after on {len(self.names)} masks "
            f"held out; {self.better} better, {self.worse} worse"
        )


@contextmanager
def working(out: Path) -> Iterator[Path]:
    """Make an empty folder beside ``out``, where a new bundle is made before it becomes ``out``; it is gone in the end.

    What killed processes left beside it goes, too.

    Raises
    ------
    LSegDiffError
        If the folder cannot be made.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(out.parent / DOOR):
            _clear(out.parent)
            work = Path(mkdtemp(prefix=f"{BEGIN}{out.name}-", suffix=END, dir=out.parent))
            lock = FileLock(work / LOCK)
            lock.acquire(blocking=False)
    except (OSError, NotImplementedError) as error:  # filelock raises the latter where files have no locks
        reason = getattr(error, "strerror", None) or error
        raise LSegDiffError(f"{out.parent}: cannot be written to ({reason}); choose another folder") from error
    try:
        yield work
    finally:
        lock.release()  # Windows removes no open file
        shutil.rmtree(work, ignore_errors=True)


def clear_leftovers(folder: Path) -> None:
    """Remove what killed processes left of their `working` in ``folder``; what cannot be removed does no harm."""
    with suppress(OSError, NotImplementedError), FileLock(folder / DOOR, timeout=1):
        _clear(folder)


def _clear(folder: Path) -> None:
    """Remove the work folders whose owner is dead: its lock is free, however it died."""
    for work in folder.glob(f"{BEGIN}*{END}"):
        with suppress(OSError, NotImplementedError):
            with FileLock(work / LOCK, blocking=False):
                pass
            shutil.rmtree(work)


def read_comparison(folder: Path) -> Comparison:
    """Return the comparison that a bundle of `lsegdiff_core.finetune.finetune` holds.

    Raises
    ------
    LSegDiffError
        If it holds none.
    """
    held_out: Any = read_manifest(folder).training.get("held_out")
    try:
        return Comparison(*(tuple(row[key] for row in held_out) for key in ("name", "before", "after")))
    except (KeyError, TypeError) as error:
        raise LSegDiffError(
            f"{folder / MANIFEST}: training.held_out is missing; it was not made by finetune"
        ) from error
