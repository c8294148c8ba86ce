"""The sample images under File > Open Sample; they show no patient."""

from __future__ import annotations

from typing import Any

LayerData = tuple[Any, dict[str, Any], str]
NAME = "Synthetic polyp"


def synthetic_polyp() -> list[LayerData]:
    """Return one drawn endoscopy frame (480, 640, 3) uint8 as an image layer."""
    from lsegdiff_core.data.phantom import SAMPLE_SEED, draw_phantom

    return [(draw_phantom(SAMPLE_SEED).image, {"name": NAME}, "image")]


def synthetic_skin_lesion() -> list[LayerData]:
    """Return one drawn dermoscopy frame (480, 640, 3) uint8 as an image layer."""
    from lsegdiff_core.data.phantom_skin import SKIN_SAMPLE_SEED, draw_skin_lesion

    return [(draw_skin_lesion(SKIN_SAMPLE_SEED).image, {"name": "Synthetic skin lesion"}, "image")]


def synthetic_video() -> list[LayerData]:
    """Return a drawn endoscopy video (24, 360, 480, 3) uint8 as an image layer; the polyp leaves the frame."""
    from lsegdiff_core.data.phantom_video import VIDEO_SAMPLE_SEED, draw_video

    return [(draw_video(VIDEO_SAMPLE_SEED).frames, {"name": "Synthetic endoscopy video", "rgb": True}, "image")]
