"""Losses on masks and latents."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# Side of the window that boundary weights look at, as a share of the mask's side: PraNet's 31 of 352 pixels.
WINDOW = 31 / 352


def mask_loss(logits: Tensor, mask: Tensor, boundary: float = 0.0) -> Tensor:
    """Binary cross-entropy plus soft Dice loss, each a mean over the batch.

    Parameters
    ----------
    logits, mask
        (B, 1, S, S); the mask's values are in [0, 1].
    boundary
        Pixels weigh 1 + ``boundary`` * |local mean of the mask - mask| in both (PraNet, Fan et al. 2020, eq. 5).
    """
    logits = logits.float()
    weight = torch.ones_like(mask)
    if boundary:
        weight = weight + boundary * (_local_mean(mask) - mask).abs()
    probability = logits.sigmoid()
    overlap = (weight * probability * mask).sum(dim=(1, 2, 3))
    total = (weight * (probability + mask)).sum(dim=(1, 2, 3))
    dice = 1 - (2 * overlap + 1) / (total + 1)
    entropy = functional.binary_cross_entropy_with_logits(logits, mask, weight, reduction="none")
    entropy = entropy.sum(dim=(1, 2, 3)) / weight.sum(dim=(1, 2, 3))
    return entropy.mean() + dice.mean()


def _local_mean(mask: Tensor) -> Tensor:
    window = int(WINDOW * mask.shape[-1]) | 1
    return wide_blur(mask, window) if window > 15 else box_blur(mask, window)


def box_blur(maps: Tensor, kernel: int) -> Tensor:
    """Average (B, C, H, W) over ``kernel`` x ``kernel`` pixels (odd), of those inside the map at its border."""
    rows = functional.avg_pool2d(maps, (kernel, 1), 1, (kernel // 2, 0), count_include_pad=False)
    return functional.avg_pool2d(rows, (1, kernel), 1, (0, kernel // 2), count_include_pad=False)


def wide_blur(maps: Tensor, kernel: int) -> Tensor:
    """Return about what `box_blur` does for a large ``kernel``, computed on cells of 4 x 4 pixels."""
    cells = box_blur(functional.avg_pool2d(maps, 4), kernel // 4 | 1)
    return functional.interpolate(cells, maps.shape[2:], mode="bilinear")


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(0, 1)), a mean over all latent elements (Kingma and Welling 2014, App. B)."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()


def batch_dice(predicted: Tensor, mask: Tensor) -> Tensor:
    """Return the Dice of each sample, (B,), for boolean (B, 1, S, S); two empty masks give 1."""
    overlap = (predicted & mask).sum(dim=(1, 2, 3)).float()
    total = (predicted.sum(dim=(1, 2, 3)) + mask.sum(dim=(1, 2, 3))).float()
    return ((2 * overlap) / total.clamp(min=1)).where(total > 0, 1.0)
