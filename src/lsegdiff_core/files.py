"""Writing files so that nothing is ever half written."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from lsegdiff_core.errors import LSegDiffError

# What `_temporary` calls its files.
LEFTOVER = re.compile(r"\.(?P<stem>.+)-[a-z0-9_]{8}(?P<suffix>\.[^.]+)", re.DOTALL)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it into place.

    Parameters
    ----------
    path
        Final path; its folder is made when missing. An existing file is replaced only when all went well.
    write
        Called with the temporary path, which has the suffix of ``path``.

    Raises
    ------
    LSegDiffError
        If the system refuses to write; the temporary file is removed and ``path`` is as it was.
    """
    write_together({path: write})


def write_together(writes: Mapping[Path, Callable[[Path], object]]) -> None:
    """Do for several files what `write_atomically` does for one: all of them are written, or none.

    Every temporary file is complete before the first is renamed; when a later rename fails, the earlier ones are
    taken back.

    Raises
    ------
    LSegDiffError
        If the system refuses to write; the temporary files are removed and every path is as it was.
    """
    temporaries: dict[Path, Path] = {}
    backups: dict[Path, Path] = {}
    path = Path()
    try:
        for path, write in writes.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporaries[path] = _temporary(path)
            write(temporaries[path])
            umask = os.umask(0)
            os.umask(umask)
            temporaries[path].chmod(0o666 & ~umask)
        for path in list(writes)[:-1]:  # nothing comes after the last rename that could fail
            if path.is_file():
                backups[path] = _temporary(path)
                shutil.copy2(path, backups[path])
        _rename(temporaries, backups)
    except OSError as error:
        name = error.filename2 or path
        raise LSegDiffError(f"{name}: cannot be written ({error.strerror or error}); nothing was changed") from error
    finally:
        for temporary in (*temporaries.values(), *backups.values()):
            temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """Make an empty file beside ``path``, with its suffix."""
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    return Path(name)


def remove_leftovers(folder: Path, ours: Callable[[str], bool]) -> None:
    """Remove what a killed process left in ``folder`` between writing and renaming.

    Parameters
    ----------
    folder
        Where nobody else may be writing; it need not be there.
    ours
        Whether a file of this name is written there; what belongs to any other stays.
    """
    for path in folder.glob(".*"):
        leftover = LEFTOVER.fullmatch(path.name)
        if leftover and ours(leftover["stem"] + leftover["suffix"]) and not ours(path.name):
            with suppress(OSError):  # what cannot be removed does no harm
                path.unlink()


def _rename(temporaries: Mapping[Path, Path], backups: Mapping[Path, Path]) -> None:
    """Rename every temporary file into place; on failure bring back the backups, or the absence of a file."""
    renamed: list[Path] = []
    try:
        for path, temporary in temporaries.items():
            temporary.replace(path)
            renamed.append(path)
    except BaseException:
        for path in renamed:
            if path in backups:
                backups[path].replace(path)
            else:
                path.unlink()
        raise


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, by temporary file and rename."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, by temporary file and rename."""
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
