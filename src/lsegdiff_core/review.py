"""In which order should masks be looked at? A simulated review that asks which score finds bad masks soonest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsegdiff_core.config import SamplingConfig
from lsegdiff_core.data.readers import Pair
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.hypotheses import disagreement
from lsegdiff_core.metrics import dice
from lsegdiff_core.prediction import Prediction
from lsegdiff_core.predictor import Predictor

Row = dict[str, Any]
# A mask with a lower Dice is one that a reviewer wants to see; images without a lesion have 1 or 0.
BAD = 0.8
SHARES = (0.1, 0.2, 0.3)
RESAMPLINGS = 2000


def scores(prediction: Prediction) -> dict[str, float]:
    """Return what the model itself says of how bad its mask may be; each in [0, 1], higher is worse.

    Returns
    -------
    dict
        disagreement: 1 - mean pairwise IoU of the samples. entropy: mean entropy of their votes where any sample
        has foreground, in bits. doubt: 1 - the mean expected probability in the mask; of an empty mask the highest
        expected probability anywhere, for what it may have missed.
    """
    union = prediction.votes > 0
    mask = prediction.mask
    expected = prediction.expected
    return {
        "disagreement": disagreement(prediction),
        "entropy": float(prediction.entropy[union].mean()) if union.any() else 0.0,
        "doubt": float(1 - expected[mask].mean()) if mask.any() else float(expected.max()),
    }


def review(predictor: Predictor, pairs: Sequence[Pair], sampling: SamplingConfig) -> Iterator[Row]:
    """Segment each image and yield a row: ``name``, ``dice`` and the `scores`.

    Raises
    ------
    LSegDiffError
        With fewer than two seeds, which cannot disagree, or for files that cannot be read.
    """
    if len(sampling.seeds) < 2:
        raise LSegDiffError("seeds: one sample cannot disagree with itself; give 2 or more")
    for pair in pairs:
        image, truth = pair.read()
        predictor.set_image(image, str(pair.image))
        prediction = predictor.predict(sampling)
        yield {"name": pair.name, "dice": dice(prediction.mask, truth), **scores(prediction)}


def summarise_review(rows: Sequence[Row]) -> list[Row]:
    """Return for each score how soon it finds the bad masks, worst scores first.

    Parameters
    ----------
    rows
        From `review`.

    Returns
    -------
    list of dict
        ``score``; ``auc``, the probability that a bad mask comes before a good one (0.5 in random order), with its
        95 % bootstrap interval ``auc_low``, ``auc_high`` over the images; ``found``, the share of the bad masks among
        the first 10, 20 and 30 % of the images; ``bad`` of ``n`` images.

    Raises
    ------
    LSegDiffError
        If all masks are good, or all are bad: then there is no order to judge.
    """
    bad = np.array([row["dice"] < BAD for row in rows])
    if bad.all() or not bad.any():
        raise LSegDiffError(f"review: {bad.sum()} of {bad.size} masks are bad (Dice below {BAD}); take other images")
    summary = []
    for name in ("disagreement", "entropy", "doubt"):
        values = np.array([row[name] for row in rows])
        order = np.argsort(-values, kind="stable")
        found = {str(share): float(bad[order[: round(share * bad.size)]].sum() / bad.sum()) for share in SHARES}
        low, high = _interval(values, bad)
        summary.append(
            {
                "score": name,
                "auc": _auc(values, bad),
                "auc_low": low,
                "auc_high": high,
                "found": found,
                "bad": int(bad.sum()),
                "n": bad.size,
            }
        )
    return summary


def _auc(values: NDArray[np.float64], bad: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve: the share of pairs in which the bad one has the higher value."""
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(values[bad], values[~bad]).statistic / (bad.sum() * (~bad).sum()))


def _interval(values: NDArray[np.float64], bad: NDArray[np.bool_]) -> tuple[float, float]:
    generator = np.random.default_rng(0)
    areas: list[float] = []
    while len(areas) < RESAMPLINGS:
        drawn = generator.integers(0, bad.size, bad.size)
        if bad[drawn].any() and not bad[drawn].all():
            areas.append(_auc(values[drawn], bad[drawn]))
    low, high = np.quantile(areas, (0.025, 0.975))
    return float(low), float(high)
