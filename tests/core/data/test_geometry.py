import numpy as np
import pytest

from lsegdiff_core.data.geometry import Geometry


def frame(height: int, width: int, box: tuple[int, int, int, int], value: int = 150) -> np.ndarray:
    """A black image with grey content in ``box``."""
    image = np.full((height, width, 3), 4, np.uint8)
    image[box[0] : box[2], box[1] : box[3]] = value
    return image


@pytest.mark.parametrize(
    "box",
    [(0, 0, 240, 320), (20, 0, 240, 320), (0, 33, 240, 320), (0, 0, 200, 320), (0, 0, 240, 281), (13, 40, 222, 300)],
)
def test_black_border_is_cropped_on_any_side(box: tuple[int, int, int, int]) -> None:
    geometry = Geometry.of(frame(240, 320, box))
    assert geometry.shape == (240, 320)
    assert geometry.box == box


def test_border_of_a_large_image_is_cropped_to_within_the_search_step() -> None:
    box = (100, 401, 1001, 1803)
    step = 1080 // 256
    found = Geometry.of(frame(1080, 1920, box)).box
    assert np.abs(np.subtract(found, box)).max() < step


@pytest.mark.parametrize("side", [255, 256, 257, 513, 770, 1000])
def test_image_without_border_is_kept_whole(side: int) -> None:
    assert Geometry.of(np.full((side, side + 9, 3), 90, np.uint8)).box == (0, 0, side, side + 9)


def test_writing_in_the_border_is_cropped_with_it() -> None:
    image = frame(240, 320, (0, 80, 240, 320))
    image[100:104, 5:60] = 255
    assert Geometry.of(image).box == (0, 80, 240, 320)


def test_colour_counts_as_bright_in_any_channel() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    image[10:90, 20:95, 2] = 200
    assert Geometry.of(image).box == (10, 20, 90, 95)


@pytest.mark.parametrize("value", [0, 10, 24])
def test_dark_image_is_not_cropped_away(value: int) -> None:
    assert Geometry.of(np.full((50, 60, 3), value, np.uint8)).box == (0, 0, 50, 60)


@pytest.mark.parametrize("box", [(90, 80, 130, 150), (90, 0, 130, 200), (0, 80, 200, 150)])
def test_small_bright_part_in_the_dark_is_not_taken_for_the_content(box: tuple[int, int, int, int]) -> None:
    assert Geometry.of(frame(200, 200, box)).box == (0, 0, 200, 200)


def test_dark_lumen_inside_the_image_is_not_a_border() -> None:
    image = np.full((120, 160, 3), 140, np.uint8)
    image[40:80] = 0
    assert Geometry.of(image).box == (0, 0, 120, 160)


SHAPES = [(24, 24), (240, 320), (480, 640), (719, 1281), (20, 900), (900, 20), (1, 40), (3, 5)]


@pytest.mark.parametrize("shape", SHAPES)
def test_everything_comes_back_as_everything(shape: tuple[int, int]) -> None:
    geometry = Geometry.of(np.full((*shape, 3), 128, np.uint8))
    square = geometry.mask_to_square(np.ones(shape, np.bool_), 64)
    assert square.shape == (64, 64)
    assert square.dtype == np.float32
    assert (square == 1).all()
    back = geometry.from_square(square)
    assert back.shape == shape
    assert back.dtype == np.float32
    assert (back == 1).all()


def test_map_is_zero_outside_the_content_and_exact_at_its_border() -> None:
    box = (13, 40, 222, 300)
    geometry = Geometry.of(frame(240, 320, box))
    expected = np.zeros((240, 320), np.float32)
    expected[box[0] : box[2], box[1] : box[3]] = 0.75
    assert np.array_equal(geometry.from_square(np.full((64, 64), 0.75, np.float32)), expected)


@pytest.mark.parametrize("shape", [(24, 24), (240, 320), (480, 640), (719, 1281), (40, 900), (900, 40)])
@pytest.mark.parametrize("border", [0, 0.08])
def test_rectangle_comes_back_in_its_place(shape: tuple[int, int], border: float) -> None:
    height, width = shape
    top, left = int(border * height), int(border * width)
    geometry = Geometry.of(frame(height, width, (top, left, height, width)))
    rectangle = np.zeros(shape, np.bool_)
    rows, columns = (int(0.3 * height), int(0.8 * height)), (int(0.25 * width), int(0.6 * width))
    rectangle[rows[0] : rows[1], columns[0] : columns[1]] = True
    back = geometry.from_square(geometry.mask_to_square(rectangle, 256)) >= 0.5
    found_rows, found_columns = np.flatnonzero(back.any(axis=1)), np.flatnonzero(back.any(axis=0))
    assert abs(found_rows[0] - rows[0]) <= 1
    assert abs(found_rows[-1] + 1 - rows[1]) <= 1
    assert abs(found_columns[0] - columns[0]) <= 1
    assert abs(found_columns[-1] + 1 - columns[1]) <= 1
    # and in between too
    inner = back[rows[0] + 2 : rows[1] - 2, columns[0] + 2 : columns[1] - 2]
    assert inner.all()
    assert back.sum() <= (np.ptp(rows) + 2) * (np.ptp(columns) + 2)


@pytest.mark.parametrize("shape", [(256, 256), (512, 1024), (300, 300)])
@pytest.mark.parametrize("side", ["top", "left", "bottom", "right"])
def test_half_an_image_comes_back_as_that_half(shape: tuple[int, int], side: str) -> None:
    half = np.zeros(shape, np.bool_)
    middle = shape[0] // 2, shape[1] // 2
    part = {
        "top": np.s_[: middle[0]],
        "bottom": np.s_[middle[0] :],
        "left": np.s_[:, : middle[1]],
        "right": np.s_[:, middle[1] :],
    }[side]
    half[part] = True
    geometry = Geometry(shape, (0, 0, *shape))
    back = geometry.from_square(geometry.mask_to_square(half, 256)) > 0.5
    assert np.array_equal(back, half)


def test_image_and_mask_go_the_same_way() -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((97, 211), np.bool_)
    mask[30:70, 50:140] = True
    geometry = Geometry((97, 211), (5, 11, 90, 200))
    image = np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * 255
    square, covered = geometry.to_square(image, 64), geometry.mask_to_square(mask, 64)
    assert square.shape == (64, 64, 3)
    assert np.array_equal(square[..., 1] / np.float32(255), covered)
    assert 0 < covered.min(initial=1, where=covered > 0) < 1, "the edge is a share of a pixel"
    noise = rng.integers(0, 255, (97, 211, 3), dtype=np.uint8)
    for channel in range(3):  # channels do not mix
        alone = geometry.to_square(np.ascontiguousarray(noise[..., channel]), 64)
        assert np.array_equal(geometry.to_square(noise, 64)[..., channel], alone)


def test_shrinking_averages_rather_than_picks() -> None:
    checkers = (np.indices((512, 512)).sum(axis=0) % 2).astype(np.bool_)
    square = Geometry((512, 512), (0, 0, 512, 512)).mask_to_square(checkers, 64)
    assert np.abs(square - 0.5).max() < 0.02


def test_content_of_the_box_alone_fills_the_square() -> None:
    image = frame(100, 100, (20, 30, 100, 100))
    square = Geometry.of(image).to_square(image, 32)
    assert (square[1:, 1:] == 150).all()
    assert square.min() > 100, "the filter may look over the edge of the box, but not far"


@pytest.mark.parametrize(
    ("rows", "columns", "smallest", "expected"),
    [
        pytest.param((40, 60), (90, 110), 0.1, (30, 60, 70, 140), id="its own size on both sides"),
        pytest.param((40, 60), (90, 110), 0.5, (25, 50, 75, 150), id="smallest share"),
        pytest.param((40, 50), (50, 150), 0.1, (0, 0, 100, 200), id="the longer side counts"),
        pytest.param((0, 20), (0, 20), 0.1, (0, 0, 40, 80), id="top left corner"),
        pytest.param((80, 100), (180, 200), 0.1, (60, 120, 100, 200), id="bottom right corner"),
        pytest.param((10, 90), (10, 190), 0.1, (0, 0, 100, 200), id="nearly everything"),
    ],
)
def test_crop_around_a_mask(
    rows: tuple[int, int], columns: tuple[int, int], smallest: float, expected: tuple[int, int, int, int]
) -> None:
    mask = np.zeros((100, 200), np.bool_)
    mask[slice(*rows), slice(*columns)] = True
    crop = Geometry((100, 200), (0, 0, 100, 200)).around(mask, margin=0.5, smallest=smallest)
    assert crop == Geometry((100, 200), expected)


def test_crop_holds_the_mask_with_its_margin_in_the_proportions_of_the_box() -> None:
    generator = np.random.default_rng(0)
    for _ in range(300):
        shape = tuple(generator.integers(6, 160, 2))
        top, left = (generator.integers(0, side // 2) for side in shape)
        bottom, right = (generator.integers(side // 2 + 1, side + 1) for side in shape)
        height, width = bottom - top, right - left
        mask = np.zeros(shape, np.bool_)
        mask[generator.integers(shape[0]), generator.integers(shape[1])] = True  # may lie outside the box
        points = generator.integers((top, left), (bottom, right), (generator.integers(1, 4), 2))
        mask[tuple(points.T)] = True
        margin, smallest = generator.uniform(0, 1), generator.uniform(0.05, 1)

        crop = Geometry(shape, (top, left, bottom, right)).around(mask, margin, smallest)
        first, second, third, fourth = crop.box
        tall, wide = third - first, fourth - second
        assert crop.shape == shape
        assert top <= first < third <= bottom
        assert left <= second < fourth <= right
        assert tall >= smallest * height - 0.5
        assert wide >= smallest * width - 0.5
        assert abs(tall / height - wide / width) <= 0.5 / height + 0.5 / width + 1e-9

        rows, columns = (np.flatnonzero(mask[top:bottom, left:right].any(axis=axis)) for axis in (1, 0))
        for lines, start, stop, side in (
            (rows, first - top, third - top, height),
            (columns, second - left, fourth - left, width),
        ):
            room = margin * (lines[-1] + 1 - lines[0]) - 1  # rounding takes less than a pixel
            assert start <= lines[0]
            assert stop > lines[-1]
            assert start == 0 or lines[0] - start >= room
            assert stop == side or stop - lines[-1] - 1 >= room
