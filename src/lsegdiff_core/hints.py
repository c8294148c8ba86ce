"""What the user knows of the mask, at the image's size; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsegdiff_core.data.geometry import Geometry
from lsegdiff_core.data.images import pixel_hash
from lsegdiff_core.errors import LSegDiffError

# Values of `Hints.locked`.
NONE, FOREGROUND, BACKGROUND = range(3)
# A stroke marks each pixel of the square that it covers to this share: a line of one pixel of a 1080p frame is not
# lost, and a thick one grows by a pixel of the square at most.
COVERED = 0.03


@dataclass(frozen=True, eq=False)
class Hints:
    """Strokes and the mask that they correct.

    Attributes
    ----------
    locked
        (H, W) uint8: 0 where the user said nothing, 1 where the user painted foreground, 2 background.
    current
        (H, W) bool, the mask that the user saw, strokes included; None when there was none.
    """

    locked: NDArray[np.uint8]
    current: NDArray[np.bool_] | None = None

    @property
    def provenance(self) -> dict[str, Any]:
        """The strokes' and the mask's sha256 (of the arrays' bytes; None without a mask), ready for JSON."""
        arrays = {"locked": self.locked, "current": self.current}
        return {name: None if array is None else pixel_hash(array) for name, array in arrays.items()}

    def planes(self, geometry: Geometry, size: int) -> NDArray[np.float32]:
        """Return what the hint encoder takes: (4, ``size``, ``size``) float32 in [0, 1].

        Raises
        ------
        LSegDiffError
            If an array has not the image's size.
        """
        for name, array in (("locked", self.locked), ("current", self.current)):
            if array is not None and array.shape != geometry.shape:
                raise LSegDiffError(f"{name}: has shape {array.shape}, the image {geometry.shape}; give one size")
        foreground, background = (
            geometry.mask_to_square(self.locked == value, size) for value in (FOREGROUND, BACKGROUND)
        )
        given = self.current is not None
        current = geometry.mask_to_square(self.current, size) if self.current is not None else np.zeros_like(foreground)
        planes = [
            (foreground > COVERED) & (foreground >= background),
            (background > COVERED) & (background > foreground),
            current >= 0.5,
            np.full_like(foreground, given),
        ]
        return np.stack(planes).astype(np.float32)


def paste(mask: NDArray[np.bool_], locked: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return ``mask`` (H, W) with the strokes of ``locked`` (H, W) laid over it."""
    pasted: NDArray[np.bool_] = (mask | (locked == FOREGROUND)) & (locked != BACKGROUND)
    return pasted
