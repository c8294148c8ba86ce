"""A journal of every edit of every mask, so that a crash loses nothing.

A session writes one file, one JSON line a change, each handed to the system at once: a killed process loses no line
that was written; `lsegdiff_core.journal_format` says what stands in it. A lock beside the file is free as soon as its
owner is dead, however it died.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.files import write_atomically
from lsegdiff_core.journal_format import (
    HEADER,
    Frame,
    ImageId,
    Recovered,
    Values,
    change,
    compacted,
    is_journal,
    read_states,
    removal,
    table,
    write_line,
)

if TYPE_CHECKING:
    from filelock import BaseFileLock

SUFFIX = ".journal"
# Bytes beyond which a journal is rewritten without what later lines have overtaken.
LIMIT = 2 * 1024**2


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
        self._append(change(image, frame, pixels, locks, origins, time.time()))

    def record_objects(self, image: ImageId, objects: Sequence[Mapping[str, Any]]) -> None:
        """Write down the image's whole table of objects."""
        self._append(table(image, objects))

    def forget(self, image: ImageId) -> None:
        """Drop the image's masks: they were removed on purpose."""
        if self._file is not None:
            self._append(removal(image))

    def close(self, keep: bool = False) -> None:
        """End: nothing needs to be restored, so the file goes; with ``keep`` it is left as after a crash."""
        self._ended = True
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._lock is not None:
            lock, self._lock = self._lock, None
            if keep:
                lock.release()
                return
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
            write_line(self._file, record)
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
        write_line(file, HEADER)
        return file

    def _compact(self) -> None:
        """Rewrite the file with one line a frame; if that cannot be done, the long one holds all the same."""
        assert self._file is not None
        self._file.close()  # Windows replaces no open file

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                for record in (HEADER, *compacted(self.path)):
                    write_line(file, record)

        with suppress(LSegDiffError):
            write_atomically(self.path, write)
        self._file = self.path.open("ab", buffering=0)
        self._limit = max(LIMIT, 2 * self._file.tell())


def default_folder() -> Path:
    """Return where the journals of this user lie: the system's place for an application's state."""
    import platformdirs

    return platformdirs.user_state_path("lsegdiff", appauthor=False) / "journal"


def crashed(folder: Path) -> list[Path]:
    """Return the journals that ended sessions have left behind, the oldest first; [] without a folder."""
    # a name with a dot is the rest of a rewriting that was cut off
    paths = sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))
    found = []
    for path in paths:
        if is_journal(path):
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
        states = list(read_states(path))
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
