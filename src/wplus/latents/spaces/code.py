"""Code: what an autoencoder's encoder answers, the w of its decoder under the name that it has there."""

from torch import Tensor

from wplus.errors import UserError
from wplus.latents.space import LatentSpace
from wplus.latents.spaces.w import W
from wplus.models.autoencoder import Decoder
from wplus.models.code_prior import CodeMapping
from wplus.models.generator import GeneratorNetwork


class Code(W):
    """code (w_dim,), with the label behind it where the decoder has labels; everything that w is."""

    name = "code"

    def of(self, generator: GeneratorNetwork) -> LatentSpace:
        """UserError for a generator whose w is no code."""
        if not isinstance(generator, Decoder):
            kind = type(generator).__module__.rpartition(".")[2]
            raise UserError(
                f"space={self} needs an autoencoder's decoder, got the generator of {kind}: its space is w."
            )
        return self

    def prior_distance(self, codes: Tensor, generator: GeneratorNetwork) -> Tensor:
        """(N,) by the prior that the decoder's samples come from."""
        mapping = generator.mapping
        assert isinstance(mapping, CodeMapping)
        return mapping.distance(codes[:, : mapping.code_dim])
