"""Triton kernels against plain operations, in Triton's interpreter, and compiled for an absent GPU."""

import pytest
import torch

from tests.triton_interpreter import interpreted
from wplus.models import ops

triton = pytest.importorskip("triton")


SHAPE = (2, 5, 3, 7)  # of two tiles of 16 pixels and two of 4 channels


@pytest.fixture
def kernels():
    with interpreted(TILE=64, FIR_TILE=256, COLUMNS=4) as module:
        yield module


def test_values_and_derivatives_of_both_orders_are_those_of_plain_operations(kernels):
    """Also for a filter that is not symmetric, and where the derivative of the adjoint is needed."""
    for name, far in kernels.differences(torch.device("cpu"), SHAPE).items():
        assert far <= 1e-6, name


def test_a_kernel_that_differs_or_fails_is_not_used(kernels, monkeypatch):
    monkeypatch.setattr(kernels, "fir", lambda x, *_, size, **__: x.new_zeros(*x.shape[:2], *size) + x.sum() * 0)
    assert kernels.why_not(torch.device("cpu"), shape=SHAPE) == "down differs from plain operations by 1"
    monkeypatch.setattr(kernels, "activate", lambda *_, **__: 1 / 0)
    assert kernels.why_not(torch.device("cpu"), shape=SHAPE) == "ZeroDivisionError: division by zero"


def test_what_is_not_a_number_passes_the_clamp(kernels):
    """A step that diverged is skipped for it."""
    x = torch.tensor([torch.nan, torch.inf, -3.0, 0.5]).view(1, 1, 2, 2)
    found = kernels.activate(x.contiguous(memory_format=torch.channels_last), torch.zeros(1), clamp=0.25)
    expected = torch.tensor([torch.nan, 0.25, -0.25, 0.25]).view(1, 1, 2, 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("way", ["blur", "loud", "down", "up"])
def test_filters_by_kernels(kernels, way):
    filters = {"blur": lambda x: ops.blur(x, padding=2), "loud": lambda x: ops.blur(x, padding=1, gain=4.0),
               "down": ops.downsample, "up": ops.upsample}  # fmt: skip
    x = torch.randn(2, 3, 6, 4)
    expected = filters[way](x)
    with ops.fused(True):
        torch.testing.assert_close(filters[way](x), expected, rtol=1e-6, atol=1e-6)


FLAGS = {"SLOPE_": 0.2, "HAS_SCALE": True, "HAS_OFFSET": True, "HAS_CLAMP": True, "ROWS": 32, "COLS": 32}
SIGNATURES = {  # kernel -> its maps, its float32 arrays, constants
    "_act_forward": (("x", "y"), ("scale", "offset", "bias"), FLAGS),
    "_act_backward": (("x", "grad", "grad_x"), ("scale", "offset", "bias", "sums", "grad_offset"), FLAGS),
    "_fir_forward": (("x", "y"), ("taps",), {"UP": 2, "DOWN": 1, "TAPS": 4, "ROWS": 8, "COLS": 32}),
}


@pytest.mark.parametrize("kind", ["fp32", "bf16"])
@pytest.mark.parametrize("name", SIGNATURES)
def test_they_compile_for_an_h200(name, kind, monkeypatch, tmp_path):
    """For sm_90, by Triton's own assembler: errors show without the GPU."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from wplus.models import kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    function, (maps, arrays, constants) = getattr(kernels, name), SIGNATURES[name]
    kinds = {**dict.fromkeys(maps, f"*{kind}"), **dict.fromkeys(arrays, "*fp32"), "clamp": "fp32", "gain": "fp32",
             **dict.fromkeys(constants, "constexpr")}  # fmt: skip
    signature = {argument: kinds.get(argument, "i32") for argument in function.arg_names}
    made = triton.compile(ASTSource(function, signature, constants), target=GPUTarget("cuda", 90, 32))
    assert ".target sm_90" in made.asm["ptx"]
    assert len(made.asm["cubin"]) > 1000
