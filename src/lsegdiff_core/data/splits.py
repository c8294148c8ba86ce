"""Text files with one name a line."""

from __future__ import annotations

from pathlib import Path

from lsegdiff_core.errors import LSegDiffError


def read_lines(path: Path, what: str) -> list[str]:
    """Return the lines of the text file ``path`` that hold something; ``#`` comments are skipped.

    Parameters
    ----------
    path
        The text file.
    what
        What a line names, with an example; the messages say so.

    Raises
    ------
    LSegDiffError
        If the file is missing, not text, or empty.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows begins a text with a mark
        if "\0" in text:  # UTF-16 that could be UTF-8
            raise UnicodeError
    except OSError as error:
        reason = f"cannot be read ({error.strerror}); give a text file in which each line names {what}"
        raise LSegDiffError(f"{path}: {reason}") from error
    except UnicodeError as error:
        raise LSegDiffError(f"{path}: is no UTF-8 text; save it as such, each line naming {what}") from error
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise LSegDiffError(f"{path}: is empty; let each line name {what}")
    return lines


def read_split(path: Path) -> list[str]:
    """Return the names in the split file ``path``, in the file's order.

    Raises
    ------
    LSegDiffError
        As `read_lines`, or if the file names something twice.
    """
    names = read_lines(path, "an image without its suffix, such as frame_001")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise LSegDiffError(f"{path}: names '{twice}' twice; remove one line")
    return names
