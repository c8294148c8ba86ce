import numpy as np
import pytest
from scipy import ndimage

from lsegdiff_core.data.phantom_video import VIDEO_SAMPLE_SEED, draw_video

SEEDS = range(6)


@pytest.mark.parametrize("seed", SEEDS)
def test_polyp_is_there_and_leaves(seed: int) -> None:
    frames, masks = draw_video(seed, 20, 60, 80)
    assert (frames.shape, frames.dtype) == ((20, 60, 80, 3), np.uint8)
    assert (masks.shape, masks.dtype) == ((20, 60, 80), np.bool_)
    shown = masks.any(axis=(1, 2))
    assert shown[:12].all()
    assert not shown[-4:].any()
    assert np.array_equal(shown, np.sort(shown)[::-1]), "what has left does not come back"
    assert (frames.mean(axis=(1, 2, 3)) > 20).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_polyp_moves_smoothly(seed: int) -> None:
    masks = draw_video(seed, 48, 60, 80).masks
    whole = [mask for mask in masks if mask.sum() > 0.95 * masks[0].sum()]
    centres = np.array([ndimage.center_of_mass(mask) for mask in whole])
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    assert len(steps) > 3
    assert steps.max() < 5


def test_sample_is_seen_whole_at_first() -> None:
    masks = draw_video(VIDEO_SAMPLE_SEED, 24, 90, 120).masks
    assert not masks[0][[0, -1]].any()
    assert not masks[0][:, [0, -1]].any()


def test_mask_moves_with_the_picture() -> None:
    """The rim of the mask lies on edges of the frame, in the first frames as later."""
    frames, masks = draw_video(VIDEO_SAMPLE_SEED, 24, 180, 240)
    for index in (0, 8, 12):
        smooth = ndimage.gaussian_filter(frames[index].astype(np.float32), (1.5, 1.5, 0))
        edges = np.hypot(ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1)).max(axis=2)
        mask = masks[index]
        rim = ndimage.binary_dilation(mask, iterations=3) & ~ndimage.binary_erosion(mask, iterations=3)
        inside = ndimage.binary_erosion(mask, iterations=6)
        assert edges[rim].mean() > edges[inside].mean()


def test_same_arguments_give_the_same_video() -> None:
    first, second = draw_video(3, 6, 48, 64), draw_video(3, 6, 48, 64)
    assert np.array_equal(first.frames, second.frames)
    assert np.array_equal(first.masks, second.masks)
