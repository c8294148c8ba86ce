"""Stage two: image encoder, hint encoder and denoiser, trained together through the decoder of the mask VAE."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from lsegdiff_core.config import ModelConfig
from lsegdiff_core.diffusion.samplers import ddim
from lsegdiff_core.diffusion.schedule import sampling_sigmas, sigma_at, time_at
from lsegdiff_core.models.denoiser import Denoiser
from lsegdiff_core.models.hint_encoder import HintEncoder, with_hints
from lsegdiff_core.models.image_encoder import ImageEncoder
from lsegdiff_core.models.mask_vae import STRIDE, MaskVAE
from lsegdiff_core.models.networks import place
from lsegdiff_core.training.augment import augment, plain
from lsegdiff_core.training.config import OptimConfig, TrainConfig
from lsegdiff_core.training.datasets import Store
from lsegdiff_core.training.hints import corrupt, simulate_hints
from lsegdiff_core.training.losses import batch_dice, mask_loss
from lsegdiff_core.training.precision import mixed_precision

VALIDATION_STEPS = (1, 4, 10)
# Of the recycled samples, the share that starts from a corrupted mask and the share that is estimated twice.
CORRUPTED, TWICE = 0.3, 0.35


class ConditionalDenoiser(nn.Module):
    """What stage two trains: the two encoders, the denoiser and the auxiliary heads.

    In the matched control without diffusion (``method`` "direct") the decoder is trained, too: nothing else holds
    its latent in place.
    """

    def __init__(self, config: ModelConfig, vae: MaskVAE) -> None:
        super().__init__()
        self.encoder = ImageEncoder(config.encoder)
        self.hint_encoder = HintEncoder(config)
        self.denoiser = Denoiser(config.denoiser)
        self.heads = nn.ModuleList(nn.Conv2d(config.encoder.pyramid_channels, 1, 1) for _ in config.denoiser.widths)
        self.decoder = vae.decoder if config.method == "direct" else None


class DenoiserTask:
    """Squared error of z0 plus BCE + Dice through the decoder, with and without hints.

    Each sample is denoised twice under one encoding. First from pure noise without hints, which is what a user sees
    first. Then at a random noise level, for a share of the samples under simulated hints on the errors of the first
    estimate; of these a share ``top`` starts from pure noise, too. For a share ``recycle`` of what is lower the noisy
    latent is built not from the truth but from what sampling and editing start from: the model's own estimate, after
    one or two evaluations (recycling, Fu et al., MELBA 2023), or a corrupted mask. So later steps learn to mend
    mistakes rather than to trust them.

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
        self.diffusion = config.model.method == "diffusion"
        self.vae = place(vae, device).eval().requires_grad_(False)
        model = ConditionalDenoiser(config.model, self.vae)
        if model.decoder is not None:
            model.decoder.requires_grad_(True)
        backbone = model.encoder.backbone
        if config.frozen_stages:
            for part in (backbone.conv_stem, backbone.bn1, backbone.blocks[: config.frozen_stages]):
                part.requires_grad_(False)
        self.model: nn.Module = place(model, device)
        self.latent_scale = latent_scale
        self.validation = validation
        self.device = device

    def groups(self, config: OptimConfig) -> list[dict[str, object]]:
        """Return two groups: the pretrained backbone at ``encoder_lr``, the rest at ``lr``."""
        assert isinstance(self.model, ConditionalDenoiser)
        backbone = list(self.model.encoder.backbone.parameters())
        known = {id(parameter) for parameter in backbone}
        rest = [parameter for parameter in self.model.parameters() if id(parameter) not in known]
        trained = [parameter for parameter in backbone if parameter.requires_grad]
        return [{"params": trained, "lr": config.encoder_lr}, {"params": rest, "lr": config.lr}]

    def loss(
        self, images: Tensor, masks: Tensor, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch as stored."""
        model, weights = self.model, self.config.loss
        assert isinstance(model, ConditionalDenoiser)
        size = self.config.size_at(step, self.config.denoiser.steps)
        image, mask = augment(images.to(self.device), masks.to(self.device), size, self.config.augment, generator)
        image = image.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            z0 = self.vae.encode(mask)[0] * self.latent_scale
        noise = torch.randn((3, *z0.shape), generator=generator).to(self.device)
        sigma_max = self.config.model.schedule.sigma_max
        with mixed_precision(self.device):
            cond = model.encoder(image)
            pure = self._nearest(model, cond, z0, noise[1], generator) * sigma_max * self.diffusion
            first = model.denoiser(pure, torch.full((len(mask),), sigma_max, device=self.device), cond)
            logits = self.decode(model, first)
            total, parts = self._loss(first, logits, z0, mask)
            auxiliary = self._auxiliary(model, cond, mask)
            batch = _Batch(self, model, [level.detach() for level in cond], pure, first.detach().float(), logits > 0)
            hints = simulate_hints(mask, batch.segment, self.config.hints, generator)
            prompted = hints.flatten(1).any(dim=1)
            # without noise and hints there is nothing to learn from a second evaluation
            again = torch.arange(len(mask), device=self.device) if self.diffusion else torch.nonzero(prompted).flatten()
            if len(again):
                encoded = model.hint_encoder(hints)
                sigma = torch.full((len(mask),), sigma_max, device=self.device)
                z = torch.zeros_like(z0)
                if self.diffusion:
                    sigma, base = self._start(batch, mask, z0, encoded.detach(), prompted, noise[2], step, generator)
                    z = base + sigma[:, None, None, None] * noise[0]
                levels = [level[again] for level in with_hints(cond, encoded)]
                second = model.denoiser(z[again], sigma[again], levels)
                more, _ = self._loss(second, self.decode(model, second), z0[again], mask[again])
                parts["second"] = more
                total = (total * len(mask) + more * len(again)) / (len(mask) + len(again))
        loss = total + weights.auxiliary * auxiliary
        parts = {"loss": loss, **parts, "auxiliary": auxiliary}
        return loss, {name: part.item() for name, part in parts.items()}

    @torch.no_grad()
    def _nearest(
        self, model: ConditionalDenoiser, cond: list[Tensor], z0: Tensor, noise: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return, for each sample, that of several noises (B, C, h, w) whose estimate is nearest to the truth ``z0``.

        The first of them is given.
        """
        more = self.config.loss.candidates - 1 if self.diffusion else 0
        if not more:
            return noise
        candidates = [noise, *torch.randn((more, *z0.shape), generator=generator).to(self.device)]
        sigma_max = self.config.model.schedule.sigma_max
        sigma = torch.full((len(z0),), sigma_max, device=self.device)
        errors = [((model.denoiser(z * sigma_max, sigma, cond).float() - z0) ** 2).mean((1, 2, 3)) for z in candidates]
        nearest = torch.stack(errors).argmin(0)
        return torch.stack(candidates)[nearest, torch.arange(len(z0), device=self.device)]

    def _loss(self, predicted: Tensor, logits: Tensor, z0: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one evaluation and its parts."""
        weights = self.config.loss
        latent = ((predicted.float() - z0) ** 2).mean()
        decoded = mask_loss(logits, mask, weights.boundary)
        loss = weights.decoded * decoded
        if self.diffusion:
            loss = loss + weights.latent * latent
        return loss, {"latent": latent, "decoded": decoded}

    def decode(self, model: ConditionalDenoiser, z: Tensor) -> Tensor:
        """Return mask logits (B, 1, S, S) for scaled latents."""
        decoder = model.decoder or self.vae.decoder
        logits: Tensor = decoder(z / self.latent_scale)
        return logits

    def _auxiliary(self, model: ConditionalDenoiser, cond: Sequence[Tensor], mask: Tensor) -> Tensor:
        losses = []
        for head, level in zip(model.heads, cond, strict=True):
            logits = head(level)
            share = functional.avg_pool2d(mask, mask.shape[-1] // logits.shape[-1])
            losses.append(mask_loss(logits, share, self.config.loss.boundary))
        return torch.stack(losses).mean()

    def _start(
        self,
        batch: _Batch,
        mask: Tensor,
        z0: Tensor,
        encoded: Tensor,
        prompted: Tensor,
        noise: Tensor,
        step: int,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Draw the noise levels (B,) and what the noise is added to (B, C, h, w)."""
        losses, sigma_max = self.config.loss, self.config.model.schedule.sigma_max
        time, choice, again, kind, earlier = torch.rand((5, len(z0)), generator=generator)
        # unprompted every sample was there already
        top = (choice < losses.top) & prompted.cpu()
        time = torch.where(top, 1.0, 0.02 + 0.98 * time)
        sigma, before = (
            sigma_at(times.double() * time_at(sigma_max)).float().clamp(max=sigma_max).to(self.device)
            for times in (time, time + (1 - time) * earlier)
        )
        # own estimates are worth recycling only when they begin to look like masks
        recycled = ~top & (again < losses.recycle) & (step >= self.config.denoiser.steps // 20)
        rough = corrupt(mask, generator)
        base = z0.clone()
        masks = (
            recycled & (kind >= CORRUPTED + TWICE),
            recycled & (kind >= CORRUPTED) & (kind < CORRUPTED + TWICE),
            recycled & (kind < CORRUPTED),
        )
        own, twice, corrupted = (torch.nonzero(part).flatten().to(self.device) for part in masks)
        # also under hints this is the estimate without them: the mask that the user corrects
        base[own] = batch.estimate[own]
        with torch.no_grad():
            if len(twice):
                z = batch.estimate[twice] + before[twice, None, None, None] * noise[twice]
                base[twice] = batch.denoise(z, before[twice], encoded[twice], twice)
            if len(corrupted):
                base[corrupted] = self.vae.encode(rough[corrupted])[0].float() * self.latent_scale
        return sigma, base

    @torch.no_grad()
    def score(self, model: nn.Module) -> dict[str, float]:
        """Return the mean Dice of the validation images at each step count; ``score`` is the mean of them."""
        assert isinstance(model, ConditionalDenoiser)
        size = self.config.model.encoder.size
        counts = VALIDATION_STEPS if self.diffusion else VALIDATION_STEPS[:1]
        values: dict[int, list[Tensor]] = {steps: [] for steps in counts}
        for index in range(0, len(self.validation), 16):
            part = slice(index, index + 16)
            image, mask = plain(self.validation.images[part], self.validation.masks[part], size)
            image, mask = image.to(self.device), mask.to(self.device)
            cond = model.encoder(image)
            shape = (len(image), self.config.model.vae.latent_channels, size // STRIDE, size // STRIDE)
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(index)).to(self.device)
            for steps in counts:
                final = self._sample(model.denoiser, noise * self.diffusion, cond, steps)
                values[steps].append(batch_dice(self.decode(model, final) > 0, mask > 0.5))
        means = {f"dice_{steps}": torch.cat(dice).mean().item() for steps, dice in values.items()}
        return {"score": sum(means.values()) / len(means), **means}

    def _sample(self, denoiser: Denoiser, noise: Tensor, cond: Sequence[Tensor], steps: int) -> Tensor:
        sigma_max = self.config.model.schedule.sigma_max

        def denoise(z: Tensor, sigma: float) -> Tensor:
            estimate: Tensor = denoiser(z, torch.full((len(z),), sigma, device=z.device), cond)
            return estimate

        *_, final = ddim(denoise, noise * sigma_max, sampling_sigmas(steps, sigma_max), lambda: noise)
        return final.z


class _Batch:
    """The model's own one-step estimates for a batch, without gradients: unprompted as given, under hints on demand."""

    def __init__(
        self,
        task: DenoiserTask,
        model: ConditionalDenoiser,
        cond: list[Tensor],
        pure: Tensor,
        estimate: Tensor,
        masks: Tensor,
    ) -> None:
        self.task, self.model, self.cond = task, model, cond
        self.pure, self.estimate, self.masks = pure, estimate, masks

    @torch.no_grad()
    def denoise(self, z: Tensor, sigma: Tensor, encoded: Tensor, samples: Tensor) -> Tensor:
        """Estimate z0 of ``samples`` (N,) from ``z`` under encoded hints, float32."""
        cond = with_hints([level[samples] for level in self.cond], encoded)
        estimate: Tensor = self.model.denoiser(z, sigma, cond)
        return estimate.float()

    @torch.no_grad()
    def segment(self, hints: Tensor | None, samples: Tensor) -> Tensor:
        """Return the masks of ``samples`` (N,) under ``hints`` (N, 4, S, S), bool."""
        if hints is None:
            return self.masks[samples]
        sigma = torch.full((len(samples),), self.task.config.model.schedule.sigma_max, device=hints.device)
        estimate = self.denoise(self.pure[samples], sigma, self.model.hint_encoder(hints), samples)
        return self.task.decode(self.model, estimate) > 0
