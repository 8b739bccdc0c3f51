"""Randomness at a step is a pure function of (seed, rank, images seen, phase), so a run can resume."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


def step_seed(*parts: int | str) -> int:
    """A 63-bit seed from any tuple of integers and names, well mixed (SHA-256)."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@dataclass(frozen=True)
class Draw:
    """All random inputs of a phase for one batch, drawn at once so that micro-batches use what the full batch would.

    z, z_mix (N, z_dim); c (N, c_dim); noise one (N, 1, H, W) per layer; pl_noise (N, C, H, W) or None; layers from
    `mix_from` on take the styles of z_mix (None: no mixing in this batch).
    """

    z: Tensor
    c: Tensor
    noise: tuple[Tensor, ...]
    mix_from: int | None = None
    z_mix: Tensor | None = None
    pl_noise: Tensor | None = None

    def take(self, index: Tensor) -> Draw:
        """The part of the draw that belongs to the images `index`."""

        def part(value: object) -> object:
            if isinstance(value, Tensor):
                return value[index]
            return tuple(item[index] for item in value) if isinstance(value, tuple) else value

        return replace(self, **{f.name: part(getattr(self, f.name)) for f in fields(self)})


def micro_batches(batch_size: int, num_micro: int, group_size: int) -> list[Tensor]:
    """Split the images 0..batch_size-1 into `num_micro` index lists that keep the minibatch-stddev groups whole.

    Image n is in group n mod (batch / group_size). Taking whole groups, in the order that gives each micro-batch the
    same grouping rule, makes the accumulated gradient equal to that of the full batch.
    """
    group = min(group_size, batch_size)
    columns = torch.arange(batch_size).view(group, batch_size // group)
    return [part.reshape(-1) for part in columns.chunk(num_micro, dim=1)]
