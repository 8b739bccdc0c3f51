"""Frames of a generator whose weights change along the way: between end points that pivotal tuning has tuned it for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.func import functional_call


class Delta(Protocol):
    """What tuning added to a generator for one image (`wplus.latents.weight_delta.WeightDelta`)."""

    changes: Mapping[str, tuple[Tensor, ...]]
    """Parameter -> (U (O, r), V (r, I ...)), whose product is its change as a matrix, or (the change,)."""


class TunedSynthesis:
    """A generator's synthesis network whose weights go straight from those of one key point to those of the next.

    Codes and weight changes both on straight lines are how HyperInverter (Dinh et al. 2022, arXiv:2112.00719) films
    the way between two images. Every frame has weights of its own and passes through the network alone.

    deltas  for each key point its change, None for the generator as it is
    clock   (T,) positions in [0, K-1] of the frames
    """

    def __init__(self, generator: Any, deltas: Sequence[Delta | None], clock: Tensor) -> None:
        self._network, self._deltas, self._clock = generator.synthesis, deltas, clock.tolist()
        self._names = {f"synthesis.{name}": name for name, _ in generator.synthesis.named_parameters()}

    def __call__(self, ws: Tensor, *, noise: Sequence[Tensor] | None = None, **options: Any) -> Tensor:
        """Images (T, C, H, W) of ws (T, num_ws, w_dim); noise and options are those of the network."""
        frames = []
        for row, position in enumerate(self._clock):
            own = None if noise is None else [layer[row : row + 1] for layer in noise]
            call = (self._network, self.parameters(position), (ws[row : row + 1],), {"noise": own, **options})
            frames.append(functional_call(*call))
        return torch.cat(frames)

    def parameters(self, position: float) -> dict[str, Tensor]:
        """The parameters that differ from the network's own at a position."""
        left = min(int(position), len(self._deltas) - 2)
        ends = ((self._deltas[left], 1 - (position - left)), (self._deltas[left + 1], position - left))
        own, found = dict(self._network.named_parameters()), {}
        for delta, weight in ends:
            for name, parts in delta.changes.items() if delta is not None and weight else ():
                short = self._names[name]
                change = parts[0] if len(parts) == 1 else parts[0] @ parts[1]
                found[short] = found.get(short, own[short]) + weight * change.to(own[short]).view_as(own[short])
        return found
