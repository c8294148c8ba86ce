"""Every setting of the project as frozen dataclasses with a strict JSON form."""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lsegdiff_core.errors import LSegDiffError

T = TypeVar("T")


def _require(condition: bool, name: str, value: object, wanted: str) -> None:
    if not condition:
        raise LSegDiffError(f"{name}: {value} is not allowed; it must be {wanted}")


@dataclass(frozen=True)
class MaskVAEConfig:
    """Shape of the mask VAE: ``size`` x ``size`` pixels to ``latent_channels`` x ``size/8`` x ``size/8``."""

    size: int = 256
    latent_channels: int = 4
    width: int = 96
    upper_width: int = 48


@dataclass(frozen=True)
class ImageEncoderConfig:
    """Shape of the image encoder: a square RGB image to a pyramid at strides 8, 16 and 32."""

    size: int = 256
    backbone: str = "tf_efficientnet_lite0"
    pyramid_channels: int = 112


@dataclass(frozen=True)
class DenoiserConfig:
    """Shape of the conditional U-Net; one width per level (strides 8, 16, 32 of the image)."""

    latent_channels: int = 4
    cond_channels: int = 112
    widths: tuple[int, ...] = (96, 160, 224)
    embedding: int = 128


@dataclass(frozen=True)
class ScheduleConfig:
    """Noise levels; ``sigma_max`` is the standard deviation from which sampling starts."""

    sigma_max: float = 80.0


@dataclass(frozen=True)
class ModelConfig:
    """The three networks and the noise schedule; what a bundle stores."""

    vae: MaskVAEConfig = MaskVAEConfig()
    encoder: ImageEncoderConfig = ImageEncoderConfig()
    denoiser: DenoiserConfig = DenoiserConfig()
    schedule: ScheduleConfig = ScheduleConfig()

    def __post_init__(self) -> None:
        size, widths = self.vae.size, self.denoiser.widths
        _require(size > 0 and size % 32 == 0, "vae.size", size, "a multiple of 32")
        _require(self.encoder.size == size, "encoder.size", self.encoder.size, f"vae.size, {size}")
        _require(
            self.denoiser.latent_channels == self.vae.latent_channels > 0,
            "denoiser.latent_channels",
            self.denoiser.latent_channels,
            f"vae.latent_channels, {self.vae.latent_channels}, and at least 1",
        )
        _require(
            self.denoiser.cond_channels == self.encoder.pyramid_channels > 0,
            "denoiser.cond_channels",
            self.denoiser.cond_channels,
            f"encoder.pyramid_channels, {self.encoder.pyramid_channels}, and at least 1",
        )
        _require(len(widths) == 3, "denoiser.widths", widths, "three numbers, one a level")
        for width in (*widths, self.vae.width, self.vae.upper_width):
            _require(width > 0 and width % 8 == 0, "width", width, "a multiple of 8")
        _require(0 < self.schedule.sigma_max < math.inf, "schedule.sigma_max", self.schedule.sigma_max, "positive")


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
    """

    folder: str
    exclude: tuple[str, ...] = ()
    validation: str = ""


@dataclass(frozen=True)
class DataConfig:
    """Training images: folders, plus ``phantoms`` synthetic images drawn by the project itself."""

    sources: tuple[SourceConfig, ...] = ()
    phantoms: int = 0
    validation_phantoms: int = 0

    def __post_init__(self) -> None:
        for name in ("phantoms", "validation_phantoms"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")


@dataclass(frozen=True)
class AugmentConfig:
    """Random transforms; image and mask always move together.

    ``scale`` and ``aspect`` are the largest relative changes, ``shift`` a share of the side, angles are uniform.
    """

    scale: float = 0.35
    aspect: float = 0.2
    shift: float = 0.1
    brightness: float = 0.25
    contrast: float = 0.25
    saturation: float = 0.3
    hue: float = 0.06
    blur: float = 0.15


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

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "log_every", "validate_every"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        for name in ("lr", "encoder_lr", "clip"):
            _require(0 < getattr(self, name) < math.inf, name, getattr(self, name), "positive")
        for name in ("weight_decay", "warmup"):
            _require(0 <= getattr(self, name) < math.inf, name, getattr(self, name), "0 or more")
        _require(0 <= self.ema < 1, "ema", self.ema, "in [0, 1)")


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses and the mix of training noise levels.

    ``kl`` belongs to the mask VAE; the rest to the denoiser: ``latent`` weighs the squared error of z0, ``decoded``
    the loss through the frozen decoder, ``top`` is the share of samples at ``sigma_max`` and ``recycle`` the share
    whose noisy latent is built from the model's own prediction (recycling, Fu et al., MELBA 2023).
    """

    kl: float = 1e-3
    latent: float = 1.0
    decoded: float = 1.0
    top: float = 0.3
    recycle: float = 0.5


@dataclass(frozen=True)
class TrainConfig:
    """A training from raw folders to a bundle: data, models and both stages."""

    name: str = "polyp"
    description: str = ""
    licence: str = ""
    classes: tuple[str, ...] = ("polyp",)
    seed: int = 0
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    vae: OptimConfig = OptimConfig()
    denoiser: OptimConfig = OptimConfig()

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "seed", self.seed, "0 or more")


@dataclass(frozen=True)
class SamplingConfig:
    """What a user chooses for one prediction.

    Attributes
    ----------
    steps
        Sampler steps, 1 to 50.
    sampler
        Name in ``lsegdiff_core.diffusion.samplers.SAMPLERS``.
    seeds
        One sample per seed; the probability is their mean.
    """

    steps: int = 4
    sampler: str = "ddim"
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= MAX_STEPS:
            raise LSegDiffError(f"steps: {self.steps} is outside 1 to {MAX_STEPS}; choose a number in that range")
        if self.sampler not in SAMPLER_NAMES:
            raise LSegDiffError(f"sampler: unknown name '{self.sampler}'; choose one of {', '.join(SAMPLER_NAMES)}")
        if not self.seeds:
            raise LSegDiffError("seeds: the list is empty; give at least one whole number")


MAX_STEPS = 50
SAMPLER_NAMES = ("ddim", "heun", "dpmpp_2m", "ddpm")


@dataclass(frozen=True)
class MorphologyConfig:
    """Refinement of a probability map; lengths in pixels of the image, areas in square pixels.

    Attributes
    ----------
    threshold
        A pixel is foreground where its probability is at least this, in (0, 1).
    opening, closing
        Radius of the disc; 0 leaves the mask as it is.
    fill_holes
        Fill background that the border cannot reach.
    min_area
        Components with fewer pixels are removed.
    smooth
        Standard deviation of the Gaussian that smooths the contour; 0 is off.
    keep_largest
        Keep only the largest component.
    """

    threshold: float = 0.5
    opening: float = 0.0
    closing: float = 0.0
    fill_holes: bool = True
    min_area: int = 0
    smooth: float = 0.0
    keep_largest: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold < 1.0:
            raise LSegDiffError(f"threshold: {self.threshold} is outside (0, 1)")
        for name in ("opening", "closing", "min_area", "smooth"):
            if not 0 <= getattr(self, name) < math.inf:
                raise LSegDiffError(f"{name}: {getattr(self, name)} is not a length; give 0 (off) or more")


def to_dict(config: Any) -> dict[str, Any]:
    """Return the dataclass ``config`` as plain dicts and lists, ready for JSON."""
    return typing.cast("dict[str, Any]", json.loads(json.dumps(dataclasses.asdict(config))))


def from_dict(cls: type[T], data: Any, where: str = "config") -> T:
    """Build the frozen dataclass ``cls`` from parsed JSON.

    Parameters
    ----------
    cls
        A dataclass of this module.
    data
        A mapping with a subset of the fields of ``cls``; the rest keep their defaults.
    where
        Name of the place, for messages.

    Raises
    ------
    LSegDiffError
        For an unknown key, a missing one, or a value of the wrong type; the message names the field.
    """
    if not isinstance(data, Mapping):
        raise LSegDiffError(f"{where}: expected an object with named fields, got {type(data).__name__}")
    fields = {item.name: item for item in dataclasses.fields(typing.cast("Any", cls))}
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise LSegDiffError(f"{where}: unknown key '{unknown[0]}'; known keys are {', '.join(sorted(fields))}")
    hints = typing.get_type_hints(cls)
    values = {name: _convert(hints[name], value, f"{where}.{name}") for name, value in data.items()}
    try:
        return cls(**values)
    except (TypeError, LSegDiffError) as error:
        raise LSegDiffError(f"{where}: {error}") from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast("type[Any]", hint), value, where)
    origin = typing.get_origin(hint)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise LSegDiffError(f"{where}: expected a list, got {type(value).__name__}")
        inner = typing.get_args(hint)[0]
        return tuple(_convert(inner, item, f"{where}[{i}]") for i, item in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise LSegDiffError(f"{where}: expected an object with named fields, got {type(value).__name__}")
        return dict(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise LSegDiffError(f"{where}: expected {hint.__name__}, got {value!r}")
    return value


def load_config(cls: type[T], path: Path) -> T:
    """Read the JSON file ``path`` into ``cls``; errors name the file."""
    return from_dict(cls, read_json(path), str(path))


def read_json(path: Path) -> Any:
    """Parse the JSON file ``path``.

    Raises
    ------
    LSegDiffError
        If the file is missing or is not JSON; the message names it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LSegDiffError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        raise LSegDiffError(f"{path}: not valid JSON ({error}); correct the file") from error
