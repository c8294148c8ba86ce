"""Save Selected Layer: a Labels layer in each of the export formats, with its provenance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_lsegdiff._objects import METADATA, sidecar


def write_indexed(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write labels as PNG with the objects' numbers; see `write_labels`."""
    return write_labels(path, data, attributes, "indexed-png")


def write_binary(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write labels as PNG, 255 on any object and 0 elsewhere; see `write_labels`."""
    return write_labels(path, data, attributes, "png")


def write_coco(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write labels as COCO annotations, one an object; see `write_labels`."""
    return write_labels(path, data, attributes, "coco")


def write_labels(path: str, data: Any, attributes: dict[str, Any], format: str) -> list[str]:
    """Write labels; of a stack each frame becomes a file of its own.

    Parameters
    ----------
    path
        Ends in the format's suffix; a stack's files are called ``name_0000.png`` and so on.
    data
        (H, W) or (T, H, W) integers.
    attributes
        The layer's attributes, as napari gives them.
    format
        Name in `lsegdiff_core.export.EXPORTERS`.

    Returns
    -------
    list of str
        The files written, without the sidecars.
    """
    from lsegdiff_core.export import export_labels

    known = attributes.get("metadata", {}).get(METADATA, {})
    written = []
    for frame in np.ndindex(*data.shape[:-2]):
        target = Path(path)
        if frame:
            target = target.with_name(f"{target.stem}_{'_'.join(f'{i:04d}' for i in frame)}{target.suffix}")
        labels = np.asarray(data[frame])
        about = sidecar(known.get(frame), labels, attributes.get("features"))
        export_labels(labels, target, format, about)
        written.append(str(target))
    return written
