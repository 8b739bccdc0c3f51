"""The spectral norm against singular values, and when its power iteration advances."""

import copy

import pytest
import torch
import torch.nn.functional as F

from wplus.models.spectral import SpectralConv2d, iterate_all


def test_the_norm_is_the_largest_singular_value():
    layer = SpectralConv2d(3, 5, 4, stride=2, padding=1)
    layer.iterate(200)
    largest = torch.linalg.svdvals(layer.weight.flatten(1))[0]
    assert layer.sigma().item() == pytest.approx(largest.item(), rel=1e-5)
    x = torch.randn(2, 3, 8, 8)
    expected = F.conv2d(x, layer.weight / largest, layer.bias, stride=2, padding=1)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_the_gradient_is_that_of_the_quotient():
    """d/dW of <c, W / sigma(W)> with sigma = u^T W v: c / sigma - <c, W> u v^T / sigma^2."""
    layer = SpectralConv2d(2, 3, 1, bias=False)
    c = torch.randn(3, 2)
    layer.iterate(100)
    columns = layer(torch.eye(2)[:, :, None, None])[:, :, 0, 0]  # of W / sigma
    (columns * c.t()).sum().backward()
    w, sigma = layer.weight.detach().flatten(1), layer.sigma().detach()
    expected = c / sigma - (c * w).sum() * torch.outer(layer.u, layer.v) / sigma**2
    torch.testing.assert_close(layer.weight.grad.flatten(1), expected, rtol=1e-5, atol=1e-6)


def test_only_a_step_moves_the_vectors():
    """Forward passes leave them alone, even in training: parts of a batch use the same weights as the whole batch."""
    layer = SpectralConv2d(2, 3, 3).train()
    layer.weight.data.mul_(torch.randn_like(layer.weight))
    before = copy.deepcopy(layer.state_dict())
    for _ in range(2):
        layer(torch.randn(1, 2, 4, 4))
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())
    iterate_all(torch.nn.Sequential(layer))
    assert not torch.equal(layer.u, before["u"])


def test_a_lost_weight_does_not_stay_in_the_vectors():
    layer = SpectralConv2d(2, 3, 1)
    good = copy.deepcopy(layer.state_dict())
    layer.weight.data.fill_(float("nan"))
    layer.iterate()
    assert torch.equal(layer.u, good["u"])
    assert torch.equal(layer.v, good["v"])
