"""Seeded samples that depend on (seed, index) alone: never on the batch size, the order or the number of processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wplus.errors import UserError
from wplus.evaluation.measure import Images
from wplus.images import to_uint8

# One stream of random numbers for each use, so that no two uses share numbers.
LATENT, SECOND_LATENT, POSITION, LABEL, NOISE = range(5)


def random_source(seed: int, stream: int, index: int) -> torch.Generator:
    """The generator of random numbers of one sample."""
    state = np.random.SeedSequence([seed, stream, index]).generate_state(1, np.uint64)[0]
    # torch seeds from 64 bits; its sign bit is given up so that Python's int always fits.
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def normal(seed: int, stream: int, indices: Sequence[int], size: int) -> Tensor:
    """Standard normal numbers (N, size), row i those of sample indices[i]."""
    return torch.stack([torch.randn(size, generator=random_source(seed, stream, index)) for index in indices])


def uniform(seed: int, stream: int, indices: Sequence[int]) -> Tensor:
    """Numbers (N,) in [0, 1), float64."""
    draws = [torch.rand((), generator=random_source(seed, stream, index), dtype=torch.float64) for index in indices]
    return torch.stack(draws)


def noise_maps(seed: int, indices: Sequence[int], shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Fresh noise for the synthesis network, one (N, 1, H, W) for each layer."""
    sources = [random_source(seed, NOISE, index) for index in indices]
    return [torch.stack([torch.randn(1, *shape, generator=source) for source in sources]) for shape in shapes]


def random_labels(generator: Any, real: Images | None, seed: int, indices: Sequence[int]) -> Tensor | None:
    """Labels (N, c_dim) drawn from those of the real images (as often as they occur); None for an unconditional net."""
    if generator.c_dim == 0:
        return None
    if real is None or real.labels is None or real.labels.shape[1] != generator.c_dim:
        found = "no labels" if real is None or real.labels is None else f"labels of {real.labels.shape[1]} classes"
        raise UserError(f"The generator is conditional on {generator.c_dim} classes and the data has {found}.")
    rows = [int(torch.randint(len(real), (), generator=random_source(seed, LABEL, index))) for index in indices]
    return real.labels[rows]


def index_batches(num: int, batch_size: int) -> list[range]:
    """0 .. num-1 in ranges of at most `batch_size`."""
    if batch_size < 1 or num < 1:
        raise UserError(f"Cannot go through {num} images in batches of {batch_size}; both must be at least 1.")
    return [range(start, min(start + batch_size, num)) for start in range(0, num, batch_size)]


def generated_images(
    generator: Any,
    *,
    num: int,
    batch_size: int,
    seed: int,
    device: torch.device | str,
    real: Images | None = None,
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
    noise_mode: str = "const",
) -> Iterator[Tensor]:
    """Yield `num` generated images as uint8 batches (B, C, H, W); image i is the same whatever the batch size.

    `noise_mode` "random" draws noise for each image from its own source instead of torch's global state.
    """
    truncation = {"truncation_psi": truncation_psi, "truncation_cutoff": truncation_cutoff}
    for indices in index_batches(num, batch_size):
        labels = random_labels(generator, real, seed, indices)
        z = normal(seed, LATENT, indices, generator.z_dim).to(device)
        noise = noise_maps(seed, indices, generator.synthesis.noise_shapes) if noise_mode == "random" else None
        yield _generate(generator, z, labels, truncation=truncation, noise_mode=noise_mode, noise=noise)


@torch.no_grad()
def _generate(generator: Any, z: Tensor, labels: Tensor | None, *, truncation: dict[str, Any], noise_mode: str,
              noise: list[Tensor] | None) -> Tensor:  # fmt: skip
    ws = generator.mapping(z, None if labels is None else labels.to(z.device), **truncation)
    noise = None if noise is None else [layer.to(z.device) for layer in noise]
    return to_uint8(generator.synthesis(ws, noise_mode=noise_mode, noise=noise))
