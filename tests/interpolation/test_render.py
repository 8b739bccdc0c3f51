import copy
from dataclasses import replace

import pytest
import torch

from tests.fakes import Brightness
from wplus.checkpoint import fingerprint
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.path import Curve, PathContext, timeline
from wplus.interpolation.paths import lerp, slerp
from wplus.interpolation.render import NeighbourDistances, render, render_batch
from wplus.latents import interpolation
from wplus.latents.latent import Latent, synthesize
from wplus.latents.weight_delta import WeightDelta
from wplus.models.stylegan2 import Generator

CONTEXT = PathContext(generator=None, perceptual=None)  # these paths look at nothing
SHAPES = {"z": (8,), "w": (8,), "w+": (6, 8)}


def keyframes(space, num=3, **more):
    return Keyframes(torch.randn(num, *SHAPES[space]), space, tuple(f"p{index}" for index in range(num)), **more)


@pytest.mark.parametrize("space", SHAPES)
@pytest.mark.parametrize("path", [lerp, slerp])
def test_frames_at_keyframes_are_the_images_of_the_latents(generator, space, path):
    keys = keyframes(space, noise=tuple(generator.synthesis.random_noise(3)))
    frames = torch.cat(list(render(generator, keys, path(keys, CONTEXT), timeline(3, 5), 4)))
    assert frames.shape == (9, 3, 16, 16)
    latents = [Latent(code, space, "", noise=tuple(layer[index] for layer in keys.noise))
               for index, code in enumerate(keys.codes)]  # fmt: skip
    torch.testing.assert_close(frames[::4], synthesize(latents, generator), atol=1e-5, rtol=0)


def test_frames_come_one_batch_at_a_time(generator):
    calls, keys = [], keyframes("w", 2)
    straight = lerp(keys, CONTEXT)
    curve = Curve(lambda t: (calls.append(len(t)), straight.codes(t))[1])
    next(render(generator, keys, curve, timeline(2, 100), 8))
    assert calls == [8]


def test_noise_keeps_its_strength_half_way():
    """With a generator that returns its noise: an rms of one at the ends stays one in the middle."""

    class Echo:
        num_ws, w_dim = 6, 8

        def synthesis(self, ws, noise_mode, noise):
            return noise[-1]

    maps = torch.randn(2, 1, 64, 64)
    maps = maps / maps.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    keys = keyframes("w", 2, noise=(maps,))
    frames = render_batch(Echo(), keys, lerp(keys, CONTEXT), timeline(2, 5))
    torch.testing.assert_close(frames.square().mean(dim=(1, 2, 3)), torch.ones(5), atol=1e-5, rtol=0)
    assert torch.equal(frames[[0, -1]], maps)


def test_labels_and_truncation_reach_the_mapping_network():
    net = Generator(resolution=8, z_dim=8, w_dim=8, c_dim=2, channel_base=64, channel_max=8, num_mapping_layers=2)
    net.mapping.w_avg.normal_()
    keys = Keyframes(torch.randn(2, 8), "z", ("a", "b"), labels=torch.eye(2), truncation_psi=0.6, truncation_cutoff=3)
    t = torch.tensor([0.25], dtype=torch.float64)
    frame = render_batch(net, keys, slerp(keys, CONTEXT), t)
    z, c = interpolation.slerp(keys.codes[:1], keys.codes[1:], t), torch.tensor([[0.75, 0.25]])
    torch.testing.assert_close(frame, net(z, c, truncation_psi=0.6, truncation_cutoff=3), atol=1e-5, rtol=0)


def test_labels_and_noise_follow_the_time_map_of_the_curve(generator):
    """A curve that stands still while its time advances shows the noise of the second keyframe at the end."""
    keys = keyframes("w", 2, noise=tuple(generator.synthesis.random_noise(2)))
    still = Curve(lambda t: keys.codes[[0]].expand(len(t), -1), time_map=lambda t: t * t)
    frames = render_batch(generator, keys, still, torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    turned = replace(keys, codes=keys.codes[[0, 0]])
    expected = render_batch(generator, turned, lerp(turned, CONTEXT), torch.tensor([0, 0.25, 1], dtype=torch.float64))
    torch.testing.assert_close(frames, expected)
    assert not torch.allclose(frames[0], frames[2])


def delta(generator, seed):
    """Low-rank changes of matrices and kernels, full changes of vectors."""
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
def test_frames_are_those_of_generators_changed_by_the_share_of_each_end(generator, own_noise):
    first, second = delta(generator, 0), delta(generator, 1)
    plain = keyframes("w", noise=tuple(generator.synthesis.random_noise(3)) if own_noise else None)
    keys, t = replace(plain, deltas=(None, first, second)), timeline(3, 4)
    frames = render_batch(generator, keys, lerp(keys, CONTEXT), t)
    networks = [generator, first.applied(generator), second.applied(generator)]
    for row, position in enumerate(t.tolist()):
        left = min(int(position), 1)
        network, ends = copy.deepcopy(generator), (end.parameters() for end in networks[left : left + 2])
        for parameter, a, b in zip(network.parameters(), *ends, strict=True):
            parameter.copy_(torch.lerp(a, b, position - left))
        expected = render_batch(network, plain, lerp(plain, CONTEXT), t[[row]])
        torch.testing.assert_close(frames[[row]], expected, atol=1e-4, rtol=1e-4)
    assert (frames[-1] - render_batch(generator, plain, lerp(plain, CONTEXT), t[-1:])[0]).abs().max() > 0.1


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 13])
def test_known_steps_whatever_the_batch_and_each_frame_passes_the_net_once(batch_size, monkeypatch):
    seen, perceptual = [], Brightness()
    features = perceptual.features
    monkeypatch.setattr(perceptual, "features", lambda images: (seen.append(len(images)), features(images))[1])
    levels = torch.tensor([0.0, 0.1, 0.3, 0.6, 1.0, 0.9, 0.7, 0.4, 0.0])
    distances = NeighbourDistances(perceptual, steps_per_transition=4)
    for part in levels.view(-1, 1, 1, 1).expand(-1, 3, 16, 16).split(batch_size):
        distances.add(part)
    expected = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)
    torch.testing.assert_close(distances.steps, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(distances.chords, torch.ones(2, dtype=torch.float64), atol=1e-6, rtol=0)
    assert sum(seen) == 9
