"""What generator, discriminator and encoders are made of: equalised layers and the modulated convolution."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wplus.errors import UserError
from wplus.models.ops import blur, conv2d, conv_transpose2d, downsample

SLOPE = 0.2
SQRT2 = math.sqrt(2)


def leaky_relu(x: Tensor, clamp: float | None = None) -> Tensor:
    """Leaky ReLU of slope 0.2, in place: callers hand over a tensor of their own; `clamp` limits the magnitude.

    StyleGAN multiplies its result by sqrt(2) to keep the variance. Since lrelu(a x) = a lrelu(x) for a > 0, our layers
    fold that gain into weight and bias, which is cheaper by a pass over the activations.
    """
    y = F.leaky_relu_(x, SLOPE)
    return y if clamp is None else y.clamp(-clamp, clamp)


def normalize_second_moment(x: Tensor) -> Tensor:
    """x / sqrt(mean(x^2)) along dim 1 ("pixel norm" of StyleGAN): (N, D) -> (N, D)."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class EqualizedLinear(nn.Module):
    """Fully connected, equalised learning rate (ProGAN, section 4.1): y = x (w lr_mul / sqrt(in))^T + b lr_mul."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activate: bool = False,
        lr_mul: float = 1.0,
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_mul)
        self.bias = nn.Parameter(torch.full((out_features,), float(bias_init)))
        self.activate = activate
        self.bias_gain = lr_mul * (SQRT2 if activate else 1.0)
        self.weight_gain = self.bias_gain / math.sqrt(in_features)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_features) -> (N, out_features)."""
        y = torch.addmm(self.bias, x, self.weight.t(), beta=self.bias_gain, alpha=self.weight_gain)
        return leaky_relu(y) if self.activate else y


class EqualizedConv2d(nn.Module):
    """Convolution with equalised learning rate, optional bias, leaky ReLU and factor-2 downsampling (StyleGAN2's D).

    `gain` multiplies the output; the residual discriminator uses sqrt(1/2) on both branches. `conv_clamp` limits the
    activation before that gain.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        bias: bool = True,
        activate: bool = False,
        down: int = 1,
        gain: float = 1.0,
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.activate, self.down, self.padding = activate, down, kernel_size // 2
        self.clamp = None if conv_clamp is None else conv_clamp * gain
        self.bias_gain = gain * (SQRT2 if activate else 1.0)
        self.weight_gain = self.bias_gain / math.sqrt(in_channels * kernel_size**2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H/down, W/down)."""
        y = self._convolve(x, (self.weight * self.weight_gain).to(x.dtype))
        if self.bias is not None:
            y = y.add_((self.bias * self.bias_gain).to(x.dtype).view(1, -1, 1, 1))
        return leaky_relu(y, self.clamp) if self.activate else y

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        if self.down == 1:
            return conv2d(x, weight, padding=self.padding)
        if self.padding == 0:  # 1x1: filter and drop samples first, then a quarter of the products remain
            return conv2d(downsample(x), weight)
        return conv2d(blur(x, padding=2), weight, stride=2)


def demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """rsqrt(sum over input channels and taps of (w s)^2 + 1e-8), StyleGAN2 equation 3.

    weight (O, I, k, k), styles (N, I) -> (N, O).
    """
    return (styles.square() @ weight.square().sum(dim=(2, 3)).t() + 1e-8).rsqrt()


def modulated_conv2d(
    x: Tensor, weight: Tensor, styles: Tensor, *, gain: float = 1.0, up: int = 1, offset: Tensor | None = None
) -> Tensor:
    """StyleGAN2's modulated and demodulated convolution (equations 1 to 3).

    x (N, I, H, W), weight (O, I, k, k), styles (N, I) -> (N, O, up H, up W). `gain` multiplies the result
    for free; `offset` (N or 1, 1, up H, up W) is added to it.
    """
    form = per_sample_weights if prefers_per_sample_weights(x, weight, up) else scaled_activations
    return form(x, weight, styles, gain=gain, up=up, offset=offset)


def prefers_per_sample_weights(x: Tensor, weight: Tensor, up: int) -> bool:
    """Whether a weight per sample is so much smaller than the maps that scaling it beats scaling them.

    Measured on CPUs, channels last: level at ten times as many pixels as weights per input channel, a quarter faster
    at fifty. An exported graph keeps the form whose batch size may vary.
    """
    if x.device.type != "cpu" or torch.compiler.is_exporting():
        return False
    pixels = up * up * x.shape[2] * x.shape[3]
    return pixels >= 16 * weight.shape[0] * weight.shape[2] * weight.shape[3]


def scaled_activations(
    x: Tensor, weight: Tensor, styles: Tensor, *, gain: float, up: int, offset: Tensor | None
) -> Tensor:
    """One weight for all samples: scale the input by s, the output by the demodulation."""
    out_scale = (demodulation(weight, styles) * gain).to(x.dtype)[:, :, None, None]
    y = _convolve(x * styles.to(x.dtype)[:, :, None, None], weight.to(x.dtype), up=up, groups=1)
    return y * out_scale if offset is None else torch.addcmul(offset.to(y.dtype), y, out_scale)


def per_sample_weights(
    x: Tensor, weight: Tensor, styles: Tensor, *, gain: float, up: int, offset: Tensor | None
) -> Tensor:
    """The modulated convolution as published: a weight per sample, and the batch as groups of one convolution."""
    num, (out_channels, in_channels) = len(x), weight.shape[:2]
    scale = styles[:, None, :] * (demodulation(weight, styles) * gain)[:, :, None]  # (N, O, I)
    weights = (weight * scale[:, :, :, None, None]).to(x.dtype).view(num * out_channels, in_channels, *weight.shape[2:])
    y = _convolve(x.reshape(1, num * in_channels, *x.shape[2:]), weights, up=up, groups=num)
    y = y.view(num, out_channels, *y.shape[2:])
    return y if offset is None else y + offset.to(y.dtype)


def _convolve(x: Tensor, weight: Tensor, *, up: int, groups: int) -> Tensor:
    """Plain convolution, or upsampling by a transposed one and the low-pass filter. weight (O, I/groups, k, k)."""
    is_parameter = groups == 1
    if up == 1:
        return conv2d(x, weight, padding=weight.shape[2] // 2, groups=groups, is_parameter=is_parameter)
    transposed = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)  # (I, O/groups, k, k)
    return blur(
        conv_transpose2d(x, transposed, stride=2, groups=groups, is_parameter=is_parameter), padding=1, gain=4.0
    )


def set_bf16_resolutions(network: nn.Module, num_resolutions: int) -> None:
    """Compute the blocks of the `num_resolutions` highest resolutions in bfloat16, the others in float32.

    A property of how a network runs, not of what it is: weights stay float32 and checkpoints do not know it.
    """
    blocks = [module for module in network.modules() if hasattr(module, "compute_dtype")]
    resolutions = sorted({block.resolution for block in blocks}, reverse=True)[:num_resolutions]
    for block in blocks:
        block.compute_dtype = torch.bfloat16 if block.resolution in resolutions else torch.float32


def minibatch_stddev(x: Tensor, group_size: int) -> Tensor:
    """Append one map: the standard deviation over groups of images, mean over channels and pixels (ProGAN, section 3).

    Image n belongs to group n mod (N / group size). (N, C, H, W) -> (N, C + 1, H, W).
    """
    num, _, height, width = x.shape
    group = min(group_size, num)
    if num % group:
        raise UserError(
            f"A batch of {num} images cannot be divided into groups of {group}; "
            "the batch must be a multiple of mbstd_group_size."
        )
    y = x.to(torch.float32).reshape(group, num // group, *x.shape[1:])  # (G, N/G, C, H, W)
    y = (y - y.mean(dim=0)).square().mean(dim=0).add(1e-8).sqrt().mean(dim=(1, 2, 3))  # (N/G,)
    y = y.to(x.dtype).repeat(group).view(num, 1, 1, 1).expand(-1, -1, height, width)
    return torch.cat([x, y], dim=1)
