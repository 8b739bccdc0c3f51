"""Convolutions that stay fast when differentiated twice.

PyTorch's double backward computes the weight gradient as a convolution whose kernel is as large as the image, many
times slower than the routine of the first backward pass. R1 and path length regularisation depend on that second pass,
so here every derivative of a convolution is one of three routines: convolution, its transpose, or weight gradient.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def conv2d(
    x: Tensor, weight: Tensor, *, stride: int = 1, padding: int = 0, groups: int = 1, is_parameter: bool = True
) -> Tensor:
    """`F.conv2d` without bias, with fast derivatives of every order. x (N, C, H, W), weight (O, C/groups, k, k).

    Set `is_parameter` to False if the weight was computed from inputs, so that `no_weight_gradients` ignores it.
    """
    if is_plain():
        return F.conv2d(x, weight, stride=stride, padding=padding, groups=groups)
    return _Convolution.apply(x, weight, (stride, padding, 0, groups, False), is_parameter)


def conv_transpose2d(
    x: Tensor, weight: Tensor, *, stride: int = 1, padding: int = 0, groups: int = 1, is_parameter: bool = True
) -> Tensor:
    """`F.conv_transpose2d` without bias, with fast derivatives of every order. weight (C, O/groups, k, k)."""
    if is_plain():
        return F.conv_transpose2d(x, weight, stride=stride, padding=padding, groups=groups)
    return _Convolution.apply(x, weight, (stride, padding, 0, groups, True), is_parameter)


def is_plain() -> bool:
    """Whether torch's own operations suffice: no derivatives are needed, or `torch.compile` is tracing, for which every
    function with a backward pass in Python would break the graph."""
    return not torch.is_grad_enabled() or torch.compiler.is_dynamo_compiling()


@contextmanager
def no_weight_gradients() -> Iterator[None]:
    """Within the block, backward passes skip the gradients of convolution weights.

    Autograd does not tell a Python function which gradients the caller needs: for gradients of images or latents (R1,
    path length), those of the weights would be computed and discarded.
    """
    _Convolution.weight_gradients = False
    try:
        yield
    finally:
        _Convolution.weight_gradients = True


# (stride, padding, output_padding, groups, transposed)
_Geometry = tuple[int, int, int, int, bool]


def _adjoint(geometry: _Geometry, input_size: int, output_size: int, kernel: int) -> _Geometry:
    """The geometry of the adjoint, which maps gradients of the output to gradients of the input."""
    stride, padding, _, groups, transposed = geometry
    if transposed:
        return stride, padding, 0, groups, False
    return stride, padding, input_size - ((output_size - 1) * stride - 2 * padding + kernel), groups, True


class _Convolution(torch.autograd.Function):
    """y = conv(x, w) or its transpose; linear in both arguments, so every derivative is of the same family."""

    weight_gradients = True

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, geometry: _Geometry, is_parameter: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry, ctx.is_parameter = geometry, is_parameter
        stride, padding, extra, groups, transposed = geometry
        args = ([stride] * 2, [padding] * 2, [1, 1], transposed, [extra] * 2, groups)
        return torch.ops.aten.convolution(x, weight, None, *args)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            adjoint = _adjoint(ctx.geometry, x.shape[2], grad.shape[2], weight.shape[2])
            grad_x = _Convolution.apply(grad, weight, adjoint, ctx.is_parameter)
        if ctx.needs_input_grad[1] and (_Convolution.weight_gradients or not ctx.is_parameter):
            grad_weight = _WeightGradient.apply(x, grad, tuple(weight.shape), ctx.geometry)
        return grad_x, grad_weight, None, None


class _WeightGradient(torch.autograd.Function):
    """dL/dw of y = conv(x, w), from x and dL/dy; bilinear, so its own derivatives are convolutions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grad: Tensor, shape: tuple[int, ...], geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(x, grad)
        ctx.geometry = geometry
        stride, padding, extra, groups, transposed = geometry
        weight = x.new_empty(1).expand(shape)
        args = ([stride] * 2, [padding] * 2, [1, 1], transposed, [extra] * 2, groups, [False, True, False])
        return torch.ops.aten.convolution_backward(grad, x, weight, None, *args)[1]

    @staticmethod
    def backward(ctx: Any, grad_weight: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, grad = ctx.saved_tensors
        grad_x = grad_grad = None
        if ctx.needs_input_grad[0]:
            adjoint = _adjoint(ctx.geometry, x.shape[2], grad.shape[2], grad_weight.shape[2])
            grad_x = _Convolution.apply(grad, grad_weight, adjoint, False)
        if ctx.needs_input_grad[1]:
            grad_grad = _Convolution.apply(x, grad_weight, ctx.geometry, False)
        return grad_x, grad_grad, None, None
