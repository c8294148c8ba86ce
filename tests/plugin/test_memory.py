"""Runs that do not fit into memory."""

from __future__ import annotations

import gc
import logging
import weakref
from functools import partial
from threading import Event

import numpy as np
import pytest
import torch
from qtpy.QtCore import QObject

import lsegdiff_core.devices
from lsegdiff_core.config import SamplingConfig
from lsegdiff_core.predictor import Predictor
from napari_lsegdiff._runner import Runner
from napari_lsegdiff._worker import (
    ON_THE_CPU,
    OUT_OF_MEMORY,
    Failed,
    Finished,
    NewestWins,
    PredictorCache,
    Request,
    Stage,
    segment,
)


class Card:
    """A graphics card that torch seems to have, with room for ``room`` samples; it computes on the CPU."""

    def __init__(self) -> None:
        self.room = 0
        self.asked: list[int] = []


@pytest.fixture
def card(monkeypatch) -> Card:
    card = Card()
    init, whole = Predictor.__init__, Predictor._in_parts

    def start(self, bundle, device):
        init(self, bundle, "cpu")
        if device == "cuda":
            # the batches are those of a GPU; the tensors stay where they are
            self._take_all = lambda: setattr(self, "_most", None)
            self.gpu = True

    def in_parts(self, network, *batches):
        def limited(*parts):
            if hasattr(self, "gpu"):
                card.asked.append(len(parts[0]))
                if len(parts[0]) > card.room:
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
            return network(*parts)

        return whole(self, limited, *batches)

    def steps(self, *args, steps=Predictor.steps):
        prediction = yield from steps(self, *args)
        if hasattr(self, "gpu"):
            prediction.source["device"] = "cuda"
        return prediction

    monkeypatch.setattr(Predictor, "__init__", start)
    monkeypatch.setattr(Predictor, "_in_parts", in_parts)
    monkeypatch.setattr(Predictor, "steps", steps)
    resolve = lsegdiff_core.devices.resolve_device
    monkeypatch.setattr(
        lsegdiff_core.devices,
        "resolve_device",
        lambda name: torch.device("cuda") if name == "cuda" else resolve(name),
    )
    return card


@pytest.fixture
def ask(session, add_image, bundle):
    """Return a request of four seeds on a device."""
    image = add_image(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8), name="Jane Doe")

    def make(device: str) -> Request:
        return Request(session.job(image), bundle, device, SamplingConfig(steps=2, seeds=(0, 1, 2, 3)))

    return make


def test_a_run_that_fits_has_no_note(card, ask):
    card.room = 4
    *_, last = segment(PredictorCache(), ask("cuda"))
    assert last == Finished(last.prediction, "")
    assert last.prediction.source["device"] == "cuda"


def test_half_of_the_samples_at_once(card, ask, caplog):
    card.room = 2
    with caplog.at_level(logging.INFO):
        *_, last = segment(PredictorCache(), ask("cuda"))
    assert "2 of 4 samples at once" in last.note
    assert (last.prediction.source["device"], last.prediction.source["batch"]) == ("cuda", 2)
    assert "2 of 4 samples at once" in caplog.text


def test_a_card_without_any_room_is_left_for_the_cpu(card, ask, caplog):
    cache = PredictorCache()
    whole = list(segment(cache, ask("cpu")))[-1].prediction
    with caplog.at_level(logging.INFO):
        *updates, last = segment(cache, ask("cuda"))
    assert card.asked == [4, 2, 1]
    assert any(isinstance(update, Stage) and "CPU" in update.text for update in updates)
    assert last.note == ON_THE_CPU
    assert last.prediction.source["device"] == "cpu"
    np.testing.assert_array_equal(last.prediction.probability, whole.probability)
    assert ON_THE_CPU in caplog.text
    assert "Jane Doe" not in caplog.text
    # the next run tries the card again
    card.room = 4
    *_, last = segment(cache, ask("cuda"))
    assert last.prediction.source["device"] == "cuda"
    assert last.note == ""


def test_a_card_that_cannot_hold_the_model_is_left_for_the_cpu(card, ask, monkeypatch):
    def full(self, bundle, device, init=Predictor.__init__):
        if device == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        init(self, bundle, device)

    monkeypatch.setattr(Predictor, "__init__", full)
    *_, last = segment(PredictorCache(), ask("cuda"))
    assert last.note == ON_THE_CPU


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_the_cpu_has_nowhere_to_go(card, ask, monkeypatch, error):
    def fail(self, *args):
        raise error

    monkeypatch.setattr(Predictor, "encode", fail)
    for device in ("cpu", "cuda"):
        *_, last = segment(PredictorCache(), ask(device))
        assert isinstance(last, Failed)
        assert last.line == OUT_OF_MEMORY


def test_other_failures_are_not_tried_on_the_cpu(card, ask, monkeypatch):
    asked = []

    def fail(self, *args):
        asked.append(self)
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(Predictor, "encode", fail)
    *_, last = segment(PredictorCache(), ask("cuda"))
    assert "shapes differ" in last.line
    assert len(asked) == 1


def test_a_refused_image_is_not_named_in_the_log(ask, session, add_image, bundle, caplog):
    image = add_image(np.full((60, 80), np.nan, np.float32), name="Jane Doe")
    request = Request(session.job(image), bundle, "cpu", SamplingConfig())
    with caplog.at_level(logging.INFO):
        *_, last = segment(PredictorCache(), request)
    assert "Jane Doe" in last.line
    assert "Refused: the dock says why, for this log names no images" in caplog.text
    assert "Jane Doe" not in caplog.text


def test_clear_frees_the_predictors(bundle):
    cache = PredictorCache()
    predictor = cache.predictor(bundle, "cpu")
    cache.encode(predictor, np.zeros((40, 50), np.uint8), "a")
    held = weakref.ref(predictor)
    del predictor
    cache.clear()
    gc.collect()
    assert held() is None
    assert cache.predictor(bundle, "cpu") is not None


def test_runner_unloads_when_idle_only(qtbot, ask, calls):
    owner = QObject()
    runner = Runner(owner)
    calls.delay = 0.05
    runner.start(ask("cpu"))
    assert runner.unload() is None
    runner.stop()
    qtbot.waitUntil(lambda: runner.idle, timeout=20_000)
    before, after = runner.unload()
    assert before.process > 0
    assert after.process > 0
    assert not runner._cache._predictors


def test_of_requests_that_wait_the_newest_wins(qtbot):
    runs, came, done = NewestWins(), [], []
    first = Event()
    runs.done.connect(lambda result, tag: done.append((result, tag)))
    runs.request("slider", first.wait, "first")
    for number in range(5):
        runs.request("slider", partial(came.append, number), number)
    runs.request("other", lambda: "other", "other")
    first.set()
    qtbot.waitUntil(lambda: runs.idle)
    assert came == [4]
    assert [tag for _, tag in done] == ["first", 4, "other"]


def test_work_that_is_done_is_let_go(qtbot, viewer):
    # napari's window lists all workers, as tasks
    class Work:
        def __call__(self) -> None:
            pass

    work, runs = Work(), NewestWins()
    held = weakref.ref(work)
    runs.request("key", work)
    qtbot.waitUntil(lambda: runs.idle)
    del work
    gc.collect()
    assert held() is None


@pytest.mark.parametrize("stop", [False, True])
def test_a_run_that_has_ended_holds_nothing(qtbot, ask, calls, monkeypatch, stop):
    made = []

    def kept(*args: object) -> object:
        made.append(segment(*args))
        return made[-1]

    monkeypatch.setattr("napari_lsegdiff._runner.segment", kept)
    owner = QObject()
    runner = Runner(owner)
    steps = []
    runner.updated.connect(lambda update: steps.append(update) if isinstance(update, Stage) and update.done else None)
    calls.delay = 0.05
    runner.start(ask("cpu"))
    qtbot.waitUntil(lambda: bool(steps), timeout=20_000)
    if stop:
        runner.stop()
    qtbot.waitUntil(lambda: runner.idle, timeout=20_000)
    assert made[0].gi_frame is None, "image, networks and samples would stay in memory"
