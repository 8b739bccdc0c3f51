"""Z and Z+: what the mapping network takes, one vector for all layers, or one for each."""

from torch import Tensor

from wplus.latents.space import LatentSpace
from wplus.models.generator import GeneratorNetwork


class Z(LatentSpace):
    """z (z_dim,), normal; StyleGAN's mapping network sees its direction alone."""

    name = "z"
    is_before_mapping = True

    def reaches(self, other: LatentSpace) -> bool:
        """Nothing leads back through the mapping network."""
        return isinstance(other, Z)

    def shape(self, generator: GeneratorNetwork) -> tuple[int, ...]:
        """(z_dim,)."""
        return (generator.z_dim,)

    def to_ws(self, codes: Tensor, generator: GeneratorNetwork, labels: Tensor | None = None) -> Tensor:
        """By the mapping network."""
        return generator.mapping(codes, labels)

    def from_vectors(self, vectors: Tensor, generator: GeneratorNetwork) -> Tensor:
        """They are z."""
        return vectors


class ZPlus(LatentSpace):
    """z+ (num_ws, z_dim): a z of its own for every layer (Song et al. 2021, arXiv:2104.13862)."""

    name = "z+"
    of_layers = True
    is_before_mapping = True

    def reaches(self, other: LatentSpace) -> bool:
        """z, a copy for every layer."""
        return other.is_before_mapping

    def shape(self, generator: GeneratorNetwork) -> tuple[int, ...]:
        """(num_ws, z_dim)."""
        return (generator.num_ws, generator.z_dim)

    def to_ws(self, codes: Tensor, generator: GeneratorNetwork, labels: Tensor | None = None) -> Tensor:
        """All layers of all codes in one pass of the mapping network."""
        repeated = None if labels is None else labels.repeat_interleave(generator.num_ws, dim=0)
        return generator.mapping(codes.flatten(0, 1), repeated)[:, 0].unflatten(0, codes.shape[:2])

    def from_vectors(self, vectors: Tensor, generator: GeneratorNetwork) -> Tensor:
        """z (N, z_dim) -> a copy for every layer."""
        return vectors[:, None].repeat(1, generator.num_ws, 1)
