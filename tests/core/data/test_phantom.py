import numpy as np
import pytest
from scipy import ndimage

from lsegdiff_core.data.phantom import draw_phantom

SEEDS = range(6)


@pytest.mark.parametrize("seed", SEEDS)
def test_mask_is_one_lesion_of_plausible_size(seed: int) -> None:
    image, mask = draw_phantom(seed, 120, 160)
    assert image.shape == (120, 160, 3)
    assert image.dtype == np.uint8
    assert mask.shape == (120, 160)
    assert mask.dtype == np.bool_
    assert 0.005 < mask.mean() < 0.5
    assert ndimage.label(mask)[1] == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_image_is_neither_black_nor_burnt_out(seed: int) -> None:
    image = draw_phantom(seed, 120, 160).image
    assert 30 < image.mean() < 200
    assert image.std() > 15
    assert image[..., 0].mean() > image[..., 1].mean(), "mucosa is red"


def test_same_arguments_give_the_same_frame() -> None:
    first, second = draw_phantom(3, 60, 80), draw_phantom(3, 60, 80)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.mask, second.mask)


def test_global_randomness_plays_no_part() -> None:
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = draw_phantom(3, 60, 80)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    assert np.array_equal(draw_phantom(3, 60, 80).image, first.image)


def test_other_seed_gives_another_frame() -> None:
    first, second = draw_phantom(3, 60, 80), draw_phantom(4, 60, 80)
    assert not np.array_equal(first.mask, second.mask)
    assert not np.array_equal(first.image, second.image)


@pytest.mark.parametrize("seed", SEEDS)
def test_empty_phantom_has_an_empty_mask(seed: int) -> None:
    image, mask = draw_phantom(seed, 60, 80, polyp=False)
    assert not mask.any()
    assert image.std() > 10


@pytest.mark.parametrize("seed", SEEDS)
def test_lesion_can_be_seen_where_the_mask_is(seed: int) -> None:
    """The frame differs from its surroundings at the rim of the mask more than it does elsewhere."""
    image, mask = draw_phantom(seed, 240, 320)
    smooth = ndimage.gaussian_filter(image.astype(np.float32), (2, 2, 0))
    edges = np.hypot(ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1)).max(axis=2)
    rim = ndimage.binary_dilation(mask, iterations=3) & ~ndimage.binary_erosion(mask, iterations=3)
    assert edges[rim].mean() > edges[~rim].mean()


def test_lesion_ends_at_the_black_corners() -> None:
    lit = [image[mask].max(axis=1).min() for image, mask in (draw_phantom(seed, 48, 64) for seed in range(60, 75))]
    assert min(lit) > 10


@pytest.mark.parametrize("shape", [(24, 24), (48, 200), (200, 48)])
def test_any_size_can_be_drawn(shape: tuple[int, int]) -> None:
    image, mask = draw_phantom(1, *shape)
    assert image.shape == (*shape, 3)
    assert mask.shape == shape
