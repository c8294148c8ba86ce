"""Masks read back from their files: labels, the user's strokes and how they were made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsegdiff_core.config import read_json
from lsegdiff_core.data.images import read_ids
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.export import SIDECAR, coco, sidecar_path
from lsegdiff_core.journal_format import NO_STROKE, smallest_type


class Saved(NamedTuple):
    """What was saved of an image.

    Attributes
    ----------
    labels
        (H, W): the objects' ids, 0 on the background.
    strokes
        (H, W) int32: what the user drew, an id or 0, and `NO_STROKE` elsewhere.
    provenance
        The sidecar without its strokes; empty without a sidecar.
    note
        What the user should know of it: empty, or that the sidecar was written for another mask, whose strokes are
        left out.
    """

    labels: NDArray[np.integer]
    strokes: NDArray[np.int32]
    provenance: dict[str, Any]
    note: str = ""


def user_part(strokes: NDArray[np.int32] | None, seconds: float) -> dict[str, Any]:
    """Return what a sidecar says of the user's work, ready for JSON.

    Parameters
    ----------
    strokes
        (H, W): what the user drew, as in `Saved`; None without any.
    seconds
        Time that the user spent on the image.

    Returns
    -------
    dict
        ``strokes``, a list of ids with run lengths, ``changed``, the share of pixels that the user drew in [0, 1], and
        ``seconds``, to a tenth.
    """
    drawn = np.empty((0, 0), np.int32) if strokes is None else strokes
    theirs = drawn[drawn != NO_STROKE]
    return {
        "strokes": [{"id": int(value), **coco.run_lengths(drawn == value)} for value in np.unique(theirs)],
        "changed": theirs.size / max(1, drawn.size),
        "seconds": round(seconds, 1),
    }


def read_saved(path: Path) -> Saved:
    """Read a mask that was exported in any format, with its sidecar if there is one.

    Parameters
    ----------
    path
        The mask, PNG or COCO, or its sidecar. A PNG of 0 and 255 holds one object, with the id that its sidecar gives
        it or else 1.

    Raises
    ------
    LSegDiffError
        If a file cannot be read, or what stands in it does not fit together; the message names it.
    """
    if path.name.endswith(SIDECAR):
        path = path.with_name(_mask_of(path))
    beside = sidecar_path(path)
    provenance = read_sidecar(beside) if beside.is_file() else {}
    if path.suffix.lower() == ".json":
        labels = _read_coco(path)
    else:
        labels = read_ids(path)
        known = provenance.get("mask", {}).get("format")
        if known == "png" or (known is None and np.isin(labels, (0, 255)).all()):
            ids = [item["id"] for item in provenance.get("objects", [])]
            labels = np.where(labels > 0, ids[0] if len(ids) == 1 else 1, 0)
    labels = labels.astype(smallest_type(labels))
    strokes = np.full(labels.shape, NO_STROKE, np.int32)
    drawn, note = provenance.pop("strokes", []), ""
    if not _made_for(provenance, path):
        drawn = []
        note = (
            f"{path.name} was changed elsewhere, or saving it was cut off: the mask is kept, your strokes are left out"
        )
    try:
        for runs in drawn:
            strokes[coco.from_run_lengths(runs)] = int(runs["id"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise LSegDiffError(f"{beside}: its strokes cannot be read; remove the field 'strokes'") from error
    return Saved(labels, strokes, provenance, note)


def read_sidecar(path: Path) -> dict[str, Any]:
    """Read a mask's sidecar.

    Raises
    ------
    LSegDiffError
        If it cannot be read, or a field that is needed again is not in order; the message names file and field.
    """
    provenance = read_json(path)
    if not isinstance(provenance, dict):
        raise LSegDiffError(f"{path}: expected an object with named fields; correct or remove it")
    for field in ("image", "mask"):
        if not isinstance(provenance.get(field, {}), dict):
            raise LSegDiffError(f"{path}: {field}: expected an object with named fields; correct or remove it")
    try:
        coco.object_classes(provenance)
    except LSegDiffError as error:
        raise LSegDiffError(f"{path}: {error}") from error
    return provenance


def is_mask(path: Path) -> bool:
    """Return whether an image file was exported as a mask: the sidecar beside it names it."""
    try:
        return bool(read_sidecar(sidecar_path(path)).get("mask", {}).get("file") == path.name)
    except LSegDiffError:
        return False


def _mask_of(sidecar: Path) -> str:
    """Return the name of the mask's file, which stands in its sidecar."""
    name = read_sidecar(sidecar).get("mask", {}).get("file")
    if not isinstance(name, str) or Path(name).name != name or not sidecar.with_name(name).is_file():
        raise LSegDiffError(f"{sidecar}: mask.file: {name!r} is not beside it; open the mask itself")
    return name


def _made_for(provenance: Mapping[str, Any], mask: Path) -> bool:
    """Return whether a sidecar belongs to the mask file as it is; one without a hash is believed."""
    known = provenance.get("mask", {}).get("sha256")
    return known is None or known == hashlib.sha256(mask.read_bytes()).hexdigest()


def _read_coco(path: Path) -> NDArray[np.integer]:
    data = read_json(path)
    try:
        return coco.decode(data)
    except (LookupError, TypeError, ValueError, MemoryError) as error:
        raise LSegDiffError(f"{path}: cannot be read as COCO annotations of one image ({error})") from error
