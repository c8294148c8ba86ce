"""What is segmented, and the mask that comes of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from napari.layers import Image
from numpy.typing import NDArray

from napari_lsegdiff._frames import Frame, read_frame
from napari_lsegdiff._objects import Origin


@dataclass(frozen=True)
class Job:
    """One object in one frame of one image layer, to be segmented."""

    image: Image
    frame: Frame
    number: int
    name: str

    def read(self) -> NDArray[np.generic]:
        """Return the frame's pixels; may be slow for a lazy stack."""
        return read_frame(self.image, self.frame)


@dataclass(frozen=True)
class Refined:
    """A mask (H, W) bool that is ready to be shown, and how it was made."""

    job: Job
    mask: NDArray[np.bool_]
    origin: Origin
