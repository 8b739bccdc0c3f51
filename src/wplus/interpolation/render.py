"""Render images along a curve in batches, for videos of any length, and measure distances between neighbours."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.path import Curve, along
from wplus.latents import interpolation
from wplus.latents.latent import decode
from wplus.latents.weight_delta import WeightDelta
from wplus.losses.image_pair import ImageDistance
from wplus.models.generator import GeneratorNetwork, Styles


def render(
    generator: GeneratorNetwork, keyframes: Keyframes, curve: Curve, t: Tensor, batch_size: int
) -> Iterator[Tensor]:
    """Yield the frames at positions t (T,) in [0, K-1] as batches (B, C, H, W), float, about [-1, 1].

    Codes and noise are also computed batch by batch, so memory does not grow with T.
    """
    for positions in t.split(batch_size):
        yield render_batch(generator, keyframes, curve, positions)


@torch.no_grad()
def render_batch(generator: GeneratorNetwork, keyframes: Keyframes, curve: Curve, t: Tensor) -> Tensor:
    """Images (T, C, H, W) at positions t (T,)."""
    return synthesize(generator, keyframes, curve.codes(t), curve.time_map(t))


def synthesize(generator: GeneratorNetwork, keyframes: Keyframes, codes: Tensor, times: Tensor) -> Tensor:
    """Images (T, C, H, W) of codes (T, *shape) in the keyframes' space, differentiable with respect to the codes.

    `times` (T,) in [0, K-1] are the positions of labels (in z and z+), noise and tuned weights. Labels and weights are
    interpolated linearly. Noise maps, each treated as a vector of H * W numbers, follow the great circle: their rms is
    one, which linear interpolation would shrink to 0.71 halfway, smoothing the image there.
    """
    noise = None
    if keyframes.noise is not None:
        flat = [along(layer.flatten(1), times, interpolation.slerp) for layer in keyframes.noise]
        noise = [x.unflatten(1, layer.shape[1:]) for x, layer in zip(flat, keyframes.noise, strict=True)]
    drawn = decoded(generator, keyframes, codes, times)
    if keyframes.deltas is None:
        return generator.synthesis(drawn, noise_mode="const", noise=noise)
    assert isinstance(drawn, Tensor), "keyframes with deltas have ws"
    return _tuned_synthesis(generator.synthesis, keyframes.deltas, times, drawn, noise)


def decoded(generator: GeneratorNetwork, keyframes: Keyframes, codes: Tensor, times: Tensor) -> Tensor | Styles:
    """Decode codes of any space to ws (T, num_ws, w_dim), or styles; for spaces after the mapping network, truncation
    is already part of the keyframes."""
    labels = None if keyframes.labels is None else along(keyframes.labels, times, interpolation.lerp)
    return decode(codes, keyframes.space, generator, labels=labels, truncation_psi=keyframes.truncation_psi,
                 truncation_cutoff=keyframes.truncation_cutoff)  # fmt: skip


def _tuned_synthesis(
    network: nn.Module, deltas: Sequence[WeightDelta | None], times: Tensor, ws: Tensor, noise: list[Tensor] | None
) -> Tensor:
    """Images (T, C, H, W) with weights interpolated linearly between keyframes.

    Interpolating both codes and weight changes linearly follows HyperInverter (Dinh et al. 2022, arXiv:2112.00719).
    Every frame has its own weights and goes through the network separately.
    """
    frames = []
    for row, position in enumerate(times.tolist()):
        own = None if noise is None else [layer[row : row + 1] for layer in noise]
        options = {"noise_mode": "const", "noise": own}
        frames.append(functional_call(network, _weights_at(network, deltas, position), (ws[row : row + 1],), options))
    return torch.cat(frames)


def _weights_at(network: nn.Module, deltas: Sequence[WeightDelta | None], position: float) -> dict[str, Tensor]:
    """Return the parameters that differ from the network's own at a position."""
    left = min(int(position), len(deltas) - 2)
    own, found = dict(network.named_parameters()), dict[str, Tensor]()
    for delta, weight in ((deltas[left], 1 - (position - left)), (deltas[left + 1], position - left)):
        for name, parts in delta.changes.items() if delta is not None and weight else ():
            short = name.removeprefix("synthesis.")
            change = parts[0] if len(parts) == 1 else parts[0] @ parts[1]
            found[short] = found.get(short, own[short]) + weight * change.to(own[short]).view_as(own[short])
    return found


class NeighbourDistances:
    """Accumulates the distances between neighbouring frames and between neighbouring keyframes, batch by batch.

    Each frame goes through the net once, and only the features of the last frame and the last keyframe are kept.
    With s = `steps_per_transition`, the keyframes are frames 0, s, 2 s, ...
    """

    def __init__(self, perceptual: ImageDistance, *, steps_per_transition: int) -> None:
        self.perceptual, self.steps_per_transition, self.num_frames = perceptual, steps_per_transition, 0
        self._steps: list[Tensor] = []
        self._chords: list[Tensor] = []
        self._last: list[Tensor] = []
        self._last_key: list[Tensor] = []

    @torch.no_grad()
    def add(self, images: Tensor) -> None:
        """Add the next B frames, images (B, C, H, W), float in [-1, 1]."""
        features = self.perceptual.features(images)
        chain = [torch.cat(maps) for maps in zip(self._last, features, strict=True)] if self._last else features
        if len(chain[0]) > 1:
            self._steps.append(self.perceptual.distance([x[:-1] for x in chain], [x[1:] for x in chain]).cpu())
        self._last = [x[-1:] for x in features]
        for row in range(-self.num_frames % self.steps_per_transition, len(images), self.steps_per_transition):
            key = [x[row : row + 1] for x in features]
            if self._last_key:
                self._chords.append(self.perceptual.distance(self._last_key, key).cpu())
            self._last_key = key
        self.num_frames += len(images)

    @property
    def flat(self) -> Tensor:
        """Distances from every frame to the next, float64 (frames - 1,)."""
        return torch.cat(self._steps).double()

    @property
    def steps(self) -> Tensor:
        """The same as (transitions, steps_per_transition)."""
        return self.flat.reshape(-1, self.steps_per_transition)

    @property
    def chords(self) -> Tensor:
        """Distances between neighbouring keyframes, float64 (transitions,)."""
        return torch.cat(self._chords).double()
