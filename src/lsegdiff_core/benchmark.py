"""Where the time of a prediction goes."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lsegdiff_core.config import MorphologyConfig
from lsegdiff_core.data.geometry import Geometry
from lsegdiff_core.data.images import read_image
from lsegdiff_core.data.phantom import draw_phantom
from lsegdiff_core.diffusion.samplers import ddim
from lsegdiff_core.diffusion.schedule import sampling_sigmas
from lsegdiff_core.models.mask_vae import STRIDE
from lsegdiff_core.morphology import refine
from lsegdiff_core.predictor import Predictor

# The stages of a prediction in their order; True where the network works.
STAGES = {
    "read": False,
    "geometry": False,
    "encoder": True,
    "denoiser step": True,
    "decoder": True,
    "geometry back": False,
    "morphology": False,
}
# A refinement with every step switched on, so that the stage is not flattered.
MORPHOLOGY = MorphologyConfig(opening=3, closing=3, smooth=2, min_area=200, keep_largest=True)

PRECISIONS = ("float32", "tf32", "bf16")
MODES = ("eager", "compiled")


def latency(predictor: Predictor, rounds: int, height: int = 1080, width: int = 1920) -> Iterator[dict[str, Any]]:
    """Time each stage of a prediction on a synthetic JPEG frame.

    Parameters
    ----------
    predictor
        The model.
    rounds
        How often; two more rounds come first and are not counted.
    height, width
        Size of the frame in pixels.

    Yields
    ------
    dict
        One row a round: the seconds of each of `STAGES`.
    """
    import imageio.v3 as iio

    size = predictor.manifest.model.encoder.size
    latent = (1, predictor.manifest.model.vae.latent_channels, size // STRIDE, size // STRIDE)
    noise = torch.randn(latent, generator=torch.Generator().manual_seed(0)).to(predictor.device)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.jpg"
        frame = draw_phantom(seed=1, height=height, width=width)
        iio.imwrite(path, frame.image)
        sigma_max = predictor.manifest.model.schedule.sigma_max
        for index in range(rounds + 2):
            watch = _Stopwatch(predictor.device)
            image = read_image(path)
            watch.lap("read")
            geometry = Geometry.of(image)
            square = geometry.to_square(image, size)
            watch.lap("geometry")
            cond = predictor.encode(square)
            watch.lap("encoder")
            z = predictor.denoise(noise * sigma_max, sigma_max, cond)
            watch.lap("denoiser step")
            predictor.decode(z)
            watch.lap("decoder")
            # the truth stands in for the probability, so that the stages after the network always have work to do
            truth = geometry.mask_to_square(frame.mask, size)
            watch.lap("")
            full = geometry.from_square(truth)
            watch.lap("geometry back")
            refine(full, MORPHOLOGY)
            watch.lap("morphology")
            if index >= 2:
                yield {"round": index - 2, **{stage: watch.laps[stage] for stage in STAGES}}


class _Stopwatch:
    """Seconds since the last lap, by stage; waits for the device before it looks at the clock."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.laps: dict[str, float] = {}
        self.mark = time.perf_counter()

    def lap(self, stage: str) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.laps[stage], self.mark = now - self.mark, now


def summarise_latency(rows: list[dict[str, Any]], steps: int = 4) -> list[dict[str, Any]]:
    """Return the median seconds of each stage, and of network and surroundings at ``steps`` sampler steps."""
    medians = {stage: float(np.median([row[stage] for row in rows])) for stage in STAGES}
    # the first estimate is decoded, too
    times = {"denoiser step": steps, "decoder": 1 + (steps > 1)}
    network = sum(medians[stage] * times.get(stage, 1) for stage in STAGES if STAGES[stage])
    around = sum(medians[stage] for stage in STAGES if not STAGES[stage])
    return [
        *({"stage": stage, "seconds": seconds} for stage, seconds in medians.items()),
        {"stage": f"network at {steps} steps", "seconds": network},
        {"stage": "around the network", "seconds": around},
        {"stage": "around / network", "ratio": around / network},
    ]


def throughput(
    predictor: Predictor, batches: Sequence[int], precisions: Sequence[str], modes: Sequence[str], rounds: int
) -> Iterator[dict[str, Any]]:
    """Time whole batches of squares: encoder, sampler steps and decoder, at 1 and 4 steps.

    Parameters
    ----------
    predictor
        The model; weights are channels-last already.
    batches
        Images a batch.
    precisions
        Of `PRECISIONS`: ``float32`` as the predictor computes, ``tf32``, or ``bf16`` under autocast.
    modes
        Of `MODES`: ``eager``, or ``compiled`` by torch.compile, which records CUDA graphs on a GPU.
    rounds
        How often; two more rounds come first and are not counted.

    Yields
    ------
    dict
        One row a combination: device, batch, steps, precision, mode, seconds (median of a batch), images_per_second,
        and disagreement: the share of mask pixels that differ from float32 in eager mode on the same device.
    """
    size, device = predictor.size, predictor.device
    frames = [draw_phantom(seed, 288, 352).image for seed in range(8)]
    squares = np.stack([Geometry.of(frame).to_square(frame, size) for frame in frames])
    pixels = torch.from_numpy(squares).permute(0, 3, 1, 2).float() / 127.5 - 1
    for batch, steps in itertools.product(batches, (1, 4)):
        image = pixels[torch.arange(batch) % len(pixels)].to(device, memory_format=torch.channels_last)
        reference = _masks(predictor, image, steps, "float32")
        for precision, mode in itertools.product(precisions, modes):
            # each combination is compiled anew: past a limit torch falls back to eager without a word
            torch.compiler.reset()
            function = _masks if mode == "eager" else torch.compile(_masks, mode="reduce-overhead", dynamic=False)
            seconds = []
            for index in range(rounds + 2):
                watch = _Stopwatch(device)
                masks = function(predictor, image, steps, precision)
                watch.lap("batch")
                if index >= 2:
                    seconds.append(watch.laps["batch"])
            median = float(np.median(seconds))
            yield {
                "device": torch.cuda.get_device_name() if device.type == "cuda" else device.type,
                "batch": batch,
                "steps": steps,
                "precision": precision,
                "mode": mode,
                "seconds": median,
                "images_per_second": batch / median,
                "disagreement": float((masks != reference).float().mean()),
            }


@torch.no_grad()
def _masks(predictor: Predictor, image: Tensor, steps: int, precision: str) -> Tensor:
    """Return the masks (B, 1, S, S) bool of squares (B, 3, S, S)."""
    networks, model = predictor.networks, predictor.manifest.model
    shape = (len(image), model.vae.latent_channels, predictor.size // STRIDE, predictor.size // STRIDE)
    z = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(image.device)
    sigmas = sampling_sigmas(steps, model.schedule.sigma_max)
    with (
        torch.autocast(image.device.type, torch.bfloat16, enabled=precision == "bf16"),
        torch.backends.cudnn.flags(enabled=True, allow_tf32=precision == "tf32"),
    ):
        cond = networks.encoder(image)

        def denoise(z: Tensor, sigma: float) -> Tensor:
            levels = torch.full((len(z),), sigma, device=z.device)
            estimate: Tensor = networks.denoiser(z, levels, cond)
            return estimate.float()

        for step in ddim(denoise, z * float(sigmas[0]), sigmas, lambda: z):
            final = step.z
        masks: Tensor = networks.vae.decode(final / networks.latent_scale) > 0
    return masks
