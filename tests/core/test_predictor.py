from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from lsegdiff_core.config import SAMPLER_NAMES, VIEWS, MorphologyConfig, SamplingConfig
from lsegdiff_core.data.geometry import Geometry
from lsegdiff_core.data.phantom import draw_phantom
from lsegdiff_core.diffusion.samplers import SAMPLERS
from lsegdiff_core.diffusion.schedule import sampling_sigmas
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.hints import BACKGROUND, FOREGROUND, Hints, paste
from lsegdiff_core.metrics import dice
from lsegdiff_core.prediction import Prediction
from lsegdiff_core.predictor import ZOOM_MARGIN, ZOOM_SMALLEST, ZOOM_STRENGTH, Predictor, Progress

IMAGE = draw_phantom(0, 90, 120).image
Count = Callable[[torch.nn.Module], Any]


@pytest.fixture
def ready(predictor: Predictor) -> Predictor:
    predictor.set_image(IMAGE)
    return predictor


@pytest.fixture(scope="module")
def bundled() -> Predictor:
    return Predictor("polyp", device="cpu")


def watch(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.Tensor, float]]:
    """Return a list that fills with the state and level of each evaluation of the denoiser."""
    seen, denoise = [], predictor.denoise

    def watched(z: torch.Tensor, sigma: float, cond: list[torch.Tensor]) -> torch.Tensor:
        seen.append((z, sigma))
        return denoise(z, sigma, cond)

    monkeypatch.setattr(predictor, "denoise", watched)
    return seen


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
@pytest.mark.parametrize("steps", [1, 3])
def test_the_result_has_the_images_size(ready: Predictor, sampler: str, steps: int) -> None:
    prediction = ready.predict(SamplingConfig(steps=steps, sampler=sampler, seeds=(0, 7)))
    assert prediction.probability.shape == (90, 120)
    assert prediction.probability.dtype == np.float32
    assert prediction.labels.shape == (90, 120)
    assert prediction.samples.shape == (2, 90, 120)
    assert 0 <= prediction.probability.min() <= prediction.probability.max() <= 1


def test_the_encoder_runs_once_however_often_one_asks(predictor: Predictor, count: Count) -> None:
    encoder = count(predictor.networks.encoder)
    denoiser = count(predictor.networks.denoiser)
    decoder = count(predictor.networks.vae.decoder)
    predictor.set_image(IMAGE)
    predictor.predict(SamplingConfig(steps=1))
    assert (encoder.calls, denoiser.calls, decoder.calls) == (1, 1, 1)
    predictor.predict(SamplingConfig(steps=4))
    assert (encoder.calls, denoiser.calls, decoder.calls) == (1, 5, 3), "the mask and the first estimate"


def test_another_morphology_runs_no_network(ready: Predictor, count: Count) -> None:
    prediction = ready.predict()
    counters = [count(network) for network in ready.networks.components.values()]
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
    seen = watch(ready, monkeypatch)
    ready.predict(SamplingConfig(steps=1, seeds=(11,)))
    ((z, sigma),) = seen
    expected = torch.randn(z.shape[1:], generator=torch.Generator("cpu").manual_seed(11))
    assert sigma == ready.manifest.model.schedule.sigma_max
    assert torch.equal(z[0], expected * sigma)


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


def test_steps_report_progress_and_closing_cancels(ready: Predictor, count: Count) -> None:
    denoiser = count(ready.networks.denoiser)
    run = ready.steps(SamplingConfig(steps=10))
    assert next(run)[:2] == (1, 10)
    assert next(run)[:2] == (2, 10)
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


def strokes(generator: np.random.Generator, shape: tuple[int, int] = (90, 120)) -> np.ndarray:
    """Two rectangles of each label."""
    locked = np.zeros(shape, np.uint8)
    for value in (FOREGROUND, BACKGROUND, FOREGROUND, BACKGROUND):
        row, column = (generator.integers(side) for side in shape)
        locked[row : row + generator.integers(1, 20), column : column + generator.integers(1, 20)] = value
    return locked


def some_hints(seed: int = 0) -> Hints:
    generator = np.random.default_rng(seed)
    return Hints(strokes(generator), generator.random((90, 120)) < 0.5)


def test_expected_probability_is_the_first_estimate(ready: Predictor) -> None:
    one = ready.predict(SamplingConfig(steps=1, seeds=(0, 3)))
    assert np.array_equal(one.expected, one.probability)
    for passes in ({}, {"zoom": True}):
        prediction = ready.predict(SamplingConfig(steps=4, seeds=(0, 3), **passes))
        assert np.array_equal(prediction.expected, one.probability)
        assert np.abs(prediction.expected - prediction.probability).max() > 1e-3


def test_without_hints_the_samplers_work_on_the_encoders_condition_alone(ready: Predictor, count: Count) -> None:
    hint_encoder = count(ready.networks.hint_encoder)
    prediction = ready.predict(SamplingConfig(steps=3, seeds=(4,)))
    assert hint_encoder.calls == 0
    geometry = Geometry.of(IMAGE)
    cond = ready.encode(geometry.to_square(IMAGE, ready.size))
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(4))
    sigmas = sampling_sigmas(3, ready.manifest.model.schedule.sigma_max)
    *_, last = SAMPLERS["ddim"](
        lambda z, sigma: ready.denoise(z, sigma, cond), noise * float(sigmas[0]), sigmas, lambda: noise
    )
    assert np.array_equal(prediction.probability, geometry.from_square(ready.decode(last.z)[0]))


def test_hints_change_the_result_and_leave_no_trace(ready: Predictor) -> None:
    before = ready.predict().probability
    locked, current = np.zeros((90, 120), np.uint8), np.zeros((90, 120), np.bool_)
    locked[30:50, 40:70] = FOREGROUND
    results = [before]
    for hints in (Hints(locked), Hints(3 - locked), Hints(locked, current), Hints(locked, ~current)):
        changed = ready.predict(hints=hints).probability
        assert all(np.abs(changed - other).max() > 1e-3 for other in results)
        results.append(changed)
    assert np.array_equal(ready.predict().probability, before)
    assert np.array_equal(ready.predict(hints=Hints(np.zeros_like(locked))).probability, before)


def test_other_hints_do_not_run_the_image_encoder(ready: Predictor, count: Count) -> None:
    encoder, hint_encoder = count(ready.networks.encoder), count(ready.networks.hint_encoder)
    for seed in range(3):
        ready.predict(hints=some_hints(seed))
    assert (encoder.calls, hint_encoder.calls) == (0, 3)


@pytest.mark.parametrize("passes", [{}, {"flip": True}, {"zoom": True}])
def test_strokes_hold_in_the_mask_under_any_morphology(ready: Predictor, passes: dict[str, bool]) -> None:
    generator = np.random.default_rng(1)
    for _ in range(5):
        hints = Hints(strokes(generator))
        prediction = ready.predict(SamplingConfig(steps=1, **passes), hints)
        for morphology in (
            MorphologyConfig(),
            MorphologyConfig(opening=generator.uniform(1, 9), min_area=500),
            MorphologyConfig(threshold=0.7, smooth=generator.uniform(1, 9), closing=5, keep_largest=True),
        ):
            mask = prediction.refined(morphology).mask
            assert mask[hints.locked == FOREGROUND].all()
            assert not mask[hints.locked == BACKGROUND].any()


@pytest.mark.parametrize("name", ["locked", "current"])
def test_hints_of_another_size_are_named(ready: Predictor, name: str) -> None:
    arrays = {"locked": np.zeros((90, 120), np.uint8), "current": np.zeros((90, 120), np.bool_)}
    arrays[name] = arrays[name][:-1]
    with pytest.raises(LSegDiffError, match=rf"{name}: has shape \(89, 120\), the image \(90, 120\)"):
        ready.predict(hints=Hints(**arrays))


@pytest.mark.parametrize("hints", [None, some_hints()], ids=["no hints", "hints"])
def test_with_flip_each_seed_looks_at_its_own_mirrored_view(ready: Predictor, hints: Hints | None) -> None:
    together = ready.predict(SamplingConfig(steps=2, seeds=(5, 2, 3, 0), flip=True), hints)
    views = {5: np.s_[:, ::-1], 2: np.s_[::-1], 3: np.s_[::-1, ::-1], 0: np.s_[:]}
    for square, (seed, view) in zip(together.squares, views.items(), strict=True):
        mirrored = None if hints is None else Hints(hints.locked[view], hints.current[view])
        ready.set_image(IMAGE[view])
        alone = ready.predict(SamplingConfig(steps=2, seeds=(seed,)), mirrored)
        assert np.abs(square - alone.squares[0][view]).max() < 1e-5
        if seed:
            assert np.abs(square - alone.squares[0]).max() > 1e-2


def test_flip_encodes_each_mirrored_view_once(predictor: Predictor, count: Count) -> None:
    encoder, denoiser = count(predictor.networks.encoder), count(predictor.networks.denoiser)
    predictor.set_image(IMAGE)
    predictor.predict(SamplingConfig(steps=3, flip=True))
    assert (encoder.calls, denoiser.calls) == (1, 3)
    predictor.predict(SamplingConfig(steps=3, seeds=(0, 1, 2, 3, 4), flip=True))
    predictor.predict(SamplingConfig(steps=3, seeds=(0, 1, 2, 3, 4), flip=True), some_hints())
    assert (encoder.calls, denoiser.calls) == (4, 33)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("zoom", [False, True])
def test_progress_runs_through_all_passes(ready: Predictor, flip: bool, zoom: bool) -> None:
    sampling = SamplingConfig(steps=3, seeds=(0, 1, 2, 3), flip=flip, zoom=zoom)
    total = 3 * (4 if flip else 1) * (2 if zoom else 1)
    assert [step[:2] for step in ready.steps(sampling)] == [(done, total) for done in range(1, total + 1)]


def spot(size: int = 64) -> np.ndarray:
    """A small square that is found, on a faint ground."""
    square = np.full((1, size, size), 0.2, np.float32)
    square[:, 8:16, 40:52] = 0.8
    return square


@pytest.fixture
def two_passes(ready: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.Tensor, float]]:
    """The first pass finds the spot, the second is sure of everything; returns the denoiser's states and levels."""
    squares = iter([spot(), np.full_like(spot(), 0.9)])
    monkeypatch.setattr(ready, "decode", lambda z: next(squares))
    return watch(ready, monkeypatch)


def test_zoom_replaces_the_probability_inside_the_crop_only(ready: Predictor, two_passes) -> None:
    prediction = ready.predict(SamplingConfig(steps=1, zoom=True))
    first = Geometry.of(IMAGE).from_square(spot()[0])
    crop = Geometry.of(IMAGE).around(first >= 0.5, ZOOM_MARGIN, ZOOM_SMALLEST)
    assert prediction.geometry == crop
    top, left, bottom, right = crop.box
    assert (bottom - top) * (right - left) < 90 * 120
    expected = first.copy()
    expected[top:bottom, left:right] = 0.9
    assert np.array_equal(prediction.probability, expected)
    samples = np.zeros((1, 90, 120), np.bool_)
    samples[:, top:bottom, left:right] = True
    assert np.array_equal(prediction.samples, samples)


def test_zoom_starts_from_the_first_mask_at_partial_strength(ready: Predictor, two_passes) -> None:
    prediction = ready.predict(SamplingConfig(steps=1, seeds=(6,), zoom=True))
    schedule = ready.manifest.model.schedule
    (_, full), (z, partial) = two_passes
    assert full == schedule.sigma_max
    assert partial == sampling_sigmas(1, schedule.sigma_max, ZOOM_STRENGTH)[0].item()
    found = Geometry.of(IMAGE).from_square(spot()[0]) >= 0.5
    mask = torch.from_numpy(prediction.geometry.mask_to_square(found, 64) >= 0.5)
    assert mask.any()
    noise = torch.randn((4, 8, 8), generator=torch.Generator().manual_seed(6))
    expected = ready.encode_mask(mask[None, None].float())[0] + noise * partial
    assert torch.equal(z[0], expected)


def test_zoom_is_one_pass_when_nothing_is_found(ready: Predictor, monkeypatch, count: Count) -> None:
    monkeypatch.setattr(ready, "decode", lambda z: np.full((1, 64, 64), 0.4, np.float32))
    encoder = count(ready.networks.encoder)
    assert [step[:2] for step in ready.steps(SamplingConfig(steps=2, zoom=True))] == [(1, 4), (2, 4)]
    prediction = ready.predict(SamplingConfig(steps=2, zoom=True))
    assert (prediction.probability == np.float32(0.4)).all()
    assert prediction.geometry == Geometry.of(IMAGE)
    assert encoder.calls == 0


def test_passes_stand_in_the_provenance(ready: Predictor) -> None:
    prediction = ready.predict(SamplingConfig(steps=1, flip=True, zoom=True))
    sampling = json.loads(json.dumps(prediction.provenance))["sampling"]
    assert sampling == {"steps": 1, "sampler": "ddim", "seeds": [0], "flip": True, "zoom": True, "strength": 1.0}


def draw_noise(seed: int) -> torch.Tensor:
    """The first noise of a seed in the tiny model's latent."""
    return torch.randn((4, 8, 8), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("strength", [0.25, 0.7])
def test_a_partial_strength_starts_from_the_current_mask_under_that_much_noise(ready, monkeypatch, strength) -> None:
    seen = watch(ready, monkeypatch)
    hints = some_hints()
    seeds = (0, 4, 5, 1, 6, 2, 3, 7)
    ready.predict(SamplingConfig(steps=2, seeds=seeds, flip=True, strength=strength), hints)
    sigmas = sampling_sigmas(2, ready.manifest.model.schedule.sigma_max, strength).tolist()
    assert [sigma for _, sigma in seen] == sigmas[:-1] * 4
    square = Geometry.of(IMAGE).mask_to_square(hints.current, 64) >= 0.5
    for (z, _), view, pair in zip(seen[::2], VIEWS, ((0, 4), (5, 1), (6, 2), (3, 7)), strict=True):
        mask = square[:: view[0], :: view[1]]
        latent = ready.encode_mask(torch.from_numpy(mask.copy())[None, None].float())[0]
        for state, seed in zip(z, pair, strict=True):
            assert torch.equal(state, latent + draw_noise(seed) * sigmas[0])


def test_full_strength_starts_from_pure_noise_whatever_the_current_mask(ready: Predictor, monkeypatch) -> None:
    seen = watch(ready, monkeypatch)
    ready.predict(SamplingConfig(steps=1, seeds=(11,), strength=1), some_hints())
    ((z, sigma),) = seen
    assert sigma == ready.manifest.model.schedule.sigma_max
    assert torch.equal(z[0], draw_noise(11) * sigma)


def test_the_less_strength_the_more_of_the_current_mask_stays(bundled: Predictor) -> None:
    bundled.set_image(draw_phantom(1, 240, 320).image)
    current = np.zeros((240, 320), np.bool_)
    current[100:140, 30:80] = True
    assert not bundled.predict().mask[current].any()
    hints = Hints(np.zeros(current.shape, np.uint8), current)
    none, little, much, full = (
        bundled.predict(SamplingConfig(strength=strength), hints).mask[current].mean() for strength in (0, 0.2, 0.8, 1)
    )
    assert none == 1
    assert none > little > much > full


@pytest.mark.parametrize("hints", [None, Hints(strokes(np.random.default_rng(0)))], ids=["no hints", "strokes"])
@pytest.mark.parametrize("strength", [0.0, 0.5, 0.99])
def test_less_than_full_strength_without_a_mask_is_refused_by_name(ready, count, strength, hints) -> None:
    denoiser = count(ready.networks.denoiser)
    with pytest.raises(LSegDiffError, match=rf"strength: {strength} .* none is given; give 1"):
        ready.predict(SamplingConfig(strength=strength), hints)
    assert denoiser.calls == 0


FRAMED = np.pad(IMAGE, ((11, 0), (20, 25), (0, 0)))


@pytest.mark.parametrize("passes", [{}, {"flip": True}, {"zoom": True}, {"flip": True, "zoom": True}])
@pytest.mark.parametrize("model", ["predictor", "direct"])
def test_no_strength_returns_the_current_mask_to_the_pixel_and_runs_no_network(request, count, model, passes) -> None:
    """Not smoothed on its way through the square, nor cut off where the frame is black."""
    predictor = request.getfixturevalue(model)
    predictor.set_image(FRAMED)
    assert Geometry.of(FRAMED).box != (0, 0, *FRAMED.shape[:2])
    networks = predictor.networks
    networks = networks.encoder, networks.denoiser, networks.hint_encoder, networks.vae.encoder, networks.vae.decoder
    counters = [count(network) for network in networks]
    generator = np.random.default_rng(2)
    current, locked = generator.random(FRAMED.shape[:2]) < 0.5, strokes(generator, FRAMED.shape[:2])
    sampling, hints = SamplingConfig(steps=3, seeds=(4, 5), strength=0, **passes), Hints(locked, current)
    assert list(predictor.steps(sampling, hints)) == []
    prediction = predictor.predict(sampling, hints)
    assert [counter.calls for counter in counters] == [0] * 5
    assert prediction.probability.dtype == np.float32
    assert np.array_equal(prediction.probability, current)
    plain = prediction.refined(MorphologyConfig(fill_holes=False))
    assert np.array_equal(plain.mask, paste(current, locked))
    assert np.array_equal(plain.without_strokes().mask, current)
    assert prediction.provenance["sampling"]["strength"] == 0


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_a_current_mask_of_another_size_is_named_at_any_strength(ready: Predictor, strength: float) -> None:
    hints = Hints(np.zeros((90, 120), np.uint8), np.zeros((90, 119), np.bool_))
    with pytest.raises(LSegDiffError, match=r"current: has shape \(90, 119\), the image \(90, 120\)"):
        ready.predict(SamplingConfig(strength=strength), hints)


@pytest.mark.parametrize(("strength", "second"), [(0.3, 0.3), (0.8, ZOOM_STRENGTH), (1.0, ZOOM_STRENGTH)])
def test_zoom_draws_no_more_again_than_was_asked_and_starts_from_the_first_pass(
    ready: Predictor, two_passes, strength: float, second: float
) -> None:
    hints = Hints(np.zeros((90, 120), np.uint8), np.random.default_rng(3).random((90, 120)) < 0.5)
    prediction = ready.predict(SamplingConfig(steps=1, seeds=(6,), zoom=True, strength=strength), hints)
    sigma_max = ready.manifest.model.schedule.sigma_max
    levels = [sampling_sigmas(1, sigma_max, share)[0].item() for share in (strength, second)]
    assert [sigma for _, sigma in two_passes] == levels
    found = Geometry.of(IMAGE).from_square(spot()[0]) >= 0.5
    mask = torch.from_numpy(prediction.geometry.mask_to_square(found, 64) >= 0.5)
    latent = ready.encode_mask(mask[None, None].float())[0]
    assert torch.equal(two_passes[1][0][0], latent + draw_noise(6) * levels[1])


def test_what_starts_from_a_mask_is_expected_as_it_is_sampled(ready: Predictor, count: Count) -> None:
    decoder = count(ready.networks.vae.decoder)
    prediction = ready.predict(SamplingConfig(steps=3, strength=0.6), some_hints())
    assert np.array_equal(prediction.expected, prediction.probability)
    assert decoder.calls == 1


def test_the_control_knows_only_no_strength_and_full_strength(direct: Predictor) -> None:
    """It has no noise to start from partially, so that it needs no mask for it."""
    direct.set_image(IMAGE)
    for strength, effective in ((0.01, 1.0), (0.5, 1.0), (1.0, 1.0), (0.0, 0.0)):
        assert direct.effective(SamplingConfig(strength=strength)).strength == effective
    hints = some_hints()
    full, half = (direct.predict(SamplingConfig(strength=strength), hints) for strength in (1, 0.5))
    assert np.array_equal(half.probability, full.probability)
    assert half.provenance["sampling"]["strength"] == 1.0
    assert direct.predict(SamplingConfig(strength=0.5)).probability.any()


def test_diffusion_does_what_was_asked(predictor: Predictor) -> None:
    sampling = SamplingConfig(steps=7, sampler="heun", seeds=(1, 2), strength=0.3)
    assert predictor.effective(sampling) is sampling


def finish(run) -> tuple[list[Progress], Prediction]:
    """Return all that a run reports, and its result."""
    progress = []
    while True:
        try:
            progress.append(next(run))
        except StopIteration as finished:
            return progress, finished.value


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_the_last_estimate_of_each_view_is_its_first_seeds_result_the_right_way_round(ready, strength) -> None:
    sampling = SamplingConfig(steps=2, seeds=(3, 0, 7, 1), flip=True, strength=strength)
    progress, prediction = finish(ready.steps(sampling, some_hints()))
    views = [progress[index].estimate() for index in (1, 3, 5)]
    for view, place in zip(views, (0, 1, 3), strict=True):
        assert np.array_equal(view, prediction.squares[place])
        assert (view.shape, view.dtype) == ((64, 64), np.float32)
    assert all(np.abs(one - other).max() > 1e-3 for one, other in itertools.combinations(views, 2))


def test_the_first_estimate_is_the_result_of_a_single_step(ready: Predictor) -> None:
    first = next(ready.steps(SamplingConfig(steps=4, seeds=(3, 1))))
    assert np.array_equal(first.estimate(), ready.predict(SamplingConfig(steps=1, seeds=(3,))).squares[0])


def test_progress_says_where_the_square_of_the_pass_under_way_lies(ready: Predictor, two_passes) -> None:
    whole, closer = ready.steps(SamplingConfig(steps=1, zoom=True))
    assert whole.geometry == Geometry.of(IMAGE)
    found = Geometry.of(IMAGE).from_square(spot()[0]) >= 0.5
    assert closer.geometry == Geometry.of(IMAGE).around(found, ZOOM_MARGIN, ZOOM_SMALLEST) != whole.geometry


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_looking_at_estimates_changes_nothing(ready: Predictor, sampler: str) -> None:
    sampling = SamplingConfig(steps=3, sampler=sampler, seeds=(3, 1), flip=True, zoom=True)
    expected, looked = ready.predict(sampling), []

    def look(run):
        result = None
        while result is None:
            try:
                step = next(run)
            except StopIteration as finished:
                result = finished.value
            else:
                looked.append((step.estimate(), step))
                yield step
        return result

    _, prediction = finish(look(ready.steps(sampling)))
    assert np.array_equal(prediction.probability, expected.probability)
    assert np.array_equal(prediction.squares, expected.squares)
    assert len(looked) == 12, "two views in each of two passes"
    for estimate, step in looked:
        assert np.array_equal(step.estimate(), estimate), "an estimate stays what it was"


def test_the_decoder_runs_for_estimates_that_are_looked_at_only(ready: Predictor, count: Count) -> None:
    decoder = count(ready.networks.vae.decoder)
    progress, _ = finish(ready.steps(SamplingConfig(steps=5)))
    assert decoder.calls == 2, "the mask and the first estimate"
    progress[2].estimate()
    assert decoder.calls == 3


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingConfig(steps=1),
        SamplingConfig(steps=3, sampler="ddpm"),
        SamplingConfig(steps=2, sampler="heun", flip=True),
        SamplingConfig(steps=3, sampler="dpmpp_2m", strength=0.4),
    ],
)
def test_some_of_the_seeds_give_what_they_alone_would_have_given(ready: Predictor, sampling: SamplingConfig) -> None:
    together = ready.predict(replace(sampling, seeds=(4, 5, 6)), some_hints())
    for chosen, seeds in (((1,), (5,)), ((0, 2), (4, 6)), ((2, 1), (6, 5)), ((0, 1, 2), (4, 5, 6))):
        some, alone = together.of_seeds(chosen), ready.predict(replace(sampling, seeds=seeds), some_hints())
        assert np.array_equal(some.probability, alone.probability)
        assert np.array_equal(some.squares, alone.squares)
        assert np.array_equal(some.mask, alone.mask)
        assert some.provenance == alone.provenance
        assert some.provenance["sampling"]["seeds"] == list(seeds)


def test_some_seeds_of_a_zoomed_prediction_differ_inside_the_crop_only(bundled: Predictor) -> None:
    """The first pass, which the crop was chosen from, is common to all seeds."""
    bundled.set_image(draw_phantom(1, 240, 320).image)
    together = bundled.predict(SamplingConfig(steps=1, seeds=(4, 5, 6), zoom=True))
    top, left, bottom, right = together.geometry.box
    assert (bottom - top, right - left) < (240, 320)
    some = together.of_seeds((2, 0))
    inside = np.s_[top:bottom, left:right]
    square = np.mean([together.squares[2], together.squares[0]], axis=0)
    assert np.array_equal(some.probability[inside], together.geometry.from_square(square)[inside])
    differs = some.probability != together.probability
    assert differs[inside].any()
    differs[inside] = False
    assert not differs.any()
    assert np.array_equal(together.of_seeds((0, 1, 2)).probability, together.probability)


def test_the_control_without_diffusion_gives_one_result_in_one_evaluation(direct: Predictor, count: Count) -> None:
    direct.set_image(IMAGE)
    denoiser = count(direct.networks.denoiser)
    expected = direct.predict(SamplingConfig(steps=1))
    for sampling in (SamplingConfig(steps=10), SamplingConfig(4, "heun", (3,)), SamplingConfig(2, "ddpm", (5, 6, 7))):
        prediction = direct.predict(sampling)
        assert np.array_equal(prediction.probability, expected.probability)
        assert len(prediction.squares) == 1
        assert prediction.provenance["sampling"]["steps"] == 1
    assert denoiser.calls == 4
    assert [step[:2] for step in direct.steps(SamplingConfig(steps=10))] == [(1, 1)]


def test_the_control_starts_from_zeros_at_sigma_max_in_each_pass(direct: Predictor, monkeypatch) -> None:
    """It was trained on nothing else."""
    seen = watch(direct, monkeypatch)
    direct.set_image(IMAGE)
    direct.predict(SamplingConfig(seeds=tuple(range(8)), flip=True, zoom=True))
    assert len(seen) == 8, "each view once in each pass"
    assert not any(z.any() for z, _ in seen)
    assert {sigma for _, sigma in seen} == {direct.manifest.model.schedule.sigma_max}


def test_hints_and_the_mirrored_pass_change_the_controls_result(direct: Predictor) -> None:
    direct.set_image(IMAGE)
    plain = direct.predict().probability
    for sampling, hints in ((None, some_hints()), (SamplingConfig(seeds=(1,), flip=True), None)):
        assert np.abs(direct.predict(sampling, hints).probability - plain).max() > 1e-3


def test_importing_the_core_loads_no_torch() -> None:
    code = (
        "import sys, lsegdiff_core, lsegdiff_core.cli, lsegdiff_core.prediction, lsegdiff_core.bundle\n"
        "assert 'torch' not in sys.modules, 'torch was loaded'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
