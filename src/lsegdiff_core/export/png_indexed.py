"""Object ids as an 8-bit palette PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lsegdiff_core.errors import LSegDiffError

MAX_ID = 255


def encode(labels: NDArray[np.integer], provenance: Mapping[str, Any]) -> bytes:
    """Return ``labels`` (H, W) as a PNG file whose pixel values are the object ids, in the colours of Pascal VOC.

    Raises
    ------
    LSegDiffError
        If an id does not fit 8 bits.
    """
    top = int(labels.max())
    if top > MAX_ID:
        raise LSegDiffError(
            f"labels: object id {top} does not fit an indexed PNG (at most {MAX_ID}); give the object a smaller id, "
            "or export as 'coco'"
        )
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette(_voc_palette())  # all 256 entries, or Pillow would write fewer bits a pixel
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _voc_palette() -> bytes:
    """Return 256 RGB triples: the bits of the index, three at a time, become the high bits of the channels."""
    index = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for level in range(8):
        for channel in range(3):
            bit = (index >> (3 * level + channel)) & 1
            palette[:, channel] |= (bit << (7 - level)).astype(np.uint8)
    return palette.tobytes()
