"""Every encoder of configs/encoder on a pretended GPU, forward and backward: the CPU's numbers, bit for bit."""

import copy

import pytest
import torch

from tests.pretended_gpu import OnGpu, moved, pretended_gpu
from wplus.config import CONFIG_FOLDER, build, composed

ENCODERS = sorted(path.stem for path in (CONFIG_FOLDER / "encoder").glob("*.yaml"))


@pytest.mark.parametrize("name", ENCODERS)
def test_latents_and_gradients_are_the_cpus(name):
    torch.manual_seed(0)
    chosen = composed("train", [f"encoder={name}", "training=e4e", "checkpoint=x"])["encoder"]
    net = build(chosen)(num_ws=4, w_dim=12, input_size=32)
    images = torch.randn(2, net.in_channels, 32, 32)
    there = copy.deepcopy(net)
    answer = net.offsets(images, 3)
    answer.square().mean().backward()
    with pretended_gpu() as gpu:
        found = moved(there).offsets(OnGpu(images), 3)  # the stage, which training knows without asking the device
        found.square().mean().backward()
        assert not gpu.waits
    assert torch.equal(found.numbers, answer)
    for mine, theirs in zip(there.parameters(), net.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None)
        assert mine.grad is None or torch.equal(mine.grad.numbers, theirs.grad)
