from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from lsegdiff_core import drawing
from lsegdiff_core.drawing import OUTLINE, disc, ellipse, outlined, polygon, thumbnail
from lsegdiff_core.metrics import iou

SHAPE = (60, 80)
RECTANGLE = np.array([[10, 20], [10, 50], [30, 50], [30, 20]], np.float64)


def box(shape: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, np.bool_)
    mask[slice(*rows), slice(*columns)] = True
    return mask


@pytest.mark.parametrize(
    ("centre", "radius"), [((30, 40), 7.5), ((30.4, 40.7), 3.2), ((0, 0), 9), ((59, 90), 20), ((-5, -5), 3)]
)
def test_a_disc_holds_the_pixels_within_its_radius(centre: tuple[float, float], radius: float) -> None:
    expected = [
        [(row - centre[0]) ** 2 + (column - centre[1]) ** 2 <= radius**2 for column in range(80)] for row in range(60)
    ]
    found = disc(SHAPE, centre, radius)
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, expected)


def test_a_disc_without_radius_is_a_pixel() -> None:
    np.testing.assert_array_equal(disc(SHAPE, (3, 5), 0), box(SHAPE, (3, 4), (5, 6)))


@pytest.mark.parametrize("start", range(4))
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(("low", "high"), [(0, 0), (-0.4, 0.4), (1e-9, 1e-9)])
def test_a_rectangle_holds_the_pixels_whose_middle_lies_in_it(start: int, order: int, low: float, high: float) -> None:
    """Rows 10 to 30 and columns 20 to 50, both ends among them, whichever corner comes first."""
    corners = np.array([[10 + low, 20 + low], [10 + low, 50 + high], [30 + high, 50 + high], [30 + high, 20 + low]])
    expected = box(SHAPE, (10 + (low > 0), 31), (20 + (low > 0), 51))
    np.testing.assert_array_equal(drawing.box(SHAPE, np.roll(corners, start, axis=0)[::order]), expected)


def test_a_rectangle_is_cut_by_the_images_edge() -> None:
    corners = np.array([[-20, 60], [-20, 200], [9, 200], [9, 60]])
    np.testing.assert_array_equal(drawing.box((60, 80, 3), corners), box(SHAPE, (0, 10), (60, 80)))


def test_a_rectangle_that_is_turned_stays_turned() -> None:
    diamond = np.array([[10.0, 40.0], [30.0, 60.0], [50.0, 40.0], [30.0, 20.0]])
    rows, columns = np.ogrid[:60, :80]
    expected = np.abs(rows - 30) + np.abs(columns - 40) <= 20
    assert iou(drawing.box(SHAPE, diamond), expected) > 0.94
    assert not drawing.box(SHAPE, diamond)[12, 22]


@pytest.mark.parametrize("start", range(4))
@pytest.mark.parametrize("order", [1, -1])
def test_a_polygon_holds_the_pixels_whose_middle_it_holds(start: int, order: int) -> None:
    vertices = np.roll(RECTANGLE, start, axis=0)[::order] - 0.4
    np.testing.assert_array_equal(polygon(SHAPE, vertices), box(SHAPE, (10, 30), (20, 50)))


def test_a_polygon_is_cut_by_the_images_edge() -> None:
    vertices = np.array([[-20.5, 60.5], [-20.5, 200.5], [9.5, 200.5], [9.5, 60.5]])
    np.testing.assert_array_equal(polygon(SHAPE, vertices), box(SHAPE, (0, 10), (61, 80)))
    assert not polygon(SHAPE, vertices + 300).any()


def test_a_polygon_may_turn_inwards() -> None:
    arrow = np.array([[5.5, 5.5], [40.5, 25.5], [5.5, 45.5], [20.5, 25.5]])
    mask = polygon(SHAPE, arrow)
    assert mask[30, 25]
    assert mask[8, 7]
    assert not mask[10, 25], "the notch"
    assert mask.sum() == pytest.approx(20 * 40 / 2, rel=0.05)


def test_shapes_fit_an_image_with_channels() -> None:
    assert polygon((60, 80, 3), RECTANGLE).shape == SHAPE
    assert ellipse((60, 80, 3), RECTANGLE).shape == SHAPE
    assert disc((60, 80, 3), (5, 5), 3).shape == SHAPE


def test_an_ellipse_fits_its_rectangle() -> None:
    rows, columns = np.ogrid[:60, :80]
    expected = ((rows - 20) / 10) ** 2 + ((columns - 35) / 15) ** 2 <= 1
    found = ellipse(SHAPE, RECTANGLE)
    assert iou(found, expected) > 0.97
    rows, columns = np.nonzero(found)
    assert (rows.min() - 10, 30 - rows.max(), columns.min() - 20, 50 - columns.max()) <= (1, 1, 1, 1)
    assert min(rows.min() - 10, 30 - rows.max(), columns.min() - 20, 50 - columns.max()) >= 0


@pytest.mark.parametrize("start", range(4))
@pytest.mark.parametrize("order", [1, -1])
def test_an_ellipse_does_not_depend_on_the_corner_that_comes_first(start: int, order: int) -> None:
    found = ellipse(SHAPE, np.roll(RECTANGLE, start, axis=0)[::order])
    assert iou(found, ellipse(SHAPE, RECTANGLE)) > 0.99


def test_an_ellipse_turns_with_its_rectangle() -> None:
    turn = np.array([[np.cos(0.6), -np.sin(0.6)], [np.sin(0.6), np.cos(0.6)]])
    corners = (np.array([[-8, -20], [-8, 20], [8, 20], [8, -20]]) @ turn.T) + [30, 40]
    rows, columns = np.mgrid[:60, :80]
    along = np.stack([rows - 30, columns - 40], axis=-1) @ turn
    expected = (along[..., 0] / 8) ** 2 + (along[..., 1] / 20) ** 2 <= 1
    assert iou(ellipse(SHAPE, corners), expected) > 0.97
    assert iou(ellipse(SHAPE, corners), ellipse(SHAPE, corners[:, ::-1] + [[-10, 10]])) < 0.8


@pytest.mark.parametrize(("shape", "width"), [((60, 80), 1), ((240, 900), 1), ((480, 640), 2), ((1080, 1920), 4)])
def test_an_outline_lies_inside_the_mask_and_is_as_wide_as_the_image_is_large(shape, width) -> None:
    image = np.full((*shape, 3), 7, np.uint8)
    mask = box(shape, (20, 50), (30, 60))
    picture = outlined(image, mask)
    drawn = mask & ~box(shape, (20 + width, 50 - width), (30 + width, 60 - width))
    assert (picture[drawn] == OUTLINE).all()
    assert (picture[~drawn] == 7).all()
    assert (image == 7).all(), "the image itself stays"


def test_nothing_has_no_outline() -> None:
    image = np.random.default_rng(0).integers(0, 255, (*SHAPE, 3), np.uint8)
    np.testing.assert_array_equal(outlined(image, np.zeros(SHAPE, np.bool_)), image)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((480, 640), (48, 64)),
        ((640, 480), (64, 48)),
        ((30, 30), (64, 64)),
        ((1000, 3), (64, 1)),
        ((1081, 1923), (36, 64)),
    ],
)
def test_a_thumbnail_keeps_the_proportions(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    picture = thumbnail(np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.bool_), 64)
    assert (picture.shape, picture.dtype) == ((*expected, 3), np.uint8)


def test_a_thumbnail_shows_the_image_and_outlines_the_mask() -> None:
    image = np.zeros((400, 800, 3), np.uint8)
    image[:, 400:] = (200, 100, 50)
    picture = thumbnail(image, box((400, 800), (100, 290), (106, 296)), 80)
    outline = (picture == OUTLINE).all(axis=2)
    # what is covered by less than half is not shown
    np.testing.assert_array_equal(ndimage.binary_fill_holes(outline), box((40, 80), (10, 29), (11, 30)))
    assert not outline[11:28, 12:29].any()
    assert (picture[5, 10] == 0).all()
    assert (picture[20, 60] == (200, 100, 50)).all()


def test_a_thumbnail_leaves_image_and_mask_alone() -> None:
    generator = np.random.default_rng(0)
    image, mask = generator.integers(0, 255, (90, 120, 3), np.uint8), generator.random((90, 120)) < 0.5
    before = image.copy(), mask.copy()
    thumbnail(image, mask, 32)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])
