"""Likelihoods, rates and bounds against torch's distributions, closed forms and slow sums."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from wplus.losses.variational import (
    STEP,
    bernoulli_kl,
    bernoulli_nll,
    bits_per_dimension,
    gaussian_nll,
    importance_weighted_bound,
    jacobian_norm,
    kl_to_normal,
    log_normal,
)
from wplus.models.autoencoder import Posterior


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)


def test_likelihoods_are_summed_over_pixels():
    x, mean, log_sigma = torch.rand(4, 3, 8, 8) * 2 - 1, torch.randn(4, 3, 8, 8), torch.tensor(-0.7)
    expected = -Normal(mean, log_sigma.exp()).log_prob(x).sum(dim=(1, 2, 3))
    torch.testing.assert_close(gaussian_nll(x, mean, log_sigma), expected)
    bits = (torch.rand(4, 3, 8, 8) < 0.5).double()
    torch.testing.assert_close(bernoulli_nll(2 * bits - 1, mean), -Bernoulli(logits=mean).log_prob(bits).sum((1, 2, 3)))


def test_the_rate_is_that_of_two_normal_distributions():
    found = Posterior(torch.randn(4, 5), torch.randn(4, 5), None)
    expected = kl_divergence(Normal(found.mean, (0.5 * found.log_variance).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_to_normal(found), expected)
    assert kl_to_normal(Posterior(torch.zeros(1, 5), torch.zeros(1, 5), None)).abs().max() == 0
    z = torch.randn(4, 5)
    expected = Normal(found.mean, (0.5 * found.log_variance).exp()).log_prob(z).sum(dim=1)
    torch.testing.assert_close(log_normal(z, found.mean, found.log_variance), expected)
    torch.testing.assert_close(log_normal(z), Normal(0.0, 1.0).log_prob(z).sum(dim=1))


def test_the_importance_weighted_bound_rises_with_the_draws_to_the_likelihood():
    """p(z) = N(0, 1), p(x|z) = N(z, 1), so p(x) = N(0, 2); q is not the posterior."""
    torch.manual_seed(0)
    x, mean, log_variance = torch.tensor([0.5, -2.0]), torch.tensor([0.0, -0.5]), torch.tensor([0.2, -0.3])
    z = mean + (0.5 * log_variance).exp() * torch.randn(400_000, 2)
    joint = Normal(0.0, 1.0).log_prob(z) + Normal(z, 1.0).log_prob(x)
    weights = joint - Normal(mean, (0.5 * log_variance).exp()).log_prob(z)
    bounds = [importance_weighted_bound(weights.unflatten(0, (k, -1)).flatten(1)).unflatten(0, (-1, 2)).mean(dim=0)
              for k in (1, 8, 64)]  # fmt: skip
    truth = Normal(0.0, math.sqrt(2)).log_prob(x)
    for lower, higher in zip(bounds, [*bounds[1:], truth + 1e-3], strict=True):
        assert (lower < higher).all()
    torch.testing.assert_close(bounds[2], truth, atol=0.02, rtol=0)
    torch.testing.assert_close(importance_weighted_bound(weights), truth, atol=3e-3, rtol=0)


def test_bits_are_those_of_the_dequantised_density():
    """-E_u log2 p(x + u) + log2 of the levels' width, by many draws of the noise; of a flat density 8 bits."""
    torch.manual_seed(0)
    x, sigma = torch.randint(0, 256, (3, 50)) * STEP - 1, 0.02
    mean = x + sigma * torch.randn(3, 50)
    log_sigma = torch.tensor(math.log(sigma))
    found = bits_per_dimension(gaussian_nll(x, mean, log_sigma), 50, sigma)
    noise = (torch.rand(4000, 3, 50) - 0.5) * STEP
    nats = torch.stack([gaussian_nll(x + u, mean, log_sigma) for u in noise]).mean(dim=0)
    torch.testing.assert_close(found, nats / (50 * math.log(2)) - math.log2(STEP), atol=1e-3, rtol=0)
    flat = torch.full((1,), 50 * math.log(2.0 * 256 / 255))  # a density of 1 over 2 with half a level on either side
    torch.testing.assert_close(bits_per_dimension(flat, 50, 1e6), torch.tensor([8.0]))
    torch.testing.assert_close(bits_per_dimension(torch.tensor([math.log(2) * 7]), 7, None), torch.tensor([1.0]))


def test_the_sparsity_penalty_is_the_divergence_of_two_coins():
    activity = torch.tensor([0.05, 0.5, 0.9])
    expected = kl_divergence(Bernoulli(torch.tensor(0.05).expand(3)), Bernoulli(activity))
    torch.testing.assert_close(bernoulli_kl(0.05, activity), expected)
    assert bernoulli_kl(0.05, activity)[0] == pytest.approx(0.0, abs=1e-12)


def test_the_jacobian_norm_is_the_frobenius_norm_on_average():
    torch.manual_seed(0)
    layer = torch.nn.Linear(12, 5)
    images = torch.randn(3, 1, 3, 4, requires_grad=True)

    def code(x: torch.Tensor) -> torch.Tensor:
        return layer(x.flatten(1)).sigmoid()

    exact = torch.stack([
        torch.autograd.functional.jacobian(code, image[None]).square().sum() for image in images.detach()
    ])  # fmt: skip
    draws = torch.stack([jacobian_norm(code(images), images, torch.randn(3, 5)).detach() for _ in range(4000)])
    torch.testing.assert_close(draws.mean(dim=0), exact, rtol=0.05, atol=0)
    jacobian_norm(code(images), images, torch.randn(3, 5)).sum().backward()
    assert layer.weight.grad.abs().sum() > 0
