"""What several seeds hold possible: distinct masks with their votes; no torch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsegdiff_core.metrics import mean_pairwise_iou, pairwise_iou
from lsegdiff_core.prediction import Prediction

# Samples whose IoU is higher on average show one hypothesis.
SAME = 0.9
# Above this mean pairwise IoU the seeds agree.
AGREED = 0.97


class Hypothesis(NamedTuple):
    """A group of like samples.

    Attributes
    ----------
    prediction
        What these seeds alone would have given.
    seeds
        The places of its samples in the whole prediction.
    share
        Their share of all samples, in (0, 1].
    """

    prediction: Prediction
    seeds: tuple[int, ...]
    share: float


def cluster(masks: NDArray[np.bool_]) -> list[tuple[int, ...]]:
    """Group masks (K, H, W) that look alike: average linkage of 1 - IoU, cut at `SAME`.

    Returns
    -------
    list of tuple
        The places of each group's masks, the largest group first; of equal ones that with the first mask.
    """
    if len(masks) == 1:
        return [(0,)]
    from scipy.cluster.hierarchy import fcluster, linkage

    distance = 1 - pairwise_iou(masks)
    tree = linkage(distance[np.triu_indices(len(masks), 1)], method="average")
    names: NDArray[np.int32] = fcluster(tree, 1 - SAME, criterion="distance")
    groups = [tuple(np.flatnonzero(names == name).tolist()) for name in np.unique(names)]
    return sorted(groups, key=lambda group: (-len(group), group))


def disagreement(prediction: Prediction) -> float:
    """Return 1 - the mean pairwise IoU of a prediction's samples, in [0, 1]; 0 for a single one."""
    return 1 - mean_pairwise_iou(_masks(prediction))


def seeds_agree(prediction: Prediction) -> bool:
    """Return whether the samples of a prediction are as good as one: their mean pairwise IoU is above `AGREED`."""
    return disagreement(prediction) < 1 - AGREED


def hypotheses(prediction: Prediction) -> list[Hypothesis]:
    """Return the distinct masks among the samples of a prediction, the one with the most votes first.

    Samples are compared in the network's square, thresholded and without refinement.
    """
    masks = _masks(prediction)
    groups = cluster(masks)
    return [Hypothesis(prediction.of_seeds(group), group, len(group) / len(masks)) for group in groups]


def _masks(prediction: Prediction) -> NDArray[np.bool_]:
    return prediction.squares >= prediction.morphology.threshold
