"""Operations of style-based networks: FIR filters and resampling, minibatch statistics, and two forms of modulated
convolution; optionally with Triton kernels (`wplus.models.kernels`) instead of plain operations.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.errors import UserError
from wplus.models.convolution import conv2d, conv_transpose2d, is_plain

Taps = tuple[float, ...]
FIR_TAPS = (1.0, 3.0, 3.0, 1.0)  # the resampling filter of StyleGAN2, normalised to sum 1 in each direction


def blur(x: Tensor, *, padding: int, gain: float = 1.0, taps: Taps = FIR_TAPS) -> Tensor:
    """Apply a low-pass filter, [1,3,3,1] x [1,3,3,1], to every channel; (N, C, H, W) -> (N, C, H + 2 padding - 3, ...).

    `taps` must be symmetric, and `padding` less than their number.
    """
    if is_fused(x):
        return _fused_fir(x, taps, gain, pad=padding, size=[side + 2 * padding - len(taps) + 1 for side in x.shape[2:]])
    if is_plain():
        return _filtered(x, padding, gain, taps)
    return _Blur.apply(x, padding, gain, taps)


def _filtered(x: Tensor, padding: int, gain: float, taps: Taps) -> Tensor:
    return F.conv2d(x, _fir(x.shape[1], gain, x.dtype, x.device, taps), padding=padding, groups=x.shape[1])


def downsample(x: Tensor) -> Tensor:
    """Low-pass filter and drop every second sample: (N, C, H, W) -> (N, C, H/2, W/2)."""
    if is_fused(x):
        return _fused_fir(x, FIR_TAPS, 1.0, down=2, pad=1, size=[side // 2 for side in x.shape[2:]])
    return conv2d(x, _fir(x.shape[1], 1.0, x.dtype, x.device), stride=2, padding=1, groups=x.shape[1])


def upsample(x: Tensor) -> Tensor:
    """Insert zeros and low-pass filter with gain 4: (N, C, H, W) -> (N, C, 2H, 2W)."""
    if is_fused(x):
        return _fused_fir(x, FIR_TAPS, 4.0, up=2, pad=2, size=[2 * side for side in x.shape[2:]])
    return conv_transpose2d(x, _fir(x.shape[1], 4.0, x.dtype, x.device), stride=2, padding=1, groups=x.shape[1])


def leaky_relu_(x: Tensor, slope: float) -> Tensor:
    """In-place `F.leaky_relu_` whose second derivative, which is zero, adds nothing to the gradients of x."""
    return F.leaky_relu_(x, slope) if is_plain() else _LeakyReLU.apply(x, slope)


def constant(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Cache the tensors returned by `make`.

    Disabled while torch exports a graph: tensors made then are symbolic, and must not be returned by later calls.
    """
    remembered = lru_cache(maxsize=256)(make)

    @wraps(make)
    def found(*args: Any) -> Tensor:
        return make(*args) if torch.compiler.is_exporting() else remembered(*args)

    found.cache_clear = remembered.cache_clear  # type: ignore[attr-defined]
    return found


@constant
def _fir(channels: int, gain: float, dtype: torch.dtype, device: torch.device, taps: Taps = FIR_TAPS) -> Tensor:
    # inference_mode tensors must not be cached: they cannot be saved for a later backward pass.
    with torch.inference_mode(False):
        row = torch.tensor(taps, dtype=torch.float64)
        kernel = torch.outer(row, row) / row.sum() ** 2 * gain
        return kernel.to(dtype=dtype, device=device).expand(channels, 1, -1, -1).contiguous()


def minibatch_stddev(x: Tensor, group_size: int) -> Tensor:
    """Append one map: the standard deviation over groups of images, mean over channels and pixels (ProGAN, section 3).

    Image n belongs to group n mod (N / group size). (N, C, H, W) -> (N, C + 1, H, W).
    """
    num, _, height, width = x.shape
    group = min(group_size, num)
    if num % group:
        raise UserError(f"the batch must be a multiple of mbstd_group_size={group_size}, got {num} images.")
    y = x.to(torch.float32).reshape(group, num // group, *x.shape[1:])  # (G, N/G, C, H, W)
    y = (y - y.mean(dim=0)).square().mean(dim=0).add(1e-8).sqrt().mean(dim=(1, 2, 3))  # (N/G,)
    y = y.to(x.dtype).repeat(group).view(num, 1, 1, 1).expand(-1, -1, height, width)
    return torch.cat([x, y], dim=1)


# --- Triton kernels -------------------------------------------------------------------------------------------------

FUSED_ON = ("cuda",)  # device types
_fused = False


@contextmanager
def fused(is_on: bool) -> Iterator[None]:
    """Within the block, networks on CUDA use the Triton kernels of `wplus.models.kernels`, or plain operations."""
    global _fused
    before, _fused = _fused, is_on
    try:
        yield
    finally:
        _fused = before


def is_fused(x: Tensor) -> bool:
    """Whether operations on x use the Triton kernels."""
    return _fused and x.device.type in FUSED_ON


def _fused_fir(x: Tensor, taps: Taps, gain: float, *, size: list[int], **way: int) -> Tensor:
    from wplus.models.kernels import fir  # imports Triton, which is not available everywhere

    return fir(x, tuple(tap / sum(taps) for tap in taps), gain=gain, size=(size[0], size[1]), **way)


def activated(
    x: Tensor, bias: Tensor, *, scale: Tensor | None = None, offset: Tensor | None = None, clamp: float | None = None
) -> Tensor:
    """clamp(leaky_relu(x scale + offset + bias)) in one kernel (`wplus.models.kernels.activate`)."""
    from wplus.models.kernels import activate

    return activate(x, bias, scale=scale, offset=offset, clamp=clamp)


# --- modulated convolution: two forms of the same numbers -----------------------------------------------------------


def prefers_per_sample_weights(x: Tensor, weight: Tensor, up: int) -> bool:
    """Whether a weight per sample is so much smaller than the maps that scaling it is faster than scaling them.

    On CPUs, channels last: on par at ten times as many pixels as weights per input channel, a quarter faster at fifty.
    """
    if x.device.type != "cpu" or torch.compiler.is_exporting():  # whose batch size must stay dynamic
        return False
    pixels = up * up * x.shape[2] * x.shape[3]
    return pixels >= 16 * weight.shape[0] * weight.shape[2] * weight.shape[3]


def conv2d_per_sample(x: Tensor, weights: Tensor, *, up: int) -> Tensor:
    """One weight per sample, with the batch as groups of one convolution: x (N, I, H, W), weights (N, O, I, k, k)."""
    num, out_channels = weights.shape[:2]
    y = _resampled_conv2d(x.reshape(1, -1, *x.shape[2:]), weights.flatten(0, 1), up=up, groups=num)
    return y.view(num, out_channels, *y.shape[2:])


def conv2d_scaled(
    x: Tensor, weight: Tensor, styles: Tensor, out_scale: Tensor, *, up: int, offset: Tensor | None
) -> Tensor:
    """One weight for all samples: the input is scaled by the styles (N, I), the output by `out_scale` (N, O)."""
    scale = out_scale.to(x.dtype)[:, :, None, None]
    y = conv2d_styled(x, weight, styles, up=up)
    return y * scale if offset is None else torch.addcmul(offset.to(y.dtype), y, scale)


def conv2d_styled(x: Tensor, weight: Tensor, styles: Tensor, *, up: int) -> Tensor:
    """One weight for all samples: the input is scaled by the styles (N, I), the output is not scaled yet."""
    return _resampled_conv2d(x * styles.to(x.dtype)[:, :, None, None], weight.to(x.dtype), up=up, groups=1)


def _resampled_conv2d(x: Tensor, weight: Tensor, *, up: int, groups: int) -> Tensor:
    """Plain convolution, or upsampling by a transposed one and the low-pass filter. weight (O, I/groups, k, k)."""
    is_parameter = groups == 1
    if up == 1:
        return conv2d(x, weight, padding=weight.shape[2] // 2, groups=groups, is_parameter=is_parameter)
    transposed = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)  # (I, O/groups, k, k)
    y = conv_transpose2d(x, transposed, stride=2, groups=groups, is_parameter=is_parameter)
    return blur(y, padding=1, gain=4.0)


# --- derivatives ----------------------------------------------------------------------------------------------------


class _Blur(torch.autograd.Function):
    """A symmetric low-pass filter: its backward pass is the same filter with the complementary padding (depthwise
    convolutions have a fast routine in every layout, their transposes do not)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, padding: int, gain: float, taps: Taps) -> Tensor:
        ctx.adjoint = (len(taps) - 1 - padding, gain, taps)
        return _filtered(x, padding, gain, taps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return _Blur.apply(grad, *ctx.adjoint), None, None, None


class _LeakyReLU(torch.autograd.Function):
    """In-place leaky ReLU. Its slope is constant on either side of 0, so its second derivative is None; torch's would
    write zeros as large as the maps and add them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> Tensor:
        y = F.leaky_relu_(x, slope)
        ctx.mark_dirty(x)
        ctx.save_for_backward(y)
        ctx.slope = slope
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        return _LeakyReLUGradient.apply(grad, y.detach(), ctx.slope), None


class _LeakyReLUGradient(torch.autograd.Function):
    """The gradient multiplied by the slope at y; linear in the gradient, and its own adjoint."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, y: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(y)
        ctx.slope = slope
        return torch.ops.aten.leaky_relu_backward(grad, y, slope, True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (y,) = ctx.saved_tensors
        return _LeakyReLUGradient.apply(grad, y, ctx.slope), None, None
