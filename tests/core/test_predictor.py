from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lsegdiff_core.config import SAMPLER_NAMES, SamplingConfig
from lsegdiff_core.data.geometry import Geometry
from lsegdiff_core.data.phantom import draw_phantom
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.metrics import dice
from lsegdiff_core.predictor import Predictor, resolve_device


@pytest.fixture
def predictor(tiny_bundle: Path) -> Predictor:
    return Predictor(str(tiny_bundle), device="cpu")


@pytest.fixture
def ready(predictor: Predictor) -> Predictor:
    predictor.set_image(draw_phantom(0, 90, 120).image)
    return predictor


@pytest.fixture(scope="module")
def bundled() -> Predictor:
    return Predictor("polyp", device="cpu")


class Counter:
    """Counts the calls of a network's forward."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.calls = 0
        network.register_forward_pre_hook(self._count)

    def _count(self, *_: object) -> None:
        self.calls += 1


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
@pytest.mark.parametrize("steps", [1, 3])
def test_the_result_has_the_images_size(ready: Predictor, sampler: str, steps: int) -> None:
    prediction = ready.predict(SamplingConfig(steps=steps, sampler=sampler, seeds=(0, 7)))
    assert prediction.probability.shape == (90, 120)
    assert prediction.probability.dtype == np.float32
    assert prediction.labels.shape == (90, 120)
    assert prediction.samples.shape == (2, 90, 120)
    assert 0 <= prediction.probability.min() <= prediction.probability.max() <= 1


def test_the_encoder_runs_once_however_often_one_asks(predictor: Predictor) -> None:
    encoder = Counter(predictor._networks.encoder)
    denoiser = Counter(predictor._networks.denoiser)
    decoder = Counter(predictor._networks.vae.decoder)
    predictor.set_image(draw_phantom(0, 90, 120).image)
    predictor.predict(SamplingConfig(steps=1))
    assert (encoder.calls, denoiser.calls, decoder.calls) == (1, 1, 1)
    predictor.predict(SamplingConfig(steps=4))
    assert (encoder.calls, denoiser.calls, decoder.calls) == (1, 5, 2)


def test_another_morphology_runs_no_network(ready: Predictor) -> None:
    prediction = ready.predict()
    counters = [Counter(network) for network in ready._networks.components.values()]
    changed = prediction.refined(type(prediction.morphology)(threshold=0.4, opening=2))
    assert changed.mask.shape == (90, 120)
    assert sum(counter.calls for counter in counters) == 0


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_a_seed_gives_the_same_sample_whatever_other_seeds_stand_beside_it(bundled: Predictor, sampler: str) -> None:
    bundled.set_image(draw_phantom(3, 270, 480).image)
    together = bundled.predict(SamplingConfig(steps=3, sampler=sampler, seeds=(4, 5, 6)))
    for index, seed in enumerate((4, 5, 6)):
        alone = bundled.predict(SamplingConfig(steps=3, sampler=sampler, seeds=(seed,)))
        assert np.array_equal(together.squares[index], alone.squares[0])
        assert np.array_equal(together.samples[index], alone.samples[0])


def test_the_same_question_gives_the_same_answer_to_the_bit(ready: Predictor) -> None:
    first, second = ready.predict(), ready.predict()
    assert np.array_equal(first.probability, second.probability)


def test_noise_is_drawn_on_the_cpu_and_starts_at_sigma_max(ready: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state that the first step sees depends on the seed alone: the same on every device."""
    seen: list[torch.Tensor] = []
    real = ready.denoise
    monkeypatch.setattr(ready, "denoise", lambda z, sigma, cond: (seen.append(z), real(z, sigma, cond))[1])
    ready.predict(SamplingConfig(steps=1, seeds=(11,)))
    expected = torch.randn(seen[0].shape[1:], generator=torch.Generator("cpu").manual_seed(11))
    assert torch.equal(seen[0][0], expected * ready.manifest.model.schedule.sigma_max)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_what_the_cpu_gives(bundled: Predictor) -> None:
    image, sampling = draw_phantom(3, 270, 480).image, SamplingConfig(steps=4, seeds=(0, 1))
    cuda = Predictor("polyp", device="cuda")
    results = []
    for predictor in (bundled, cuda):
        predictor.set_image(image)
        results.append(predictor.predict(sampling))
    assert np.abs(results[0].probability - results[1].probability).max() <= 1e-4
    assert (results[0].mask != results[1].mask).mean() <= 1e-4


def test_sigma_max_hides_the_mask_in_the_noise(bundled: Predictor) -> None:
    """Starting from pure noise, as sampling does, gives what the noised truth gives, as training had it."""
    size, sigma_max = bundled.manifest.model.vae.size, bundled.manifest.model.schedule.sigma_max
    for seed in range(3):
        image, truth = draw_phantom(seed)
        geometry = Geometry.of(image)
        cond = bundled.encode(geometry.to_square(image, size))
        square = torch.from_numpy(geometry.mask_to_square(truth, size) >= 0.5)[None, None].float()
        z0 = bundled.encode_mask(square)
        noise = torch.randn(z0.shape, generator=torch.Generator().manual_seed(seed)) * sigma_max
        pure, hinted = (bundled.decode(bundled.denoise(z, sigma_max, cond)) for z in (noise, z0 + noise))
        assert np.abs(pure - hinted).mean() < 1e-3


def test_steps_report_progress_and_closing_cancels(ready: Predictor) -> None:
    denoiser = Counter(ready._networks.denoiser)
    run = ready.steps(SamplingConfig(steps=10))
    assert next(run) == (1, 10)
    assert next(run) == (2, 10)
    run.close()
    assert denoiser.calls == 2


def test_the_bundled_model_finds_the_phantoms_polyp(bundled: Predictor) -> None:
    scores = []
    for seed in range(1, 6):
        image, truth = draw_phantom(seed)
        bundled.set_image(image)
        scores.append(dice(bundled.predict().mask, truth))
    assert scores[0] >= 0.85
    assert np.mean(scores) >= 0.8


def as_grey(image: np.ndarray) -> np.ndarray:
    return image.mean(axis=2).astype(np.uint8)


FORMS = {
    "RGBA": lambda image: np.dstack([image, np.full(image.shape[:2], 9, np.uint8)]),
    "16 bit": lambda image: image.astype(np.uint16) * 257,
    "float in [0, 1]": lambda image: image.astype(np.float64) / 255,
    "float in [0, 255]": lambda image: image.astype(np.float32),
}


@pytest.mark.parametrize("form", FORMS)
def test_images_as_users_have_them_give_the_mask_of_the_8_bit_image(bundled: Predictor, form: str) -> None:
    image = draw_phantom(1).image
    bundled.set_image(image)
    expected = bundled.predict().mask
    bundled.set_image(FORMS[form](image))
    assert np.array_equal(bundled.predict().mask, expected)


def test_a_grey_image_gives_a_mask_in_the_right_place(bundled: Predictor) -> None:
    image, truth = draw_phantom(1)
    bundled.set_image(as_grey(image))
    mask = bundled.predict().mask
    assert mask.shape == truth.shape
    assert mask.any()
    assert (mask & truth).sum() > 0.5 * mask.sum()


@pytest.mark.parametrize(("height", "width"), [(24, 24), (3000, 4000)])
def test_small_and_large_images_give_a_mask_in_the_right_place(bundled: Predictor, height: int, width: int) -> None:
    image, truth = draw_phantom(1)
    rows = np.arange(height) * image.shape[0] // height
    columns = np.arange(width) * image.shape[1] // width
    bundled.set_image(image[rows][:, columns])
    mask = bundled.predict().mask
    assert mask.shape == (height, width)
    assert dice(mask, truth[rows][:, columns]) > 0.6


def test_asking_before_an_image_is_set_says_so(predictor: Predictor) -> None:
    with pytest.raises(LSegDiffError, match="call set_image first"):
        predictor.predict()


def test_nan_pixels_are_refused_by_name(predictor: Predictor) -> None:
    image = np.zeros((30, 40), np.float32)
    image[3, 4] = np.nan
    with pytest.raises(LSegDiffError, match=r"frame 7: holds NaN"):
        predictor.set_image(image, "frame 7")


@pytest.mark.parametrize("name", ["tpu", "cuda", "mps"])
def test_a_device_that_is_not_there_is_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(LSegDiffError, match=rf"device: .*'{name}'.*choose auto"):
        resolve_device(name)


def test_importing_the_core_loads_no_torch() -> None:
    code = (
        "import sys, lsegdiff_core, lsegdiff_core.cli, lsegdiff_core.prediction, lsegdiff_core.bundle\n"
        "assert 'torch' not in sys.modules, 'torch was loaded'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
