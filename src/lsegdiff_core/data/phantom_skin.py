"""Synthetic dermoscopy: a pigmented lesion on skin, with known truth, for the built-in sample and the tests."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from lsegdiff_core.data.phantom import Array, Phantom, grid, noise

# The built-in sample: a lesion with an irregular border and a hair across it.
SKIN_SAMPLE_SEED = 0
# Light and dark skin, and its pigment, RGB in [0, 1].
_LIGHT, _DARK = np.array([0.90, 0.72, 0.63], np.float32), np.array([0.70, 0.49, 0.39], np.float32)
_PIGMENT = np.array([0.30, 0.17, 0.12], np.float32)


def draw_skin_lesion(seed: int, height: int = 480, width: int = 640) -> Phantom:
    """Draw skin with one pigmented lesion of irregular border and a few hairs.

    The same arguments always give the same frame.

    Parameters
    ----------
    seed
        Non-negative; chooses everything about the frame.
    height, width
        Size in pixels.
    """
    rng = np.random.default_rng(seed)
    y, x = grid(height, width)
    shape = x.shape

    # skin: a tone with slow changes, fine furrows and redness in patches
    tone = _LIGHT + rng.uniform(0, 1) * (_DARK - _LIGHT)
    furrows = 1 - np.abs(noise(rng, shape, 50)) * np.float32(0.018)
    skin = tone * (1 + 0.018 * noise(rng, shape, 4) + 0.015 * noise(rng, shape, 28))[..., None]
    skin = skin * furrows[..., None]
    skin = skin * (1 - 0.03 * np.clip(noise(rng, shape, 6), 0, 2)[..., None] * np.array([0.0, 1.0, 0.8], np.float32))

    inside = _lesion(rng, x, y)
    mask = inside > 0
    # pigment fades out at the border, more in some places than in others, and is uneven within
    softness = rng.uniform(0.05, 0.12) * (1 + 0.5 * np.clip(noise(rng, shape, 5), -1, 1))
    density = np.clip(0.5 + inside / softness, 0, 1)
    blotches = 0.55 + 0.16 * noise(rng, shape, 7) + 0.08 * noise(rng, shape, 16)
    core = np.clip(inside / 0.35, 0, 1) * rng.uniform(0.1, 0.35)
    network = np.clip(1 - np.abs(noise(rng, shape, 34)) / 0.5, 0, 1) * rng.uniform(0.06, 0.16)
    density = density * np.clip(blotches + core + network, 0.25, 0.97)
    density = ndimage.gaussian_filter(density, height / 300)
    frame = skin * (1 - density[..., None]) + _PIGMENT * (0.8 + 0.4 * tone) * density[..., None]

    for _ in range(int(rng.integers(3, 8))):
        hair = _hair(rng, height, width)[..., None]
        frame = frame * (1 - 0.75 * hair) + np.array([0.12, 0.08, 0.06], np.float32) * 0.75 * hair

    # light falls off towards the edges, a little to one side
    light = 1.06 - 0.16 * ((x - rng.uniform(-0.3, 0.3)) ** 2 + (y - rng.uniform(-0.3, 0.3)) ** 2)
    frame = frame * light[..., None]
    frame = ndimage.gaussian_filter(frame, (0.7, 0.7, 0)) + 0.008 * rng.standard_normal((*shape, 3), dtype=np.float32)
    return Phantom(np.clip(np.rint(frame * 255), 0, 255).astype(np.uint8), mask)


def _lesion(rng: np.random.Generator, x: Array, y: Array) -> Array:
    """Return the depth below the border of one notched ellipse: 0 at the border, negative outside."""
    size, stretch, turn = rng.uniform(0.3, 0.55), rng.uniform(0.65, 0.95), rng.uniform(0, np.pi)
    centre_x, centre_y = rng.uniform(-0.25, 0.25), rng.uniform(-0.2, 0.2)
    u = (x - centre_x) * np.cos(turn) + (y - centre_y) * np.sin(turn)
    v = -(x - centre_x) * np.sin(turn) + (y - centre_y) * np.cos(turn)
    theta = np.arctan2(v / stretch, u)
    wobble: Array = np.ones_like(theta)
    for order in range(2, 12):
        wobble += np.float32(rng.normal(0, 0.16 / order)) * np.cos(order * theta + np.float32(rng.uniform(0, 6.28)))
    depth: Array = (size * wobble - np.hypot(u, v / stretch)).astype(np.float32)
    return depth


def _hair(rng: np.random.Generator, height: int, width: int) -> Array:
    """Return how much of each pixel one hair covers: a bent line of a few pixels' width."""
    start, end = rng.uniform(-0.2, 1.2, 2), rng.uniform(-0.2, 1.2, 2)
    bend = (start + end) / 2 + rng.normal(0, 0.25, 2)
    t = np.linspace(0, 1, 4 * (height + width))[:, None]
    line = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
    rows, columns = np.rint(line * (height - 1, width - 1)).astype(int).T
    there = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    drawn = np.zeros((height, width), np.float32)
    drawn[rows[there], columns[there]] = 1
    sigma = height / 480 * rng.uniform(0.7, 1.3)
    cover: Array = np.clip(ndimage.gaussian_filter(drawn, sigma) * 2.5 * sigma, 0, 1).astype(np.float32)
    return cover
