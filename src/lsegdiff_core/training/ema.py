"""Exponential moving average of weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class EMA:
    """Keeps ``model``, a copy whose weights follow the trained ones.

    Parameters
    ----------
    source
        The trained model.
    decay
        Share of the old average kept at each update; smaller at first, (1 + n) / (10 + n) after n updates.
    """

    def __init__(self, source: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(source).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, source: nn.Module, step: int) -> None:
        """Move the average towards ``source`` after training step ``step`` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        mine: list[Tensor] = list(self.model.parameters())
        theirs = [parameter.detach() for parameter in source.parameters()]
        torch._foreach_lerp_(mine, theirs, 1 - decay)
