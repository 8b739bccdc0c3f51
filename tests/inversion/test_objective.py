"""The loss that an inversion minimises: its terms, weights, refusals and noise maps."""

import pytest
import torch

from tests.fakes import Brightness
from wplus.errors import UserError
from wplus.inversion.objective import (
    Objective,
    all_loss_weights,
    autocorrelation,
    on_sphere,
    renormalize,
    synthesize,
    white,
)  # fmt: skip
from wplus.inversion.task import InversionTask
from wplus.latents.space import space_named
from wplus.latents.w_stats import Whitened
from wplus.losses.pixel import L1, l1, l2


def objective_of(generator, targets, net=None, *, space="w", masks=None, losses=None, **weights):
    task = InversionTask(generator, targets, space, net, losses or {}, masks=masks)
    given = {"perceptual": 0.0, **weights}
    return Objective(task, all_loss_weights(task, given))


def terms_of(objective, *params):
    images = synthesize(objective.task, params)
    return images, objective.terms(images, params)


def test_loss_is_the_weighted_sum_of_its_terms(linear, pooled):
    targets, latents, start = torch.randn(3, 1, 4, 4), torch.randn(3, 16), torch.randn(3, 16)
    noise = white(torch.randn(3, 1, 4, 4))
    weights = {"l2": 3.0, "perceptual": 5.0, "brightness": 2.0, "delta": 7.0, "noise": 11.0}
    losses = {"brightness": Brightness(), "unused": L1()}
    objective = objective_of(linear, targets, pooled, losses=losses, **weights)
    objective.anchor = start
    images, terms = terms_of(objective, latents, noise)
    expected = {
        "l1": l1(images, targets),  # recorded whatever its weight
        "l2": l2(images, targets),
        "perceptual": pooled(images, targets),
        "brightness": (images - targets).mean(dim=(1, 2, 3)).abs(),
        "delta": (latents - start).square().sum(dim=1),
        "noise": autocorrelation([noise]),
    }
    assert list(terms) == ["loss", *expected]
    for name, values in expected.items():
        torch.testing.assert_close(terms[name], values)
    torch.testing.assert_close(terms["loss"], sum(weight * expected[name] for name, weight in weights.items()))


@pytest.mark.parametrize("space", ["w", "w+"])
def test_the_prior_term_is_the_distance_in_whitened_w(stylegan, space):
    latents = torch.randn((2, 12) if space == "w" else (2, stylegan.num_ws, 12))
    objective = objective_of(stylegan, torch.randn(2, 3, 8, 8), space=space, prior=3.0)
    _, terms = terms_of(objective, latents)
    torch.testing.assert_close(terms["prior"], Whitened.of(stylegan).distance(latents))
    torch.testing.assert_close(terms["loss"], 10 * terms["l2"] + 3 * terms["prior"])


def half_masks(num: int = 2) -> torch.Tensor:
    """The left half of 4 px images, softly in the last column."""
    masks = torch.zeros(num, 1, 4, 4)
    masks[..., 0], masks[..., 1] = 1.0, 0.5
    return masks


def test_terms_are_means_over_the_mask(linear, pooled):
    targets, latents, masks = torch.randn(2, 1, 4, 4), torch.randn(2, 16), half_masks()
    objective = objective_of(linear, targets, pooled, masks=masks, perceptual=1.0)
    images, terms = terms_of(objective, latents)
    weights = masks.expand_as(targets)
    expected = ((images - targets).abs() * weights).sum(dim=(1, 2, 3)) / weights.sum(dim=(1, 2, 3))
    torch.testing.assert_close(terms["l1"], expected)
    grey = (images * (masks > 0), targets * (masks > 0))
    torch.testing.assert_close(terms["perceptual"], pooled(*grey, masks))
    each = objective.losses_of_each(latents, torch.arange(2), None)
    torch.testing.assert_close(each.diagonal(), terms["loss"])


def test_a_mask_of_ones_and_a_fainter_one_change_nothing(linear, pooled):
    targets, latents = torch.randn(2, 1, 4, 4), torch.randn(2, 16)
    _, whole = terms_of(objective_of(linear, targets, pooled, perceptual=1.0, l1=1.0), latents)
    for strength in (1.0, 0.3):
        masks = torch.full((2, 1, 4, 4), strength)
        _, masked = terms_of(objective_of(linear, targets, pooled, masks=masks, perceptual=1.0, l1=1.0), latents)
        for name, values in whole.items():
            torch.testing.assert_close(masked[name], values)


def test_every_latent_against_every_target(linear, pooled):
    targets, latents = torch.randn(4, 1, 4, 4), torch.randn(3, 16)
    objective = objective_of(linear, targets, pooled, l2=1.0, perceptual=1.0)
    members = torch.tensor([0, 3])
    losses = objective.losses_of_each(latents, members, None)
    images = linear.synthesis(latents[:, None].expand(-1, 3, -1))
    for row in range(3):
        for column, member in enumerate(members.tolist()):
            image, target = images[row : row + 1], targets[member : member + 1]
            torch.testing.assert_close(losses[row, column], (l2(image, target) + pooled(image, target))[0])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"l3": 1.0}, r"loss_weights must be of l1, l2, perceptual, delta, noise, prior, got 'l3'"),
        ({"l2": -1.0}, r"loss_weights\.l2 must be a number of at least 0, got -1\.0"),
        ({"l2": float("nan")}, "nan"),
        ({"perceptual": 1.0}, r"loss_weights\.perceptual must be 0 without a perceptual net"),
        ({"l2": 0.0}, "loss_weights of l1, l2 must have one above 0"),
        ({"losses": {"l2": L1()}}, "name of a further loss must be a new one, got 'l2'"),
        ({"space": "z", "prior": 1.0}, r"loss_weights\.prior must be 0 in z,"),
        ({"space": "z+", "prior": 1.0}, r"loss_weights\.prior must be 0 in z\+,"),
    ],
)
def test_bad_weights(linear, weights, message):
    with pytest.raises(UserError, match=message):
        objective_of(linear, torch.zeros(1, 1, 4, 4), **weights)


# Params


def test_renormalizing_does_not_change_the_picture_of_z(stylegan):
    z = torch.randn(2, 8) * 3
    settled = renormalize([z], space_named("z"))
    torch.testing.assert_close(settled[0].square().mean(dim=1), torch.ones(2))
    task = InversionTask(stylegan, torch.zeros(2, 3, 8, 8), "z")
    torch.testing.assert_close(synthesize(task, settled), stylegan(z), atol=1e-4, rtol=1e-4)


def test_each_layer_of_z_plus_has_its_sphere(stylegan):
    (settled,) = renormalize([torch.randn(2, stylegan.num_ws, 8) * 3], space_named("z+"))
    torch.testing.assert_close(settled.square().mean(dim=2), torch.ones(2, stylegan.num_ws))
    same = torch.randn(2, 1, 8).expand(-1, stylegan.num_ws, -1)
    task = InversionTask(stylegan, torch.zeros(2, 3, 8, 8), "z+")
    torch.testing.assert_close(synthesize(task, [same]), stylegan(same[:, 0]), atol=1e-5, rtol=1e-4)


def test_on_sphere_of_zero_is_finite():
    z = torch.zeros(1, 4, requires_grad=True)
    on_sphere(z).sum().backward()
    assert torch.isfinite(z.grad).all()


def test_white_has_mean_zero_and_mean_square_one():
    maps = white(torch.rand(3, 1, 8, 8) * 5 + 2)
    torch.testing.assert_close(maps.mean(dim=(1, 2, 3)), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(maps.square().mean(dim=(1, 2, 3)), torch.ones(3))
    torch.testing.assert_close(white(maps), maps)


def slow_autocorrelation(noise: torch.Tensor) -> float:
    """The regulariser of one map (r, r), computed pixel by pixel."""
    size, total = len(noise), 0.0
    across = sum(noise[i, j] * noise[i, j - 1] for i in range(size) for j in range(size)) / size**2
    down = sum(noise[i, j] * noise[i - 1, j] for i in range(size) for j in range(size)) / size**2
    total += across**2 + down**2
    if size <= 8:
        return total
    pooled = noise.view(size // 2, 2, size // 2, 2).mean(dim=(1, 3))
    return total + slow_autocorrelation(pooled)


def test_autocorrelation_is_the_sum_over_pixels_and_sizes():
    noise = [torch.randn(2, 1, 4, 4), torch.randn(2, 1, 16, 16)]
    expected = [sum(slow_autocorrelation(layer[i, 0]) for layer in noise) for i in range(2)]
    torch.testing.assert_close(autocorrelation(noise), torch.stack(expected))
