import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import regionprops

from lsegdiff_core.data.phantom_skin import SKIN_SAMPLE_SEED, draw_skin_lesion

SEEDS = range(8)


@pytest.mark.parametrize("seed", SEEDS)
def test_one_dark_lesion_on_light_skin(seed: int) -> None:
    image, mask = draw_skin_lesion(seed, 120, 160)
    assert (image.shape, image.dtype) == ((120, 160, 3), np.uint8)
    assert (mask.shape, mask.dtype) == ((120, 160), np.bool_)
    assert 0.02 < mask.mean() < 0.4
    assert ndimage.label(mask)[1] == 1
    around = ndimage.binary_dilation(mask, iterations=12) & ~ndimage.binary_dilation(mask, iterations=3)
    assert image[mask].mean() < image[around].mean() - 25
    assert 90 < image[~mask].mean() < 220
    red, green, blue = image[~mask].mean(axis=0)
    assert red > green > blue, "skin"


def test_border_is_irregular() -> None:
    lesion = regionprops(draw_skin_lesion(SKIN_SAMPLE_SEED, 240, 320).mask.astype(np.uint8))[0]
    assert lesion.solidity < 0.96, "an ellipse has 1"


def test_hairs_are_darker_than_the_skin() -> None:
    image, mask = draw_skin_lesion(SKIN_SAMPLE_SEED, 240, 320)
    grey = image.mean(axis=2)
    thin = ndimage.grey_closing(grey, 9) - grey
    away = ~ndimage.binary_dilation(mask, iterations=12)
    assert 0.001 < (thin[away] > 40).mean() < 0.05


def test_same_arguments_give_the_same_frame() -> None:
    first, second, other = draw_skin_lesion(3, 60, 80), draw_skin_lesion(3, 60, 80), draw_skin_lesion(4, 60, 80)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.mask, second.mask)
    assert not np.array_equal(first.mask, other.mask)
