"""The training loop of both stages, on a page."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.training import parallel
from lsegdiff_core.training.checkpoint import load_checkpoint, save_checkpoint
from lsegdiff_core.training.config import OptimConfig
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


def step_generator(seed: int, step: int, rank: int = 0) -> torch.Generator:
    """Return the CPU generator of one training step in one process, a function of (seed, step, rank) alone."""
    generator = torch.Generator()
    generator.manual_seed(((rank * 1_000_003 + seed) * 1_000_003 + step) * 2_654_435_761 % 2**63)
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
    same number of threads). Closing the generator stops after the step in hand and saves it. Of several processes
    (`lsegdiff_core.training.parallel`) each takes its share of every batch; the first one scores and saves.

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
        When the loss is not finite; the message holds the batch's file names. When a batch cannot be shared evenly.
    """
    if config.batch % parallel.count():
        raise LSegDiffError(f"batch: {config.batch} cannot be shared by {parallel.count()} processes; take a multiple")
    run = _Run(task, config, seed, out)
    end = config.steps if stop_at is None else min(stop_at, config.steps)
    meter = _Meter()
    try:
        while True:
            if run.validation_due:
                yield run.validate()
                meter = _Meter()
            if run.step >= end:
                break
            meter.add(run.advance(store))
            if run.step % config.save_every == 0:  # what a kill can take is less than this
                run.save()
            if run.step % config.log_every == 0:
                rate = config.batch * meter.steps / meter.seconds
                left = (config.steps - run.step) * config.batch / rate
                yield Report(run.step, config.steps, meter.means, rate, left)
                meter = _Meter()
    finally:
        if run.consistent:
            run.save()


class _Run:
    """What a checkpoint holds, and the three things that change it: a step, a validation, resuming."""

    def __init__(self, task: Task, config: OptimConfig, seed: int, out: Path) -> None:
        self.task, self.config, self.seed, self.out = task, config, seed, out
        self.optimiser = torch.optim.AdamW(task.groups(config), weight_decay=config.weight_decay, fused=True)
        self.peaks = [float(group["lr"]) for group in self.optimiser.param_groups]
        self.ema = EMA(task.model, config.ema)
        self.step, self.validated, self.best = 0, 0, -math.inf
        self.measures: dict[str, float] = {}
        self.consistent = True
        if (out / "last.pt").exists():
            self._resume(load_checkpoint(out / "last.pt"))
        self.loss = parallel.share_gradients(task.model, task.loss)

    def _resume(self, state: dict[str, Any]) -> None:
        if state["steps"] != self.config.steps or state["seed"] != self.seed:
            raise LSegDiffError(
                f"{self.out / 'last.pt'}: belongs to a run of {state['steps']} steps with seed {state['seed']}; "
                "choose another folder"
            )
        self.task.model.load_state_dict(state["model"])
        self.ema.model.load_state_dict(state["ema"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.validated, self.best = state["step"], state["validated"], state["best"]
        self.measures = state["measures"]

    def save(self) -> None:
        """Write ``last.pt``."""
        if parallel.rank():
            return
        state = {
            "steps": self.config.steps,
            "seed": self.seed,
            "step": self.step,
            "validated": self.validated,
            "best": self.best,
            "measures": self.measures,
            "model": self.task.model.state_dict(),
            "ema": self.ema.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        save_checkpoint(self.out / "last.pt", state)

    @property
    def validation_due(self) -> bool:
        """True at every ``validate_every`` steps and at the end, until it is done."""
        due = self.step % self.config.validate_every == 0 or self.step == self.config.steps
        return due and self.step > self.validated

    def advance(self, store: Store) -> dict[str, float]:
        """Do one training step; return the parts of its loss."""
        config, step = self.config, self.step
        places = batch_indices(len(store.epoch), config.batch, step, self.seed)[parallel.rank() :: parallel.count()]
        indices = [store.epoch[place] for place in places]
        self.task.model.train()
        generator = step_generator(self.seed, step, parallel.rank())
        loss, parts = self.loss(store.images[indices], store.masks[indices], step, generator)
        for group, peak in zip(self.optimiser.param_groups, self.peaks, strict=True):
            group["lr"] = peak * learning_rate(step, config)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.task.model.parameters(), config.clip)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            names = ", ".join(store.names[index] for index in indices)
            raise LSegDiffError(
                f"the loss is not finite at step {step}; lower the rate or check this batch's files: {names}"
            )
        # an interruption between here and the end would leave weights that belong to no step: they are not saved
        self.consistent = False
        self.optimiser.step()
        self.ema.update(self.task.model, step)
        self.step += 1
        self.consistent = True
        return parts

    def validate(self) -> Report:
        """Score the averaged weights, keep them if they are the best so far, and save."""
        if parallel.rank():
            self.validated = self.step
            return Report(self.step, self.config.steps, {}, 0.0, 0.0, validation=True)
        self.ema.model.eval()
        self.measures = self.task.score(self.ema.model)
        if self.measures["score"] > self.best:
            self.best = self.measures["score"]
            best = {"step": self.step, "measures": self.measures, "ema": self.ema.model.state_dict()}
            save_checkpoint(self.out / "best.pt", best)
        self.validated = self.step
        self.save()
        return Report(self.step, self.config.steps, self.measures, 0.0, 0.0, validation=True)


class _Meter:
    """Means of the losses and the speed since it was made."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.steps = 0
        self.began = time.perf_counter()

    def add(self, parts: dict[str, float]) -> None:
        self.steps += 1
        for name, value in parts.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    @property
    def means(self) -> dict[str, float]:
        return {name: value / self.steps for name, value in self.sums.items()}

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began
