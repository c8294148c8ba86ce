"""The masks of a project that its user has accepted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lsegdiff_core.export import sidecar_path
from lsegdiff_core.project_file import Item, image_file, read_project_file
from lsegdiff_core.saved import read_saved, read_sidecar

MASKS = "masks"


def accepted_files(folder: Path, items: Iterable[Item]) -> list[tuple[str, Path, Path]]:
    """Return name, image and mask file of the accepted ones among a project's items."""
    return [
        (item.name, image_file(folder, item), folder / MASKS / f"{item.name}.png")
        for item in items
        if item.status == "accepted"
    ]


def painted(folder: Path, items: Iterable[Item]) -> int:
    """Return on how many of the accepted masks among a project's items the user painted; it reads their sidecars.

    Raises
    ------
    LSegDiffError
        If a sidecar cannot be read.
    """
    sidecars = (sidecar_path(mask) for _, _, mask in accepted_files(folder, items))
    return sum(read_sidecar(path).get("changed", 0) > 0 for path in sidecars if path.is_file())


def accepted_masks(folder: Path, classes: Collection[str]) -> Iterator[tuple[str, Path, NDArray[np.bool_]]]:
    """Read the accepted masks of a project, which may be open in any session.

    Parameters
    ----------
    folder
        The project's.
    classes
        Objects of other classes belong to the background; those without a class do not.

    Yields
    ------
    tuple
        The item's name, its image file, and its mask (H, W).

    Raises
    ------
    LSegDiffError
        If the project or one of the masks cannot be read.
    """
    for name, image, mask in accepted_files(folder, read_project_file(folder).items):
        saved = read_saved(mask)
        objects = saved.provenance.get("objects", [])
        foreign = [known["id"] for known in objects if known.get("class", "") not in ("", *classes)]
        yield name, image, (saved.labels > 0) & ~np.isin(saved.labels, foreign)
