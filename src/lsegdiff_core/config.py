"""The settings of models and predictions as frozen dataclasses with a strict JSON form."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lsegdiff_core.errors import LSegDiffError

T = TypeVar("T")


def require(condition: bool, name: str, value: object, wanted: str) -> None:
    """Raise an `LSegDiffError` that names the field unless ``condition`` holds."""
    if not condition:
        raise LSegDiffError(f"{name}: {value} is not allowed; it must be {wanted}")


METHODS = ("diffusion", "direct")


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
class HintEncoderConfig:
    """Shape of the hint encoder: strokes and current mask to an addition to the finest level of the condition."""

    width: int = 64


@dataclass(frozen=True)
class ScheduleConfig:
    """Noise levels; ``sigma_max`` is the standard deviation from which sampling starts."""

    sigma_max: float = 80.0


@dataclass(frozen=True)
class ModelConfig:
    """The networks and the noise schedule; what a bundle stores.

    ``method`` is ``diffusion``, or ``direct`` for the matched control: the same networks with zeros in place of the
    noisy latent, trained end to end to give the mask in one evaluation.
    """

    method: str = "diffusion"
    vae: MaskVAEConfig = MaskVAEConfig()
    encoder: ImageEncoderConfig = ImageEncoderConfig()
    hints: HintEncoderConfig = HintEncoderConfig()
    denoiser: DenoiserConfig = DenoiserConfig()
    schedule: ScheduleConfig = ScheduleConfig()

    def __post_init__(self) -> None:
        require(self.method in METHODS, "method", self.method, f"one of {', '.join(METHODS)}")
        size, widths = self.vae.size, self.denoiser.widths
        require(size > 0 and size % 32 == 0, "vae.size", size, "a multiple of 32")
        require(self.encoder.size == size, "encoder.size", self.encoder.size, f"vae.size, {size}")
        require(
            self.denoiser.latent_channels == self.vae.latent_channels > 0,
            "denoiser.latent_channels",
            self.denoiser.latent_channels,
            f"vae.latent_channels, {self.vae.latent_channels}, and at least 1",
        )
        require(
            self.denoiser.cond_channels == self.encoder.pyramid_channels > 0,
            "denoiser.cond_channels",
            self.denoiser.cond_channels,
            f"encoder.pyramid_channels, {self.encoder.pyramid_channels}, and at least 1",
        )
        require(len(widths) == 3, "denoiser.widths", widths, "three numbers, one a level")
        for width in (*widths, self.vae.width, self.vae.upper_width, self.hints.width):
            require(width > 0 and width % 8 == 0, "width", width, "a multiple of 8")
        require(0 < self.schedule.sigma_max < math.inf, "schedule.sigma_max", self.schedule.sigma_max, "positive")


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
    flip
        Each seed looks at the image in a view of its own: as it is, or mirrored along either or both axes (``VIEWS``,
        by the seed modulo 4; test-time augmentation, Wang et al. 2019). Four seeds cover all views. Their mean is
        better than that of four noises, and they differ more where the image leaves a doubt. A view is encoded once.
    zoom
        A second pass over a crop around the first mask, starting from that mask at partial strength; for lesions
        that are small in their image. Twice the time.
    strength
        How much is drawn again, in [0, 1]: sampling starts from the user's current mask, with the noise of this share
        of the schedule. 1 starts from pure noise and ignores the mask, 0 returns it. Below 1 a mask must be given.
    """

    steps: int = 4
    sampler: str = "ddim"
    seeds: tuple[int, ...] = (0,)
    flip: bool = False
    zoom: bool = False
    strength: float = 1.0

    def __post_init__(self) -> None:
        require(0 <= self.strength <= 1, "strength", self.strength, "in [0, 1]")
        if not 1 <= self.steps <= MAX_STEPS:
            raise LSegDiffError(f"steps: {self.steps} is outside 1 to {MAX_STEPS}; choose a number in that range")
        if self.sampler not in SAMPLER_NAMES:
            raise LSegDiffError(f"sampler: unknown name '{self.sampler}'; choose one of {', '.join(SAMPLER_NAMES)}")
        if not self.seeds:
            raise LSegDiffError("seeds: the list is empty; give at least one whole number")

    @property
    def views(self) -> dict[tuple[int, int], tuple[int, ...]]:
        """The views that are looked at, each with the places in ``seeds`` of those that do."""
        views: dict[tuple[int, int], tuple[int, ...]] = {}
        for place, seed in enumerate(self.seeds):
            view = VIEWS[seed % len(VIEWS)] if self.flip else VIEWS[0]
            views[view] = (*views.get(view, ()), place)
        return views

    @property
    def unmirrored(self) -> SamplingConfig:
        """The seeds that look at the image as it is, or the first if none does: what answers a stroke at once."""
        places = self.views.get(VIEWS[0], (0,))
        return dataclasses.replace(self, seeds=tuple(self.seeds[place] for place in places), flip=False)

    @property
    def total_steps(self) -> int:
        """Sampler steps of all passes over the image."""
        return self.steps * len(self.views) * (1 + self.zoom) if self.strength else 0


MAX_STEPS = 50
# Steps along rows and columns in which an image is read for `SamplingConfig.flip`; the first is the image as it is.
VIEWS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
# The fewest seeds that look at all of them.
ONE_A_VIEW = tuple(range(len(VIEWS)))
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
    min_confidence
        Components whose mean expected probability (`lsegdiff_core.prediction.Prediction.expected`) is less are
        removed, in [0, 1); 0 keeps all.
    """

    threshold: float = 0.5
    opening: float = 0.0
    closing: float = 0.0
    fill_holes: bool = True
    min_area: int = 0
    smooth: float = 0.0
    keep_largest: bool = False
    min_confidence: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold < 1.0:
            raise LSegDiffError(f"threshold: {self.threshold} is outside (0, 1)")
        if not 0.0 <= self.min_confidence < 1.0:
            raise LSegDiffError(f"min_confidence: {self.min_confidence} is outside [0, 1)")
        for name in ("opening", "closing", "min_area", "smooth"):
            if not 0 <= getattr(self, name) < math.inf:
                raise LSegDiffError(f"{name}: {getattr(self, name)} is not a length; give 0 (off) or more")


def same_networks(one: ModelConfig, other: ModelConfig) -> bool:
    """Return whether the weights of ``one`` fit ``other``: all is equal but the size of the images and the method."""
    size = other.vae.size
    vae, encoder = dataclasses.replace(one.vae, size=size), dataclasses.replace(one.encoder, size=size)
    return dataclasses.replace(one, vae=vae, encoder=encoder, method=other.method) == other


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
    hints = _type_hints(typing.cast("Any", cls))
    values = {name: _convert(hints[name], value, f"{where}.{name}") for name, value in data.items()}
    try:
        return cls(**values)
    except (TypeError, LSegDiffError) as error:
        raise LSegDiffError(f"{where}: {error}") from error


# for a project's thousands of items it takes half of the time of reading them
_type_hints = functools.cache(typing.get_type_hints)


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
        try:
            return float(value)
        except OverflowError as error:  # JSON's whole numbers have no end
            raise LSegDiffError(f"{where}: the number is too large; give a smaller one") from error
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
    except (ValueError, RecursionError) as error:  # the latter for brackets within brackets, thousands deep
        raise LSegDiffError(
            f"{path}: is damaged or no JSON file; take a copy from before, or correct it ({error})"
        ) from error
