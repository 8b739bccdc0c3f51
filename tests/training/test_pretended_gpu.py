"""Every training on a pretended GPU: no mix of devices, the CPU's numbers bit for bit, no wait and no upload in a step
that is not listed here."""

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves

from tests.pretended_gpu import GPU, OnGpu, moved, pretended_gpu
from tests.training.conftest import images_for
from tests.training.test_resume import CASES, make  # noqa: F401  # a fixture
from wplus.data import Batches
from wplus.models.stylegan2 import Discriminator
from wplus.training.checkpoints import AtomicCheckpointIO
from wplus.training.layout import follow_layout, lay_out
from wplus.training.optim import Ranger

# What a step may send, and what it may wait for, by the line that asks.
UPLOADS = {
    "data/on_device.py:uploaded",  # the batch: images of the first epoch, their numbers, which of them are mirrored
    "models/ops.py:_fir",  # a filter once, when a network has grown
    "",  # the labels, by this test
}
WAITS = {
    "training/augment/control.py:note",  # p for the log: a copy that nobody waits for
    "models/ops.py:_fir",
    "",
}


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    """CPUs alone have another form of the modulated convolution."""
    monkeypatch.setattr("wplus.models.ops.prefers_per_sample_weights", lambda *_: False)


def steps(module: Any, num: int, optimizers: Any, device: torch.device | str = "cpu") -> None:
    place = "host" if device == "cpu" else "device"
    batches = Batches(images_for(module), module.batch_size, mirror="x", device=device, place=place,
                      start_nimg=lambda: module.images_seen)  # fmt: skip
    for images, labels in itertools.islice(batches, num):
        module.run_step(images, labels.to(device), optimizers=optimizers)


BEFORE = {"anchor": 6}  # steps that are not counted: its warm-up of four, and one in which it fits the mapping


@pytest.mark.parametrize("case", CASES)
def test_a_step_is_the_cpus(make, case):  # noqa: F811
    plain, before = make(case), BEFORE.get(case, 1)
    steps(plain, before + 2, plain.configure_optimizers())
    with pretended_gpu() as gpu:
        module = moved(make(case))
        optimizers = module.configure_optimizers()
        steps(module, before, optimizers, GPU)  # constants are uploaded once
        gpu.forget()
        steps(module, 2, optimizers, GPU)
        found = {name: value.numbers for name, value in module.state_dict().items()}
        assert asked_for(gpu.waits) <= WAITS
        assert asked_for(gpu.uploads) <= UPLOADS
    for name, value in plain.state_dict().items():
        assert torch.equal(found[name], value), name


def asked_for(counts: Counter[tuple[str, str]]) -> set[str]:
    """Source lines that caused it."""
    return {lines.partition(" < ")[0] for _, lines in counts}


def test_ranger_never_waits():
    """Not even where it divides by the second moment, from its sixth step on."""
    start = [torch.randn(3, 4), torch.randn(5)]
    gradients = [[torch.randn_like(each) for each in start] for _ in range(8)]

    def moved_by(on: Callable[[torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
        params = [on(each.clone()).requires_grad_() for each in start]
        optimizer = Ranger(params, lr=0.1, weight_decay=0.1)
        for step in gradients:
            for parameter, gradient in zip(params, step, strict=True):
                parameter.grad = on(gradient.clone())
            optimizer.found_inf = torch.zeros((), device=params[0].device)
            optimizer.step()
        return [each.detach() for each in params]

    plain = moved_by(lambda tensor: tensor)
    with pretended_gpu() as gpu:
        found = moved_by(OnGpu)
        assert not gpu.waits
    assert all(torch.equal(a.numbers, b) for a, b in zip(found, plain, strict=True))


def test_weights_that_lie_as_a_gpus_do_keep_their_addresses():
    """Recorded graphs refer to them; a weight that reads grey images, (N, 1, 1, 1), lies in every way at once."""
    judge = Discriminator(resolution=8, channel_base=64, channel_max=8, img_channels=1)
    lay_out(judge, GPU)
    before = {name: tensor.data_ptr() for name, tensor in judge.state_dict().items()}
    assert any(tensor.shape[1:] == (1, 1, 1) for tensor in judge.parameters())
    lay_out(judge, GPU)
    assert {name: tensor.data_ptr() for name, tensor in judge.state_dict().items()} == before


def test_a_gpus_weights_lie_as_its_maps_do_and_files_know_nothing_of_it(make_tiny, tmp_path):
    """Moments follow, also those that come from a file; the numbers of a step are the same but for rounding."""
    plain, module = make_tiny(), make_tiny()
    lay_out(module, torch.device("cpu"))
    assert all(each.is_contiguous() for each in module.parameters())
    lay_out(module, GPU)
    weight = module.generator.synthesis.b8.conv0.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    optimizers = module.configure_optimizers()
    steps(plain, 2, plain.configure_optimizers())
    steps(module, 2, optimizers)
    assert optimizers[0].state[weight]["exp_avg"].stride() == weight.stride()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    state = {"weights": module.state_dict(), "moments": optimizers[0].state_dict()}
    AtomicCheckpointIO().save_checkpoint(state, tmp_path / "a.ckpt")
    kept = AtomicCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")
    assert all(leaf.is_contiguous() for leaf in tree_leaves(kept) if isinstance(leaf, torch.Tensor))
    optimizers[0].load_state_dict(kept["moments"])
    assert optimizers[0].state[weight]["exp_avg"].is_contiguous()
    follow_layout(optimizers)
    assert optimizers[0].state[weight]["exp_avg"].stride() == weight.stride()
    saved = [each["exp_avg"] for each in state["moments"]["state"].values()]
    found = [each["exp_avg"] for each in optimizers[0].state.values()]
    assert all(torch.equal(a, b) for a, b in zip(found, saved, strict=True))
