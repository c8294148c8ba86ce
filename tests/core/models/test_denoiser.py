from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lsegdiff_core.config import DenoiserConfig, ModelConfig
from lsegdiff_core.models.denoiser import Denoiser


@pytest.fixture
def denoiser(tiny_model: ModelConfig, awaken: Callable[[nn.Module], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return awaken(Denoiser(tiny_model.denoiser))


def inputs(batch: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    torch.manual_seed(1)
    cond = [torch.randn(batch, 16, side, side) for side in (8, 4, 2)]
    return torch.randn(batch, 4, 8, 8), torch.rand(batch) * 20 + 0.1, cond


def test_estimate_has_the_shape_of_the_latent(denoiser: nn.Module) -> None:
    z, sigma, cond = inputs(3)
    assert denoiser(z, sigma, cond).shape == z.shape


def test_default_denoiser_keeps_to_its_budget() -> None:
    assert sum(p.numel() for p in Denoiser(DenoiserConfig()).parameters()) < 4_600_000


def test_samples_do_not_mix_within_a_batch(denoiser: nn.Module) -> None:
    z, sigma, cond = inputs(4)
    together = denoiser(z, sigma, cond)
    for index in range(4):
        one = slice(index, index + 1)
        alone = denoiser(z[one], sigma[one], [level[one] for level in cond])
        torch.testing.assert_close(alone, together[one], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changed", ["z", "sigma", "stride 8", "stride 16", "stride 32"])
def test_estimate_depends_on_every_input(denoiser: nn.Module, changed: str) -> None:
    z, sigma, cond = inputs(1)
    before = denoiser(z, sigma, cond)
    if changed == "z":
        z = z + 1
    elif changed == "sigma":
        sigma, z = sigma * 3, z * ((1 + 9 * sigma**2) / (1 + sigma**2)).sqrt()  # the scaled input stays the same
    else:
        cond[["stride 8", "stride 16", "stride 32"].index(changed)] += 1
    assert (denoiser(z, sigma, cond) - before).abs().max() > 1e-3


def test_input_is_scaled_to_unit_variance(tiny_model: ModelConfig) -> None:
    """Before training nothing but c_in = 1 / sqrt(1 + sigma^2) depends on sigma."""
    denoiser = Denoiser(tiny_model.denoiser)
    clean, _, cond = inputs(2)
    levels = torch.tensor([0.5, 80.0])
    z = clean[:1] * (1 + levels**2).sqrt()[:, None, None, None]
    same = denoiser(z, levels, [level[:1].repeat(2, 1, 1, 1) for level in cond])
    torch.testing.assert_close(same[0], same[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sigma", [1e-4, 80.0, 1e4])
def test_estimate_is_of_the_latents_size_at_any_level(denoiser: nn.Module, sigma: float) -> None:
    z, _, cond = inputs(2)
    out = denoiser(z * (1 + sigma), torch.full((2,), sigma), cond)
    assert out.isfinite().all()
    assert out.abs().max() < 100


def test_every_weight_learns(denoiser: nn.Module) -> None:
    denoiser(*inputs(2)).square().mean().backward()
    assert [name for name, p in denoiser.named_parameters() if p.grad is None or not p.grad.any()] == []
