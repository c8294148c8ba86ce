"""What is frozen for speed must not keep a layer alive."""

import gc
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QObject

from napari_lsegdiff._garbage import Garbage


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def garbage(viewer: ViewerModel, qapp: object) -> Iterator[Garbage]:
    dock = QObject()
    made = Garbage(viewer, dock)
    yield made
    made.close()
    assert gc.get_freeze_count() == 0


def add(viewer: ViewerModel) -> weakref.ref:
    layer = viewer.add_image(np.zeros((8, 8)))
    layer.metadata["itself"] = layer  # only the collector frees it
    return weakref.ref(layer)


def test_nothing_is_frozen_before_a_run(viewer: ViewerModel, garbage: Garbage, qtbot):
    add(viewer)
    viewer.layers.clear()
    qtbot.wait(10)
    assert gc.get_freeze_count() == 0


def test_a_layer_of_the_time_of_the_first_run_is_freed(viewer: ViewerModel, garbage: Garbage):
    first = add(viewer)
    add(viewer)  # the selection of napari keeps the layer that was removed last
    garbage.settle()
    assert gc.get_freeze_count() > 0
    viewer.layers.remove(first())
    gc.collect()
    assert first() is None


def test_an_empty_viewer_is_frozen_again_and_later_layers_are_freed(viewer: ViewerModel, garbage: Garbage, qtbot):
    add(viewer)
    garbage.settle()
    viewer.layers.clear()
    qtbot.waitUntil(lambda: gc.get_freeze_count() > 0)
    later = [add(viewer), add(viewer)]
    viewer.layers.clear()
    assert gc.get_freeze_count() > 0
    add(viewer)
    gc.collect()
    assert [layer() for layer in later] == [None, None]


def test_a_layer_that_comes_at_once_is_not_frozen(viewer: ViewerModel, garbage: Garbage, qtbot):
    add(viewer)
    garbage.settle()
    viewer.layers.clear()
    second = add(viewer)
    qtbot.wait(10)
    assert gc.get_freeze_count() == 0
    viewer.layers.clear()
    add(viewer)
    gc.collect()
    assert second() is None
