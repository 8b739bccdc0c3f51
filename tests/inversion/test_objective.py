"""The loss that an inversion minimises: its terms, its weights, its refusals."""

from __future__ import annotations

import pytest
import torch

from wplus.errors import UserError
from wplus.inversion.noise import autocorrelation, white
from wplus.inversion.objective import Objective, on_sphere, weights_by_name
from wplus.losses.pixel import l1, l2


def objective_of(generator, targets, net=None, *, space="w", labels=None, **weights):
    weights = weights_by_name({"perceptual": 0.0, **weights})
    return Objective(generator, targets, space=space, perceptual=net, weights=weights, labels=labels)


def test_loss_is_the_weighted_sum_of_its_terms(linear, pooled):
    targets, codes, start = torch.randn(3, 1, 4, 4), torch.randn(3, 16), torch.randn(3, 16)
    noise = white(torch.randn(3, 1, 4, 4))
    objective = objective_of(linear, targets, pooled, l1=2.0, l2=3.0, perceptual=5.0, delta=7.0, noise=11.0)
    objective.anchor = start
    images = objective.images([codes, noise])
    terms = objective.terms(images, [codes, noise])
    expected = {
        "l1": l1(images, targets),
        "l2": l2(images, targets),
        "perceptual": pooled(images, targets),
        "delta": (codes - start).square().sum(dim=1),
        "noise": autocorrelation([noise]),
    }
    for name, values in expected.items():
        torch.testing.assert_close(terms[name], values)
    loss = sum(weight * expected[name] for name, weight in zip(expected, (2, 3, 5, 7, 11), strict=True))
    torch.testing.assert_close(terms["loss"], loss)


def test_terms_with_weight_zero_do_not_touch_the_loss(linear):
    targets, codes = torch.randn(2, 1, 4, 4), torch.randn(2, 16)
    objective = objective_of(linear, targets, l1=0.0, l2=1.0)
    terms = objective.terms(objective.images([codes]), [codes])
    torch.testing.assert_close(terms["loss"], terms["l2"])
    assert "perceptual" not in terms
    assert "noise" not in terms


def test_settling_does_not_change_the_picture_of_z(stylegan):
    z = torch.randn(2, 8) * 3
    objective = objective_of(stylegan, torch.zeros(2, 3, 8, 8), space="z")
    settled = objective.settle([z])
    torch.testing.assert_close(settled[0].square().mean(dim=1), torch.ones(2))
    torch.testing.assert_close(objective.images(settled), stylegan(z), atol=1e-4, rtol=1e-4)


def test_every_code_against_every_target(linear, pooled):
    targets, codes = torch.randn(4, 1, 4, 4), torch.randn(3, 16)
    objective = objective_of(linear, targets, pooled, l2=1.0, perceptual=1.0)
    members = torch.tensor([0, 3])
    losses = objective.losses_of_each(codes, members, None)
    images = linear.synthesis(codes[:, None].expand(-1, 3, -1))
    for row in range(3):
        for column, member in enumerate(members.tolist()):
            image, target = images[row : row + 1], targets[member : member + 1]
            torch.testing.assert_close(losses[row, column], (l2(image, target) + pooled(image, target))[0])


def test_on_sphere_of_zero_is_finite():
    z = torch.zeros(1, 4, requires_grad=True)
    on_sphere(z).sum().backward()
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"l3": 1.0}, r"no term 'l3'.*l1, l2, perceptual, delta, noise"),
        ({"l2": -1.0}, r"weight -1\.0 of the term 'l2'"),
        ({"l2": float("nan")}, "nan"),
        ({"perceptual": 1.0}, "needs a perceptual net"),
        ({"l2": 0.0}, "All weights of image terms are 0"),
    ],
)
def test_bad_weights(linear, weights, message):
    with pytest.raises(UserError, match=message):
        objective_of(linear, torch.zeros(1, 1, 4, 4), **weights)


def test_targets_of_another_size_are_refused(linear):
    with pytest.raises(UserError, match=r"\(1, 3, 8, 8\).*\(N, 1, 4, 4\)"):
        objective_of(linear, torch.zeros(1, 3, 8, 8))


def test_z_of_a_conditional_generator_needs_labels(conditional):
    with pytest.raises(UserError, match="3 classes"):
        objective_of(conditional, torch.zeros(1, 3, 8, 8), space="z")
