"""What encoders are asked, and how."""

from __future__ import annotations

import pytest
import torch

from tests.fakes import LinearEncoder, tiny_encoder
from wplus.errors import UserError
from wplus.inversion.encoding import REFINEMENTS, check_encoder, encoded, passes


@pytest.mark.parametrize("space", ["w", "w+"])
def test_one_pass_is_the_encoders_answer(stylegan, space):
    encoder, images = tiny_encoder(stylegan), torch.randn(3, 3, 8, 8)
    ((codes, pictures),) = passes(stylegan, encoder, images, space=space, num=1)
    ws = encoder(images)
    expected = ws if space == "w+" else ws[:, :1].expand_as(ws)
    torch.testing.assert_close(codes, ws if space == "w+" else ws[:, 0])
    torch.testing.assert_close(pictures, stylegan.synthesis(expected))
    assert not torch.equal(ws[0], ws[1])


@pytest.mark.parametrize("space", ["w", "w+"])
def test_refinement_is_the_loop_of_restyle(stylegan, space):
    encoder, images = tiny_encoder(stylegan, is_iterative=True), torch.randn(2, 3, 8, 8)
    ws = encoder.latent_avg.expand(2, -1, -1)
    for codes, picture in passes(stylegan, encoder, images, space=space, num=3):
        ws = ws + encoder.offsets(torch.cat([images, stylegan.synthesis(ws)], dim=1))
        ws = ws[:, :1].expand_as(ws) if space == "w" else ws
        torch.testing.assert_close(codes, ws[:, 0] if space == "w" else ws)
        torch.testing.assert_close(picture, stylegan.synthesis(ws))


@pytest.mark.parametrize("is_iterative", [False, True])
def test_codes_do_not_depend_on_the_batch(stylegan, is_iterative):
    encoder, images = tiny_encoder(stylegan, is_iterative=is_iterative), torch.randn(5, 3, 8, 8)
    together = encoded(stylegan, encoder, images, space="w+", lanes=2)
    alone = [encoded(stylegan, encoder, images[i : i + 1], space="w+", lanes=2) for i in range(5)]
    assert torch.equal(together, torch.cat(alone))


def test_an_iterative_encoder_comes_closer_with_every_pass(linear):
    images, halfway = torch.randn(2, 1, 4, 4), LinearEncoder(linear, rate=0.5, is_iterative=True)
    away = linear.w_of(images) - encoded(linear, halfway, images, space="w", lanes=2)
    torch.testing.assert_close(away, (linear.w_of(images) - 0.1) * 0.5**REFINEMENTS, atol=1e-5, rtol=0)


@pytest.mark.parametrize("is_iterative", [False, True])
def test_nothing_outside_the_mask_matters(stylegan, is_iterative):
    encoder, images, masks = (
        tiny_encoder(stylegan, is_iterative=is_iterative),
        torch.randn(2, 3, 8, 8),
        torch.rand(2, 1, 8, 8),
    )
    masks[:, :, 4:] = 0
    other = torch.where(masks > 0, images, torch.randn_like(images))
    first, second = (encoded(stylegan, encoder, each, space="w+", lanes=2, masks=masks) for each in (images, other))
    assert torch.equal(first, second)
    whole = encoded(stylegan, encoder, images, space="w+", lanes=2, masks=torch.ones(2, 1, 8, 8))
    torch.testing.assert_close(whole, encoded(stylegan, encoder, images, space="w+", lanes=2))
    assert not torch.equal(first, whole)


def test_refusals(stylegan, linear):
    encoder = tiny_encoder(stylegan)
    with pytest.raises(UserError, match=r"checkpoint has none: train one"):
        check_encoder(None, stylegan, "w")
    for space in ("z", "z+"):
        with pytest.raises(UserError, match=rf"no code in {space[0]}.*w and w\+"):
            check_encoder(encoder, stylegan, space)
    encoder.spaces = ("w+",)
    with pytest.raises(UserError, match=r"no code in w: this one answers in w\+"):
        check_encoder(encoder, stylegan, "w")
    with pytest.raises(UserError, match=r"\(4, 12, 3\), the generator's \(3, 16, 1\)"):
        check_encoder(encoder, linear, "w+")
