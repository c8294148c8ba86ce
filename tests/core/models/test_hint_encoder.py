import pytest
import torch
from torch import Tensor

from lsegdiff_core.config import ModelConfig
from lsegdiff_core.models.hint_encoder import CURRENT, PLANES, HintEncoder, with_hints


@pytest.fixture
def encoder(tiny_model: ModelConfig) -> HintEncoder:
    """A hint encoder with weights and biases as if trained."""
    torch.manual_seed(4)
    network = HintEncoder(tiny_model)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


def drawn(batch: int, size: int = 64) -> Tensor:
    return (torch.rand(batch, PLANES, size, size, generator=torch.Generator().manual_seed(1)) > 0.7).float()


@pytest.mark.parametrize("size", [64, 96])
def test_hints_become_one_vector_for_each_cell_of_the_finest_level(encoder: HintEncoder, size: int) -> None:
    assert encoder(drawn(3, size)).shape == (3, 16, size // 8, size // 8)


def test_no_hints_give_exactly_zero_beside_a_sample_with_hints(encoder: HintEncoder) -> None:
    hints = drawn(3)
    hints[1] = 0
    out = encoder(hints)
    assert (out[1] == 0).all()
    assert out[[0, 2]].abs().amax(dim=(1, 2, 3)).min() > 0.1


@pytest.mark.parametrize("plane", range(PLANES))
def test_one_pixel_of_any_plane_is_a_hint(encoder: HintEncoder, plane: int) -> None:
    hints = torch.zeros(1, PLANES, 64, 64)
    hints[0, plane, 9, 50] = 1
    other = torch.zeros_like(hints)
    other[0, (plane + 1) % PLANES, 9, 50] = 1
    out = encoder(hints)
    assert (out - encoder(other)).abs().max() > 1e-3
    # what the pixel adds lies around its cell, row 1 and column 6: two convolutions see two cells around
    hints[0, plane, 9, 50] = 0.5
    added = (out - encoder(hints))[0].abs().sum(dim=0)
    assert added[1, 6] > 1e-3
    assert not added[4:].any()
    assert not added[:, :4].any()


def test_samples_do_not_mix_within_a_batch(encoder: HintEncoder) -> None:
    hints = drawn(3)
    before = encoder(hints)
    hints[1] = 1 - hints[1]
    after = encoder(hints)
    assert torch.equal(after[[0, 2]], before[[0, 2]])
    assert (after[1] - before[1]).abs().max() > 0.1
    torch.testing.assert_close(encoder(hints[2:]), after[2:], rtol=1e-4, atol=1e-5)


def test_untrained_encoder_changes_nothing(tiny_model: ModelConfig) -> None:
    cond = [torch.randn(2, 16, side, side) for side in (8, 4, 2)]
    changed = with_hints(cond, HintEncoder(tiny_model)(drawn(2)))
    assert all(torch.equal(one, other) for one, other in zip(changed, cond, strict=True))


def test_hints_are_added_to_the_finest_level_alone(encoder: HintEncoder) -> None:
    cond = [torch.randn(2, 16, side, side) for side in (8, 4, 2)]
    before = [level.clone() for level in cond]
    encoded = encoder(drawn(2))
    fine, middle, coarse = with_hints(cond, encoded)
    torch.testing.assert_close(fine, before[0] + encoded)
    assert torch.equal(middle, before[1])
    assert torch.equal(coarse, before[2])
    assert torch.equal(cond[0], before[0]), "the image's own encoding is used again"


def test_untrained_encoder_can_learn(tiny_model: ModelConfig) -> None:
    encoder, hints = HintEncoder(tiny_model), drawn(2)
    optimiser = torch.optim.SGD(encoder.parameters(), lr=0.1)
    before = {name: parameter.detach().clone() for name, parameter in encoder.named_parameters()}
    for _ in range(2):  # the last layer first: it starts at zero and lets no gradient through
        optimiser.zero_grad()
        (encoder(hints) - 1).square().mean().backward()
        optimiser.step()
    assert [name for name, parameter in encoder.named_parameters() if torch.equal(parameter, before[name])] == []


def test_no_hints_give_no_gradient(encoder: HintEncoder) -> None:
    encoder(torch.zeros(2, PLANES, 64, 64)).sum().backward()
    assert not any(parameter.grad.any() for parameter in encoder.parameters())


def test_a_given_empty_mask_is_not_the_same_as_none(encoder: HintEncoder) -> None:
    hints = torch.zeros(1, PLANES, 64, 64)
    hints[:, CURRENT + 1] = 1
    assert encoder(hints).abs().max() > 0.1
