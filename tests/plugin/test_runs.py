"""The predictions of the last runs."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image

from napari_lsegdiff._runs import KEPT, Runs

SHAPE = (20, 30)


@pytest.fixture
def image() -> Image:
    return Image(np.zeros(SHAPE, np.uint8))


def test_the_last_runs_are_at_hand_by_their_numbers(image: Image, predict):
    runs, predictions = Runs(), [predict(SHAPE) for _ in range(KEPT + 2)]
    numbers = [runs.add(image, prediction) for prediction in predictions]
    assert len(set(numbers)) == len(numbers)
    found = [runs.prediction(number) for number in numbers]
    assert found == [None, None, *predictions[2:]]
    assert runs.prediction(None) is None


def test_runs_of_an_image_go_with_it_and_no_number_comes_twice(image: Image, predict):
    runs, other = Runs(), Image(np.zeros(SHAPE, np.uint8))
    gone, stays = runs.add(image, predict(SHAPE)), runs.add(other, predict(SHAPE))
    runs.forget(image)
    assert runs.prediction(gone) is None
    assert runs.prediction(stays) is not None
    runs.clear()
    assert runs.prediction(stays) is None
    assert runs.add(image, predict(SHAPE)) not in (gone, stays)
