"""Inversion by two searches in sequence."""

import copy
import functools

import pytest
import torch

from tests.fakes import PIXELS_ONLY, noise_images
from wplus.errors import UserError
from wplus.inversion.optimize import optimize
from wplus.inversion.pti import pti
from wplus.inversion.staged import staged
from wplus.inversion.task import InversionTask, check_inverter
from wplus.latents.space import space_of

SEARCH = functools.partial(optimize, num_steps=6, loss_weights=PIXELS_ONLY, latent_noise=0.0)
STILL = functools.partial(SEARCH, num_steps=2, lr=1e-12, loss_weights=PIXELS_ONLY | {"delta": 1.0})


@pytest.mark.parametrize(("space", "first"), [("pn+", "w+"), ("s", "w+"), ("f/w+", "w+"), ("w", "w")])
def test_the_second_begins_where_the_first_ended(stylegan, space, first):
    images = noise_images(3)
    alone = SEARCH(InversionTask(stylegan, images, first))
    both = staged(InversionTask(stylegan, images, space), first=SEARCH, second=STILL)
    ws = alone.latents if first == "w+" else alone.latents[:, None].expand(-1, stylegan.num_ws, -1)
    expected = space_of(space, stylegan).from_ws(ws, stylegan)
    torch.testing.assert_close(both.latents, expected, atol=1e-4, rtol=1e-3)
    assert both.history["loss"].shape == (8, 3)
    assert torch.equal(both.history["loss"][:6], alone.history["loss"])
    assert (both.seconds > 0).all()


def test_it_goes_on_from_there_and_further_tries_begin_elsewhere(stylegan):
    images = noise_images(2)
    task = InversionTask(stylegan, images, "s")
    found = staged(task, first=SEARCH, second=functools.partial(SEARCH, num_steps=30))
    assert (found.history["loss"][-1] < found.history["loss"][5]).all()
    told = []
    again = InversionTask(stylegan, images, "s", start=found.latents, callback=lambda step: told.append(step.images))
    SEARCH(again, restarts=1)
    assert len(told) == 12
    torch.testing.assert_close(told[0], found.images, atol=1e-4, rtol=1e-3)
    assert not torch.allclose(told[6], told[0], atol=1e-2)


def test_both_searches_are_told_as_one_with_all_their_tries(stylegan):
    told = []
    task = InversionTask(stylegan, noise_images(1), "s", callback=lambda step: told.append((step.step, step.num_steps)))
    found = staged(task, first=functools.partial(SEARCH, restarts=1), second=STILL)
    assert told == [(step, 14) for step in range(1, 15)]
    assert not found.latents.requires_grad


def test_a_start_is_of_its_own_space_and_needs_no_gradient(stylegan):
    """A search within a search starts afresh."""
    trainable = copy.deepcopy(stylegan).requires_grad_(True)
    inner = functools.partial(staged, first=STILL, second=STILL)
    found = staged(InversionTask(trainable, noise_images(1), "s"), first=STILL, second=inner)
    assert not found.latents.requires_grad


@pytest.mark.parametrize("space", ["z", "z+"])
def test_nothing_leads_to_z(stylegan, space):
    for refused in (lambda: staged(InversionTask(stylegan, noise_images(1), space)),
                    lambda: check_inverter(staged, space_of(space, stylegan))):  # fmt: skip
        with pytest.raises(UserError, match=r"inverter=staged starts in w\+?, which cannot be mapped to z"):
            refused()


def test_the_second_must_be_for_the_space(stylegan):
    for invert, space in ((functools.partial(staged, second=pti), "s"), (functools.partial(pti, pivot=staged), "z")):
        with pytest.raises(UserError, match="needs w|starts in w"):
            check_inverter(invert, space_of(space, stylegan))
    check_inverter(functools.partial(staged, first=pti), space_of("s", stylegan))
