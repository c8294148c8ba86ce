"""A simulated user who corrects masks touch by touch: the measure of interactive segmentation."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsegdiff_core.config import SamplingConfig
from lsegdiff_core.data.readers import Pair
from lsegdiff_core.drawing import disc
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.hints import BACKGROUND, FOREGROUND, NONE, Hints, paste
from lsegdiff_core.metrics import bootstrap_interval, iou
from lsegdiff_core.morphology import bounding_window
from lsegdiff_core.predictor import Predictor

Mask = NDArray[np.bool_]
Row = dict[str, Any]
# Radius of a touch, and half the length and the half width of a stroke, as shares of the image's diagonal.
RADIUS, REACH, WIDTH = 0.025, 0.06, 0.008
METHODS = ("re-diffuse", "paint")
TOUCHES = ("disc", "stroke")
# Touches after which a user gives up, and the IoU that the count of touches is stated for.
MOST, TARGETS = 20, (0.85, 0.90)
# Every image gets as many touches, so that the mean IoU is one over all images.
SCORED = 5
# A round that costs more IoU counts as a loss.
LOSS = 0.02
# Share of a noisy user's touches that have the wrong label.
WRONG = 0.1


@dataclass(frozen=True)
class User:
    """How touches are made.

    Attributes
    ----------
    touch
        ``disc``, or ``stroke``: a short line along the middle of the error.
    noisy
        Touches lie anywhere in the error instead of in its middle, and one in ten has the wrong label.

    Raises
    ------
    LSegDiffError
        For another kind of touch.
    """

    touch: str = "disc"
    noisy: bool = False

    def __post_init__(self) -> None:
        if self.touch not in TOUCHES:
            raise LSegDiffError(f"touch: unknown name '{self.touch}'; choose one of {', '.join(TOUCHES)}")

    def correct(self, mask: Mask, truth: Mask, generator: np.random.Generator) -> NDArray[np.uint8]:
        """Return the stroke that corrects the largest connected error of ``mask``.

        A disc around the pixel that lies deepest in the error, or a line through it; clipped to the pixels whose
        truth has the label of that pixel.

        Parameters
        ----------
        mask, truth
            (H, W) bool.
        generator
            Of a noisy user's mistakes.

        Returns
        -------
        ndarray
            (H, W) uint8, values as in `lsegdiff_core.hints.Hints.locked`; zeros when there is no error.
        """
        locked = np.full(truth.shape, NONE, np.uint8)
        error = largest_error(mask, truth)
        window = bounding_window(error, True, round(RADIUS * math.hypot(*truth.shape)) + 1)
        if window is None:
            return locked
        region, inside = error[window], truth[window]
        centre = _random_pixel(region, generator) if self.noisy else _deepest_pixel(region)
        drawn = disc(region.shape, centre, RADIUS * math.hypot(*truth.shape))
        if self.touch == "stroke":
            drawn = _stroke(region, centre, math.hypot(*truth.shape))
        foreground = bool(inside[centre])
        label = foreground ^ (self.noisy and bool(generator.random() < WRONG))
        locked[window][drawn & (inside == foreground)] = FOREGROUND if label else BACKGROUND
        return locked


def largest_error(mask: Mask, truth: Mask) -> Mask:
    """Return the largest connected error of ``mask`` (H, W) bool; a miss and a false alarm that touch are two."""
    from scipy import ndimage

    regions = [ndimage.label(error)[0] for error in (truth & ~mask, mask & ~truth)]
    sizes = [np.bincount(region.ravel())[1:] for region in regions]
    largest = [int(size.max()) if size.size else 0 for size in sizes]
    kind = int(np.argmax(largest))
    if not largest[kind]:
        return np.zeros_like(truth)
    error: Mask = regions[kind] == int(np.argmax(sizes[kind])) + 1
    return error


def _deepest_pixel(region: Mask) -> tuple[int, int]:
    from scipy import ndimage

    # the padding makes the image's edge a border of the error, too
    depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return int(row), int(column)


def _random_pixel(region: Mask, generator: np.random.Generator) -> tuple[int, int]:
    rows, columns = np.nonzero(region)
    index = int(generator.integers(len(rows)))
    return int(rows[index]), int(columns[index])


def _stroke(region: Mask, centre: tuple[int, int], diagonal: float) -> Mask:
    """Return a line along the middle of ``region``, as far as it is connected near ``centre``."""
    from scipy import ndimage
    from skimage.morphology import skeletonize

    line = skeletonize(region)  # type: ignore[no-untyped-call]
    middle = np.argwhere(line)
    nearest = middle[np.argmin(((middle - centre) ** 2).sum(axis=1))]
    centre = int(nearest[0]), int(nearest[1])
    line &= disc(region.shape, centre, REACH * diagonal)
    labels, _ = ndimage.label(line, structure=np.ones((3, 3)))
    distance = ndimage.distance_transform_edt(labels != labels[centre])
    stroke: Mask = distance <= WIDTH * diagonal
    return stroke


def interact(
    predictor: Predictor,
    pairs: Sequence[Pair],
    sampling: SamplingConfig,
    method: str,
    user: User = User(),
    most: int = MOST,
) -> Iterator[Row]:
    """Correct each image's mask by touches, until its IoU has reached the last target, and `SCORED` times at least.

    Parameters
    ----------
    predictor
        The model.
    pairs
        Images and masks.
    sampling
        How the mask is sampled; the first one from pure noise, those after a touch without mirrored views
        (`SamplingConfig.unmirrored`), as the plugin does: they are to come at once.
    method
        ``re-diffuse`` samples again under all touches so far and the current mask; ``paint`` only lays the touches
        over the first mask.
    user
        Who touches; a noisy one makes the same mistakes in every run.
    most
        Touches after which the user gives up.

    Yields
    ------
    dict
        One row an image: name, iou (before the first touch and after each) and seconds (of each touch: hints,
        sampling and refinement).

    Raises
    ------
    LSegDiffError
        If a file cannot be read or sizes differ, or for another method.
    """
    if method not in METHODS:
        raise LSegDiffError(f"method: unknown name '{method}'; choose one of {', '.join(METHODS)}")
    first_sampling, sampling = dataclasses.replace(sampling, strength=1.0), sampling.unmirrored
    for number, pair in enumerate(pairs):
        image, truth = pair.read()
        generator = np.random.default_rng((0, number))
        predictor.set_image(image, pair.image.name)
        mask = first = predictor.predict(first_sampling).mask
        locked = np.full(truth.shape, NONE, np.uint8)
        scores, seconds = [iou(mask, truth)], []
        while len(scores) <= min(SCORED, most) or (len(scores) <= most and max(scores) < TARGETS[-1]):
            stroke = user.correct(mask, truth, generator)
            if not stroke.any():  # nothing is wrong any more
                scores.append(scores[-1])
                continue
            began = time.perf_counter()
            locked = np.where(stroke == NONE, locked, stroke)
            painted = paste(first if method == "paint" else mask, locked)
            mask = painted if method == "paint" else predictor.predict(sampling, Hints(locked, painted)).mask
            seconds.append(time.perf_counter() - began)
            scores.append(iou(mask, truth))
        yield {"name": pair.name, "iou": scores, "seconds": seconds}


def touches_needed(scores: Sequence[float], target: float, most: int = MOST) -> int | None:
    """Return the number of touches after which the IoU first reached ``target``; None if it never did."""
    return next((count for count, score in enumerate(scores[: most + 1]) if score >= target), None)


def summarise_interaction(rows: Sequence[Row], most: int = MOST) -> Row:
    """Return one row of the measures of interactive segmentation.

    Parameters
    ----------
    rows
        From `interact`.
    most
        The touches that an image counts which never reaches a target.

    Returns
    -------
    dict
        n; noc85 and noc90 (mean touches to that IoU; an image that starts there counts 0) with their intervals;
        never85 and never90 (share that never reaches it); noc90_where_needed (noc90 over the images that start below);
        iou (mean after 0, 1, … touches); gain (over no touch) with gain_interval; lost (share of the rounds that cost
        more than 0.02); seconds_per_touch (median).
    """
    summary: Row = {"n": len(rows)}
    for target in TARGETS:
        counts = [touches_needed(row["iou"], target, most) for row in rows]
        costs = np.array([most if count is None else count for count in counts])
        name = f"{target * 100:.0f}"
        summary |= {
            f"noc{name}": float(costs.mean()),
            f"noc{name}_interval": bootstrap_interval(costs),
            f"never{name}": float(np.mean([count is None for count in counts])),
        }
        needed = costs[costs > 0]
        summary[f"noc{name}_where_needed"] = float(needed.mean()) if needed.size else None
    shortest = min(len(row["iou"]) for row in rows)
    scores = np.array([row["iou"][:shortest] for row in rows])
    gains = scores - scores[:, :1]
    changes = np.concatenate([np.diff(row["iou"][: SCORED + 1]) for row in rows])
    seconds = [value for row in rows for value in row["seconds"]]
    return summary | {
        "iou": scores.mean(axis=0).tolist(),
        "gain": gains.mean(axis=0).tolist(),
        "gain_interval": [bootstrap_interval(gain) for gain in gains.T],
        "lost": float(np.mean(changes < -LOSS)),
        "seconds_per_touch": float(np.median(seconds)) if seconds else None,
    }
