"""LeCam's loss against the paper's formula, and its running means."""

import pytest
import torch
from torch.nn.functional import softplus

from wplus.errors import UserError
from wplus.losses.adversarial import logistic_discriminator
from wplus.losses.lecam import LeCam


def test_the_formula_with_the_means_of_earlier_steps():
    loss, a_real, a_fake = LeCam(logistic_discriminator, weight=0.3, decay=0.9), None, None
    for step in range(4):
        real, fake = torch.randn(6, 1) + step, torch.randn(6, 1) - step
        expected = softplus(-real) + softplus(fake)
        if step:
            expected = expected + 0.3 * ((real - a_fake) ** 2 + (fake - a_real) ** 2)
        found = torch.cat([loss(a, b) for a, b in zip(real.split(2), fake.split(2), strict=True)])  # micro-batches
        torch.testing.assert_close(found, expected)
        loss.end_step()
        a_real = real.mean() if a_real is None else 0.9 * a_real + 0.1 * real.mean()
        a_fake = fake.mean() if a_fake is None else 0.9 * a_fake + 0.1 * fake.mean()
        torch.testing.assert_close(loss.means, torch.stack([a_real, a_fake]))


def test_a_lost_step_and_an_idle_one_move_nothing():
    loss = LeCam(logistic_discriminator)
    loss(torch.ones(2, 1), -torch.ones(2, 1))
    loss.end_step()
    loss.end_step()
    loss(torch.full((2, 1), float("nan")), torch.ones(2, 1))
    loss.end_step()
    assert loss.means.tolist() == [1, -1]
    loss(torch.zeros(2, 1), torch.zeros(2, 1))
    loss.end_step()
    assert loss.means.tolist() == pytest.approx([0.99, -0.99])


def test_the_means_take_no_gradient():
    loss, real = LeCam(logistic_discriminator, weight=1.0), torch.zeros(1, 1, requires_grad=True)
    loss(torch.ones(1, 1), -torch.ones(1, 1))
    loss.end_step()
    loss(real, torch.zeros(1, 1)).sum().backward()
    assert real.grad.item() == pytest.approx(-0.5 + 2 * (0 - -1))
    assert not list(loss.parameters())


def test_refusals():
    with pytest.raises(UserError, match=r"discriminator_loss.decay must be .* got 1"):
        LeCam(logistic_discriminator, decay=1)
