"""Which part of an image layer is one picture, and the Labels layer that lies exactly on it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels
from napari.utils.colormaps import CyclicLabelColormap
from numpy.typing import NDArray

from lsegdiff_core.errors import LSegDiffError

Frame = tuple[int, ...]
"""Index into the leading axes of a layer; ``()`` for a plain 2-D image."""

# Above this a stack's labels lie in a temporary file: the array is as large as the whole stack.
MEMORY_LIMIT = 4 * 1024**3

# The first colour marks nearly every mask, so it is one that mucosa and skin never have.
_COLOURS = ("#00000000", "#00e5ff", "#ffe100", "#7cff4d", "#b388ff", "#ff9500", "#2f7bff", "#ffffff")


def current_frame(viewer: ViewerModel, layer: Image | Labels) -> Frame:
    """Return the frame of ``layer`` that the viewer's sliders stand at, inside the layer's extent.

    Raises
    ------
    LSegDiffError
        If the layer is not a picture or a stack of pictures seen frame by frame.
    """
    shape = shape_of(layer)
    if len(shape) < 2:
        raise LSegDiffError(f"{layer.name}: has {len(shape)} axis; choose an image with height and width")
    if len(shape) > 2 and not getattr(layer, "rgb", False) and isinstance(layer, Image) and shape[-1] in (3, 4):
        raise LSegDiffError(
            f"{layer.name}: shape {shape} looks like colour opened as grey frames; add it again with rgb=True"
        )
    leading = len(shape) - 2
    offset = viewer.dims.ndim - len(shape)
    if any(axis - offset < leading for axis in viewer.dims.displayed):
        raise LSegDiffError(f"{layer.name}: its frame axis is on the canvas; show it in 2-D and choose a frame")
    # the sliders are in world coordinates: the layer may start late, or have another time step than its neighbours
    position = layer.world_to_data(viewer.dims.point)[:leading]
    return tuple(int(np.clip(round(float(p)), 0, size - 1)) for p, size in zip(position, shape, strict=False))


def frame_shape(layer: Image) -> tuple[int, int]:
    """Return height and width of one frame in pixels."""
    height, width = shape_of(layer)[-2:]
    return height, width


def file_name(layer: Image) -> str:
    """Return the name of the image's file, since whoever gets a mask has no layers; the layer's without a file."""
    path = layer.source.path
    return Path(path).name if path else layer.name


def about_image(layer: Image) -> dict[str, Any]:
    """Return what the provenance of a mask says of its image: name, height and width, ready for JSON."""
    height, width = frame_shape(layer)
    return {"name": file_name(layer), "height": height, "width": width}


def read_frame(layer: Image, frame: Frame) -> NDArray[np.generic]:
    """Return one frame (H, W), (H, W, 3) or (H, W, 4); of a lazy stack nothing else is computed."""
    return np.asarray(_full_resolution(layer)[frame])


def check_fit(layer: Image, frame: Frame, mask: NDArray[np.integer]) -> None:
    """Raise an `LSegDiffError` unless ``mask`` (H, W) can be one of this frame of the layer."""
    *leading, height, width = shape_of(layer)
    if len(frame) != len(leading) or not all(0 <= i < size for i, size in zip(frame, leading, strict=True)):
        raise LSegDiffError(f"{layer.name}: has no frame {frame}; choose the image that the mask was made of")
    if mask.shape != (height, width):
        theirs = " x ".join(map(str, mask.shape))
        raise LSegDiffError(f"{layer.name}: is {height} x {width} pixels, the mask {theirs}; choose the mask's image")


def new_labels(image: Image, frame: Frame, mask: NDArray[np.integer]) -> Labels:
    """Return a Labels layer of the image's shape and place, empty but for ``mask`` (H, W) in ``frame``."""
    labels = lone_labels(image.name, shape_of(image), mask.dtype, **place_of(image))
    labels.data[frame] = mask
    return labels


def lone_labels(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], **place: Any) -> Labels:
    """Return an empty Labels layer for the masks of an image ``name`` of this shape, leading axes and (H, W)."""
    return Labels(_zeros(shape, dtype), name=f"{name} mask", opacity=0.5, colormap=colours(), **place)


def colours() -> CyclicLabelColormap:
    """Return the colours of objects of which nobody said what they are."""
    return CyclicLabelColormap(colors=list(_COLOURS))


def widen(labels: Labels, dtype: np.dtype[Any]) -> None:
    """See to it that the layer holds values of ``dtype``."""
    wide = np.promote_types(labels.data.dtype, dtype)
    if wide != labels.data.dtype:
        data = _zeros(labels.data.shape, wide)
        data[...] = labels.data
        labels.data = data


def place_of(image: Image) -> dict[str, Any]:
    """Return what puts another layer exactly onto ``image``, as keywords of napari's layers."""
    return {
        "scale": image.scale,
        "translate": image.translate,
        "rotate": image.rotate,
        "shear": image.shear,
        "affine": image.affine.affine_matrix,
        "units": image.units,
        "axis_labels": image.axis_labels,
    }


def _zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if size <= MEMORY_LIMIT:
        return np.zeros(shape, dtype=dtype)
    with tempfile.TemporaryFile(prefix="lsegdiff-") as file:
        # the mapping outlives the closed file and frees the disk with the layer
        return np.memmap(file, dtype=dtype, mode="w+", shape=shape)


def _full_resolution(layer: Image | Labels) -> Any:
    return layer.data[0] if layer.multiscale else layer.data


def shape_of(layer: Image | Labels) -> tuple[int, ...]:
    """Return the layer's shape in pixels: leading axes, height and width, no colour axis."""
    shape = tuple(int(size) for size in _full_resolution(layer).shape)
    return shape[:-1] if getattr(layer, "rgb", False) else shape
