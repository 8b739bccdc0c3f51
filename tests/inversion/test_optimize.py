"""Both inverters by optimisation find known latents; Adam, its schedules and its coordinates."""

import functools
import math

import pytest
import torch

from tests.fakes import PIXELS_ONLY, LinearEncoder, LinearGenerator, generated
from wplus.inversion.init import prior
from wplus.inversion.lbfgs import lbfgs
from wplus.inversion.objective import Objective, all_loss_weights, white
from wplus.inversion.optimize import gradient_axes, latent_noise_multiplier, lr_multiplier, optimize, rotate
from wplus.inversion.task import InversionTask
from wplus.latents.space import space_named
from wplus.losses.pixel import l2

pixels = functools.partial(optimize, loss_weights=PIXELS_ONLY)
pixels_lbfgs = functools.partial(lbfgs, loss_weights=PIXELS_ONLY)
both = pytest.mark.parametrize("invert", [pixels, pixels_lbfgs], ids=["adam", "lbfgs"])
spaces = pytest.mark.parametrize("space", ["z", "z+", "w", "w+"])


@both
def test_the_known_w_is_found(linear, invert):
    targets = torch.randn(3, 1, 4, 4)
    found = invert(InversionTask(linear, targets, "w"), num_steps=300)
    torch.testing.assert_close(found.latents, linear.w_of(targets), atol=2e-3, rtol=0)
    torch.testing.assert_close(found.images, targets, atol=2e-3, rtol=0)
    assert found.noise is None
    assert found.history["loss"].shape == (300, 3)
    assert (found.history["loss"][-1] < 1e-5 * found.history["loss"][0]).all()


@both
@spaces
def test_a_generated_image_comes_back(stylegan, invert, space):
    task = InversionTask(stylegan, generated(stylegan, 2), space, chunk_size=2)
    found = invert(task, num_steps=60, init="best_of_n", num_candidates=100)
    assert (l2(found.images, task.images) < 0.5 * found.history["l2"][0]).all()
    torch.testing.assert_close(stylegan.synthesis(task.to_ws(found.latents)), found.images, atol=1e-5, rtol=1e-4)


@both
@pytest.mark.parametrize("space", ["w", "w+"])
def test_an_exact_encoder_is_an_exact_start(linear, invert, space):
    task = InversionTask(linear, torch.randn(3, 1, 4, 4), space, encoder=LinearEncoder(linear))
    still = {"latent_noise": 0.0} if invert is pixels else {}  # so that the first evaluation is that of the start
    found = invert(task, num_steps=2, init="encoder", **still)
    assert (found.history["loss"][0] < 1e-8).all()
    torch.testing.assert_close(found.images, task.images, atol=1e-4, rtol=0)


@both
def test_delta_keeps_the_latent_near_its_start(linear, invert):
    task, mean = InversionTask(linear, torch.randn(1, 1, 4, 4) * 3, "w"), linear.mapping(torch.zeros(1, 16))[:, 0]
    free = invert(task, num_steps=200)
    kept = invert(task, num_steps=200, loss_weights={**PIXELS_ONLY, "delta": 1.0 / 16})
    # The minimum of |w - t|^2 / 16 + |w - s|^2 / 16 lies half-way.
    torch.testing.assert_close(kept.latents - mean, (free.latents - mean) / 2, atol=0.05, rtol=0)


@both
def test_restarts_are_never_worse(stylegan, invert):
    heard, targets = [], generated(stylegan, 3).flip(3)
    task = InversionTask(stylegan, targets, "w", chunk_size=2, callback=heard.append)
    once, more = (invert(task, num_steps=8, init="seed", restarts=restarts) for restarts in (0, 2))
    before, after = l2(once.images, targets), l2(more.images, targets)
    assert (after <= before).all()
    assert (after < before).any()
    assert [each.step for each in heard if each.num_steps == 24] == list(range(1, 25))
    torch.testing.assert_close(torch.minimum(more.history["loss"].min(dim=0).values, after), after)


@both
@pytest.mark.parametrize("return_best", [True, False])
def test_stopped_early_an_image_ends_as_it_would_alone(stylegan, invert, return_best):
    targets, heard, ends = generated(stylegan, 3), [], []
    targets[0] = targets[0].flip(1)  # of no w: soon nothing but slow progress
    run = functools.partial(
        invert, num_steps=100, return_best=return_best, early_stop={"patience": 8, "tolerance": 0.3}
    )
    together = run(task := InversionTask(stylegan, targets, "w", chunk_size=2, callback=heard.append))
    num_heard = len(heard)
    for index in range(3):
        heard.clear()
        alone = run(task.select(torch.tensor([index])))
        ends.append(len(heard))
        assert torch.equal(alone.latents[0], together.latents[index])
        assert torch.equal(alone.images[0], together.images[index])
        for name, values in alone.history.items():
            assert torch.equal(values[:, 0], together.history[name][:, index])
    assert ends[0] < max(ends) == num_heard < 100


@both
def test_noise_maps_are_found_and_stay_white(stylegan, invert):
    task = InversionTask(stylegan, generated(stylegan, 2), "w", chunk_size=2)
    free = invert(task, num_steps=40, noise="optimize")
    assert [tuple(layer.shape) for layer in free.noise] == [(2, 1, r, r) for r, _ in stylegan.synthesis.noise_shapes]
    for layer in free.noise:
        torch.testing.assert_close(layer, white(layer))
    again = stylegan.synthesis(task.to_ws(free.latents), noise=free.noise)
    torch.testing.assert_close(again, free.images, atol=1e-5, rtol=1e-4)
    assert (free.history["noise"][-1] < 0.2 * free.history["noise"][0]).all()


def test_best_is_never_worse_than_last(stylegan):
    task = InversionTask(stylegan, generated(stylegan, 2), "w")
    options = {"num_steps": 15, "lr": 0.5, "lr_rampdown": 0.0}
    best, last = (l2(pixels(task, return_best=choice, **options).images, task.images) for choice in (True, False))
    history = pixels(task, **options).history["loss"]
    assert (best <= last).all()
    torch.testing.assert_close(best, torch.minimum(history.min(dim=0).values, last))


# The projector


def test_adam_follows_a_projector_written_plainly(linear):
    """The published loop (constant noise, Adam, schedule) for one image, with torch's own Adam."""
    targets = torch.randn(1, 1, 4, 4)
    options = {"num_steps": 50, "lr": 0.2, "latent_noise": 0.0, "return_best": False}
    found = pixels(InversionTask(linear, targets, "w"), **options)
    w = prior(linear, space_named("w"), None, 1).mean.requires_grad_()
    adam = torch.optim.Adam([w], betas=(0.9, 0.999))
    for step in range(50):
        adam.param_groups[0]["lr"] = 0.2 * lr_multiplier(step / 50, rampup=0.05, rampdown=0.25)
        loss = (linear.synthesis(w[:, None].expand(-1, 3, -1)) - targets).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    torch.testing.assert_close(found.latents, w.detach())


@pytest.mark.parametrize("step", [0, 1, 10, 49, 50, 500, 749, 750, 751, 900, 999])
def test_nvlabs_schedules(step):
    t = step / 1000
    ramp = min(1.0, (1.0 - t) / 0.25)
    ramp = 0.5 - 0.5 * math.cos(ramp * math.pi)
    ramp = ramp * min(1.0, t / 0.05)
    assert lr_multiplier(t, rampup=0.05, rampdown=0.25) == pytest.approx(ramp)
    assert latent_noise_multiplier(t, length=0.75) == pytest.approx(max(0.0, 1.0 - t / 0.75) ** 2)
    assert (lr_multiplier(t, rampup=0, rampdown=0), latent_noise_multiplier(t, length=0)) == (1, 0)


def test_latent_noise_has_the_share_of_the_prior_that_was_asked_for(stylegan):
    """With a learning rate of nearly 0 the first evaluation is at the mean plus the noise."""
    seen = []
    task = InversionTask(stylegan, generated(stylegan, 1), "w")

    def synthesis_of(ws, **options):
        seen.append(ws)
        return original(ws, **options)

    original, stylegan.synthesis.forward = stylegan.synthesis.forward, synthesis_of
    pixels(task, num_steps=2, lr=1e-9, latent_noise=0.5, latent_noise_length=1.0)
    known = prior(stylegan, space_named("w"), None, 1)
    first, second = ((ws[0, 0] - known.mean[0]).norm() / known.std[0] / math.sqrt(12) for ws in seen[:2])
    assert 0.25 < first < 0.75  # 0.5, by 12 numbers
    assert 0.25 / 4 < second < 0.75 / 4


# Coordinates


class SteepGenerator(LinearGenerator):
    """The linear generator with one direction of w, not an axis, that counts a hundred times as much as the others."""

    def __init__(self) -> None:
        super().__init__()
        steep = torch.ones(16) / 4
        self.to_pixels.copy_((torch.eye(16) * 0.05 + torch.outer(steep, steep)) @ self.to_pixels)


def axes_of(generator, space="w", weights=PIXELS_ONLY):
    size = (1, generator.img_channels, generator.resolution, generator.resolution)
    task = InversionTask(generator, torch.zeros(size), space)
    return gradient_axes(Objective(task, all_loss_weights(task, weights)))


def test_a_rotation_and_back():
    axes, chunks = torch.linalg.qr(torch.randn(3, 5, 5))[0], [torch.tensor([0, 1]), torch.tensor([2, 3])]
    rotated = rotate(latents := torch.randn(4, 3, 5), axes, chunks)
    torch.testing.assert_close(rotated[1, 2], latents[1, 2] @ axes[2])
    torch.testing.assert_close(rotate(rotated, axes.mT, chunks), latents)
    assert rotate(latents, None, chunks) is latents


@pytest.mark.parametrize(("space", "shape"), [("z", (8, 8)), ("z+", (4, 8, 8)), ("w", (12, 12)), ("w+", (4, 12, 12))])
def test_axes_are_orthonormal_in_every_space(stylegan, space, shape):
    axes = axes_of(stylegan, space)
    assert axes.shape == shape
    torch.testing.assert_close(axes.mT @ axes, torch.eye(shape[-1]).expand(shape), atol=1e-5, rtol=0)


def test_the_steepest_axis_comes_last():
    torch.testing.assert_close(axes_of(SteepGenerator())[:, -1].abs(), torch.full((16,), 0.25), atol=0.02, rtol=0)


def test_adam_gets_further_along_its_axes():
    task = InversionTask(SteepGenerator(), 0.2 * torch.randn(3, 1, 4, 4), "w")
    plain, along = (
        l2(pixels(task, num_steps=60, preconditioner=kind).images, task.images) for kind in ("none", "gradients")
    )
    assert (along < 0.7 * plain).all()


def test_axes_are_found_once_per_generator_and_loss(stylegan):
    first = axes_of(stylegan)
    assert axes_of(stylegan) is first
    assert not torch.equal(axes_of(stylegan, weights={**PIXELS_ONLY, "l1": 1.0}), first)
