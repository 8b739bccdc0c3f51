"""Penalties of a quadratic and path lengths of a linear map have closed forms, first and second order."""

import pytest
import torch

from wplus.losses.regularisers import interpolates, path_lengths, r1_penalty, unit_gradient_penalty


def test_r1_of_a_quadratic():
    """D(x) = x.A x / 2 with symmetric A: the penalty is |A x|^2 and its gradient by A is that of the formula."""
    size = 2 * 3 * 3
    matrix = torch.randn(size, size, dtype=torch.float64)
    matrix = (matrix + matrix.t()).requires_grad_()
    images = torch.randn(5, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    flat = images.flatten(1)
    penalty = r1_penalty((flat * (flat @ matrix)).sum(dim=1, keepdim=True) / 2, images)
    assert penalty.shape == (5,)
    expected = (images.detach().flatten(1) @ (matrix + matrix.t()) / 2).square().sum(dim=1)
    torch.testing.assert_close(penalty, expected)
    (found,) = torch.autograd.grad(penalty.sum(), matrix)
    torch.testing.assert_close(found, torch.autograd.grad(expected.sum(), matrix)[0])


@pytest.mark.parametrize("num_ws", [1, 3])
def test_path_lengths_of_a_linear_map(num_ws):
    """image = sum over layers of M_k w_k: J^T y has the rows M_k^T y, and the length is their RMS over the layers."""
    channels, size, w_dim = 2, 3, 5
    maps = torch.randn(num_ws, channels * size * size, w_dim, dtype=torch.float64, requires_grad=True)
    ws = torch.randn(4, num_ws, w_dim, dtype=torch.float64, requires_grad=True)
    images = torch.einsum("kpd,nkd->np", maps, ws).view(4, channels, size, size)
    noise = torch.randn_like(images)
    lengths = path_lengths(images, ws, noise)
    projected = torch.einsum("kpd,np->nkd", maps, noise.flatten(1)) / (size * size) ** 0.5
    expected = projected.square().sum(dim=2).mean(dim=1).sqrt()
    assert lengths.shape == (4,)
    torch.testing.assert_close(lengths, expected)
    (found,) = torch.autograd.grad(lengths.square().sum(), maps)
    torch.testing.assert_close(found, torch.autograd.grad(expected.square().sum(), maps)[0])


def test_the_unit_gradient_penalty_of_a_linear_critic():
    """D(x) = a.x with |a| = 3: the penalty is (3 - 1)^2 for every image, its gradient 2 (|a| - 1) a / |a|."""
    direction = torch.randn(2 * 3 * 3, dtype=torch.float64)
    direction = (3 * direction / direction.norm()).requires_grad_()
    images = torch.randn(5, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    penalty = unit_gradient_penalty((images.flatten(1) @ direction).view(5, 1), images)
    torch.testing.assert_close(penalty, torch.full((5,), 4.0, dtype=torch.float64))
    (found,) = torch.autograd.grad(penalty.mean(), direction)
    torch.testing.assert_close(found, 2 * (3 - 1) * direction.detach() / 3)


def test_a_critic_without_slope_has_a_finite_gradient():
    slope = torch.zeros((), requires_grad=True)
    images = torch.randn(2, 1, 2, 2, requires_grad=True)
    penalty = unit_gradient_penalty(images.sum(dim=(1, 2, 3)).view(2, 1) * slope, images)
    torch.testing.assert_close(penalty, torch.ones(2))
    assert torch.autograd.grad(penalty.sum(), slope)[0].isfinite()


def test_interpolates_lie_on_the_line_of_their_own_pair():
    real, fake = torch.ones(3, 1, 2, 2), torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 2, 2)
    found = interpolates(real, fake, torch.tensor([1.0, 0.0, 0.25]))
    assert found[:, 0, 0, 0].tolist() == [1.0, 1.0, 0.25 * 1 + 0.75 * 2]
