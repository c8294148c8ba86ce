"""Writing label masks to files, each with a sidecar that says where the mask came from; one module a format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.export import coco, png_binary, png_indexed
from lsegdiff_core.files import write_together

# From labels (H, W) and their provenance to the bytes of the file; none of them touches the disk.
EXPORTERS: dict[str, Callable[[NDArray[np.integer], Mapping[str, Any]], bytes]] = {
    "png": png_binary.encode,
    "indexed-png": png_indexed.encode,
    "coco": coco.encode,
}
SIDECAR = ".provenance.json"
SUFFIXES = {"png": ".png", "indexed-png": ".png", "coco": ".json"}


def sidecar_path(path: str | Path) -> Path:
    """Return where the provenance of the mask file ``path`` stands: ``a/mask.provenance.json`` for ``a/mask.png``."""
    return Path(path).with_suffix(SIDECAR)


def sidecar_text(provenance: Mapping[str, Any]) -> str:
    """Return a sidecar's content; raises TypeError or ValueError if that is not JSON."""
    return json.dumps(provenance, indent=2, allow_nan=False) + "\n"


def export_labels(
    labels: NDArray[np.integer] | NDArray[np.bool_], path: str | Path, format: str, provenance: Mapping[str, Any]
) -> tuple[Path, Path]:
    """Write ``labels`` and, beside them, a sidecar of their provenance; both files or none.

    Parameters
    ----------
    labels
        (H, W) integer or bool: 0 on the background, elsewhere the object's id.
    path
        Mask file with the suffix of the format; its folder is made when missing, an existing file is replaced.
    format
        Name in `EXPORTERS`.
    provenance
        Ready for JSON. The sidecar holds it, and under ``mask`` the mask file's name, format and sha256.

    Returns
    -------
    tuple of Path
        The mask file and its sidecar.

    Raises
    ------
    LSegDiffError
        If the format is unknown, the suffix is not the format's, the labels are of another kind or do not fit the
        format, the provenance is not JSON, or the system refuses to write. No file is changed then.
    """
    path = Path(path)
    if format not in EXPORTERS:
        raise LSegDiffError(f"format: unknown name '{format}'; choose one of {', '.join(EXPORTERS)}")
    if path.suffix.lower() != SUFFIXES[format]:
        raise LSegDiffError(f"{path}: format '{format}' is written to *{SUFFIXES[format]}; change the file's suffix")
    mask = EXPORTERS[format](_checked(labels), provenance)
    about = {"file": path.name, "format": format, "sha256": hashlib.sha256(mask).hexdigest()}
    try:
        sidecar = sidecar_text({**provenance, "mask": about})
    except (TypeError, ValueError) as error:
        raise LSegDiffError(f"provenance: cannot be written as JSON ({error}); use plain finite values") from error
    beside = sidecar_path(path)
    write_together(
        {
            path: lambda temporary: temporary.write_bytes(mask),
            beside: lambda temporary: temporary.write_text(sidecar, encoding="utf-8"),
        }
    )
    return path, beside


def _checked(labels: NDArray[Any]) -> NDArray[np.integer]:
    kind = labels.dtype.kind
    if kind not in "bui" or labels.ndim != 2 or not labels.size:
        raise LSegDiffError(
            f"labels: expected whole numbers of height x width, got {labels.dtype} of shape {labels.shape}; "
            "give 0 for background and an object's id elsewhere"
        )
    if kind == "b":
        return labels.astype(np.uint8)
    if kind == "i" and int(labels.min()) < 0:
        raise LSegDiffError(f"labels: object id {int(labels.min())} is negative; ids are 1 and above, background is 0")
    return labels
