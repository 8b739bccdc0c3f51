"""From the opposite over the mean to the latent itself."""

from __future__ import annotations

import pytest

from tests.probes.conftest import FAMILIES, make_images
from wplus.core.images import to_uint8
from wplus.errors import UserError
from wplus.probes.drawing import GAP, LINE, MARGIN
from wplus.probes.truncation import truncation


def test_the_mean_is_in_the_middle_and_the_latent_at_the_right(scene):
    here = scene(data=make_images(resolution=64))
    (picture,) = truncation(here, num_latents=2, num_steps=3).pictures
    z, _ = here.latents(2)
    for column, psi in enumerate((-1, 0, 1)):
        for row, image in enumerate(to_uint8(here.generator(z, truncation_psi=psi))):
            top, left = MARGIN + LINE + row * (64 + GAP), MARGIN + column * (64 + GAP)
            assert (picture.image[:, top : top + 64, left : left + 64] == image).all()
    middle = picture.image[:, :, MARGIN + 64 + GAP : MARGIN + 2 * 64 + GAP]
    assert (middle[:, MARGIN + LINE :][:, :64] == middle[:, MARGIN + LINE + 64 + GAP :][:, :64]).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_networks_that_see_directions_alone_are_left_out(scene, family):
    assert bool(truncation(scene(family)).pictures) == (family != "progan")


@pytest.mark.parametrize("steps", [2, 1, 8])
def test_the_mean_must_be_among_the_steps(scene, steps):
    with pytest.raises(UserError, match=rf"^num_steps={steps} is not allowed: an odd number from 3 up"):
        truncation(scene(), num_steps=steps)
