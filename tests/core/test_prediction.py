import json
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from lsegdiff_core.config import MorphologyConfig, from_dict
from lsegdiff_core.data.geometry import Geometry
from lsegdiff_core.morphology import refine
from lsegdiff_core.prediction import Prediction

SEEDS = 3
GEOMETRY = Geometry((60, 90), (4, 10, 56, 84))


def draw(morphology: MorphologyConfig | None = None) -> Prediction:
    """Three seeds whose discs grow, in a square of 32."""
    rows, columns = np.ogrid[:32, :32]
    distance = np.hypot(rows - 16, columns - 14)
    squares = np.stack([1 / (1 + np.exp(distance - radius)) for radius in (5.0, 8.0, 11.0)]).astype(np.float32)
    return Prediction(
        probability=GEOMETRY.from_square(squares.mean(axis=0)),
        squares=squares,
        geometry=GEOMETRY,
        morphology=morphology or MorphologyConfig(),
        source={"image": {"name": "a.png"}, "sampling": {"seeds": [0, 1, 2]}},
    )


def test_mask_is_the_probability_refined():
    morphology = MorphologyConfig(threshold=0.3, opening=2.0, smooth=1.0)
    prediction = draw(morphology)
    assert prediction.mask.shape == GEOMETRY.shape
    assert prediction.mask.any()
    np.testing.assert_array_equal(prediction.mask, refine(prediction.probability, morphology))


def test_labels_are_one_on_the_mask():
    prediction = draw()
    assert prediction.labels.dtype == np.uint8
    np.testing.assert_array_equal(prediction.labels, np.where(prediction.mask, 1, 0))


def test_refined_keeps_everything_but_the_morphology():
    first = draw()
    morphology = MorphologyConfig(threshold=0.9)
    second = first.refined(morphology)
    assert second.morphology is morphology
    assert second.probability is first.probability
    assert second.squares is first.squares
    assert second.geometry is first.geometry
    assert second.source is first.source


def test_refined_gives_a_new_mask_and_leaves_the_first_alone():
    first = draw()
    before, labels, samples = first.mask.copy(), first.labels.copy(), first.samples.copy()
    second = first.refined(MorphologyConfig(threshold=0.9))
    assert second.mask.sum() < before.sum()
    assert second.labels.sum() == second.mask.sum()
    assert second.samples.sum() < samples.sum()
    np.testing.assert_array_equal(first.mask, before)
    np.testing.assert_array_equal(first.labels, labels)


def test_samples_are_one_mask_a_seed_at_the_images_size():
    samples = draw().samples
    assert samples.shape == (SEEDS, *GEOMETRY.shape)
    assert samples.dtype == np.bool_
    areas = samples.sum(axis=(1, 2))
    assert 0 < areas[0] < areas[1] < areas[2]
    top, left, bottom, right = GEOMETRY.box
    outside = np.ones(GEOMETRY.shape, dtype=bool)
    outside[top:bottom, left:right] = False
    assert not samples[:, outside].any()


def test_samples_are_thresholded_but_not_refined():
    plain, refined = draw(), draw(MorphologyConfig(opening=5.0, min_area=10_000))
    assert not refined.mask.any()
    np.testing.assert_array_equal(plain.samples, refined.samples)
    np.testing.assert_array_equal(plain.samples[1], GEOMETRY.from_square(plain.squares[1]) >= 0.5)


def test_mask_and_samples_are_computed_once():
    prediction = draw()
    assert prediction.mask is prediction.mask
    assert prediction.samples is prediction.samples


def test_provenance_is_json_from_which_the_morphology_comes_back():
    morphology = MorphologyConfig(threshold=0.3, closing=2.5, keep_largest=True)
    provenance = draw(morphology).provenance
    again = json.loads(json.dumps(provenance, allow_nan=False))
    assert again == provenance
    assert again["image"] == {"name": "a.png"}
    assert from_dict(MorphologyConfig, again["morphology"]) == morphology


def test_provenance_follows_the_refinement_and_leaves_the_source_alone():
    first = draw()
    second = first.refined(MorphologyConfig(threshold=0.9))
    assert (first.provenance["morphology"]["threshold"], second.provenance["morphology"]["threshold"]) == (0.5, 0.9)
    assert "morphology" not in first.source


def test_a_prediction_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        draw().morphology = MorphologyConfig(threshold=0.9)
