"""Split files: one name a line."""

from __future__ import annotations

from pathlib import Path

from lsegdiff_core.errors import LSegDiffError


def read_split(path: Path) -> list[str]:
    """Return the names in the split file ``path``, in the file's order; blank lines and ``#`` comments are skipped.

    Raises
    ------
    LSegDiffError
        If the file is missing, empty, or names something twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LSegDiffError(
            f"{path}: split file cannot be read ({error}); give a text file with one name a line"
        ) from error
    names = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not names:
        raise LSegDiffError(f"{path}: split file is empty; give one name a line")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise LSegDiffError(f"{path}: names '{twice}' twice; remove one line")
    return names
