"""Mixed precision in training."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def mixed_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return autocast to bfloat16 on a GPU, and on a CPU that computes in it (AVX-512)."""
    if device.type == "cpu" and not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return contextlib.nullcontext()
    # no cache: some versions of torch keep weights cast under no_grad, and the pass with gradients then has none
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def without_autocast(function: Callable[P, R]) -> Callable[P, R]:
    """Make ``function`` compute in full precision wherever it is called: bfloat16 holds no pixel coordinates."""

    @functools.wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return function(*args, **kwargs)

    return inner
