"""How long somebody has worked on what."""

from __future__ import annotations

from time import monotonic

from napari.layers import Image

from napari_lsegdiff._frames import Frame

# Seconds after which a user who does nothing has gone for coffee.
PAUSE = 60.0


class WorkClock:
    """Counts seconds; the time since the last sign of the user goes to the frame that the next one is about."""

    def __init__(self) -> None:
        self._seen = monotonic()
        self._seconds: dict[tuple[Image, Frame], float] = {}

    def start(self, image: Image, frame: Frame, seconds: float = 0.0) -> None:
        """Begin with a frame, on which ``seconds`` were spent before; the time until now is nobody's."""
        self._seen = monotonic()
        self._seconds[image, frame] = seconds

    def tick(self, image: Image, frame: Frame) -> float:
        """Take notice of the user; returns the seconds spent on the frame, all in all."""
        now = monotonic()
        self._seconds[image, frame] = self._seconds.get((image, frame), 0.0) + min(now - self._seen, PAUSE)
        self._seen = now
        return self._seconds[image, frame]

    def forget(self, layer: object) -> None:
        """Drop what was spent on an image that is gone."""
        for key in [key for key in self._seconds if key[0] is layer]:
            del self._seconds[key]
