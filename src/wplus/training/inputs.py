"""Random inputs of the generator in a phase (latents, labels, noise, style mixing), drawn for the whole batch."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from wplus.core.distributed import rank_and_world
from wplus.models.generator import GeneratorNetwork

Rows = Tensor | slice
"""Selects images of a batch: their indices, or a slice."""


@dataclass(frozen=True)
class GeneratorInputs:
    """All random inputs of a phase, drawn for the full batch so that micro-batches do not change them.

    z, z_mix (N, z_dim); c (N, c_dim); noise: one (N, 1, H, W) per layer; pl_noise (N, C, H, W) or None. Layers from
    index `mix_from` on use the styles of z_mix (None: no mixing in this batch; if it is a scalar tensor it always has a
    value, so that the same operations are executed for every batch).
    """

    z: Tensor
    c: Tensor
    noise: tuple[Tensor, ...]
    mix_from: int | Tensor | None = None
    z_mix: Tensor | None = None
    pl_noise: Tensor | None = None

    def take(self, index: Rows) -> GeneratorInputs:
        """Return the inputs of the images `index`."""

        def part(value: object) -> Any:
            if isinstance(value, Tensor):
                return value[index] if value.ndim else value
            return tuple(item[index] for item in value) if isinstance(value, tuple) else value

        return replace(self, **{f.name: part(getattr(self, f.name)) for f in fields(self)})


def micro_batches(batch_size: int, num_micro: int, group_size: int, device: torch.device | str = "cpu") -> list[Rows]:
    """Split images 0..batch_size-1 into `num_micro` index lists without breaking up minibatch-stddev groups.

    A single micro-batch is returned as a slice, which copies nothing. Image n is in group n mod (batch / group_size).
    Taking whole groups, ordered so that the same rule holds within each micro-batch, makes the accumulated gradient
    equal to that of the full batch.
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
    """Draw inputs for `num` images from torch's seeded generator, on the device of `all_labels`.

    Every process draws the inputs of all processes and takes its share, so a step does not depend on the number of
    processes. Labels are `labels` (num, c_dim), or drawn from `all_labels` (M, c_dim). Style mixing is decided once for
    the batch, and the layer is drawn among those in use. `path_length` also draws the random projection of the images.
    With `fixed_form` the layer is a tensor, equal to the number of layers if there is no mixing.
    """
    (rank, world), device, mix_from = rank_and_world(), all_labels.device, None
    if float(torch.rand(())) < style_mixing_prob:  # drawn on the host: no synchronisation
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
    """Return ws (N, num_ws, w_dim) with style mixing, and the batch sum of the unmixed w (w_dim,)."""
    ws = generator.mapping(sample.z, sample.c)
    total = ws.detach()[:, 0].sum(dim=0)
    if sample.mix_from is not None and sample.z_mix is not None:
        other = generator.mapping(sample.z_mix, sample.c)
        if isinstance(sample.mix_from, Tensor):
            is_own = torch.arange(ws.shape[1], device=ws.device) < sample.mix_from  # (num_ws,)
            return torch.where(is_own[:, None], ws, other), total
        ws = torch.cat([ws[:, : sample.mix_from], other[:, sample.mix_from :]], dim=1)
    return ws, total
