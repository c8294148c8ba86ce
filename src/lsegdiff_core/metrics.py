"""How well a mask agrees with the truth: overlap, surface distances, and the uncertainty of a mean; no torch.

The surface of a mask is its foreground pixels with a background pixel, or the image's edge, above, below, left or
right. Definitions and values are MONAI's; the conventions for empty masks are stated with each function.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lsegdiff_core.errors import LSegDiffError

Mask = NDArray[np.bool_]


def dice(predicted: Mask, truth: Mask) -> float:
    """Return the Dice coefficient of two (H, W) bool masks, in [0, 1]; two empty masks give 1."""
    _check(predicted, truth)
    total = int(np.count_nonzero(predicted)) + int(np.count_nonzero(truth))
    return 2.0 * int(np.count_nonzero(predicted & truth)) / total if total else 1.0


def iou(predicted: Mask, truth: Mask) -> float:
    """Return the intersection over union of two (H, W) bool masks, in [0, 1]; two empty masks give 1."""
    _check(predicted, truth)
    union = int(np.count_nonzero(predicted | truth))
    return int(np.count_nonzero(predicted & truth)) / union if union else 1.0


def pairwise_iou(masks: Mask) -> NDArray[np.float64]:
    """Return the IoU of each pair of the (K, H, W) bool masks, (K, K) float64; two empty masks give 1."""
    flat = masks.reshape(len(masks), -1).astype(np.float64)
    overlap = flat @ flat.T
    area = overlap.diagonal()
    union = area[:, None] + area[None, :] - overlap
    return np.divide(overlap, union, out=np.ones_like(overlap), where=union > 0)


def mean_pairwise_iou(masks: Mask) -> float:
    """Return the mean IoU over all pairs of the (K, H, W) bool masks, in [0, 1]; 1 for a single one."""
    pairs = pairwise_iou(masks)[np.triu_indices(len(masks), 1)]
    return float(pairs.mean()) if pairs.size else 1.0


def hd95(predicted: Mask, truth: Mask) -> float:
    """Return the 95th percentile of the Hausdorff distance.

    The larger of the two directed 95th percentiles of the distances from one surface to the other.

    Parameters
    ----------
    predicted, truth
        (H, W) bool.

    Returns
    -------
    float
        Pixels. 0 when both masks are empty, the image's diagonal when only one is.
    """
    _check(predicted, truth)
    if not predicted.any() or not truth.any():
        return math.hypot(*truth.shape) if predicted.any() or truth.any() else 0.0
    return max(float(np.percentile(distances, 95)) for distances in _surface_distances(predicted, truth))


def normalised_surface_distance(predicted: Mask, truth: Mask, tolerance: float) -> float:
    """Return the share of both surfaces that lies within ``tolerance`` of the other one (Nikolov et al. 2018).

    Parameters
    ----------
    predicted, truth
        (H, W) bool.
    tolerance
        Pixels, at least 0; a distance equal to it still counts as agreement.

    Returns
    -------
    float
        In [0, 1]. 1 when both masks are empty, 0 when only one is.

    Raises
    ------
    LSegDiffError
        For a tolerance that is negative or not finite.
    """
    _check(predicted, truth)
    if not 0 <= tolerance < math.inf:
        raise LSegDiffError(f"tolerance: {tolerance} is not a distance; give 0 or a positive number of pixels")
    if not predicted.any() or not truth.any():
        return 0.0 if predicted.any() or truth.any() else 1.0
    return float(np.mean(np.concatenate(_surface_distances(predicted, truth)) <= tolerance))


def bootstrap_interval(
    values: Sequence[float] | NDArray[np.floating], seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean.

    Parameters
    ----------
    values
        One finite number per image.
    seed
        Of the generator; equal seeds give equal intervals.
    resamples
        How many samples of ``len(values)`` are drawn with replacement.
    level
        Share of the resampled means inside the interval, in (0, 1).

    Returns
    -------
    tuple of float
        Lower and upper end.

    Raises
    ------
    LSegDiffError
        If there are no values, one is not finite, or another argument is out of range.
    """
    array = np.asarray(values, dtype=np.float64).ravel()
    if not array.size or not np.isfinite(array).all():
        raise LSegDiffError("values: an interval needs at least one value, and finite ones; leave the others out")
    if resamples < 1:
        raise LSegDiffError(f"resamples: {resamples} is too few; give at least 1, better 2000")
    if not 0 < level < 1:
        raise LSegDiffError(f"level: {level} is outside (0, 1); 0.95 is usual")
    generator = np.random.default_rng(seed)
    means = [generator.choice(array, array.size).mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _check(predicted: Mask, truth: Mask) -> None:
    for name, mask in (("predicted", predicted), ("truth", truth)):
        if mask.dtype != np.bool_ or mask.ndim != 2:
            raise LSegDiffError(
                f"{name}: expected a boolean mask of height x width, got {mask.dtype} of shape {mask.shape}; "
                "threshold it, for example with labels > 0"
            )
    if predicted.shape != truth.shape:
        raise LSegDiffError(
            f"predicted, truth: shapes {predicted.shape} and {truth.shape} differ; bring both to the image's size"
        )


def _surface_distances(predicted: Mask, truth: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the distance of each surface pixel to the other surface, predicted to truth and back; none is empty."""
    from scipy import ndimage

    # all surface pixels lie in the window around both masks, and so does the nearest one of each
    window = ndimage.find_objects((predicted | truth).view(np.uint8))[0]
    one, other = (mask[window] ^ ndimage.binary_erosion(mask[window]) for mask in (predicted, truth))
    return ndimage.distance_transform_edt(~other)[one], ndimage.distance_transform_edt(~one)[other]
