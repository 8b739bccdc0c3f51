"""Z and Z+: inputs of the mapping network, one vector for all layers or one per layer."""

from torch import Tensor

from wplus.latents.space import LatentSpace
from wplus.models.generator import GeneratorNetwork


class Z(LatentSpace):
    """z (z_dim,), normally distributed; StyleGAN's mapping network only depends on its direction."""

    name = "z"
    is_before_mapping = True

    def reaches(self, other: LatentSpace) -> bool:
        """Only from Z: the mapping network cannot be inverted."""
        return isinstance(other, Z)

    def to_ws(self, codes: Tensor, generator: GeneratorNetwork, labels: Tensor | None = None) -> Tensor:
        """Apply the mapping network."""
        return generator.mapping(codes, labels)


class ZPlus(LatentSpace):
    """z+ (num_ws, z_dim): a separate z for each layer (Song et al. 2021, arXiv:2104.13862)."""

    name = "z+"
    of_layers = True
    is_before_mapping = True

    def reaches(self, other: LatentSpace) -> bool:
        """Only from spaces before the mapping network; a z is repeated for every layer."""
        return other.is_before_mapping

    def to_ws(self, codes: Tensor, generator: GeneratorNetwork, labels: Tensor | None = None) -> Tensor:
        """Map all layers of all codes in one pass of the mapping network."""
        repeated = None if labels is None else labels.repeat_interleave(generator.num_ws, dim=0)
        return generator.mapping(codes.flatten(0, 1), repeated)[:, 0].unflatten(0, codes.shape[:2])
