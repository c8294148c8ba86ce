"""Settings of a training: data, augmentation, losses, optimisation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from lsegdiff_core.config import ModelConfig, require


@dataclass(frozen=True)
class SourceConfig:
    """One folder of image and mask pairs.

    Attributes
    ----------
    folder
        Relative to the data folder given on the command line.
    exclude
        Split files (relative to the data folder) whose names are never read: the test lists.
    validation
        Split file beside the config whose names are used for selection only; empty for none.
    leave_out
        Split file beside the config whose names are used for nothing: a held-out hospital; empty for none.
    """

    folder: str
    exclude: tuple[str, ...] = ()
    validation: str = ""
    leave_out: str = ""


@dataclass(frozen=True)
class DataConfig:
    """Training images: folders, plus ``phantoms`` synthetic images drawn by the project itself.

    Images without a lesion come ``repeat_empty`` times as often: they are rare, and false alarms are learnt from them.
    """

    sources: tuple[SourceConfig, ...] = ()
    phantoms: int = 0
    validation_phantoms: int = 0
    repeat_empty: int = 1

    def __post_init__(self) -> None:
        require(self.repeat_empty >= 1, "repeat_empty", self.repeat_empty, "1 or more")
        for name in ("phantoms", "validation_phantoms"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")


@dataclass(frozen=True)
class AugmentConfig:
    """Random transforms; image and mask always move together.

    ``scale`` and ``aspect`` are the largest relative changes, ``shift`` a share of the side, angles are uniform;
    ``blur``, ``specular`` (highlights), ``paste`` (the lesion of another image of the batch) and ``erase`` (the lesion
    is covered by tissue of the same image) are shares of the samples.
    """

    scale: float = 0.35
    aspect: float = 0.2
    shift: float = 0.1
    brightness: float = 0.25
    contrast: float = 0.25
    saturation: float = 0.3
    hue: float = 0.06
    blur: float = 0.15
    specular: float = 0.0
    paste: float = 0.0
    erase: float = 0.0


@dataclass(frozen=True)
class OptimConfig:
    """AdamW under a cosine schedule with linear warm-up; ``encoder_lr`` is the pretrained encoder's peak rate."""

    steps: int = 1000
    batch: int = 8
    lr: float = 1e-3
    encoder_lr: float = 3e-4
    weight_decay: float = 1e-2
    warmup: int = 100
    clip: float = 1.0
    ema: float = 0.999
    log_every: int = 20
    validate_every: int = 200
    save_every: int = 200

    def __post_init__(self) -> None:
        require(self.steps >= 0, "steps", self.steps, "1 or more, or 0 to leave the stage out")
        for name in ("batch", "log_every", "validate_every", "save_every"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        for name in ("lr", "encoder_lr", "clip"):
            require(0 < getattr(self, name) < math.inf, name, getattr(self, name), "positive")
        for name in ("weight_decay", "warmup"):
            require(0 <= getattr(self, name) < math.inf, name, getattr(self, name), "0 or more")
        require(0 <= self.ema < 1, "ema", self.ema, "in [0, 1)")


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses and the mix of training noise levels.

    Attributes
    ----------
    kl
        Weight of the KL divergence; belongs to the mask VAE, the rest to the denoiser.
    latent
        Weight of the squared error of z0.
    decoded
        Weight of BCE + Dice through the decoder.
    auxiliary
        Weight of BCE + Dice of a mask read off each level of the condition by a head that only training has; boundary
        weights reach the finest level only, the others' cells are larger than the window.
    boundary
        How much more a pixel counts where the mask changes nearby (PraNet, Fan et al. 2020, eq. 5, has 5); 0 is off.
    top
        Share of the prompted samples at ``sigma_max``; unprompted, each sample is denoised from there once anyway.
    recycle
        Share of the others whose noisy latent is built from the model's own prediction or from a corrupted mask
        (recycling, Fu et al., MELBA 2023).
    candidates
        Noises that an unprompted sample is first denoised from; only the estimate nearest to the truth is learnt from
        (multiple choice learning, Guzman-Rivera et al., NIPS 2012). More than 1 makes seeds differ where the image
        leaves a doubt; 1 pulls them all to the mean.
    """

    kl: float = 1e-3
    latent: float = 1.0
    decoded: float = 1.0
    auxiliary: float = 0.0
    boundary: float = 0.0
    top: float = 0.3
    recycle: float = 0.5
    candidates: int = 1

    def __post_init__(self) -> None:
        require(self.candidates >= 1, "candidates", self.candidates, "1 or more")
        for name in ("top", "recycle"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "in [0, 1]")


@dataclass(frozen=True)
class HintConfig:
    """Simulated corrections: for a ``share`` of the samples, one to ``rounds`` rounds on the model's own errors."""

    share: float = 0.5
    rounds: int = 3

    def __post_init__(self) -> None:
        require(0 <= self.share <= 1, "share", self.share, "in [0, 1]")
        require(self.rounds >= 1, "rounds", self.rounds, "1 or more")


@dataclass(frozen=True)
class TrainConfig:
    """A training from raw folders to a bundle: data, models and both stages.

    Attributes
    ----------
    name, description, licence, classes
        What the bundle's manifest says.
    seed
        Of everything random.
    vae, denoiser
        Optimisation of the two stages; with 0 steps of ``vae`` the mask VAE of the bundle that the training starts from
        stays as it is.
    sizes
        Sides of the squares in pixels, each for an equal part of a stage's steps; the model's size when empty.
        Small squares first save time.
    frozen_stages
        Stages of the backbone, from the stem on, that keep their pretrained weights.
    """

    name: str = "polyp"
    description: str = ""
    licence: str = ""
    classes: tuple[str, ...] = ("polyp",)
    seed: int = 0
    sizes: tuple[int, ...] = ()
    frozen_stages: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    hints: HintConfig = HintConfig()
    vae: OptimConfig = OptimConfig()
    denoiser: OptimConfig = OptimConfig()

    def __post_init__(self) -> None:
        require(self.seed >= 0, "seed", self.seed, "0 or more")
        require(self.denoiser.steps >= 1, "denoiser.steps", self.denoiser.steps, "1 or more")
        require(0 <= self.frozen_stages <= 7, "frozen_stages", self.frozen_stages, "0 to 7, the backbone's stages")
        for size in self.sizes:
            require(size > 0 and size % 32 == 0, "sizes", size, "multiples of 32")

    @property
    def store_size(self) -> int:
        """Side in pixels of the squares that are kept: more than the networks see, so that zooming in shows detail."""
        return int(self.model.encoder.size * 1.25)

    def size_at(self, step: int, steps: int) -> int:
        """Return the side of the squares, in pixels, at ``step`` of ``steps``."""
        sizes = self.sizes or (self.model.encoder.size,)
        return sizes[min(step * len(sizes) // steps, len(sizes) - 1)]
