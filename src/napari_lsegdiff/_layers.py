"""Model masks and user strokes in one Labels layer, with undo that never mixes the two up.

`MaskLog` mirrors the layer's undo history: one entry for each item, the model's or the user's. Every entry knows
which pixels it changed and what became of the user's locks, so that undo and redo move both together. Nothing here
needs Qt.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.journal_format import NO_STROKE, Values
from napari_lsegdiff._frames import Frame

Origins = dict[int, Any]
"""How the model made each object of a frame; the log only carries it along and takes it back on undo."""

Changed = Callable[[list[Frame], set[int], bool], None]
Moved = Callable[[Frame, Values | None, Values | None, Origins | None], None]

# napari keeps as many undo items
HISTORY = 100
UNLOCKED = NO_STROKE


class _Change(NamedTuple):
    """Pixels ``where`` (flat indices into a frame) went from ``before`` to ``after``."""

    where: NDArray[np.uint32]
    before: NDArray[np.integer]
    after: NDArray[np.integer]

    @classmethod
    def between(cls, old: NDArray[np.integer], new: NDArray[np.integer]) -> _Change | None:
        where = np.flatnonzero(old != new)
        if not where.size:
            return None
        return cls(where.astype(np.uint32), old.reshape(-1)[where], new.reshape(-1)[where])

    def values(self, forward: bool) -> Values:
        return Values(self.where, self.after if forward else self.before)


class _Part(NamedTuple):
    frame: Frame
    pixels: _Change | None
    locks: _Change | None
    origins: tuple[Origins, Origins]


class _Entry(NamedTuple):
    parts: list[_Part]
    merge: Hashable


@dataclass
class _FrameState:
    """What a frame looked like after the last entry, and who made what of it.

    ``seen`` is (H, W) of the layer's type. ``locked`` is (H, W) int32, `UNLOCKED` or the value that the user gave; None
    until the first stroke. ``origins`` is never changed in place.
    """

    seen: NDArray[np.integer]
    locked: NDArray[np.int32] | None = None
    origins: Origins = field(default_factory=dict)


class MaskLog:
    """Writes model masks into ``layer``, and keeps the user's strokes above them.

    Parameters
    ----------
    layer
        Labels of numpy data, (H, W) or with leading frame axes.
    current_frame
        Which frame is on the canvas, None if it shows several; asked when the user has painted.
    changed
        Called with the frames that a stroke, an undo or a redo has changed, the ids that it brought, and whether it was
        a stroke; without frames when another label is chosen.
    moved
        Called whenever the known state of a frame moves, also by undo and redo: with the frame, the pixels, the strokes
        (`UNLOCKED` where one is taken back) and the origins that it has from now on, each None where nothing moved.

    Attributes
    ----------
    number
        Id of the object that the user works on: the label chosen last that is not the background.
    """

    def __init__(
        self,
        layer: Labels,
        current_frame: Callable[[], Frame | None],
        changed: Changed = lambda frames, numbers, painted: None,
        moved: Moved = lambda frame, pixels, locks, origins: None,
    ) -> None:
        self.layer = layer
        self._current_frame = current_frame
        self._changed = changed
        self._moved = moved
        self._frames: dict[Frame, _FrameState] = {}
        self._entries: list[_Entry] = []
        self._done = 0  # entries before this one are applied, the rest can be redone
        self._writing = False
        self._painted = False
        self._shape = layer.data.shape
        self.number = max(1, int(layer.selected_label))
        layer.events.paint.connect(self._on_paint)
        layer.events.labels_update.connect(self._on_labels_update)
        layer.events.set_data.connect(self._on_set_data)
        layer.events.data.connect(self._on_replaced)
        layer.events.selected_label.connect(self._on_selected)

    def close(self) -> None:
        """Stop listening to the layer."""
        self.layer.events.paint.disconnect(self._on_paint)
        self.layer.events.labels_update.disconnect(self._on_labels_update)
        self.layer.events.set_data.disconnect(self._on_set_data)
        self.layer.events.data.disconnect(self._on_replaced)
        self.layer.events.selected_label.disconnect(self._on_selected)

    @property
    def busy(self) -> bool:
        """True while the user is drawing: whatever is written now would join the stroke's undo item."""
        return bool(getattr(self.layer, "_block_history", False))

    @property
    def usable(self) -> bool:
        """False when someone gave the layer data that no longer fits the image."""
        return isinstance(self.layer.data, np.ndarray) and self.layer.data.shape == self._shape

    def pixels(self, frame: Frame) -> NDArray[np.integer]:
        """Return the frame (H, W) as the layer shows it; a view."""
        pixels: NDArray[np.integer] = self.layer.data[frame]
        return pixels

    def locked(self, frame: Frame) -> NDArray[np.int32] | None:
        """Return the user's pixels (H, W), `UNLOCKED` elsewhere; None without strokes."""
        return self._frames[frame].locked if frame in self._frames else None

    def origins(self, frame: Frame) -> Origins:
        """Return how the model made the objects that the frame shows, by their ids."""
        return self._frames[frame].origins if frame in self._frames else {}

    def edited(self, frame: Frame) -> bool:
        """Whether the user changed anything in this frame."""
        if frame not in self._frames:
            return bool(self.pixels(frame).any())
        state = self._frames[frame]
        kept = state.locked is not None and bool((state.locked != UNLOCKED).any())
        return kept or not np.array_equal(state.seen, self.pixels(frame))

    def adopt(
        self, frame: Frame, labels: NDArray[np.integer], locked: NDArray[np.int32] | None, origins: Origins
    ) -> None:
        """Take ``labels`` (H, W), which the layer's type must hold, and strokes for what was there before.

        A frame that nobody has touched gets them without an undo item, any other by one.
        """
        pixels = self.pixels(frame)
        if frame in self._frames or pixels[pixels != labels].any():
            self._replace(frame, labels, locked, origins)
            return
        pixels[...] = labels
        with self._own_write():
            self.layer.refresh()
        state = self._state(frame)
        change = _Change.between(state.seen, labels.astype(state.seen.dtype))
        self._apply(_Part(frame, change, _relocked(state, locked), (state.origins, origins)), forward=True)

    def write(self, frame: Frame, mask: NDArray[np.bool_], number: int, origin: object, merge: Hashable = None) -> None:
        """Show the model's mask (H, W) of object ``number`` under the user's strokes, as one undo item.

        Pixels of other objects stay theirs. If the newest undo item was written with the same ``merge`` (not None),
        it is replaced: a slider that moves leaves one item behind. Nothing is recorded when no pixel changes.
        """
        self._collect_strays(frame)
        if merge is not None:
            self._take_back(merge)
        state = self._state(frame)
        target = self._copy_for(frame, number)
        target[target == number] = 0
        target[mask & (target == 0)] = number
        if state.locked is not None:
            np.copyto(target, state.locked.astype(target.dtype), where=state.locked != UNLOCKED)
        self._put(frame, target, {**state.origins, number: origin}, None, merge)

    def relabel(self, frame: Frame, labels: NDArray[np.integer], origins: Origins) -> None:
        """Give pixels (H, W) to other objects, as one undo item; strokes follow their pixels."""
        self._collect_strays(frame)
        state = self._state(frame)
        target = self._copy_for(frame, int(labels.max(initial=0)))
        target[...] = labels
        locks = None
        if state.locked is not None:
            followed = np.where((state.locked > 0) & (state.locked == state.seen), target, state.locked)
            locks = _Change.between(state.locked, followed.astype(np.int32))
        self._put(frame, target, origins, locks, None)

    def forget(self, frame: Frame, labels: NDArray[np.integer], origins: Origins) -> None:
        """Drop the user's strokes and show ``labels`` (H, W) instead, as one undo item.

        Where no pixel changes, the undo item before brings the strokes back together with what was before it.
        """
        self._replace(frame, labels, None, origins)

    def _replace(
        self, frame: Frame, labels: NDArray[np.integer], locked: NDArray[np.int32] | None, origins: Origins
    ) -> None:
        self._collect_strays(frame)
        state = self._state(frame)
        self._put(frame, labels.astype(state.seen.dtype), origins, _relocked(state, locked), None)

    def _copy_for(self, frame: Frame, number: int) -> NDArray[np.integer]:
        """Return a copy of the frame as last seen; refuse an id that the layer's type cannot hold."""
        seen = self._state(frame).seen
        check_number(number, seen.dtype)
        return seen.copy()

    def _put(
        self, frame: Frame, target: NDArray[np.integer], origins: Origins, locks: _Change | None, merge: Hashable
    ) -> None:
        state = self._state(frame)
        pixels = _Change.between(state.seen, target)
        part = _Part(frame, pixels, locks, (state.origins, origins))
        if pixels is None:  # napari makes no undo item either
            self._apply(part, forward=True)
            self._join(part)
            return
        plane = np.unravel_index(pixels.where.astype(np.intp), target.shape)
        leading = tuple(np.full(len(pixels.where), index, dtype=np.intp) for index in frame)
        with self._own_write():
            self.layer.data_setitem((*leading, *plane), pixels.after)
        self._record(_Entry([part], merge))

    def _join(self, part: _Part) -> None:
        """Let the newest undo item take back strokes along with its own change: they have none without a pixel."""
        if part.locks is not None and self._done:
            before = self._entries[self._done - 1]
            self._entries[self._done - 1] = _Entry([*before.parts, part], None)

    def _take_back(self, merge: Hashable) -> None:
        if not self._done or self._done != len(self._entries) or self._entries[-1].merge != merge:
            return
        with self._own_write():
            self.layer.undo()
        if not self._step():  # the newest item of the layer was another one
            with self._own_write():
                self.layer.redo()

    @contextmanager
    def _own_write(self) -> Iterator[None]:
        # data_setitem emits `paint` and undo emits `set_data`, as if the user had done it
        self._writing = True
        try:
            yield
        finally:
            self._writing = False

    def _state(self, frame: Frame) -> _FrameState:
        if frame not in self._frames:
            # the layer was made empty, so whatever lies there by now was painted
            self._frames[frame] = _FrameState(np.zeros_like(self.pixels(frame)))
        return self._frames[frame]

    def _record(self, entry: _Entry) -> None:
        del self._entries[self._done :]
        self._entries.append(entry)
        for part in entry.parts:
            self._apply(part, forward=True)
        del self._entries[:-HISTORY]
        self._done = len(self._entries)

    def _apply(self, part: _Part, forward: bool) -> None:
        state = self._state(part.frame)
        pixels, locks = (None if change is None else change.values(forward) for change in (part.pixels, part.locks))
        if pixels is not None:
            state.seen.reshape(-1)[pixels.where] = pixels.values
        if locks is not None:
            if state.locked is None:
                state.locked = np.full(state.seen.shape, UNLOCKED, dtype=np.int32)
            state.locked.reshape(-1)[locks.where] = locks.values
        # a write that changed no pixel has no entry: undoing what came before it takes back its origins as well
        origins = None if part.origins[forward] is state.origins else part.origins[forward]
        state.origins = part.origins[forward]
        self._moved(part.frame, pixels, locks, origins)

    def _strokes(self, frame: Frame) -> _Part | None:
        """Return what differs from the last known state of a frame, as the user's strokes."""
        state = self._state(frame)
        pixels = _Change.between(state.seen, self.pixels(frame))
        if pixels is None:
            return None
        values = pixels.after.astype(np.int32)
        before = np.full_like(values, UNLOCKED) if state.locked is None else state.locked.reshape(-1)[pixels.where]
        return _Part(frame, pixels, _Change(pixels.where, before, values), (state.origins, state.origins))

    def _collect_painted(self) -> None:
        """Record what an undo item of the user has changed, if its pixels have arrived."""
        current = self._current_frame()
        # a brush reaches the frame on show only, unless it is told to paint in three dimensions
        frames = {current} if current is not None and self.layer.n_edit_dimensions == 2 else set(self._frames)
        parts = [part for part in map(self._strokes, sorted(frames)) if part is not None]
        if parts:
            self._painted = False
            self._record(_Entry(parts, None))
            self._changed(*_summary(parts), True)

    def _collect_strays(self, frame: Frame) -> None:
        """Lock pixels that a script changed without an undo item."""
        if self._painted:
            self._collect_painted()
        part = self._strokes(frame)
        if part is not None:
            self._apply(part, forward=True)

    def _step(self) -> bool:
        """Follow one undo or redo; False if the data shows neither."""
        if self._done and self._shows(self._entries[self._done - 1], after=False):
            self._done -= 1
            for part in reversed(self._entries[self._done].parts):
                self._apply(part, forward=False)
            return True
        if self._done < len(self._entries) and self._shows(self._entries[self._done], after=True):
            for part in self._entries[self._done].parts:
                self._apply(part, forward=True)
            self._done += 1
            return True
        return False

    def _shows(self, entry: _Entry, after: bool) -> bool:
        # an entry changes each of its pixels, so the data shows what was before it, or what was after it, or neither
        return all(
            part.pixels is None
            or np.array_equal(
                self.pixels(part.frame).reshape(-1)[part.pixels.where],
                part.pixels.after if after else part.pixels.before,
            )
            for part in entry.parts
        )

    def _on_paint(self, event: object = None) -> None:
        if self._writing or not self.usable:
            return
        # a stroke drawn with the mouse has changed the data by now, one made by a call will do so after this event
        self._painted = True
        self._collect_painted()

    def _on_labels_update(self, event: object = None) -> None:
        if self._painted and not self._writing and not self.busy and self.usable:
            self._collect_painted()

    def _on_set_data(self, event: object = None) -> None:
        # comes with undo and redo, but also whenever another frame is shown
        if self._writing or self.busy or not self.usable:
            return
        entry = self._done
        if self._step():
            self._changed(*_summary(self._entries[min(entry, self._done)].parts), False)
        elif self._painted:
            self._collect_painted()

    def _on_selected(self, event: object = None) -> None:
        # the background is no object: who erases with it goes on with the object from before
        self.number = int(self.layer.selected_label) or self.number
        self._changed([], set(), False)

    def _on_replaced(self, event: object = None) -> None:
        # `layer.data = new` leaves napari's own history stale; the new pixels count as the user's at the next write
        self._entries.clear()
        self._done = 0
        if self.usable:  # napari's menu converts labels to wider types
            for state in self._frames.values():
                state.seen = state.seen.astype(self.layer.data.dtype)


def check_number(number: int, dtype: np.dtype[Any]) -> None:
    """Raise an `LSegDiffError` if labels of this type cannot hold the object's id."""
    most = int(np.iinfo(dtype).max)
    if number > most:
        raise LSegDiffError(f"object {number}: this mask holds ids up to {most}; choose a smaller label")


def _relocked(state: _FrameState, locked: NDArray[np.int32] | None) -> _Change | None:
    """Return the way from the strokes that are there to other ones, (H, W) or None for none."""
    none = np.full(state.seen.shape, UNLOCKED, dtype=np.int32)
    return _Change.between(none if state.locked is None else state.locked, none if locked is None else locked)


def _summary(parts: list[_Part]) -> tuple[list[Frame], set[int]]:
    numbers = {int(number) for part in parts if part.pixels is not None for number in np.unique(part.pixels.after)}
    return [part.frame for part in parts], numbers - {0}
