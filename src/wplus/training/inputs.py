"""Inputs of the generator in a phase: latents, labels, noise, style mixing, drawn for the whole batch at once."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from wplus.core.distributed import rank_and_world
from wplus.models.generator import GeneratorNetwork

Rows = Tensor | slice
"""Some images of a batch: their numbers, or a slice."""


@dataclass(frozen=True)
class GeneratorInputs:
    """All random inputs of a phase for one batch, drawn at once so that micro-batches use what the full batch would.

    z, z_mix (N, z_dim); c (N, c_dim); noise one (N, 1, H, W) per layer; pl_noise (N, C, H, W) or None; layers from
    `mix_from` on take the styles of z_mix (None: no mixing in this batch; as a scalar tensor there always is a number,
    and what is computed with these inputs is the same operations for every batch).
    """

    z: Tensor
    c: Tensor
    noise: tuple[Tensor, ...]
    mix_from: int | Tensor | None = None
    z_mix: Tensor | None = None
    pl_noise: Tensor | None = None

    def take(self, index: Rows) -> GeneratorInputs:
        """The part that belongs to the images `index`."""

        def part(value: object) -> Any:
            if isinstance(value, Tensor):
                return value[index] if value.ndim else value
            return tuple(item[index] for item in value) if isinstance(value, tuple) else value

        return replace(self, **{f.name: part(getattr(self, f.name)) for f in fields(self)})


def micro_batches(batch_size: int, num_micro: int, group_size: int, device: torch.device | str = "cpu") -> list[Rows]:
    """Split the images 0..batch_size-1 into `num_micro` index lists that keep the minibatch-stddev groups whole; one
    of all images is a slice, which copies nothing.

    Image n is in group n mod (batch / group_size). Taking whole groups, in the order that gives each micro-batch the
    same grouping rule, makes the accumulated gradient equal to that of the full batch.
    """
    if num_micro == 1:
        return [slice(None)]
    columns = torch.arange(batch_size, device=device).view(group_size, -1)
    return [part.reshape(-1) for part in columns.chunk(num_micro, dim=1)]


def sample_inputs(
    generator: GeneratorNetwork,
    num: int,
    *,
    all_labels: Tensor,
    labels: Tensor | None = None,
    style_mixing_prob: float = 0.0,
    path_length: bool = False,
    fixed_form: bool = False,
) -> GeneratorInputs:
    """Inputs for `num` images from torch's generator as it is seeded, on the device of `all_labels`.

    Every process draws those of all, and takes its part: what a step sees does not depend on the number of processes.
    Labels are `labels` (num, c_dim), or drawn from `all_labels` (M, c_dim). Whether styles are mixed is one decision
    for the batch; the layer is drawn among those in use. With `path_length` the projection of the image is drawn, too.
    With `fixed_form` the layer is a tensor: the number of layers where nothing is mixed.
    """
    (rank, world), device, mix_from = rank_and_world(), all_labels.device, None
    if float(torch.rand(())) < style_mixing_prob:  # a host-side draw: no wait for the device
        mix_from = int(torch.randint(1, generator.num_active_ws, ()))
    total = num * world
    index = torch.randint(len(all_labels), (total,), device=device)
    shape = (total, generator.img_channels, generator.resolution, generator.resolution)
    drawn = GeneratorInputs(
        z=torch.randn(total, generator.z_dim, device=device),
        c=all_labels[index],
        noise=tuple(generator.synthesis.random_noise(total)),
        mix_from=mix_from,
        z_mix=torch.randn(total, generator.z_dim, device=device),
        pl_noise=torch.randn(shape, device=device) if path_length else None,
    )
    if fixed_form:
        drawn = replace(
            drawn, mix_from=torch.full((), generator.num_ws if mix_from is None else mix_from, device=device)
        )
    own = drawn if world == 1 else drawn.take(torch.arange(rank, total, world, device=device))
    return own if labels is None else replace(own, c=labels)


def style_mixing(generator: GeneratorNetwork, sample: GeneratorInputs) -> tuple[Tensor, Tensor]:
    """ws (N, num_ws, w_dim) with style mixing, and the sum of the unmixed w over the batch (w_dim,)."""
    ws = generator.mapping(sample.z, sample.c)
    total = ws.detach()[:, 0].sum(dim=0)
    if sample.mix_from is not None and sample.z_mix is not None:
        other = generator.mapping(sample.z_mix, sample.c)
        if isinstance(sample.mix_from, Tensor):
            is_own = torch.arange(ws.shape[1], device=ws.device) < sample.mix_from  # (num_ws,)
            return torch.where(is_own[:, None], ws, other), total
        ws = torch.cat([ws[:, : sample.mix_from], other[:, sample.mix_from :]], dim=1)
    return ws, total
