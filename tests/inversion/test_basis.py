"""Coordinates for Adam: an orthogonal turn, found once, that helps where the code's own coordinates are bad."""

from __future__ import annotations

import functools

import pytest
import torch

from tests.fakes import LinearGenerator
from wplus.errors import UserError
from wplus.inversion import basis
from wplus.inversion.basis import Basis, gradient_axes
from wplus.inversion.objective import weights_by_name
from wplus.inversion.optimize import optimize
from wplus.losses.pixel import l2

PIXELS_ONLY = {"l2": 1.0, "perceptual": 0.0}
pixels = functools.partial(optimize, perceptual=None, weights=PIXELS_ONLY)
OPTIONS = {"perceptual": None, "losses": None, "weights": weights_by_name(PIXELS_ONLY, ())}


class SteepGenerator(LinearGenerator):
    """The linear generator with one direction of w, not an axis, that counts a hundred times as much as the others."""

    def __init__(self) -> None:
        super().__init__()
        steep = torch.ones(16) / 4
        self.to_pixels.copy_((torch.eye(16) * 0.05 + torch.outer(steep, steep)) @ self.to_pixels)


def test_a_turn_and_back():
    axes = torch.linalg.qr(torch.randn(3, 5, 5))[0]
    turned = Basis(axes, lanes=2).turn(codes := torch.randn(4, 3, 5))
    torch.testing.assert_close(turned[1, 2], codes[1, 2] @ axes[2])
    torch.testing.assert_close(Basis(axes, lanes=2).back(turned), codes)
    assert Basis(None, lanes=2).turn(codes) is codes


@pytest.mark.parametrize(("space", "shape"), [("z", (8, 8)), ("z+", (4, 8, 8)), ("w", (12, 12)), ("w+", (4, 12, 12))])
def test_axes_are_orthonormal_in_every_space(stylegan, space, shape):
    axes = gradient_axes(stylegan, space=space, **OPTIONS)
    assert axes.shape == shape
    torch.testing.assert_close(axes.mT @ axes, torch.eye(shape[-1]).expand(shape), atol=1e-5, rtol=0)


def test_the_steepest_axis_comes_last():
    axes = gradient_axes(SteepGenerator(), space="w", **OPTIONS)
    torch.testing.assert_close(axes[:, -1].abs(), torch.full((16,), 0.25), atol=0.02, rtol=0)


def test_adam_gets_further_along_its_axes():
    generator, targets = SteepGenerator(), 0.2 * torch.randn(3, 1, 4, 4)
    ends = {
        kind: l2(pixels(generator, targets, space="w", steps=60, basis=kind).images, targets) for kind in basis.BASES
    }
    assert (ends["gradients"] < 0.7 * ends["none"]).all()


def test_axes_are_found_once_per_generator_and_loss(stylegan, monkeypatch):
    first = gradient_axes(stylegan, space="w", **OPTIONS)
    monkeypatch.setattr(basis, "_axes", lambda *_: torch.eye(12))
    assert gradient_axes(stylegan, space="w", **OPTIONS) is first
    other = {**OPTIONS, "weights": weights_by_name({"l1": 1.0, "perceptual": 0.0}, ())}
    assert torch.equal(gradient_axes(stylegan, space="w", **other), torch.eye(12))


@pytest.mark.parametrize("space", ["z", "z+", "w", "w+"])
def test_a_batch_gives_what_single_runs_give(stylegan, space):
    targets, names = torch.rand(3, 3, 8, 8), ["a", "b", "c"]
    options = {"space": space, "steps": 8, "lanes": 2, "basis": "gradients"}
    together = pixels(stylegan, targets, names=names, **options)
    for index in range(3):
        alone = pixels(stylegan, targets[index : index + 1], names=names[index : index + 1], **options)
        assert torch.equal(alone.codes[0], together.codes[index])
    assert (together.history["loss"][-1] < together.history["loss"][0]).all()


def test_a_conditional_generator_has_axes_too(conditional):
    found = pixels(conditional, torch.rand(2, 3, 8, 8), space="z", labels=torch.eye(3)[:2], steps=5, basis="gradients")
    assert found.codes.isfinite().all()


def test_an_unknown_basis(linear):
    with pytest.raises(UserError, match="basis=pca.*none, gradients"):
        pixels(linear, torch.zeros(1, 1, 4, 4), space="w", steps=1, basis="pca")
