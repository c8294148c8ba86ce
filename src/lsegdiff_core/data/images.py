"""Reading images and masks, and bringing arrays as users have them to RGB uint8."""

from __future__ import annotations

import errno
import hashlib
import io
import stat
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lsegdiff_core.errors import LSegDiffError

# One run takes 21 bytes a pixel at its peak, the viewer with its eight last runs about 100: at this limit 5 GB, which a
# laptop has. 8K video and the full-frame cameras lie below it.
MOST_PIXELS = 50_000_000
# Of a file: so many pixels in 16-bit colours, not compressed, take a third of it.
MOST_BYTES = 2**30
# What is said of a file that is not there.
NO_FILE = "no such file, or not readable"


def to_rgb(image: NDArray[Any], name: str = "image") -> NDArray[np.uint8]:
    """Return ``image`` as RGB, 8 bit.

    Parameters
    ----------
    image
        (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); alpha is dropped. Integers are read against the full range of
        their type, but 16-bit and wider ones that fit 8 or 12 bits (at most 255 or 4095) against those, and booleans
        as black and white. Floats with a maximum of at most 1.5 are read as [0, 1], otherwise as [0, 255].
    name
        What messages call the image.

    Returns
    -------
    ndarray
        (H, W, 3) uint8.

    Raises
    ------
    LSegDiffError
        For another shape, an empty array, or values that are not finite.
    """
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)) or image.size == 0:
        raise LSegDiffError(
            f"{name}: shape {image.shape} is not an image; give height x width, or height x width x 3 (RGB) or 4 (RGBA)"
        )
    if image.ndim == 3:
        image = image[..., :3]
    if np.issubdtype(image.dtype, np.floating):
        top = float(image.max())
        if not np.isfinite(top) or not np.isfinite(float(image.min())):
            raise LSegDiffError(f"{name}: holds NaN or infinite pixels; replace them, for example with 0")
        # resampling overshoots: an image in [0, 1] may reach a little beyond 1
        scaled = image * (255.0 if top <= 1.5 else 1.0)
        image8 = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    elif image.dtype == np.uint8:
        image8 = image.astype(np.uint8, copy=False)
    elif image.dtype == np.bool_:
        image8 = image.astype(np.uint8) * np.uint8(255)
    elif np.issubdtype(image.dtype, np.integer):
        full = np.iinfo(image.dtype).max
        if full >= 65535:
            top = int(image.max())
            full = 4095 if 255 < top <= 4095 else 255 if top <= 255 else full
        image8 = (np.clip(image, 0, full).astype(np.float32) * (255.0 / full) + 0.5).astype(np.uint8)
    else:
        raise LSegDiffError(f"{name}: pixels of type {image.dtype} are not numbers; convert the image to 8 bit first")
    if image8.ndim == 2:
        image8 = image8[..., None]
    if image8.shape[2] == 1:
        image8 = np.repeat(image8, 3, axis=2)
    return image8


def pixel_hash(pixels: NDArray[Any]) -> str:
    """Return the sha256 of an array's values, which stands for an image, (H, W, 3) uint8, in its masks' provenance."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def _imread(path: Path) -> NDArray[Any]:
    content = _content(path)
    try:
        image = _decode(content, path.suffix.lower())
    except Exception as error:  # the readers behind imageio raise whatever they like
        raise LSegDiffError(f"{path}: cannot be read as an image; is it truncated, or not an image at all?") from error
    if image.ndim == 3 and image.shape[2] == 2:
        image = image[..., 0]  # grey with alpha
    elif image.ndim == 4 or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        image = image[0]  # the first frame of a stack
    return image


def _content(path: Path) -> bytes:
    """Return a file's bytes; refuse a file, and a picture that its header promises, for which there is no memory."""
    size = file_size(path)
    if size > MOST_BYTES:
        raise _refusal(path, f"a file of {size / 2**30:.1f} GB")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _no_file(path, error) from error
    promised = _too_large(content, path.suffix.lower())
    if promised:
        raise _refusal(path, promised)
    return content


def file_size(path: Path) -> int:
    """Return the size of the file ``path`` in bytes; raises LSegDiffError with `NO_FILE` if it is not there."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # a pipe would be waited for
            raise OSError(errno.EINVAL, "not a file")
    except OSError as error:
        raise _no_file(path, error) from error
    return about.st_size


def _no_file(path: Path, error: OSError) -> LSegDiffError:
    return LSegDiffError(f"{path}: {NO_FILE} ({error.strerror}); check the path")


def _refusal(path: Path, size: str) -> LSegDiffError:
    most = f"{MOST_PIXELS // 10**6} million pixels and {MOST_BYTES // 2**30} GB"
    return LSegDiffError(
        f"{path}: {size} is too large (at most {most}); save a smaller copy, or the part that you need"
    )


def _too_large(content: bytes, suffix: str) -> str:
    """Return the size that the header promises if it is too large, else nothing; no pixel is decoded."""
    import imageio.v3 as iio

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the error says it better
            shape = iio.improps(content, **_first(suffix)).shape
    except Image.DecompressionBombError as error:
        return str(error).partition(" exceeds")[0]
    except Exception:  # whatever is wrong with it, decoding says so
        return ""
    height, width = shape[:2] if len(shape) == 2 or shape[-1] <= 4 else shape[-2:]  # colours come first or last
    return f"{width} x {height} pixels" if height * width > MOST_PIXELS else ""


def _first(suffix: str) -> dict[str, Any]:
    """Return the keywords with which imageio decodes the first frame of a stack and nothing else."""
    first: dict[str, Any] = {"index": 0, "page": 0} if suffix in (".tif", ".tiff") else {"index": 0}
    return first | {"extension": suffix} if suffix else first  # without a suffix the content decides


def _decode(content: bytes, suffix: str) -> NDArray[Any]:
    import imageio.v3 as iio

    try:
        image = np.asarray(iio.imread(content, **_first(suffix)))
    except Exception:
        if suffix not in (".tif", ".tiff"):
            raise
        # tifffile leaves LZW, JPEG and CCITT to a package of their own; Pillow reads them
        image = np.asarray(iio.imread(content, extension=suffix, plugin="pillow", index=0))
    if image.ndim == 3 and image.shape[2] == 4 and suffix in (".jpg", ".jpeg"):
        image = np.asarray(iio.imread(content, extension=suffix, mode="RGB"))  # no alpha in a JPEG: it is CMYK
    return image


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read the image file ``path`` as (H, W, 3) uint8; the first frame of a stack.

    Raises
    ------
    LSegDiffError
        If the file is missing, truncated, too large, not an image, or holds NaN.
    """
    return to_rgb(_imread(path), str(path))


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Read the mask file ``path`` as (H, W) bool: a pixel is foreground above half of the range (above 127 of 255).

    A mask whose values are only 0 and 1 is taken as it is, and a palette PNG by its indices: all but 0 is foreground.
    Of a stack the first frame is read.

    Raises
    ------
    LSegDiffError
        If the file is missing, truncated, too large or not an image, or holds values that are neither 0 and 1 nor
        0 and 255.
    """
    indices = _palette_indices(_content(path))
    if indices is not None:
        return indices > 0
    mask = _imread(path)
    if mask.ndim == 3:
        mask = mask[..., :3].max(axis=2)
    if mask.dtype == np.bool_ or (np.issubdtype(mask.dtype, np.integer) and mask.max() == 1):
        return mask.astype(np.bool_)
    binary: NDArray[np.bool_] = to_rgb(mask, str(path))[..., 0] > 127
    if mask.any() and not binary.any() and path.suffix.lower() not in (".jpg", ".jpeg"):
        raise LSegDiffError(
            f"{path}: its values go from {mask.min()} to {mask.max()}; "
            "give a mask of 0 and 255, of 0 and 1, or a palette PNG"
        )
    return binary


def read_ids(path: Path) -> NDArray[np.integer]:
    """Read the PNG ``path`` as (H, W) numbers: the indices of a palette, or grey values.

    Raises
    ------
    LSegDiffError
        If the file is missing, truncated, too large, or holds colours.
    """
    content = _content(path)
    try:
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise LSegDiffError(
            f"{path}: cannot be read as a PNG; choose another file. A project's mask: put back a good copy, or delete "
            "this one, then click on its image in the table, which is segmented anew"
        ) from error
    if pixels.ndim != 2:
        raise LSegDiffError(f"{path}: holds colours, not ids; give an indexed or a grey PNG")
    return pixels


def _palette_indices(content: bytes) -> NDArray[np.uint8] | None:
    """Return the indices of a palette image, None for any other file: colours of ids say nothing about foreground."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image) if image.mode == "P" and image.format == "PNG" else None
    except OSError:
        return None
