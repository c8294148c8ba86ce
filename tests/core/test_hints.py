import numpy as np
import pytest

from lsegdiff_core.data.geometry import Geometry
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.hints import BACKGROUND, FOREGROUND, Hints

SIZE = 64
WHOLE = Geometry((SIZE, SIZE), (0, 0, SIZE, SIZE))


def whole(factor: int) -> Geometry:
    return Geometry((factor * SIZE, factor * SIZE), (0, 0, factor * SIZE, factor * SIZE))


def test_planes_hold_strokes_current_mask_and_that_there_is_one() -> None:
    locked = np.zeros(WHOLE.shape, np.uint8)
    locked[3:6, 10:20], locked[40:50, 7] = FOREGROUND, BACKGROUND
    current = np.zeros(WHOLE.shape, np.bool_)
    current[2:30, 5:33] = True
    planes = Hints(locked, current).planes(WHOLE, SIZE)
    assert planes.dtype == np.float32
    expected = np.stack([locked == FOREGROUND, locked == BACKGROUND, current, np.ones_like(current)])
    np.testing.assert_array_equal(planes, expected)


def test_a_mask_that_is_not_given_differs_from_an_empty_one() -> None:
    locked = np.zeros(WHOLE.shape, np.uint8)
    assert not Hints(locked).planes(WHOLE, SIZE).any()
    *others, given = Hints(locked, np.zeros(WHOLE.shape, np.bool_)).planes(WHOLE, SIZE)
    assert not np.any(others)
    assert (given == 1).all()


@pytest.mark.parametrize("value", [FOREGROUND, BACKGROUND])
@pytest.mark.parametrize("factor", [2, 4])
def test_a_line_of_one_pixel_survives_wherever_it_lies(factor: int, value: int) -> None:
    geometry = whole(factor)
    for row in range(9 * factor, 10 * factor):
        locked = np.zeros(geometry.shape, np.uint8)
        locked[row] = value
        across, down = (Hints(strokes).planes(geometry, SIZE)[value - 1] for strokes in (locked, locked.T))
        assert across[9].all()
        assert down[:, 9].all()


def test_a_thick_stroke_hardly_grows() -> None:
    geometry = whole(4)
    locked = np.zeros(geometry.shape, np.uint8)
    locked[100:140, 60:180] = FOREGROUND
    plane = Hints(locked).planes(geometry, SIZE)[0]
    assert plane[25:35, 15:45].all()
    plane[24:36, 14:46] = 0
    assert not plane.any()


@pytest.mark.parametrize(("foreground", "winner"), [(3, 0), (2, 0), (1, 1)])
def test_where_strokes_meet_the_larger_share_of_a_pixel_counts(foreground: int, winner: int) -> None:
    geometry = whole(2)
    locked = np.zeros(geometry.shape, np.uint8)
    locked[20:22, 20:22].flat = [FOREGROUND] * foreground + [BACKGROUND] * (4 - foreground)
    planes = Hints(locked).planes(geometry, SIZE)
    assert planes[winner, 10, 10] == 1
    assert planes[1 - winner, 10, 10] == 0


def test_no_pixel_is_foreground_and_background_at_once() -> None:
    locked = np.random.default_rng(0).integers(0, 3, (150, 210), dtype=np.uint8)
    planes = Hints(locked).planes(Geometry((150, 210), (5, 11, 140, 200)), SIZE)
    assert planes[0].any()
    assert planes[1].any()
    assert not (planes[0] * planes[1]).any()


def test_planes_show_the_content_of_the_box_alone() -> None:
    generator = np.random.default_rng(1)
    locked, current = generator.integers(0, 3, (100, 120), dtype=np.uint8), generator.random((100, 120)) < 0.5
    planes = Hints(locked, current).planes(Geometry((100, 120), (20, 30, 84, 94)), SIZE)
    inside = np.s_[20:84, 30:94]
    for plane, array in zip(planes, (locked == FOREGROUND, locked == BACKGROUND, current), strict=False):
        np.testing.assert_array_equal(plane, array[inside])


@pytest.mark.parametrize("name", ["locked", "current"])
def test_an_array_of_another_size_is_named(name: str) -> None:
    arrays = {"locked": np.zeros(WHOLE.shape, np.uint8), "current": np.zeros(WHOLE.shape, np.bool_)}
    arrays[name] = arrays[name][:, 1:]
    with pytest.raises(LSegDiffError, match=rf"{name}: has shape \(64, 63\), the image \(64, 64\)"):
        Hints(**arrays).planes(WHOLE, SIZE)
