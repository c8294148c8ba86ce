"""The demonstration: the sample image, or one's own, segmented; mask and overlay written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lsegdiff_core.data.images import read_image
from lsegdiff_core.data.phantom import SAMPLE_SEED, draw_phantom
from lsegdiff_core.drawing import outlined
from lsegdiff_core.export import export_labels
from lsegdiff_core.files import write_atomically
from lsegdiff_core.metrics import dice
from lsegdiff_core.predictor import Predictor


def run_demo(predictor: Predictor, out: Path, image: Path | None = None) -> tuple[list[Path], float, float | None]:
    """Segment ``image``, or the built-in phantom, and write mask, provenance and overlay into ``out``.

    Returns
    -------
    tuple
        The files written, the share of the image that the mask covers, and the Dice against the phantom's truth
        (None for one's own image).

    Raises
    ------
    LSegDiffError
        If the image cannot be read or the folder cannot be written.
    """
    truth = None
    if image is None:
        pixels, truth = draw_phantom(SAMPLE_SEED)
        name = "sample"
    else:
        pixels, name = read_image(image), image.name
    predictor.set_image(pixels, name)
    prediction = predictor.predict()
    files = export_labels(prediction.labels, out / "mask.png", "png", prediction.provenance)
    write_overlay(out / "overlay.png", pixels, prediction.mask)
    score = None if truth is None else dice(prediction.mask, truth)
    return [*files, out / "overlay.png"], float(prediction.mask.mean()), score


def write_overlay(path: Path, image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
    """Write ``image`` (H, W, 3) uint8 with the outline of ``mask`` (H, W) drawn on it, as PNG."""
    picture = outlined(image, mask)
    write_atomically(path, lambda temporary: Image.fromarray(picture).save(temporary, format="PNG"))
