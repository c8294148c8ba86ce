"""The same trajectories as diffusers' schedulers, at our noise levels, with a nonlinear denoiser."""

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
)
from torch import Tensor

from lsegdiff_core.diffusion.samplers import SAMPLERS
from lsegdiff_core.diffusion.schedule import sampling_sigmas

# diffusers calls np.array on tensors
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")

SHAPE = (2, 3, 4, 4)
STEPS = pytest.mark.parametrize("steps", [1, 2, 5, 12, 30])


def denoise(z: Tensor, sigma: float) -> Tensor:
    scaled = z / (1 + sigma**2) ** 0.5
    return 0.9 * torch.tanh(1.4 * scaled + 0.2) + 0.1 * torch.sin(3 * scaled) / (1 + sigma)


def noise(seed: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def ours(
    name: str, steps: int, dtype: torch.dtype, sigma_max: float = 80.0
) -> tuple[Tensor, list[Tensor], list[float]]:
    """Return the starting point, our states after each step, and all levels."""
    sigmas = sampling_sigmas(steps, sigma_max)
    start = noise(0, dtype) * sigma_max
    generator = torch.Generator().manual_seed(7)
    states = SAMPLERS[name](denoise, start, sigmas, lambda: torch.randn(SHAPE, generator=generator, dtype=dtype))
    return start, [step.z for step in states], sigmas.tolist()


def compare(theirs: list[Tensor], mine: list[Tensor]) -> None:
    assert len(theirs) == len(mine)
    for other, own in zip(theirs, mine, strict=True):
        torch.testing.assert_close(other.to(own.dtype), own, rtol=1e-5, atol=1e-5)


def variance_preserving(kind: type, levels: list[float], **options: object) -> object:
    """A discrete scheduler whose timestep t has our noise level number N - 1 - t."""
    steps = len(levels) - 1
    scheduler = kind(num_train_timesteps=steps, prediction_type="sample", clip_sample=False, **options)
    scheduler.alphas_cumprod = 1 / (1 + torch.tensor(levels[-2::-1], dtype=torch.float64) ** 2)
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps.tolist() == list(range(steps))[::-1]
    return scheduler


@STEPS
def test_ddim_is_diffusers_ddim_in_variance_preserving_coordinates(steps: int) -> None:
    z, mine, levels = ours("ddim", steps, torch.float64)
    scheduler = variance_preserving(DDIMScheduler, levels, set_alpha_to_one=True)
    theirs = []
    for index, timestep in enumerate(scheduler.timesteps):
        x = z / (1 + levels[index] ** 2) ** 0.5
        x = scheduler.step(denoise(z, levels[index]), int(timestep), x, eta=0.0).prev_sample
        z = x * (1 + levels[index + 1] ** 2) ** 0.5
        theirs.append(z)
    compare(theirs, mine)


@STEPS
def test_ddpm_is_diffusers_ddpm_posterior(steps: int) -> None:
    z, mine, levels = ours("ddpm", steps, torch.float64)
    scheduler = variance_preserving(DDPMScheduler, levels, variance_type="fixed_small")
    generator = torch.Generator().manual_seed(7)
    theirs = []
    for index, timestep in enumerate(scheduler.timesteps):
        x = z / (1 + levels[index] ** 2) ** 0.5
        x = scheduler.step(denoise(z, levels[index]), int(timestep), x, generator=generator).prev_sample
        z = x * (1 + levels[index + 1] ** 2) ** 0.5
        theirs.append(z)
    compare(theirs, mine)


@STEPS
@pytest.mark.parametrize(
    ("name", "kind"), [("ddim", EulerDiscreteScheduler), ("ddpm", EulerAncestralDiscreteScheduler)]
)
def test_ddim_and_ddpm_are_euler_and_euler_ancestral(name: str, kind: type, steps: int) -> None:
    # both compute in float32, where the last bit of a state at sigma 80 is already 1e-5
    z, mine, levels = ours(name, steps, torch.float32, sigma_max=10.0)
    # only one of the two takes z0; both take the slope
    scheduler = kind(prediction_type="epsilon")
    scheduler.set_timesteps(steps)
    scheduler.sigmas = torch.tensor(levels)
    scheduler.set_begin_index(0)
    scheduler.is_scale_input_called = True
    generator = torch.Generator().manual_seed(7)
    theirs = []
    for index, timestep in enumerate(scheduler.timesteps):
        slope = (z - denoise(z, levels[index])) / levels[index]
        z = scheduler.step(slope, timestep, z, generator=generator).prev_sample
        theirs.append(z)
    compare(theirs, mine)


@STEPS
def test_heun_is_diffusers_heun(steps: int) -> None:
    z, mine, levels = ours("heun", steps, torch.float64)
    scheduler = HeunDiscreteScheduler(prediction_type="sample")
    scheduler.set_timesteps(steps)
    sigmas = torch.tensor(levels, dtype=torch.float64)
    scheduler.sigmas = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
    scheduler.set_begin_index(0)
    assert len(scheduler.timesteps) == 2 * steps - 1
    theirs = []
    for index, timestep in enumerate(scheduler.timesteps):
        z = scheduler.step(denoise(z, levels[(index + 1) // 2]), timestep, z).prev_sample
        if index % 2 == 1 or index == 2 * steps - 2:
            theirs.append(z)
    compare(theirs, mine)


@STEPS
def test_dpmpp_2m_is_diffusers_multistep_dpm_solver(steps: int) -> None:
    z, mine, levels = ours("dpmpp_2m", steps, torch.float32)
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="sample",
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        lower_order_final=False,
        euler_at_final=True,
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(steps)
    scheduler.sigmas = torch.tensor(levels, dtype=torch.float64)
    scheduler.set_begin_index(0)
    theirs = []
    for index, timestep in enumerate(scheduler.timesteps):
        x = z / (1 + levels[index] ** 2) ** 0.5
        x = scheduler.step(denoise(z, levels[index]), timestep, x).prev_sample
        z = x * (1 + levels[index + 1] ** 2) ** 0.5
        theirs.append(z)
    compare(theirs, mine)
