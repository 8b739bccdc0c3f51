"""The loss that an inversion minimises: its terms, its weights, its refusals."""

from __future__ import annotations

from types import MappingProxyType

import pytest
import torch

from wplus.errors import UserError
from wplus.inversion.noise import autocorrelation, white
from wplus.inversion.objective import Objective, on_sphere, weights_by_name
from wplus.latents.w_stats import Whitened
from wplus.losses.image_pair import ImageDistance
from wplus.losses.pixel import L1, l1, l2


def objective_of(generator, targets, net=None, *, space="w", labels=None, masks=None, losses=None, **weights):
    options = {
        "masks": masks,
        "losses": losses,
        "weights": weights_by_name({"perceptual": 0.0, **weights}, losses or ()),
    }
    if options["weights"]["prior"] and space in ("w", "w+"):
        options["whitened"] = Whitened.of(generator, num_samples=1000)
    return Objective(generator, targets, space=space, perceptual=net, labels=labels, **options)


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


class Brightness(ImageDistance):
    """Difference of the mean brightness: of whole images only."""

    name, provenance = "brightness", MappingProxyType({"name": "brightness"})

    def features(self, images):
        return [images.mean(dim=(1, 2, 3))]

    def distance(self, features_a, features_b, mask=None):
        self._refuse(mask)
        return (features_a[0] - features_b[0]).abs()


def test_any_image_loss_can_be_a_term(linear, pooled):
    targets, codes = torch.randn(3, 1, 4, 4), torch.randn(3, 16)
    losses = {"brightness": Brightness(), "unused": L1()}
    objective = objective_of(linear, targets, pooled, losses=losses, l2=3.0, brightness=2.0)
    images = objective.images([codes])
    terms = objective.terms(images, [codes])
    assert list(terms) == ["loss", "l1", "l2", "brightness"]
    torch.testing.assert_close(terms["brightness"], (images - targets).mean(dim=(1, 2, 3)).abs())
    torch.testing.assert_close(terms["loss"], 3 * l2(images, targets) + 2 * terms["brightness"])
    each = objective.losses_of_each(codes, torch.arange(3), None)
    torch.testing.assert_close(each.diagonal(), terms["loss"])


@pytest.mark.parametrize("space", ["w", "w+"])
def test_the_prior_term_is_the_distance_in_whitened_w(stylegan, space):
    codes = torch.randn((2, 12) if space == "w" else (2, stylegan.num_ws, 12))
    objective = objective_of(stylegan, torch.randn(2, 3, 8, 8), space=space, prior=3.0)
    images = objective.images([codes])
    terms = objective.terms(images, [codes])
    torch.testing.assert_close(terms["prior"], objective.whitened.distance(codes))
    torch.testing.assert_close(terms["loss"], 10 * terms["l2"] + 3 * terms["prior"])


def half_masks(num: int = 2) -> torch.Tensor:
    """The left half of 4 px images, softly in the last column."""
    masks = torch.zeros(num, 1, 4, 4)
    masks[..., 0], masks[..., 1] = 1.0, 0.5
    return masks


def test_terms_are_means_over_the_mask(linear, pooled):
    targets, codes, masks = torch.randn(2, 1, 4, 4), torch.randn(2, 16), half_masks()
    objective = objective_of(linear, targets, pooled, masks=masks, perceptual=1.0)
    images = objective.images([codes])
    terms = objective.terms(images, [codes])
    weights = masks.expand_as(targets)
    expected = ((images - targets).abs() * weights).sum(dim=(1, 2, 3)) / weights.sum(dim=(1, 2, 3))
    torch.testing.assert_close(terms["l1"], expected)
    grey = (images * (masks > 0), targets * (masks > 0))
    torch.testing.assert_close(terms["perceptual"], pooled(*grey, masks))
    each = objective.losses_of_each(codes, torch.arange(2), None)
    torch.testing.assert_close(each.diagonal(), terms["loss"])


def test_a_mask_of_ones_and_a_fainter_one_change_nothing(linear, pooled):
    targets, codes = torch.randn(2, 1, 4, 4), torch.randn(2, 16)
    whole = objective_of(linear, targets, pooled, perceptual=1.0, l1=1.0)
    for strength in (1.0, 0.3):
        masks = torch.full((2, 1, 4, 4), strength)
        masked = objective_of(linear, targets, pooled, masks=masks, perceptual=1.0, l1=1.0)
        for name, values in whole.terms(whole.images([codes]), [codes]).items():
            torch.testing.assert_close(masked.terms(whole.images([codes]), [codes])[name], values)


def test_a_loss_of_whole_images_refuses_masks(linear):
    targets, codes = torch.randn(2, 1, 4, 4), torch.randn(2, 16)
    objective = objective_of(linear, targets, masks=half_masks(), losses={"brightness": Brightness()}, brightness=1.0)
    with pytest.raises(UserError, match="takes no mask"):
        objective.terms(objective.images([codes]), [codes])


def test_each_layer_of_z_plus_has_its_sphere(stylegan):
    codes = torch.randn(2, stylegan.num_ws, 8) * 3
    objective = objective_of(stylegan, torch.zeros(2, 3, 8, 8), space="z+")
    (settled,) = objective.settle([codes])
    torch.testing.assert_close(settled.square().mean(dim=2), torch.ones(2, stylegan.num_ws))
    same = torch.randn(2, 1, 8).expand(-1, stylegan.num_ws, -1)
    torch.testing.assert_close(objective.images([same]), stylegan(same[:, 0]), atol=1e-5, rtol=1e-4)


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
        ({"l3": 1.0}, r"no term 'l3'.*l1, l2, perceptual, delta, noise, prior"),
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


@pytest.mark.parametrize("space", ["z", "z+"])
def test_z_of_a_conditional_generator_needs_labels(conditional, space):
    with pytest.raises(UserError, match="3 classes"):
        objective_of(conditional, torch.zeros(1, 3, 8, 8), space=space)


@pytest.mark.parametrize("space", ["z", "z+"])
def test_on_the_sphere_there_is_no_prior_term(stylegan, space):
    with pytest.raises(UserError, match="prior term has no effect in z"):
        objective_of(stylegan, torch.zeros(1, 3, 8, 8), space=space, prior=1.0)


def test_names_and_masks_that_do_not_fit(linear):
    targets = torch.zeros(2, 1, 4, 4)
    with pytest.raises(UserError, match="cannot be called 'l2'"):
        objective_of(linear, targets, losses={"l2": L1()})
    for shape in ((1, 1, 4, 4), (2, 1, 8, 8), (2, 4, 4)):
        with pytest.raises(UserError, match=r"Masks of shape .* must be \(2, 1, 4, 4\)"):
            objective_of(linear, targets, masks=torch.ones(shape))
