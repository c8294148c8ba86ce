import json
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from lsegdiff_core.config import MorphologyConfig, from_dict
from lsegdiff_core.data.geometry import Geometry
from lsegdiff_core.hints import BACKGROUND, FOREGROUND, NONE
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
        expected=GEOMETRY.from_square(squares.mean(axis=0)),
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


def random_strokes(generator: np.random.Generator) -> np.ndarray:
    """Rectangles of either label over one another, some of a single pixel."""
    locked = np.full(GEOMETRY.shape, NONE, np.uint8)
    for value in (FOREGROUND, BACKGROUND, FOREGROUND, BACKGROUND):
        row, column = (generator.integers(side) for side in GEOMETRY.shape)
        height, width = generator.integers(1, 15, 2)
        locked[row : row + height, column : column + width] = value
    return locked


@pytest.mark.parametrize("seed", range(12))
def test_strokes_hold_in_the_mask_to_the_pixel(seed):
    generator = np.random.default_rng(seed)
    locked = random_strokes(generator)
    prediction = replace(draw(), locked=locked)
    for _ in range(4):
        opening, closing, smooth = generator.uniform(0, 6, 3)
        mask = prediction.refined(
            MorphologyConfig(
                threshold=generator.uniform(0.1, 0.9),
                opening=opening,
                closing=closing,
                smooth=smooth,
                min_area=int(generator.integers(2000)),
                fill_holes=bool(generator.integers(2)),
                keep_largest=bool(generator.integers(2)),
                min_confidence=generator.choice([0.0, 0.4, 0.95]),
            )
        ).mask
        assert mask[locked == FOREGROUND].all()
        assert not mask[locked == BACKGROUND].any()


def test_without_a_stroke_the_mask_is_the_models():
    morphology = MorphologyConfig(threshold=0.3, opening=2.0, smooth=1.0)
    silent = replace(draw(morphology), locked=np.full(GEOMETRY.shape, NONE, np.uint8))
    np.testing.assert_array_equal(silent.mask, draw(morphology).mask)


def test_morphology_joins_a_stroke_to_the_mask_beside_it():
    prediction = draw(MorphologyConfig(closing=3.0))
    row = 30
    edge = int(np.flatnonzero(prediction.mask[row])[-1])
    locked = np.full(GEOMETRY.shape, NONE, np.uint8)
    locked[row - 3 : row + 4, edge + 4 : edge + 12] = FOREGROUND
    joined = replace(prediction, locked=locked)
    assert not prediction.mask[row, edge + 2]
    assert joined.mask[row, edge + 2]
    assert not joined.refined(MorphologyConfig()).mask[row, edge + 2]


def test_a_hole_that_the_user_made_is_not_filled():
    locked = np.full(GEOMETRY.shape, NONE, np.uint8)
    centre = tuple(int(lines.mean()) for lines in np.nonzero(draw().mask))
    locked[centre] = BACKGROUND
    prediction = replace(draw(MorphologyConfig(fill_holes=True)), locked=locked)
    assert not prediction.mask[centre]
    assert prediction.mask.sum() == draw().mask.sum() - 1


@pytest.fixture
def two_pieces():
    """Two pieces that the sample holds alike; the model is sure of the left one."""
    probability, expected = np.zeros((2, 20, 40), np.float32)
    probability[5:15, 5:15] = probability[5:15, 25:35] = 1
    expected[5:15, 5:15], expected[5:15, 25:35] = 0.9, 0.3
    geometry = Geometry((20, 40), (0, 0, 20, 40))
    return Prediction(probability, expected, probability[None], geometry, MorphologyConfig(min_confidence=0.5), {})


@pytest.mark.parametrize(("least", "left", "right"), [(0.0, 100, 100), (0.2, 100, 100), (0.5, 100, 0), (0.95, 0, 0)])
def test_a_piece_that_the_model_is_not_sure_of_is_removed(two_pieces, least, left, right):
    mask = two_pieces.refined(MorphologyConfig(min_confidence=least)).mask
    assert (mask[:, :20].sum(), mask[:, 20:].sum()) == (left, right)


def test_a_piece_that_the_user_marked_stays_whole_however_sure_the_model_is(two_pieces):
    locked = np.full((20, 40), NONE, np.uint8)
    locked[8, 30], locked[8, 8] = FOREGROUND, BACKGROUND
    mask = replace(two_pieces, locked=locked).mask
    assert (mask[:, :20].sum(), mask[:, 20:].sum()) == (99, 100)


def of_samples(*samples: list[list[float]], **fields) -> Prediction:
    """One square a seed; an image of the square's size, so that nothing is interpolated."""
    squares = np.array(samples, np.float32)
    shape = squares.shape[1:]
    mean = squares.mean(axis=0)
    source = {"sampling": {"steps": 4, "seeds": [10 + index for index in range(len(squares))]}}
    return Prediction(mean, mean, squares, Geometry(shape, (0, 0, *shape)), MorphologyConfig(), source, **fields)


FOUR = (
    [[0.9, 0.8], [0.6, 0.4]],
    [[0.9, 0.8], [0.6, 0.1]],
    [[0.9, 0.8], [0.3, 0.1]],
    [[0.5, 0.2], [0.1, 0.0]],
)


def test_votes_agreement_and_entropy_by_hand():
    prediction = of_samples(*FOUR)
    np.testing.assert_array_equal(prediction.votes, [[1, 0.75], [0.5, 0]])
    np.testing.assert_array_equal(prediction.agreement, [[1, 0.75], [0.5, 1]])
    three_to_one = 0.25 * 2 + 0.75 * np.log2(4 / 3)
    np.testing.assert_allclose(prediction.entropy, [[0, three_to_one], [1, 0]], atol=1e-6)
    assert {prediction.votes.dtype, prediction.agreement.dtype, prediction.entropy.dtype} == {np.dtype(np.float32)}
    assert prediction.entropy[0, 0] == prediction.entropy[1, 1] == 0, "unanimous either way"


def test_votes_follow_the_threshold_and_no_other_refinement():
    prediction = of_samples(*FOUR).refined(MorphologyConfig(threshold=0.25, min_area=100, opening=3))
    np.testing.assert_array_equal(prediction.votes, [[1, 0.75], [0.75, 0.25]])


def test_strokes_are_unanimous_and_leave_the_samples_alone():
    locked = np.array([[BACKGROUND, FOREGROUND], [NONE, FOREGROUND]], np.uint8)
    prediction = of_samples(*FOUR, locked=locked)
    np.testing.assert_array_equal(prediction.votes, [[0, 1], [0.5, 1]])
    np.testing.assert_array_equal(prediction.agreement, [[1, 1], [0.5, 1]])
    np.testing.assert_array_equal(prediction.entropy == 0, [[True, True], [False, True]])
    np.testing.assert_array_equal(prediction.samples, of_samples(*FOUR).samples)


def test_one_seed_agrees_with_itself():
    prediction = of_samples(FOUR[2])
    np.testing.assert_array_equal(prediction.votes, [[1, 1], [0, 0]])
    assert (prediction.agreement == 1).all()
    assert not prediction.entropy.any()


@pytest.mark.parametrize("seeds", [3, 7, 49])
def test_seeds_that_all_agree_have_no_entropy_however_many(seeds):
    prediction = of_samples(*[FOUR[0]] * seeds)
    assert set(prediction.votes.ravel().tolist()) == {0.0, 1.0}
    assert not prediction.entropy.any()


def test_votes_have_the_images_size():
    prediction = draw()
    np.testing.assert_allclose(prediction.votes, prediction.samples.sum(axis=0) / SEEDS, atol=1e-7)
    assert prediction.votes.shape == prediction.entropy.shape == GEOMETRY.shape
    assert 0 <= prediction.entropy.min() < 0.9 < prediction.entropy.max() <= 1
    assert 0.5 <= prediction.agreement.min() < 0.7 < prediction.agreement.max() == 1


def test_some_seeds_are_averaged_and_named():
    prediction = of_samples(*FOUR)
    some = prediction.of_seeds([3, 0])
    np.testing.assert_allclose(some.probability, [[0.7, 0.5], [0.35, 0.2]], atol=1e-7)
    np.testing.assert_array_equal(some.squares, np.array([FOUR[3], FOUR[0]], np.float32))
    assert some.provenance["sampling"] == {"steps": 4, "seeds": [13, 10]}
    assert prediction.provenance["sampling"]["seeds"] == [10, 11, 12, 13]
    np.testing.assert_allclose(prediction.probability, [[0.8, 0.65], [0.4, 0.15]], atol=1e-7)


def test_some_seeds_keep_strokes_and_morphology():
    locked = np.array([[BACKGROUND, NONE], [NONE, FOREGROUND]], np.uint8)
    some = of_samples(*FOUR, locked=locked).refined(MorphologyConfig(threshold=0.7)).of_seeds((0,))
    np.testing.assert_array_equal(some.mask, [[False, True], [False, True]])


def test_some_seeds_change_nothing_outside_the_square():
    first = draw()
    top, left, bottom, right = GEOMETRY.box
    outside = np.ones(GEOMETRY.shape, np.bool_)
    outside[top:bottom, left:right] = False
    common = np.where(outside, np.float32(0.6), first.probability)
    some = replace(first, probability=common).of_seeds([0])
    assert (some.probability[outside] == np.float32(0.6)).all()
    np.testing.assert_array_equal(some.probability[~outside], GEOMETRY.from_square(first.squares[0])[~outside])


def test_without_strokes_the_mask_is_what_the_model_gave():
    locked = random_strokes(np.random.default_rng(0))
    painted = replace(draw(), locked=locked)
    bare = painted.without_strokes()
    np.testing.assert_array_equal(bare.mask, draw().mask)
    assert (bare.mask != painted.mask).any()
    assert bare.probability is painted.probability
    assert painted.locked is locked
