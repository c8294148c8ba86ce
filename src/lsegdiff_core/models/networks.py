"""The networks that belong together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from lsegdiff_core.config import ModelConfig
from lsegdiff_core.models.denoiser import Denoiser
from lsegdiff_core.models.hint_encoder import HintEncoder
from lsegdiff_core.models.image_encoder import ImageEncoder
from lsegdiff_core.models.mask_vae import MaskVAE

Module = TypeVar("Module", bound=nn.Module)


def place(network: Module, device: torch.device) -> Module:
    """Move ``network`` to ``device``, its weights in channels-last order, which convolutions are faster in."""
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


@dataclass(frozen=True)
class Networks:
    """Mask VAE, image encoder, hint encoder and denoiser, with the factor that brings the latents to unit variance."""

    vae: MaskVAE
    encoder: ImageEncoder
    hint_encoder: HintEncoder
    denoiser: Denoiser
    latent_scale: float

    @classmethod
    def build(cls, config: ModelConfig, latent_scale: float = 1.0) -> Networks:
        """Return networks with fresh weights."""
        return cls(
            MaskVAE(config.vae),
            ImageEncoder(config.encoder),
            HintEncoder(config),
            Denoiser(config.denoiser),
            latent_scale,
        )

    @property
    def components(self) -> dict[str, nn.Module]:
        """The networks by the name that their file has in a bundle."""
        return {
            "vae": self.vae,
            "encoder": self.encoder,
            "hint_encoder": self.hint_encoder,
            "denoiser": self.denoiser,
        }
