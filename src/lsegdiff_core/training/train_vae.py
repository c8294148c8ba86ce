"""Stage one: the mask VAE."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsegdiff_core.models.mask_vae import MaskVAE
from lsegdiff_core.models.networks import place
from lsegdiff_core.training.augment import augment, plain
from lsegdiff_core.training.config import OptimConfig, TrainConfig
from lsegdiff_core.training.datasets import Store
from lsegdiff_core.training.losses import batch_dice, kl_divergence, mask_loss
from lsegdiff_core.training.precision import mixed_precision


class VAETask:
    """BCE + Dice + a tiny KL on augmented masks; scored by the Dice of the reconstruction.

    Parameters
    ----------
    config
        The training.
    validation
        Images held out for selection.
    device
        Where the model lives.
    """

    def __init__(self, config: TrainConfig, validation: Store, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.model: nn.Module = place(MaskVAE(config.model.vae), device)
        self.validation = validation
        self.device = device

    def groups(self, config: OptimConfig) -> list[dict[str, object]]:
        """Return one group."""
        return [{"params": list(self.model.parameters()), "lr": config.lr}]

    def loss(
        self, images: Tensor, masks: Tensor, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch as stored."""
        vae = self.model
        assert isinstance(vae, MaskVAE)
        size = self.config.size_at(step, self.config.vae.steps)
        _, mask = augment(images.to(self.device), masks.to(self.device), size, self.config.augment, generator)
        with mixed_precision(self.device):
            mean, log_variance = (part.float() for part in vae.encode(mask))
            noise = torch.randn(mean.shape, generator=generator).to(self.device)
            logits = vae.decode(mean + (0.5 * log_variance).exp() * noise)
        reconstruction, kl = mask_loss(logits, mask), kl_divergence(mean, log_variance)
        loss = reconstruction + self.config.loss.kl * kl
        return loss, {"loss": loss.item(), "reconstruction": reconstruction.item(), "kl": kl.item()}

    @torch.no_grad()
    def score(self, model: nn.Module) -> dict[str, float]:
        """Return the mean (``score``) and the worst Dice of the validation masks, at the network's size."""
        assert isinstance(model, MaskVAE)
        values = []
        for index in range(0, len(self.validation), 16):
            part = slice(index, index + 16)
            _, mask = plain(self.validation.images[part], self.validation.masks[part], self.config.model.vae.size)
            mask = mask.to(self.device)
            values.append(batch_dice(model.decode(model.encode(mask)[0]) > 0, mask > 0.5))
        dice = torch.cat(values)
        return {"score": dice.mean().item(), "worst": dice.min().item()}


@torch.no_grad()
def measure_latent_scale(vae: MaskVAE, store: Store, size: int, device: torch.device) -> float:
    """Return 1 / standard deviation of the latents of all training masks, so that scaled latents have variance 1."""
    total, squares, count = 0.0, 0.0, 0
    for index in range(0, len(store), 16):
        part = slice(index, index + 16)
        _, mask = plain(store.images[part], store.masks[part], size)
        z = vae.encode(mask.to(device))[0].double()
        total, squares, count = total + z.sum().item(), squares + (z**2).sum().item(), count + z.numel()
    variance = squares / count - (total / count) ** 2
    return float(variance**-0.5)
