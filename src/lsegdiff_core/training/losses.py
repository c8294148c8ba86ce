"""Losses on masks and latents."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def mask_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy plus soft Dice loss, each a mean over the batch.

    Parameters
    ----------
    logits, mask
        (B, 1, S, S); the mask holds 0 and 1.
    """
    logits = logits.float()
    probability = logits.sigmoid()
    overlap = (probability * mask).sum(dim=(1, 2, 3))
    total = probability.sum(dim=(1, 2, 3)) + mask.sum(dim=(1, 2, 3))
    dice = 1 - (2 * overlap + 1) / (total + 1)
    return functional.binary_cross_entropy_with_logits(logits, mask) + dice.mean()


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(0, 1)), a mean over all latent elements (Kingma and Welling 2014, App. B)."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()


def batch_dice(predicted: Tensor, mask: Tensor) -> Tensor:
    """Return the Dice of each sample, (B,), for boolean (B, 1, S, S); two empty masks give 1."""
    overlap = (predicted & mask).sum(dim=(1, 2, 3)).float()
    total = (predicted.sum(dim=(1, 2, 3)) + mask.sum(dim=(1, 2, 3))).float()
    return ((2 * overlap) / total.clamp(min=1)).where(total > 0, 1.0)
