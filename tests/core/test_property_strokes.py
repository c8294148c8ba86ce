"""Whatever is asked, a pixel that the user painted has the user's value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lsegdiff_core.config import SAMPLER_NAMES, MorphologyConfig, SamplingConfig
from lsegdiff_core.drawing import disc
from lsegdiff_core.hints import BACKGROUND, FOREGROUND, NONE, Hints, paste
from lsegdiff_core.predictor import Predictor


@pytest.fixture(scope="module")
def models(tiny_bundle: Path, direct_bundle: Path) -> list[Predictor]:
    """Mostly diffusion, sometimes the control without it."""
    diffusion, direct = (Predictor(str(bundle), device="cpu") for bundle in (tiny_bundle, direct_bundle))
    return [diffusion, diffusion, diffusion, diffusion, direct]


def random_image(generator: np.random.Generator) -> np.ndarray:
    """Smooth or noisy, grey or coloured, every third one in a black frame."""
    shape = generator.integers(17, 141, 2)
    coarse = generator.integers(30, 256, (*generator.integers(2, 40, 2), generator.choice([1, 3])))
    rows, columns = (np.arange(side) * lines // side for side, lines in zip(shape, coarse.shape, strict=False))
    image = np.broadcast_to(coarse[rows][:, columns], (*shape, 3)).astype(np.uint8)
    if not generator.integers(3):
        top, left, bottom, right = generator.integers(0, 1 + shape.min() // 5, 4)
        image[:top], image[:, :left] = 0, 0
        image[shape[0] - bottom :], image[:, shape[1] - right :] = 0, 0
    return image


def random_strokes(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Blots and wandering lines of either label over one another, some of a single pixel, some cut by the edge."""
    locked = np.full(shape, NONE, np.uint8)
    values = [FOREGROUND, BACKGROUND, *generator.choice([FOREGROUND, BACKGROUND], generator.integers(6))]
    for value in generator.permutation(values):
        place, radius = generator.uniform(-0.5, np.array(shape) - 0.5), generator.choice([0.75, 1.5, 4.0, 12.0])
        for _ in range(generator.choice([1, 15])):
            locked[disc(shape, tuple(place), radius)] = value
            place = place + generator.normal(0, 2.5, 2)
    return locked


def random_mask(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    kind = generator.integers(4)
    if kind < 2:
        return np.full(shape, bool(kind))
    noise = generator.random(shape) < 0.5
    centre = tuple(generator.uniform(0, shape))
    return noise if kind == 2 else disc(shape, centre, generator.uniform(1, max(shape)))


def random_sampling(generator: np.random.Generator, mask_given: bool) -> SamplingConfig:
    return SamplingConfig(
        steps=int(generator.integers(1, 5)),
        sampler=str(generator.choice(SAMPLER_NAMES)),
        seeds=tuple(generator.integers(0, 2**31, generator.integers(1, 4)).tolist()),
        flip=bool(generator.integers(2)),
        zoom=bool(generator.integers(2)),
        strength=float(generator.choice([0, 1, generator.uniform(), 1e-6])) if mask_given else 1.0,
    )


def random_morphology(generator: np.random.Generator) -> MorphologyConfig:
    opening, closing, smooth = generator.uniform(0, 9, 3) * generator.integers(0, 2, 3)
    return MorphologyConfig(
        threshold=generator.uniform(0.01, 0.99),
        opening=opening,
        closing=closing,
        fill_holes=bool(generator.integers(2)),
        min_area=int(generator.choice([0, 1, 50, 5000])),
        smooth=smooth,
        keep_largest=bool(generator.integers(2)),
        min_confidence=float(generator.choice([0, 0.4, 0.95])),
    )


@pytest.mark.parametrize("seed", range(40))
def test_property_every_pixel_of_every_stroke_has_the_users_value(models: list[Predictor], seed: int) -> None:
    generator = np.random.default_rng(seed)
    predictor = models[seed % len(models)]
    image = random_image(generator)
    shape = image.shape[:2]
    locked = random_strokes(generator, shape)
    painted = locked.copy()
    current = paste(random_mask(generator, shape), locked) if generator.integers(4) else None
    predictor.set_image(image)
    prediction = predictor.predict(random_sampling(generator, current is not None), Hints(locked, current))
    locked[:] = NONE  # the prediction keeps its own
    last = len(prediction.squares) - 1
    for given in (prediction, prediction.of_seeds([last])):
        for morphology in (predictor.manifest.morphology, *(random_morphology(generator) for _ in range(4))):
            mask = given.refined(morphology).mask
            assert (mask.shape, mask.dtype) == (shape, np.bool_)
            assert mask[painted == FOREGROUND].all()
            assert not mask[painted == BACKGROUND].any()
