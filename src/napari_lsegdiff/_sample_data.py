"""The sample image under File > Open Sample."""

from __future__ import annotations

from typing import Any

# a frame whose polyp is plain to see
SEED = 1
NAME = "Synthetic polyp"


def synthetic_polyp() -> list[tuple[Any, dict[str, Any], str]]:
    """Return one drawn endoscopy frame (480, 640, 3) uint8 as an image layer; it shows no patient."""
    from lsegdiff_core.data.phantom import draw_phantom

    return [(draw_phantom(seed=SEED).image, {"name": NAME}, "image")]
