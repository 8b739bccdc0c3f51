"""Convolutions of every derivative order against PyTorch's own; FIR filters against explicit loops."""

import itertools
import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from wplus.errors import UserError
from wplus.models import convolution, ops, progan

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
    """Output, first derivatives, and derivatives of a function of those, as needed by R1 and path length."""
    y = convolve(x, weight)
    first = torch.autograd.grad(y.sin().sum(), (x, weight), create_graph=True)
    second = torch.autograd.grad(first[0].square().sum() + first[1].cos().sum(), (x, weight))
    return [y, *first, *second]


@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "transposed"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_every_derivative_is_that_of_pytorchs_convolution(geometry, transposed):
    options = dict(zip(("stride", "padding", "groups"), geometry[4:], strict=True))
    ours, theirs = (convolution.conv_transpose2d, F.conv_transpose2d) if transposed else (convolution.conv2d, F.conv2d)
    x, weight = tensors(geometry, transposed=transposed)
    found = derivatives(lambda *a: ours(*a, **options), x, weight)
    expected = derivatives(lambda *a: theirs(*a, **options), x, weight)
    for mine, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, reference)


@pytest.mark.parametrize("convolve", [convolution.conv2d, convolution.conv_transpose2d])
def test_the_same_values_without_a_graph(convolve):
    x, weight = tensors((4, 4, 3, 6, 2, 1, 2), transposed=convolve is convolution.conv_transpose2d)
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
    for row, column in itertools.product(range(0, rows, down), range(0, columns, down)):
        for (i, a), (j, b) in itertools.product(enumerate(taps), enumerate(taps)):
            y[:, :, row // down, column // down] += padded[:, :, row + i, column + j] * (a * b * gain)
    return y


SG2, SG1 = [1 / 8, 3 / 8, 3 / 8, 1 / 8], [1 / 4, 1 / 2, 1 / 4]
FILTERS = {  # what it is called -> the function, the taps and the way of the loops
    "down": (ops.downsample, SG2, {"up": 1, "down": 2, "before": 1, "after": 1, "gain": 1.0}),
    "up": (ops.upsample, SG2, {"up": 2, "down": 1, "before": 2, "after": 1, "gain": 4.0}),
    "blur": (partial(ops.blur, padding=2), SG2, {"up": 1, "down": 1, "before": 2, "after": 2, "gain": 1.0}),
    "loud blur": (
        partial(ops.blur, padding=1, gain=4.0),
        SG2,
        {"up": 1, "down": 1, "before": 1, "after": 1, "gain": 4.0},
    ),
    "StyleGAN's": (progan.blur, SG1, {"up": 1, "down": 1, "before": 1, "after": 1, "gain": 1.0}),
}


@pytest.mark.parametrize("size", [(4, 4), (8, 6)])
@pytest.mark.parametrize("name", FILTERS)
def test_filters_against_loops(name, size):
    function, taps, way = FILTERS[name]
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(function(x), slow_upfirdn(x, taps, **way))


@pytest.mark.parametrize("name", ["blur", "loud blur", "StyleGAN's"])
def test_gradients_pass_a_low_pass_filter_as_they_pass_the_transposed_convolution(name):
    """For every order, and with the same filter: a transposed convolution whose groups are channels is slow."""
    function, _, _ = FILTERS[name]
    options = {"padding": 1, "taps": (1.0, 2.0, 1.0)} if name == "StyleGAN's" else dict(function.keywords)
    kernel = ops._fir(
        3, options.get("gain", 1.0), torch.float64, torch.device("cpu"), options.get("taps", ops.FIR_TAPS)
    )
    theirs = partial(F.conv2d, weight=kernel, padding=options["padding"], groups=3)
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64, requires_grad=True)
    found, expected = (twice_differentiated(filtered, x) for filtered in (function, theirs))
    torch.testing.assert_close(found, expected, rtol=1e-15, atol=1e-15)
    with Operations() as seen:
        twice_differentiated(function, x)
    assert {transposed for _, transposed in seen.convolutions} == {False}


def twice_differentiated(function, x: torch.Tensor) -> list[torch.Tensor]:
    """Output, its gradient, and a gradient of that."""
    y = function(x.clone())
    (first,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
    return [y, first, *torch.autograd.grad(first.square().sum(), x)]


class Operations(TorchDispatchMode):
    """Records all operations by name, and whether convolutions are transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.convolutions: list[tuple[str, bool]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        if func.overloadpacket is torch.ops.aten.convolution:
            self.convolutions.append((self.names[-1], args[6]))
        return func(*args, **(kwargs or {}))


def test_leaky_relu_in_place_has_torchs_derivatives_and_adds_no_zeros():
    x = torch.randn(3, 4, 5, 5, requires_grad=True)
    theirs = lambda x: F.leaky_relu_(x * 2, 0.2)
    ours = lambda x: ops.leaky_relu_(x * 2, 0.2)
    for found, expected in zip(twice_differentiated(ours, x), twice_differentiated(theirs, x), strict=True):
        assert torch.equal(found, expected)
    made = x.detach() * 2
    assert ops.leaky_relu_(made, 0.2) is made
    scale, writes = torch.randn(3, 4, 5, 5, requires_grad=True), []
    for function in (ours, theirs):
        (first,) = torch.autograd.grad(function(x * scale).sum(), x, create_graph=True)
        with Operations() as seen:
            torch.autograd.grad(first.square().sum(), scale)
        writes.append([name for name in seen.names if "zeros" in name or name.startswith("add")])
    assert not writes[0]
    assert writes[1]


def test_a_filter_is_made_once(monkeypatch):
    """Also if inference comes first: an inference tensor could not be saved for a backward pass."""
    ops._fir.cache_clear()
    x = torch.randn(2, 3, 5, 5, requires_grad=True)
    with torch.inference_mode():
        expected = ops.upsample(x)
    for name in ("tensor", "as_tensor", "from_numpy"):
        monkeypatch.setattr(torch, name, lambda *_, **__: pytest.fail("a constant was uploaded"))
    monkeypatch.setattr(torch.Tensor, "new_tensor", lambda *_, **__: pytest.fail("a constant was uploaded"))
    (gradient,) = torch.autograd.grad(ops.upsample(x).sum(), x)
    assert torch.equal(ops.upsample(x), expected)
    assert gradient[0, 0, 2, 2] == 4


@pytest.mark.parametrize(("num", "group_size", "group"), [(8, 4, 4), (6, 2, 2), (4, 1, 1), (3, 4, 3)])
def test_minibatch_stddev_against_loops(num, group_size, group):
    x = torch.randn(num, 3, 4, 4, dtype=torch.float64)
    y = ops.minibatch_stddev(x, group_size)
    assert y.shape == (num, 4, 4, 4)
    assert torch.equal(y[:, :3], x)
    for n in range(num):
        members = [m for m in range(num) if m % (num // group) == n % (num // group)]
        assert len(members) == group
        total = 0.0
        for channel, row, column in itertools.product(range(3), range(4), range(4)):
            values = [x[m, channel, row, column].item() for m in members]
            mean = sum(values) / group
            total += math.sqrt(sum((value - mean) ** 2 for value in values) / group + 1e-8)
        torch.testing.assert_close(y[n, 3], torch.full((4, 4), total / 48, dtype=torch.float64), rtol=1e-5, atol=1e-6)
    with pytest.raises(UserError, match=r"^the batch must be a multiple of mbstd_group_size=4, got 6 images[.]$"):
        ops.minibatch_stddev(torch.zeros(6, 1, 4, 4), 4)


@pytest.mark.parametrize("convolve", [convolution.conv2d, convolution.conv_transpose2d])
def test_no_weight_gradients_skips_parameters_only(convolve):
    """Not computed weights, and not after the block ends, even if it fails."""
    x, weight = tensors((2, 2, 3, 5, 1, 1, 1), transposed=False)
    of_image, of_weight = torch.autograd.grad(convolve(x, weight).sum(), (x, weight))
    with convolution.no_weight_gradients():
        by_image, by_weight = torch.autograd.grad(convolve(x, weight).sum(), (x, weight), allow_unused=True)
        (computed,) = torch.autograd.grad(convolve(x, weight, is_parameter=False).sum(), weight)
    assert by_weight is None
    torch.testing.assert_close((by_image, computed), (of_image, of_weight))
    with pytest.raises(ZeroDivisionError), convolution.no_weight_gradients():
        _ = 1 / 0
    torch.testing.assert_close(torch.autograd.grad(convolve(x, weight).sum(), weight)[0], of_weight)


def test_the_second_pass_after_no_weight_gradients_reaches_the_weights():
    """R1: the gradient by the image is computed inside the block, its own gradient by the weights outside."""
    x, weight = tensors((2, 3, 3, 6, 1, 1, 1), transposed=False)

    def penalty_gradient(convolve, around) -> torch.Tensor:
        y = convolve(convolve(x, weight, padding=1).sin()[:, :2], weight, padding=1).cos().sum()
        with around:
            (by_image,) = torch.autograd.grad(y, x, create_graph=True)
        return torch.autograd.grad(by_image.square().sum(), weight)[0]

    expected = penalty_gradient(F.conv2d, torch.enable_grad())
    torch.testing.assert_close(penalty_gradient(convolution.conv2d, convolution.no_weight_gradients()), expected)


def test_only_cuda_takes_them_where_a_training_step_says_so():
    with ops.fused(True):
        assert [ops.is_fused(torch.empty(0, device=name)) for name in ("cpu", "meta")] == [False, False]
        assert ops.is_fused(SimpleNamespace(device=torch.device("cuda", 1)))
        with ops.fused(False):
            assert not ops.is_fused(SimpleNamespace(device=torch.device("cuda")))
    assert not ops.is_fused(SimpleNamespace(device=torch.device("cuda")))
