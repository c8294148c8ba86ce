"""The way from an image to the network's square input and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# A line of pixels belongs to the black border of an endoscope when fewer than this share is brighter than DARK.
CONTENT_SHARE = 0.05
DARK = 24
# Never crop away more than this share of a side: what looks like a border is then a dark image.
MIN_CONTENT = 0.4


@dataclass(frozen=True)
class Geometry:
    """Where the network's square lies in an image.

    Attributes
    ----------
    shape
        (H, W) of the image, pixels.
    box
        (top, left, bottom, right), pixels; the part that was squashed to the square.
    """

    shape: tuple[int, int]
    box: tuple[int, int, int, int]

    @classmethod
    def of(cls, image: NDArray[np.uint8]) -> Geometry:
        """Find the content of ``image`` (H, W, 3): everything but a black border on any side."""
        height, width = image.shape[:2]
        step = max(1, min(height, width) // 256)
        bright = image[::step, ::step].max(axis=2) > DARK
        top, bottom = _span(bright.mean(axis=1))
        left, right = _span(bright.mean(axis=0))
        # only every step-th line was looked at: the content may begin right behind the last dark one
        top, left = (max(0, (first - 1) * step + 1) for first in (top, left))
        box = (top, left, min(bottom * step, height), min(right * step, width))
        if box[2] - box[0] < MIN_CONTENT * height or box[3] - box[1] < MIN_CONTENT * width:
            box = (0, 0, height, width)
        return cls((height, width), box)

    def around(self, mask: NDArray[np.bool_], margin: float, smallest: float) -> Geometry:
        """Return the geometry of a crop around ``mask`` (H, W) with the proportions of this box.

        Parameters
        ----------
        mask
            At least one pixel of it lies inside the box.
        margin
            Added on each side, as a share of the mask's own extent.
        smallest
            The crop's sides are at least this share of the box's, so that the zoom has a limit.
        """
        top, left, bottom, right = self.box
        height, width = bottom - top, right - left
        rows, columns = (np.flatnonzero(mask[top:bottom, left:right].any(axis=axis)) for axis in (1, 0))
        extents = (np.ptp(rows) + 1) / height, (np.ptp(columns) + 1) / width
        share = min(1.0, max(smallest, max(extents) * (1 + 2 * margin)))
        crop = []
        for lines, side in ((rows, height), (columns, width)):
            length = round(share * side)
            start = round((lines[0] + lines[-1] + 1 - length) / 2)
            crop.append((min(max(start, 0), side - length), length))
        (down, tall), (across, wide) = crop
        return Geometry(self.shape, (top + down, left + across, top + down + tall, left + across + wide))

    def to_square(self, image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
        """Squash the content of ``image`` (H, W) or (H, W, 3) to ``size`` x ``size``, with anti-aliasing."""
        top, left, bottom, right = self.box
        # cropped first: a resampling filter that sees beyond the box would mix the black border in
        content = Image.fromarray(image[top:bottom, left:right])
        resized = content.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0)
        return np.asarray(resized)

    def mask_to_square(self, mask: NDArray[np.bool_], size: int) -> NDArray[np.float32]:
        """Squash a mask (H, W) to ``size`` x ``size``; values are the covered share, in [0, 1]."""
        if not mask.any():  # as most planes of strokes are
            return np.zeros((size, size), np.float32)
        return self.to_square(mask.astype(np.uint8) * np.uint8(255), size).astype(np.float32) / 255.0

    def from_square(self, square: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring a map (S, S) float32 back to the image's size; 0 outside the box.

        Pixel areas are aligned, so the map's edge falls exactly on the box's edge.
        """
        top, left, bottom, right = self.box
        content = np.asarray(
            Image.fromarray(square.astype(np.float32, copy=False)).resize(
                (right - left, bottom - top), Image.Resampling.BILINEAR
            )
        )
        if (bottom - top, right - left) == self.shape:
            return content
        full = np.zeros(self.shape, dtype=np.float32)
        full[top:bottom, left:right] = content
        return full


def _span(share: NDArray[np.floating]) -> tuple[int, int]:
    lines = np.flatnonzero(share >= CONTENT_SHARE)
    return (int(lines[0]), int(lines[-1]) + 1) if lines.size else (0, len(share))
