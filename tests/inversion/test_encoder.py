"""Inversion by one pass."""

from __future__ import annotations

import functools

import pytest
import torch

from tests.fakes import LinearEncoder, tiny_encoder
from wplus.errors import UserError
from wplus.inversion.encoder import encode
from wplus.losses.pixel import L1, l2
from wplus.losses.ssim import SSIM

encode_pixels = functools.partial(encode, perceptual=None, weights={"l2": 1.0, "perceptual": 0.0})


@pytest.mark.parametrize("space", ["w", "w+"])
def test_an_exact_encoder_gives_exact_codes(linear, space):
    targets = torch.randn(3, 1, 4, 4)
    found = encode_pixels(linear, targets, space=space, encoder=LinearEncoder(linear))
    w = linear.w_of(targets)
    torch.testing.assert_close(found.codes, w if space == "w" else w[:, None].expand(-1, 3, -1), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.images, targets, atol=1e-5, rtol=0)
    assert {name: tuple(values.shape) for name, values in found.history.items()} == dict.fromkeys(
        ("loss", "l1", "l2"), (1, 3)
    )
    assert (found.history["loss"] < 1e-8).all()
    assert found.noise is None
    assert (found.seconds > 0).all()


def test_the_history_measures_with_all_terms(stylegan, pooled):
    targets = torch.randn(2, 3, 8, 8)
    found = encode(
        stylegan, targets, space="w+", perceptual=pooled, encoder=tiny_encoder(stylegan), losses={"again": L1()},
        weights={"again": 2.0},
    )  # fmt: skip
    torch.testing.assert_close(found.history["l2"][0], l2(found.images, targets))
    torch.testing.assert_close(found.history["perceptual"][0], pooled(found.images, targets))
    expected = 10 * found.history["l2"] + found.history["perceptual"] + 2 * found.history["again"]
    torch.testing.assert_close(found.history["loss"], expected)


def test_a_batch_gives_what_single_runs_give(stylegan):
    targets, encoder = torch.randn(5, 3, 8, 8), tiny_encoder(stylegan)
    invert = functools.partial(encode_pixels, space="w+", encoder=encoder, lanes=2)
    together = invert(stylegan, targets)
    for index in range(5):
        alone = invert(stylegan, targets[index : index + 1])
        assert torch.equal(alone.codes[0], together.codes[index])
        assert torch.equal(alone.images[0], together.images[index])
        assert torch.equal(alone.history["loss"][:, 0], together.history["loss"][:, index])


def test_the_caller_hears_of_the_pass(stylegan):
    heard = []
    targets = torch.randn(3, 3, 8, 8)
    found = encode_pixels(stylegan, targets, space="w", encoder=tiny_encoder(stylegan), callback=heard.append)
    assert [(each.step, each.num_steps) for each in heard] == [(1, 1)]
    assert torch.equal(heard[0].images, found.images)


def test_refusals(stylegan):
    targets = torch.zeros(1, 3, 8, 8)
    with pytest.raises(UserError, match="needs an encoder"):
        encode_pixels(stylegan, targets, space="w", encoder=None)
    with pytest.raises(UserError, match="no code in z"):
        encode_pixels(stylegan, targets, space="z", encoder=tiny_encoder(stylegan))
    with pytest.raises(UserError, match="no term 'ssim'"):
        encode_pixels(stylegan, targets, space="w", encoder=tiny_encoder(stylegan), weights={"ssim": 1.0})
    assert encode_pixels(stylegan, targets, space="w", encoder=tiny_encoder(stylegan), losses={"ssim": SSIM()})
