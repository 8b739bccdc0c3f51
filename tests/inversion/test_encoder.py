"""Inversion by an encoder: one pass, or several that correct one another."""

import functools

import pytest
import torch

from tests.fakes import PIXELS_ONLY, LinearEncoder, tiny_encoder
from wplus.errors import UserError
from wplus.inversion.encoder import NUM_PASSES, check_encoder, encode, encode_chunks, passes, restyle
from wplus.inversion.task import InversionTask
from wplus.losses.pixel import L1, l2

encode_pixels = functools.partial(encode, loss_weights=PIXELS_ONLY)
restyle_pixels = functools.partial(restyle, loss_weights=PIXELS_ONLY)
w_spaces = pytest.mark.parametrize("space", ["w", "w+"])
both_kinds = pytest.mark.parametrize("is_iterative", [False, True])


def task_of(generator, encoder, num=3, space="w", **shared):
    images = torch.randn(num, generator.img_channels, generator.resolution, generator.resolution)
    return InversionTask(generator, images, space, encoder=encoder, **shared)


@w_spaces
def test_one_pass_is_the_encoders_answer(stylegan, space):
    encoder = tiny_encoder(stylegan)
    task = task_of(stylegan, encoder, space=space)
    ((latents, images),) = passes(task, 1)
    ws = encoder(task.images)
    torch.testing.assert_close(latents, ws if space == "w+" else ws[:, 0])
    torch.testing.assert_close(images, stylegan.synthesis(ws if space == "w+" else ws[:, :1].expand_as(ws)))
    assert not torch.equal(ws[0], ws[1])


@w_spaces
def test_further_passes_are_the_loop_of_restyle(stylegan, space):
    encoder = tiny_encoder(stylegan, is_iterative=True)
    task, ws = task_of(stylegan, encoder, 2, space), encoder.latent_avg.expand(2, -1, -1)
    for latents, image in passes(task, 3):
        ws = ws + encoder.offsets(torch.cat([task.images, stylegan.synthesis(ws)], dim=1))
        ws = ws[:, :1].expand_as(ws) if space == "w" else ws
        torch.testing.assert_close(latents, ws[:, 0] if space == "w" else ws)
        torch.testing.assert_close(image, stylegan.synthesis(ws))


def test_an_iterative_encoder_comes_closer_with_every_pass(linear):
    task = task_of(linear, LinearEncoder(linear, rate=0.5, is_iterative=True), 2)
    away = linear.w_of(task.images) - encode_chunks(task)
    torch.testing.assert_close(away, (linear.w_of(task.images) - 0.1) * 0.5**NUM_PASSES, atol=1e-5, rtol=0)


@w_spaces
def test_an_exact_encoder_gives_exact_latents(linear, space):
    task = task_of(linear, LinearEncoder(linear), space=space)
    found, w = encode_pixels(task), linear.w_of(task.images)
    torch.testing.assert_close(found.latents, w if space == "w" else w[:, None].expand(-1, 3, -1), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.images, task.images, atol=1e-5, rtol=0)
    shapes = {name: tuple(values.shape) for name, values in found.history.items()}
    assert shapes == dict.fromkeys(("loss", "l1", "l2"), (1, 3))
    assert (found.history["loss"] < 1e-8).all()
    assert found.noise is None
    assert (found.seconds > 0).all()


def test_the_history_measures_with_all_terms(stylegan, pooled):
    task = task_of(stylegan, tiny_encoder(stylegan), 2, "w+", perceptual=pooled, losses={"again": L1()})
    found = encode(task, loss_weights={"again": 2.0})
    torch.testing.assert_close(found.history["l2"][0], l2(found.images, task.images))
    torch.testing.assert_close(found.history["perceptual"][0], pooled(found.images, task.images))
    expected = 10 * found.history["l2"] + found.history["perceptual"] + 2 * found.history["again"]
    torch.testing.assert_close(found.history["loss"], expected)


def test_the_best_pass_is_returned_and_the_last_where_asked(linear):
    wild = LinearEncoder(linear, rate=2.5, is_iterative=True)  # overshoots: every pass is worse
    task = task_of(linear, wild, 2, "w+")
    best, last = (restyle_pixels(task, num_passes=3, return_best=choice) for choice in (True, False))
    torch.testing.assert_close(l2(best.images, task.images), best.history["l2"][0])
    torch.testing.assert_close(l2(last.images, task.images), last.history["l2"][-1])
    assert (best.history["l2"][0] < best.history["l2"][-1]).all()


def test_refusals(stylegan, linear):
    encoder = tiny_encoder(stylegan)
    w_plus_only = tiny_encoder(stylegan)
    w_plus_only.spaces = ("w+",)
    for given, generator, space, message in (
        (None, stylegan, "w", "checkpoint has none: train one"),
        (encoder, stylegan, "z", r"space must be one of w, w\+, which the encoder predicts, or .*, got 'z'"),
        (encoder, stylegan, "z+", r"space must be one of w, w\+, which the encoder predicts, or .*, got 'z\+'"),
        (w_plus_only, stylegan, "w", r"space must be one of w\+, which the encoder predicts, or .*, got 'w'"),
        (encoder, linear, "w+", r"must be the generator's \(3, 16, 1\), got \(4, 12, 3\)"),
    ):
        with pytest.raises(UserError, match=message):
            check_encoder(given, generator, space)
    with pytest.raises(UserError, match="inverter=restyle needs an encoder that sees its own reconstruction"):
        restyle_pixels(task_of(stylegan, encoder))
    with pytest.raises(UserError, match="got 'ssim'"):
        encode(task_of(stylegan, encoder), loss_weights={**PIXELS_ONLY, "ssim": 1.0})
