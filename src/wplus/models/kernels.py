"""Two Triton kernels for training on GPUs: all operations after a convolution in one pass, and FIR filters.

On a GPU, one pass over a layer's maps costs as much as its convolution, and PyTorch needs seven for scale, noise, bias,
leaky ReLU and clamp. `wplus.models.ops.fused` selects these kernels. They are compiled on first use by Triton, which
ships with torch for Linux. Maps are channels last.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from wplus.models.layers import SLOPE
from wplus.models.ops import Taps, constant

LAST = torch.channels_last
TILE, FIR_TILE, COLUMNS = 2048, 512, 64  # elements per program, of at most COLUMNS channels


# --- y = clamp(leaky_relu(x scale + offset + bias)) -----------------------------------------------------------------


@triton.jit
def _before_activation(
    x, scale, offset, bias, image, pixel, channel, inside, channels, offset_stride,
    HAS_SCALE: tl.constexpr, HAS_OFFSET: tl.constexpr,
):  # fmt: skip
    v = x
    if HAS_SCALE:
        v = v * tl.load(scale + image * channels + channel, mask=channel < channels, other=0.0)[None, :]
    if HAS_OFFSET:
        v += tl.load(offset + image * offset_stride + pixel, mask=inside, other=0.0)[:, None]
    return v + tl.load(bias + channel, mask=channel < channels, other=0.0)[None, :]


@triton.jit
def _act_forward(
    x, scale, offset, bias, y, pixels, channels, offset_stride, clamp,
    SLOPE_: tl.constexpr, HAS_SCALE: tl.constexpr, HAS_OFFSET: tl.constexpr, HAS_CLAMP: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(2) * COLS + tl.arange(0, COLS)
    x, y = x + image * pixels * channels, y + image * pixels * channels
    place = pixel[:, None] * channels + channel[None, :]
    mask = (pixel < pixels)[:, None] & (channel < channels)[None, :]
    v = tl.load(x + place, mask=mask, other=0.0).to(tl.float32)
    v = _before_activation(v, scale, offset, bias, image, pixel, channel, pixel < pixels, channels, offset_stride,
                           HAS_SCALE, HAS_OFFSET)  # fmt: skip
    v = tl.where(v > 0, v, v * SLOPE_)
    if HAS_CLAMP:
        v = tl.clamp(v, -clamp, clamp, propagate_nan=tl.PropagateNan.ALL)  # so that a step that diverged is noticed
    tl.store(y + place, v.to(y.dtype.element_ty), mask=mask)


@triton.jit
def _act_backward(
    grad, x, scale, offset, bias, grad_x, sums, grad_offset, pixels, channels, offset_stride, clamp,
    SLOPE_: tl.constexpr, HAS_SCALE: tl.constexpr, HAS_OFFSET: tl.constexpr, HAS_CLAMP: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """`sums` (N, blocks of pixels, 2, C): sums of g x and of g over the pixels of a block, with g = dL/dv."""
    image = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    over_channels = tl.zeros((ROWS,), dtype=tl.float32)
    block = (image * tl.num_programs(0) + tl.program_id(0)) * 2 * channels
    first_of_image = image * pixels * channels
    grad, x, grad_x = grad + first_of_image, x + first_of_image, grad_x + first_of_image
    for first in range(0, channels, COLS):
        channel = first + tl.arange(0, COLS)
        place = pixel[:, None] * channels + channel[None, :]
        mask = (pixel < pixels)[:, None] & (channel < channels)[None, :]
        given = tl.load(x + place, mask=mask, other=0.0).to(tl.float32)
        v = _before_activation(given, scale, offset, bias, image, pixel, channel, pixel < pixels, channels,
                               offset_stride, HAS_SCALE, HAS_OFFSET)  # fmt: skip
        g = tl.load(grad + place, mask=mask, other=0.0).to(tl.float32)
        g = tl.where(v > 0, g, g * SLOPE_)
        if HAS_CLAMP:
            g = tl.where(tl.abs(tl.where(v > 0, v, v * SLOPE_)) <= clamp, g, 0.0)
        over_channels += tl.sum(g, axis=1)
        tl.store(sums + block + channel, tl.sum(g * given, axis=0), mask=channel < channels)
        tl.store(sums + block + channels + channel, tl.sum(g, axis=0), mask=channel < channels)
        if HAS_SCALE:
            g = g * tl.load(scale + image * channels + channel, mask=channel < channels, other=0.0)[None, :]
        tl.store(grad_x + place, g.to(grad_x.dtype.element_ty), mask=mask)
    if HAS_OFFSET:
        tl.store(grad_offset + image * pixels + pixel, over_channels, mask=pixel < pixels)


def activate(
    x: Tensor, bias: Tensor, *, scale: Tensor | None = None, offset: Tensor | None = None, clamp: float | None = None
) -> Tensor:
    """clamp(leaky_relu(x scale + offset + bias)) in one pass over x (N, C, H, W); the result is channels last.

    scale (N, C), offset (N or 1, 1, H, W), bias (C,). Second derivatives use plain operations.
    """
    return _Activate.apply(x, scale, offset, bias, clamp)


def activate_plainly(
    x: Tensor, bias: Tensor, *, scale: Tensor | None = None, offset: Tensor | None = None, clamp: float | None = None
) -> Tensor:
    """The same with PyTorch's operations, as a reference for the kernel."""
    v = x if scale is None else x * scale[:, :, None, None].to(x.dtype)
    v = v if offset is None else v + offset.to(x.dtype)
    y = torch.nn.functional.leaky_relu(v + bias.to(x.dtype).view(1, -1, 1, 1), SLOPE)
    return y if clamp is None else y.clamp(-clamp, clamp)


class _Activate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor | None, offset: Tensor | None, bias: Tensor, clamp: float | None
    ) -> Tensor:
        ctx.save_for_backward(x, scale, offset, bias)  # x as passed in: a copy would not be connected to the graph
        ctx.clamp, x = clamp, x.contiguous(memory_format=LAST)
        y = torch.empty_like(x)
        options, rows, cols = _options(x, scale, offset, clamp)
        grid = (triton.cdiv(x.shape[2] * x.shape[3], rows), len(x), triton.cdiv(x.shape[1], cols))
        _act_forward[grid](x, *_numbers(x, scale, offset, bias), y, *_sizes(x, offset, clamp), **options)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, offset, bias = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: a second derivative will be needed
            return *_plain_backward(grad, x, scale, offset, bias, ctx.clamp), None
        grad, x = grad.contiguous(memory_format=LAST), x.contiguous(memory_format=LAST)
        options, rows, _ = _options(x, scale, offset, ctx.clamp)
        pixels = x.shape[2] * x.shape[3]
        grad_x, blocks = torch.empty_like(x), triton.cdiv(pixels, rows)
        sums = x.new_empty(len(x), blocks, 2, x.shape[1], dtype=torch.float32)
        each = x.new_empty(len(x), 1, *x.shape[2:], dtype=torch.float32) if offset is not None else sums
        numbers, sizes = _numbers(x, scale, offset, bias), _sizes(x, offset, ctx.clamp)
        _act_backward[(blocks, len(x))](grad, x, *numbers, grad_x, sums, each, *sizes, **options)
        by_image = sums.sum(dim=1)  # (N, 2, C)
        grad_scale = None if scale is None else by_image[:, 0].to(scale.dtype)
        grad_offset = None if offset is None else each.sum_to_size(offset.shape).to(offset.dtype)
        return grad_x, grad_scale, grad_offset, by_image[:, 1].sum(dim=0).to(bias.dtype), None


def _plain_backward(
    grad: Tensor, x: Tensor, scale: Tensor | None, offset: Tensor | None, bias: Tensor, clamp: float | None
) -> tuple[Tensor | None, ...]:
    """The first derivative with differentiable operations: linear in grad, and in x and scale."""
    with torch.no_grad():
        v = x if scale is None else x * scale[:, :, None, None]
        v = (v if offset is None else v + offset) + bias.view(1, -1, 1, 1)
        slope = torch.where(v > 0, 1.0, SLOPE)
        if clamp is not None:
            slope = slope * ((v * slope).abs() <= clamp)
    g = grad * slope.to(grad.dtype)
    grad_x = g if scale is None else g * scale[:, :, None, None].to(g.dtype)
    grad_scale = None if scale is None else (g * x).sum(dim=(2, 3)).to(scale.dtype)
    grad_offset = None if offset is None else g.sum(dim=1, keepdim=True).sum_to_size(offset.shape).to(offset.dtype)
    return grad_x, grad_scale, grad_offset, g.sum(dim=(0, 2, 3)).to(bias.dtype)


def _tile(channels: int, numbers: int) -> tuple[int, int]:
    cols = min(triton.next_power_of_2(channels), COLUMNS)
    return numbers // cols, cols


def _options(
    x: Tensor, scale: Tensor | None, offset: Tensor | None, clamp: float | None
) -> tuple[dict[str, Any], int, int]:
    rows, cols = _tile(x.shape[1], TILE)
    has = {"HAS_SCALE": scale is not None, "HAS_OFFSET": offset is not None, "HAS_CLAMP": clamp is not None}
    return {"SLOPE_": SLOPE, **has, "ROWS": rows, "COLS": cols}, rows, cols


def _numbers(x: Tensor, scale: Tensor | None, offset: Tensor | None, bias: Tensor) -> list[Tensor]:
    """The kernels' inputs besides the maps, contiguous; absent ones are replaced by an arbitrary tensor."""
    return [x if each is None else each.contiguous() for each in (scale, offset, bias)]


def _sizes(x: Tensor, offset: Tensor | None, clamp: float | None) -> tuple[int, int, int, float]:
    pixels = x.shape[2] * x.shape[3]
    stride = pixels if offset is not None and len(offset) > 1 else 0
    return pixels, x.shape[1], stride, 0.0 if clamp is None else clamp


# --- FIR filters ----------------------------------------------------------------------------------------------------


@triton.jit
def _fir_forward(
    x, taps, y, channels, height, width, out_height, out_width, pad, gain,
    UP: tl.constexpr, DOWN: tl.constexpr, TAPS: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """Insert zeros between samples, correlate, keep every DOWN-th output: output o reads tap i at o DOWN + i - pad."""
    image = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(2) * COLS + tl.arange(0, COLS)
    x, y = x + image * height * width * channels, y + image * out_height * out_width * channels
    row, column = pixel // out_width, pixel % out_width
    inside = pixel < out_height * out_width
    total = tl.zeros((ROWS, COLS), dtype=tl.float32)
    for i in tl.static_range(TAPS):
        at_row = row * DOWN + i - pad
        has_row = inside & (at_row >= 0) & (at_row < height * UP) & (at_row % UP == 0)
        for j in tl.static_range(TAPS):
            at_column = column * DOWN + j - pad
            has = has_row & (at_column >= 0) & (at_column < width * UP) & (at_column % UP == 0)
            place = ((at_row // UP) * width + at_column // UP)[:, None] * channels
            mask = has[:, None] & (channel < channels)[None, :]
            value = tl.load(x + place + channel[None, :], mask=mask, other=0.0).to(tl.float32)
            total += value * (tl.load(taps + i) * tl.load(taps + j))
    place = pixel[:, None] * channels + channel[None, :]
    mask = inside[:, None] & (channel < channels)[None, :]
    tl.store(y + place, (total * gain).to(y.dtype.element_ty), mask=mask)


def fir(x: Tensor, taps: Taps, *, up: int = 1, down: int = 1, pad: int, size: tuple[int, int], gain: float) -> Tensor:
    """Insert `up` - 1 zeros between samples of x (N, C, H, W) and `pad` before the first, correlate with the outer
    product of `taps` and keep every `down`-th output: (N, C, *size), channels last. Differentiable to any order."""
    return _Fir.apply(x, taps, up, down, pad, size, gain)


class _Fir(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, taps: Taps, up: int, down: int, pad: int, size: tuple[int, int], gain: float
    ) -> Tensor:
        ctx.way = taps, up, down, pad, x.shape[2:], gain
        x = x.contiguous(memory_format=LAST)
        num, channels, height, width = x.shape
        y = torch.empty((num, channels, *size), dtype=x.dtype, device=x.device, memory_format=LAST)
        rows, cols = _tile(channels, FIR_TILE)
        grid = (triton.cdiv(size[0] * size[1], rows), num, triton.cdiv(channels, cols))
        shapes = channels, height, width, *size, pad, gain
        _fir_forward[grid](x, _on_device(taps, x.device), y, *shapes, UP=up, DOWN=down, TAPS=len(taps), ROWS=rows,
                           COLS=cols)  # fmt: skip
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The adjoint is the flipped filter with up and down swapped and the padding on the other side."""
        taps, up, down, pad, size, gain = ctx.way
        grad_x = _Fir.apply(grad, taps[::-1], down, up, len(taps) - 1 - pad, tuple(size), gain)
        return grad_x, None, None, None, None, None, None


@constant
def _on_device(taps: Taps, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(taps, device=device)


# --- whether they can be used ---------------------------------------------------------------------------------------


def differences(device: torch.device, shape: tuple[int, ...] = (2, 70, 17, 31)) -> dict[str, float]:
    """Relative error of kernels and their derivatives against plain operations, on maps of several partial tiles."""
    source = torch.Generator(device).manual_seed(0)
    num, channels, height, width = shape
    shapes = {"x": shape, "scale": shape[:2], "offset": (num, 1, height, width), "bias": (channels,)}
    given = {name: torch.randn(shape, generator=source, device=device) for name, shape in shapes.items()}
    found = {}
    for has_scale in (True, False):
        chosen = {name: value for name, value in given.items() if has_scale or name in ("x", "bias")}
        values = [_derivatives(chosen, function) for function in (activate, activate_plainly)]
        found["activation" if has_scale else "activation without scale"] = _largest(*values)
    taps, x = (0.125, 0.375, 0.25, 0.25), {"x": given["x"]}  # asymmetric, so that flips are detected
    kernel = torch.outer(*[torch.tensor(taps, device=device)] * 2).expand(channels, 1, 4, 4)
    down = _derivatives(x, lambda x: fir(x, taps, down=2, pad=1, size=(height // 2, width // 2), gain=2.0))
    plain = _derivatives(x, lambda x: 2 * torch.nn.functional.conv2d(x, kernel, stride=2, padding=1, groups=channels))
    up = _derivatives(x, lambda x: fir(x, taps[::-1], up=2, pad=2, size=(2 * height, 2 * width), gain=2.0))
    transposed = torch.nn.functional.conv_transpose2d
    turned = _derivatives(x, lambda x: 2 * transposed(x, kernel, stride=2, padding=1, groups=channels))
    return {**found, "down": _largest(down, plain), "up": _largest(up, turned)}


def _derivatives(given: dict[str, Tensor], function: Any) -> list[Tensor]:
    """The value, its first derivatives, and the derivatives of a function of these."""
    given = {name: value.clone().requires_grad_() for name, value in given.items()}
    clamp = {"clamp": 0.8} if "bias" in given else {}
    y, leaves = function(**given, **clamp), list(given.values())
    first = torch.autograd.grad(y.sin().sum(), leaves, retain_graph=True)
    slopes = torch.autograd.grad(y.sin().sum(), leaves, create_graph=True)
    second = torch.autograd.grad(torch.stack([slope.square().sum() for slope in slopes]).sum(), leaves)
    return [y.detach(), *first, *second]


def _largest(found: list[Tensor], expected: list[Tensor]) -> float:
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True))


def why_not(device: torch.device, tolerance: float = 1e-5, **maps: tuple[int, ...]) -> str:
    """ "" if the kernels run on `device` and agree with plain operations, otherwise the reason why not."""
    try:
        found = differences(device, **maps)
    except Exception as error:  # compilers and drivers can fail in any way
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
    name = max(found, key=lambda key: found[key])
    return "" if found[name] <= tolerance else f"{name} differs from plain operations by {found[name]:.1g}"
