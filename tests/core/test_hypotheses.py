from __future__ import annotations

import numpy as np
import pytest

from lsegdiff_core.config import MorphologyConfig
from lsegdiff_core.data.geometry import Geometry
from lsegdiff_core.hypotheses import cluster, hypotheses, seeds_agree
from lsegdiff_core.prediction import Prediction

NOTHING = (0, 0)


def bars(*spans: tuple[int, int]) -> np.ndarray:
    """Masks of 20 x 120 pixels, each with the columns from start to stop."""
    masks = np.zeros((len(spans), 20, 120), np.bool_)
    for mask, (start, stop) in zip(masks, spans, strict=True):
        mask[:, start:stop] = True
    return masks


def predict(masks: np.ndarray, inside: float = 0.8, **fields) -> Prediction:
    """A prediction whose samples are these masks, certain to ``inside``."""
    squares = np.where(masks, np.float32(inside), np.float32(0.1))
    mean = squares.mean(axis=0)
    shape = masks.shape[1:]
    source = {"sampling": {"seeds": [10 + index for index in range(len(masks))]}}
    return Prediction(mean, mean, squares, Geometry(shape, (0, 0, *shape)), MorphologyConfig(**fields), source)


def test_like_masks_are_grouped_the_largest_group_first() -> None:
    left, right = (0, 40), (60, 100)
    assert cluster(bars(left, right, (1, 40), right, right)) == [(1, 3, 4), (0, 2)]


def test_of_equal_groups_that_with_the_first_mask_comes_first() -> None:
    assert cluster(bars((60, 100), (0, 40), (0, 40), (60, 100))) == [(0, 3), (1, 2)]
    assert cluster(bars((60, 100), (0, 40), (20, 50))) == [(0,), (1,), (2,)]


def test_one_mask_is_one_group() -> None:
    assert cluster(bars((0, 40))) == [(0,)]


def test_equal_masks_are_one_group() -> None:
    assert cluster(bars(*[(0, 40)] * 5)) == [(0, 1, 2, 3, 4)]


def test_empty_masks_are_one_hypothesis_of_their_own() -> None:
    assert cluster(bars(NOTHING, (0, 40), NOTHING)) == [(0, 2), (1,)]
    assert cluster(bars(NOTHING, NOTHING)) == [(0, 1)]


@pytest.mark.parametrize(("width", "groups"), [(91, [(0, 1)]), (89, [(0,), (1,)])])
def test_two_masks_are_one_hypothesis_above_an_overlap_of_nine_tenths(width: int, groups: list) -> None:
    assert cluster(bars((0, 100), (0, width))) == groups


@pytest.mark.parametrize(("shifts", "groups"), [((0, 3, 8), [(0, 1), (2,)]), ((0, 2, 6), [(0, 1, 2)])])
def test_a_mask_joins_a_group_that_is_like_it_on_average(shifts: tuple[int, ...], groups: list) -> None:
    """Bars of 100 columns; the distances to the third one are 0.148 and 0.095, then 0.113 and 0.077."""
    assert cluster(bars(*[(shift, shift + 100) for shift in shifts])) == groups


@pytest.mark.parametrize("seed", range(5))
def test_every_mask_is_in_one_group(seed: int) -> None:
    generator = np.random.default_rng(seed)
    masks = bars(*[(start, start + 50) for start in generator.integers(0, 20, 12)])
    groups = cluster(masks)
    assert sorted(index for group in groups for index in group) == list(range(12))
    assert 1 < len(groups) < 12
    sizes = [len(group) for group in groups]
    assert sizes == sorted(sizes, reverse=True)


def test_hypotheses_are_what_their_seeds_alone_give_with_their_share() -> None:
    prediction = predict(bars((0, 40), (60, 100), (61, 100), (60, 100)))
    often, seldom = hypotheses(prediction)
    assert (often.seeds, often.share, seldom.seeds, seldom.share) == ((1, 2, 3), 0.75, (0,), 0.25)
    for found in (often, seldom):
        np.testing.assert_array_equal(found.prediction.probability, prediction.of_seeds(found.seeds).probability)
    assert often.prediction.provenance["sampling"]["seeds"] == [11, 12, 13]
    np.testing.assert_array_equal(often.prediction.mask, bars((60, 100))[0])
    np.testing.assert_array_equal(seldom.prediction.mask, bars((0, 40))[0])


def test_hypotheses_are_compared_at_the_threshold_and_before_refinement() -> None:
    masks = bars((0, 40), (60, 100))
    assert len(hypotheses(predict(masks, min_area=10_000))) == 2
    assert len(hypotheses(predict(masks, threshold=0.9))) == 1, "both are empty"
    assert len(hypotheses(predict(masks, threshold=0.05))) == 1, "both are full"


def test_one_seed_is_one_hypothesis() -> None:
    prediction = predict(bars((0, 40)))
    ((found, seeds, share),) = hypotheses(prediction)
    assert (seeds, share) == ((0,), 1.0)
    np.testing.assert_array_equal(found.probability, prediction.probability)


@pytest.mark.parametrize(
    ("widths", "agree"),
    [
        ((100,), True),
        ((100, 100, 100), True),
        ((100, 98), True),
        ((100, 97), False),
        ((100, 96), False),
        ((100, 100, 100, 96), True),  # 3 pairs of 1 and 3 of 0.96
        ((100, 100, 94), False),  # 1, 0.94 and 0.94
    ],
)
def test_seeds_agree_above_a_mean_overlap_of_0_97(widths: tuple[int, ...], agree: bool) -> None:
    assert seeds_agree(predict(bars(*[(0, width) for width in widths]))) is agree


def test_seeds_that_find_nothing_agree() -> None:
    assert seeds_agree(predict(bars(NOTHING, NOTHING)))
    assert not seeds_agree(predict(bars(NOTHING, (0, 1))))
