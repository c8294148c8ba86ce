"""The sample image under File > Open Sample."""

from __future__ import annotations

from typing import Any

NAME = "Synthetic polyp"


def synthetic_polyp() -> list[tuple[Any, dict[str, Any], str]]:
    """Return one drawn endoscopy frame (480, 640, 3) uint8 as an image layer; it shows no patient."""
    from lsegdiff_core.data.phantom import SAMPLE_SEED, draw_phantom

    return [(draw_phantom(SAMPLE_SEED).image, {"name": NAME}, "image")]
