from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from skimage import measure, morphology

from lsegdiff_core.config import MorphologyConfig
from lsegdiff_core.morphology import components, refine

PLAIN = MorphologyConfig(fill_holes=False)
CONFIGS = {
    "plain": PLAIN,
    "default": MorphologyConfig(),
    "threshold": replace(PLAIN, threshold=0.2),
    "opening": replace(PLAIN, opening=3.0),
    "closing": replace(PLAIN, closing=4.0),
    "fractions": replace(PLAIN, opening=2.5, closing=1.5),
    "large": replace(PLAIN, opening=30.0),
    "smooth": replace(PLAIN, smooth=2.0),
    "smooth, low threshold": replace(PLAIN, smooth=6.0, threshold=0.05),
    "min area": replace(PLAIN, min_area=150),
    "largest": replace(PLAIN, keep_largest=True),
    "all": MorphologyConfig(
        threshold=0.4, opening=2.0, closing=3.0, fill_holes=True, min_area=60, smooth=1.5, keep_largest=True
    ),
}


def blobs(seed: int, shape: tuple[int, int] = (96, 128)) -> np.ndarray:
    """Soft blobs, holes and specks, some cut by the border, over faint noise."""
    generator = np.random.default_rng(seed)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    probability = np.zeros(shape)
    for sign in (1, 1, 1, -1, -1, 1):
        y, x = generator.uniform(-2, shape[0] + 2), generator.uniform(-2, shape[1] + 2)
        a, b = generator.uniform(2, 25, 2)
        probability += sign * np.clip(1.4 - ((rows - y) / a) ** 2 - ((columns - x) / b) ** 2, 0, 1)
    ring = np.hypot(rows - generator.uniform(20, shape[0] - 20), columns - generator.uniform(20, shape[1] - 20))
    probability = np.where(np.abs(ring - 10) < 3, 0.9, np.where(ring < 10, 0.1, probability))
    probability[generator.random(shape) > 0.995] = 0.8
    return np.clip(probability + generator.uniform(0, 0.04, shape), 0, 1).astype(np.float32)


def disc(radius: float) -> np.ndarray:
    reach = int(radius)
    rows, columns = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    return rows**2 + columns**2 <= radius**2


def reference(probability: np.ndarray, config: MorphologyConfig) -> np.ndarray:
    """Do the same on the whole image, with footprints in place of distance maps."""
    if config.smooth:
        probability = ndimage.gaussian_filter(probability, config.smooth, mode="nearest")
    mask = probability >= np.float32(config.threshold)
    pad = 70
    padded = np.pad(mask, pad, mode="edge")
    if config.opening:
        eroded = ndimage.binary_erosion(padded, disc(config.opening), border_value=1)
        padded = ndimage.binary_dilation(eroded, disc(config.opening))
    if config.closing:
        dilated = ndimage.binary_dilation(padded, disc(config.closing))
        padded = ndimage.binary_erosion(dilated, disc(config.closing), border_value=1)
    mask = padded[pad:-pad, pad:-pad]
    if config.fill_holes:
        background = measure.label(~mask, connectivity=1)
        border = np.concatenate([background[0], background[-1], background[:, 0], background[:, -1]])
        mask = mask | ~np.isin(background, border)
    labels = measure.label(mask, connectivity=2)
    regions = [region for region in measure.regionprops(labels) if region.area >= config.min_area]
    if config.keep_largest:
        regions = sorted(regions, key=lambda region: -region.area)[:1]
    return np.isin(labels, [region.label for region in regions])


@pytest.mark.parametrize("name", CONFIGS)
def test_refine_equals_the_reference_on_the_whole_image(name):
    config = CONFIGS[name]
    changed = 0
    for seed in range(6):
        probability = blobs(seed)
        if seed == 3:
            probability[:, 110:] = probability[:20] = 0.0  # a window that ends inside the image
        mask = refine(probability, config)
        np.testing.assert_array_equal(mask, reference(probability, config), err_msg=f"seed {seed}")
        assert mask.dtype == np.bool_
        changed += int(np.any(mask != (probability >= 0.5)))
    assert changed > 3 or name == "plain"


@pytest.mark.parametrize("side", [np.s_[:, :], np.s_[::-1, :], np.s_[:, ::-1], np.s_[::-1, ::-1]])
@pytest.mark.parametrize("name", CONFIGS)
def test_refine_equals_the_reference_at_every_corner(name, side):
    probability = np.zeros((60, 80), dtype=np.float32)
    probability[:25, :30] = 0.9
    probability[8:12, 8:13] = probability[0, 3:5] = 0.1
    probability = np.ascontiguousarray(probability[side])
    np.testing.assert_array_equal(refine(probability, CONFIGS[name]), reference(probability, CONFIGS[name]))


def test_smoothing_sees_what_lies_beyond_the_mask():
    # faint probability that begins 4 sigma from the disc weighs on its smoothed contour
    rows, columns = np.ogrid[:300, :300]
    config = replace(PLAIN, smooth=12.0, threshold=0.05)
    for radius in range(4, 40):
        probability = np.full((300, 300), 0.0245, dtype=np.float32)
        reach = radius + 50
        probability[150 - reach : 150 + reach, 150 - reach : 150 + reach] = 0.0
        probability[np.hypot(rows - 150, columns - 150) < radius] = 0.95
        expected = ndimage.gaussian_filter(probability, 12.0, mode="nearest") >= np.float32(0.05)
        np.testing.assert_array_equal(refine(probability, config), expected)


def test_a_pixel_at_the_threshold_is_foreground():
    probability = np.array([[0.25, 0.5, 0.75]], dtype=np.float32)
    np.testing.assert_array_equal(refine(probability, PLAIN), [[False, True, True]])
    np.testing.assert_array_equal(refine(probability, replace(PLAIN, threshold=0.75)), [[False, False, True]])


@pytest.mark.parametrize("name", CONFIGS)
def test_nothing_stays_nothing(name):
    assert not refine(np.zeros((40, 50), dtype=np.float32), CONFIGS[name]).any()


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("shape", [(40, 50), (12, 13)])
def test_everything_stays_everything(name, shape):
    assert refine(np.ones(shape, dtype=np.float32), CONFIGS[name]).all()


@pytest.mark.parametrize("radius", [2.0, 5.0, 7.5])
def test_opening_loses_no_pixel_where_the_mask_leaves_the_image(radius):
    for band in (np.s_[:, 20:40], np.s_[20:40, :], np.s_[:, :20], np.s_[:20, :], np.s_[:, -20:], np.s_[-20:, :]):
        probability = np.zeros((60, 60), dtype=np.float32)
        probability[band] = 1.0
        np.testing.assert_array_equal(refine(probability, replace(PLAIN, opening=radius)), probability > 0)


def test_a_wide_opening_is_not_made_with_a_disc_of_so_many_pixels(monkeypatch):
    """As a footprint, ``disk(15)`` takes seconds on a 1080p frame; a distance map does not care for the radius."""
    asked = []
    monkeypatch.setattr("skimage.morphology.disk", asked.append)
    monkeypatch.setattr("skimage.morphology.footprints.disk", asked.append)
    probability = np.zeros((80, 80), dtype=np.float32)
    probability[10:70, 10:70] = 1.0
    assert refine(probability, replace(PLAIN, opening=15.0, closing=15.0)).any()
    assert not asked


def test_opening_removes_what_is_narrower_than_its_disc_and_keeps_the_rest():
    probability = np.zeros((60, 80), dtype=np.float32)
    probability[20:40, 10:40] = 1.0
    probability[28:31, 40:70] = 1.0  # a thin arm
    mask = refine(probability, replace(PLAIN, opening=3.0))
    assert not mask[:, 45:].any()
    assert mask[23:37, 13:37].all()
    assert not mask[probability == 0].any()


def test_opening_that_removes_everything_leaves_nothing():
    probability = np.zeros((60, 80), dtype=np.float32)
    probability[1:4, 1:4] = probability[56:59, 76:79] = 1.0
    for closing in (0.0, 12.0):
        assert not refine(probability, replace(PLAIN, opening=10.0, closing=closing)).any()


def test_closing_bridges_a_gap_narrower_than_its_disc_and_loses_no_pixel():
    probability = np.zeros((40, 80), dtype=np.float32)
    probability[10:30, 10:30] = probability[10:30, 34:60] = 1.0
    bridged = refine(probability, replace(PLAIN, closing=3.0))
    assert bridged[13:27, 30:34].all()
    assert bridged[probability > 0].all()
    assert not refine(probability, replace(PLAIN, closing=1.0))[:, 30:34].any()


def test_holes_are_filled_only_on_request_and_only_when_enclosed():
    probability = np.zeros((40, 50), dtype=np.float32)
    probability[5:35, 5:45] = 1.0
    probability[15:20, 15:20] = 0.0  # a hole
    probability[25:30, 30:45] = 0.0  # a bay
    assert not refine(probability, PLAIN)[15:20, 15:20].any()
    filled = refine(probability, replace(PLAIN, fill_holes=True))
    assert filled[15:20, 15:20].all()
    assert not filled[25:30, 30:45].any()


def test_a_bay_that_the_border_closes_is_no_hole():
    probability = np.ones((40, 50), dtype=np.float32)
    probability[0:5, 20:30] = 0.0
    np.testing.assert_array_equal(refine(probability, MorphologyConfig()), probability > 0)


def test_min_area_removes_components_with_fewer_pixels():
    probability = np.zeros((30, 40), dtype=np.float32)
    probability[2:6, 2:6] = probability[10:15, 10:15] = 1.0  # 16 and 25 pixels
    probability[20, 20] = probability[21, 21] = 1.0  # 2 pixels that touch at a corner
    areas = {
        area: int(refine(probability, replace(PLAIN, min_area=area)).sum()) for area in (0, 1, 2, 3, 16, 17, 25, 26)
    }
    assert areas == {0: 43, 1: 43, 2: 43, 3: 41, 16: 41, 17: 25, 25: 25, 26: 0}


def test_keep_largest_keeps_one_component():
    probability = np.zeros((30, 40), dtype=np.float32)
    probability[2:6, 2:6] = probability[10:15, 10:15] = probability[20:24, 20:24] = 1.0
    mask = refine(probability, replace(PLAIN, keep_largest=True))
    assert mask[10:15, 10:15].all()
    assert mask.sum() == 25
    assert not refine(probability, replace(PLAIN, keep_largest=True, min_area=26)).any()


def test_keep_largest_counts_after_holes_are_filled():
    probability = np.zeros((40, 60), dtype=np.float32)
    probability[5:25, 5:25] = 1.0
    probability[6:24, 6:24] = 0.0  # a ring of 76 pixels around 324
    probability[10:20, 40:50] = 1.0  # 100 pixels
    assert refine(probability, replace(PLAIN, keep_largest=True)).sum() == 100
    assert refine(probability, MorphologyConfig(keep_largest=True)).sum() == 400


def test_smooth_shortens_a_ragged_contour_and_hardly_moves_it():
    generator = np.random.default_rng(0)
    rows, columns = np.ogrid[:100, :120]
    distance = np.hypot(rows - 50, columns - 60)
    probability = (distance + generator.normal(0, 2, distance.shape) < 30).astype(np.float32)
    rough, smooth = refine(probability, MorphologyConfig()), refine(probability, MorphologyConfig(smooth=3.0))
    assert measure.perimeter(smooth) < 0.8 * measure.perimeter(rough)
    assert measure.label(smooth).max() == 1
    assert smooth.sum() == pytest.approx(np.pi * 30**2, rel=0.05)


def test_more_threshold_means_less_mask():
    probability = blobs(1)
    areas = [int(refine(probability, replace(PLAIN, threshold=value)).sum()) for value in (0.1, 0.3, 0.5, 0.7, 0.9)]
    assert areas == sorted(areas, reverse=True)
    assert areas[0] > areas[-1]


def test_opening_with_a_disc_is_that_of_skimage_away_from_the_border():
    probability = np.pad(blobs(2), 40)
    opened = morphology.opening(probability >= 0.5, morphology.disk(4))
    np.testing.assert_array_equal(refine(probability, replace(PLAIN, opening=4.0)), opened)


def test_the_probability_is_not_changed():
    probability = blobs(4)
    refine(probability, CONFIGS["all"])
    np.testing.assert_array_equal(probability, blobs(4))


def test_components_are_numbered_by_size_and_join_at_corners():
    mask = np.zeros((30, 40), dtype=bool)
    mask[2:6, 2:6] = mask[10:15, 10:15] = mask[20:22, 20:22] = True  # 16, 25 and 4 pixels
    mask[6, 6] = mask[7, 7] = True  # a tail of the first one, diagonal
    labels, count = components(mask)
    expected = np.zeros(mask.shape, np.int32)
    expected[10:15, 10:15], expected[2:6, 2:6], expected[20:22, 20:22] = 1, 2, 3
    expected[6, 6] = expected[7, 7] = 2
    assert (count, labels.dtype) == (3, np.int32)
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("seed", range(4))
def test_components_are_those_of_skimage_and_never_grow(seed):
    mask = blobs(seed) >= 0.5
    labels, count = components(mask)
    reference = measure.label(mask, connectivity=2)
    assert count == reference.max() > 2
    pairs = np.unique(np.stack([labels.ravel(), reference.ravel()]), axis=1)
    assert pairs.shape[1] == count + 1, "the same parts under other numbers"
    areas = np.bincount(labels.ravel())[1:].tolist()
    assert areas == sorted(areas, reverse=True)


def test_no_mask_has_no_components():
    labels, count = components(np.zeros((5, 7), dtype=bool))
    assert count == 0
    np.testing.assert_array_equal(labels, np.zeros((5, 7)))
