"""Mixed precision in training."""

from __future__ import annotations

import contextlib

import torch


def mixed_precision(device: torch.device, on_cpu: bool = False) -> contextlib.AbstractContextManager[object]:
    """Return autocast to bfloat16 on a GPU, and with ``on_cpu`` on a CPU that computes in it (AVX-512).

    On a CPU it pays for dense convolutions only; depthwise ones are faster in float32.
    """
    if device.type == "cpu" and not (on_cpu and torch.backends.cpu.get_cpu_capability().startswith("AVX512")):
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)
