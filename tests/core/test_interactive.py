from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from lsegdiff_core.config import SamplingConfig
from lsegdiff_core.data.readers import Pair, read_pairs
from lsegdiff_core.hints import BACKGROUND, FOREGROUND, NONE, Hints
from lsegdiff_core.interactive import User, interact, summarise_interaction
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
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return (rows - row) ** 2 + (columns - column) ** 2 <= 2.5**2


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


def test_a_perfect_user_corrects_everything_by_painting_alone() -> None:
    generator = np.random.default_rng(0)
    truth = box((5, 40), (10, 60))
    mask = truth ^ (generator.random(SHAPE) < 0.02)
    wrong = (mask != truth).sum()
    while (mask != truth).any():
        stroke = touch(mask, truth)
        assert truth[stroke == FOREGROUND].all()
        assert not truth[stroke == BACKGROUND].any()
        mask = (mask | (stroke == FOREGROUND)) & (stroke != BACKGROUND)
        assert (mask != truth).sum() < wrong
        wrong = (mask != truth).sum()


@pytest.fixture
def images(pairs: Path) -> list[Pair]:
    return read_pairs(pairs)[:2]


def test_every_touch_has_a_score(predictor: Predictor, images: list[Pair]) -> None:
    rows = [row for method in ("re-diffuse", "paint") for row in interact(predictor, images, ONE, 3, method)]
    assert [(row["name"], row["method"]) for row in rows] == [
        (name, method) for method in ("re-diffuse", "paint") for name in ("f0", "f1")
    ]
    assert {len(row["iou"]) for row in rows} == {4}
    assert all(len(row["seconds"]) == 3 and min(row["seconds"]) > 0 for row in rows)
    for again, painted in zip(rows[:2], rows[2:], strict=True):
        assert again["iou"][0] == painted["iou"][0], "before the first touch the masks are one"
        assert again["iou"] != painted["iou"]
        assert painted["iou"] == sorted(painted["iou"])
        assert painted["iou"][-1] > painted["iou"][0]
    json.dumps([rows, summarise_interaction(rows)], allow_nan=False)


@pytest.mark.parametrize(("method", "evaluations"), [("re-diffuse", 4), ("paint", 1)])
def test_only_re_diffusing_asks_the_network_again(
    predictor: Predictor, images: list[Pair], count, method: str, evaluations: int
) -> None:
    networks = predictor.networks
    encoder, denoiser = count(networks.encoder), count(networks.denoiser)
    list(interact(predictor, images, ONE, 3, method))
    assert (encoder.calls, denoiser.calls) == (2, 2 * evaluations)


def test_the_model_hears_of_all_touches_so_far_and_of_the_mask(predictor: Predictor, images, monkeypatch) -> None:
    heard: list[Hints] = []
    predict = predictor.predict

    def listen(sampling: SamplingConfig, hints: Hints | None = None):
        heard.extend([] if hints is None else [hints])
        return predict(sampling, hints)

    monkeypatch.setattr(predictor, "predict", listen)
    list(interact(predictor, images[:1], ONE, 3, "re-diffuse"))
    truth = images[0].read()[1]
    assert len(heard) == 3
    for hints in heard:
        assert truth[hints.locked == FOREGROUND].all()
        assert not truth[hints.locked == BACKGROUND].any()
        assert hints.current[hints.locked == FOREGROUND].all()
        assert not hints.current[hints.locked == BACKGROUND].any()
    for before, after in itertools.pairwise(heard):
        drawn = before.locked != NONE
        assert np.array_equal(after.locked[drawn], before.locked[drawn])
        assert (after.locked != NONE).sum() > drawn.sum()


def test_interaction_is_summarised_by_hand() -> None:
    rows = [
        {"name": "a", "method": "paint", "iou": [0.2, 0.4], "seconds": [0.1]},
        {"name": "b", "method": "paint", "iou": [0.6, 0.6], "seconds": [0.3, 0.4]},
        {"name": "a", "method": "re-diffuse", "iou": [0.2, 0.9], "seconds": []},
    ]
    painted, again = summarise_interaction(rows)
    assert (painted["method"], painted["n"], again["method"], again["n"]) == ("paint", 2, "re-diffuse", 1)
    assert painted["iou"] == pytest.approx([0.4, 0.5])
    assert painted["gain"] == pytest.approx([0.0, 0.1])
    assert painted["seconds_per_touch"] == pytest.approx(0.3)
    assert again["seconds_per_touch"] is None
    assert again["gain"] == pytest.approx([0.0, 0.7])
    assert painted["gain_interval"][0] == (0.0, 0.0)
    low, high = painted["gain_interval"][1]
    assert 0 <= low < 0.1 < high <= 0.2 + 1e-12
