"""What the user has drawn, as a part of the condition."""

from __future__ import annotations

from torch import Tensor, nn

from lsegdiff_core.config import ModelConfig
from lsegdiff_core.models.mask_vae import STRIDE

# Planes of the hints, in their order.
FOREGROUND, BACKGROUND, CURRENT, GIVEN = range(4)
PLANES = 4


class HintEncoder(nn.Module):
    """Strokes and the current mask as an addition to the finest level of the condition.

    The image encoding stays as it is, so that a new stroke costs this network and the denoiser only. The last layer
    starts at zero: an untrained hint encoder changes nothing.

    Parameters
    ----------
    config
        ``hints.width`` and ``encoder.pyramid_channels`` give the shapes.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.hints.width
        last = nn.Conv2d(width, config.encoder.pyramid_channels, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(STRIDE),
            nn.Conv2d(PLANES * STRIDE**2, width, 3, padding=1),
            nn.SiLU(),
            last,
        )

    def forward(self, hints: Tensor) -> Tensor:
        """Encode hints.

        Parameters
        ----------
        hints
            (B, 4, S, S), values in [0, 1]: the user's foreground, the user's background, the current mask, and ones
            where a current mask is given. All zero means no hints.

        Returns
        -------
        Tensor
            (B, ``pyramid_channels``, S/8, S/8), exactly zero for a sample without hints.
        """
        given = (hints.amax(dim=(1, 2, 3), keepdim=True) > 0).to(hints.dtype)
        out: Tensor = self.layers(hints) * given
        return out


def with_hints(cond: list[Tensor], encoded: Tensor) -> list[Tensor]:
    """Return the condition ``cond`` with encoded hints added to its finest level."""
    return [cond[0] + encoded, *cond[1:]]
