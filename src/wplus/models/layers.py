"""Layers of generators, discriminators and encoders: widths, equalised layers, minibatch standard deviation."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wplus.core.distributed import rank_and_world
from wplus.errors import UserError, check_choice
from wplus.models import ops
from wplus.models.convolution import conv2d
from wplus.models.ops import blur, downsample

SLOPE = 0.2
SQRT2 = math.sqrt(2)


def block_resolutions(resolution: int) -> list[int]:
    """[4, 8, ..., resolution]; UserError unless resolution is a power of two from 8 to 1024."""
    check_choice("resolution", resolution, (8, 16, 32, 64, 128, 256, 512, 1024))
    return [2**i for i in range(2, int(math.log2(resolution)) + 1)]


def num_channels(resolution: int, channel_base: int, channel_max: int) -> int:
    """Feature maps at a resolution: min(channel_base / resolution, channel_max); UserError if that is zero."""
    channels = min(channel_base // resolution, channel_max)
    if channels < 1:
        allowed = f"channel_base must be at least {resolution} and channel_max at least 1"
        raise UserError(f"{allowed}, or {resolution} px have no feature maps, got {channel_base} and {channel_max}.")
    return channels


def block_widths(resolution: int, channel_base: int, channel_max: int) -> dict[int, int]:
    """Resolution -> number of feature maps, from 4 px up."""
    return {res: num_channels(res, channel_base, channel_max) for res in block_resolutions(resolution)}


def leaky_relu(x: Tensor, clamp: float | None = None) -> Tensor:
    """Leaky ReLU of slope 0.2, in place; `clamp` limits the magnitude.

    StyleGAN multiplies its result by sqrt(2). Since lrelu(a x) = a lrelu(x) for a > 0, our layers fold that gain into
    weight and bias, which saves a pass over the activations.
    """
    y = ops.leaky_relu_(x, SLOPE)
    return y if clamp is None else y.clamp(-clamp, clamp)


def outputs_at(layers: nn.Sequential, x: Tensor, places: Sequence[int]) -> list[Tensor]:
    """Outputs of the layers numbered `places`, in order; later layers are not run."""
    found = []
    for number, layer in enumerate(layers[: max(places) + 1]):
        # An in-place activation would overwrite the outputs taken and what the backward pass needs.
        x = F.relu(x) if isinstance(layer, nn.ReLU) else layer(x)
        if number in places:
            found.append(x)
    return found


def normalize_second_moment(x: Tensor) -> Tensor:
    """x / sqrt(mean(x^2)) along dim 1 ("pixel norm" of StyleGAN): (N, D) -> (N, D)."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class EqualizedLinear(nn.Module):
    """Dense, equalised learning rate (ProGAN, section 4.1): y = x (w gain lr_mul / sqrt(in))^T + b gain lr_mul.

    gain       sqrt(2) if an activation follows, else 1
    bias_gain  the gain of the bias, if different: StyleGAN2 scales the output of the activation, ProGAN and StyleGAN
               only the weights, so that theirs is 1
    """

    def __init__(
        self, in_features: int, out_features: int, *, activate: bool = False, lr_mul: float = 1.0,
        bias_init: float = 0.0, bias_gain: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_mul)
        self.bias = nn.Parameter(torch.full((out_features,), float(bias_init)))
        self.activate = activate
        gain = SQRT2 if activate else 1.0
        self.bias_gain = lr_mul * (gain if bias_gain is None else bias_gain)
        self.weight_gain = lr_mul * gain / math.sqrt(in_features)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_features) -> (N, out_features)."""
        y = torch.addmm(self.bias, x, self.weight.t(), beta=self.bias_gain, alpha=self.weight_gain)
        # torch's own op, because its second derivative is zeros rather than None: they cost nothing for vectors, and
        # let penalties reach the biases of a discriminator's last layers, so that a layer is always updated as a whole.
        return F.leaky_relu_(y, SLOPE) if self.activate else y


class EqualizedConv2d(nn.Module):
    """Convolution with equalised learning rate, optional bias and leaky ReLU; gains as in `EqualizedLinear`.

    `gain` multiplies the output, in addition to the sqrt(2) of an activation. `conv_clamp` limits the activation before
    that gain. `down` 2 halves the resolution with StyleGAN2's filter.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, bias: bool = True, activate: bool = False,
        down: int = 1, gain: float = 1.0, bias_gain: float | None = None, conv_clamp: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.activate, self.down, self.padding = activate, down, kernel_size // 2
        self.clamp = None if conv_clamp is None else conv_clamp * gain
        gain *= SQRT2 if activate else 1.0
        self.bias_gain = gain if bias_gain is None else bias_gain
        self.weight_gain = gain / math.sqrt(in_channels * kernel_size**2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H/down, W/down)."""
        y = self.convolve(x, (self.weight * self.weight_gain).to(x.dtype))
        if self.bias is not None and self.activate and ops.is_fused(y):
            return ops.activated(y, self.bias * self.bias_gain, clamp=self.clamp)
        if self.bias is not None:
            y = y.add_((self.bias * self.bias_gain).to(x.dtype).view(1, -1, 1, 1))
        return leaky_relu(y, self.clamp) if self.activate else y

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """The convolution and change of resolution only."""
        if self.down == 1:
            return conv2d(x, weight, padding=self.padding)
        if self.padding == 0:  # 1x1: filter and subsample first, which leaves a quarter of the products
            return conv2d(downsample(x), weight)
        return conv2d(blur(x, padding=2), weight, stride=2)


class ResolutionBlock(nn.Module):
    """The layers of one resolution, computed in `compute_dtype`; see `set_bf16_resolutions`."""

    compute_dtype: torch.dtype = torch.float32

    def __init__(self, *, resolution: int) -> None:
        super().__init__()
        self.resolution = resolution


def set_bf16_resolutions(network: nn.Module, num_resolutions: int) -> None:
    """Compute the blocks of the `num_resolutions` highest resolutions in bfloat16, the others in float32. This affects
    execution only: weights stay float32 and checkpoints do not record it. Blocks at 4 px, which are cheap and determine
    everything above, always run in float32."""
    blocks = [module for module in network.modules() if isinstance(module, ResolutionBlock)]
    resolutions = sorted({block.resolution for block in blocks if block.resolution >= 8}, reverse=True)[
        :num_resolutions
    ]
    for block in blocks:
        block.compute_dtype = torch.bfloat16 if block.resolution in resolutions else torch.float32


def dropped(x: Tensor, p: float) -> Tensor:
    """Dropout of x (N, ...) with masks drawn for the images of all processes, of which each takes its own rows.

    Those are rows rank, rank + world, ... of the global batch.
    """
    rank, world = rank_and_world()
    kept = x.new_empty(len(x) * world, *x.shape[1:]).bernoulli_(1 - p)
    return x * (kept[rank::world] / (1 - p))
