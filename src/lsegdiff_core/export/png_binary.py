"""Binary mask as an 8-bit grey PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def encode(labels: NDArray[np.integer], provenance: Mapping[str, Any]) -> bytes:
    """Return ``labels`` (H, W) as a PNG file: 255 on every object, 0 elsewhere."""
    buffer = io.BytesIO()
    Image.fromarray(np.where(labels > 0, np.uint8(255), np.uint8(0))).save(buffer, format="PNG")
    return buffer.getvalue()
