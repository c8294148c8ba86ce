"""Samplers: short generators over any callable ``denoise(z, sigma) -> z0``.

All of them walk down ``sigmas`` (falling, ending in 0) from ``z`` = noise * sigmas[0], in the variance-exploding
coordinates of Karras et al. 2022, and yield a `Step` after each step; the last step's ``z`` is the sample.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor

Denoise = Callable[[Tensor, float], Tensor]
Noise = Callable[[], Tensor]


class Step(NamedTuple):
    """State after one sampler step.

    Attributes
    ----------
    i
        Index of the step, from 0.
    sigma
        Noise level that ``z`` is at now.
    z
        (B, C, h, w), the state.
    denoised
        (B, C, h, w), the newest estimate of z0.
    """

    i: int
    sigma: float
    z: Tensor
    denoised: Tensor


def ddim(denoise: Denoise, z: Tensor, sigmas: Tensor, noise: Noise) -> Iterator[Step]:
    """Deterministic DDIM (Song et al. 2021, eq. 12 with eta = 0): Euler's method here; ``noise`` is not drawn."""
    levels = sigmas.tolist()
    for i, (now, then) in enumerate(itertools.pairwise(levels)):
        denoised = denoise(z, now)
        z = denoised + (then / now) * (z - denoised)
        yield Step(i, then, z, denoised)


def heun(denoise: Denoise, z: Tensor, sigmas: Tensor, noise: Noise) -> Iterator[Step]:
    """Heun's second-order method (Karras et al. 2022, Algorithm 1); two evaluations a step but for the last."""
    levels = sigmas.tolist()
    for i, (now, then) in enumerate(itertools.pairwise(levels)):
        denoised = denoise(z, now)
        slope = (z - denoised) / now
        guess = z + (then - now) * slope
        if then > 0:
            denoised = denoise(guess, then)
            slope = (slope + (guess - denoised) / then) / 2
            guess = z + (then - now) * slope
        z = guess
        yield Step(i, then, z, denoised)


def dpmpp_2m(denoise: Denoise, z: Tensor, sigmas: Tensor, noise: Noise) -> Iterator[Step]:
    """DPM-Solver++(2M) (Lu et al. 2022, Algorithm 2): second order from the previous estimate, one evaluation."""
    levels = sigmas.tolist()
    previous: Tensor | None = None
    for i, (now, then) in enumerate(itertools.pairwise(levels)):
        denoised = denoise(z, now)
        if previous is None or then == 0:
            estimate = denoised
        else:
            ratio = math.log(levels[i - 1] / now) / math.log(now / then)
            estimate = denoised + (denoised - previous) / (2 * ratio)
        z = (then / now) * z + (1 - then / now) * estimate
        previous = denoised
        yield Step(i, then, z, denoised)


def ddpm(denoise: Denoise, z: Tensor, sigmas: Tensor, noise: Noise) -> Iterator[Step]:
    """Ancestral sampling from the DDPM posterior (Ho et al. 2020, eq. 6 and 7), fresh ``noise()`` at each step."""
    levels = sigmas.tolist()
    for i, (now, then) in enumerate(itertools.pairwise(levels)):
        denoised = denoise(z, now)
        ratio = (then / now) ** 2
        z = denoised + ratio * (z - denoised)
        if then > 0:
            z = z + noise() * (then * math.sqrt(1 - ratio))
        yield Step(i, then, z, denoised)


SAMPLERS: dict[str, Callable[[Denoise, Tensor, Tensor, Noise], Iterator[Step]]] = {
    "ddim": ddim,
    "heun": heun,
    "dpmpp_2m": dpmpp_2m,
    "ddpm": ddpm,
}
