"""Both stages with their real losses, on phantoms, 64 x 64 pixels."""

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

from lsegdiff_core.config import LossConfig, TrainConfig
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.models.mask_vae import MaskVAE
from lsegdiff_core.training.augment import plain
from lsegdiff_core.training.checkpoint import load_checkpoint
from lsegdiff_core.training.datasets import Store
from lsegdiff_core.training.loop import Task, fit, step_generator
from lsegdiff_core.training.run import collect, load_backbone, train
from lsegdiff_core.training.train_denoiser import ConditionalDenoiser, DenoiserTask
from lsegdiff_core.training.train_vae import VAETask, measure_latent_scale

CPU = torch.device("cpu")
Stores = tuple[Store, Store]


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
    **losses: float,
) -> tuple[list[Call], dict[str, float]]:
    """Return what the denoiser (or ``inner`` in its place) is given for 64 views of one image, and the losses."""
    task = denoiser_task(dataclasses.replace(config, loss=LossConfig(**losses)), stores)
    task.latent_scale = scale
    task.model.denoiser = Listening(inner or task.model.denoiser)
    images, masks = stores[0].images[:1].expand(64, -1, -1, -1), stores[0].masks[:1].expand(64, -1, -1, -1)
    with torch.no_grad():
        _, parts = task.loss(images, masks, step, step_generator(0, step))
    return task.model.denoiser.calls, parts


def test_share_at_the_top_level_is_as_configured(tiny_config: TrainConfig, stores: Stores) -> None:
    for top, low, high in ((0.0, 0, 1), (0.3, 10, 29), (1.0, 64, 64)):
        (call,), _ = heard(tiny_config, stores, 0, top=top, recycle=0.0)
        assert call.sigma.min() > 0
        assert call.sigma.max() <= 80.0
        assert low <= (call.sigma > 79.9).sum() <= high


def test_noise_has_the_level_that_the_denoiser_is_told(tiny_config: TrainConfig, stores: Stores) -> None:
    (call,), _ = heard(tiny_config, stores, 0, scale=0.0, top=0.2, recycle=0.0)
    measured = call.z.flatten(1).std(dim=1) / call.sigma
    assert (measured - 1).abs().max() < 0.2  # 256 numbers a sample
    assert measured.mean().item() == pytest.approx(1.0, abs=0.02)


def test_latents_are_scaled_before_noise_and_unscaled_before_decoding(tiny_config: TrainConfig, stores: Stores) -> None:
    fixed = torch.randn(1, 4, 8, 8)
    options = {"step": 0, "top": 0.0, "recycle": 0.0}
    heard_at, parts_at = {}, {}
    for scale in (1.0, 3.0):
        (heard_at[scale],), parts_at[scale] = heard(
            tiny_config, stores, scale=scale, inner=lambda z, *_, scale=scale: (fixed * scale).expand_as(z), **options
        )
    (noise,), _ = heard(tiny_config, stores, scale=0.0, inner=lambda z, *_: z, **options)
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


def of_condition(z: Tensor, sigma: Tensor, cond: list[Tensor]) -> Tensor:
    return cond[0].mean(dim=(1, 2, 3))[:, None, None, None].expand_as(z)


def test_recycling_replaces_the_truth_below_the_top_level(tiny_config: TrainConfig, stores: Stores) -> None:
    options = {"step": 5, "top": 0.3, "scale": 0.0, "inner": of_condition}
    (plain_call,), _ = heard(tiny_config, stores, recycle=0.0, **options)
    (first, second), _ = heard(tiny_config, stores, recycle=1.0, **options)
    assert torch.equal(second.sigma, plain_call.sigma)
    below = second.sigma < 79.9
    assert 20 < below.sum() < 64
    # the estimate is made from pure noise at the top level, fresh noise at that ...
    assert len(first.z) == below.sum()
    assert (first.sigma == 80.0).all()
    assert first.z.std().item() == pytest.approx(80.0, rel=0.05)
    noise = plain_call.z[below] / second.sigma[below][:, None, None, None]
    assert torch.corrcoef(torch.stack([first.z.flatten(), noise.flatten()]))[0, 1].abs() < 0.05
    # ... with the condition of the same image, and takes the place of the truth (here 0)
    estimate = of_condition(second.z, second.sigma, second.cond)
    expected = torch.where(below[:, None, None, None], estimate, torch.zeros(()))
    torch.testing.assert_close(second.z - plain_call.z, expected, rtol=1e-3, atol=1e-4)
    assert estimate.flatten(1)[:, 0].std() > 1e-3


def test_recycling_waits_until_estimates_are_worth_it(tiny_config: TrainConfig, stores: Stores) -> None:
    config = dataclasses.replace(tiny_config, denoiser=dataclasses.replace(tiny_config.denoiser, steps=100))
    assert [len(heard(config, stores, step, recycle=1.0)[0]) for step in (4, 5)] == [1, 2]


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
    short_config: TrainConfig, folder: Path
) -> None:
    reports = list(train(short_config, folder, folder, folder / "out"))
    assert list(dict.fromkeys(stage for stage, _ in reports)) == ["vae", "denoiser"]
    networks, measures = collect(short_config, folder / "out")
    assert not networks.encoder.training
    assert networks.latent_scale > 0
    assert {"step", "score", "dice_1", "dice_4", "dice_10"} <= measures.keys()
    rows = [json.loads(line) for line in (folder / "out" / "log.jsonl").read_text().splitlines()]
    assert [(row["stage"], row["step"]) for row in rows] == [(stage, report.step) for stage, report in reports]
    # what is finished is not done again, and another config may not go on in the folder
    assert list(train(short_config, folder, folder, folder / "out")) == []
    with pytest.raises(LSegDiffError, match=r"config\.json: holds a training with another config"):
        list(train(dataclasses.replace(short_config, seed=9), folder, folder, folder / "out"))


def test_backbone_weights_are_loaded_and_the_classifier_left_out(tiny_config: TrainConfig, folder: Path) -> None:
    source, target = (ConditionalDenoiser(tiny_config.model) for _ in range(2))
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
