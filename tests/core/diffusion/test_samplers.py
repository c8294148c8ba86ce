"""Samplers against closed-form answers; test_samplers_diffusers.py compares them with another implementation."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lsegdiff_core.config import SAMPLER_NAMES
from lsegdiff_core.diffusion.samplers import SAMPLERS, Denoise, Step, ddim, ddpm
from lsegdiff_core.diffusion.schedule import sampling_sigmas

SPREAD = 0.7  # standard deviation of the Gaussian data distribution


def gaussian(z: Tensor, sigma: float) -> Tensor:
    """The ideal denoiser when the data are N(0, SPREAD^2)."""
    return z * SPREAD**2 / (SPREAD**2 + sigma**2)


def counting(denoise: Denoise) -> tuple[Denoise, list[float]]:
    levels: list[float] = []

    def counted(z: Tensor, sigma: float) -> Tensor:
        levels.append(sigma)
        return denoise(z, sigma)

    return counted, levels


def draws(shape: tuple[int, ...], seed: int = 1) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(shape, generator=generator, dtype=torch.float64)


def never() -> Tensor:
    pytest.fail("a deterministic sampler drew noise")


def run(name: str, denoise: Denoise, z: Tensor, sigmas: Tensor) -> list[Step]:
    return list(SAMPLERS[name](denoise, z, sigmas, draws(tuple(z.shape))))


def test_configuration_offers_exactly_the_samplers_that_exist() -> None:
    assert tuple(SAMPLERS) == SAMPLER_NAMES


@pytest.mark.parametrize("name", SAMPLER_NAMES)
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_a_constant_denoiser_is_the_sample(name: str, steps: int) -> None:
    target = torch.linspace(-2, 2, 12, dtype=torch.float64).reshape(1, 3, 2, 2)
    z = draws((1, 3, 2, 2), seed=0)() * 80
    *_, last = run(name, lambda z, sigma: target, z, sampling_sigmas(steps, 80.0))
    # heun divides by sigma and multiplies again, which rounds; the others end on the estimate itself
    torch.testing.assert_close(last.z, target, rtol=0, atol=1e-12 if name == "heun" else 0)
    torch.testing.assert_close(last.denoised, target, rtol=0, atol=0)


@pytest.mark.parametrize("name", SAMPLER_NAMES)
def test_a_single_step_returns_the_first_estimate(name: str) -> None:
    z = draws((2, 1, 2, 2), seed=0)() * 80
    (step,) = run(name, lambda z, sigma: torch.tanh(z / sigma), z, sampling_sigmas(1, 80.0))
    torch.testing.assert_close(step.z, torch.tanh(z / 80.0), rtol=0, atol=1e-13)


@pytest.mark.parametrize(("name", "evaluations"), [("ddim", 6), ("heun", 11), ("dpmpp_2m", 6), ("ddpm", 6)])
def test_network_evaluations_in_six_steps(name: str, evaluations: int) -> None:
    denoise, levels = counting(gaussian)
    sigmas = sampling_sigmas(6, 80.0)
    run(name, denoise, draws((1, 1, 2, 2))(), sigmas)
    assert len(levels) == evaluations
    assert min(levels) > 0, "no network is defined at sigma = 0"
    assert set(levels) == set(sigmas[:-1].tolist())


@pytest.mark.parametrize("name", SAMPLER_NAMES)
def test_steps_report_their_index_and_level(name: str) -> None:
    sigmas = sampling_sigmas(5, 80.0)
    z = draws((2, 4, 3, 3))() * 80
    before = z.clone()
    steps = run(name, gaussian, z, sigmas)
    assert [step.i for step in steps] == [0, 1, 2, 3, 4]
    assert [step.sigma for step in steps] == sigmas[1:].tolist()
    assert all(step.z.shape == step.denoised.shape == z.shape for step in steps)
    assert torch.equal(z, before), "the caller's noise was overwritten"


@pytest.mark.parametrize("name", SAMPLER_NAMES)
def test_a_sampler_that_is_closed_evaluates_no_further(name: str) -> None:
    denoise, levels = counting(gaussian)
    steps = SAMPLERS[name](denoise, draws((1, 1, 2, 2))(), sampling_sigmas(10, 80.0), draws((1, 1, 2, 2)))
    assert not levels
    next(steps)
    done = len(levels)
    steps.close()  # type: ignore[attr-defined]
    assert len(levels) == done <= 2


@pytest.mark.parametrize("name", ["ddim", "heun", "dpmpp_2m"])
def test_deterministic_samplers_draw_no_noise(name: str) -> None:
    assert list(SAMPLERS[name](gaussian, torch.ones(1, 1, 1, 1), sampling_sigmas(3, 80.0), never))


def ode_rates(name: str, grids: list[Tensor]) -> list[float]:
    """Return log2 of the ratios of the errors at the end of each grid and the one twice as fine."""
    errors = []
    for sigmas in grids:
        z = sigmas[:1].reshape(1, 1, 1, 1)
        exact = (z * ((SPREAD**2 + sigmas[-1] ** 2) / (SPREAD**2 + sigmas[0] ** 2)).sqrt()).item()
        *_, last = run(name, gaussian, z, sigmas)
        errors.append(abs(last.z.item() - exact))
    assert errors[-1] < 0.01 * exact
    return [math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]


@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("heun", 2), ("dpmpp_2m", 2)])
@pytest.mark.parametrize("sigma_max", [3.0, 80.0])
def test_ode_solvers_converge_at_their_order_on_a_geometric_grid(name: str, order: int, sigma_max: float) -> None:
    ends = math.log(sigma_max), math.log(0.05)
    grids = [torch.linspace(*ends, steps + 1, dtype=torch.float64).exp() for steps in (80, 160, 320)]
    assert ode_rates(name, grids) == pytest.approx([order, order], abs=0.06)


# dpmpp_2m works in ln sigma, where our last steps are ever longer: its error there falls as h^2 ln h
@pytest.mark.parametrize(("name", "low", "high"), [("ddim", 0.95, 1.05), ("heun", 1.9, 2.2), ("dpmpp_2m", 1.6, 2.1)])
@pytest.mark.parametrize("sigma_max", [3.0, 80.0])
def test_ode_solvers_converge_at_their_order_on_our_levels(
    name: str, low: float, high: float, sigma_max: float
) -> None:
    (rate,) = ode_rates(name, [sampling_sigmas(steps, sigma_max) for steps in (200, 400)])
    assert low < rate < high


@pytest.mark.parametrize("name", ["heun", "dpmpp_2m"])
def test_second_order_pays_at_twenty_steps(name: str) -> None:
    z, sigmas = torch.full((1, 1, 1, 1), 80.0, dtype=torch.float64), sampling_sigmas(20, 80.0)
    exact = 80.0 * SPREAD / math.hypot(SPREAD, 80.0)
    errors = [abs(run(solver, gaussian, z, sigmas)[-1].z.item() - exact) for solver in (name, "ddim")]
    assert errors[0] < errors[1] / 5


def test_ode_trajectory_follows_the_closed_form_at_every_level() -> None:
    z = torch.full((1, 1, 1, 1), 80.0, dtype=torch.float64)
    for step in run("heun", gaussian, z, sampling_sigmas(400, 80.0)):
        exact = 80.0 * math.sqrt((SPREAD**2 + step.sigma**2) / (SPREAD**2 + 80.0**2))
        assert step.z.item() == pytest.approx(exact, rel=2e-3)


def test_ddpm_has_the_variance_that_its_posterior_gives() -> None:
    """The state stays Gaussian, so its variance follows a recursion with coefficients from Ho et al., eq. 7."""
    sigmas, shape = sampling_sigmas(8, 20.0), (100_000, 1, 1, 1)
    variance = SPREAD**2 + 20.0**2
    steps = ddpm(gaussian, draws(shape, seed=2)() * math.sqrt(variance), sigmas, draws(shape))
    now = 20.0
    for step in steps:
        then = step.sigma
        abar_now, abar_then = 1 / (1 + now**2), 1 / (1 + then**2)
        beta = 1 - abar_now / abar_then
        # both coefficients turned from x = z sqrt(abar) into z
        of_denoised = math.sqrt(abar_then) * beta / (1 - abar_now) / math.sqrt(abar_then)
        of_state = math.sqrt(abar_now / abar_then) * (1 - abar_then) / (1 - abar_now) * math.sqrt(abar_now / abar_then)
        noise = beta * (1 - abar_then) / (1 - abar_now) / abar_then
        variance *= (of_state + of_denoised * SPREAD**2 / (SPREAD**2 + now**2)) ** 2
        variance += noise
        assert step.z.var().item() == pytest.approx(variance, rel=0.02)  # 4.5 standard errors
        now = then


def test_ddpm_samples_have_the_variance_of_the_data() -> None:
    shape = (20_000, 1, 1, 1)
    z = draws(shape, seed=2)() * math.hypot(SPREAD, 80.0)
    *_, last = ddpm(gaussian, z, sampling_sigmas(300, 80.0), draws(shape))
    assert last.z.var().item() == pytest.approx(SPREAD**2, rel=0.04)
    assert last.z.mean().item() == pytest.approx(0.0, abs=0.02)


def test_ddpm_adds_no_noise_in_the_last_step() -> None:
    count = 0

    def noise() -> Tensor:
        nonlocal count
        count += 1
        return torch.zeros(1, 1, 1, 1)

    list(ddpm(gaussian, torch.ones(1, 1, 1, 1), sampling_sigmas(5, 80.0), noise))
    assert count == 4


def test_sampling_can_start_at_partial_strength() -> None:
    sigmas = sampling_sigmas(10, 80.0)[6:]
    z = draws((1, 1, 2, 2))() * sigmas[0]
    steps = list(ddim(gaussian, z, sigmas, never))
    assert [step.i for step in steps] == [0, 1, 2, 3]
    exact = z * SPREAD / math.sqrt(SPREAD**2 + sigmas[0].item() ** 2)
    torch.testing.assert_close(steps[-1].z, exact, rtol=0.2, atol=0)
