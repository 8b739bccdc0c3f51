"""Code: the output of an autoencoder's encoder, which is the w of its decoder under its usual name."""

from torch import Tensor

from wplus.errors import UserError
from wplus.latents.space import LatentSpace
from wplus.latents.spaces.w import W
from wplus.models.autoencoder import Decoder
from wplus.models.code_prior import CodeMapping
from wplus.models.generator import GeneratorNetwork


class Code(W):
    """code (w_dim,), followed by the label if the decoder has labels; otherwise identical to w."""

    name = "code"

    def of(self, generator: GeneratorNetwork) -> LatentSpace:
        """The space; UserError for a generator whose w is not a code."""
        if not isinstance(generator, Decoder):
            kind = type(generator).__module__.rpartition(".")[2]
            raise UserError(
                f"space={self} needs an autoencoder's decoder, got the generator of {kind}: its space is w."
            )
        return self

    def prior_distance(self, codes: Tensor, generator: GeneratorNetwork) -> Tensor:
        """Distance (N,) under the prior that the decoder samples from."""
        mapping = generator.mapping
        assert isinstance(mapping, CodeMapping)
        return mapping.distance(codes[:, : mapping.code_dim])
