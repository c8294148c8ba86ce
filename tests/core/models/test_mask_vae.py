import pytest
import torch

from lsegdiff_core.config import MaskVAEConfig, ModelConfig
from lsegdiff_core.models.mask_vae import MaskVAE


@pytest.mark.parametrize(("size", "channels"), [(64, 4), (32, 2), (96, 4)])
def test_latent_is_an_eighth_of_the_side(size: int, channels: int) -> None:
    vae = MaskVAE(MaskVAEConfig(size=size, latent_channels=channels, width=16, upper_width=8))
    mean, log_variance = vae.encode(torch.zeros(3, 1, size, size))
    assert mean.shape == log_variance.shape == (3, channels, size // 8, size // 8)
    assert vae.decode(mean).shape == (3, 1, size, size)


def test_default_vae_keeps_to_its_budget() -> None:
    assert sum(p.numel() for p in MaskVAE(MaskVAEConfig()).parameters()) < 700_000


def test_log_variance_is_clamped(tiny_model: ModelConfig) -> None:
    vae = MaskVAE(tiny_model.vae)
    for bias, expected in ((1e6, 10.0), (-1e6, -20.0)):
        torch.nn.init.constant_(vae.encoder[-1].bias, bias)
        mean, log_variance = vae.encode(torch.zeros(1, 1, 64, 64))
        assert log_variance.unique().tolist() == [expected]
        assert mean.abs().max() > 1e5, "the mean is not clamped"


def test_masks_do_not_mix_within_a_batch(tiny_model: ModelConfig) -> None:
    vae = MaskVAE(tiny_model.vae)
    masks = (torch.rand(3, 1, 64, 64) > 0.5).float()
    mean = vae.encode(masks)[0]
    torch.testing.assert_close(vae.encode(masks[1:2])[0], mean[1:2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(vae.decode(mean[1:2]), vae.decode(mean)[1:2], rtol=1e-4, atol=1e-5)


def test_a_pixel_is_decoded_where_it_was_encoded(tiny_model: ModelConfig) -> None:
    """Space-to-depth and pixel-shuffle must not swap rows and columns: the influence of a cell stays around it."""
    vae = MaskVAE(tiny_model.vae)
    z = torch.randn(1, 4, 8, 8, requires_grad=True)
    vae.decode(z)[0, 0, 6, 50].backward()
    row, column = divmod(int(z.grad.abs().sum(dim=1).flatten().argmax()), 8)
    assert (row, column) == (0, 6)


def test_every_weight_learns(tiny_model: ModelConfig) -> None:
    vae = MaskVAE(tiny_model.vae)
    mean, log_variance = vae.encode(torch.ones(1, 1, 64, 64))
    (vae.decode(mean).square().mean() + log_variance.square().mean()).backward()
    assert [name for name, p in vae.named_parameters() if p.grad is None] == []
