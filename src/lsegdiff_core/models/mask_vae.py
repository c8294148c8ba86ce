"""Variational autoencoder for binary masks."""

from __future__ import annotations

from torch import Tensor, nn

from lsegdiff_core.config import MaskVAEConfig
from lsegdiff_core.models.blocks import GroupNorm, ResBlock

STRIDE = 8


class MaskVAE(nn.Module):
    """Binary mask to a small latent and back (the first stage of LSegDiff, SOICT 2023).

    Space-to-depth at the input and pixel-shuffle at the output keep full-resolution convolutions out of it.

    Parameters
    ----------
    config
        ``size`` pixels a side give a latent of ``latent_channels`` x ``size/8`` x ``size/8``.
    """

    def __init__(self, config: MaskVAEConfig) -> None:
        super().__init__()
        width, upper = config.width, config.upper_width
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(16, upper, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(upper, width, 3, stride=2, padding=1),
            ResBlock(width, width),
            GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, 2 * config.latent_channels, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(config.latent_channels, width, 3, padding=1),
            ResBlock(width, width),
            ResBlock(width, width),
            nn.Conv2d(width, 4 * upper, 1),
            nn.PixelShuffle(2),
            ResBlock(upper, upper),
            GroupNorm(8, upper),
            nn.SiLU(),
            nn.Conv2d(upper, 16, 3, padding=1),
            nn.PixelShuffle(4),
        )

    def encode(self, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the latent.

        Parameters
        ----------
        mask
            (B, 1, S, S), values 0 or 1.

        Returns
        -------
        tuple of Tensor
            Both (B, C, S/8, S/8); the log-variance is clamped to [-20, 10].
        """
        mean, log_variance = self.encoder(2 * mask - 1).chunk(2, dim=1)
        return mean, log_variance.clamp(-20.0, 10.0)

    def decode(self, z: Tensor) -> Tensor:
        """Return mask logits (B, 1, S, S) for the latent ``z`` (B, C, S/8, S/8)."""
        logits: Tensor = self.decoder(z)
        return logits
