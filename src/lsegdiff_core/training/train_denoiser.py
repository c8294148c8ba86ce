"""Stage two: image encoder and denoiser, trained together through the frozen mask VAE."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lsegdiff_core.config import ModelConfig, OptimConfig, TrainConfig
from lsegdiff_core.diffusion.samplers import ddim
from lsegdiff_core.diffusion.schedule import sampling_sigmas, sigma_at, time_at
from lsegdiff_core.models.denoiser import Denoiser
from lsegdiff_core.models.image_encoder import ImageEncoder
from lsegdiff_core.models.mask_vae import STRIDE, MaskVAE
from lsegdiff_core.models.networks import place
from lsegdiff_core.training.augment import augment, plain
from lsegdiff_core.training.datasets import Store
from lsegdiff_core.training.losses import batch_dice, mask_loss
from lsegdiff_core.training.precision import mixed_precision

VALIDATION_STEPS = (1, 4, 10)


class ConditionalDenoiser(nn.Module):
    """What stage two trains: the image encoder and the denoiser side by side."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.encoder = ImageEncoder(config.encoder)
        self.denoiser = Denoiser(config.denoiser)


class DenoiserTask:
    """Squared error of z0 plus BCE + Dice through the frozen decoder, at random noise levels.

    A share ``top`` of the samples starts at ``sigma_max``; for a share ``recycle`` of the others the noisy latent is
    built from the model's own one-step estimate instead of the truth (recycling, Fu et al., MELBA 2023), so that
    later steps learn to mend the model's own mistakes rather than to trust them.

    Parameters
    ----------
    config
        The training.
    vae
        Trained mask VAE; it is frozen here.
    latent_scale
        Factor that brings its latents to unit variance.
    validation
        Images held out for selection.
    device
        Where the models live.
    """

    def __init__(
        self, config: TrainConfig, vae: MaskVAE, latent_scale: float, validation: Store, device: torch.device
    ) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.model: nn.Module = place(ConditionalDenoiser(config.model), device)
        self.vae = place(vae, device).eval().requires_grad_(False)
        self.latent_scale = latent_scale
        self.validation = validation
        self.device = device

    def groups(self, config: OptimConfig) -> list[dict[str, object]]:
        """Return two groups: the pretrained backbone at ``encoder_lr``, the rest at ``lr``."""
        assert isinstance(self.model, ConditionalDenoiser)
        backbone = list(self.model.encoder.backbone.parameters())
        known = {id(parameter) for parameter in backbone}
        rest = [parameter for parameter in self.model.parameters() if id(parameter) not in known]
        return [{"params": backbone, "lr": config.encoder_lr}, {"params": rest, "lr": config.lr}]

    def loss(
        self, images: Tensor, masks: Tensor, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch as stored."""
        model, losses = self.model, self.config.loss
        assert isinstance(model, ConditionalDenoiser)
        image, mask = augment(images, masks, self.config.model.encoder.size, self.config.augment, generator)
        image = image.to(self.device, memory_format=torch.channels_last)
        mask = mask.to(self.device)
        with torch.no_grad():
            z0 = self.vae.encode(mask)[0] * self.latent_scale
        sigma, recycled = self._draw(len(image), step, generator)
        noise = torch.randn((2, *z0.shape), generator=generator).to(self.device)
        with mixed_precision(self.device):
            cond = model.encoder(image)
        with mixed_precision(self.device, on_cpu=True):
            base = self._recycle(model.denoiser, z0, recycled, noise[1], cond)
            z = base + sigma[:, None, None, None] * noise[0]
            predicted = model.denoiser(z, sigma, cond)
            logits = self.vae.decode(predicted / self.latent_scale)
        latent = ((predicted.float() - z0) ** 2).mean()
        decoded = mask_loss(logits, mask)
        loss = losses.latent * latent + losses.decoded * decoded
        return loss, {"loss": loss.item(), "latent": latent.item(), "decoded": decoded.item()}

    def _draw(self, count: int, step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        losses, sigma_max = self.config.loss, self.config.model.schedule.sigma_max
        time, choice, again = torch.rand((3, count), generator=generator)
        top = choice < losses.top
        time = torch.where(top, 1.0, 0.02 + 0.98 * time) * time_at(sigma_max)
        sigma = sigma_at(time.double()).float().clamp(max=sigma_max)
        # own estimates are worth recycling only when they begin to look like masks
        recycled = ~top & (again < losses.recycle) & (step >= self.config.denoiser.steps // 20)
        return sigma.to(self.device), recycled.to(self.device)

    def _recycle(
        self, denoiser: Denoiser, z0: Tensor, recycled: Tensor, noise: Tensor, cond: Sequence[Tensor]
    ) -> Tensor:
        if not recycled.any():
            return z0
        sigma_max = self.config.model.schedule.sigma_max
        base = z0.clone()
        with torch.no_grad():
            start = noise[recycled] * sigma_max
            sigma = torch.full((len(start),), sigma_max, device=self.device)
            base[recycled] = denoiser(start, sigma, [level[recycled] for level in cond]).float()
        return base

    @torch.no_grad()
    def score(self, model: nn.Module) -> dict[str, float]:
        """Return the mean Dice of the validation images at each step count; ``score`` is the mean of them."""
        assert isinstance(model, ConditionalDenoiser)
        size = self.config.model.encoder.size
        values: dict[int, list[Tensor]] = {steps: [] for steps in VALIDATION_STEPS}
        for index in range(0, len(self.validation), 16):
            part = slice(index, index + 16)
            image, mask = plain(self.validation.images[part], self.validation.masks[part], size)
            image, mask = image.to(self.device), mask.to(self.device)
            cond = model.encoder(image)

            shape = (len(image), self.config.model.vae.latent_channels, size // STRIDE, size // STRIDE)
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(index)).to(self.device)
            for steps in VALIDATION_STEPS:
                final = self._sample(model.denoiser, noise, cond, steps)
                logits = self.vae.decode(final / self.latent_scale)
                values[steps].append(batch_dice(logits > 0, mask > 0.5))
        means = {f"dice_{steps}": torch.cat(dice).mean().item() for steps, dice in values.items()}
        return {"score": sum(means.values()) / len(means), **means}

    def _sample(self, denoiser: Denoiser, noise: Tensor, cond: Sequence[Tensor], steps: int) -> Tensor:
        sigma_max = self.config.model.schedule.sigma_max

        def denoise(z: Tensor, sigma: float) -> Tensor:
            estimate: Tensor = denoiser(z, torch.full((len(z),), sigma, device=z.device), cond)
            return estimate

        *_, final = ddim(denoise, noise * sigma_max, sampling_sigmas(steps, sigma_max), lambda: noise)
        return final.z
