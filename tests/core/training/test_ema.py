import pytest
import torch
from torch import nn

from lsegdiff_core.training.ema import EMA


def filled(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


@pytest.mark.parametrize(("step", "kept"), [(0, 1 / 10), (1, 2 / 11), (8, 0.5), (890, 0.99), (100_000, 0.99)])
def test_share_that_is_kept_warms_up_to_the_decay(step: int, kept: float) -> None:
    ema = EMA(filled(1.0), decay=0.99)
    ema.update(filled(0.0), step)
    assert ema.model.weight.item() == pytest.approx(kept, rel=1e-5)


def test_average_follows_the_recursion() -> None:
    source, expected = filled(0.0), 0.0
    ema = EMA(source, decay=0.9)
    for step in range(30):
        nn.init.constant_(source.weight, float(step))
        ema.update(source, step)
        kept = min(0.9, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * step
    assert ema.model.weight.item() == pytest.approx(expected, rel=1e-5)


def test_average_is_a_copy_without_gradients_in_evaluation_mode() -> None:
    source = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    ema = EMA(source, decay=0.9)
    assert not ema.model.training
    assert source.training
    assert not any(p.requires_grad for p in ema.model.parameters())
    assert all(p.requires_grad for p in source.parameters())
    with torch.no_grad():
        source[0].weight.add_(1)
    assert not torch.equal(ema.model[0].weight, source[0].weight)


def test_updating_leaves_the_source_alone() -> None:
    source = filled(3.0)
    ema = EMA(filled(1.0), decay=0.5)
    ema.update(source, 100)
    assert source.weight.item() == 3.0
    assert source.weight.requires_grad
