"""A sketch becomes a picture: what was drawn counts, what was not does not."""

from __future__ import annotations

import functools

import pytest
import torch

from wplus.errors import UserError
from wplus.inversion.init import prior
from wplus.inversion.sketch import WEIGHTS, average_pictures, completed, scribble
from wplus.losses.pixel import L2

pixels = {"perceptual": 0.0}
draw = functools.partial(scribble, space="w", perceptual=None, weights=pixels, steps=8, lanes=2)


def sketches(num: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Random colours in the left half, drawn firmly there and lightly in one column beside it."""
    rng = torch.Generator().manual_seed(2)
    masks = torch.zeros(num, 1, 8, 8)
    masks[..., :4], masks[..., 4] = 1.0, 0.25
    return torch.rand(num, 3, 8, 8, generator=rng) * 2 - 1, masks


def test_what_was_drawn_is_followed(stylegan):
    targets, masks = sketches()
    found = draw(stylegan, targets, masks=masks, steps=60)
    start = stylegan.synthesis(prior(stylegan, "w", None, 1).mean[:, None].repeat(1, stylegan.num_ws, 1))
    near, far = L2()(found.images, targets, masks), L2()(start, targets, masks)
    assert (near < 0.9 * far).all()
    assert {"shape", "prior", "l2"} < set(found.history)


@pytest.mark.parametrize("options", [{}, {"start": "best_of", "num_candidates": 5}, {"open_share": 0.0}])
def test_what_is_transparent_has_no_influence(stylegan, options):
    targets, masks = sketches()
    other = torch.where(masks > 0, targets, torch.rand_like(targets))
    first, second = (draw(stylegan, each, masks=masks, **options) for each in (targets, other))
    assert torch.equal(first.codes, second.codes)
    changed = torch.where(masks == 0.25, -targets, targets)
    assert not torch.equal(draw(stylegan, changed, masks=masks, **options).codes, first.codes)


def test_it_starts_from_the_mean_and_tries_several_seeds(stylegan):
    targets, masks = sketches(1)
    one, known = draw(stylegan, targets, masks=masks, steps=1, lr=1e-6), prior(stylegan, "w", None, 1)
    assert (one.codes - known.mean).norm() < 0.4 * known.std  # the code noise of the first step at most
    whole, importance = completed(targets, masks, average_pictures(stylegan, None), open_share=0.2)
    options = {"steps": 1, "lr": 1e-6, "weights": {**pixels, "shape": 0.0, "prior": 0.0}}
    single, several = (draw(stylegan, targets, masks=masks, restarts=num, **options).images for num in (0, 5))
    assert L2()(several, whole, importance) < L2()(single, whole, importance)
    seeded = [draw(stylegan, targets, masks=masks, start="seed", seed=seed).codes for seed in (1, 1, 2)]
    assert torch.equal(seeded[0], seeded[1])
    assert not torch.equal(seeded[0], seeded[2])


def test_a_batch_gives_what_single_sketches_give(stylegan):
    targets, masks = sketches(3)
    masks[1] = masks[1].flip(2)
    together = draw(stylegan, targets, masks=masks, names=["a", "b", "c"])
    alone = draw(stylegan, targets[1:2], masks=masks[1:2], names=["b"])
    assert torch.equal(alone.codes[0], together.codes[1])


def test_both_squared_differences_in_one():
    """The completed sketch has the minimum and, but for the scale, the slope of drawn and open terms together."""
    targets, masks = sketches(1)
    average, pictures = torch.rand(1, 3, 8, 8), torch.rand(2, 3, 8, 8)
    whole, weights = completed(targets, masks, average, open_share=0.3)
    terms = 0.7 * L2()(pictures, targets, masks) + 0.3 * L2()(pictures, average, 1 - masks)
    ours = L2()(pictures, whole, weights)
    torch.testing.assert_close(ours[0] - ours[1], terms[0] - terms[1], atol=1e-5, rtol=1e-4)
    assert (weights.max().item(), (weights > 0).all().item()) == (pytest.approx(1.0), True)


def test_a_small_sketch_counts_as_much_as_a_large_one():
    for size in (1, 7):
        masks = torch.zeros(1, 1, 8, 8)
        masks[..., :size, :size] = 1
        _, weights = completed(torch.zeros(1, 3, 8, 8), masks, torch.zeros(1, 3, 8, 8), open_share=0.25)
        assert ((weights * masks).sum() / weights.sum()).item() == pytest.approx(0.75, abs=1e-4)


def test_the_share_decides_between_sketch_and_average(stylegan):
    targets, masks = sketches(1)
    masks = masks.round()  # so that the completed sketch is the same, and its weights alone differ
    average, weights = average_pictures(stylegan, None), {**pixels, "shape": 0.0, "prior": 0.0}
    little, much = (
        draw(stylegan, targets, masks=masks, open_share=share, steps=60, weights=weights).images
        for share in (0.02, 0.9)
    )
    assert L2()(little, targets, masks) < L2()(much, targets, masks)
    assert L2()(little, average, 1 - masks) > L2()(much, average, 1 - masks)


def test_a_sketch_without_a_gap_is_itself():
    targets, _ = sketches(1)
    whole, weights = completed(targets, torch.ones(1, 1, 8, 8), torch.zeros(1, 3, 8, 8), open_share=0.2)
    torch.testing.assert_close(whole, targets)
    torch.testing.assert_close(weights, torch.ones_like(weights))


def test_the_average_picture(stylegan, conditional):
    average = average_pictures(stylegan, None)
    assert average.shape == (1, 3, 8, 8)
    by_class = average_pictures(conditional, torch.eye(3)[[2, 0, 2]])
    assert torch.equal(by_class[0], by_class[2])
    assert not torch.allclose(by_class[0], by_class[1], atol=1e-3)


@pytest.mark.parametrize("space", ["z", "z+", "w+"])
def test_every_space(conditional, space):
    targets, masks = sketches(2)
    found = draw(conditional, targets, masks=masks, space=space, labels=torch.eye(3)[[1, 2]])
    assert ("prior" in found.history) == (space == "w+")
    assert (found.history["loss"].min(dim=0).values < found.history["loss"][0]).all()


def test_further_losses_and_the_perceptual_net_take_part(stylegan, pooled):
    targets, masks = sketches(1)
    found = draw(stylegan, targets, masks=masks, perceptual=pooled, losses={"other": L2()}, weights={"other": 1.0})
    assert {"perceptual", "other", "shape"} < set(found.history)
    assert WEIGHTS["perceptual"] > 0


def test_bad_options(stylegan):
    targets, masks = sketches(1)
    with pytest.raises(UserError, match="add masks=alpha"):
        draw(stylegan, targets)
    with pytest.raises(UserError, match=r"open_share=1\.0"):
        draw(stylegan, targets, masks=masks, open_share=1.0)
    with pytest.raises(UserError, match="no term 'edges'"):
        draw(stylegan, targets, masks=masks, weights={"edges": 1.0})
