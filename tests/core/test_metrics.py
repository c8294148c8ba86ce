import math

import numpy as np
import pytest
from scipy import ndimage

from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.metrics import bootstrap_interval, dice, hd95, iou, normalised_surface_distance, pairwise_iou

# MONAI calls a deprecated argument of its own
pytestmark = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy.*:FutureWarning")

METRICS = (dice, iou, hd95, lambda predicted, truth: normalised_surface_distance(predicted, truth, 1.0))
EMPTY = np.zeros((30, 40), dtype=bool)
SQUARE = EMPTY.copy()
SQUARE[5:15, 5:15] = True


def blobs(seed: int, shape: tuple[int, int] = (70, 90)) -> np.ndarray:
    """Several ellipses with holes, some cut by the border."""
    generator = np.random.default_rng(seed)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    mask = np.zeros(shape, dtype=bool)
    for paint in (True, True, False, True):
        y, x = generator.uniform(0, shape[0]), generator.uniform(0, shape[1])
        a, b = generator.uniform(4, 20, 2)
        mask[((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 < 1] = paint
    assert mask.any()
    return mask


def batch(mask: np.ndarray):
    torch = pytest.importorskip("torch")
    return torch.from_numpy(mask)[None, None]


@pytest.mark.parametrize("seed", range(8))
def test_overlaps_equal_monai(seed):
    from monai.metrics import DiceMetric, compute_iou

    predicted, truth = blobs(seed), blobs(seed + 100)
    assert dice(predicted, truth) == pytest.approx(DiceMetric()(batch(predicted), batch(truth)).item(), abs=1e-6)
    assert iou(predicted, truth) == pytest.approx(compute_iou(batch(predicted), batch(truth)).item(), abs=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_hd95_equals_monai(seed):
    from monai.metrics import compute_hausdorff_distance

    predicted, truth = blobs(seed), blobs(seed + 100)
    expected = compute_hausdorff_distance(batch(predicted), batch(truth), include_background=True, percentile=95).item()
    assert expected > 1
    assert hd95(predicted, truth) == pytest.approx(expected, rel=1e-5)
    assert hd95(truth, predicted) == hd95(predicted, truth)


@pytest.mark.parametrize("tolerance", [0.0, 1.0, 2.5, 8.0])
@pytest.mark.parametrize("seed", range(4))
def test_normalised_surface_distance_equals_monai(seed, tolerance):
    from monai.metrics import compute_surface_dice

    predicted, truth = blobs(seed), blobs(seed + 100)
    expected = compute_surface_dice(batch(predicted), batch(truth), [tolerance], include_background=True).item()
    assert 0 < expected < 1
    assert normalised_surface_distance(predicted, truth, tolerance) == pytest.approx(expected, abs=1e-6)


def test_pairwise_iou_is_the_iou_of_each_pair():
    masks = np.stack([*(blobs(seed) for seed in range(5)), np.zeros((70, 90), bool), np.zeros((70, 90), bool)])
    expected = [[iou(one, other) for other in masks] for one in masks]
    np.testing.assert_allclose(pairwise_iou(masks), expected, rtol=0, atol=1e-15)
    assert pairwise_iou(masks)[5, 6] == 1, "two empty masks agree"


def test_pairwise_iou_of_one_mask_is_one():
    np.testing.assert_array_equal(pairwise_iou(SQUARE[None]), [[1.0]])


def test_values_of_a_case_done_by_hand():
    shifted = np.roll(SQUARE, 2, axis=1)
    assert dice(shifted, SQUARE) == pytest.approx(0.8)
    assert iou(shifted, SQUARE) == pytest.approx(80 / 120)
    assert hd95(shifted, SQUARE) == pytest.approx(2.0)
    assert normalised_surface_distance(shifted, SQUARE, 2.0) == 1.0
    assert normalised_surface_distance(shifted, SQUARE, 1.9) < 1.0


def test_hd95_ignores_a_twentieth_of_the_surface():
    speck = SQUARE.copy()
    speck[29, 39] = True
    assert hd95(speck, SQUARE) == 0.0
    speck[20:28, 30:38] = True
    assert hd95(speck, SQUARE) > 15


def test_equal_masks_agree_perfectly():
    mask = blobs(3)
    assert [metric(mask, mask.copy()) for metric in METRICS] == [1.0, 1.0, 0.0, 1.0]


def test_two_empty_masks_agree_perfectly():
    assert [metric(EMPTY, EMPTY) for metric in METRICS] == [1.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize("swap", [False, True])
def test_one_empty_mask_gives_the_worst_value(swap):
    pair = (SQUARE, EMPTY) if swap else (EMPTY, SQUARE)
    assert [metric(*pair) for metric in METRICS] == [0.0, 0.0, math.hypot(30, 40), 0.0]


def test_masks_are_not_changed():
    predicted, truth = blobs(1), blobs(2)
    before = predicted.copy(), truth.copy()
    for metric in METRICS:
        metric(predicted, truth)
    np.testing.assert_array_equal((predicted, truth), before)


def test_distance_does_not_depend_on_the_image_around_the_masks():
    predicted, truth = blobs(5), blobs(6)
    inside = [metric(predicted, truth) for metric in METRICS]
    around = [metric(np.pad(predicted, 9), np.pad(truth, 9)) for metric in METRICS]
    assert around == pytest.approx(inside)


@pytest.mark.parametrize("metric", METRICS)
def test_masks_of_different_shape_are_refused(metric):
    with pytest.raises(LSegDiffError, match=r"\(30, 40\) and \(40, 30\) differ"):
        metric(EMPTY, EMPTY.T)


@pytest.mark.parametrize("wrong", [SQUARE.astype(np.uint8) * 255, SQUARE[None], SQUARE.astype(float)])
def test_what_is_no_boolean_mask_is_refused_by_name(wrong):
    for metric in METRICS:
        with pytest.raises(LSegDiffError, match="predicted: expected a boolean mask"):
            metric(wrong, SQUARE)
        with pytest.raises(LSegDiffError, match="truth: expected a boolean mask"):
            metric(SQUARE, wrong)


@pytest.mark.parametrize("tolerance", [-0.1, math.nan, math.inf])
def test_a_tolerance_that_is_no_distance_is_refused(tolerance):
    with pytest.raises(LSegDiffError, match="tolerance"):
        normalised_surface_distance(SQUARE, SQUARE, tolerance)


def test_hd95_of_a_full_hd_frame_looks_at_the_window_around_the_masks_only(monkeypatch):
    rows, columns = np.ogrid[:1080, :1920]
    predicted = np.hypot(rows - 500, columns - 900) < 150
    truth = np.hypot(rows - 520, columns - 910) < 160
    transform, shapes = ndimage.distance_transform_edt, []

    def spy(array):
        shapes.append(array.shape)
        return transform(array)

    monkeypatch.setattr(ndimage, "distance_transform_edt", spy)
    assert hd95(predicted, truth) > 0
    assert shapes == [(329, 319)] * 2


def test_bootstrap_interval_is_that_of_the_normal_approximation():
    values = np.random.default_rng(1).normal(0.8, 0.1, 400)
    low, high = bootstrap_interval(values)
    error = values.std() / math.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.15 * error)


def test_bootstrap_interval_widens_with_the_level_and_repeats_with_the_seed():
    values = [0.1, 0.5, 0.6, 0.9, 0.95]
    narrow, wide = bootstrap_interval(values, level=0.5), bootstrap_interval(values, level=0.99)
    assert wide[0] < narrow[0] < np.mean(values) < narrow[1] < wide[1]
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3, resamples=50) != bootstrap_interval(values, seed=4, resamples=50)


def test_bootstrap_interval_of_one_value_is_that_value():
    assert bootstrap_interval([0.7]) == pytest.approx((0.7, 0.7))


@pytest.mark.parametrize(
    ("values", "options", "field"),
    [
        ([], {}, "values"),
        ([0.5, math.nan], {}, "values"),
        ([0.5], {"resamples": 0}, "resamples"),
        ([0.5], {"level": 1.0}, "level"),
        ([0.5], {"level": 0.0}, "level"),
    ],
)
def test_bootstrap_interval_refuses_what_has_no_interval(values, options, field):
    with pytest.raises(LSegDiffError, match=field):
        bootstrap_interval(values, **options)
