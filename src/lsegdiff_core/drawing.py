"""Shapes to masks, and masks to small pictures; no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
OUTLINE = (80, 255, 120)


def disc(shape: tuple[int, ...], centre: tuple[float, float], radius: float) -> Mask:
    """Return the disc of ``radius`` pixels around ``centre`` (row, column) as a mask of ``shape`` (H, W)."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    inside: Mask = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2
    return inside


def box(shape: tuple[int, ...], corners: NDArray[np.floating]) -> Mask:
    """Return the inside of a rectangle as a mask of ``shape`` (H, W); it may be turned.

    Parameters
    ----------
    shape
        Height and width in pixels.
    corners
        (4, 2), row and column, in their order.
    """
    low, high = corners.min(axis=0), corners.max(axis=0)
    if not np.isclose(corners[..., None], np.stack([low, high], axis=1)).any(axis=2).all():
        return polygon(shape, corners)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    inside: Mask = (rows >= low[0]) & (rows <= high[0]) & (columns >= low[1]) & (columns <= high[1])
    return inside


def polygon(shape: tuple[int, ...], vertices: NDArray[np.floating]) -> Mask:
    """Return the inside of a polygon as a mask of ``shape`` (H, W).

    Parameters
    ----------
    shape
        Height and width in pixels.
    vertices
        (N, 2), row and column, where (0, 0) is the middle of the first pixel.
    """
    from skimage import draw

    mask = np.zeros(shape[:2], np.bool_)
    mask[draw.polygon(vertices[:, 0], vertices[:, 1], shape[:2])] = True  # type: ignore[no-untyped-call]
    return mask


def ellipse(shape: tuple[int, ...], corners: NDArray[np.floating]) -> Mask:
    """Return the inside of the ellipse that fits a rectangle as a mask of ``shape`` (H, W).

    Parameters
    ----------
    shape
        Height and width in pixels.
    corners
        (4, 2), the rectangle's corners in their order, row and column; it may be turned.
    """
    centre = corners.mean(axis=0)
    along, across = (corners[1] - corners[0]) / 2, (corners[2] - corners[1]) / 2
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)[:, None]
    return polygon(shape, centre + np.cos(angle) * along + np.sin(angle) * across)


def outlined(image: NDArray[np.uint8], mask: Mask) -> NDArray[np.uint8]:
    """Return ``image`` (H, W, 3) uint8 with the outline of ``mask`` (H, W) drawn on it."""
    from scipy import ndimage

    width = max(1, min(mask.shape) // 240)
    picture = image.copy()
    picture[mask ^ ndimage.binary_erosion(mask, iterations=width)] = OUTLINE
    return picture


def shrunk(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return ``image`` (H, W, 3) uint8 with a longest side of ``size`` pixels."""
    from PIL import Image

    small = _fitting(image.shape, size)
    return np.asarray(Image.fromarray(image).resize(small, Image.Resampling.BILINEAR, reducing_gap=2.0))


def thumbnail(image: NDArray[np.uint8], mask: Mask, size: int) -> NDArray[np.uint8]:
    """Return a picture of at most ``size`` x ``size`` pixels, (h, w, 3) uint8, with the outline of ``mask``.

    Parameters
    ----------
    image
        (H, W, 3) uint8.
    mask
        (H, W) bool.
    size
        Longest side of the result in pixels.
    """
    from PIL import Image

    small = Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).resize(
        _fitting(mask.shape, size), Image.Resampling.BOX
    )
    return outlined(shrunk(image, size), np.asarray(small) >= 128)


def _fitting(shape: tuple[int, ...], size: int) -> tuple[int, int]:
    """Return width and height of a picture of ``shape`` that is made to fit a square."""
    scale = size / max(shape[:2])
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))
