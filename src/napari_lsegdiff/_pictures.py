"""Arrays as Qt pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from qtpy.QtGui import QColor, QIcon, QImage, QPixmap

PATCH = 14


def icon(picture: NDArray[np.uint8]) -> QIcon:
    """Return ``picture`` (H, W, 3) uint8 as an icon."""
    pixels = np.ascontiguousarray(picture)
    height, width = pixels.shape[:2]
    image = QImage(pixels.data, width, height, 3 * width, QImage.Format.Format_RGB888)
    return _same(QPixmap.fromImage(image.copy()))


def patch(colour: str) -> QIcon:
    """Return a square of a colour, ``#rrggbb``."""
    pixels = QPixmap(PATCH, PATCH)
    pixels.fill(QColor(colour))
    return _same(pixels)


def _same(pixels: QPixmap) -> QIcon:
    """Return an icon that keeps its colours when its row is selected."""
    made = QIcon(pixels)
    made.addPixmap(pixels, QIcon.Mode.Selected)
    return made
