"""A GPU rounds what its convolutions take (TF32): what becomes of a path length, and that nothing measured is rounded.

Emulated on the CPU: what goes into a convolution keeps 11 bits while torch's switch for cuDNN is on.
"""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import wplus
from tests.fakes import tiny_encoder, tiny_generator
from wplus.commands.session import session
from wplus.core.runtime import float32_convolutions
from wplus.evaluation.context import EvalContext
from wplus.evaluation.ppl import path_distances
from wplus.inversion.encoder import encode
from wplus.inversion.optimize import optimize
from wplus.inversion.pti import pti
from wplus.inversion.task import InversionTask
from wplus.losses.perceptual import EffNetLite0Distance
from wplus.training.module import TrainingModule

WAY = {"num_samples": 16, "crop": "none", "space": "w", "sampling": "end", "noise_mode": "random", "epsilon": 1e-4}


class EmulatedTF32(TorchDispatchMode):
    """Convolutions of float32 as cuDNN has them, to the nearest number of 10 bits after the leading one."""

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.backends.cudnn.allow_tf32 and func.overloadpacket is torch.ops.aten.convolution:
            args = (rounded(args[0]), rounded(args[1]), *args[2:])
        return func(*args, **(kwargs or {}))


def rounded(x: Tensor) -> Tensor:
    bits = x.detach().clone(memory_format=torch.contiguous_format).view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


def test_the_emulation_rounds_to_eleven_bits():
    x = torch.tensor([1.0, 1 + 2**-10, 1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-12, -3.0, 0.0])
    expected = torch.tensor([1.0, 1 + 2**-10, 1.0, 1 + 2**-9, 1.0, -3.0, 0.0])
    assert torch.equal(rounded(x), expected)


def test_path_lengths_are_exact_on_a_gpu(repository, shared):
    """Without the guard the rounding is many times as long as the path."""
    models, distance = wplus.load(repository / "experiments/models/cats32.safetensors"), EffNetLite0Distance()
    exact = path_distances(EvalContext(models, **shared), distance, **WAY)
    with EmulatedTF32():
        guarded = path_distances(EvalContext(models, **shared), distance, **WAY)
        bare = path_distances.__wrapped__(EvalContext(models, **shared), distance, **WAY)
    assert np.array_equal(guarded, exact)
    assert bare.mean() > 10 * exact.mean()


PIXELS = {"loss_weights": {"perceptual": 0.0}}
INVERTERS = {
    "optimize": partial(optimize, num_steps=3, **PIXELS),
    "encoder": partial(encode, **PIXELS),
    "pti": partial(pti, num_steps=2, stop_at=None, locality_interval=None, num_others=0,
                   pivot=partial(optimize, num_steps=2, **PIXELS), **PIXELS),
}  # fmt: skip


@pytest.mark.parametrize("invert", INVERTERS.values(), ids=INVERTERS)
def test_inverters_are_exact_on_a_gpu(invert):
    generator = tiny_generator()
    images = torch.randn(2, 3, generator.resolution, generator.resolution)
    task = InversionTask(generator, images, "w+", encoder=tiny_encoder(generator))
    exact = invert(task).images
    with EmulatedTF32():
        assert torch.equal(invert(task).images, exact)


WAYS = {
    "generate": lambda model: model.generate(4, seed=1).images,
    "interpolate": lambda model: model.interpolate("seed:1", "seed:2", num_frames=5, path_metrics=[]).images,
    "directions and edit": lambda model: model.edit("seed:3", model.directions("sefa", num_samples=20), [-2, 2]).images,
    "measure": lambda model: [*model.measure(["ppl_wend"], ppl_wend={"num_samples": 8}).values.values()],
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_the_library_is_exact_on_a_gpu(tmp_path, way):
    """As the commands are; pictures are whole numbers, of which rounding moves some."""
    model = wplus.load(wplus.save(tmp_path / "model.safetensors", generator=tiny_generator()))
    exact = WAYS[way](model)
    with EmulatedTF32():
        assert np.array_equal(WAYS[way](model), exact)


def switches() -> list[bool]:
    return [torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32]


def test_commands_are_exact_and_put_the_switches_back():
    before = switches()
    with session({}, "evaluate", has_folder=False):
        assert switches() == [False, False]
    assert switches() == before
    with float32_convolutions(tf32=True):
        assert switches() == [True, True]
    assert switches() == before


@pytest.mark.parametrize("tf32", [False, True])
def test_training_steps_alone_have_the_choice(tf32, monkeypatch):
    seen: list[list[bool]] = []
    module = SimpleNamespace(
        tf32=tf32, kernels=False, optimizers=lambda **_: [], run_step=lambda *_, **__: seen.append(switches())
    )
    with float32_convolutions():
        TrainingModule.training_step(module, (), 0)
        assert switches() == [False, False]
    assert seen == [[tf32, tf32]]
