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


def sampling_sigmas(steps: int, sigma_max: float, strength: float = 1.0) -> Tensor:
    """Return ``steps`` + 1 falling noise levels that end in 0, evenly spaced in schedule time.

    Parameters
    ----------
    steps
        How many steps.
    sigma_max
        The highest level.
    strength
        Share of the schedule's time that the levels span, in (0, 1]: they begin at ``sigma_max`` for 1.

    Returns
    -------
    Tensor
        (steps + 1,) float64 on the CPU, strictly falling.
    """
    times = torch.linspace(strength * time_at(sigma_max), 0.0, steps + 1, dtype=torch.float64)
    sigmas = sigma_at(times)
    if strength == 1:
        sigmas[0] = sigma_max
    sigmas[-1] = 0.0
    return sigmas
