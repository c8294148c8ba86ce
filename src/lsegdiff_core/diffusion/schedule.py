"""Noise levels for training and sampling."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sigma_at(time: Tensor) -> Tensor:
    """Return sigma = tan(pi t / 2) for ``time`` in [0, 1): the cosine variance-preserving schedule.

    With x = z / sqrt(1 + sigma^2) this is alpha = cos(pi t / 2) (Nichol and Dhariwal 2021, without offset).
    """
    return torch.tan(time * (math.pi / 2))


def time_at(sigma: float) -> float:
    """Return the inverse of `sigma_at`, in [0, 1)."""
    return math.atan(sigma) * 2 / math.pi


def sampling_sigmas(steps: int, sigma_max: float) -> Tensor:
    """Return ``steps`` + 1 noise levels, from ``sigma_max`` down to 0, evenly spaced in schedule time.

    Returns
    -------
    Tensor
        (steps + 1,) float64 on the CPU, strictly falling; the first is ``sigma_max``, the last 0.
    """
    times = torch.linspace(time_at(sigma_max), 0.0, steps + 1, dtype=torch.float64)
    sigmas = sigma_at(times)
    sigmas[0], sigmas[-1] = sigma_max, 0.0
    return sigmas
