"""Synthetic endoscopy: procedural images with known truth, for the built-in sample, the tests and training."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float32]

# The built-in sample: a frame whose polyp is plain to see, and that no training draws (their seeds are 5000 and above).
SAMPLE_SEED = 1


class Phantom(NamedTuple):
    """A drawn frame.

    Attributes
    ----------
    image
        (H, W, 3) uint8, RGB.
    mask
        (H, W) bool, True on the lesion.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]


def draw_phantom(seed: int, height: int = 480, width: int = 640, polyp: bool = True) -> Phantom:
    """Draw a colon with folds, vessels, glare and, if ``polyp``, one lesion.

    The same arguments always give the same frame.

    Parameters
    ----------
    seed
        Non-negative; chooses everything about the frame.
    height, width
        Size in pixels.
    polyp
        Draw a lesion; without one the mask is empty.
    """
    rng = np.random.default_rng(seed)
    y, x = grid(height, width)
    warp = 0.12 * noise(rng, x.shape, 4)
    wall = np.array([rng.uniform(0.62, 0.85), rng.uniform(0.28, 0.45), rng.uniform(0.2, 0.36)], dtype=np.float32)

    # the tube: folds are rings around a dark lumen that may lie outside the frame
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 1.3)
    lumen = np.hypot(x - distance * np.cos(angle), y - distance * np.sin(angle)) + warp
    folds = np.abs(np.sin(lumen * rng.uniform(3.0, 6.0) + rng.uniform(0, np.pi))) ** rng.uniform(0.4, 0.9)
    shade = (0.62 + 0.38 * folds) * np.clip(lumen / rng.uniform(0.35, 0.8), 0.12, 1.0)
    vessels = _vessels(rng, x.shape)
    colour = wall * (1 + 0.1 * noise(rng, x.shape, 6)[..., None] * np.array([0.4, 1.0, 1.0], dtype=np.float32))
    colour = colour * (1 - vessels[..., None] * np.array([0.12, 0.4, 0.3], dtype=np.float32))

    mask = np.zeros(x.shape, dtype=bool)
    if polyp:
        height_map, mask = _lesion(rng, x, y)
        tint = wall * np.array(
            [rng.uniform(0.95, 1.2), rng.uniform(0.65, 1.15), rng.uniform(0.65, 1.15)], dtype=np.float32
        )
        texture = 1 + rng.uniform(0.03, 0.12) * noise(rng, x.shape, 24)
        soft = ndimage.gaussian_filter(mask.astype(np.float32), height / rng.uniform(150, 400))[..., None]
        lit = ndimage.gaussian_filter(height_map, height / 120)
        gradient_y, gradient_x = np.gradient(lit)
        slope = (gradient_y * np.sin(angle) + gradient_x * np.cos(angle)) * height * rng.uniform(0.02, 0.06)
        dome = (0.75 + 0.35 * lit - np.clip(slope, -0.3, 0.3))[..., None] * tint * texture[..., None]
        # a thin shadow around the foot sets the lesion off from the wall
        foot = ndimage.gaussian_filter(mask.astype(np.float32), height / 45)
        shade = shade * (1 - rng.uniform(0.15, 0.5) * foot * (1 - soft[..., 0]))
        lesion_shade = (0.45 + 0.55 * shade)[..., None]
        frame = colour * shade[..., None] * (1 - soft) + dome * lesion_shade * soft
        relief = shade + 0.6 * lit
    else:
        frame, relief = colour * shade[..., None], shade

    light = np.exp(-((x - rng.uniform(-0.4, 0.4)) ** 2 + (y - rng.uniform(-0.4, 0.4)) ** 2) / rng.uniform(1.2, 3.0))
    frame = frame * (0.45 + 0.75 * light)[..., None]
    shine = noise(rng, x.shape, 36) + 1.5 * relief * light
    glare = np.asarray(shine > np.quantile(shine, rng.uniform(0.985, 0.998)), dtype=np.float32)
    frame = np.maximum(frame, 0.97 * ndimage.gaussian_filter(glare, height / 300)[..., None])
    frame = ndimage.gaussian_filter(frame, (rng.uniform(0.3, 1.4), rng.uniform(0.3, 1.4), 0))
    frame = frame + 0.012 * rng.standard_normal((height, width, 3), dtype=np.float32)

    # the endoscope's black corners
    corner = rng.uniform(1.5, 1.9)
    aspect = width / height
    outside = (np.abs(x) / aspect + np.abs(y)) > corner
    frame[outside] = 0.01
    image = np.clip(np.rint(frame * 255), 0, 255).astype(np.uint8)
    return Phantom(image, mask & ~outside)


def grid(height: int, width: int) -> tuple[Array, Array]:
    """Return y and x (H, W) of each pixel, 0 in the middle and 1 at the middle of the upper and lower edge."""
    rows = np.linspace(-1, 1, height, dtype=np.float32)
    columns = np.linspace(-width / height, width / height, width, dtype=np.float32)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    return y, x


def noise(rng: np.random.Generator, shape: tuple[int, ...], cells: int) -> Array:
    """Smooth noise of unit variance with about ``cells`` bumps along the short side."""
    columns = max(cells, int(cells * shape[1] / shape[0]))
    coarse = rng.normal(size=(cells + 3, columns + 3)).astype(np.float32)
    fine: Array = ndimage.zoom(coarse, (shape[0] / cells, shape[1] / cells), order=3)[: shape[0], : shape[1]]
    result: Array = (fine - fine.mean()) / (fine.std() + 1e-6)
    return result


def _vessels(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    ridge = 1 - np.abs(noise(rng, shape, int(rng.integers(5, 10)))) / 0.08
    patches = noise(rng, shape, 3) > 0
    strength: Array = (np.clip(ridge, 0, 1) * patches * np.float32(rng.uniform(0.2, 0.9))).astype(np.float32)
    return strength


def _lesion(rng: np.random.Generator, x: Array, y: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Return a dome (1 at its top, 0 at its rim) and the mask of one wobbly ellipse."""
    size = rng.uniform(0.18, 0.6)
    limit_x = float(x.max()) * 0.6
    centre_x, centre_y = rng.uniform(-limit_x, limit_x), rng.uniform(-0.55, 0.55)
    turn, stretch = rng.uniform(0, np.pi), rng.uniform(0.6, 1.0)
    u = (x - centre_x) * np.cos(turn) + (y - centre_y) * np.sin(turn)
    v = -(x - centre_x) * np.sin(turn) + (y - centre_y) * np.cos(turn)
    theta = np.arctan2(v / stretch, u)
    wobble: Array = np.ones_like(theta)
    for order in range(2, 6):
        amplitude = np.float32(rng.normal(0, 0.09 / order))
        wobble += amplitude * np.cos(order * theta + np.float32(rng.uniform(0, 2 * np.pi)))
    radius = np.hypot(u, v / stretch) / (size * wobble)
    dome: Array = np.sqrt(np.clip(1 - radius**2, 0, 1)).astype(np.float32)
    return dome, radius < 1
