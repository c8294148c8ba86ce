import pytest
import torch
from torch import nn
from torch.nn import functional

from lsegdiff_core.config import ImageEncoderConfig, ModelConfig
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.models.image_encoder import EfficientNetLite0, ImageEncoder, SameConv2d, conv_norm

# From timm's tf_efficientnet_lite0.
TIMM = {
    "conv_stem.weight": (32, 3, 3, 3),
    "bn1.weight": (32,),
    "bn1.running_var": (32,),
    "blocks.0.0.conv_dw.weight": (32, 1, 3, 3),
    "blocks.0.0.bn1.bias": (32,),
    "blocks.0.0.conv_pw.weight": (16, 32, 1, 1),
    "blocks.0.0.bn2.running_mean": (16,),
    "blocks.1.0.conv_pw.weight": (96, 16, 1, 1),
    "blocks.1.0.conv_dw.weight": (96, 1, 3, 3),
    "blocks.1.1.conv_pwl.weight": (24, 144, 1, 1),
    "blocks.2.0.conv_dw.weight": (144, 1, 5, 5),
    "blocks.2.1.bn3.weight": (40,),
    "blocks.3.2.conv_dw.weight": (480, 1, 3, 3),
    "blocks.4.0.conv_pw.weight": (480, 80, 1, 1),
    "blocks.4.2.conv_pwl.weight": (112, 672, 1, 1),
    "blocks.5.3.conv_dw.weight": (1152, 1, 5, 5),
    "blocks.5.3.bn2.num_batches_tracked": (),
    "blocks.6.0.conv_pwl.weight": (320, 1152, 1, 1),
    "blocks.6.0.bn3.running_var": (320,),
}
TIMM_TENSORS = 288  # 6 in the stem, 12 in the first block, 18 in each of the other 15
TIMM_PARAMETERS = 4_652_008 - (320 * 1280 + 2 * 1280) - (1280 * 1000 + 1000)  # without head and classifier


@pytest.fixture(scope="module")
def encoder(tiny_model: ModelConfig) -> ImageEncoder:
    torch.manual_seed(0)
    return ImageEncoder(tiny_model.encoder).eval()


@pytest.mark.parametrize(("name", "shape"), TIMM.items())
def test_backbone_has_timms_weight(encoder: ImageEncoder, name: str, shape: tuple[int, ...]) -> None:
    assert tuple(encoder.backbone.state_dict()[name].shape) == shape


def test_backbone_has_as_many_weights_as_timms(encoder: ImageEncoder) -> None:
    state = encoder.backbone.state_dict()
    assert len(state) == TIMM_TENSORS
    assert sum(p.numel() for p in encoder.backbone.parameters()) == TIMM_PARAMETERS
    assert not [name for name in state if name.split(".")[0] not in ("conv_stem", "bn1", "blocks")]


def test_batch_norm_has_tensorflows_epsilon(encoder: ImageEncoder) -> None:
    assert {module.eps for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)} == {1e-3}


def test_backbone_gives_strides_four_to_thirty_two() -> None:
    maps = EfficientNetLite0().eval()(torch.zeros(1, 3, 64, 64))
    assert [tuple(x.shape[1:]) for x in maps] == [(24, 16, 16), (40, 8, 8), (112, 4, 4), (320, 2, 2)]


@pytest.mark.parametrize("size", [64, 96])
def test_pyramid_has_one_width_at_three_strides(encoder: ImageEncoder, size: int) -> None:
    maps = encoder(torch.zeros(2, 3, size, size))
    assert [tuple(x.shape) for x in maps] == [(2, 16, size // s, size // s) for s in (8, 16, 32)]


def test_default_encoder_keeps_to_its_budget() -> None:
    assert sum(p.numel() for p in ImageEncoder(ImageEncoderConfig()).parameters()) < 3_500_000


def test_unknown_backbone_is_refused_by_name() -> None:
    with pytest.raises(LSegDiffError, match=r"backbone.*resnet50.*tf_efficientnet_lite0"):
        ImageEncoder(ImageEncoderConfig(backbone="resnet50"))


@pytest.mark.parametrize("wrapped", [False, True])
def test_batch_norm_stays_in_evaluation_mode_while_training(tiny_model: ModelConfig, wrapped: bool) -> None:
    encoder = ImageEncoder(tiny_model.encoder)
    outer = nn.ModuleList([encoder]) if wrapped else encoder
    assert outer.train() is outer
    assert encoder.training
    assert encoder.smooth.training
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 48
    assert not any(norm.training for norm in norms)
    before = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    encoder(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(buffer, before[name]) for name, buffer in encoder.named_buffers())
    outer.eval()
    assert not encoder.training


def test_images_do_not_mix_within_a_batch(encoder: ImageEncoder) -> None:
    images = torch.randn(3, 3, 64, 64)
    together = encoder(images)
    alone = encoder(images[1:2])
    for one, many in zip(alone, together, strict=True):
        torch.testing.assert_close(one, many[1:2], rtol=1e-4, atol=1e-5)


def test_every_weight_learns(tiny_model: ModelConfig) -> None:
    encoder = ImageEncoder(tiny_model.encoder).train()
    sum(level.square().mean() for level in encoder(torch.randn(1, 3, 64, 64))).backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def test_the_fine_level_sees_where_a_pixel_is(encoder: ImageEncoder) -> None:
    image = torch.randn(1, 3, 64, 64, requires_grad=True)
    encoder(image)[0][0, :, 1, 6].square().sum().backward()
    row, column = divmod(int(image.grad.abs().sum(dim=1).flatten().argmax()), 64)
    assert abs(row - 12) < 20
    assert abs(column - 52) < 20


# TensorFlow's rule: ceil(side / stride) outputs; what padding is odd goes to the bottom and the right
@pytest.mark.parametrize(
    ("kernel", "stride", "side", "before", "after"),
    [
        (3, 1, 8, 1, 1),
        (3, 1, 7, 1, 1),
        (5, 1, 8, 2, 2),
        (3, 2, 8, 0, 1),
        (3, 2, 7, 1, 1),
        (5, 2, 8, 1, 2),
        (5, 2, 7, 2, 2),
        (3, 2, 1, 1, 1),
        (5, 2, 2, 1, 2),
    ],
)
@pytest.mark.parametrize("groups", [1, 4])
def test_same_convolution_pads_like_tensorflow(
    kernel: int, stride: int, side: int, before: int, after: int, groups: int
) -> None:
    layer = SameConv2d(4, 4, kernel, stride, groups=groups, bias=False)
    x = torch.randn(2, 4, side, side)
    padded = torch.zeros(2, 4, before + side + after, before + side + after)
    padded[..., before : before + side, before : before + side] = x
    expected = functional.conv2d(padded, layer.weight, stride=stride, groups=groups)
    assert expected.shape[-1] == -(-side // stride)
    torch.testing.assert_close(layer(x), expected)


def test_same_convolution_pads_rows_and_columns_separately() -> None:
    layer = SameConv2d(1, 1, 3, 2)
    x = torch.randn(1, 1, 8, 7)  # even: one line at the bottom; odd: one on either side
    expected = functional.conv2d(functional.pad(x, (1, 1, 0, 1)), layer.weight, layer.bias, stride=2)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(
        layer(x.mT.contiguous()),
        functional.conv2d(functional.pad(x.mT, (0, 1, 1, 1)), layer.weight, layer.bias, stride=2),
    )


@pytest.mark.parametrize("make", [torch.nn.Conv2d, SameConv2d])
def test_convolution_and_norm_in_one_are_both_in_turn(make: type[torch.nn.Conv2d]) -> None:
    torch.manual_seed(0)
    conv, norm = make(4, 6, 3, 2, bias=False), torch.nn.BatchNorm2d(6, eps=1e-3).eval()
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        tensor.uniform_(0.5, 2)
    x = torch.randn(2, 4, 13, 10)
    gradients = []
    for out in (conv_norm(conv, norm, x), norm(conv(x))):
        parameters = [conv.weight, norm.weight, norm.bias]
        gradients.append([out.detach(), *torch.autograd.grad((out**3).sum(), parameters)])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
