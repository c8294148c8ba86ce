"""A synthetic endoscopy video: the camera moves along the wall, and a polyp passes by and leaves."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsegdiff_core.data.phantom import draw_phantom, grid

# The built-in sample: a polyp that is wholly in sight at first.
VIDEO_SAMPLE_SEED = 1
# The camera sways up and down by this share of the frame's height.
_SWAY = 0.04


class Video(NamedTuple):
    """A drawn video.

    Attributes
    ----------
    frames
        (T, H, W, 3) uint8, RGB.
    masks
        (T, H, W) bool, True on the polyp; empty in the last quarter of the frames.
    """

    frames: NDArray[np.uint8]
    masks: NDArray[np.bool_]


def draw_video(seed: int, length: int = 24, height: int = 360, width: int = 480) -> Video:
    """Draw a video in which one polyp moves evenly through the frame and out of it.

    The same arguments always give the same video.

    Parameters
    ----------
    seed
        Non-negative; chooses everything about the video.
    length
        Number of frames T, at least 4.
    height, width
        Size of a frame in pixels.
    """
    # a wall of twice the frame's size, and mirrored around it where the camera goes beyond
    wall, lesion = draw_phantom(seed, 2 * height, 2 * width)
    margins = ((height, height), (width, width))
    wall, lesion = np.pad(wall, (*margins, (0, 0)), mode="reflect"), np.pad(lesion, margins)
    rows, columns = np.nonzero(lesion)
    row = np.clip(rows.mean(), 1.5 * height, 2.5 * height)
    middle = columns.mean()
    # the camera moves to the side with more room; the polyp is out of sight after three quarters of the way
    side = 1 if middle < 2 * width else -1
    first = -0.1 * width
    gone = np.abs(columns - middle).max() + 0.5 * width + 1
    time = np.linspace(0, 1, length)
    x = middle + side * (first + time / 0.75 * (gone - first))
    y = row + _SWAY * height * np.sin(4 * np.pi * time)

    down, across = grid(height, width)
    light = (1.12 - 0.3 * (across**2 + down**2))[..., None]
    corners = np.abs(across) * height / width + np.abs(down) > 1.65
    frames, masks = np.empty((length, height, width, 3), np.uint8), np.empty((length, height, width), bool)
    for index in range(length):
        top, left = round(y[index] - height / 2), round(x[index] - width / 2)
        part = np.s_[top : top + height, left : left + width]
        frames[index] = np.where(corners[..., None], 3, np.clip(np.rint(wall[part] * light), 0, 255))
        masks[index] = lesion[part] & ~corners
    return Video(frames, masks)
