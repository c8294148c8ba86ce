import math

import pytest
import torch

from lsegdiff_core.diffusion.schedule import sampling_sigmas, sigma_at, time_at


@pytest.mark.parametrize("steps", [1, 2, 4, 10, 50])
@pytest.mark.parametrize("sigma_max", [1.0, 80.0, 500.0])
def test_sampling_levels_fall_from_sigma_max_to_zero(steps: int, sigma_max: float) -> None:
    sigmas = sampling_sigmas(steps, sigma_max)
    assert sigmas.shape == (steps + 1,)
    assert sigmas.dtype == torch.float64
    assert sigmas[0].item() == sigma_max
    assert sigmas[-1].item() == 0.0
    assert (sigmas.diff() < 0).all()


def test_one_step_goes_from_sigma_max_to_zero_at_once() -> None:
    assert sampling_sigmas(1, 80.0).tolist() == [80.0, 0.0]


def test_levels_are_evenly_spaced_in_the_angle_of_the_cosine_schedule() -> None:
    angles = torch.atan(sampling_sigmas(7, 80.0))
    expected = torch.full((7,), -math.atan(80.0) / 7, dtype=torch.float64)
    torch.testing.assert_close(angles.diff(), expected, rtol=0, atol=1e-12)


def test_half_time_is_sigma_one() -> None:
    assert sigma_at(torch.tensor(0.5, dtype=torch.float64)).item() == pytest.approx(1.0, abs=1e-12)
    assert sigma_at(torch.tensor(0.0)).item() == 0.0


def test_schedule_is_the_cosine_schedule_in_variance_preserving_coordinates() -> None:
    time = torch.linspace(0, 0.99, 12, dtype=torch.float64)
    alpha = 1 / (1 + sigma_at(time) ** 2).sqrt()
    torch.testing.assert_close(alpha, torch.cos(time * math.pi / 2), rtol=0, atol=1e-12)


@pytest.mark.parametrize("sigma", [0.01, 0.5, 1.0, 13.0, 80.0])
def test_time_at_inverts_sigma_at(sigma: float) -> None:
    time = time_at(sigma)
    assert 0 < time < 1
    assert sigma_at(torch.tensor(time, dtype=torch.float64)).item() == pytest.approx(sigma, rel=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 4, 10, 50])
@pytest.mark.parametrize("strength", [0.1, 0.5, 0.999])
def test_partial_strength_starts_lower_and_falls_to_zero(steps: int, strength: float) -> None:
    sigmas = sampling_sigmas(steps, 80.0, strength)
    assert sigmas.shape == (steps + 1,)
    assert sigmas[0].item() == pytest.approx(math.tan(strength * math.atan(80.0)), rel=1e-12)
    assert sigmas[-1].item() == 0.0
    assert (sigmas.diff() < 0).all()


def test_full_strength_changes_nothing() -> None:
    assert torch.equal(sampling_sigmas(5, 80.0, 1.0), sampling_sigmas(5, 80.0))
    assert sampling_sigmas(5, 80.0, 1.0)[0].item() == 80.0
