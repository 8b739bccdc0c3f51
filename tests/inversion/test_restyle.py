"""Inversion by an encoder that corrects itself."""

from __future__ import annotations

import functools

import pytest
import torch

from tests.fakes import LinearEncoder, tiny_encoder
from wplus.errors import UserError
from wplus.inversion.restyle import refine
from wplus.losses.pixel import l2

refine_pixels = functools.partial(refine, perceptual=None, weights={"l2": 1.0, "perceptual": 0.0})


def test_errors_shrink_geometrically(linear):
    targets = torch.randn(3, 1, 4, 4)
    encoder = LinearEncoder(linear, rate=0.4, is_iterative=True)
    found = refine_pixels(linear, targets, space="w", encoder=encoder, steps=6)
    start = (linear.w_of(targets) - 0.1).square().mean(dim=1)
    expected = torch.stack([start * 0.6 ** (2 * step) for step in range(1, 7)])
    torch.testing.assert_close(found.history["l2"], expected, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found.codes, linear.w_of(targets) - (linear.w_of(targets) - 0.1) * 0.6**6)


def test_the_best_pass_is_kept_and_the_last_where_asked(linear):
    targets = torch.randn(2, 1, 4, 4)
    wild = LinearEncoder(linear, rate=2.5, is_iterative=True)  # overshoots: every pass is worse
    best = refine_pixels(linear, targets, space="w+", encoder=wild, steps=3)
    last = refine_pixels(linear, targets, space="w+", encoder=wild, steps=3, keep="last")
    torch.testing.assert_close(l2(best.images, targets), best.history["l2"][0])
    torch.testing.assert_close(l2(last.images, targets), best.history["l2"][-1])
    assert (best.history["l2"][0] < best.history["l2"][-1]).all()


@pytest.mark.parametrize("space", ["w", "w+"])
def test_a_batch_gives_what_single_runs_give(stylegan, space):
    targets, encoder = torch.randn(3, 3, 8, 8), tiny_encoder(stylegan, is_iterative=True)
    invert = functools.partial(refine_pixels, space=space, encoder=encoder, steps=3, lanes=2)
    together, heard = invert(stylegan, targets), []
    for index in range(3):
        alone = invert(stylegan, targets[index : index + 1], callback=heard.append)
        assert torch.equal(alone.codes[0], together.codes[index])
        assert torch.equal(alone.history["loss"][:, 0], together.history["loss"][:, index])
    assert [each.step for each in heard] == [1, 2, 3] * 3


def test_refusals(stylegan):
    targets = torch.zeros(1, 3, 8, 8)
    with pytest.raises(UserError, match="encoder=refine"):
        refine_pixels(stylegan, targets, space="w", encoder=tiny_encoder(stylegan))
    with pytest.raises(UserError, match="needs an encoder"):
        refine_pixels(stylegan, targets, space="w", encoder=None)
    for options in ({"steps": 0}, {"keep": "first"}):
        with pytest.raises(UserError, match="not allowed"):
            refine_pixels(stylegan, targets, space="w", encoder=None, **options)
