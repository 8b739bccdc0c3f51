"""A sketch becomes an image: drawn areas count, others do not."""

import functools

import pytest
import torch

from tests.fakes import half_masks, noise_images, tiny_generator
from wplus.errors import UserError
from wplus.inversion.init import prior
from wplus.inversion.sketch import average_images, completed, sketch
from wplus.inversion.task import InversionTask
from wplus.latents.space import space_named
from wplus.losses.pixel import L2

NO_NET = {"perceptual": 0.0}
PIXELS = {**NO_NET, "shape": 0.0, "prior": 0.0}
draw = functools.partial(sketch, loss_weights=NO_NET, num_steps=8)


def task_of(generator, num=2, space="w", **shared):
    """Random colours, of which only the left half counts."""
    return InversionTask(generator, noise_images(num), space, chunk_size=2, masks=half_masks(num), **shared)


def test_what_was_drawn_is_followed(stylegan):
    task = task_of(stylegan)
    found = draw(task, num_steps=60)
    start = stylegan.synthesis(prior(stylegan, space_named("w"), None, 1).mean[:, None].repeat(1, stylegan.num_ws, 1))
    near, far = (L2()(images, task.images, task.masks) for images in (found.images, start))
    assert (near < 0.9 * far).all()
    assert {"shape", "prior", "l2"} < set(found.history)


@pytest.mark.parametrize("options", [{}, {"init": "best_of_n", "num_candidates": 5}, {"open_share": 0.0}])
def test_what_is_transparent_has_no_influence(stylegan, options):
    task = task_of(stylegan)
    hidden = torch.where(task.masks > 0, task.images, torch.rand_like(task.images))
    changed = torch.where(task.masks == 0.25, -task.images, task.images)
    first, same, other = (
        draw(InversionTask(stylegan, images, "w", masks=task.masks, chunk_size=2), **options).latents
        for images in (task.images, hidden, changed)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_it_starts_from_the_mean_and_tries_several_seeds(stylegan):
    task, options = task_of(stylegan, 1), {"num_steps": 1, "lr": 1e-6}
    known = prior(stylegan, space_named("w"), None, 1)
    one = draw(task, **options)
    assert (one.latents - known.mean).norm() < 0.4 * known.std  # the latent noise of the first step at most
    whole, importance = completed(task.images, task.masks, average_images(stylegan, None), open_share=0.2)
    single, several = (draw(task, restarts=num, loss_weights=PIXELS, **options).images for num in (0, 5))
    assert L2()(several, whole, importance) < L2()(single, whole, importance)


def test_both_squared_differences_in_one():
    """The completed sketch has the minimum and, up to scale, the slope of drawn and open terms together."""
    task = task_of(tiny_generator(), 1)
    average, images = torch.rand(1, 3, 8, 8), torch.rand(2, 3, 8, 8)
    whole, weights = completed(task.images, task.masks, average, open_share=0.3)
    terms = 0.7 * L2()(images, task.images, task.masks) + 0.3 * L2()(images, average, 1 - task.masks)
    ours = L2()(images, whole, weights)
    torch.testing.assert_close(ours[0] - ours[1], terms[0] - terms[1], atol=1e-5, rtol=1e-4)
    assert (weights.max().item(), (weights > 0).all().item()) == (pytest.approx(1.0), True)


def test_a_small_sketch_counts_as_much_as_a_large_one():
    for size in (1, 7):
        masks = torch.zeros(1, 1, 8, 8)
        masks[..., :size, :size] = 1
        _, weights = completed(torch.zeros(1, 3, 8, 8), masks, torch.zeros(1, 3, 8, 8), open_share=0.25)
        assert ((weights * masks).sum() / weights.sum()).item() == pytest.approx(0.75, abs=1e-4)
    whole, weights = completed(image := torch.rand(1, 3, 8, 8), torch.ones(1, 1, 8, 8), torch.zeros(1, 3, 8, 8), 0.2)
    torch.testing.assert_close(whole, image)
    torch.testing.assert_close(weights, torch.ones_like(weights))


def test_the_average_image(stylegan, conditional):
    assert average_images(stylegan, None).shape == (1, 3, 8, 8)
    by_class = average_images(conditional, torch.eye(3)[[2, 0, 2]])
    assert torch.equal(by_class[0], by_class[2])
    assert not torch.allclose(by_class[0], by_class[1], atol=1e-3)


def test_further_losses_and_the_perceptual_net_take_part(stylegan, pooled):
    task = task_of(stylegan, 1, perceptual=pooled, losses={"other": L2()})
    history = sketch(task, num_steps=2, loss_weights={"other": 1.0}).history
    assert {"perceptual", "other", "shape"} < set(history)
    expected = 10 * history["l2"] + 2 * history["perceptual"] + 30 * history["shape"] + 0.3 * history["prior"]
    torch.testing.assert_close(history["loss"], expected + history["other"])


def test_a_share_of_all_is_refused(stylegan):
    with pytest.raises(UserError, match=r"open_share must be from 0 to below 1, got 1\.0"):
        draw(task_of(stylegan, 1), open_share=1.0)
