"""Simulated corrections: what a user would draw on the model's own errors."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from lsegdiff_core.models.hint_encoder import BACKGROUND, CURRENT, FOREGROUND, PLANES
from lsegdiff_core.training.config import HintConfig
from lsegdiff_core.training.losses import box_blur, wide_blur
from lsegdiff_core.training.precision import without_autocast

# Shares of the kinds of stroke; the rest are scribbles.
DISC, STROKE = 0.5, 0.25
# Shares of the hinted samples that get a box beside their strokes, or start from a rough outline of the lesion.
BOX, OUTLINE = 0.12, 0.2
# Share of the hinted samples that come with the current mask.
WITH_CURRENT = 0.85
# Errors are looked for on cells of this many pixels.
CELL = 4

Segment = Callable[[Tensor | None, Tensor], Tensor]


def simulate_hints(truth: Tensor, segment: Segment, config: HintConfig, generator: torch.Generator) -> Tensor:
    """Draw hints on the errors of the model's masks, in one to ``config.rounds`` rounds.

    Each round touches about the largest error of the mask so far with a disc, a short stroke or a scribble, clipped
    to the pixels whose truth has its label; before the next round the model segments again under the hints so far.

    Parameters
    ----------
    truth
        (B, 1, S, S) float32, 0 or 1.
    segment
        Called with hints (N, 4, S, S), None for none, and the (N,) samples that they belong to; returns the model's
        masks (N, 1, S, S) bool.
    config
        How many samples get hints and how many rounds.
    generator
        On the CPU; the only source of randomness.

    Returns
    -------
    Tensor
        (B, 4, S, S) float32, the planes of `HintEncoder`; all zero for the samples without hints.
    """
    count, device = len(truth), truth.device
    draws = torch.rand((5, count), generator=generator)
    hinted, rounds = draws[0] < config.share, (draws[1] * config.rounds).long() + 1
    rough, everywhere_else = corrupt(truth, generator), outside_box(truth, generator)
    planes = truth.new_zeros((count, PLANES, *truth.shape[2:]))
    planes[:, BACKGROUND : BACKGROUND + 1] = everywhere_else * _column((draws[3] < BOX) & hinted, device)
    given = _column(draws[4] < WITH_CURRENT, device)
    outlined = _column(draws[2] < OUTLINE, device) > 0
    for number in range(1, config.rounds + 1):
        active = torch.nonzero(hinted & (rounds >= number)).flatten().to(device)
        if not len(active):
            break
        current = segment(None if number == 1 else planes[active], active)
        if number == 1:
            current = torch.where(outlined[active], rough[active] > 0.5, current)
        strokes = draw_strokes(truth[active], current, generator)
        labels = torch.maximum(planes[active, :CURRENT], strokes)
        seen = torch.maximum(current.float(), labels[:, FOREGROUND, None]) * (1 - labels[:, BACKGROUND, None])
        planes[active, :CURRENT] = labels
        planes[active, CURRENT:] = torch.cat([seen, torch.ones_like(seen)], dim=1) * given[active]
    return planes


@without_autocast
def draw_strokes(truth: Tensor, current: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one stroke a sample, about in the middle of the largest error of ``current``.

    Parameters
    ----------
    truth
        (B, 1, S, S) float32, 0 or 1.
    current
        (B, 1, S, S) bool.
    generator
        On the CPU.

    Returns
    -------
    Tensor
        (B, 2, S, S) float32, 0 or 1: foreground and background; nothing where there is no error.
    """
    count, size = len(truth), truth.shape[-1]
    wrong = (current != (truth > 0.5)).float()
    centre, missed, found = _largest_error(wrong, truth, generator)
    kind, radius, stretch, length, angle = torch.rand((5, count), generator=generator)
    bends = torch.rand((3, count), generator=generator)
    segments = torch.where(kind < DISC, 0, torch.where(kind < DISC + STROKE, 1, 3))
    radius, stretch = 0.015 + 0.035 * radius, torch.exp((stretch - 0.5) * 0.6)
    length, angle = 0.03 + 0.12 * length, angle * 2 * math.pi
    # half the resolution is enough for a stroke and takes a quarter of the time
    side = size // 2
    line = (torch.arange(side, device=truth.device) + 0.5) / side
    points = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)
    near = torch.full((count, side, side), math.inf, device=truth.device)
    start = centre
    for index in range(3):
        end = start + torch.stack([angle.cos(), angle.sin()], dim=1).to(truth.device) * _where(
            index < segments, length, truth.device
        )
        near = torch.minimum(near, _distance(points, start, end, stretch.to(truth.device)))
        start = end
        angle = angle + (bends[index] - 0.5) * math.pi
    inside = (near <= radius.to(truth.device)[:, None, None]).float()[:, None]
    inside = functional.interpolate(inside, (size, size), mode="nearest") * found[:, None, None, None]
    missed = missed[:, None, None, None]
    return torch.cat([inside * truth * missed, inside * (1 - truth) * (1 - missed)], dim=1)


def outside_box(truth: Tensor, generator: torch.Generator) -> Tensor:
    """Return (B, 1, S, S) float32, 1 outside a loose box around the lesion; zeros for an empty mask."""
    size = truth.shape[-1]
    margins = (0.02 + 0.1 * torch.rand((4, len(truth)), generator=generator)).to(truth.device) * size
    line = torch.arange(size, device=truth.device)
    spans = []
    for axis, low, high in ((2, margins[0], margins[1]), (3, margins[2], margins[3])):
        present = truth.amax(dim=(1, axis)) > 0.5
        first = torch.where(present, line, size).amin(dim=1) - low
        last = torch.where(present, line, -1).amax(dim=1) + high
        spans.append((line >= first[:, None]) & (line <= last[:, None]))
    columns, rows = spans
    inside = (rows[:, :, None] & columns[:, None, :])[:, None]
    return (~inside).float() * (truth.amax(dim=(1, 2, 3), keepdim=True) > 0.5)


@without_autocast
def corrupt(truth: Tensor, generator: torch.Generator) -> Tensor:
    """Return a rough version of each mask: shifted, turned and scaled about its middle, its contour redrawn.

    Parameters
    ----------
    truth
        (B, 1, S, S) float32, 0 or 1.
    generator
        On the CPU.

    Returns
    -------
    Tensor
        (B, 1, S, S) float32, 0 or 1.
    """
    count, size = len(truth), truth.shape[-1]
    draws = (torch.rand((6, count), generator=generator) * 2 - 1).to(truth.device)
    bumps = torch.randn((count, 1, 8, 8), generator=generator).to(truth.device)
    middle = _middle(truth)
    angle, wide, high = draws[0] * 0.3, torch.exp(draws[1] * 0.25), torch.exp(draws[2] * 0.25)
    turn = torch.stack(
        [
            torch.stack([angle.cos() * wide, -angle.sin() * high], dim=1),
            torch.stack([angle.sin() * wide, angle.cos() * high], dim=1),
        ],
        dim=1,
    )
    shift = middle - (turn @ middle[:, :, None])[:, :, 0] + 0.08 * draws[3:5].T
    affine = torch.cat([turn, shift[:, :, None]], dim=2)
    grid = functional.affine_grid(affine, [count, 1, size, size], align_corners=False)
    moved = functional.grid_sample(truth, grid, align_corners=False)
    # a window of the size of the smallest lesions: a wider one would erase them
    soft = wide_blur(moved, size // 20)
    noise = (
        functional.interpolate(bumps, (size, size), mode="bilinear") * (0.1 + 0.1 * draws[5].abs())[:, None, None, None]
    )
    return (soft + noise > 0.5).float()


def _largest_error(wrong: Tensor, truth: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Find the largest error of each sample.

    Returns
    -------
    tuple of Tensor
        A point about in its middle, (B, 2) as x and y in [0, 1]; whether foreground is missing there, (B,) 0 or 1;
        whether there is any error, (B,) 0 or 1.
    """
    kinds = torch.cat([wrong * truth, wrong * (1 - truth)], dim=1)
    cells = functional.avg_pool2d(kinds, CELL)
    side = cells.shape[-1]
    # averages over growing windows are highest in the middle of the largest region, without labelling regions
    score = cells + sum(box_blur(cells, kernel) for kernel in (3, 7, 15))
    score = score * (cells >= 0.5) + cells * 1e-3
    score = score * (0.6 + 0.4 * torch.rand(score.shape, generator=generator)).to(wrong.device)
    best, index = score.flatten(1).max(dim=1)
    kind, cell = index // side**2, index % side**2
    point = torch.stack([cell % side, cell // side], dim=1).float()
    return (point + 0.5) / side, (kind == 0).float(), (best > 0).float()


def _distance(points: Tensor, start: Tensor, end: Tensor, stretch: Tensor) -> Tensor:
    """Return the distance (B, S, S) of ``points`` (S, S, 2) to segments (B, 2) to (B, 2), y stretched by (B,)."""
    scale = torch.stack([torch.ones_like(stretch), stretch], dim=1)[:, None, None]
    along = (end - start)[:, None, None] * scale
    offset = (points[None] - start[:, None, None]) * scale
    share = ((offset * along).sum(-1) / (along**2).sum(-1).clamp(min=1e-12)).clamp(0, 1)
    distance: Tensor = (offset - share[..., None] * along).norm(dim=-1)
    return distance


def _middle(truth: Tensor) -> Tensor:
    """Return the centre of mass of each mask, (B, 2) as x and y in [-1, 1]; (0, 0) for an empty one."""
    size = truth.shape[-1]
    line = (torch.arange(size, device=truth.device) + 0.5) * 2 / size - 1
    total = truth.sum(dim=(1, 2, 3)).clamp(min=1)
    return (
        torch.stack([(truth * line).sum(dim=(1, 2, 3)), (truth * line[:, None]).sum(dim=(1, 2, 3))], dim=1)
        / total[:, None]
    )


def _column(values: Tensor, device: torch.device) -> Tensor:
    return values.float().to(device)[:, None, None, None]


def _where(condition: Tensor, value: Tensor, device: torch.device) -> Tensor:
    return torch.where(condition, value, 0.0).to(device)[:, None]
