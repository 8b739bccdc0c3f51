"""Convolutions of every derivative order against PyTorch's own; FIR filters against explicit loops."""

import pytest
import torch
import torch.nn.functional as F

from wplus.models import ops

# input channels, output channels, kernel, size, stride, padding, groups
GEOMETRIES = [
    (3, 4, 3, 5, 1, 1, 1),
    (3, 4, 3, 6, 1, 0, 1),
    (2, 3, 1, 4, 1, 0, 1),
    (2, 3, 3, 6, 2, 1, 1),  # the last row is never read
    (2, 3, 3, 7, 2, 0, 1),
    (2, 3, 3, 8, 3, 2, 1),
    (4, 6, 3, 6, 2, 1, 2),
    (4, 4, 4, 8, 2, 1, 4),  # depthwise, even kernel: the FIR filters
    (4, 4, 4, 6, 1, 2, 4),
]


def tensors(geometry: tuple[int, ...], *, transposed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    ins, outs, kernel, size, _, _, groups = geometry
    shape = (ins, outs // groups) if transposed else (outs, ins // groups)
    x = torch.randn(2, ins, size, size, dtype=torch.float64, requires_grad=True)
    return x, torch.randn(*shape, kernel, kernel, dtype=torch.float64, requires_grad=True)


def derivatives(convolve, x, weight) -> list[torch.Tensor]:
    """Output, first derivatives, and the derivatives of a function of those: what R1 and path length need."""
    y = convolve(x, weight)
    first = torch.autograd.grad(y.sin().sum(), (x, weight), create_graph=True)
    second = torch.autograd.grad(first[0].square().sum() + first[1].cos().sum(), (x, weight))
    return [y, *first, *second]


@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "transposed"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_every_derivative_is_that_of_pytorchs_convolution(geometry, transposed):
    options = dict(zip(("stride", "padding", "groups"), geometry[4:], strict=True))
    ours, theirs = (ops.conv_transpose2d, F.conv_transpose2d) if transposed else (ops.conv2d, F.conv2d)
    x, weight = tensors(geometry, transposed=transposed)
    found = derivatives(lambda *a: ours(*a, **options), x, weight)
    expected = derivatives(lambda *a: theirs(*a, **options), x, weight)
    for mine, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, reference)


@pytest.mark.parametrize(
    ("convolve", "stride", "padding", "size"),
    [
        (ops.conv2d, 1, 1, 3),
        (ops.conv2d, 2, 0, 4),
        (ops.conv2d, 2, 1, 4),
        (ops.conv_transpose2d, 2, 0, 2),
        (ops.conv_transpose2d, 2, 1, 3),
    ],
)
def test_numeric_second_derivatives(convolve, stride, padding, size):
    x = torch.randn(1, 2, size, size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)

    def function(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return convolve(x, weight, stride=stride, padding=padding)

    assert torch.autograd.gradcheck(function, (x, weight))
    assert torch.autograd.gradgradcheck(function, (x, weight))


@pytest.mark.parametrize("convolve", [ops.conv2d, ops.conv_transpose2d])
def test_the_same_values_without_a_graph(convolve):
    x, weight = tensors((4, 4, 3, 6, 2, 1, 2), transposed=convolve is ops.conv_transpose2d)
    with_graph = convolve(x, weight, stride=2, padding=1, groups=2)
    with torch.no_grad():
        without = convolve(x, weight, stride=2, padding=1, groups=2)
    assert with_graph.requires_grad
    assert not without.requires_grad
    assert torch.equal(with_graph, without)


def slow_upfirdn(x: torch.Tensor, taps: list[float], *, up: int, down: int, before: int, after: int, gain: float):
    """Insert zeros, pad, correlate with the (symmetric) filter, drop samples: one output at a time."""
    num, channels, height, width = x.shape
    spread = x.new_zeros(num, channels, height * up, width * up)
    spread[:, :, ::up, ::up] = x
    padded = F.pad(spread, (before, after, before, after))
    rows, columns = padded.shape[2] - len(taps) + 1, padded.shape[3] - len(taps) + 1
    y = x.new_zeros(num, channels, -(-rows // down), -(-columns // down))
    for row in range(0, rows, down):
        for column in range(0, columns, down):
            for i, a in enumerate(taps):
                for j, b in enumerate(taps):
                    y[:, :, row // down, column // down] += padded[:, :, row + i, column + j] * (a * b * gain)
    return y


TAPS = [1 / 8, 3 / 8, 3 / 8, 1 / 8]


@pytest.mark.parametrize("size", [(4, 4), (6, 5)])
@pytest.mark.parametrize(("padding", "gain"), [(1, 4.0), (2, 1.0)])
def test_blur_against_loops(size, padding, gain):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = slow_upfirdn(x, TAPS, up=1, down=1, before=padding, after=padding, gain=gain)
    torch.testing.assert_close(ops.blur(x, padding=padding, gain=gain), expected)


@pytest.mark.parametrize("size", [(4, 4), (8, 6)])
def test_downsample_against_loops(size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    y = ops.downsample(x)
    assert y.shape == (2, 3, size[0] // 2, size[1] // 2)
    torch.testing.assert_close(y, slow_upfirdn(x, TAPS, up=1, down=2, before=1, after=1, gain=1.0))


@pytest.mark.parametrize("size", [(4, 4), (3, 5)])
def test_upsample_against_loops(size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    y = ops.upsample(x)
    assert y.shape == (2, 3, 2 * size[0], 2 * size[1])
    torch.testing.assert_close(y, slow_upfirdn(x, TAPS, up=2, down=1, before=2, after=1, gain=4.0))


def test_filters_keep_a_constant_away_from_the_border():
    x = torch.full((1, 2, 12, 12), 0.7)
    for y in (ops.blur(x, padding=2), ops.downsample(x), ops.upsample(x)):
        inside = y[:, :, 3:-3, 3:-3]
        torch.testing.assert_close(inside, torch.full_like(inside, 0.7))


def test_a_filter_made_in_inference_mode_serves_training_too():
    ops._fir.cache_clear()
    x = torch.randn(1, 2, 4, 4)
    with torch.inference_mode():
        ops.upsample(x)
    leaf = x.clone().requires_grad_()
    ops.upsample(leaf).square().sum().backward()
    assert leaf.grad is not None


def test_no_weight_gradients_skips_weights_only():
    x, weight = tensors((2, 3, 3, 5, 1, 1, 1), transposed=False)
    with ops.no_weight_gradients():
        by_image, by_weight = torch.autograd.grad(ops.conv2d(x, weight).sum(), (x, weight), allow_unused=True)
    assert by_weight is None
    torch.testing.assert_close(by_image, torch.autograd.grad(F.conv2d(x, weight).sum(), x)[0])


@pytest.mark.parametrize("convolve", [ops.conv2d, ops.conv_transpose2d])
def test_no_weight_gradients_leaves_computed_weights_alone(convolve):
    x, weight = tensors((2, 2, 3, 5, 1, 1, 1), transposed=False)
    expected = torch.autograd.grad(convolve(x, weight).sum(), weight)[0]
    with ops.no_weight_gradients():
        (found,) = torch.autograd.grad(convolve(x, weight, is_parameter=False).sum(), weight)
    torch.testing.assert_close(found, expected)


def test_no_weight_gradients_ends_with_its_block_even_when_that_fails():
    x, weight = tensors((2, 3, 3, 5, 1, 1, 1), transposed=False)
    with pytest.raises(ZeroDivisionError), ops.no_weight_gradients():
        _ = 1 / 0
    assert torch.autograd.grad(ops.conv2d(x, weight).sum(), weight)[0].abs().sum() > 0


def test_the_second_pass_after_no_weight_gradients_reaches_the_weights():
    """R1: the gradient by the image is taken inside, its own gradient by the weights outside."""
    x, weight = tensors((2, 3, 3, 6, 1, 1, 1), transposed=False)

    def penalty_gradient(convolve, around) -> torch.Tensor:
        y = convolve(convolve(x, weight, padding=1).sin()[:, :2], weight, padding=1).cos().sum()
        with around:
            (by_image,) = torch.autograd.grad(y, x, create_graph=True)
        return torch.autograd.grad(by_image.square().sum(), weight)[0]

    expected = penalty_gradient(F.conv2d, torch.enable_grad())
    torch.testing.assert_close(penalty_gradient(ops.conv2d, ops.no_weight_gradients()), expected)
