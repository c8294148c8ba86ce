"""The training images, squashed once and kept in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsegdiff_core.data.geometry import Geometry
from lsegdiff_core.data.phantom import draw_phantom
from lsegdiff_core.data.readers import Pair, read_pairs
from lsegdiff_core.data.splits import read_split
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.training.config import DataConfig

# Every seventh phantom has no lesion. Seeds below 1000 are kept for samples and tests, never trained on.
EMPTY_EVERY = 7
TRAIN_PHANTOM_SEED = 10_000
VALIDATION_PHANTOM_SEED = 5_000


@dataclass(frozen=True)
class Store:
    """Squares ready for augmentation.

    Attributes
    ----------
    names
        File name of each image, for messages.
    images
        (N, 3, S, S) uint8.
    masks
        (N, 1, S, S) uint8, the share of the pixel that is foreground, 255 for all of it.
    epoch
        Indices of the images that make an epoch; one that is repeated stands there several times.
    """

    names: tuple[str, ...]
    images: Tensor
    masks: Tensor
    epoch: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.names)


def load_stores(config: DataConfig, data: Path, beside: Path, size: int) -> tuple[Store, Store]:
    """Read the training and the validation images of ``config``.

    Parameters
    ----------
    config
        What to read.
    data
        Folder that the sources and test lists are relative to.
    beside
        Folder of the config, which the validation lists are relative to.
    size
        Side of the squares in pixels.

    Raises
    ------
    LSegDiffError
        For bad folders, files or split files, or when either part is empty.
    """
    return stores_of(*split_pairs(config, data, beside), config, size)


def stores_of(train: list[Pair], validation: list[Pair], config: DataConfig, size: int) -> tuple[Store, Store]:
    """Read given pairs for training and for validation, and add the phantoms of ``config``; see `load_stores`."""
    return (
        _store(train, config.phantoms, TRAIN_PHANTOM_SEED, size, "training", config.repeat_empty),
        _store(validation, config.validation_phantoms, VALIDATION_PHANTOM_SEED, size, "validation"),
    )


def split_pairs(config: DataConfig, data: Path, beside: Path) -> tuple[list[Pair], list[Pair]]:
    """Return the training and the validation pairs of ``config``; both are disjoint from the lists left out."""
    train: list[Pair] = []
    validation: list[Pair] = []
    for source in config.sources:
        left_out = [beside / source.leave_out] if source.leave_out else []
        held_out = set(read_split(beside / source.validation)) if source.validation else set()
        held_out -= {name for path in left_out for name in read_split(path)}
        pairs = read_pairs(data / source.folder, exclude=[*(data / path for path in source.exclude), *left_out])
        missing = held_out - {pair.name for pair in pairs}
        if missing:
            raise LSegDiffError(
                f"{beside / source.validation}: '{min(missing)}' is not among the training images of {source.folder}"
            )
        validation += [pair for pair in pairs if pair.name in held_out]
        train += [pair for pair in pairs if pair.name not in held_out]
    return train, validation


def _store(pairs: list[Pair], phantoms: int, seed: int, size: int, part: str, repeat_empty: int = 1) -> Store:
    if not pairs and not phantoms:
        raise LSegDiffError(f"data: the {part} part holds no images; add a source, a validation list or phantoms")
    count = len(pairs) + phantoms
    images = torch.empty((count, 3, size, size), dtype=torch.uint8)
    masks = torch.empty((count, 1, size, size), dtype=torch.uint8)
    names = []
    for index, (name, image, mask) in enumerate(_frames(pairs, phantoms, seed)):
        geometry = Geometry.of(image)
        square = geometry.to_square(image, size)
        images[index] = torch.from_numpy(square.copy()).permute(2, 0, 1)
        covered = geometry.to_square(mask.astype(np.uint8) * np.uint8(255), size)
        masks[index, 0] = torch.from_numpy(covered.copy())
        names.append(name)
    lesions = masks.flatten(1).amax(dim=1).gt(0).tolist()
    epoch = tuple(index for index, lesion in enumerate(lesions) for _ in range(1 if lesion else repeat_empty))
    return Store(tuple(names), images, masks, epoch)


def _frames(pairs: list[Pair], phantoms: int, seed: int) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.bool_]]]:
    for pair in pairs:
        yield str(pair.image), *pair.read()
    for index in range(phantoms):
        frame = draw_phantom(seed + index, 288, 352, polyp=index % EMPTY_EVERY != EMPTY_EVERY - 1)
        yield f"phantom {seed + index}", frame.image, frame.mask


def batch_indices(count: int, batch: int, step: int, seed: int) -> list[int]:
    """Return the places in the epoch that training step ``step`` takes, in an order drawn from (seed, epoch).

    A function of its arguments alone, so that a resumed run sees the batches that it would have seen.
    """
    indices = []
    for position in range(step * batch, (step + 1) * batch):
        epoch, place = divmod(position, count)
        indices.append(_order(count, epoch, seed)[place])
    return indices


def _order(count: int, epoch: int, seed: int) -> list[int]:
    return np.random.default_rng((seed, epoch)).permutation(count).tolist()  # type: ignore[no-any-return]
