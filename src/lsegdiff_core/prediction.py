"""What a prediction is: probability, samples, mask and where they came from; no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsegdiff_core.config import MorphologyConfig, to_dict
from lsegdiff_core.data.geometry import Geometry
from lsegdiff_core.hints import BACKGROUND, FOREGROUND
from lsegdiff_core.morphology import drop_doubtful, refine


@dataclass(frozen=True, eq=False)
class Prediction:
    """One image's segmentation at the image's own size.

    Attributes
    ----------
    probability
        (H, W) float32 in [0, 1]: mean over the seeds.
    expected
        (H, W) float32 in [0, 1]: the probability in the model's first estimate, from pure noise. It is about the mean
        over all masks that the model holds possible, where a sample is one of them: it says how sure the model is. Of
        what started from a mask it is the probability itself: that mask was wanted.
    squares
        (K, S, S) float32 in [0, 1]: each seed's probability in the network's square, after a zoomed second pass in
        that of the crop.
    geometry
        Where that square lies in the image.
    morphology
        How `mask` is refined from the probability.
    source
        Provenance without the morphology: image, bundle, sampling, device and versions, ready for JSON.
    locked
        (H, W) uint8, the user's strokes as in `lsegdiff_core.hints.Hints`; they hold in `mask` exactly.
    """

    probability: NDArray[np.float32]
    expected: NDArray[np.float32]
    squares: NDArray[np.float32]
    geometry: Geometry
    morphology: MorphologyConfig
    source: dict[str, Any]
    locked: NDArray[np.uint8] | None = None

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """(H, W) bool: the probability refined by ``morphology``, strokes as the user drew them."""
        least = self.morphology.min_confidence
        if self.locked is None:
            mask = refine(self.probability, self.morphology)
            return drop_doubtful(mask, self.expected, least) if least else mask
        foreground, background = self.locked == FOREGROUND, self.locked == BACKGROUND
        # before morphology, so that it joins a stroke to what lies beside it, and after it, so that the stroke stays
        pasted = np.where(background, np.float32(0), np.where(foreground, np.float32(1), self.probability))
        mask = refine(pasted, self.morphology) | foreground
        if least:
            mask = drop_doubtful(mask, self.expected, least, kept=foreground)
        mask &= ~background
        return mask

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """(H, W) uint8: 1 on the mask, 0 elsewhere."""
        return self.mask.astype(np.uint8)

    @cached_property
    def samples(self) -> NDArray[np.bool_]:
        """(K, H, W) bool: each seed's own mask, thresholded without refinement."""
        threshold = self.morphology.threshold
        return np.stack([self.geometry.from_square(square) >= threshold for square in self.squares])

    @property
    def votes(self) -> NDArray[np.float32]:
        """(H, W) float32 in [0, 1]: the share of the seeds whose own mask holds the pixel; strokes are unanimous."""
        votes = np.zeros(self.probability.shape, np.float32)
        for square in self.squares:  # one after the other: all samples of a large image take much memory
            votes += self.geometry.from_square(square) >= self.morphology.threshold
        votes /= len(self.squares)
        if self.locked is not None:
            votes[self.locked == FOREGROUND], votes[self.locked == BACKGROUND] = 1, 0
        return votes

    @property
    def agreement(self) -> NDArray[np.float32]:
        """(H, W) float32 in [0.5, 1]: the share of the seeds that vote with the majority.

        It says how far samples of one model agree with one another, not how probable a disease is.
        """
        votes = self.votes
        return np.maximum(votes, 1 - votes)

    @property
    def entropy(self) -> NDArray[np.float32]:
        """(H, W) float32 in [0, 1], bits: the entropy of the seeds' votes."""
        votes = self.votes
        share = np.clip(votes, 1e-7, 1 - 1e-7)
        entropy: NDArray[np.float32] = -(share * np.log2(share) + (1 - share) * np.log2(1 - share))
        entropy[(votes == 0) | (votes == 1)] = 0
        return entropy

    def of_seeds(self, indices: Sequence[int]) -> Prediction:
        """Return the prediction of the seeds at ``indices`` alone; no network runs.

        It is what asking them alone gives, but for what all seeds share: `expected`, and after a zoomed pass the crop
        and the probability around it.
        """
        squares, sampling = self.squares[list(indices)], self.source["sampling"]
        top, left, bottom, right = self.geometry.box
        probability = self.probability.copy()  # of a zoomed pass the rest of the image is common to all seeds
        if sampling.get("strength") != 0:  # at strength 0 all of it is
            mine = self.geometry.from_square(squares.mean(axis=0))
            probability[top:bottom, left:right] = mine[top:bottom, left:right]
        seeds = [sampling["seeds"][index] for index in indices]
        source = {**self.source, "sampling": {**sampling, "seeds": seeds}}
        return dataclasses.replace(self, probability=probability, squares=squares, source=source)

    @property
    def provenance(self) -> dict[str, Any]:
        """Everything that is needed to make this mask again, ready for JSON."""
        return {**self.source, "morphology": to_dict(self.morphology)}

    def without_strokes(self) -> Prediction:
        """Return the prediction as the model gave it, without laying the strokes over it; no network runs."""
        return dataclasses.replace(self, locked=None)

    def refined(self, morphology: MorphologyConfig) -> Prediction:
        """Return the same prediction under another morphology; no network runs."""
        return dataclasses.replace(self, morphology=morphology)
