"""Two searches, one after the other."""

import functools

import pytest
import torch

from tests.fakes import PIXELS_ONLY, noise_images
from wplus.errors import UserError
from wplus.inversion.optimize import optimize
from wplus.inversion.staged import staged
from wplus.inversion.task import InversionTask
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
    once, again = (SEARCH(InversionTask(stylegan, images, "s", start=found.latents), restarts=n) for n in (0, 1))
    assert (again.history["loss"][0] >= once.history["loss"][0]).all()


@pytest.mark.parametrize("space", ["z", "z+"])
def test_nothing_leads_to_z(stylegan, space):
    with pytest.raises(UserError, match=r"inverter=staged begins in w\+?, from which no way leads to z"):
        staged(InversionTask(stylegan, noise_images(1), space))
