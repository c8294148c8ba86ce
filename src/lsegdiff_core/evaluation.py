"""Measuring a bundle on a folder of pairs."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import lsegdiff_core
from lsegdiff_core.config import MorphologyConfig, SamplingConfig
from lsegdiff_core.data.geometry import Geometry
from lsegdiff_core.data.readers import Pair
from lsegdiff_core.metrics import bootstrap_interval, dice, hd95, iou
from lsegdiff_core.predictor import Predictor

Row = dict[str, Any]


def evaluate(
    predictor: Predictor, pairs: Sequence[Pair], samplings: Sequence[SamplingConfig], morphology: MorphologyConfig
) -> Iterator[Row]:
    """Segment every image under every sampling and compare with its mask, at the image's size.

    Parameters
    ----------
    predictor
        The model.
    pairs
        Images and masks.
    samplings
        What to compare; each image is encoded once for all of them.
    morphology
        Refinement of the mask.

    Yields
    ------
    dict
        One row an image and sampling: name, steps, dice, iou, hd95 (pixels), seconds (geometry, encoder, sampling,
        decoder, geometry and morphology; without reading the file) and reconstruction, the Dice of the true mask
        after a round trip through the mask VAE.

    Raises
    ------
    LSegDiffError
        If a file cannot be read or sizes differ.
    """
    for pair in pairs:
        image, truth = pair.read()
        began = time.perf_counter()
        predictor.set_image(image, pair.image.name)
        encoding = time.perf_counter() - began
        rebuilt = dice(reconstruct(predictor, image, truth), truth)
        for sampling in samplings:
            began = time.perf_counter()
            mask = predictor.predict(sampling).refined(morphology).mask
            seconds = encoding + time.perf_counter() - began
            yield {
                "name": pair.name,
                "steps": sampling.steps,
                "dice": dice(mask, truth),
                "iou": iou(mask, truth),
                "hd95": hd95(mask, truth),
                "seconds": seconds,
                "reconstruction": rebuilt,
            }


def reconstruct(predictor: Predictor, image: NDArray[np.uint8], truth: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return ``truth`` (H, W) after the way through the square and the mask VAE and back: the ceiling of the model."""
    geometry = Geometry.of(image)
    square = geometry.mask_to_square(truth, predictor.manifest.model.vae.size) >= 0.5
    z = predictor.encode_mask(torch.from_numpy(square)[None, None].float())
    return geometry.from_square(predictor.decode(z)[0]) >= 0.5


def summarise(rows: Sequence[Row]) -> list[Row]:
    """Return one row per step count: means over images and 95 % bootstrap intervals of Dice and IoU."""
    summary = []
    for steps in dict.fromkeys(row["steps"] for row in rows):
        mine = [row for row in rows if row["steps"] == steps]
        columns = {key: np.array([row[key] for row in mine]) for key in mine[0] if key not in ("name", "steps")}
        dice_low, dice_high = bootstrap_interval(columns["dice"])
        iou_low, iou_high = bootstrap_interval(columns["iou"])
        summary.append(
            {
                "steps": steps,
                "n": len(mine),
                "dice": float(columns["dice"].mean()),
                "dice_low": dice_low,
                "dice_high": dice_high,
                "iou": float(columns["iou"].mean()),
                "iou_low": iou_low,
                "iou_high": iou_high,
                "hd95": float(columns["hd95"].mean()),
                "seconds_per_image": float(columns["seconds"].mean()),
                "reconstruction": float(columns["reconstruction"].mean()),
                "reconstruction_worst": float(columns["reconstruction"].min()),
            }
        )
    return summary


def describe_run(predictor: Predictor) -> Row:
    """Return what a result was measured with, for its file: bundle, device, threads and versions."""
    return {
        "bundle": predictor.identity,
        "device": str(predictor.device),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "napari-lsegdiff": lsegdiff_core.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
