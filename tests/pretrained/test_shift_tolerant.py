"""The blur of ST-LPIPS networks against a loop; tests/losses/test_stlpips.py checks the networks by their distances."""

import numpy as np
import pytest
import torch

from wplus.pretrained.shift_tolerant import BlurPool, ShiftTolerantNet


@pytest.mark.parametrize("size", [4, 7])
def test_blur_pool_is_a_slow_loop(size):
    images = torch.rand(2, 3, size, size)
    weights = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16
    padded = np.pad(images.numpy(), [(0, 0), (0, 0), (2, 2), (2, 2)], mode="reflect")
    found = BlurPool(3)(images)
    assert found.shape == (2, 3, (size + 3) // 2, (size + 3) // 2)
    for y, x in np.ndindex(*found.shape[2:]):
        window = torch.from_numpy(padded[:, :, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3].copy())
        torch.testing.assert_close(found[:, :, y, x], (window * weights).sum(dim=(2, 3)))


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_the_smallest_images_leave_something_of_every_map(net):
    net = ShiftTolerantNet(net).requires_grad_(False)
    maps = net.feature_maps(torch.zeros(1, 3, 32, 32))
    assert [features.shape[1] for features in maps] == [head.in_channels for head in net.heads]
    assert min(features.shape[2] for features in maps) > 1
