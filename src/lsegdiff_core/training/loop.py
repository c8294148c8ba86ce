"""The training loop of both stages, on a page."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from lsegdiff_core.config import OptimConfig
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.training.checkpoint import load_checkpoint, save_checkpoint
from lsegdiff_core.training.datasets import Store, batch_indices
from lsegdiff_core.training.ema import EMA


class Task(Protocol):
    """What is trained: a model, its loss and its score."""

    model: nn.Module

    def groups(self, config: OptimConfig) -> list[dict[str, object]]:
        """Return AdamW's parameter groups with their peak learning rates."""

    def loss(
        self, images: Tensor, masks: Tensor, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch as stored (uint8, on the CPU) and its named parts."""

    def score(self, model: nn.Module) -> dict[str, float]:
        """Return validation measures of ``model``; ``score``, to be raised, chooses the best weights."""


@dataclass(frozen=True)
class Report:
    """Progress after ``step`` of ``steps``: mean losses since the last report, speed, or a validation."""

    step: int
    steps: int
    values: dict[str, float]
    images_per_second: float
    seconds_left: float
    validation: bool = False


def step_generator(seed: int, step: int) -> torch.Generator:
    """Return the CPU generator of one training step, a function of (seed, step) alone."""
    generator = torch.Generator()
    generator.manual_seed((seed * 1_000_003 + step) * 2_654_435_761 % 2**63)
    return generator


def learning_rate(step: int, config: OptimConfig) -> float:
    """Return the factor on the peak rate: linear warm-up, then half a cosine down to 1 %."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    return 0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * min(1.0, progress)))


def fit(
    task: Task, store: Store, config: OptimConfig, seed: int, out: Path, stop_at: int | None = None
) -> Iterator[Report]:
    """Train ``task``, resuming from ``out/last.pt`` when it is there.

    A run that was stopped and resumed gives the same weights, bit for bit, as one that was not (on a CPU with the
    same number of threads). Closing the generator stops after the step in hand and saves it.

    Parameters
    ----------
    task
        Model, loss and score.
    store
        Training images.
    config
        Length, rates and cadence.
    seed
        Everything random follows from it and the step's number.
    out
        Folder of ``last.pt`` (to resume) and ``best.pt`` (averaged weights with the highest validation score).
    stop_at
        Stop, saved, after this many steps; for a planned interruption.

    Yields
    ------
    Report
        Every ``log_every`` steps, and after each validation.

    Raises
    ------
    LSegDiffError
        When the loss is not finite; the message holds the batch's file names.
    """
    optimiser = torch.optim.AdamW(task.groups(config), weight_decay=config.weight_decay)
    peaks = [float(group["lr"]) for group in optimiser.param_groups]
    ema = EMA(task.model, config.ema)
    step, best = 0, -math.inf
    last = out / "last.pt"
    if last.exists():
        state = load_checkpoint(last)
        if state["steps"] != config.steps or state["seed"] != seed:
            raise LSegDiffError(
                f"{last}: belongs to a run of {state['steps']} steps with seed {state['seed']}; choose another folder"
            )
        task.model.load_state_dict(state["model"])
        ema.model.load_state_dict(state["ema"])
        optimiser.load_state_dict(state["optimiser"])
        step, best = state["step"], state["best"]

    def save() -> None:
        save_checkpoint(
            last,
            {
                "steps": config.steps,
                "seed": seed,
                "step": step,
                "best": best,
                "model": task.model.state_dict(),
                "ema": ema.model.state_dict(),
                "optimiser": optimiser.state_dict(),
            },
        )

    sums: dict[str, float] = {}
    began, counted, spent = time.perf_counter(), 0, 0.0
    end = config.steps if stop_at is None else min(stop_at, config.steps)
    try:
        while step < end:
            indices = batch_indices(len(store), config.batch, step, seed)
            task.model.train()
            loss, parts = task.loss(store.images[indices], store.masks[indices], step, step_generator(seed, step))
            if not torch.isfinite(loss):
                names = ", ".join(store.names[index] for index in indices)
                raise LSegDiffError(
                    f"the loss is not finite at step {step}; lower the rate or check this batch's files: {names}"
                )
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * learning_rate(step, config)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(task.model.parameters(), config.clip)
            optimiser.step()
            ema.update(task.model, step)
            step += 1
            counted += 1
            spent = time.perf_counter() - began
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + value
            if step % config.log_every == 0:
                rate = config.batch * counted / spent
                means = {name: value / counted for name, value in sums.items()}
                yield Report(step, config.steps, means, rate, (config.steps - step) * config.batch / rate)
                sums, began, counted = {}, time.perf_counter(), 0
            if step % config.validate_every == 0 or step == config.steps:
                ema.model.eval()
                measures = task.score(ema.model)
                if measures["score"] > best:
                    best = measures["score"]
                    save_checkpoint(
                        out / "best.pt", {"step": step, "measures": measures, "ema": ema.model.state_dict()}
                    )
                save()
                yield Report(step, config.steps, measures, 0.0, 0.0, validation=True)
                sums, began, counted = {}, time.perf_counter(), 0
    finally:
        save()
