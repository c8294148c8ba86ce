"""Random transforms of a batch; image and mask always move together."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from lsegdiff_core.training.config import AugmentConfig

# Rows of the RGB to YIQ matrix: a turn in the (I, Q) plane changes the hue and leaves the luminance.
YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])

# A lesion that covers more than this share of its image is not copied into another.
PASTE_AREA = 0.2

# Dimensions that are mirrored to find tissue for covering a lesion.
MIRRORS = ((-1,), (-2,), (-2, -1))


def augment(
    images: Tensor, masks: Tensor, size: int, config: AugmentConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Turn, mirror, scale, stretch, shift, recolour and blur each sample; add and cover lesions, add highlights.

    Parameters
    ----------
    images
        (B, 3, S, S) uint8.
    masks
        (B, 1, S, S) uint8, 255 for foreground.
    size
        Side of the result in pixels.
    config
        How far each transform goes.
    generator
        On the CPU, wherever the images are; the only source of randomness.

    Returns
    -------
    tuple of Tensor
        Images (B, 3, size, size) float32 in [-1, 1]; masks (B, 1, size, size) float32, 0 or 1.
    """
    affine = _affine(len(images), config, generator).to(images.device)
    grid = functional.affine_grid(affine, [len(images), 1, size, size], align_corners=False)
    both = torch.cat([images, masks], dim=1).float() / 255.0
    moved = functional.grid_sample(both, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    moved = _erase(moved, config.erase, generator)
    moved = _paste(moved, config.paste, generator)
    colour = _recolour(moved[:, :3], config, generator)
    return _highlight(colour, config.specular, generator) * 2 - 1, (moved[:, 3:] >= 0.5).float()


def plain(images: Tensor, masks: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return what `augment` does without any random transform."""
    both = torch.cat([images, masks], dim=1).float() / 255.0
    resized = functional.interpolate(both, (size, size), mode="bilinear", antialias=True)
    return resized[:, :3] * 2 - 1, (resized[:, 3:] >= 0.5).float()


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * 2 - 1


def _affine(count: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    angle = _uniform((count,), generator) * math.pi
    # half of the samples turn by quarters only: their borders stay where cameras put them
    quarter = (angle / (math.pi / 2)).round() * (math.pi / 2)
    angle = torch.where(_uniform((count,), generator) > 0, angle, quarter)
    scale = torch.exp(_uniform((count,), generator) * math.log1p(config.scale))
    aspect = torch.exp(_uniform((count,), generator) * math.log1p(config.aspect) / 2)
    mirror = torch.sign(_uniform((count,), generator))
    sx, sy = scale * aspect * mirror, scale / aspect
    shift = _uniform((count, 2, 1), generator) * 2 * config.shift
    cos, sin = torch.cos(angle), torch.sin(angle)
    linear = torch.stack([torch.stack([cos * sx, -sin * sy], dim=1), torch.stack([sin * sx, cos * sy], dim=1)], dim=1)
    return torch.cat([linear, shift], dim=2)


def _erase(both: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Cover the lesion of a ``share`` of the samples by the image's own tissue, mirrored or turned, with soft edges.

    It shows the place as it would look without the lesion: images without one are rare, and mostly of one hospital.
    A sample stays as it is when no mirror image has enough tissue where its lesion is.
    """
    chosen, turn = torch.rand((2, len(both)), generator=generator)
    samples = torch.nonzero((chosen < share) & (both[:, 3:] >= 0.5).flatten(1).any(dim=1).cpu()).flatten()
    if not len(samples):
        return both
    size = both.shape[-1]
    near, soft = size // 24, size // 32
    both = both.clone()
    for sample, first in zip(samples.tolist(), (turn[samples] * len(MIRRORS)).long().tolist(), strict=True):
        image, lesion = both[sample, :3], _widen(both[sample, 3:] >= 0.5, near)
        ring = _widen(lesion, near) & ~lesion & (_inside(image[None])[0] > 0)
        for place in range(len(MIRRORS)):
            other = both[sample].flip(MIRRORS[(first + place) % len(MIRRORS)])
            tissue = (_inside(other[None, :3])[0] > 0) & ~_widen(other[3:] >= 0.5, near)
            if (lesion & ~tissue).sum() > 0.02 * lesion.sum() or not (ring & tissue).any():
                continue
            # the light differs from side to side: bring the tissue to the colour of what surrounds the lesion
            around = ring & tissue
            gain = (image * around).sum(dim=(1, 2)) / (other[:3] * around).sum(dim=(1, 2)).clamp(min=1e-3)
            cover = (other[:3] * gain[:, None, None]).clamp(0, 1)
            alpha = functional.avg_pool2d(_widen(lesion, soft)[None].float(), 2 * soft + 1, 1, soft)[0]
            both[sample, :3] = torch.lerp(image, cover, alpha * (_inside(image[None])[0]))
            both[sample, 3] = 0.0
            break
    return both


def _widen(mask: Tensor, by: int) -> Tensor:
    """Dilate (1, H, W) bool by a square of 2 ``by`` + 1 pixels."""
    rows = functional.max_pool2d(mask[None].float(), (2 * by + 1, 1), 1, (by, 0))
    return functional.max_pool2d(rows, (1, 2 * by + 1), 1, (0, by))[0] > 0


def _paste(both: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Copy the lesion of the sample before into a ``share`` of the samples, with soft edges, unless it is large."""
    other = both.roll(1, dims=0)
    lesion = other[:, 3:]
    drawn = torch.rand(len(both), generator=generator).to(both.device) < share
    chosen = drawn & (lesion.mean(dim=(1, 2, 3)) < PASTE_AREA)
    if not chosen.any():
        return both
    room = _inside(both[:, :3]) * chosen[:, None, None, None]
    alpha = functional.avg_pool2d((lesion >= 0.5).float(), 5, 1, 2) * room
    image = torch.lerp(both[:, :3], other[:, :3], alpha)
    return torch.cat([image, torch.maximum(both[:, 3:], lesion * room)], dim=1)


def _highlight(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Put white spots, as of wet tissue under a lamp, on a ``share`` of the samples."""
    chosen = (torch.rand(len(images), generator=generator) < share).to(images.device)
    field = torch.randn((len(images), 1, 28, 28), generator=generator).to(images.device)
    if not chosen.any():
        return images
    spots = functional.interpolate(field[chosen], images.shape[2:], mode="bicubic")
    amount = ((spots - 2.0) * 4).clamp(0, 0.9) * _inside(images[chosen])
    images[chosen] = torch.lerp(images[chosen], torch.ones_like(amount), amount)
    return images


def _inside(images: Tensor) -> Tensor:
    """Return (B, 1, S, S) float32, 0 in the black border that turning and endoscopes leave, else 1."""
    return (images.amax(dim=1, keepdim=True) > 0.02).float()


def _recolour(images: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    count = len(images)
    gain = 1 + _uniform((count,), generator) * config.contrast
    offset = _uniform((count,), generator) * config.brightness
    saturation = 1 + _uniform((count,), generator) * config.saturation
    hue = _uniform((count,), generator) * config.hue * 2 * math.pi
    turn = torch.zeros(count, 3, 3)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = saturation * torch.cos(hue)
    turn[:, 1, 2], turn[:, 2, 1] = -saturation * torch.sin(hue), saturation * torch.sin(hue)
    matrix = ((torch.linalg.inv(YIQ) @ turn @ YIQ) * gain[:, None, None]).to(images.device)
    shift = (0.5 * (1 - gain) + offset * 0.5)[:, None, None, None].to(images.device)
    inside = _inside(images)
    flat = torch.einsum("bij,bjhw->bihw", matrix, images) + shift
    # the black border stays black
    coloured = (flat * inside).clamp(0, 1)
    blurred = (torch.rand(count, generator=generator) < config.blur).to(images.device)
    amount = torch.rand(count, generator=generator).to(images.device)[blurred, None, None, None]
    sharp = coloured[blurred]
    soft = functional.avg_pool2d(functional.avg_pool2d(sharp, 3, 1, 1), 5, 1, 2)
    coloured[blurred] = torch.lerp(sharp, soft, amount)
    return coloured
