from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image

from napari_lsegdiff import _clock
from napari_lsegdiff._clock import PAUSE, WorkClock


class Time:
    now = 1000.0


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(_clock, "monotonic", lambda: time.now)
    return time


@pytest.fixture
def image() -> Image:
    return Image(np.zeros((4, 4)))


def test_time_goes_to_what_is_worked_on(time: Time, image: Image):
    clock = WorkClock()
    for seconds, frame, spent in ((5, (0,), 5), (7, (1,), 7), (2, (0,), 7)):
        time.now += seconds
        assert clock.tick(image, frame) == spent


def test_coffee_is_not_work(time: Time, image: Image):
    clock = WorkClock()
    time.now += 3600
    assert clock.tick(image, ()) == PAUSE


def test_goes_on_from_what_was_spent_before(time: Time, image: Image):
    clock = WorkClock()
    time.now += 30
    clock.start(image, (), 100.0)
    time.now += 4
    assert clock.tick(image, ()) == 104


def test_image_that_is_gone_is_not_kept(time: Time, image: Image):
    clock = WorkClock()
    clock.tick(image, ())
    clock.forget(image)
    assert not clock._seconds
