"""Weights that change along the way, against copies of the generator that were changed as inversion changes them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from wplus.checkpoint import fingerprint
from wplus.interpolation.curve import PathContext, timeline
from wplus.interpolation.keyframes import Keyframes, key_points
from wplus.interpolation.paths import lerp
from wplus.interpolation.render import render_batch
from wplus.latents.latent import Latent, synthesize
from wplus.latents.weight_delta import WeightDelta, lerp_deltas
from wplus.models.stylegan2 import Generator

SCENE = PathContext(generator=None, perceptual=None)


def delta(generator: Generator, seed: int) -> WeightDelta:
    """Low-rank changes of matrices and kernels, whole changes of vectors."""
    rng, changes = torch.Generator().manual_seed(seed), {}
    for name, parameter in generator.synthesis.named_parameters(prefix="synthesis"):
        if parameter.ndim == 1:
            changes[name] = (0.3 * torch.randn(parameter.shape, generator=rng),)
        elif parameter.ndim > 1:
            rows, columns = len(parameter), parameter[0].numel()
            changes[name] = torch.randn(rows, 2, generator=rng), 0.1 * torch.randn(2, columns, generator=rng)
    assert {len(parts) for parts in changes.values()} == {1, 2}
    return WeightDelta(changes, fingerprint(generator), "any")


@pytest.mark.parametrize("own_noise", [False, True])
def test_frames_are_those_of_generators_changed_by_the_share_of_each_end(generator: Generator, own_noise: bool) -> None:
    first, second = delta(generator, 0), delta(generator, 1)
    noise = tuple(generator.synthesis.random_noise(3)) if own_noise else None
    plain = Keyframes(torch.randn(3, 8), "w", ("a", "b", "c"), noise=noise)
    points, t = replace(plain, deltas=(first, second, None)), timeline(3, 4)
    frames = render_batch(generator, points, lerp(points, SCENE), t)
    for row, position in enumerate(t.tolist()):
        a, b, share = (first, second, position) if position < 1 else (second, None, position - 1)
        network = generator if position == 2 else lerp_deltas(a, b, share).applied(generator)
        expected = render_batch(network, plain, lerp(plain, SCENE), t[[row]])
        torch.testing.assert_close(frames[[row]], expected, atol=1e-4, rtol=1e-4)
    assert (frames[0] - render_batch(generator, plain, lerp(plain, SCENE), t[:1])[0]).abs().max() > 0.1


def test_an_end_point_looks_as_its_inversion_did(generator: Generator) -> None:
    change, latents = delta(generator, 0), [Latent(torch.randn(6, 8), "w+", fingerprint(generator)) for _ in range(2)]
    points = key_points(latents, generator, names=["a", "b"], deltas=[None, change], closed=True)
    assert points.deltas == (None, change, None)
    frames = render_batch(generator, points, lerp(points, SCENE), torch.arange(3).double())
    torch.testing.assert_close(frames[1:2], synthesize(latents[1:], change.applied(generator)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(frames[::2], synthesize([latents[0]] * 2, generator), atol=1e-5, rtol=0)


def test_where_nothing_was_tuned_there_is_nothing_to_change(generator: Generator) -> None:
    latents = [Latent(torch.randn(8), "w", fingerprint(generator))] * 2
    assert key_points(latents, generator, names=["a", "b"], deltas=[None, None]).deltas is None
