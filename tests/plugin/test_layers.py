"""Undo, redo and the user's strokes, without a viewer."""

from __future__ import annotations

import dask.array
import numpy as np
import pytest
from napari.layers import Labels

from lsegdiff_core.errors import LSegDiffError
from napari_lsegdiff._layers import HISTORY, UNLOCKED, MaskLog


def disc(radius: float, centre: tuple[int, int] = (10, 15)) -> np.ndarray:
    y, x = np.mgrid[:20, :30]
    return (np.hypot(y - centre[0], x - centre[1]) <= radius).astype(np.uint8)


def stroke(layer: Labels, rows: slice, columns: slice, value: int) -> None:
    """A drag of the mouse: several pieces in one undo item."""
    with layer.block_history():
        for row in range(rows.start, rows.stop):
            index = np.arange(columns.start, columns.stop)
            layer.data_setitem((np.full_like(index, row), index), value)


LINE = (slice(2, 4), slice(3, 9))


def test_model_write_does_not_leave_a_stale_undo(log: MaskLog):
    # `layer.data = new` keeps napari's history: Ctrl+Z would replay the old stroke into the new mask
    layer = log.layer
    states = [layer.data.copy()]
    for write in (
        lambda: log.write((), disc(5) > 0, 1, None),
        lambda: stroke(layer, *LINE, 2),
        lambda: log.write((), disc(7, (8, 20)) > 0, 1, None),
        lambda: log.relabel((), layer.data * 3, {}),
        lambda: log.forget((), disc(4), {}),
    ):
        write()
        states.append(layer.data.copy())
    for state in states[-2::-1]:
        layer.undo()
        np.testing.assert_array_equal(layer.data, state)
    for state in states[1:]:
        layer.redo()
        np.testing.assert_array_equal(layer.data, state)


def test_model_write_is_not_in_place_without_an_undo(log: MaskLog):
    log.write((), disc(5) > 0, 1, None)
    log.write((), disc(3) > 0, 1, None)
    log.layer.undo()
    np.testing.assert_array_equal(log.layer.data, disc(5))
    log.layer.undo()
    assert not log.layer.data.any()


def test_paint_event_of_the_models_own_write_is_not_a_users_stroke():
    emitted, heard = [], []
    layer = Labels(np.zeros((20, 30), np.uint8))
    layer.events.paint.connect(emitted.append)
    log = MaskLog(layer, lambda: (), lambda frames, numbers, painted: heard.append(painted))
    log.write((), disc(5) > 0, 1, None)
    for radius in (6, 7):
        log.write((), disc(radius) > 0, 1, None, merge=1)
    log.relabel((), layer.data * 2, {})
    log.forget((), disc(4), {})
    assert len(emitted) == 5, "napari emits it; if it does no longer, this test says nothing"
    assert not heard
    assert log.locked(()) is None or (log.locked(()) == UNLOCKED).all()
    assert not log.edited(())


def test_repaint_of_equal_values_is_neither_a_stroke_nor_an_undo_item(log: MaskLog):
    log.write((), disc(5) > 0, 1, {"run": 1})
    stroke(log.layer, slice(9, 12), slice(14, 17), 1)
    log.layer.brush_size = 3
    log.layer.paint((10, 15), 1)
    assert log.locked(()) is None
    # of a stroke across the edge what was equal is not the user's
    stroke(log.layer, slice(10, 11), slice(15, 25), 1)
    held = np.zeros((20, 30), bool)
    held[10, 21:25] = True
    np.testing.assert_array_equal(log.locked(()) != UNLOCKED, held)
    log.layer.undo()
    np.testing.assert_array_equal(log.layer.data, disc(5))
    log.layer.undo()
    assert not log.layer.data.any()
    assert log.origins(()) == {}


def test_undo_of_a_stroke_restores_the_model(log: MaskLog):
    log.write((), disc(5) > 0, 1, {"run": 1})
    stroke(log.layer, *LINE, 2)
    assert log.edited(())
    log.layer.undo()
    np.testing.assert_array_equal(log.layer.data, disc(5))
    assert not log.edited(())


def test_stroke_survives_a_write_and_undo_walks_back(log: MaskLog):
    layer = log.layer
    log.write((), disc(5) > 0, 1, {"run": 1})
    stroke(layer, *LINE, 2)
    log.write((), disc(7) > 0, 1, {"run": 2})
    expected = disc(7)
    expected[LINE] = 2
    np.testing.assert_array_equal(layer.data, expected)
    assert log.origins(())[1] == {"run": 2}

    layer.undo()
    assert log.origins(())[1] == {"run": 1}
    expected = disc(5)
    expected[LINE] = 2
    np.testing.assert_array_equal(layer.data, expected)
    # what the undo changed is no stroke: another write shows the pure model around the line
    layer.undo()
    assert not log.edited(())
    log.write((), disc(3) > 0, 1, None)
    np.testing.assert_array_equal(layer.data, disc(3))


def test_redo_brings_strokes_back(log: MaskLog):
    layer = log.layer
    log.write((), disc(5) > 0, 1, {"run": 1})
    stroke(layer, *LINE, 2)
    log.write((), disc(7) > 0, 1, {"run": 2})
    for _ in range(3):
        layer.undo()
    assert not layer.data.any()
    for _ in range(3):
        layer.redo()
    assert log.origins(())[1] == {"run": 2}
    log.write((), disc(2) > 0, 1, None)
    expected = disc(2)
    expected[LINE] = 2
    np.testing.assert_array_equal(layer.data, expected)


def test_stroke_where_the_slider_meanwhile_agrees(log: MaskLog):
    row, column = 10, 21  # outside disc(5), inside disc(7)
    log.write((), disc(5) > 0, 1, None)
    stroke(log.layer, slice(row, row + 1), slice(column, column + 1), 1)
    log.write((), disc(7) > 0, 1, None)
    log.write((), disc(5) > 0, 1, None)
    assert log.layer.data[row, column] == 1


def test_later_strokes_win_also_where_the_model_agrees(log: MaskLog):
    pixel = (slice(10, 11), slice(21, 22))
    log.write((), disc(5) > 0, 1, None)
    stroke(log.layer, *pixel, 1)
    log.write((), disc(7) > 0, 1, None)
    stroke(log.layer, *pixel, 0)
    log.write((), disc(8) > 0, 1, None)
    assert log.layer.data[10, 21] == 0
    assert log.locked(())[10, 21] == 0
    log.layer.undo()
    log.layer.undo()
    assert log.locked(())[10, 21] == 1


def test_a_write_that_changes_nothing_keeps_the_undo_order(log: MaskLog):
    log.write((), disc(5) > 0, 1, {"run": 1})
    stroke(log.layer, *LINE, 1)
    model = disc(5)
    model[LINE] = 1
    log.write((), model > 0, 1, {"run": 2})
    log.layer.undo()
    np.testing.assert_array_equal(log.layer.data, disc(5))
    assert log.origins(())[1] == {"run": 1}
    log.write((), disc(4) > 0, 1, None)
    np.testing.assert_array_equal(log.layer.data, disc(4))


def test_paint_by_a_call_is_a_stroke(log: MaskLog):
    # here napari announces the undo item before the data changes
    log.write((), disc(5) > 0, 1, None)
    log.layer.brush_size = 3
    log.layer.paint((2, 2), 3)
    log.layer.fill((19, 0), 4)
    assert log.locked(())[2, 2] == 3
    log.layer.undo()
    assert log.locked(())[19, 0] == UNLOCKED
    assert log.locked(())[2, 2] == 3


def test_forget_is_one_undo_item(log: MaskLog):
    log.write((), disc(5) > 0, 1, {"run": 1})
    stroke(log.layer, *LINE, 2)
    before = log.layer.data.copy()
    log.forget((), disc(5), {1: {"run": 2}})
    assert log.origins(()) == {1: {"run": 2}}
    np.testing.assert_array_equal(log.layer.data, disc(5))
    assert not log.edited(())
    log.layer.undo()
    np.testing.assert_array_equal(log.layer.data, before)
    log.write((), disc(6) > 0, 1, None)
    assert (log.layer.data[LINE] == 2).all()


def test_strokes_that_are_forgotten_without_a_changed_pixel_come_back_with_the_undo_before(log: MaskLog):
    log.write((), disc(5) > 0, 1, {"run": 1})
    stroke(log.layer, *LINE, 2)
    stroke(log.layer, slice(16, 18), slice(3, 9), 3)
    shown, locked = log.layer.data.copy(), log.locked(()).copy()
    log.forget((), shown, {1: {"run": 2}})
    assert not (log.locked(()) != UNLOCKED).any()
    log.layer.undo()
    assert not log.layer.data[16, 5]
    assert (log.locked(())[LINE] == 2).all()
    assert log.locked(())[16, 5] == UNLOCKED
    assert log.origins(()) == {1: {"run": 1}}
    log.layer.redo()
    np.testing.assert_array_equal(log.layer.data, shown)
    assert not (log.locked(()) != UNLOCKED).any()
    assert log.origins(()) == {1: {"run": 2}}
    log.layer.undo()
    log.layer.undo()
    log.layer.redo()
    log.layer.redo()
    stroke(log.layer, *LINE, 4)
    log.layer.undo()
    np.testing.assert_array_equal(log.layer.data, shown)
    assert (locked != UNLOCKED).any()
    assert not (log.locked(()) != UNLOCKED).any()


def test_merge_replaces_only_the_newest_item(log: MaskLog):
    log.write((), disc(5) > 0, 1, None)
    for radius in (6, 7, 8):
        log.write((), disc(radius) > 0, 1, {"radius": radius}, merge=1)
    log.layer.undo()
    np.testing.assert_array_equal(log.layer.data, disc(5))
    log.layer.redo()
    np.testing.assert_array_equal(log.layer.data, disc(8))
    stroke(log.layer, *LINE, 2)
    log.write((), disc(4) > 0, 1, None, merge=1)
    assert (log.layer.data[LINE] == 2).all()
    log.layer.undo()
    expected = disc(8)
    expected[LINE] = 2
    np.testing.assert_array_equal(log.layer.data, expected)


def test_undo_is_bounded_as_in_napari(log: MaskLog):
    for i in range(HISTORY + 30):
        log.write((), disc(3 + i % 5) > 0, 1, {"i": i})
    for _ in range(HISTORY + 30):
        log.layer.undo()
    assert log.origins(())[1] == {"i": 29}
    assert not log.edited(())
    log.layer.redo()
    assert log.origins(())[1] == {"i": 30}


def test_pixels_that_a_script_changed_are_kept(log: MaskLog):
    log.write((), disc(5) > 0, 1, None)
    log.layer.data[LINE] = 7
    log.layer.refresh()
    log.write((), disc(6) > 0, 1, None)
    assert (log.layer.data[LINE] == 7).all()


def test_frames_are_apart():
    layer = Labels(np.zeros((3, 20, 30), np.uint8))
    log = MaskLog(layer, lambda: (1,))
    log.write((2,), disc(5) > 0, 1, {"frame": 2})
    assert not layer.data[:2].any()
    np.testing.assert_array_equal(layer.data[2], disc(5))
    index = np.arange(5)
    layer.data_setitem((np.full(5, 1), np.full(5, 3), index), 2)
    log.write((1,), disc(4) > 0, 1, {"frame": 1})
    assert (layer.data[1, 3, :5] == 2).all()
    np.testing.assert_array_equal(layer.data[2], disc(5))
    layer.undo()
    layer.undo()
    layer.undo()
    assert not layer.data.any()
    assert not log.edited((1,))
    assert log.origins((2,)) == {}


def test_replaced_data_of_another_shape_is_not_used(log: MaskLog):
    assert log.usable
    log.layer.data = np.zeros((5, 5), np.uint8)
    assert not log.usable


def test_dask_labels_are_not_written_into(log: MaskLog):
    log.write((), disc(5) > 0, 1, None)
    log.layer.data = dask.array.from_array(log.layer.data)
    with pytest.raises(NotImplementedError):  # what napari says
        log.layer.data_setitem((np.array([0]), np.array([0])), 1)
    assert not log.usable


def test_a_wider_type_keeps_model_and_strokes(log: MaskLog):
    log.write((), disc(5) > 0, 1, None)
    stroke(log.layer, *LINE, 2)
    log.layer.data = log.layer.data.astype(np.int32)
    stroke(log.layer, *LINE, 300)
    log.write((), disc(6) > 0, 1, None)
    expected = disc(6).astype(np.int32)
    expected[LINE] = 300
    np.testing.assert_array_equal(log.layer.data, expected)
    log.layer.undo()
    assert (log.locked(())[LINE] == 300).all()


def test_close_lets_go_of_the_layer():
    layer = Labels(np.zeros((20, 30), np.uint8))
    emitters = [layer.events[name] for name in ("paint", "labels_update", "set_data", "data", "selected_label")]
    before = [len(emitter.callbacks) for emitter in emitters]
    MaskLog(layer, lambda: ()).close()
    assert [len(emitter.callbacks) for emitter in emitters] == before


def test_looking_at_a_frame_remembers_nothing(log: MaskLog):
    layer = Labels(np.zeros((3, 20, 30), np.uint8))
    log = MaskLog(layer, lambda: (0,))
    assert not log.edited((1,))
    assert log.origins((1,)) == {}
    assert log.locked((1,)) is None
    assert not log._frames


def test_other_objects_keep_their_pixels(log: MaskLog):
    log.write((), disc(5) > 0, 1, {"run": 1})
    log.write((), disc(7) > 0, 2, {"run": 2})
    np.testing.assert_array_equal(log.layer.data == 1, disc(5) > 0)
    np.testing.assert_array_equal(log.layer.data == 2, (disc(7) > 0) & ~(disc(5) > 0))
    log.write((), disc(3) > 0, 1, {"run": 3})
    assert (log.layer.data == 2).sum() == (disc(7) > 0).sum() - (disc(5) > 0).sum()
    assert log.origins(()) == {1: {"run": 3}, 2: {"run": 2}}
    log.layer.undo()
    assert log.origins(()) == {1: {"run": 1}, 2: {"run": 2}}


def test_an_id_that_the_layer_cannot_hold_is_refused(log: MaskLog):
    with pytest.raises(LSegDiffError, match="object 300: this mask holds ids up to 255"):
        log.write((), disc(5) > 0, 300, None)
    assert not log.layer.data.any()


def test_who_erases_with_the_background_works_on_the_object_from_before(log: MaskLog):
    log.layer.selected_label = 3
    log.layer.selected_label = 0
    assert log.number == 3
