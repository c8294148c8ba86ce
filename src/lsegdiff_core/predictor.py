"""One image in, many questions asked: encode once, sample as often as one likes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import lsegdiff_core
from lsegdiff_core.allocator import keep_large_buffers
from lsegdiff_core.bundle import bundle_hash, find_bundle, load_networks
from lsegdiff_core.config import VIEWS, SamplingConfig, to_dict
from lsegdiff_core.data.geometry import Geometry
from lsegdiff_core.data.images import pixel_hash, to_rgb
from lsegdiff_core.devices import resolve_device
from lsegdiff_core.diffusion.samplers import SAMPLERS
from lsegdiff_core.diffusion.schedule import sampling_sigmas
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.hints import Hints, paste
from lsegdiff_core.memory import ran_out_of_memory, release_memory
from lsegdiff_core.models.hint_encoder import with_hints
from lsegdiff_core.models.mask_vae import STRIDE
from lsegdiff_core.models.networks import place
from lsegdiff_core.prediction import Prediction

keep_large_buffers()
logger = logging.getLogger(__name__)


class Progress(NamedTuple):
    """``done`` of ``total`` sampler steps, and what the mask looks like by now.

    Attributes
    ----------
    geometry
        Where the square of the pass under way lies in the image.
    estimate
        Returns the first seed's estimate by now, (S, S) float32 in [0, 1]; it runs the decoder.
    """

    done: int
    total: int
    geometry: Geometry
    estimate: Callable[[], NDArray[np.float32]]


# The second pass of ``zoom``: how far the sampler goes back, the crop's margin as a share of the mask, and its smallest
# side as a share of the image's.
ZOOM_STRENGTH, ZOOM_MARGIN, ZOOM_SMALLEST = 0.5, 0.5, 0.5


class _View:
    """A part of the image in the network's square, with the conditions computed for it, as it is and mirrored."""

    def __init__(self, predictor: Predictor, rgb: NDArray[np.uint8], geometry: Geometry) -> None:
        self._predictor, self.geometry = predictor, geometry
        self._square = geometry.to_square(rgb, predictor.size)
        self._conds: dict[tuple[int, int], list[Tensor]] = {}

    def cond(self, rows: int, columns: int) -> list[Tensor]:
        """Return the condition of the square read in these steps, 1 or -1."""
        if (rows, columns) not in self._conds:
            self._conds[rows, columns] = self._predictor.encode(self._square[::rows, ::columns])
        return self._conds[rows, columns]


class _Start(NamedTuple):
    """A mask (H, W) that sampling starts from, and the share of the schedule that it is noised by."""

    mask: NDArray[np.bool_]
    strength: float


class _Image(NamedTuple):
    rgb: NDArray[np.uint8]
    view: _View
    source: dict[str, Any]


class Predictor:
    """Segments images with a bundle.

    `set_image` runs the image encoder once; `predict` and `steps` then ask as often as one likes, paying for the
    denoiser and the decoder only.

    Parameters
    ----------
    bundle
        Name of a bundled model or path of a bundle's folder.
    device
        ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises
    ------
    LSegDiffError
        If the bundle cannot be read or the device is not there.

    Examples
    --------
    >>> from lsegdiff_core.data.phantom import draw_phantom
    >>> from lsegdiff_core.predictor import Predictor
    >>> predictor = Predictor("polyp", device="cpu")
    >>> predictor.set_image(draw_phantom(seed=1).image)
    >>> predictor.predict().mask.shape
    (480, 640)
    """

    def __init__(self, bundle: str = "polyp", device: str = "auto") -> None:
        folder = find_bundle(bundle)
        self.device = resolve_device(device)
        self.manifest, self.networks = load_networks(folder)
        for network in self.networks.components.values():
            place(network, self.device)
        self.identity = {"name": self.manifest.name, "sha256": bundle_hash(folder)}
        self._image: _Image | None = None
        self._most: int | None = None  # samples that a network takes at once; None is all
        self._take_all()

    @property
    def size(self) -> int:
        """Side of the networks' square in pixels."""
        return self.manifest.model.encoder.size

    def set_image(self, image: NDArray[Any], name: str = "image") -> None:
        """Take an image and encode it.

        Parameters
        ----------
        image
            Grey, RGB or RGBA of any numeric type; see `lsegdiff_core.data.images.to_rgb`.
        name
            What messages and the provenance call it.

        Raises
        ------
        LSegDiffError
            If it is not an image or holds NaN.
        """
        rgb = to_rgb(image, name)
        view = _View(self, rgb, Geometry.of(rgb))
        view.cond(*VIEWS[0])
        source = {"name": name, "sha256": pixel_hash(rgb), "height": rgb.shape[0], "width": rgb.shape[1]}
        self._image = _Image(rgb, view, source)

    @property
    def encoded(self) -> object:
        """What `set_image` made of the image; given back later, nothing needs to be encoded again."""
        return self._image

    @encoded.setter
    def encoded(self, image: object) -> None:
        assert image is None or isinstance(image, _Image)
        self._image = image

    def _full_precision(self) -> contextlib.AbstractContextManager[object]:
        """Keep convolutions on CUDA from TF32, whose 10 bits would give other masks than the CPU's."""
        if self.device.type != "cuda":
            return contextlib.nullcontext()
        flags: contextlib.AbstractContextManager[object] = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        return flags

    def _take_all(self) -> None:
        """Ask about all samples at once, but on the CPU one by one.

        Kernels differ in their last bits with the batch's size, and a sampler magnifies that: heun's first step by
        twenty. One by one a seed gives the same sample whatever stands beside it; eight seeds take 40 % more time.
        """
        self._most = 1 if self.device.type == "cpu" else None

    def _in_parts(self, network: Callable[..., Tensor], *batches: Tensor) -> Tensor:
        """Ask a network about all samples (K, …), half as many at once whenever they do not fit into memory."""
        while True:
            most = self._most or len(batches[0])
            try:
                parts = zip(*(torch.split(batch, most) for batch in batches), strict=True)
                return torch.cat([network(*part) for part in parts])
            except RuntimeError as error:
                if most == 1 or not ran_out_of_memory(error):
                    raise
            # only out here is the attempt's memory free: the exception's traceback held it
            self._most = (most + 1) // 2
            logger.warning("Out of memory on %s: going on with %d samples at once", self.device, self._most)
            release_memory()

    def encode(self, square: NDArray[np.uint8]) -> list[Tensor]:
        """Return the condition for a square RGB image (S, S, 3) uint8: a pyramid of features, batch 1."""
        pixels = torch.from_numpy(square.copy()).to(self.device).permute(2, 0, 1)[None].float() / 127.5 - 1
        with self._full_precision():
            features: list[Tensor] = self.networks.encoder(pixels.contiguous(memory_format=torch.channels_last))
        return features

    def denoise(self, z: Tensor, sigma: float, cond: list[Tensor]) -> Tensor:
        """Return the denoiser's estimate of z0 for ``z`` (K, C, h, w), under one condition for all K."""
        levels = torch.full((len(z),), sigma, dtype=torch.float32, device=self.device)

        def ask(part: Tensor, level: Tensor) -> Tensor:
            shared = [features.expand(len(part), -1, -1, -1) for features in cond]
            estimate: Tensor = self.networks.denoiser(part, level, shared)
            return estimate

        with self._full_precision():
            return self._in_parts(ask, z, levels)

    def encode_mask(self, mask: Tensor) -> Tensor:
        """Return the latent (B, C, h, w) of square masks (B, 1, S, S) float32 of 0 and 1, scaled to unit variance."""
        with self._full_precision():
            mean: Tensor = self.networks.vae.encode(mask.to(self.device))[0]
        return mean * self.networks.latent_scale

    def decode(self, z: Tensor) -> NDArray[np.float32]:
        """Return the probabilities (K, S, S) float32 of the latents ``z`` (K, C, h, w)."""
        with self._full_precision():
            logits = self._in_parts(self.networks.vae.decode, z / self.networks.latent_scale)
        probability: NDArray[np.float32] = logits[:, 0].sigmoid().cpu().numpy()
        return probability

    def encode_hints(self, planes: NDArray[np.float32]) -> Tensor:
        """Return what the hints (4, S, S) float32 add to the finest level of the condition, batch 1."""
        with self._full_precision():
            encoded: Tensor = self.networks.hint_encoder(torch.from_numpy(planes.copy())[None].to(self.device))
        return encoded

    def effective(self, sampling: SamplingConfig) -> SamplingConfig:
        """Return the sampling that is done: without diffusion one evaluation of each view is all there is to ask."""
        if self.manifest.model.method == "diffusion":
            return sampling
        strength = 1.0 if sampling.strength else 0.0
        seeds = tuple(sampling.seeds[first] for first, *_ in sampling.views.values())
        return replace(sampling, steps=1, sampler="ddim", seeds=seeds, strength=strength)

    def steps(
        self, sampling: SamplingConfig | None = None, hints: Hints | None = None
    ) -> Generator[Progress, None, Prediction]:
        """Segment the image, yielding after every sampler step; the generator's return value is the prediction.

        Closing the generator cancels. The same seed gives the same noise on every device and with any other seeds
        beside it.

        Parameters
        ----------
        sampling
            Steps, sampler, seeds and passes; the bundle's default when None.
        hints
            What the user knows of the mask.

        Raises
        ------
        LSegDiffError
            If no image was set, the hints have another size, or a strength below 1 comes without a current mask.
        """
        if self._image is None:
            raise LSegDiffError("image: none is set; call set_image first")
        rgb, view, image = self._image
        sampling = self.effective(sampling or self.manifest.sampling)
        self._take_all()
        current = None if hints is None else hints.current
        if sampling.strength < 1 and current is None:
            raise LSegDiffError(f"strength: {sampling.strength} keeps a part of a mask, but none is given; give 1")
        start = None if current is None or sampling.strength == 1 else _Start(current, sampling.strength)
        sample, expected = yield from self._pass(view, sampling, hints, start, 0)
        geometry, squares = view.geometry, sample
        probability = geometry.from_square(squares.mean(axis=0))
        found = probability >= self.manifest.threshold
        if hints is not None:
            found = paste(found, hints.locked)
        everywhere = geometry.from_square(expected.mean(axis=0))
        top, left, bottom, right = geometry.box
        if sampling.strength == 0 and current is not None:
            probability = everywhere = current.astype(np.float32)  # to the pixel, where the square would smooth it
        elif sampling.zoom and found[top:bottom, left:right].any():
            geometry = geometry.around(found, ZOOM_MARGIN, ZOOM_SMALLEST)
            closer = _View(self, rgb, geometry)
            start = _Start(found, min(ZOOM_STRENGTH, sampling.strength))
            squares, _ = yield from self._pass(closer, sampling, hints, start, sampling.total_steps // 2)
            top, left, bottom, right = geometry.box
            probability, second = probability.copy(), geometry.from_square(squares.mean(axis=0))
            probability[top:bottom, left:right] = second[top:bottom, left:right]
        source = {
            "image": image,
            "bundle": self.identity,
            "classes": list(self.manifest.classes),
            "sampling": to_dict(sampling),
            "hints": None if hints is None else hints.provenance,
            "device": str(self.device),
            "batch": self._most or len(sampling.seeds),
            "versions": {
                "napari-lsegdiff": lsegdiff_core.__version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
            },
        }
        return Prediction(
            probability,
            everywhere,
            squares,
            geometry,
            self.manifest.morphology,
            source,
            None if hints is None else hints.locked.copy(),
        )

    def _pass(
        self, view: _View, sampling: SamplingConfig, hints: Hints | None, start: _Start | None, done: int
    ) -> Generator[Progress, None, NDArray[np.float32]]:
        """Sample one part of the image; return each seed's probability and expected probability, (2, K, S, S)."""
        planes = None if hints is None else hints.planes(view.geometry, self.size)
        mask = None if start is None else view.geometry.mask_to_square(start.mask, self.size) >= 0.5
        if mask is not None and start is not None and not start.strength:
            return np.broadcast_to(mask.astype(np.float32), (2, len(sampling.seeds), *mask.shape))
        results = np.empty((2, len(sampling.seeds), self.size, self.size), np.float32)
        for (rows, columns), places in sampling.views.items():
            order = np.s_[..., ::rows, ::columns]
            cond = view.cond(rows, columns)
            if planes is not None:
                cond = with_hints(cond, self.encode_hints(planes[order]))
            mine = replace(sampling, seeds=tuple(sampling.seeds[place] for place in places))
            run = self._sample(
                cond, mine, None if mask is None else mask[order], 1.0 if start is None else start.strength
            )
            squares: NDArray[np.float32] | None = None
            while squares is None:
                try:
                    denoised = next(run)
                except StopIteration as finished:
                    squares = finished.value
                else:
                    done += 1
                    yield Progress(done, sampling.total_steps, view.geometry, partial(self._show, denoised, order))
            results[:, places] = squares[order]
        return results

    def _show(self, denoised: Tensor, order: Any) -> NDArray[np.float32]:
        estimate: NDArray[np.float32] = self.decode(denoised[:1])[0][order]
        return estimate

    def _sample(
        self, cond: list[Tensor], sampling: SamplingConfig, start: NDArray[np.bool_] | None, strength: float
    ) -> Generator[Tensor, None, NDArray[np.float32]]:
        """Sample under one condition, from pure noise or from a mask (S, S) at partial strength.

        Yields the estimate of z0 (K, C, h, w) after every step; returns what `_pass` does.
        """
        model = self.manifest.model
        shape = (model.vae.latent_channels, self.size // STRIDE, self.size // STRIDE)
        generators = [torch.Generator().manual_seed(seed) for seed in sampling.seeds]

        def noise() -> Tensor:
            draws = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
            return draws.to(self.device)

        direct = model.method == "direct"
        sigmas = sampling_sigmas(sampling.steps, model.schedule.sigma_max, 1.0 if direct else strength)
        z = noise() * float(sigmas[0])
        if direct:
            z = torch.zeros_like(z)
        elif start is not None:
            z = z + self.encode_mask(torch.from_numpy(start.copy())[None, None].float())
        estimates: list[Tensor] = []

        def denoise(z: Tensor, sigma: float) -> Tensor:
            estimate = self.denoise(z, sigma, cond)
            if not estimates:
                estimates.append(estimate)
            return estimate

        for step in SAMPLERS[sampling.sampler](denoise, z, sigmas, noise):
            z = step.z
            yield step.denoised
        sample = self.decode(z)
        # what starts from a mask was wanted: nobody asks how sure the model is of it
        expected = sample if sampling.steps == 1 or start is not None else self.decode(estimates[0])
        squares = np.stack([sample, expected])
        if not np.isfinite(squares).all():
            raise LSegDiffError(f"bundle '{self.manifest.name}': gives values that are not finite; get it again")
        return squares

    def predict(self, sampling: SamplingConfig | None = None, hints: Hints | None = None) -> Prediction:
        """Segment the image that was set; `steps` without the progress."""
        run = self.steps(sampling, hints)
        while True:
            try:
                next(run)
            except StopIteration as finished:
                prediction: Prediction = finished.value
                return prediction
