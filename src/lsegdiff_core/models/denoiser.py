"""The denoiser: a conditional U-Net in the latent space that predicts the clean latent."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from lsegdiff_core.config import DenoiserConfig
from lsegdiff_core.models.blocks import GroupNorm, ResBlock, SelfAttention, fourier_features


class Denoiser(nn.Module):
    """``D(z, sigma, cond) = F(c_in z, ln(sigma) / 4, cond)``, an estimate of z0.

    In the notation of Karras et al. 2022 (Table 1) with unit data variance this is c_skip = 0, c_out = 1 and
    c_in = 1 / sqrt(1 + sigma^2): the network predicts z0 outright, so that one step from pure noise is as well
    posed as the last of fifty.

    Parameters
    ----------
    config
        Widths of the three levels and of the condition.
    """

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        widths, embedding = config.widths, config.embedding
        self.embedding = nn.Sequential(nn.Linear(64, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU())
        self.stem = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.conditions = nn.ModuleList(nn.Conv2d(config.cond_channels, width, 1) for width in widths)
        self.down_blocks = nn.ModuleList(ResBlock(width, width, embedding) for width in widths)
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in itertools.pairwise(widths))
        self.attention = SelfAttention(widths[-1])
        self.middle = ResBlock(widths[-1], widths[-1], embedding)
        self.ups = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in itertools.pairwise(widths))
        self.up_blocks = nn.ModuleList(ResBlock(2 * width, width, embedding) for width in widths[:-1])
        self.norm = GroupNorm(8, widths[0])
        self.head = nn.Conv2d(widths[0], config.latent_channels, 3, padding=1)

    def forward(self, z: Tensor, sigma: Tensor, cond: Sequence[Tensor]) -> Tensor:
        """Estimate the clean latent.

        Parameters
        ----------
        z
            (B, C, h, w), clean latent of unit variance plus noise of standard deviation ``sigma``.
        sigma
            (B,), positive.
        cond
            One map per level from ``ImageEncoder``, batch B.

        Returns
        -------
        Tensor
            (B, C, h, w).
        """
        embedding = self.embedding(fourier_features(sigma.log() / 4, 64).to(z.dtype))
        x = self.stem(z / (1 + sigma**2).sqrt()[:, None, None, None])
        skips = []
        for level, block in enumerate(self.down_blocks):
            if level:
                x = self.downs[level - 1](x)
            x = block(x + self.conditions[level](cond[level]), embedding)
            skips.append(x)
        x = self.middle(self.attention(x), embedding)
        for level in reversed(range(len(self.up_blocks))):
            x = functional.interpolate(self.ups[level](x), scale_factor=2.0, mode="nearest")
            x = self.up_blocks[level](torch.cat([x, skips[level]], dim=1), embedding)
        out: Tensor = self.head(functional.silu(self.norm(x)))
        return out
