"""Seeded samples that depend only on (seed, index), not on batch size, order or number of processes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wplus.core.batching import MIN_MADE, at_least
from wplus.core.images import to_uint8
from wplus.core.random import sample_rng
from wplus.errors import UserError, check_choice
from wplus.models.generator import NOISE_MODES, GeneratorNetwork, NoiseMode

# A separate random stream for each use, so that no two uses share numbers.
LATENT, SECOND_LATENT, POSITION, LABEL, NOISE = range(5)


@dataclass(frozen=True)
class Sampling:
    """How the generator is sampled. noise_mode: "const" (stored noise), "random" (fresh for each image), "none".

    The default, no truncation and stored noise, is the protocol of the established metrics.
    """

    truncation_psi: float = 1.0
    truncation_cutoff: int | None = None
    noise_mode: NoiseMode = "const"

    def __post_init__(self) -> None:
        check_choice("noise_mode", self.noise_mode, NOISE_MODES)


PLAIN = Sampling()


def normal(seed: int, stream: int, indices: Sequence[int], size: int) -> Tensor:
    """Standard normal numbers (N, size); row i belongs to sample indices[i]."""
    return torch.stack([torch.randn(size, generator=sample_rng(seed, stream, index)) for index in indices])


def uniform(seed: int, stream: int, indices: Sequence[int]) -> Tensor:
    """Uniform numbers (N,) in [0, 1), float64."""
    sources = [sample_rng(seed, stream, index) for index in indices]
    return torch.stack([torch.rand((), generator=source, dtype=torch.float64) for source in sources])


def noise_maps(seed: int, indices: Sequence[int], shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Fresh noise for the synthesis network, one (N, 1, H, W) for each layer."""
    sources = [sample_rng(seed, NOISE, index) for index in indices]
    return [torch.stack([torch.randn(1, *shape, generator=source) for source in sources]) for shape in shapes]


def ordered_labels(labels: Tensor) -> Tensor:
    """Labels (N, c_dim) sorted by value, so that draws from them do not depend on the order of the images."""
    order = np.lexsort(labels.cpu().numpy().T[::-1])
    return labels[torch.from_numpy(order)]


def random_labels(
    generator: GeneratorNetwork, labels: Tensor | None, seed: int, indices: Sequence[int]
) -> Tensor | None:
    """Draw labels (B, c_dim) from `labels` (N, c_dim) by their frequency; None for an unconditional net."""
    if generator.c_dim == 0:
        return None
    if labels is None or labels.shape[1] != generator.c_dim:
        found = "no labels" if labels is None else f"labels of {labels.shape[1]} classes"
        raise UserError(f"The generator is conditional on {generator.c_dim} classes and the data has {found}.")
    rows = [int(torch.randint(len(labels), (), generator=sample_rng(seed, LABEL, index))) for index in indices]
    return labels[rows]


def index_batches(num: int, batch_size: int) -> list[range]:
    """Split 0 .. num-1 into ranges of at most `batch_size`."""
    if num < 1:
        raise UserError(f"num_samples must be 1 or more, got {num}.")
    return [range(start, min(start + batch_size, num)) for start in range(0, num, batch_size)]


@torch.no_grad()
def generate(
    generator: GeneratorNetwork, indices: Sequence[int], *, sampling: Sampling = PLAIN, seed: int,
    labels: Tensor | None = None, device: torch.device | str = "cpu",
) -> Tensor:  # fmt: skip
    """Generate the images with these indices, uint8 (B, C, H, W) on `device`; `labels` (B, c_dim) if conditional.

    An image does not depend on the others in its batch, and neither does its noise with `noise_mode` "random".
    """
    z = at_least(MIN_MADE, normal(seed, LATENT, indices, generator.z_dim)).to(device)
    c = None if labels is None else at_least(MIN_MADE, labels).to(device)
    noise = None
    if sampling.noise_mode == "random":
        maps = noise_maps(seed, indices, generator.synthesis.noise_shapes)
        noise = [at_least(MIN_MADE, layer).to(device) for layer in maps]
    ws = generator.mapping(z, c, truncation_psi=sampling.truncation_psi, truncation_cutoff=sampling.truncation_cutoff)
    return to_uint8(generator.synthesis(ws, noise_mode=sampling.noise_mode, noise=noise))[: len(indices)]
