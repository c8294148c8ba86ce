"""How a model that learnt from corrected masks compares with the one that it came from; loads no torch."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from lsegdiff_core.bundle import MANIFEST, read_manifest
from lsegdiff_core.errors import LSegDiffError

# Fewer accepted masks teach nothing that could be told from chance; one in four is kept for the comparison.
LEAST, HELD_OUT = 8, 4
PART, LOCK = ".part", ".lsegdiff-finetune.lock"


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


def work_folder(out: Path) -> Path:
    """Return where a new bundle is made before it becomes ``out``; what a killed process left there can go."""
    return out.with_name(f".{out.name}{PART}")


@contextmanager
def working(out: Path) -> Iterator[Path]:
    """Make the empty `work_folder` of a new bundle; it is gone in the end.

    What killed processes left beside it goes, too: their locks are free, however they died.

    Raises
    ------
    LSegDiffError
        If another process is making the same bundle, or the folder cannot be made.
    """
    work = work_folder(out)
    for left in out.parent.glob(f".*{PART}"):
        if left == work or (left / LOCK).is_file():
            _remove_left(left)
    lock = FileLock(work / LOCK)
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise LSegDiffError(f"{out}: is being made by another process; give the new model another name") from error
    except (OSError, NotImplementedError) as error:  # filelock raises the latter where files have no locks
        reason = getattr(error, "strerror", None) or error
        raise LSegDiffError(f"{work}: cannot be made ({reason}); choose another folder") from error
    try:
        yield work
    finally:
        lock.release()
        shutil.rmtree(work, ignore_errors=True)


def _remove_left(work: Path) -> None:
    """Remove a work folder unless its process is alive."""
    lock = FileLock(work / LOCK)
    with suppress(OSError, NotImplementedError):  # what cannot be removed does no harm
        lock.acquire(blocking=False)
        lock.release()  # Windows removes no open file
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
