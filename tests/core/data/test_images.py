import gc
import os
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from lsegdiff_core.data.images import read_ids, read_image, read_mask, to_rgb
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.export import export_labels

Write = Callable[..., Path]


def ramp(top: float, dtype: type) -> np.ndarray:
    return (np.array([[0, 0.5, 1.0]] * 2) * top).astype(dtype)


@pytest.mark.parametrize(
    ("image", "middle"),
    [
        pytest.param(ramp(255, np.uint8), 127, id="uint8"),
        pytest.param(ramp(65535, np.uint16), 127, id="uint16"),
        pytest.param(ramp(4095, np.uint16), 127, id="12 bit in uint16"),
        pytest.param(ramp(255, np.uint16), 127, id="8 bit in uint16"),
        pytest.param(ramp(255, np.int32), 127, id="8 bit in int32"),
        pytest.param(ramp(255, np.int64), 127, id="8 bit in int64"),
        pytest.param(ramp(127, np.int8), 126, id="int8"),
        pytest.param(ramp(1, np.float32), 128, id="float of 1"),
        pytest.param(ramp(1, np.float64), 128, id="double of 1"),
        pytest.param(ramp(1, np.float16), 128, id="half of 1"),
        pytest.param(ramp(255, np.float32), 128, id="float of 255"),
    ],
)
def test_full_range_becomes_eight_bits(image: np.ndarray, middle: int) -> None:
    rgb = to_rgb(image)
    assert rgb.dtype == np.uint8
    assert rgb.shape == (2, 3, 3)
    assert (rgb[:, 0] == 0).all()
    assert (np.abs(rgb[:, 1].astype(int) - middle) <= 1).all()
    assert (rgb[:, 2] == 255).all()


def test_dark_sixteen_bit_image_above_twelve_bits_is_not_stretched() -> None:
    assert to_rgb(np.array([[0, 8192]], np.uint16))[0, 1, 0] == 32


def test_booleans_are_black_and_white() -> None:
    assert to_rgb(np.array([[False, True]]))[0, :, 0].tolist() == [0, 255]


def test_floats_are_clipped_to_the_range() -> None:
    assert to_rgb(np.array([[-3.0, 300.0]]))[0, :, 2].tolist() == [0, 255]
    assert to_rgb(np.array([[-0.5, 0.5]]))[0, :, 2].tolist() == [0, 128]


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1)])
def test_grey_is_repeated_over_the_colours(shape: tuple[int, ...]) -> None:
    grey = np.arange(35, dtype=np.uint8).reshape(shape)
    rgb = to_rgb(grey)
    assert rgb.shape == (5, 7, 3)
    for channel in range(3):
        assert np.array_equal(rgb[..., channel], grey.reshape(5, 7))


def test_alpha_is_dropped_and_colours_keep_their_order() -> None:
    rgba = np.zeros((4, 6, 4), np.uint8)
    rgba[...] = [10, 20, 30, 0]
    assert (to_rgb(rgba) == [10, 20, 30]).all()
    assert to_rgb(rgba).shape == (4, 6, 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_are_refused_by_name(bad: float) -> None:
    image = np.zeros((4, 4, 3), np.float32)
    image[1, 2, 0] = bad
    with pytest.raises(LSegDiffError, match=r"frame 7: holds NaN or infinite"):
        to_rgb(image, "frame 7")


@pytest.mark.parametrize("shape", [(), (5,), (4, 4, 2), (4, 4, 5), (2, 4, 4, 3), (0, 4), (0, 4, 3), (4, 4, 0)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(LSegDiffError, match="is not an image"):
        to_rgb(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", [np.complex64, "U1", object])
def test_pixels_that_are_not_numbers_are_refused(dtype: object) -> None:
    with pytest.raises(LSegDiffError, match="are not numbers"):
        to_rgb(np.zeros((2, 2), dtype))


SQUARE = np.zeros((8, 12), np.uint8)
SQUARE[2:5, 3:9] = 255


def in_colour(mode: str) -> Image.Image:
    """The square in white on black."""
    grey = Image.fromarray(SQUARE)
    if mode == "LA":
        return Image.merge("LA", [grey, Image.new("L", grey.size, 255)])
    if mode in ("P", "1"):
        return grey.convert(mode)
    return Image.merge("RGB", [grey] * 3).convert(mode)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        *((mode, ".png") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
        *((mode, ".jpg") for mode in ("L", "RGB", "CMYK")),
        *((mode, ".tif") for mode in ("1", "L", "LA", "RGB", "RGBA")),
        ("RGB", ".bmp"),
    ],
)
def test_every_colour_mode_is_read_as_image_and_as_mask(mode: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    in_colour(mode).save(path, **({"quality": 95} if suffix == ".jpg" else {}))
    image, mask = read_image(path), read_mask(path)
    assert image.shape == (8, 12, 3)
    assert np.abs(image.astype(int) - SQUARE[..., None]).max() <= (60 if suffix == ".jpg" else 0)
    assert mask.dtype == np.bool_
    assert np.array_equal(mask, SQUARE > 0)


def test_channels_of_a_colour_file_keep_their_order(tmp_path: Path, write_image: Write) -> None:
    path = write_image(tmp_path / "x.png", np.full((4, 4, 3), [200, 100, 50], np.uint8))
    assert (read_image(path) == [200, 100, 50]).all()


@pytest.mark.parametrize("top", [1, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_masks_of_one_and_of_255_are_the_same(
    top: int, dtype: type, suffix: str, tmp_path: Path, write_image: Write
) -> None:
    path = write_image(tmp_path / f"m{suffix}", (SQUARE > 0).astype(dtype) * dtype(top))
    assert np.array_equal(read_mask(path), SQUARE > 0)


def test_mask_of_floats_is_read(tmp_path: Path, write_image: Write) -> None:
    path = write_image(tmp_path / "m.tif", (SQUARE > 0).astype(np.float32))
    assert np.array_equal(read_mask(path), SQUARE > 0)


def test_mask_is_foreground_above_127(tmp_path: Path, write_image: Write) -> None:
    path = write_image(tmp_path / "m.png", np.array([[0, 126, 127, 128, 254, 255]], np.uint8))
    assert read_mask(path)[0].tolist() == [False, False, False, True, True, True]


@pytest.mark.parametrize("value", [0, 255])
def test_uniform_masks_are_empty_or_full(value: int, tmp_path: Path, write_image: Write) -> None:
    mask = read_mask(write_image(tmp_path / "m.png", np.full((4, 5), value, np.uint8)))
    assert mask.all() == mask.any() == (value == 255)


@pytest.mark.parametrize("colour", [False, True])
def test_first_frame_of_a_stack_is_read(colour: bool, tmp_path: Path) -> None:
    frames = [Image.fromarray(SQUARE), Image.fromarray(SQUARE * 0), Image.fromarray(255 - SQUARE)]
    if colour:
        frames = [frame.convert("RGB") for frame in frames]
    path = tmp_path / "stack.tif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert np.array_equal(read_image(path)[..., 0], SQUARE)
    assert np.array_equal(read_mask(path), SQUARE > 0)


@pytest.mark.parametrize("read", [read_image, read_mask])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif"])
def test_truncated_file_is_named(read: Callable, suffix: str, tmp_path: Path, write_image: Write) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = write_image(tmp_path / f"cut{suffix}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(LSegDiffError, match=rf"cut\{suffix}: cannot be read as an image"):
        read(path)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_file_that_is_no_image_is_named(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"fake{suffix}"
    for content in (b"", b"just text\n", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"):
        path.write_bytes(content)
        for read in (read_image, read_mask):
            with pytest.raises(LSegDiffError, match=rf"fake\{suffix}: cannot be read as an image"):
                read(path)
    gc.collect()  # imageio drops the file without closing it; that is to surface here and not in another test


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_missing_file_is_named(read: Callable, tmp_path: Path) -> None:
    with pytest.raises(LSegDiffError, match=r"gone\.png: no such file"):
        read(tmp_path / "gone.png")
    with pytest.raises(LSegDiffError, match="no such file"):
        read(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(LSegDiffError, match=r"pipe\.png: no such file, or not readable \(not a file\)"):
        read_image(tmp_path / "pipe.png")


def test_file_with_nan_is_named(tmp_path: Path, write_image: Write) -> None:
    path = write_image(tmp_path / "nan.tif", np.full((4, 4), np.nan, np.float32))
    for read in (read_image, read_mask):
        with pytest.raises(LSegDiffError, match=r"nan\.tif: holds NaN"):
            read(path)


def test_lzw_tiff_is_read(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "lzw.tif", compression="tiff_lzw")
    assert np.array_equal(read_image(tmp_path / "lzw.tif"), image)


def test_a_file_without_suffix_is_read_by_its_content(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "frame", format="PNG")
    assert np.array_equal(read_image(tmp_path / "frame"), image)


def test_palette_mask_is_read_by_its_indices(tmp_path: Path) -> None:
    """Colours of ids say nothing about foreground: id 8 of the Pascal palette is dark red."""
    ids = np.zeros((10, 12), np.uint8)
    ids[2:4], ids[6:8] = 1, 8
    export_labels(ids, tmp_path / "ids.png", "indexed-png", {})
    assert np.array_equal(read_mask(tmp_path / "ids.png"), ids > 0)


def test_mask_of_values_that_mean_nothing_is_refused_by_name(tmp_path: Path) -> None:
    mask = np.zeros((10, 12), np.uint8)
    mask[3:5] = 2
    Image.fromarray(mask).save(tmp_path / "odd.png")
    with pytest.raises(LSegDiffError, match=r"odd\.png: its values go from 0 to 2"):
        read_mask(tmp_path / "odd.png")


def test_float_image_that_overshoots_one_is_still_read_as_unit_range() -> None:
    image = np.linspace(0, 1.02, 200).reshape(10, 20)
    assert to_rgb(image).max() == 255
    assert to_rgb(image)[5].mean() > 100


def header_of_png(width: int, height: int) -> bytes:
    """A PNG of a hundred bytes that promises many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("read", [read_image, read_mask, read_ids])
@pytest.mark.parametrize(
    ("width", "height", "said"),
    [
        (60_000, 60_000, r"Image size \(3600000000 pixels\)"),
        (12_000, 9_000, "12000 x 9000 pixels"),
        (8_000, 6_251, "8000 x 6251 pixels"),
    ],
)
def test_header_that_promises_too_many_pixels_is_refused_by_name(read, width, height, said, tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(header_of_png(width, height))
    tracemalloc.start()
    with pytest.raises(
        LSegDiffError, match=rf"bomb\.png: {said} is too large \(at most 50 million pixels.*smaller copy"
    ):
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_real_picture_that_is_too_large_is_not_decoded(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"large{suffix}"
    pixels = np.broadcast_to(np.uint8(90), (9_000, 12_000))
    if suffix == ".tif":
        tifffile.imwrite(path, pixels, compression="zlib", photometric="minisblack")
    else:
        Image.fromarray(pixels).save(path)
    tracemalloc.start()
    with pytest.raises(LSegDiffError, match=rf"large\{suffix}: 12000 x 9000 pixels is too large"):
        read_image(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * path.stat().st_size + 5_000_000


def test_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "film.tif"
    with path.open("wb") as file:
        file.truncate(3 * 2**30)  # holds nothing, so it takes no space
    with pytest.raises(LSegDiffError, match=r"film\.tif: a file of 3\.0 GB is too large"):
        read_image(path)


def test_of_a_stack_one_frame_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "film.tif"
    stack = np.zeros((60, 400, 500), np.uint8)
    stack[0] = 7
    tifffile.imwrite(path, stack, compression="zlib", photometric="minisblack")
    tracemalloc.start()
    assert (read_image(path) == 7).all()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < stack.nbytes / 2
