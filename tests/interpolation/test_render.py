from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from wplus.interpolation.curve import Curve, Path, PathContext, timeline
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.paths import lerp, slerp
from wplus.interpolation.render import render, render_batch
from wplus.latents import interpolation as geometry
from wplus.latents.latent import Latent, synthesize
from wplus.models.stylegan2 import Generator

SCENE = PathContext(generator=None, perceptual=None)  # these paths look at nothing
SHAPES = {"z": (8,), "w": (8,), "w+": (6, 8)}


def points(space: str, num: int = 3, **more: object) -> Keyframes:
    return Keyframes(torch.randn(num, *SHAPES[space]), space, tuple(f"p{index}" for index in range(num)), **more)


@pytest.mark.parametrize("space", ["z", "w", "w+"])
@pytest.mark.parametrize("path", [lerp, slerp])
def test_key_frames_are_the_pictures_of_the_latents(generator: Generator, space: str, path: Path) -> None:
    keys = points(space)
    keys = replace(keys, noise=tuple(generator.synthesis.random_noise(3)))
    frames = torch.cat(list(render(generator, keys, path(keys, SCENE), timeline(3, 5), 4)))
    assert frames.shape == (9, 3, 16, 16)
    latents = [
        Latent(code, space, "", noise=tuple(layer[index] for layer in keys.noise))
        for index, code in enumerate(keys.codes)
    ]
    torch.testing.assert_close(frames[::4], synthesize(latents, generator), atol=1e-5, rtol=0)


@pytest.mark.parametrize("space", ["z", "w", "w+"])
def test_batches_give_what_single_frames_give(generator: Generator, space: str) -> None:
    keys, t = points(space), timeline(3, 6)
    curve = slerp(keys, SCENE)
    whole = render_batch(generator, keys, curve, t)
    for batch_size in (1, 4):
        frames = torch.cat(list(render(generator, keys, curve, t, batch_size)))
        torch.testing.assert_close(frames, whole, atol=1e-5, rtol=0)


def test_frames_come_one_batch_at_a_time(generator: Generator) -> None:
    calls = []
    keys = points("w", 2)
    straight = lerp(keys, SCENE)
    curve = Curve(lambda t: (calls.append(len(t)), straight.codes(t))[1])
    frames = render(generator, keys, curve, timeline(2, 100), 8)
    next(frames)
    assert calls == [8]


def test_noise_keeps_its_strength_half_way(generator: Generator) -> None:
    """Seen through a generator that returns its noise: rms one at the ends stays one in the middle."""

    class Echo:
        num_ws, w_dim = 6, 8

        def synthesis(self, ws: torch.Tensor, noise_mode: str, noise: list[torch.Tensor]) -> torch.Tensor:
            return noise[-1]

    maps = torch.randn(2, 1, 64, 64)
    maps = maps / maps.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    keys = replace(points("w", 2), noise=(maps,))
    frames = render_batch(Echo(), keys, lerp(keys, SCENE), timeline(2, 5))
    torch.testing.assert_close(frames.square().mean(dim=(1, 2, 3)), torch.ones(5), atol=1e-5, rtol=0)
    assert torch.equal(frames[[0, -1]], maps)


def test_labels_and_truncation_reach_the_mapping_network() -> None:
    net = Generator(resolution=8, z_dim=8, w_dim=8, c_dim=2, channel_base=64, channel_max=8, num_mapping_layers=2)
    net.mapping.w_avg.normal_()
    keys = Keyframes(torch.randn(2, 8), "z", ("a", "b"), labels=torch.eye(2), truncation_psi=0.6, truncation_cutoff=3)
    t = torch.tensor([0.25], dtype=torch.float64)
    frame = render_batch(net, keys, slerp(keys, SCENE), t)
    z, c = geometry.slerp(keys.codes[:1], keys.codes[1:], t), torch.tensor([[0.75, 0.25]])
    torch.testing.assert_close(frame, net(z, c, truncation_psi=0.6, truncation_cutoff=3), atol=1e-5, rtol=0)


def test_labels_and_noise_follow_the_clock_of_the_curve(generator: Generator) -> None:
    """A curve that stands still while its clock runs shows the noise of the second key point at the end."""
    noise = tuple(generator.synthesis.random_noise(2))
    keys = replace(points("w", 2), noise=noise)
    still = Curve(lambda t: keys.codes[[0]].expand(len(t), -1), clock=lambda t: t * t)
    frames = render_batch(generator, keys, still, torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    turned = replace(keys, codes=keys.codes[[0, 0]])
    expected = render_batch(generator, turned, lerp(turned, SCENE), torch.tensor([0, 0.25, 1], dtype=torch.float64))
    torch.testing.assert_close(frames, expected)
    assert not torch.allclose(frames[0], frames[2])
