"""The last runs' predictions, by the number of the run."""

from __future__ import annotations

from collections import OrderedDict

from napari.layers import Image

from lsegdiff_core.prediction import Prediction

# Runs whose probability is kept for the sliders and for undo; one of a 4000 x 3000 frame takes 96 MB.
KEPT = 8


class Runs:
    """Keeps the predictions of the last runs."""

    def __init__(self) -> None:
        self._predictions: OrderedDict[int, tuple[Image, Prediction]] = OrderedDict()
        self._last = 0

    def add(self, image: Image, prediction: Prediction) -> int:
        """Keep a prediction of an image and return its number; the oldest one may go."""
        self._last += 1
        self._predictions[self._last] = (image, prediction)
        while len(self._predictions) > KEPT:
            self._predictions.popitem(last=False)
        return self._last

    def prediction(self, run: int | None) -> Prediction | None:
        """Return the prediction of a run, if it is still at hand."""
        return self._predictions[run][1] if run is not None and run in self._predictions else None

    def forget(self, image: object) -> None:
        """Drop the predictions of an image that is gone."""
        for run in [run for run, (known, _) in self._predictions.items() if known is image]:
            del self._predictions[run]

    def clear(self) -> None:
        """Drop all of them."""
        self._predictions.clear()
