"""EfficientNet-Lite0 with a feature pyramid; parameter names are timm's, so that timm weights load."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lsegdiff_core.config import ImageEncoderConfig
from lsegdiff_core.errors import LSegDiffError

# (repeats, kernel, stride, expansion, channels): EfficientNet-B0 with the first and last stage not repeated
# and without squeeze-and-excitation (Tan and Le 2019; the Lite variant).
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# Stages whose output leaves the backbone: strides 4, 8, 16 and 32.
TAPS = {1: 24, 2: 40, 4: 112, 6: 320}


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's 'SAME' padding, which is lopsided at stride 2.

    On a CPU it computes in float32 under autocast, too: depthwise kernels have no fast path in bfloat16 there.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Map (B, C, H, W) to (B, C_out, ceil(H / stride), ceil(W / stride))."""
        x = input
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[-2:]]
        padding = (pads[0] // 2, pads[1] // 2)
        if pads[0] % 2 or pads[1] % 2:
            x = functional.pad(x, (padding[1], pads[1] - padding[1], padding[0], pads[0] - padding[0]))
            padding = (0, 0)
        if x.device.type == "cpu":
            x = x.float()
        with torch.autocast("cpu", enabled=False):
            return functional.conv2d(x, weight, bias, self.stride, padding, self.dilation, self.groups)


def conv_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Convolve (B, C, H, W) and normalise by the running statistics, in one pass over the map.

    A frozen BatchNorm's scale belongs to the weights and its shift to the bias (Jacob et al. 2018, eq. 14); gradients
    reach all of them.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    weight, bias = conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
    out: Tensor = conv._conv_forward(x, weight, bias)
    return out


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class DepthwiseSeparable(nn.Module):
    """Depthwise convolution, then a pointwise one without activation."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = SameConv2d(channels, channels, kernel, stride, groups=channels, bias=False)
        self.bn1 = _norm(channels)
        self.conv_pw = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn2 = _norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C_out, H / stride, W / stride)."""
        x = functional.relu6(conv_norm(self.conv_dw, self.bn1, x))
        return conv_norm(self.conv_pw, self.bn2, x)


class InvertedResidual(nn.Module):
    """Expand, depthwise convolution, project; residual where the shapes agree."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = channels * expansion
        self.conv_pw = nn.Conv2d(channels, middle, 1, bias=False)
        self.bn1 = _norm(middle)
        self.conv_dw = SameConv2d(middle, middle, kernel, stride, groups=middle, bias=False)
        self.bn2 = _norm(middle)
        self.conv_pwl = nn.Conv2d(middle, out_channels, 1, bias=False)
        self.bn3 = _norm(out_channels)
        self.residual = stride == 1 and channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C_out, H / stride, W / stride)."""
        h = functional.relu6(conv_norm(self.conv_pw, self.bn1, x))
        h = functional.relu6(conv_norm(self.conv_dw, self.bn2, h))
        h = conv_norm(self.conv_pwl, self.bn3, h)
        return x + h if self.residual else h


class EfficientNetLite0(nn.Module):
    """Backbone; returns the maps at strides 4, 8, 16 and 32 with 24, 40, 112 and 320 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = SameConv2d(3, 32, 3, 2, bias=False)
        self.bn1 = _norm(32)
        stages: list[nn.Module] = []
        channels = 32
        for repeats, kernel, stride, expansion, out_channels in STAGES:
            blocks: list[nn.Module] = []
            for index in range(repeats):
                step = stride if index == 0 else 1
                if expansion == 1:
                    blocks.append(DepthwiseSeparable(channels, out_channels, kernel, step))
                else:
                    blocks.append(InvertedResidual(channels, out_channels, kernel, step, expansion))
                channels = out_channels
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map ``image`` (B, 3, S, S), values in [-1, 1], to four feature maps."""
        x = functional.relu6(conv_norm(self.conv_stem, self.bn1, image))
        maps = []
        for index, stage in enumerate(self.blocks):
            x = stage(x)
            if index in TAPS:
                maps.append(x)
        return maps


class ImageEncoder(nn.Module):
    """Condition of the denoiser: the image as a pyramid of features, computed once per image.

    BatchNorm stays in evaluation mode even while the weights are trained: the batches are small, and the
    pretrained statistics are as good as theirs.

    Parameters
    ----------
    config
        ``size`` and ``pyramid_channels`` give the shapes.

    Raises
    ------
    LSegDiffError
        If the backbone's name is not known.
    """

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        if config.backbone != "tf_efficientnet_lite0":
            raise LSegDiffError(f"backbone: unknown name '{config.backbone}'; known is tf_efficientnet_lite0")
        width = config.pyramid_channels
        self.backbone = EfficientNetLite0()
        # Stride 4 enters the stride-8 level through space-to-depth: the contour lives there.
        inputs = (4 * TAPS[1] + TAPS[2], TAPS[4], TAPS[6])
        self.lateral = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in inputs)
        self.context = nn.Conv2d(TAPS[6], width, 1)
        self.smooth = nn.ModuleList(nn.Sequential(nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)) for _ in inputs)

    def train(self, mode: bool = True) -> ImageEncoder:
        """Switch the mode of everything but BatchNorm."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, image: Tensor) -> list[Tensor]:
        """Encode an image.

        Parameters
        ----------
        image
            (B, 3, S, S), RGB in [-1, 1].

        Returns
        -------
        list of Tensor
            ``pyramid_channels`` maps at S/8, S/16 and S/32 pixels a side.
        """
        quarter, eighth, sixteenth, last = self.backbone(image)
        fine = torch.cat([functional.pixel_unshuffle(quarter, 2), eighth], dim=1)
        x = self.lateral[2](last) + self.context(last.mean(dim=(2, 3), keepdim=True))
        coarse = self.smooth[2](x)
        x = self.lateral[1](sixteenth) + functional.interpolate(x, scale_factor=2.0, mode="nearest")
        middle = self.smooth[1](x)
        x = self.lateral[0](fine) + functional.interpolate(x, scale_factor=2.0, mode="nearest")
        return [self.smooth[0](x), middle, coarse]
