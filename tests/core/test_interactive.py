from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from lsegdiff_core.config import SamplingConfig
from lsegdiff_core.data.readers import Pair, read_pairs
from lsegdiff_core.drawing import disc as draw_disc
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.hints import BACKGROUND, FOREGROUND, NONE, Hints, paste
from lsegdiff_core.interactive import (
    MOST,
    REACH,
    SCORED,
    TARGETS,
    WIDTH,
    WRONG,
    User,
    interact,
    summarise_interaction,
    touches_needed,
)
from lsegdiff_core.predictor import Predictor

# the diagonal is 100 pixels, so that a touch has a radius of 2.5
SHAPE = (60, 80)
ONE = SamplingConfig(steps=1)


def touch(mask: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return User().correct(mask, truth, np.random.default_rng(0))


def box(rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(SHAPE, np.bool_)
    mask[slice(*rows), slice(*columns)] = True
    return mask


def disc(row: int, column: int) -> np.ndarray:
    return draw_disc(SHAPE, (row, column), 2.5)


def blobs(generator: np.random.Generator, shape: tuple[int, int] = (150, 200)) -> np.ndarray:
    """Parts of many shapes, some thin, some cut by the edge."""
    field = ndimage.gaussian_filter(generator.normal(size=shape), generator.uniform(1, 8))
    return field > np.quantile(field, generator.uniform(0.3, 0.95))


NOTHING = box((0, 0), (0, 0))


def test_a_miss_is_touched_in_its_middle_with_foreground() -> None:
    stroke = touch(NOTHING, box((10, 21), (30, 41)))
    assert stroke.dtype == np.uint8
    np.testing.assert_array_equal(stroke, np.where(disc(15, 35), FOREGROUND, NONE))


def test_a_false_alarm_is_touched_with_background() -> None:
    np.testing.assert_array_equal(touch(box((10, 21), (30, 41)), NOTHING), np.where(disc(15, 35), BACKGROUND, NONE))


@pytest.mark.parametrize(("size", "expected"), [(9, (15, 15, FOREGROUND)), (13, (46, 66, BACKGROUND))])
def test_the_largest_error_counts(size: int, expected: tuple[int, int, int]) -> None:
    """An error of 11 x 11 pixels against several of another size that are larger together."""
    missed = box((10, 21), (10, 21))
    false = box((40, 40 + size), (60, 60 + size)) | box((40, 48), (20, 28)) | box((1, 9), (60, 68))
    row, column, value = expected
    np.testing.assert_array_equal(touch(false, missed), np.where(disc(row, column), value, NONE))


def test_errors_of_two_kinds_that_touch_are_two() -> None:
    truth, mask = box((10, 21), (10, 21)), box((10, 21), (21, 30))
    np.testing.assert_array_equal(touch(mask, truth), np.where(disc(15, 15), FOREGROUND, NONE))


def test_a_touch_never_leaves_the_truth_of_its_label() -> None:
    small = box((30, 33), (20, 23))
    np.testing.assert_array_equal(touch(NOTHING, small), np.where(small, FOREGROUND, NONE))
    np.testing.assert_array_equal(touch(~NOTHING, ~small), np.where(small, BACKGROUND, NONE))


def test_no_error_gives_no_stroke() -> None:
    truth = box((10, 21), (30, 41))
    stroke = touch(truth, truth)
    assert stroke.shape == SHAPE
    assert not stroke.any()


def test_an_error_at_the_images_edge_is_touched_in_its_middle() -> None:
    np.testing.assert_array_equal(touch(NOTHING, box((0, 11), (69, 80))), np.where(disc(5, 74), FOREGROUND, NONE))


@pytest.mark.parametrize("kind", ["disc", "stroke"])
def test_a_perfect_user_corrects_everything_by_painting_alone(kind: str) -> None:
    generator = np.random.default_rng(0)
    truth = box((5, 40), (10, 60))
    mask = truth ^ (generator.random(SHAPE) < 0.02)
    wrong = (mask != truth).sum()
    while (mask != truth).any():
        mask = paste(mask, User(kind).correct(mask, truth, generator))
        assert (mask != truth).sum() < wrong
        wrong = (mask != truth).sum()


@pytest.mark.parametrize("kind", ["disc", "stroke"])
@pytest.mark.parametrize("seed", range(20))
def test_a_perfect_user_never_leaves_the_truth_of_the_label(kind: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    mask, truth = blobs(generator), blobs(generator)
    stroke = User(kind).correct(mask, truth, generator)
    drawn = stroke != NONE
    assert drawn.any()
    np.testing.assert_array_equal(stroke[drawn], np.where(truth, FOREGROUND, BACKGROUND)[drawn])
    assert (mask != truth)[drawn].any()


@pytest.mark.parametrize("kind", ["disc", "stroke"])
def test_a_perfect_user_needs_no_chance(kind: str) -> None:
    mask, truth = blobs(np.random.default_rng(0)), blobs(np.random.default_rng(1))
    strokes = [User(kind).correct(mask, truth, np.random.default_rng(seed)) for seed in range(5)]
    assert all(np.array_equal(stroke, strokes[0]) for stroke in strokes)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("value", [FOREGROUND, BACKGROUND])
def test_a_stroke_lies_along_the_middle_of_the_error(turned: bool, value: int) -> None:
    """A bar of 41 x 331 pixels in an image whose diagonal is 500."""
    error = np.zeros((300, 400), np.bool_)
    error[100:141, 20:351] = True
    error = error.T if turned else error
    mask, truth = (~error, error | True) if value == FOREGROUND else (error, error & False)
    stroke = User("stroke").correct(mask, truth, np.random.default_rng(0))
    stroke = stroke.T if turned else stroke
    assert set(np.unique(stroke).tolist()) == {NONE, value}
    rows, columns = np.nonzero(stroke)
    # a skeleton may step aside by a pixel
    assert WIDTH * 500 <= np.abs(rows - 120).max() <= WIDTH * 500 + 1
    length = columns.max() + 1 - columns.min()
    assert REACH * 500 < length <= 2 * (REACH + WIDTH) * 500 + 1
    assert stroke[120, columns.min() + 1 : columns.max()].all(), "it has no gaps"


def test_a_stroke_follows_a_bend() -> None:
    """Along a ring, as far from its outside as from its inside."""
    shape, middle, radius = (480, 640), (240, 320), 60
    ring = draw_disc(shape, middle, radius + 12) & ~draw_disc(shape, middle, radius - 12)
    stroke = User("stroke").correct(np.zeros(shape, np.bool_), ring, np.random.default_rng(0)) == FOREGROUND
    rows, columns = np.nonzero(stroke)
    assert np.abs(np.hypot(rows - middle[0], columns - middle[1]) - radius).max() <= WIDTH * 800 + 2
    assert max(np.ptp(rows), np.ptp(columns)) > REACH * 800
    assert ndimage.label(stroke, np.ones((3, 3)))[1] == 1


def test_a_stroke_does_not_jump_to_another_arm_of_the_error() -> None:
    """Two bars that are joined far from the touch."""
    error = np.zeros((300, 400), np.bool_)
    error[100:117, 20:380] = error[122:135, 20:380] = error[100:135, 375:380] = True
    stroke = User("stroke").correct(np.zeros_like(error), error, np.random.default_rng(0)) != NONE
    rows, columns = np.nonzero(stroke)
    assert columns.max() < 120
    assert rows.max() < 117


def test_a_stroke_is_cut_off_where_the_truth_ends() -> None:
    thin = np.zeros((300, 400), np.bool_)
    thin[100, 50:350] = True
    stroke = User("stroke").correct(np.zeros_like(thin), thin, np.random.default_rng(0)) != NONE
    rows, columns = np.nonzero(stroke)
    assert set(rows.tolist()) == {100}
    assert len(columns) > REACH * 500


def test_an_error_of_one_pixel_gets_a_stroke_of_one_pixel() -> None:
    truth = box((30, 31), (20, 21))
    stroke = User("stroke").correct(NOTHING, truth, np.random.default_rng(0))
    np.testing.assert_array_equal(stroke, np.where(truth, FOREGROUND, NONE))


@pytest.mark.parametrize("kind", ["disc", "stroke"])
def test_a_noisy_user_labels_one_touch_in_ten_wrong_and_lands_all_over_the_error(kind: str) -> None:
    truth, generator, user = box((10, 22), (20, 60)), np.random.default_rng(0), User(kind, noisy=True)
    wrong, covered = [], np.zeros(SHAPE, np.bool_)
    for _ in range(1500):
        stroke = user.correct(NOTHING, truth, generator)
        (value,) = np.unique(stroke[stroke != NONE])
        wrong.append(value == BACKGROUND)
        covered |= stroke != NONE
    assert np.mean(wrong) == pytest.approx(WRONG, abs=3 * math.sqrt(WRONG * (1 - WRONG) / 1500))
    # a stroke goes along the middle, of which a disc is no part
    if kind == "disc":
        assert covered[truth].all()
    assert covered.any(axis=0)[26:54].all()
    assert not covered[~truth].any()


def test_a_noisy_users_stroke_is_as_long_as_any() -> None:
    truth, generator, user = box((10, 20), (5, 75)), np.random.default_rng(0), User("stroke", noisy=True)
    lengths = [(user.correct(NOTHING, truth, generator) != NONE).sum() for _ in range(100)]
    assert min(lengths) >= REACH * 100


@pytest.mark.parametrize("kind", ["disc", "stroke"])
@pytest.mark.parametrize("seed", range(10))
def test_a_noisy_touch_stays_on_one_side_of_the_truth_and_touches_the_error(kind: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    mask, truth = blobs(generator), blobs(generator)
    for _ in range(10):
        drawn = User(kind, noisy=True).correct(mask, truth, generator) != NONE
        assert (mask != truth)[drawn].any()
        assert len(np.unique(truth[drawn])) == 1


def test_a_noisy_users_touches_depend_on_the_generator_alone() -> None:
    mask, truth, user = blobs(np.random.default_rng(0)), blobs(np.random.default_rng(1)), User(noisy=True)
    runs = []
    for seed in (5, 5, 6):
        generator = np.random.default_rng(seed)
        runs.append(np.stack([user.correct(mask, truth, generator) for _ in range(5)]))
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    assert not np.array_equal(runs[0][0], runs[0][1])


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("kind", ["disc", "stroke"])
def test_no_user_touches_a_mask_that_is_right(kind: str, noisy: bool) -> None:
    truth = box((10, 21), (30, 41))
    assert not User(kind, noisy).correct(truth, truth, np.random.default_rng(0)).any()


def test_an_unknown_touch_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(LSegDiffError, match="touch: unknown name 'box'; choose one of disc, stroke"):
        User("box")


@pytest.fixture
def images(pairs: Path) -> list[Pair]:
    return read_pairs(pairs)[:2]


def test_every_touch_has_a_score(predictor: Predictor, images: list[Pair]) -> None:
    again, painted = (list(interact(predictor, images, ONE, method, most=3)) for method in ("re-diffuse", "paint"))
    for one, other in zip(again, painted, strict=True):
        assert one["iou"][0] == other["iou"][0], "before the first touch the masks are one"
        assert one["iou"] != other["iou"]
        assert other["iou"] == sorted(other["iou"])
        assert other["iou"][-1] > other["iou"][0]
    for rows in (again, painted):
        assert [row["name"] for row in rows] == ["f0", "f1"]
        assert {len(row["iou"]) for row in rows} == {4}
        assert all(len(row["seconds"]) == 3 and min(row["seconds"]) > 0 for row in rows)
        json.dumps([rows, summarise_interaction(rows)], allow_nan=False)


def test_a_user_goes_on_until_the_mask_is_good(predictor: Predictor, images: list[Pair]) -> None:
    for row in interact(predictor, images, ONE, "paint", most=1000):
        touches = len(row["iou"]) - 1
        assert SCORED < touches < 1000
        assert max(row["iou"][:-1]) < TARGETS[-1] <= row["iou"][-1]


@pytest.mark.parametrize("most", [0, 2, SCORED, SCORED + 2])
def test_a_user_gives_up(predictor: Predictor, images: list[Pair], most: int) -> None:
    (row,) = interact(predictor, images[:1], ONE, "paint", most=most)
    assert len(row["iou"]) == most + 1
    assert max(row["iou"]) < TARGETS[-1]


def test_mirrored_views_are_for_the_first_mask(predictor: Predictor, images: list[Pair], count) -> None:
    denoiser = count(predictor.networks.denoiser)
    list(interact(predictor, images[:1], replace(ONE, seeds=(0, 1, 2, 3), flip=True), "re-diffuse", most=2))
    assert denoiser.calls == 4 + 2


def test_an_unknown_method_is_refused_and_the_known_ones_are_named(predictor: Predictor, images: list[Pair]) -> None:
    with pytest.raises(LSegDiffError, match="method: unknown name 'erase'; choose one of re-diffuse, paint"):
        next(interact(predictor, images, ONE, "erase"))


@pytest.fixture
def nearly(predictor: Predictor, pairs: Path, write_image):
    """Make the truth the model's own mask but for a corner of so many pixels a side."""

    def make(side: int) -> list[Pair]:
        pair = read_pairs(pairs)[0]
        predictor.set_image(pair.read()[0])
        truth = predictor.predict(ONE).mask.copy()
        truth[:side, :side] ^= True
        write_image(pairs / "masks" / "f0.png", truth.astype(np.uint8) * np.uint8(255))
        return read_pairs(pairs)[:1]

    return make


def test_a_mask_that_is_good_at_once_is_touched_as_often_as_is_scored(predictor: Predictor, nearly) -> None:
    (row,) = interact(predictor, nearly(9), ONE, "paint")
    assert TARGETS[-1] < row["iou"][0] < row["iou"][SCORED] < 1
    assert (len(row["iou"]), len(row["seconds"])) == (SCORED + 1, SCORED)


@pytest.mark.parametrize("method", ["re-diffuse", "paint"])
def test_a_mask_that_is_right_is_not_touched_and_keeps_its_score(predictor: Predictor, nearly, count, method) -> None:
    pairs = nearly(0)
    denoiser = count(predictor.networks.denoiser)
    (row,) = interact(predictor, pairs, ONE, method)
    assert row == {"name": "f0", "iou": [1.0] * (SCORED + 1), "seconds": []}
    assert denoiser.calls == 1


@pytest.mark.parametrize("user", [User(noisy=True), User("stroke", noisy=True)])
def test_a_noisy_user_makes_the_same_mistakes_in_every_run(predictor: Predictor, images: list[Pair], user) -> None:
    def scores(user: User, method: str = "paint") -> list[list[float]]:
        return [row["iou"] for row in interact(predictor, images, ONE, method, user, most=4)]

    assert scores(user) == scores(user)
    assert scores(user, "re-diffuse") == scores(user, "re-diffuse")
    assert scores(user) != scores(User(user.touch))


@pytest.mark.parametrize(
    ("method", "strength", "evaluations"),
    [("re-diffuse", 1, 4), ("re-diffuse", 0.5, 4), ("re-diffuse", 0, 1), ("paint", 1, 1)],
)
def test_only_re_diffusing_asks_the_network_again(
    predictor: Predictor, images: list[Pair], count, method: str, strength: float, evaluations: int
) -> None:
    networks = predictor.networks
    encoder, denoiser = count(networks.encoder), count(networks.denoiser)
    list(interact(predictor, images, SamplingConfig(steps=1, strength=strength), method, most=3))
    assert (encoder.calls, denoiser.calls) == (2, 2 * evaluations)


def test_the_model_hears_of_all_touches_so_far_and_of_the_mask(predictor: Predictor, images, monkeypatch) -> None:
    heard: list[tuple[SamplingConfig, Hints | None]] = []
    predict = predictor.predict

    def listen(sampling: SamplingConfig, hints: Hints | None = None):
        heard.append((sampling, hints))
        return predict(sampling, hints)

    monkeypatch.setattr(predictor, "predict", listen)
    partial = SamplingConfig(steps=1, strength=0.4)
    list(interact(predictor, images[:1], partial, "re-diffuse", most=3))
    truth = images[0].read()[1]
    assert heard[0] == (ONE, None), "the first mask comes from pure noise"
    assert [sampling for sampling, _ in heard[1:]] == [partial] * 3
    told = [hints for _, hints in heard[1:]]
    for hints in told:
        assert truth[hints.locked == FOREGROUND].all()
        assert not truth[hints.locked == BACKGROUND].any()
        assert hints.current[hints.locked == FOREGROUND].all()
        assert not hints.current[hints.locked == BACKGROUND].any()
    for before, after in itertools.pairwise(told):
        drawn = before.locked != NONE
        assert np.array_equal(after.locked[drawn], before.locked[drawn])
        assert (after.locked != NONE).sum() > drawn.sum()


def test_the_control_without_diffusion_is_corrected_the_same_way(direct: Predictor, images: list[Pair]) -> None:
    again, painted = (list(interact(direct, images, ONE, method, most=2)) for method in ("re-diffuse", "paint"))
    assert [row["iou"][0] for row in again] == [row["iou"][0] for row in painted]
    assert [row["iou"] for row in again] != [row["iou"] for row in painted]


@pytest.mark.parametrize(
    ("target", "most", "expected"),
    [(0.5, MOST, 0), (0.6, MOST, 2), (0.85, MOST, 2), (0.9, MOST, 4), (0.91, MOST, None), (0.9, 3, None), (0.9, 4, 4)],
)
def test_touches_are_counted_until_the_target_is_first_reached(target: float, most: int, expected: int | None) -> None:
    assert touches_needed([0.5, 0.55, 0.85, 0.4, 0.9, 0.2], target, most) == expected


def row(iou: list[float], seconds: list[float] | None = None) -> dict:
    return {"name": "a", "iou": iou, "seconds": [0.1] if seconds is None else seconds}


ROWS = [
    row([0.5, 0.70, 0.86, 0.83, 0.90, 0.91], [0.1, 0.5]),  # 2 and 4 touches; one round lost
    row([0.95, 0.96, 0.97, 0.96, 0.97, 0.99], [0.3]),  # good at once; a round that costs 0.01 is no loss
    row([0.2, 0.10, 0.20, 0.30, 0.40, 0.50, 0.60, 0.40], [0.2]),  # never; the second loss comes too late to count
    row([0.1, 0.20, 0.30, 0.86, 0.86, 0.86, 0.90], []),  # 3 and 6 touches
]


def test_interaction_is_summarised_by_hand() -> None:
    summary = summarise_interaction(ROWS)
    assert summary["n"] == 4
    assert summary["noc85"] == pytest.approx((2 + 0 + 20 + 3) / 4)
    assert summary["noc90"] == pytest.approx((4 + 0 + 20 + 6) / 4)
    assert (summary["never85"], summary["never90"]) == (0.25, 0.25)
    assert summary["noc85_where_needed"] == pytest.approx((2 + 20 + 3) / 3)
    assert summary["noc90_where_needed"] == pytest.approx((4 + 20 + 6) / 3)
    assert summary["iou"] == pytest.approx([1.75 / 4, 1.96 / 4, 2.33 / 4, 2.95 / 4, 3.13 / 4, 3.26 / 4])
    assert summary["gain"] == pytest.approx([0, 0.21 / 4, 0.58 / 4, 1.20 / 4, 1.38 / 4, 1.51 / 4])
    assert summary["lost"] == pytest.approx(2 / 20)
    assert summary["seconds_per_touch"] == pytest.approx(0.25)
    json.dumps(summary, allow_nan=False)


def test_intervals_of_an_interaction_hold_their_means() -> None:
    summary = summarise_interaction(ROWS)
    for name in ("noc85", "noc90"):
        low, high = summary[f"{name}_interval"]
        assert 0 <= low < summary[name] < high <= MOST
    assert summary["gain_interval"][0] == (0.0, 0.0)
    for gain, (low, high) in list(zip(summary["gain"], summary["gain_interval"], strict=True))[1:]:
        assert low < gain < high


def test_an_image_that_never_gets_there_counts_the_touches_of_a_user_who_gave_up() -> None:
    summary = summarise_interaction(ROWS, most=4)
    assert summary["noc85"] == pytest.approx((2 + 0 + 4 + 3) / 4)
    assert summary["noc90"] == pytest.approx((4 + 0 + 4 + 4) / 4)
    assert (summary["never85"], summary["never90"]) == (0.25, 0.5)


def test_nothing_is_said_of_what_did_not_happen() -> None:
    summary = summarise_interaction([row([0.95, 0.95, 0.95], [])])
    assert (summary["noc85"], summary["noc90"], summary["never90"], summary["lost"]) == (0, 0, 0, 0)
    assert summary["noc85_where_needed"] is summary["noc90_where_needed"] is summary["seconds_per_touch"] is None


@pytest.mark.parametrize(("cost", "lost"), [(0.019, 0.0), (0.021, 0.5), (0.5, 0.5)])
def test_a_round_is_lost_if_it_costs_more_than_two_hundredths(cost: float, lost: float) -> None:
    assert summarise_interaction([row([0.6, 0.7, 0.7 - cost])])["lost"] == lost
