"""W and W+: outputs of the mapping network, one vector for all layers or one per layer (Abdal et al. 2019)."""

from torch import Tensor

from wplus.latents.space import LatentSpace, whitened
from wplus.models.generator import GeneratorNetwork


class W(LatentSpace):
    """w (w_dim,)."""

    name = "w"

    def to_ws(self, codes: Tensor, generator: GeneratorNetwork, labels: Tensor | None = None) -> Tensor:
        """The same w in every layer."""
        return codes[:, None].expand(-1, generator.num_ws, -1)

    def from_ws(self, ws: Tensor, generator: GeneratorNetwork) -> Tensor:
        """The w of the first layer, which all layers share."""
        return ws[:, 0]

    def prior_distance(self, codes: Tensor, generator: GeneratorNetwork) -> Tensor:
        """Distance (N,) in whitened coordinates."""
        return whitened(generator).distance(codes)


class WPlus(LatentSpace):
    """w+ (num_ws, w_dim): a separate w for each layer."""

    name = "w+"
    of_layers = True

    def to_ws(self, codes: Tensor, generator: GeneratorNetwork, labels: Tensor | None = None) -> Tensor:
        """The codes themselves."""
        return codes

    def from_ws(self, ws: Tensor, generator: GeneratorNetwork) -> Tensor:
        """The ws themselves."""
        return ws

    def edited(self, codes: Tensor, shift: Tensor, generator: GeneratorNetwork) -> Tensor:
        """w + e."""
        return codes + shift
