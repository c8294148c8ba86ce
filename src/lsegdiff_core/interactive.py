"""A simulated user who touches the largest error until the mask is good: the measure of interactive segmentation."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsegdiff_core.config import SamplingConfig
from lsegdiff_core.data.readers import Pair
from lsegdiff_core.hints import BACKGROUND, FOREGROUND, NONE, Hints, paste
from lsegdiff_core.metrics import bootstrap_interval, iou
from lsegdiff_core.predictor import Predictor

Row = dict[str, Any]
# Radius of a touch as a share of the image's diagonal.
RADIUS = 0.025
METHODS = ("re-diffuse", "paint")


def touch(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the stroke that corrects the largest error of ``mask``.

    A disc around the pixel of the largest connected error that lies deepest in it, clipped to the pixels whose truth
    has the disc's label.

    Parameters
    ----------
    mask, truth
        (H, W) bool.

    Returns
    -------
    ndarray
        (H, W) uint8, values as in `lsegdiff_core.hints.Hints.locked`; zeros when there is no error.
    """
    from scipy import ndimage

    stroke = np.full(truth.shape, NONE, np.uint8)
    # misses and false alarms that touch each other are two errors
    regions = [ndimage.label(error)[0] for error in (truth & ~mask, mask & ~truth)]
    sizes = [np.bincount(region.ravel())[1:] for region in regions]
    largest = [int(size.max()) if size.size else 0 for size in sizes]
    kind = int(np.argmax(largest))
    if not largest[kind]:
        return stroke
    error = regions[kind] == int(np.argmax(sizes[kind])) + 1
    # the padding makes the image's edge a border of the error, too
    depth = ndimage.distance_transform_edt(np.pad(error, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(np.argmax(depth)), depth.shape)
    rows, columns = np.ogrid[: truth.shape[0], : truth.shape[1]]
    disc = (rows - row) ** 2 + (columns - column) ** 2 <= (RADIUS * math.hypot(*truth.shape)) ** 2
    foreground = bool(truth[row, column])
    stroke[disc & (truth == foreground)] = FOREGROUND if foreground else BACKGROUND
    return stroke


def interact(
    predictor: Predictor, pairs: Sequence[Pair], sampling: SamplingConfig, touches: int, method: str
) -> Iterator[Row]:
    """Correct each image's mask by touches.

    Parameters
    ----------
    predictor
        The model.
    pairs
        Images and masks.
    sampling
        How each mask is sampled.
    touches
        How many touches an image gets.
    method
        ``re-diffuse`` samples again under all touches so far and the current mask; ``paint`` only lays the touches
        over the first mask.

    Yields
    ------
    dict
        One row an image: name, method, iou (before the first touch and after each) and seconds (of each
        touch: reading the stroke, hints, sampling and refinement).

    Raises
    ------
    LSegDiffError
        If a file cannot be read or sizes differ.
    """
    for pair in pairs:
        image, truth = pair.read()
        predictor.set_image(image, pair.image.name)
        prediction = predictor.predict(sampling)
        mask = first = prediction.mask
        locked = np.full(truth.shape, NONE, np.uint8)
        scores, seconds = [iou(mask, truth)], []
        for _ in range(touches):
            stroke = touch(mask, truth)
            if not stroke.any():  # nothing is wrong any more
                scores.append(scores[-1])
                continue
            began = time.perf_counter()
            locked = np.where(stroke == NONE, locked, stroke)
            painted = paste(first if method == "paint" else mask, locked)
            mask = painted if method == "paint" else predictor.predict(sampling, Hints(locked, painted)).mask
            seconds.append(time.perf_counter() - began)
            scores.append(iou(mask, truth))
        yield {"name": pair.name, "method": method, "iou": scores, "seconds": seconds}


def summarise_interaction(rows: Sequence[Row]) -> list[Row]:
    """Return one row per method: mean IoU by number of touches, the gain over no touch with its interval, seconds."""
    summary = []
    for method in dict.fromkeys(row["method"] for row in rows):
        scores = np.array([row["iou"] for row in rows if row["method"] == method])
        gains = scores - scores[:, :1]
        seconds = [value for row in rows if row["method"] == method for value in row["seconds"]]
        summary.append(
            {
                "method": method,
                "n": len(scores),
                "iou": scores.mean(axis=0).tolist(),
                "gain": gains.mean(axis=0).tolist(),
                "gain_interval": [bootstrap_interval(gain) for gain in gains.T],
                "seconds_per_touch": float(np.median(seconds)) if seconds else None,
            }
        )
    return summary
