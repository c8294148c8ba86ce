"""From the masks of a session to its journal; without Qt."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from napari.layers import Image, Labels

from lsegdiff_core.journal import Journal
from lsegdiff_core.journal_format import Frame, ImageId, Recovered, Values
from napari_lsegdiff._frames import shape_of
from napari_lsegdiff._layers import Moved, Origins
from napari_lsegdiff._objects import object_rows

# Key in an image's metadata: the folder of the project that it is annotated in.
PROJECT = "lsegdiff_project"


class Autosave:
    """Writes down every change of the masks that it follows.

    Parameters
    ----------
    journal
        Where to; with None nothing is written.
    """

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal
        self._numbers = itertools.count(1)
        self._known: dict[Labels, ImageId] = {}

    @property
    def recording(self) -> bool:
        """Whether changes are being written down."""
        return self._journal is not None and self._journal.recording

    def follow(self, image: Image, labels: Labels) -> Moved:
        """Return what the log of the image's new mask layer must call; its table of objects is followed as well."""
        journal, source = self._journal, image.source
        path = None if source.path is None else str(source.path)
        number, shape = next(self._numbers), shape_of(image)
        known = ImageId(
            number, image.name, path, source.reader_plugin, shape, source.sample, image.metadata.get(PROJECT)
        )
        self._know(labels, known)

        def moved(frame: Frame, pixels: Values | None, locks: Values | None, origins: Origins | None) -> None:
            if journal is not None:
                made = None if origins is None else {number: origin.provenance for number, origin in origins.items()}
                journal.record(known, frame, pixels, locks, made)

        return moved

    def keep(self, labels: Labels, recovered: Iterable[Recovered]) -> None:
        """Write down the frames of a mask without an image once more, so that another crash does not lose them."""
        number = next(self._numbers)
        for state in recovered:
            known = replace(state.image, number=number)
            self._know(labels, known)
            if self._journal is not None:
                locks = None if state.locked is None else Values.of(state.locked)
                self._journal.record(known, state.frame, Values.of(state.labels, 0), locks, state.origins)
                self._journal.record_objects(known, state.objects)

    def forget(self, layer: object) -> None:
        """Drop the masks of a layer that was removed from the viewer.

        A mask outlives its image in the viewer, and so it does in the journal.
        """
        if isinstance(layer, Labels) and layer in self._known:
            layer.events.features.disconnect(self._on_features)
            known = self._known.pop(layer)
            if self._journal is not None:
                self._journal.forget(known)

    def hold(self, labels: Labels) -> None:
        """Leave a mask in the journal when its layer goes."""
        if labels in self._known:
            labels.events.features.disconnect(self._on_features)
            del self._known[labels]

    def close(self) -> None:
        """Let go of the layers."""
        for labels in self._known:
            labels.events.features.disconnect(self._on_features)
        self._known.clear()

    def _know(self, labels: Labels, known: ImageId) -> None:
        if labels not in self._known:
            labels.events.features.connect(self._on_features)
        self._known[labels] = known

    def _on_features(self, event: Any) -> None:
        if self._journal is not None:
            self._journal.record_objects(self._known[event.source], object_rows(event.source))
