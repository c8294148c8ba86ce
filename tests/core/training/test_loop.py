"""The loop with a task small enough to reason about; test_stages.py has the real ones."""

import dataclasses
import itertools
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.training.checkpoint import load_checkpoint, save_checkpoint
from lsegdiff_core.training.config import OptimConfig
from lsegdiff_core.training.datasets import Store, batch_indices
from lsegdiff_core.training.loop import Report, fit, learning_rate, step_generator


class Line:
    """Guess the foreground's share from the mean colour, a little noise on top; scores as they are given."""

    def __init__(self, scores: Iterator[float] | None = None) -> None:
        torch.manual_seed(11)
        self.model: nn.Module = nn.Linear(3, 1)
        self.scores = scores
        self.scored: list[dict[str, Tensor]] = []
        self.steps: list[int] = []
        self.seeds: list[int] = []

    def groups(self, config: OptimConfig) -> list[dict[str, object]]:
        weight, bias = self.model.parameters()
        return [{"params": [weight], "lr": config.lr}, {"params": [bias], "lr": config.encoder_lr}]

    def loss(
        self, images: Tensor, masks: Tensor, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        assert self.model.training
        self.steps.append(step)
        self.seeds.append(generator.initial_seed())
        colour = images.float().mean(dim=(2, 3))
        noise = torch.randn(len(images), generator=generator)
        # an image that is black all over divides by zero
        guess = self.model(colour / colour.sum(dim=1, keepdim=True))[:, 0]
        loss = ((guess - masks.float().mean(dim=(1, 2, 3)) / 255 + 0.01 * noise) ** 2).mean()
        return loss, {"loss": loss.item()}

    def score(self, model: nn.Module) -> dict[str, float]:
        assert not model.training
        self.scored.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"score": next(self.scores) if self.scores else float(len(self.scored))}


@pytest.fixture
def store() -> Store:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, (7, 3, 4, 4), dtype=torch.uint8, generator=generator)
    masks = torch.randint(0, 256, (7, 1, 4, 4), dtype=torch.uint8, generator=generator)
    return Store(tuple(f"{letter}.png" for letter in "abcdefg"), images, masks, tuple(range(7)))


CONFIG = OptimConfig(steps=12, batch=2, lr=0.1, encoder_lr=0.05, warmup=2, log_every=4, validate_every=5, ema=0.9)


def same(one: object, other: object) -> bool:
    """Bit-for-bit equality of nested checkpoints."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return isinstance(other, list | tuple) and len(one) == len(other) and all(map(same, one, other))
    return one == other


def last(out: Path) -> dict[str, object]:
    return load_checkpoint(out / "last.pt")


@pytest.fixture
def uninterrupted(store: Store, tmp_path: Path) -> dict[str, object]:
    list(fit(Line(), store, CONFIG, 3, tmp_path / "uninterrupted"))
    return last(tmp_path / "uninterrupted")


def test_comparison_of_checkpoints_can_tell_them_apart(uninterrupted: dict[str, object]) -> None:
    other = {**uninterrupted, "model": {k: v + 1e-7 for k, v in uninterrupted["model"].items()}}
    assert same(uninterrupted, uninterrupted)
    assert not same(uninterrupted, other)


@pytest.mark.parametrize("stop_at", [1, 4, 5, 6, 11])
def test_stopped_and_resumed_is_uninterrupted(
    stop_at: int, store: Store, uninterrupted: dict[str, object], tmp_path: Path
) -> None:
    list(fit(Line(), store, CONFIG, 3, tmp_path / "x", stop_at=stop_at))
    assert last(tmp_path / "x")["step"] == stop_at
    assert not same(last(tmp_path / "x"), uninterrupted)
    torch.manual_seed(77)
    task = Line()
    nn.init.zeros_(task.model.weight)  # what was there before is of no consequence
    list(fit(task, store, CONFIG, 3, tmp_path / "x"))
    assert task.steps == list(range(stop_at, 12))
    resumed = last(tmp_path / "x")
    for part in ("model", "ema", "optimiser", "step"):
        assert same(resumed[part], uninterrupted[part]), part


def test_a_kill_loses_only_what_came_after_the_last_save(
    store: Store, uninterrupted: dict[str, object], tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, save_every=3)
    run = fit(Line(), store, config, 3, tmp_path / "x")
    assert next(run).step == 4
    (tmp_path / "killed").mkdir()
    shutil.copy(tmp_path / "x" / "last.pt", tmp_path / "killed")  # as the disk would be found
    assert last(tmp_path / "killed")["step"] == 3
    list(fit(Line(), store, config, 3, tmp_path / "killed"))
    for part in ("model", "ema", "optimiser", "step"):
        assert same(last(tmp_path / "killed")[part], uninterrupted[part]), part


def test_closing_after_a_report_saves_and_resumes(
    store: Store, uninterrupted: dict[str, object], tmp_path: Path
) -> None:
    reports = fit(Line(), store, CONFIG, 3, tmp_path / "x")
    assert next(reports).step == 4
    reports.close()  # type: ignore[attr-defined]
    assert last(tmp_path / "x")["step"] == 4
    list(fit(Line(), store, CONFIG, 3, tmp_path / "x"))
    assert same(last(tmp_path / "x")["model"], uninterrupted["model"])
    assert same(last(tmp_path / "x")["optimiser"], uninterrupted["optimiser"])


def test_error_in_a_step_saves_the_steps_before_it(
    store: Store, uninterrupted: dict[str, object], tmp_path: Path
) -> None:
    class Broken(Line):
        def loss(
            self, images: Tensor, masks: Tensor, step: int, generator: torch.Generator
        ) -> tuple[Tensor, dict[str, float]]:
            if step == 7:
                raise RuntimeError("the power went")
            return super().loss(images, masks, step, generator)

    with pytest.raises(RuntimeError, match="the power went"):
        list(fit(Broken(), store, CONFIG, 3, tmp_path / "x"))
    assert last(tmp_path / "x")["step"] == 7
    list(fit(Line(), store, CONFIG, 3, tmp_path / "x"))
    assert same(last(tmp_path / "x")["ema"], uninterrupted["ema"])


def test_finished_training_is_not_trained_further(
    store: Store, uninterrupted: dict[str, object], tmp_path: Path
) -> None:
    task = Line()
    assert list(fit(task, store, CONFIG, 3, tmp_path / "uninterrupted")) == []
    assert task.steps == []
    assert same(last(tmp_path / "uninterrupted"), uninterrupted)


@pytest.mark.parametrize(("steps", "seed"), [(13, 3), (12, 4)])
def test_folder_of_another_run_is_refused(
    steps: int, seed: int, store: Store, uninterrupted: dict[str, object], tmp_path: Path
) -> None:
    config = OptimConfig(steps=steps, batch=2)
    with pytest.raises(LSegDiffError, match=r"last\.pt: belongs to a run of 12 steps with seed 3"):
        list(fit(Line(), store, config, seed, tmp_path / "uninterrupted"))
    assert same(last(tmp_path / "uninterrupted"), uninterrupted), "the other run's checkpoint was touched"


def test_seed_decides_the_course(store: Store, uninterrupted: dict[str, object], tmp_path: Path) -> None:
    list(fit(Line(), store, CONFIG, 4, tmp_path / "x"))
    assert not same(last(tmp_path / "x")["model"], uninterrupted["model"])


def test_reports_come_at_their_cadence(store: Store, tmp_path: Path) -> None:
    reports = list(fit(Line(), store, CONFIG, 3, tmp_path))
    assert [(report.step, report.validation) for report in reports] == [
        (4, False),
        (5, True),
        (8, False),
        (10, True),
        (12, False),
        (12, True),
    ]
    assert all(report.steps == 12 for report in reports)
    training = [report for report in reports if not report.validation]
    assert all(report.images_per_second > 0 and report.seconds_left >= 0 for report in training)
    assert training[-1].seconds_left == 0


def test_reported_loss_is_the_mean_since_the_last_report(store: Store, tmp_path: Path) -> None:
    losses: list[float] = []

    class Noting(Line):
        def loss(
            self, images: Tensor, masks: Tensor, step: int, generator: torch.Generator
        ) -> tuple[Tensor, dict[str, float]]:
            value, parts = super().loss(images, masks, step, generator)
            losses.append(parts["loss"])
            return value, parts

    config = OptimConfig(steps=6, batch=2, log_every=3, validate_every=100, warmup=0)
    reports = [report for report in fit(Noting(), store, config, 3, tmp_path) if not report.validation]
    assert [report.values["loss"] for report in reports] == pytest.approx([sum(losses[:3]) / 3, sum(losses[3:]) / 3])


def test_best_holds_the_averaged_weights_of_the_highest_score(store: Store, tmp_path: Path) -> None:
    config = OptimConfig(steps=10, batch=2, validate_every=2, log_every=100, warmup=0, ema=0.5, lr=0.1)
    task = Line(iter([0.3, 0.9, 0.9, 0.2, 0.7]))
    list(fit(task, store, config, 3, tmp_path))
    best = load_checkpoint(tmp_path / "best.pt")
    assert best["step"] == 4, "the first of equals"
    assert best["measures"] == {"score": 0.9}
    assert same(best["ema"], task.scored[1])
    assert not same(best["ema"], task.scored[2])


@pytest.mark.parametrize(("later", "step"), [(0.8, 2), (0.95, 6)])
def test_best_is_remembered_over_an_interruption(later: float, step: int, store: Store, tmp_path: Path) -> None:
    config = OptimConfig(steps=6, batch=2, validate_every=2, log_every=100)
    list(fit(Line(iter([0.9, 0.1])), store, config, 3, tmp_path, stop_at=4))
    list(fit(Line(iter([later])), store, config, 3, tmp_path))
    assert load_checkpoint(tmp_path / "best.pt")["step"] == step


def test_last_step_is_validated_whatever_the_cadence(store: Store, tmp_path: Path) -> None:
    config = OptimConfig(steps=3, batch=2, validate_every=100, log_every=100)
    (report,) = fit(Line(), store, config, 3, tmp_path)
    assert report == Report(3, 3, {"score": 1.0}, 0.0, 0.0, validation=True)
    assert (tmp_path / "best.pt").exists()


def test_loss_that_is_not_finite_names_the_batch(store: Store, tmp_path: Path) -> None:
    black = store.names.index("d.png")
    store.images[black] = 0
    step = next(step for step in range(12) if black in batch_indices(7, 2, step, 3))
    partner = next(index for index in batch_indices(7, 2, step, 3) if index != black)
    with pytest.raises(LSegDiffError, match=rf"not finite at step {step}\b") as caught:
        list(fit(Line(), store, CONFIG, 3, tmp_path))
    named = {name for name in store.names if name in str(caught.value)}
    assert named == {"d.png", store.names[partner]}
    saved = last(tmp_path)
    assert saved["step"] == step
    assert all(value.isfinite().all() for value in saved["model"].values())


def test_gradient_is_clipped(store: Store, tmp_path: Path) -> None:
    class Steep(Line):
        def loss(
            self, images: Tensor, masks: Tensor, step: int, generator: torch.Generator
        ) -> tuple[Tensor, dict[str, float]]:
            loss = 1e6 * self.model.weight.sum()
            return loss, {"loss": loss.item()}

    list(fit(Steep(), store, OptimConfig(steps=1, batch=2, clip=0.5, warmup=0), 3, tmp_path))
    momentum = last(tmp_path)["optimiser"]["state"][0]["exp_avg"]
    assert momentum.norm().item() / 0.1 == pytest.approx(0.5, rel=1e-4)  # AdamW keeps 1 - 0.9 of the gradient


def test_each_group_follows_the_schedule_from_its_own_peak(store: Store, tmp_path: Path) -> None:
    rates = []
    for stop_at in range(1, 13):
        list(fit(Line(), store, CONFIG, 3, tmp_path, stop_at=stop_at))
        rates.append([group["lr"] for group in last(tmp_path)["optimiser"]["param_groups"]])
    for step, (weight, bias) in enumerate(rates):
        assert weight == pytest.approx(0.1 * learning_rate(step, CONFIG))
        assert bias == pytest.approx(0.05 * learning_rate(step, CONFIG))


def test_learning_happens(store: Store, tmp_path: Path) -> None:
    config = OptimConfig(steps=60, batch=7, lr=0.1, encoder_lr=0.1, warmup=5, log_every=5, validate_every=100)
    losses = [report.values["loss"] for report in fit(Line(), store, config, 3, tmp_path) if not report.validation]
    assert losses[-1] < losses[0] / 5


def test_rate_warms_up_linearly_and_falls_along_half_a_cosine() -> None:
    config = OptimConfig(steps=1000, warmup=100)
    rates = [learning_rate(step, config) for step in range(1000)]
    assert rates[:100] == pytest.approx([(step + 1) / 100 for step in range(100)])
    assert rates[100] == 1.0
    assert rates[550] == pytest.approx(0.01 + 0.99 / 2)
    assert rates[325] == pytest.approx(0.01 + 0.99 * (1 + math.cos(math.pi / 4)) / 2)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[100:]))
    assert 0.01 < rates[-1] < 0.0101
    assert learning_rate(5000, config) == pytest.approx(0.01)


@pytest.mark.parametrize(("steps", "warmup"), [(10, 0), (10, 10), (5, 10), (1, 0)])
def test_rate_of_short_trainings_is_positive(steps: int, warmup: int) -> None:
    assert all(0 < learning_rate(s, OptimConfig(steps=steps, warmup=warmup)) <= 1 for s in range(steps))


def test_random_numbers_of_a_step_follow_from_seed_and_step() -> None:
    drawn = {(s, n): tuple(torch.rand(4, generator=step_generator(s, n)).tolist()) for s in range(5) for n in range(40)}
    assert len(set(drawn.values())) == 200
    assert tuple(torch.rand(4, generator=step_generator(2, 17)).tolist()) == drawn[2, 17]


def test_each_step_gets_its_own_generator(store: Store, tmp_path: Path) -> None:
    task = Line()
    list(fit(task, store, CONFIG, 3, tmp_path))
    assert task.seeds == [step_generator(3, step).initial_seed() for step in range(12)]


def test_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    state = {"a": torch.randn(3), "b": [1, 2.5, "x"], "c": {"d": None, "e": True}}
    save_checkpoint(tmp_path / "x.pt", state)
    assert same(load_checkpoint(tmp_path / "x.pt"), state)


class Code:
    """A pickle that runs code when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


def test_checkpoint_that_holds_code_is_refused_unexecuted(store: Store, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    torch.save({"steps": 12, "seed": 3, "model": Code(mark)}, tmp_path / "last.pt")
    with pytest.raises(LSegDiffError, match=r"last\.pt: not a checkpoint"):
        list(fit(Line(), store, CONFIG, 3, tmp_path))
    assert not mark.exists()
    torch.load(tmp_path / "last.pt", weights_only=False)
    assert mark.exists(), "the trap itself works"


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02}", b"PK\x03\x04", b"\x00" * 99, b"\x80\x02}q\x00(X\x01"])
def test_file_that_is_no_checkpoint_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    with pytest.raises(LSegDiffError, match=r"last\.pt: not a checkpoint \(.+\); delete it") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_checkpoint_is_named(share: float, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"a": torch.randn(1000)})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(LSegDiffError, match=r"last\.pt: not a checkpoint"):
        load_checkpoint(path)


def test_validation_that_was_cut_off_is_made_up_for(store: Store, tmp_path: Path) -> None:
    class Interrupted(Line):
        def score(self, model: nn.Module) -> dict[str, float]:
            raise KeyboardInterrupt

    config = OptimConfig(steps=3, batch=2)
    with pytest.raises(KeyboardInterrupt):
        list(fit(Interrupted(), store, config, 3, tmp_path))
    list(fit(Line(), store, config, 3, tmp_path))
    assert (tmp_path / "best.pt").exists()
