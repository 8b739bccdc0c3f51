"""Both inverters by optimisation: they find known codes, image by image, in every space."""

from __future__ import annotations

import functools

import pytest
import torch

from tests.fakes import LinearEncoder, tiny_encoder
from wplus.errors import UserError
from wplus.inversion.init import prior
from wplus.inversion.lbfgs import lbfgs
from wplus.inversion.noise import white
from wplus.inversion.optimize import optimize
from wplus.inversion.schedule import learning_rate_multiplier
from wplus.latents.latent import to_ws
from wplus.losses.perceptual import EffNetLite0Distance
from wplus.losses.pixel import l2

PIXELS_ONLY = {"l2": 1.0, "perceptual": 0.0}
pixels = functools.partial(optimize, perceptual=None, weights=PIXELS_ONLY)
pixels_lbfgs = functools.partial(lbfgs, perceptual=None, weights=PIXELS_ONLY)
STILL = {pixels: {"code_noise": 0.0}, pixels_lbfgs: {}}  # so that the first evaluation is that of the start
both = pytest.mark.parametrize("invert", [pixels, pixels_lbfgs], ids=["adam", "lbfgs"])
spaces = pytest.mark.parametrize("space", ["z", "z+", "w", "w+"])


def pictures(generator, num, **mapping):
    rng = torch.Generator().manual_seed(9)
    return generator.synthesis(generator.mapping(torch.randn(num, generator.z_dim, generator=rng), **mapping))


@both
def test_the_known_w_is_found(linear, invert):
    targets = torch.randn(3, 1, 4, 4)
    found = invert(linear, targets, space="w", steps=300)
    torch.testing.assert_close(found.codes, linear.w_of(targets), atol=2e-3, rtol=0)
    torch.testing.assert_close(found.images, targets, atol=2e-3, rtol=0)
    assert found.noise is None
    assert found.history["loss"].shape == (300, 3)
    assert (found.history["loss"][-1] < 1e-5 * found.history["loss"][0]).all()


@both
@spaces
def test_a_generated_image_comes_back(stylegan, invert, space):
    targets = pictures(stylegan, 2)
    found = invert(stylegan, targets, space=space, steps=60, start="best_of", num_candidates=100, lanes=2)
    assert (l2(found.images, targets) < 0.5 * found.history["l2"][0]).all()
    again = stylegan.synthesis(to_ws(found.codes, space, stylegan))
    torch.testing.assert_close(again, found.images, atol=1e-5, rtol=1e-4)


@both
@spaces
@pytest.mark.parametrize("noise", ["fixed", "optimize"])
def test_a_batch_gives_what_single_runs_give(stylegan, invert, space, noise):
    targets, names = pictures(stylegan, 3), ["a", "b", "c"]
    options = {"space": space, "steps": 12, "noise": noise, "lanes": 2}
    together = invert(stylegan, targets, names=names, **options)
    for index in range(3):
        alone = invert(stylegan, targets[index : index + 1], names=names[index : index + 1], **options)
        assert torch.equal(alone.codes[0], together.codes[index])
        assert torch.equal(alone.images[0], together.images[index])
        assert torch.equal(alone.history["loss"][:, 0], together.history["loss"][:, index])
        if noise == "optimize":
            assert all(torch.equal(a[0], b[index]) for a, b in zip(alone.noise, together.noise, strict=True))


@pytest.mark.parametrize("invert", [optimize, lbfgs], ids=["adam", "lbfgs"])
def test_with_the_perceptual_term_too(stylegan, invert):
    targets, names, perceptual = pictures(stylegan, 2), ["a", "b"], EffNetLite0Distance()
    options = {"space": "w+", "steps": 10, "perceptual": perceptual, "start": "seed", "lanes": 2}
    together = invert(stylegan, targets, names=names, **options)
    alone = invert(stylegan, targets[1:], names=names[1:], **options)
    torch.testing.assert_close(alone.codes[0], together.codes[1], atol=1e-4, rtol=0)
    lowest = together.history["perceptual"].min(dim=0).values
    assert (lowest < together.history["perceptual"][0]).all()


def test_order_does_not_matter(stylegan):
    targets, names = pictures(stylegan, 3), ["a", "b", "c"]
    forward = pixels(stylegan, targets, names=names, space="w", steps=10)
    backward = pixels(stylegan, targets.flip(0), names=names[::-1], space="w", steps=10)
    assert torch.equal(forward.codes, backward.codes.flip(0))


def test_the_seed_matters_and_repeats(stylegan):
    targets = pictures(stylegan, 1)
    first, again, other = (pixels(stylegan, targets, space="w", steps=5, seed=seed).codes for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@both
def test_a_z_per_layer_comes_at_least_as_near_as_one_z(stylegan, invert):
    targets = pictures(stylegan, 2).flip(3)  # of no z
    reached = {space: invert(stylegan, targets, space=space, steps=60, lanes=2) for space in ("z", "z+")}
    one, many = (l2(reached[space].images, targets) for space in ("z", "z+"))
    assert reached["z+"].codes.shape == (2, stylegan.num_ws, 8)
    assert (many < one).all()


@both
@spaces
def test_what_is_outside_the_mask_does_not_matter(stylegan, invert, space):
    perceptual = EffNetLite0Distance()
    targets, masks = pictures(stylegan, 2), torch.zeros(2, 1, 8, 8)
    masks[:, :, 1:6, 2:] = torch.rand(2, 1, 5, 6) + 0.1
    other = torch.where(masks > 0, targets, torch.randn_like(targets))
    options = {"space": space, "steps": 4, "masks": masks.clamp(0, 1), "start": "best_of", "num_candidates": 5}
    options |= {"perceptual": perceptual, "weights": {"l1": 1.0}, "lanes": 2}
    first, second = (invert(stylegan, each, **options) for each in (targets, other))
    assert torch.equal(first.codes, second.codes)
    assert all(torch.equal(values, second.history[name]) for name, values in first.history.items())
    whole = invert(stylegan, targets, **{**options, "masks": None})
    assert not torch.equal(first.codes, whole.codes)


@both
def test_the_masked_part_is_found(linear, invert):
    targets, masks = torch.randn(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
    masks[..., :2] = 1
    found = invert(linear, targets, space="w", steps=300, masks=masks)
    torch.testing.assert_close(found.images * masks, targets * masks, atol=5e-3, rtol=0)
    assert (found.images - targets)[..., 2:].abs().mean() > 0.3


@both
@pytest.mark.parametrize("space", ["w", "w+"])
def test_an_exact_encoder_is_an_exact_start(linear, invert, space):
    targets = torch.randn(3, 1, 4, 4)
    found = invert(
        linear, targets, space=space, steps=2, start="encoder", encoder=LinearEncoder(linear), **STILL[invert]
    )
    assert (found.history["loss"][0] < 1e-8).all()
    torch.testing.assert_close(found.images, targets, atol=1e-4, rtol=0)


def test_the_delta_term_pulls_to_what_the_encoder_said(linear):
    targets, encoder = torch.randn(2, 1, 4, 4), LinearEncoder(linear, rate=0.5)
    weights = {**PIXELS_ONLY, "delta": 1.0 / 16}
    found = pixels_lbfgs(linear, targets, space="w", steps=60, start="encoder", encoder=encoder, weights=weights)
    torch.testing.assert_close(found.codes, (linear.w_of(targets) + encoder(targets)[:, 0]) / 2, atol=1e-3, rtol=0)


@both
def test_a_batch_that_starts_from_an_encoder(stylegan, invert):
    targets, encoder = pictures(stylegan, 3), tiny_encoder(stylegan)
    options = {"space": "w+", "steps": 4, "start": "encoder", "encoder": encoder, "lanes": 2}
    together = invert(stylegan, targets, names=["a", "b", "c"], **options)
    alone = [invert(stylegan, targets[i : i + 1], names=["abc"[i]], **options).codes for i in range(3)]
    assert torch.equal(together.codes, torch.cat(alone))


@both
def test_restarts_are_never_worse_and_belong_to_the_image(stylegan, invert):
    targets, names, heard = pictures(stylegan, 3).flip(3), ["a", "b", "c"], []
    options = {"space": "w", "steps": 8, "start": "seed", "lanes": 2}
    once = invert(stylegan, targets, names=names, **options)
    more = invert(stylegan, targets, names=names, restarts=2, callback=heard.append, **options)
    before, after = l2(once.images, targets), l2(more.images, targets)
    assert (after <= before).all()
    assert (after < before).any()
    assert heard[-1].step == heard[-1].num_steps == 24
    assert [each.step for each in heard] == sorted({each.step for each in heard})
    for index in range(3):
        alone = invert(stylegan, targets[index : index + 1], names=names[index : index + 1], restarts=2, **options)
        assert torch.equal(alone.codes[0], more.codes[index])
        assert torch.equal(alone.history["loss"][:, 0], more.history["loss"][:, index])
    torch.testing.assert_close(torch.minimum(more.history["loss"].min(dim=0).values, after), after)


@both
@pytest.mark.parametrize("keep", ["best", "last"])
def test_stopped_early_an_image_ends_as_it_would_alone(stylegan, invert, keep):
    targets, names, heard = pictures(stylegan, 3), ["a", "b", "c"], []
    targets[0] = targets[0].flip(1)  # of no w: soon nothing but slow progress
    options = {"space": "w", "steps": 100, "keep": keep, "early_stop": {"patience": 8, "tolerance": 0.3}, "lanes": 2}
    together, ends = invert(stylegan, targets, names=names, callback=heard.append, **options), []
    for index in range(3):
        calls, one = [], slice(index, index + 1)
        alone = invert(stylegan, targets[one], names=names[one], callback=calls.append, **options)
        ends.append(len(calls))
        assert torch.equal(alone.codes[0], together.codes[index])
        assert torch.equal(alone.images[0], together.images[index])
        for name, values in alone.history.items():
            assert torch.equal(values[:, 0], together.history[name][:, index])
    assert ends[0] < max(ends) == len(heard) < 100


@both
def test_noise_maps_are_found_and_stay_white(stylegan, invert):
    targets = pictures(stylegan, 2)
    free = invert(stylegan, targets, space="w", steps=40, noise="optimize", lanes=2)
    assert [tuple(layer.shape) for layer in free.noise] == [(2, 1, r, r) for r, _ in stylegan.synthesis.noise_shapes]
    for layer in free.noise:
        torch.testing.assert_close(layer, white(layer))
    pictured = stylegan.synthesis(free.codes[:, None].repeat(1, stylegan.num_ws, 1), noise=free.noise)
    torch.testing.assert_close(pictured, free.images, atol=1e-5, rtol=1e-4)
    assert (free.history["noise"][-1] < 0.2 * free.history["noise"][0]).all()


def test_best_is_never_worse_than_last(stylegan):
    targets = pictures(stylegan, 2)
    options = {"space": "w", "steps": 15, "lr": 0.5, "lr_rampdown": 0.0}
    best, last = (pixels(stylegan, targets, keep=keep, **options) for keep in ("best", "last"))
    assert (l2(best.images, targets) <= l2(last.images, targets)).all()
    reached = torch.minimum(best.history["loss"].min(dim=0).values, l2(last.images, targets))
    torch.testing.assert_close(l2(best.images, targets), reached)


@both
def test_delta_keeps_the_code_near_its_start(linear, invert):
    targets = torch.randn(1, 1, 4, 4) * 3
    free = invert(linear, targets, space="w", steps=200)
    held = invert(linear, targets, space="w", steps=200, weights={**PIXELS_ONLY, "delta": 1.0 / 16})
    # The minimum of |w - t|^2 / 16 + |w - s|^2 / 16 lies half-way.
    halfway = (free.codes - linear.mapping(torch.zeros(1, 16))[:, 0]) / 2
    torch.testing.assert_close(held.codes - linear.mapping(torch.zeros(1, 16))[:, 0], halfway, atol=0.05, rtol=0)


def test_z_needs_the_label_and_w_starts_at_its_mean(conditional):
    labels = torch.eye(3)[[1, 2]]
    targets = pictures(conditional, 2, c=labels)
    found = pixels_lbfgs(conditional, targets, space="z", labels=labels, steps=50, start="best_of", num_candidates=50)
    again = conditional.synthesis(to_ws(found.codes, "z", conditional, labels=labels))
    torch.testing.assert_close(again, found.images, atol=1e-5, rtol=1e-4)
    assert (l2(found.images, targets) < 0.5 * found.history["l2"][0]).all()
    assert pixels(conditional, targets, space="w", steps=2).codes.shape == (2, 12)


def test_the_caller_hears_every_step_and_nothing_of_the_caller_changes(stylegan):
    heard, before = [], [parameter.clone() for parameter in stylegan.parameters()]
    targets = pictures(stylegan, 3)
    pixels(stylegan, targets, space="w", steps=4, callback=heard.append, lanes=2)
    assert [(each.step, each.num_steps) for each in heard] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert heard[0].images.shape == targets.shape
    assert heard[0].loss.shape == (3,)
    assert not heard[0].loss.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(before, stylegan.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in stylegan.parameters())


def test_adam_follows_a_projector_written_plainly(linear):
    """The published loop (constant noise, Adam, schedule) for one image, by torch's own Adam."""
    targets = torch.randn(1, 1, 4, 4)
    found = pixels(linear, targets, space="w", steps=50, lr=0.2, code_noise=0.0, keep="last")
    w = prior(linear, "w", None, 1).mean.requires_grad_()
    adam = torch.optim.Adam([w], betas=(0.9, 0.999))
    for step in range(50):
        adam.param_groups[0]["lr"] = 0.2 * learning_rate_multiplier(step / 50)
        loss = (linear.synthesis(w[:, None].expand(-1, 3, -1)) - targets).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    torch.testing.assert_close(found.codes, w.detach())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"space": "s"}, r"'s'.*z, z\+, w, w\+"),
        ({"noise": "free"}, r"noise=free.*fixed, optimize"),
        ({"keep": "first"}, r"keep=first.*best, last"),
        ({"lr": 0.0}, r"lr=0\.0"),
        ({"lanes": 0}, "lanes=0"),
        ({"restarts": -1}, "restarts=-1"),
        ({"early_stop": {"patience": 3}}, "early_stop="),
        ({"start": "encoder"}, "needs an encoder"),
    ],
)
def test_bad_options(linear, options, message):
    with pytest.raises(UserError, match=message):
        pixels(linear, torch.zeros(1, 1, 4, 4), **{"space": "w", **options})


def test_bad_options_of_lbfgs(linear):
    with pytest.raises(UserError, match="memory=0"):
        pixels_lbfgs(linear, torch.zeros(1, 1, 4, 4), space="w", memory=0)
