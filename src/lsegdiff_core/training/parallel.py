"""Training in several processes at once, as ``torchrun`` starts them; each takes its share of every batch."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

Loss = Callable[..., tuple[Tensor, dict[str, float]]]


@contextlib.contextmanager
def processes(device: torch.device) -> Iterator[None]:
    """Join the processes that ``torchrun`` has started; without it, do nothing.

    Parameters
    ----------
    device
        On ``cuda`` each process takes the GPU of its local rank.
    """
    if "RANK" not in os.environ:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
        dist.barrier()  # who leaves first takes the connections with it
    finally:
        gc.collect()  # what gathers gradients has to go before them, or the process aborts at its end
        dist.destroy_process_group()


def rank() -> int:
    """Return the number of this process, from 0; the first one writes the files and speaks."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """Return how many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def wait() -> None:
    """Wait until all processes are here."""
    if dist.is_initialized():
        dist.barrier()


def share_gradients(model: nn.Module, loss: Loss) -> Loss:
    """Return ``loss`` such that its gradients are the mean over all processes.

    Parameters
    ----------
    model
        Whose parameters are trained; its weights become those of the first process.
    loss
        Computes the loss of this process's share with ``model``.
    """
    # the control has nothing to learn of hints from a share without them
    return DistributedDataParallel(_Step(model, loss), find_unused_parameters=True) if dist.is_initialized() else loss


class _Step(nn.Module):
    """A whole loss as a forward pass, which is where gradients are gathered."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, *given: Any) -> tuple[Tensor, dict[str, float]]:
        """Return what the loss does."""
        return self.loss(*given)
