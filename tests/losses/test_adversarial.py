"""The game's losses against their definitions by probabilities, and where their gradients lead."""

from __future__ import annotations

import math

import torch

from wplus.losses.adversarial import logistic_discriminator, nonsaturating_generator


def test_generator_loss_is_minus_log_probability():
    fake = torch.linspace(-5, 5, 11, dtype=torch.float64).view(-1, 1)
    loss = nonsaturating_generator(fake)
    assert loss.shape == (11, 1)
    torch.testing.assert_close(loss, -torch.log(1 / (1 + torch.exp(-fake))))


def test_discriminator_loss_is_the_cross_entropy_of_both():
    real, fake = torch.randn(2, 7, 1, dtype=torch.float64)
    loss = logistic_discriminator(real, fake)
    assert loss.shape == (7, 1)
    torch.testing.assert_close(loss, -torch.log(torch.sigmoid(real)) - torch.log(1 - torch.sigmoid(fake)))


def test_values_at_an_undecided_discriminator():
    zero = torch.zeros(1, 1)
    assert nonsaturating_generator(zero).item() == torch.tensor(math.log(2)).item()
    assert logistic_discriminator(zero, zero).item() == torch.tensor(2 * math.log(2)).item()


def test_gradients_do_not_vanish_for_the_loser_and_stay_finite():
    """Non-saturating: the generator learns most where the discriminator is sure that an image is generated."""
    logits = torch.tensor([[-1000.0], [0.0], [1000.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(nonsaturating_generator(logits).sum(), logits)
    torch.testing.assert_close(gradient, torch.tensor([[-1.0], [-0.5], [0.0]]))
    real, fake = logits.detach().requires_grad_(), logits.detach().requires_grad_()
    by_real, by_fake = torch.autograd.grad(logistic_discriminator(real, fake).sum(), (real, fake))
    torch.testing.assert_close(by_real, torch.tensor([[-1.0], [-0.5], [0.0]]))
    torch.testing.assert_close(by_fake, torch.tensor([[0.0], [0.5], [1.0]]))
