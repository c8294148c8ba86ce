"""The devices of this machine that torch can compute on."""

from __future__ import annotations

import torch

from lsegdiff_core.errors import LSegDiffError


def available_devices() -> list[str]:
    """Return the names of the devices that torch finds on this machine, the fastest kind first."""
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [name for name, there in found.items() if there]


def resolve_device(name: str) -> torch.device:
    """Return the torch device for ``name``: ``auto``, ``cpu``, ``cuda`` or ``mps``; auto takes a GPU if there is one.

    Raises
    ------
    LSegDiffError
        If the name is unknown or this machine has no such device.
    """
    available = available_devices()
    if name == "auto":
        name = available[0]
    if name not in ("cpu", "cuda", "mps"):
        raise LSegDiffError(f"device: unknown name '{name}'; choose auto, cpu, cuda, mps")
    if name not in available:
        raise LSegDiffError(f"device: '{name}' was asked for, but torch finds none on this machine; choose auto or cpu")
    return torch.device(name)
