"""Text files with one name a line."""

from __future__ import annotations

from pathlib import Path

from lsegdiff_core.errors import LSegDiffError


def read_lines(path: Path) -> list[str]:
    """Return the lines of the text file ``path`` that hold something; ``#`` comments are skipped.

    Raises
    ------
    LSegDiffError
        If the file is missing, not text, or empty.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows begins a text with a mark
    except (OSError, UnicodeDecodeError) as error:
        raise LSegDiffError(f"{path}: cannot be read ({error}); give a text file with one name a line") from error
    if "\0" in text:
        raise LSegDiffError(f"{path}: is no UTF-8 text; save it as such, with one name a line")
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise LSegDiffError(f"{path}: is empty; give one name a line")
    return lines


def read_split(path: Path) -> list[str]:
    """Return the names in the split file ``path``, in the file's order.

    Raises
    ------
    LSegDiffError
        As `read_lines`, or if the file names something twice.
    """
    names = read_lines(path)
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise LSegDiffError(f"{path}: names '{twice}' twice; remove one line")
    return names
