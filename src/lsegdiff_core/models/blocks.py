"""Building blocks that more than one network uses."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """Group normalisation that computes in float32 under autocast, too: more exact, and faster on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape and dtype."""
        return super().forward(input.float()).to(input.dtype)


class ResBlock(nn.Module):
    """Residual block, two 3 x 3 convolutions with GroupNorm and SiLU, scaled and shifted by an embedding.

    Parameters
    ----------
    channels, out_channels
        Width in and out; multiples of 8.
    embedding
        Length of the embedding vector, or 0 for none.
    """

    def __init__(self, channels: int, out_channels: int, embedding: int = 0) -> None:
        super().__init__()
        self.norm1 = GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.norm2 = GroupNorm(8, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        self.skip = nn.Conv2d(channels, out_channels, 1) if channels != out_channels else nn.Identity()
        self.modulation = nn.Linear(embedding, 2 * out_channels) if embedding else None
        self.act = nn.SiLU()

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """Map ``x`` (B, C, H, W) and ``embedding`` (B, E) to (B, C_out, H, W)."""
        h = self.norm2(self.conv1(self.act(self.norm1(x))))
        if self.modulation is not None and embedding is not None:
            scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
            h = h * (1 + scale) + shift
        out: Tensor = self.skip(x) + self.conv2(self.act(h))
        return out


class SelfAttention(nn.Module):
    """Multi-head self-attention over all positions, with a residual connection; meant for small maps."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = GroupNorm(8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (B, C, H, W) to the same shape."""
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w).transpose(-1, -2)
        mixed = nn.functional.scaled_dot_product_attention(qkv[:, 0], qkv[:, 1], qkv[:, 2])
        out: Tensor = x + self.out(mixed.transpose(-1, -2).reshape(b, c, h, w))
        return out


def fourier_features(x: Tensor, count: int) -> Tensor:
    """Return sines and cosines of ``x`` (B,) at ``count / 2`` frequencies from 1 to 64, shape (B, ``count``)."""
    frequencies = torch.logspace(0.0, 6.0, count // 2, base=2.0, device=x.device, dtype=x.dtype)
    angles = x[:, None] * frequencies[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)
