"""Positions along a curve -> images, in batches, so that a film of any length fits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from wplus.errors import UserError
from wplus.interpolation.curve import Curve, along
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.tuned import TunedSynthesis
from wplus.latents import interpolation as geometry
from wplus.latents.latent import to_ws


def render(generator: Any, points: Keyframes, curve: Curve, t: Tensor, batch_size: int) -> Iterator[Tensor]:
    """Yield the frames at positions t (T,) in [0, K-1] as batches (B, C, H, W), float, about [-1, 1].

    Codes and noise are computed batch by batch too: nothing grows with T.
    """
    check_batch_size(batch_size)
    for positions in t.split(batch_size):
        yield render_batch(generator, points, curve, positions)


def check_batch_size(batch_size: int) -> None:
    """UserError for a batch of nothing."""
    if batch_size < 1:
        raise UserError(f"batch_size={batch_size} is not allowed: it must be 1 or more.")


@torch.no_grad()
def render_batch(generator: Any, points: Keyframes, curve: Curve, t: Tensor) -> Tensor:
    """Images (T, C, H, W) at positions t (T,)."""
    return pictures(generator, points, curve.codes(t), curve.clock(t))


def pictures(generator: Any, points: Keyframes, codes: Tensor, clock: Tensor) -> Tensor:
    """Images (T, C, H, W) of codes (T, *shape) of the points' space, differentiable in the codes.

    `clock` (T,) in [0, K-1] is where labels (in z and z+), noise and tuned weights are. Labels and weights go straight
    from one to the next. Noise maps go along the great circle: they have an rms of one, which a straight line would
    shrink to 0.71 half way and so smooth the picture there.
    """
    noise = None if points.noise is None else [_noise_at(layer, clock) for layer in points.noise]
    tuned = points.deltas is not None
    synthesis = TunedSynthesis(generator, points.deltas, clock) if tuned else generator.synthesis
    return synthesis(styles(generator, points, codes, clock), noise_mode="const", noise=noise)


def styles(generator: Any, points: Keyframes, codes: Tensor, clock: Tensor) -> Tensor:
    """Codes of any space -> (T, num_ws, w_dim); key points of w and w+ had their truncation applied already."""
    labels = None if points.labels is None else along(points.labels, clock, geometry.lerp)
    truncation = {"truncation_psi": points.truncation_psi, "truncation_cutoff": points.truncation_cutoff}
    return to_ws(codes, points.space, generator, labels=labels, **truncation)


def _noise_at(layer: Tensor, clock: Tensor) -> Tensor:
    """Noise (K, 1, H, W) at positions (T,): (T, 1, H, W), each map one vector of H * W numbers."""
    return along(layer.flatten(1), clock, geometry.slerp).unflatten(1, layer.shape[1:])
