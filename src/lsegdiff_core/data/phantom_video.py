"""A synthetic endoscopy video: the camera moves along the wall, and a polyp passes by and leaves."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lsegdiff_core.data.phantom import draw_phantom, grid

# The built-in sample: the polyp is whole in the first half of the frames.
VIDEO_SAMPLE_SEED = 1
# The wall is this much larger than a frame, so that the camera can move over it.
_WALL_HEIGHT, _WALL_WIDTH = 1.25, 4.0


class Video(NamedTuple):
    """A drawn video.

    Attributes
    ----------
    frames
        (T, H, W, 3) uint8, RGB.
    masks
        (T, H, W) bool, True on the polyp; empty in the last frames.
    """

    frames: NDArray[np.uint8]
    masks: NDArray[np.bool_]


def draw_video(seed: int, length: int = 24, height: int = 360, width: int = 480) -> Video:
    """Draw a video in which one polyp moves smoothly through the frame and out of it.

    The same arguments always give the same video.

    Parameters
    ----------
    seed
        Non-negative; chooses everything about the video.
    length
        Number of frames T, at least 2.
    height, width
        Size of a frame in pixels.
    """
    wall, lesion = draw_phantom(seed, round(height * _WALL_HEIGHT), round(width * _WALL_WIDTH))
    rng = np.random.default_rng((seed, length))
    rows, columns = np.nonzero(lesion)
    middle = np.array([rows.mean(), columns.mean()])
    # towards the longer side, and on until the polyp is out of sight with a quarter of the way left
    side = 1 if middle[1] < lesion.shape[1] / 2 else -1
    reach = columns.max() - middle[1] if side > 0 else middle[1] - columns.min()
    first, out = -0.15 * width, reach + 0.5 * width
    last = first + (out - first) / 0.75
    time = np.linspace(0, 1, length)
    sway = 0.05 * height * np.sin(2 * np.pi * (time * rng.uniform(1, 2) + rng.uniform()))
    centres = np.stack([np.full(length, lesion.shape[0] / 2) + sway, middle[1] + side * (first + time * (last - first))])

    y, x = grid(height, width)
    light = (1.1 - 0.35 * (x**2 + y**2)).astype(np.float32)
    outside = np.abs(x) * height / width + np.abs(y) > 1.65
    frames, masks = np.zeros((length, height, width, 3), np.uint8), np.zeros((length, height, width), bool)
    for frame, mask, centre in zip(frames, masks, centres.T, strict=True):
        corner = centre - (height / 2, width / 2)
        for channel in range(3):
            shown = _window(wall[..., channel].astype(np.float32), corner, (height, width)) * light
            frame[..., channel] = np.where(outside, 3, np.clip(np.rint(shown), 0, 255))
        mask[:] = (_window(lesion.astype(np.float32), corner, (height, width)) >= 0.5) & ~outside
    return Video(frames, masks)


def _window(picture: NDArray[np.float32], corner: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float32]:
    shown: NDArray[np.float32] = ndimage.affine_transform(
        picture, np.ones(2), offset=corner, output_shape=shape, order=1, mode="nearest"
    )
    return shown
