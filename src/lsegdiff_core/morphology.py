"""From a probability map to a mask; scikit-image and scipy do the work."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from lsegdiff_core.config import MorphologyConfig

Mask = NDArray[np.bool_]


def refine(probability: NDArray[np.float32], config: MorphologyConfig) -> Mask:
    """Threshold and refine a probability map.

    In this order: smooth, threshold, opening, closing, fill holes, remove small components, keep the largest. The
    work is done on the part of the image around the mask only.

    Parameters
    ----------
    probability
        (H, W) float32 in [0, 1].
    config
        Lengths in pixels of the image.

    Returns
    -------
    ndarray
        (H, W) bool.
    """
    # nothing in an image is longer than its diagonal: a longer radius does the same and costs memory
    diagonal = math.hypot(*probability.shape)
    lengths = {name: min(getattr(config, name), diagonal) for name in ("opening", "closing", "smooth")}
    config = dataclasses.replace(config, **lengths)
    mask = np.zeros(probability.shape, dtype=np.bool_)
    # the Gaussian reaches 4 sigma, so a pixel that passes after smoothing is that near to one that passes before, and
    # its value depends on pixels 4 sigma further
    reach = math.ceil(8 * config.smooth + config.opening + config.closing) + 2
    window = bounding_window(probability, config.threshold, reach)
    if window is not None:
        mask[window] = _refine_window(probability[window], config)
    return mask


def drop_doubtful(mask: Mask, expected: NDArray[np.float32], least: float, kept: Mask | None = None) -> Mask:
    """Remove the components that the model is not sure of.

    Parameters
    ----------
    mask
        (H, W) bool.
    expected
        (H, W) float32 in [0, 1], the probability that the confidence of a component is the mean of.
    least
        Components with less are removed.
    kept
        (H, W) bool; a component that holds one of these pixels stays.

    Returns
    -------
    ndarray
        (H, W) bool.
    """
    from scipy import ndimage

    window = bounding_window(mask, True, 0)
    if window is None:
        return mask
    inside = mask[window]
    labels, count = ndimage.label(inside, structure=np.ones((3, 3)))
    numbers = labels[inside]  # a component is mostly small beside the box around all of them
    sums = np.bincount(numbers, weights=expected[window][inside])
    sure = np.zeros(count + 1, dtype=np.bool_)
    sure[1:] = sums[1:] / np.bincount(numbers)[1:] >= least
    if kept is not None:
        sure[labels[kept[window]]] = True
        sure[0] = False
    remaining = np.zeros_like(mask)
    remaining[window] = sure[labels]
    return remaining


def components(mask: Mask) -> tuple[NDArray[np.int32], int]:
    """Return ``mask`` (H, W) with its connected parts numbered, the largest first.

    Returns
    -------
    tuple
        (H, W) int32, 0 on the background and 1 on the largest part (diagonal neighbours are connected), and the number
        of parts.
    """
    from scipy import ndimage

    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    order = np.argsort(-np.bincount(labels.ravel(), minlength=count + 1)[1:], kind="stable")
    rank = np.zeros(count + 1, np.int32)
    rank[order + 1] = np.arange(1, count + 1)
    return rank[labels], count


def bounding_window(values: NDArray[np.float32] | Mask, level: float, reach: int) -> tuple[slice, slice] | None:
    """Return the bounding box of what is at least ``level``, grown by ``reach``; None when there is nothing."""
    candidates = values >= level
    rows = np.flatnonzero(candidates.any(axis=1))
    if not rows.size:
        return None
    columns = np.flatnonzero(candidates[rows[0] : rows[-1] + 1].any(axis=0))
    return (
        slice(max(0, int(rows[0]) - reach), int(rows[-1]) + reach + 1),
        slice(max(0, int(columns[0]) - reach), int(columns[-1]) + reach + 1),
    )


def _refine_window(probability: NDArray[np.float32], config: MorphologyConfig) -> Mask:
    from scipy import ndimage
    from skimage.morphology import isotropic_closing, isotropic_opening

    if config.smooth:
        probability = ndimage.gaussian_filter(probability, config.smooth, mode="nearest")
    mask: Mask = probability >= config.threshold
    # a mask that touches the border goes on beyond it: it must not be eaten away there
    pad = math.ceil(config.opening + config.closing) + 1
    padded = np.pad(mask, pad, mode="edge")
    if config.opening:
        padded = isotropic_opening(padded, config.opening)  # type: ignore[no-untyped-call]
    if config.closing:
        padded = isotropic_closing(padded, config.closing)  # type: ignore[no-untyped-call]
    mask = padded[pad:-pad, pad:-pad]
    if config.fill_holes:
        # what the outside does not reach; ten times faster than ndimage.binary_fill_holes on a large window
        background, _ = ndimage.label(np.pad(~mask, 1, constant_values=True))
        mask = (background != background[0, 0])[1:-1, 1:-1]
    if config.min_area > 1 or config.keep_largest:
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        areas = np.bincount(labels.ravel(), minlength=count + 1)
        areas[0] = 0
        kept = areas >= max(config.min_area, 1)
        if config.keep_largest and count:
            kept &= np.arange(count + 1) == int(areas.argmax())
        mask = kept[labels]
    return mask
