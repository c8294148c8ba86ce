"""Folders of image and mask pairs, as the public data sets lay them out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lsegdiff_core.data.images import read_image, read_mask
from lsegdiff_core.data.splits import read_lines, read_split
from lsegdiff_core.errors import LSegDiffError

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
# What a mask's name may carry behind its image's: PolypGen, PH2.
MASK_ENDINGS = ("_mask", "_lesion")
IMAGE_ENDINGS = ("_Dermoscopic_Image",)
# Names of the two folders: plain and Kvasir-SEG, CVC-ClinicDB as it is distributed, PolypGen's centres.
IMAGE_FOLDERS = ("images", "Original")
MASK_FOLDERS = ("masks", "Ground Truth")


@dataclass(frozen=True, order=True)
class Pair:
    """An image file and its mask file under one name (the image's stem)."""

    name: str
    image: Path
    mask: Path

    def read(self) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return the image (H, W, 3) uint8 and its mask (H, W) bool.

        Raises
        ------
        LSegDiffError
            If a file cannot be read, or the two sizes differ.
        """
        image, mask = read_image(self.image), read_mask(self.mask)
        if image.shape[:2] != mask.shape:
            mine, theirs = (f"{height} x {width}" for height, width in (mask.shape, image.shape[:2]))
            raise LSegDiffError(f"{self.mask}: is {mine} pixels, its image {theirs}; give both the same size")
        return image, mask


def read_pairs(root: Path, split: Path | None = None, exclude: Iterable[Path] = ()) -> list[Pair]:
    """Find the pairs below ``root``.

    Understood are ``images/`` + ``masks/`` (plain folders, Kvasir-SEG), ``Original/`` + ``Ground Truth/``
    (CVC-ClinicDB), ``data_C1/images_C1`` + ``data_C1/masks_C1`` (PolypGen, masks ``NAME_mask``) and
    ``NAME/NAME_Dermoscopic_Image`` + ``NAME/NAME_lesion`` (PH2, masks ``NAME_lesion``).

    Parameters
    ----------
    root
        Folder of the data set.
    split
        Split file; only its names are returned. All names when None.
    exclude
        Split files whose names are left out.

    Returns
    -------
    list of Pair
        Sorted by name.

    Raises
    ------
    LSegDiffError
        For a folder that is missing or empty, an image without mask, a mask without image, a name that occurs
        twice, or a split that names something that is not there.
    """
    if not root.is_dir():
        raise LSegDiffError(f"{root}: no such folder; give the folder that holds images/ and masks/")
    image_folders, mask_folders = _folders(root)
    images = _index(image_folders, IMAGE_ENDINGS)
    masks = _index(mask_folders, MASK_ENDINGS)
    if not images:
        raise LSegDiffError(f"{root}: no images found; put {', '.join(SUFFIXES)} files into {root / 'images'}")
    for name in images:
        if name not in masks:
            raise LSegDiffError(f"{images[name]}: image without mask; add {name}.png to the masks or remove the image")
    for name in masks:
        if name not in images:
            raise LSegDiffError(f"{masks[name]}: mask without image; add the image '{name}' or remove the mask")
    left_out = {name for path in exclude for name in _names(path, images, root)}
    wanted = sorted(images) if split is None else _names(split, images, root)
    return [Pair(name, images[name], masks[name]) for name in sorted(wanted) if name not in left_out]


def _names(split: Path, images: dict[str, Path], root: Path) -> list[str]:
    names = read_split(split)
    for name in names:
        if name not in images:
            raise LSegDiffError(f"{split}: names '{name}', which is not below {root}; correct the split file")
    return names


def _folders(root: Path) -> tuple[list[Path], list[Path]]:
    for image_name, mask_name in zip(IMAGE_FOLDERS, MASK_FOLDERS, strict=True):
        if (root / image_name).is_dir() and (root / mask_name).is_dir():
            return [root / image_name], [root / mask_name]
    centres = sorted(root.glob("data_C*/"))
    if centres:
        return (
            [folder for centre in centres for folder in sorted(centre.glob("images_C*"))],
            [folder for centre in centres for folder in sorted(centre.glob("masks_C*"))],
        )
    cases = sorted(root.glob("*/*_Dermoscopic_Image/")) + sorted(root.glob("*/*/*_Dermoscopic_Image/"))
    if cases:
        return cases, [folder for case in cases for folder in sorted(case.parent.glob("*_lesion"))]
    raise LSegDiffError(
        f"{root}: holds neither images/ and masks/ nor the folders of CVC-ClinicDB, PolypGen or PH2; put images into "
        "images/ and masks of the same names into masks/"
    )


def list_images(folder: Path) -> list[Path]:
    """Return the image files of ``folder``, sorted by name; raises LSegDiffError when there is none."""
    if not folder.is_dir():
        raise LSegDiffError(f"{folder}: no such folder; check the path")
    files = _image_files(folder)
    if not files:
        raise LSegDiffError(f"{folder}: the folder holds no images ({', '.join(SUFFIXES)})")
    return files


def read_image_list(path: Path) -> list[Path]:
    """Return the image files that a text file names, one a line and relative to it; some of them may be missing.

    Raises
    ------
    LSegDiffError
        If the file cannot be read, or not one line is an image file.
    """
    files = [path.parent / line for line in read_lines(path, "an image file, such as frames/001.png")]
    if not any(map(_is_image, files)):
        raise LSegDiffError(
            f"{path}: none of its lines ({len(files)}) is an image file; "
            f"give one image path a line ({', '.join(SUFFIXES)}), as seen from this file"
        )
    return files


def _image_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _is_image(path) and not path.name.startswith("."))


def _is_image(path: Path) -> bool:
    # reading a pipe of such a name would wait for ever; os.path's says False, too, where a path cannot be
    return path.suffix.lower() in SUFFIXES and os.path.isfile(path)


def _index(folders: list[Path], endings: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in folders:
        for path in _image_files(folder):
            name = path.stem
            for ending in endings:
                name = name.removesuffix(ending)
            if name in found:
                raise LSegDiffError(f"{path}: same name as {found[name]}; rename one of them")
            found[name] = path
    return found
