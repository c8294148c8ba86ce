"""Both stages with their real losses, on phantoms, 64 x 64 pixels."""

import copy
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.models.mask_vae import MaskVAE
from lsegdiff_core.training import train_denoiser
from lsegdiff_core.training.augment import plain
from lsegdiff_core.training.checkpoint import load_checkpoint
from lsegdiff_core.training.config import HintConfig, LossConfig, TrainConfig
from lsegdiff_core.training.datasets import Store
from lsegdiff_core.training.loop import Task, fit, step_generator
from lsegdiff_core.training.run import collect, load_backbone, train
from lsegdiff_core.training.train_denoiser import ConditionalDenoiser, DenoiserTask
from lsegdiff_core.training.train_vae import VAETask, measure_latent_scale

CPU = torch.device("cpu")
NO_HINTS = HintConfig(share=0.0)
Stores = tuple[Store, Store]
Awaken = Callable[[nn.Module], nn.Module]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for checkpoints of tens of megabytes, which pytest would keep."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def vae_task(config: TrainConfig, stores: Stores) -> VAETask:
    return VAETask(config, stores[1], CPU)


def denoiser_task(config: TrainConfig, stores: Stores) -> DenoiserTask:
    torch.manual_seed(8)
    return DenoiserTask(config, MaskVAE(config.model.vae), 1.3, stores[1], CPU)


def losses_of_one_batch(task: Task, config: TrainConfig, store: Store, steps: int) -> list[dict[str, float]]:
    """Train on two images in always the same position, with always the same noise."""
    optimiser = torch.optim.Adam(task.model.parameters(), lr=3e-3)
    task.model.train()
    course = []
    for _ in range(steps):
        loss, parts = task.loss(store.images[:2], store.masks[:2], config.denoiser.steps, step_generator(0, 0))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        course.append(parts)
    return course


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("stage", ["vae", "denoiser"])
def test_resumed_training_gives_the_same_weights_bit_for_bit(
    stage: str, tiny_config: TrainConfig, stores: Stores, folder: Path
) -> None:
    build: Callable[[TrainConfig, Stores], Task] = vae_task if stage == "vae" else denoiser_task
    optim = getattr(tiny_config, stage)
    list(fit(build(tiny_config, stores), stores[0], optim, 0, folder / "whole"))
    list(fit(build(tiny_config, stores), stores[0], optim, 0, folder / "halves", stop_at=optim.steps // 2))
    task = build(tiny_config, stores)
    torch.manual_seed(123)
    torch.rand(7)
    list(fit(task, stores[0], optim, 0, folder / "halves"))
    whole, halves = (load_checkpoint(folder / name / "last.pt") for name in ("whole", "halves"))
    assert equal(whole["model"], halves["model"])
    assert equal(whole["ema"], halves["ema"])
    assert not equal(whole["ema"], whole["model"])
    states = whole["optimiser"]["state"], halves["optimiser"]["state"]
    assert states[0].keys() == states[1].keys()
    assert len(states[0]) == len(list(task.model.parameters()))
    assert all(equal(states[0][index], states[1][index]) for index in states[0])
    best = [load_checkpoint(folder / name / "best.pt") for name in ("whole", "halves")]
    assert best[0]["measures"] == best[1]["measures"]
    assert equal(best[0]["ema"], best[1]["ema"])


def test_seed_of_the_config_decides_the_first_weights(tiny_config: TrainConfig, stores: Stores) -> None:
    other = dataclasses.replace(tiny_config, seed=1)
    first, again, different = (vae_task(c, stores).model.state_dict() for c in (tiny_config, tiny_config, other))
    assert equal(first, again)
    assert not equal(first, different)


def test_mask_vae_learns_two_masks(tiny_config: TrainConfig, stores: Stores) -> None:
    course = losses_of_one_batch(vae_task(tiny_config, stores), tiny_config, stores[0], 80)
    assert course[-1]["reconstruction"] < 0.3 * course[0]["reconstruction"]


def test_denoiser_learns_two_phantoms_in_the_latent_and_through_the_decoder(
    tiny_config: TrainConfig, stores: Stores
) -> None:
    vae = vae_task(tiny_config, stores)
    losses_of_one_batch(vae, tiny_config, stores[0], 40)
    scale = measure_latent_scale(vae.model, stores[0], 64, CPU)
    task = DenoiserTask(tiny_config, vae.model, scale, stores[1], CPU)
    before = {name: value.clone() for name, value in task.vae.state_dict().items()}
    course = losses_of_one_batch(task, tiny_config, stores[0], 25)
    assert course[-1]["latent"] < 0.5 * course[0]["latent"]
    assert course[-1]["decoded"] < 0.5 * course[0]["decoded"]
    assert equal(task.vae.state_dict(), before), "the mask VAE is frozen"


def test_backbone_has_its_own_rate_and_every_weight_is_in_one_group(tiny_config: TrainConfig, stores: Stores) -> None:
    task = denoiser_task(tiny_config, stores)
    backbone, rest = task.groups(tiny_config.denoiser)
    assert backbone["lr"] == tiny_config.denoiser.encoder_lr
    assert rest["lr"] == tiny_config.denoiser.lr
    assert {id(p) for p in backbone["params"]} == {id(p) for p in task.model.encoder.backbone.parameters()}
    together = [id(p) for p in (*backbone["params"], *rest["params"])]
    assert sorted(together) == sorted(id(p) for p in task.model.parameters())


class Call(NamedTuple):
    z: Tensor
    sigma: Tensor
    cond: list[Tensor]


class Listening(nn.Module):
    """Passes calls on to a denoiser and notes what it was given."""

    def __init__(self, inner: Callable[..., Tensor]) -> None:
        super().__init__()
        self.inner = inner
        self.calls: list[Call] = []

    def forward(self, z: Tensor, sigma: Tensor, cond: list[Tensor]) -> Tensor:
        self.calls.append(Call(z, sigma, cond))
        return self.inner(z, sigma, cond)


def heard(
    config: TrainConfig,
    stores: Stores,
    step: int,
    scale: float = 1.3,
    inner: Callable[..., Tensor] | None = None,
    hints: HintConfig = NO_HINTS,
    **losses: float,
) -> tuple[list[Call], dict[str, float]]:
    """Return what the denoiser (or ``inner`` in its place) is given for 64 views of one image, and the losses.

    The first call starts from pure noise, the last one is the second evaluation; both are trained.
    """
    task = denoiser_task(dataclasses.replace(config, loss=LossConfig(**losses), hints=hints), stores)
    task.latent_scale = scale
    task.model.denoiser = Listening(inner or task.model.denoiser)
    images, masks = stores[0].images[:1].expand(64, -1, -1, -1), stores[0].masks[:1].expand(64, -1, -1, -1)
    with torch.no_grad():
        _, parts = task.loss(images, masks, step, step_generator(0, step))
    return task.model.denoiser.calls, parts


def test_share_of_prompted_samples_at_the_top_level_is_as_configured(tiny_config: TrainConfig, stores: Stores) -> None:
    for top, low, high in ((0.0, 0, 1), (0.3, 8, 29), (1.0, 50, 64)):
        (*_, call), _ = heard(tiny_config, stores, 0, hints=HintConfig(share=1.0), top=top, recycle=0.0)
        assert call.sigma.min() > 0
        assert call.sigma.max() <= 80.0
        assert low <= (call.sigma > 79.9).sum() <= high


def test_unprompted_samples_are_denoised_from_the_top_once(tiny_config: TrainConfig, stores: Stores) -> None:
    (first, second), _ = heard(tiny_config, stores, 0, top=1.0, recycle=0.0)
    assert (first.sigma == 80.0).all()
    assert (second.sigma > 79.9).sum() <= 1


def test_of_several_noises_the_one_whose_estimate_is_nearest_is_learnt_from(
    tiny_config: TrainConfig, stores: Stores
) -> None:
    """The truth is 0 here, and the estimate the noise itself, so that the smallest noise is the nearest."""
    options = {"scale": 0.0, "inner": lambda z, *_: z / 80, "recycle": 0.0}
    (*candidates, first, _), _ = heard(tiny_config, stores, 0, candidates=3, **options)
    assert len(candidates) == 3
    noises = torch.stack([call.z for call in candidates])
    sizes = noises.square().mean((2, 3, 4))
    nearest = sizes.argmin(0)
    assert len(nearest.unique()) == 3
    assert torch.equal(first.z, noises[nearest, torch.arange(64)])
    (alone, _), _ = heard(tiny_config, stores, 0, **options)
    assert torch.equal(alone.z, noises[0]), "one noise is the first of several"


def test_without_diffusion_only_prompted_samples_are_asked_twice(tiny_config: TrainConfig, stores: Stores) -> None:
    config = dataclasses.replace(tiny_config, model=dataclasses.replace(tiny_config.model, method="direct"))
    (only,), parts = heard(config, stores, 0)
    assert len(only.z) == 64
    assert "second" not in parts
    (*_, last), parts = heard(config, stores, 0, hints=HintConfig(share=0.5))
    assert 15 < len(last.z) < 49
    assert parts["second"] > 0


def test_noise_has_the_level_that_the_denoiser_is_told(tiny_config: TrainConfig, stores: Stores) -> None:
    (_, call), _ = heard(tiny_config, stores, 0, scale=0.0, top=0.2, recycle=0.0)
    measured = call.z.flatten(1).std(dim=1) / call.sigma
    assert (measured - 1).abs().max() < 0.2  # 256 numbers a sample
    assert measured.mean().item() == pytest.approx(1.0, abs=0.02)


def test_latents_are_scaled_before_noise_and_unscaled_before_decoding(tiny_config: TrainConfig, stores: Stores) -> None:
    fixed = torch.randn(1, 4, 8, 8)
    options = {"step": 0, "top": 0.0, "recycle": 0.0}
    heard_at, parts_at = {}, {}
    for scale in (1.0, 3.0):
        (_, heard_at[scale]), parts_at[scale] = heard(
            tiny_config, stores, scale=scale, inner=lambda z, *_, scale=scale: (fixed * scale).expand_as(z), **options
        )
    (_, noise), _ = heard(tiny_config, stores, scale=0.0, inner=lambda z, *_: z, **options)
    clean = heard_at[1.0].z - noise.z
    assert clean.std() > 0.01
    torch.testing.assert_close(heard_at[3.0].z - noise.z, 3 * clean, rtol=1e-3, atol=1e-3)
    # an estimate that grows with the scale is the same mask, and is as far from the truth in units of the scale
    assert parts_at[3.0]["decoded"] == pytest.approx(parts_at[1.0]["decoded"], rel=1e-2)
    assert parts_at[3.0]["latent"] == pytest.approx(9 * parts_at[1.0]["latent"], rel=1e-2)


def test_score_unscales_the_sample_before_decoding(tiny_config: TrainConfig, stores: Stores) -> None:
    vae = MaskVAE(tiny_config.model.vae)
    with torch.no_grad():
        z = vae.encode(plain(stores[1].images, stores[1].masks, 64)[1])[0]
        bias = vae.decode(z).median()
        vae.decoder[-2].bias.sub_(bias)  # so that about half of the pixels are foreground
    scores = []
    for scale in (1.0, 100.0):
        task = DenoiserTask(tiny_config, vae, scale, stores[1], CPU)
        task.model.denoiser = Listening(lambda given, *_, scale=scale: z * scale)
        scores.append(task.score(task.model)["score"])
    assert 0.1 < scores[0] < 0.9
    assert scores[1] == pytest.approx(scores[0], abs=1e-3)


def of_condition_and_level(z: Tensor, sigma: Tensor, cond: list[Tensor]) -> Tensor:
    return (cond[0].mean(dim=(1, 2, 3)) + 1 + sigma / 80)[:, None, None, None].expand_as(z)


def correlation(one: Tensor, other: Tensor) -> float:
    return torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1].item()


def test_recycling_replaces_the_truth_below_the_top_level(tiny_config: TrainConfig, stores: Stores) -> None:
    options = {"step": 5, "top": 0.3, "scale": 0.0, "inner": of_condition_and_level}
    (_, still), _ = heard(tiny_config, stores, recycle=0.0, **options)
    (own, twice, last), _ = heard(tiny_config, stores, recycle=1.0, **options)
    assert torch.equal(last.sigma, still.sigma)
    below = last.sigma < 79.9
    assert below.sum() > 60
    # the first estimates are made from pure noise at the top level, fresh noise at that
    noise = still.z / last.sigma[:, None, None, None]
    assert (own.sigma == 80.0).all()
    assert own.z.std().item() == pytest.approx(80.0, rel=0.05)
    assert abs(correlation(own.z, noise)) < 0.05
    # one or two estimates with the condition of the same image take the place of the truth, which is 0 here, as are
    # the latents of corrupted masks
    base = (last.z - still.z).flatten(1)
    once = of_condition_and_level(own.z, own.sigma, last.cond).flatten(1)
    recycled = base[:, 0] > 0.1
    again = recycled & ((base - once).abs() > 1e-3).any(dim=1)
    assert again.sum() == len(twice.z)
    for part in (again, recycled & ~again, below & ~recycled):
        assert part.sum() > 5
    expected = of_condition_and_level(twice.z, twice.sigma, [level[again] for level in last.cond]).flatten(1)
    torch.testing.assert_close(base[again], expected, rtol=1e-3, atol=1e-4)
    # the second estimate is made on the way down: at a level between, from the first with fresh noise
    assert (twice.sigma >= last.sigma[again]).all()
    assert (twice.sigma < 80.0).all()
    added = (twice.z.flatten(1) - once[again]) / twice.sigma[:, None]
    assert added.std().item() == pytest.approx(1.0, rel=0.1)
    assert abs(correlation(added, noise[again])) < 0.1
    assert abs(correlation(added, own.z[again])) < 0.1


def test_recycling_starts_from_corrupted_masks_as_well(
    tiny_config: TrainConfig, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    truths: list[Tensor] = []

    def inverted(truth: Tensor, generator: torch.Generator) -> Tensor:
        truths.append(truth)
        return 1 - truth

    monkeypatch.setattr(train_denoiser, "corrupt", inverted)
    options = {"step": 5, "top": 0.0, "inner": lambda z, *_: torch.zeros_like(z)}
    (_, still), _ = heard(tiny_config, stores, recycle=0.0, **options)
    (*_, last), _ = heard(tiny_config, stores, recycle=1.0, **options)
    vae = denoiser_task(tiny_config, stores).vae
    with torch.no_grad():
        z0, rough = (vae.encode(mask)[0] * 1.3 for mask in (truths[-1], 1 - truths[-1]))
    base = last.z - still.z + z0
    corrupted = base.flatten(1).abs().amax(dim=1) > 1e-2
    assert 8 < corrupted.sum() < 32
    # the latents may have been computed in half precision
    torch.testing.assert_close(base[corrupted], rough[corrupted], rtol=0.05, atol=0.05)
    assert (rough - z0).abs().amax(dim=(1, 2, 3)).min() > 0.2


def test_recycling_waits_until_estimates_are_worth_it(tiny_config: TrainConfig, stores: Stores) -> None:
    config = dataclasses.replace(tiny_config, denoiser=dataclasses.replace(tiny_config.denoiser, steps=100))
    for step, recycled in ((4, False), (5, True)):
        (*_, still), _ = heard(config, stores, step, recycle=0.0)
        (*_, last), _ = heard(config, stores, step, recycle=1.0)
        assert torch.equal(last.z, still.z) is not recycled


def test_loss_is_the_weighted_sum_of_its_parts(tiny_config: TrainConfig, stores: Stores) -> None:
    _, parts = heard(tiny_config, stores, 0, latent=2.0, decoded=3.0, auxiliary=0.5)
    unprompted = 2.0 * parts["latent"] + 3.0 * parts["decoded"]
    expected = (unprompted + parts["second"]) / 2 + 0.5 * parts["auxiliary"]
    assert parts["loss"] == pytest.approx(expected, rel=1e-5)
    _, weighted = heard(tiny_config, stores, 0, boundary=5.0)
    assert weighted["latent"] == parts["latent"]
    assert abs(weighted["decoded"] - parts["decoded"]) > 1e-3


def test_auxiliary_heads_learn_from_every_level_of_the_condition(tiny_config: TrainConfig, stores: Stores) -> None:
    config = dataclasses.replace(tiny_config, loss=LossConfig(latent=0.0, decoded=0.0, auxiliary=1.0))
    task = denoiser_task(config, stores)
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    course = losses_of_one_batch(task, config, stores[0], 10)
    assert course[-1]["auxiliary"] < 0.8 * course[0]["auxiliary"]
    learnt = {name for name, value in task.model.state_dict().items() if not torch.equal(value, before[name])}
    for part in ("heads.0", "heads.1", "heads.2", "encoder.smooth.0", "encoder.smooth.2", "encoder.backbone"):
        assert any(name.startswith(part) for name in learnt)
    assert not any(name.startswith(("denoiser", "hint_encoder")) for name in learnt)


def changed(now: Tensor, before: Tensor) -> float:
    return (now != before).flatten(1).any(dim=1).float().mean().item()


def test_hints_are_drawn_on_own_estimates_round_by_round(
    tiny_config: TrainConfig, stores: Stores, awaken: Awaken
) -> None:
    config = dataclasses.replace(tiny_config, hints=HintConfig(share=1.0, rounds=3), loss=LossConfig(recycle=0.0))
    task = denoiser_task(config, stores)
    awaken(task.model.hint_encoder)
    task.model.denoiser = Listening(task.model.denoiser)
    images, masks = stores[0].images[:1].expand(64, -1, -1, -1), stores[0].masks[:1].expand(64, -1, -1, -1)
    with torch.no_grad():
        task.loss(images, masks, 0, seeded())
    own, second, third, last = task.model.denoiser.calls
    assert 64 > len(second.z) > len(third.z) > 0
    for call in (second, third):
        assert (call.sigma == 80.0).all()
        # the noise of the first estimate, and so the sample, can be told
        samples = [next(index for index in range(64) if torch.equal(own.z[index], z)) for z in call.z]
        assert len(set(samples)) == len(samples)
        assert torch.equal(call.cond[1], own.cond[1][samples])
        assert changed(call.cond[0], own.cond[0][samples]) > 0.9
    # what is trained sees the image and the hints on its own errors; at 64 pixels a few strokes hit no pixel
    assert changed(last.cond[0], own.cond[0]) > 0.9
    assert torch.equal(last.cond[1], own.cond[1])
    assert torch.equal(last.cond[2], own.cond[2])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_hint_encoder_learns_from_hints_and_only_from_them(
    share: float, tiny_config: TrainConfig, stores: Stores
) -> None:
    config = dataclasses.replace(tiny_config, hints=HintConfig(share=share))
    task = denoiser_task(config, stores)
    before = {name: value.clone() for name, value in task.model.hint_encoder.state_dict().items()}
    losses_of_one_batch(task, config, stores[0], 2)
    learnt = {
        name for name, value in task.model.hint_encoder.state_dict().items() if not torch.equal(value, before[name])
    }
    assert learnt == (set(before) if share else set())


def test_estimates_and_hints_leave_no_gradient_behind(tiny_config: TrainConfig, stores: Stores) -> None:
    task = denoiser_task(dataclasses.replace(tiny_config, hints=HintConfig(share=1.0)), stores)
    task.model.denoiser = Listening(task.model.denoiser)
    task.loss(stores[0].images, stores[0].masks, 3, seeded())
    first, *estimates, last = task.model.denoiser.calls
    assert estimates
    assert first.cond[0].requires_grad
    assert not any(call.z.requires_grad or call.cond[0].requires_grad for call in estimates)
    assert last.cond[0].requires_grad
    assert not last.z.requires_grad


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((), [64] * 6),
        ((32,), [32] * 6),
        ((32, 64), [32, 32, 32, 64, 64, 64]),
        ((32, 64, 96, 64), [32, 32, 64, 96, 96, 64]),
    ],
)
def test_sizes_take_equal_parts_of_the_steps(
    sizes: tuple[int, ...], expected: list[int], tiny_config: TrainConfig
) -> None:
    config = dataclasses.replace(tiny_config, sizes=sizes)
    assert [config.size_at(step, 6) for step in range(6)] == expected
    assert config.size_at(6, 6) == expected[-1]


def test_both_stages_begin_with_small_squares(
    tiny_config: TrainConfig, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(tiny_config, sizes=(32, 64))
    assert [heard(config, stores, step)[0][-1].z.shape[-1] for step in (1, 2)] == [4, 8]
    task, sides = vae_task(config, stores), []
    encode = task.model.encode
    monkeypatch.setattr(task.model, "encode", lambda mask: (sides.append(mask.shape[-1]), encode(mask))[1])
    for step in (2, 3):
        task.loss(stores[0].images, stores[0].masks, step, seeded())
    task.score(task.model)
    assert sides == [32, 64, 64]


def test_frozen_stages_keep_their_weights_while_the_rest_moves(tiny_config: TrainConfig, stores: Stores) -> None:
    config = dataclasses.replace(tiny_config, frozen_stages=2)
    task = denoiser_task(config, stores)
    frozen = {
        name
        for name, _ in task.model.encoder.backbone.named_parameters()
        if name.startswith(("conv_stem.", "bn1.", "blocks.0.", "blocks.1."))
    }
    before = {name: value.detach().clone() for name, value in task.model.encoder.named_parameters()}
    groups = task.groups(config.denoiser)
    optimiser = torch.optim.AdamW(groups)
    task.model.train()
    loss, _ = task.loss(stores[0].images, stores[0].masks, 3, seeded())
    loss.backward()
    optimiser.step()
    kept = {name for name, value in task.model.encoder.named_parameters() if torch.equal(value, before[name])}
    assert kept == {f"backbone.{name}" for name in frozen}
    given = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(given) == sorted(id(p) for p in task.model.parameters() if p.requires_grad)


@pytest.fixture
def direct_config(tiny_config: TrainConfig) -> TrainConfig:
    """The control without diffusion."""
    return dataclasses.replace(tiny_config, model=dataclasses.replace(tiny_config.model, method="direct"))


def test_direct_method_learns_two_phantoms_with_its_decoder(direct_config: TrainConfig, stores: Stores) -> None:
    direct_config = dataclasses.replace(direct_config, hints=NO_HINTS)  # a hint asks for a second evaluation
    task = denoiser_task(direct_config, stores)
    before = {name: value.clone() for name, value in task.vae.state_dict().items()}
    course = losses_of_one_batch(task, direct_config, stores[0], 25)
    assert course[-1]["decoded"] < 0.6 * course[0]["decoded"]
    assert course[-1]["loss"] == pytest.approx(course[-1]["decoded"])
    learnt = {name for name, value in task.vae.state_dict().items() if not torch.equal(value, before[name])}
    assert learnt == {name for name in before if name.startswith("decoder.")}
    assert task.decode(task.model, torch.ones(1, 4, 8, 8)).requires_grad


def test_direct_method_never_sees_noise(direct_config: TrainConfig, stores: Stores) -> None:
    task = denoiser_task(dataclasses.replace(direct_config, hints=HintConfig(share=1.0)), stores)
    task.model.denoiser = Listening(task.model.denoiser)
    task.loss(stores[0].images, stores[0].masks, 3, seeded())
    trained = len(task.model.denoiser.calls)
    assert task.score(task.model).keys() == {"score", "dice_1"}
    calls = task.model.denoiser.calls
    assert len(calls) > trained > 1
    assert not any(call.z.any() for call in calls)
    assert all((call.sigma == 80.0).all() for call in calls)


def test_only_the_direct_method_has_a_decoder_of_its_own(
    tiny_config: TrainConfig, direct_config: TrainConfig, stores: Stores
) -> None:
    plain_task, direct_task = (denoiser_task(config, stores) for config in (tiny_config, direct_config))
    assert not [name for name in plain_task.model.state_dict() if name.startswith("decoder.")]
    assert not any(parameter.requires_grad for parameter in plain_task.vae.parameters())
    own = {name: value for name, value in direct_task.model.state_dict().items() if name.startswith("decoder.")}
    z = torch.randn(1, 4, 8, 8)
    averaged = copy.deepcopy(direct_task.model)
    averaged.decoder[-2].bias.data += 7.0
    assert own
    torch.testing.assert_close(direct_task.decode(averaged, z), direct_task.decode(direct_task.model, z) + 7.0)


def test_latent_scale_brings_the_latents_to_unit_variance(tiny_config: TrainConfig, stores: Stores) -> None:
    vae = MaskVAE(tiny_config.model.vae)
    scale = measure_latent_scale(vae, stores[0], 64, CPU)
    with torch.no_grad():
        latents = vae.encode(plain(stores[0].images, stores[0].masks, 64)[1])[0] * scale
    assert latents.std(correction=0).item() == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("build", [vae_task, denoiser_task])
def test_score_is_repeatable_and_draws_no_global_randomness(
    build: Callable[..., Task], tiny_config: TrainConfig, stores: Stores
) -> None:
    task = build(tiny_config, stores)
    task.model.eval()
    first = task.score(task.model)
    torch.manual_seed(55)
    assert task.score(task.model) == first
    assert torch.initial_seed() == 55
    assert all(0 <= value <= 1 for value in first.values())
    if build is denoiser_task:
        assert first["score"] == pytest.approx((first["dice_1"] + first["dice_4"] + first["dice_10"]) / 3)


def test_score_of_a_perfect_reconstruction_is_one(tiny_config: TrainConfig, stores: Stores) -> None:
    class Perfect(MaskVAE):
        def encode(self, mask: Tensor) -> tuple[Tensor, Tensor]:
            return mask, mask

        def decode(self, z: Tensor) -> Tensor:
            return z - 0.5

    task = vae_task(tiny_config, stores)
    assert task.score(Perfect(tiny_config.model.vae)) == {"score": 1.0, "worst": 1.0}


@pytest.fixture
def short_config(tiny_config: TrainConfig) -> TrainConfig:
    return dataclasses.replace(
        tiny_config,
        vae=dataclasses.replace(tiny_config.vae, steps=2),
        denoiser=dataclasses.replace(tiny_config.denoiser, steps=2, validate_every=1),
    )


def test_training_goes_through_both_stages_and_leaves_what_a_bundle_needs(
    short_config: TrainConfig, stores: Stores, folder: Path
) -> None:
    reports = list(train(short_config, stores, folder / "out"))
    assert list(dict.fromkeys(stage for stage, _ in reports)) == ["vae", "denoiser"]
    networks, measures = collect(short_config, folder / "out")
    assert not networks.encoder.training
    assert networks.latent_scale > 0
    assert {"step", "score", "dice_1", "dice_4", "dice_10"} <= measures.keys()
    rows = [json.loads(line) for line in (folder / "out" / "log.jsonl").read_text().splitlines()]
    assert [(row["stage"], row["step"]) for row in rows] == [(stage, report.step) for stage, report in reports]
    # what is finished is not done again, and another config may not go on in the folder
    assert list(train(short_config, stores, folder / "out")) == []
    with pytest.raises(LSegDiffError, match=r"config\.json: holds a training with another config"):
        list(train(dataclasses.replace(short_config, seed=9), stores, folder / "out"))


@pytest.mark.parametrize("method", ["diffusion", "direct"])
def test_collected_networks_have_the_weights_that_were_scored(
    method: str, short_config: TrainConfig, stores: Stores, folder: Path
) -> None:
    config = dataclasses.replace(short_config, model=dataclasses.replace(short_config.model, method=method))
    list(train(config, stores, folder / "out"))
    networks, _ = collect(config, folder / "out", "last")
    stage_one = load_checkpoint(folder / "out" / "vae" / "best.pt")["ema"]
    averaged = load_checkpoint(folder / "out" / "denoiser" / "last.pt")["ema"]
    for part in ("encoder", "hint_encoder", "denoiser"):
        state = getattr(networks, part).state_dict()
        assert equal(state, {name: averaged[f"{part}.{name}"] for name in state})
    decoder = networks.vae.decoder.state_dict()
    first = {name: stage_one[f"decoder.{name}"] for name in decoder}
    if method == "direct":
        assert equal(decoder, {name: averaged[f"decoder.{name}"] for name in decoder})
        assert not equal(decoder, first)
    else:
        assert equal(decoder, first)
    encoder = networks.vae.encoder.state_dict()
    assert equal(encoder, {name: stage_one[f"encoder.{name}"] for name in encoder})


def test_backbone_weights_are_loaded_and_the_classifier_left_out(tiny_config: TrainConfig, folder: Path) -> None:
    source, target = (ConditionalDenoiser(tiny_config.model, MaskVAE(tiny_config.model.vae)) for _ in range(2))
    weights = {name: value.clone() for name, value in source.encoder.backbone.state_dict().items()}
    save_file({**weights, "classifier.bias": torch.zeros(3)}, folder / "w.safetensors")
    assert not equal(target.encoder.backbone.state_dict(), weights)
    target.encoder.backbone.load_state_dict(load_backbone(folder / "w.safetensors"))
    state = target.encoder.backbone.state_dict()
    assert all(torch.equal(state[name].float(), weights[name].float()) for name in weights)


def test_backbone_file_that_does_not_fit_is_named(folder: Path) -> None:
    path = folder / "w.safetensors"
    with pytest.raises(LSegDiffError, match=r"w\.safetensors: not a safetensors file"):
        load_backbone(path)
    path.write_bytes(b"x" * 100)
    with pytest.raises(LSegDiffError, match=r"w\.safetensors: not a safetensors file"):
        load_backbone(path)
    save_file({"conv_stem.weight": torch.zeros(32, 3, 3, 3)}, path)
    with pytest.raises(LSegDiffError, match=r"w\.safetensors: lacks 'bn1\.weight'"):
        load_backbone(path)
