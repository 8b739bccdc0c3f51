"""W and W+: outputs of the mapping network, one vector for all layers or one per layer (Abdal et al. 2019)."""

from torch import Tensor

from wplus.latents.space import LatentSpace, whitened
from wplus.models.generator import GeneratorNetwork


class W(LatentSpace):
    """w (w_dim,)."""

    name = "w"

    def shape(self, generator: GeneratorNetwork) -> tuple[int, ...]:
        """(w_dim,)."""
        return (generator.w_dim,)

    def to_ws(self, codes: Tensor, generator: GeneratorNetwork, labels: Tensor | None = None) -> Tensor:
        """The same w in every layer."""
        return codes[:, None].expand(-1, generator.num_ws, -1)

    def from_ws(self, ws: Tensor, generator: GeneratorNetwork) -> Tensor:
        """The w of the first layer, which all layers share."""
        return ws[:, 0]

    def from_vectors(self, vectors: Tensor, generator: GeneratorNetwork) -> Tensor:
        """The vectors themselves."""
        return vectors

    def prior_distance(self, codes: Tensor, generator: GeneratorNetwork) -> Tensor:
        """Distance (N,) in whitened coordinates."""
        return whitened(generator).distance(codes)


class WPlus(LatentSpace):
    """w+ (num_ws, w_dim): a separate w for each layer."""

    name = "w+"
    of_layers = True

    def shape(self, generator: GeneratorNetwork) -> tuple[int, ...]:
        """(num_ws, w_dim)."""
        return (generator.num_ws, generator.w_dim)

    def to_ws(self, codes: Tensor, generator: GeneratorNetwork, labels: Tensor | None = None) -> Tensor:
        """The codes themselves."""
        return codes

    def from_ws(self, ws: Tensor, generator: GeneratorNetwork) -> Tensor:
        """The ws themselves."""
        return ws

    def edited(self, codes: Tensor, shift: Tensor, generator: GeneratorNetwork) -> Tensor:
        """w + e."""
        return codes + shift

    def from_vectors(self, vectors: Tensor, generator: GeneratorNetwork) -> Tensor:
        """w (N, w_dim), repeated for every layer."""
        return vectors[:, None].repeat(1, generator.num_ws, 1)
