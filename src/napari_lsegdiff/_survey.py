"""What the samples of one run show: hypotheses with pictures, and where they agree; without Qt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lsegdiff_core.data.images import to_rgb
from lsegdiff_core.drawing import thumbnail
from lsegdiff_core.hypotheses import Hypothesis, hypotheses, seeds_agree
from lsegdiff_core.prediction import Prediction
from napari_lsegdiff._jobs import Job

# Around the object a picture shows a margin of this share of it, and at least this share of the image.
MARGIN, SMALLEST = 0.5, 0.25


@dataclass(frozen=True)
class Survey:
    """The hypotheses of run ``run`` with their pictures, whether all samples agree, and the agreement (H, W)."""

    job: Job
    run: int
    found: list[Hypothesis]
    pictures: list[NDArray[np.uint8]]
    agreed: bool
    agreement: NDArray[np.float32]


def survey(job: Job, run: int, prediction: Prediction, size: int) -> Survey:
    """Compare the samples of a prediction; safe in any thread.

    Parameters
    ----------
    job
        What was segmented.
    run
        The run's number.
    prediction
        Its result, of several seeds.
    size
        Longest side of the pictures in pixels.
    """
    found = hypotheses(prediction)
    masks = [hypothesis.prediction.mask for hypothesis in found]
    union = np.logical_or.reduce(masks)
    top, left, bottom, right = prediction.geometry.box
    if union[top:bottom, left:right].any():
        top, left, bottom, right = prediction.geometry.around(union, MARGIN, SMALLEST).box
    crop = np.s_[top:bottom, left:right]
    image = to_rgb(job.read(), job.name)[crop]
    pictures = [thumbnail(image, mask[crop], size) for mask in masks]
    return Survey(job, run, found, pictures, seeds_agree(prediction), prediction.agreement)
