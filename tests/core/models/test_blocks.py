import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from lsegdiff_core.models.blocks import ResBlock, SelfAttention, fourier_features


@pytest.mark.parametrize(("channels", "out_channels"), [(16, 16), (16, 24)])
@pytest.mark.parametrize("embedding", [0, 32])
def test_res_block_changes_only_the_channels(channels: int, out_channels: int, embedding: int) -> None:
    block = ResBlock(channels, out_channels, embedding)
    given = torch.randn(2, embedding) if embedding else None
    assert block(torch.randn(2, channels, 5, 7), given).shape == (2, out_channels, 5, 7)


def test_new_blocks_add_nothing_but_a_bias() -> None:
    x = torch.randn(2, 16, 4, 4)
    for out in (ResBlock(16, 16, 8)(x, torch.randn(2, 8)), SelfAttention(16)(x)):
        added = out - x
        torch.testing.assert_close(added, added[:1, :, :1, :1].expand_as(added), rtol=0, atol=1e-6)


def test_embedding_scales_and_shifts_each_sample_by_itself(awaken: Callable[[nn.Module], nn.Module]) -> None:
    block = awaken(ResBlock(16, 16, 8))
    x, embedding = torch.randn(1, 16, 4, 4).repeat(2, 1, 1, 1), torch.randn(2, 8)
    out = block(x, embedding)
    assert (out[0] - out[1]).abs().max() > 1e-3
    torch.testing.assert_close(block(x, embedding.flip(0)), out.flip(0))


def test_attention_does_not_know_positions(awaken: Callable[[nn.Module], nn.Module]) -> None:
    attention = awaken(SelfAttention(16))
    x, order = torch.randn(2, 16, 3, 4), torch.randperm(12)
    shuffled = x.flatten(2)[..., order].reshape(x.shape)
    out = attention(x)
    assert (out - x).abs().max() > 1e-3
    torch.testing.assert_close(attention(shuffled).flatten(2), out.flatten(2)[..., order], rtol=1e-4, atol=1e-5)


def test_attention_mixes_every_position_with_every_other(awaken: Callable[[nn.Module], nn.Module]) -> None:
    attention = awaken(SelfAttention(16))
    x = torch.randn(1, 16, 4, 4, requires_grad=True)
    attention(x)[0, :, 0, 0].sum().backward()
    assert (x.grad.abs().sum(dim=1) > 0).all()


def test_fourier_features_run_from_one_to_sixty_four() -> None:
    x = torch.tensor([0.0, 0.01, -0.7])
    features = fourier_features(x, 8)
    assert features.shape == (3, 8)
    assert features[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    torch.testing.assert_close(features[:, 0], x.sin())
    torch.testing.assert_close(features[:, 3], (64 * x).sin())
    assert features[1, 7].item() == pytest.approx(math.cos(0.64), abs=1e-6)
