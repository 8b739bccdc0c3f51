"""W and W+: what the mapping network answers, one vector for all layers, or one for each (Abdal et al. 2019)."""

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
        """That of the first layer, which is that of all."""
        return ws[:, 0]

    def from_vectors(self, vectors: Tensor, generator: GeneratorNetwork) -> Tensor:
        """They are w."""
        return vectors

    def prior_distance(self, codes: Tensor, generator: GeneratorNetwork) -> Tensor:
        """(N,) in whitened coordinates, once for all layers."""
        return whitened(generator).distance(codes)


class WPlus(LatentSpace):
    """w+ (num_ws, w_dim): a w of its own for every layer."""

    name = "w+"
    of_layers = True

    def shape(self, generator: GeneratorNetwork) -> tuple[int, ...]:
        """(num_ws, w_dim)."""
        return (generator.num_ws, generator.w_dim)

    def to_ws(self, codes: Tensor, generator: GeneratorNetwork, labels: Tensor | None = None) -> Tensor:
        """They are ws."""
        return codes

    def from_ws(self, ws: Tensor, generator: GeneratorNetwork) -> Tensor:
        """They are w+."""
        return ws

    def edited(self, codes: Tensor, shift: Tensor, generator: GeneratorNetwork) -> Tensor:
        """w + e."""
        return codes + shift

    def from_vectors(self, vectors: Tensor, generator: GeneratorNetwork) -> Tensor:
        """w (N, w_dim) -> a copy for every layer."""
        return vectors[:, None].repeat(1, generator.num_ws, 1)
