"""S, StyleSpace: the styles that the affine layers compute from w+, one per channel (Wu et al. 2021, arXiv:2011.12799).

The most disentangled space of a StyleGAN: single channels control single attributes. The map from w+ is exact and has
no inverse. Channels differ in scale, so everything is measured in their standard deviations under the prior.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.core.random import rng
from wplus.errors import UserError
from wplus.latents.interpolation import precise
from wplus.latents.space import LatentSpace, of_weights
from wplus.latents.w_stats import map_samples
from wplus.models.generator import GeneratorNetwork, StyledSynthesis, Styles

NUM_SAMPLES, _NUM_KEPT, _CHUNK = 10_000, 2000, 1000
_SMALLEST = 1e-3  # of the mean deviation; bounds channels that do not vary


@dataclass(frozen=True)
class StyleStats:
    """Mean and standard deviation (D,) of each channel over samples of the prior, and normalized samples (M, D)."""

    mean: Tensor
    std: Tensor
    samples: Tensor

    def normalized(self, styles: Tensor) -> Tensor:
        """Styles (..., D) with the mean subtracted, divided by the standard deviation."""
        return (styles - self.mean.to(styles)) / self.std.to(styles)

    def distance(self, styles: Tensor) -> Tensor:
        """Styles (N, D) -> cosine distance (N,) of normalized styles to the nearest sample of the prior.

        After the normalized style space of Cao et al. 2022 (arXiv:2209.12746), who report that latents far from the
        generator's samples are harder to edit.
        """
        directions = F.normalize(self.normalized(styles), dim=1)
        return 1 - (directions @ F.normalize(self.samples.to(styles), dim=1).T).amax(dim=1)


@of_weights
@torch.no_grad()
def style_stats(generator: GeneratorNetwork) -> StyleStats:
    """Estimate from a fixed set of samples, which covers the classes of a conditional generator evenly."""
    z = torch.randn(NUM_SAMPLES, generator.z_dim, generator=rng(123, "styles"))
    w = map_samples(generator, z, None)
    kept = S().from_vectors(w[:_NUM_KEPT], generator)
    total, squares = torch.zeros(2, kept.shape[1], dtype=precise(kept[:1]).dtype, device=kept.device)
    for some in w.split(_CHUNK):
        styles = precise(S().from_vectors(some, generator) - kept[0])  # minus a sample, so that squares stay small
        total, squares = total + styles.sum(dim=0), squares + styles.square().sum(dim=0)
    mean, num = total / len(w), len(w)
    std = ((squares - num * mean.square()).clamp_min(0) / (num - 1)).sqrt().to(w)
    std = std.clamp_min(float(_SMALLEST * std.mean()))
    mean = mean.to(w) + kept[0]
    return StyleStats(mean, std, (kept - mean) / std)


def styled(generator: GeneratorNetwork, space: str) -> StyledSynthesis:
    """The synthesis network; UserError if its layers have no styles."""
    if not isinstance(generator.synthesis, StyledSynthesis):
        kind = type(generator).__module__.rpartition(".")[2]
        raise UserError(f"space={space} needs a generator whose layers have styles, StyleGAN's or StyleGAN2's, got "
                        f"{kind}.")  # fmt: skip
    return generator.synthesis


def channel_names(generator: GeneratorNetwork) -> list[str]:
    """Name of each number of a code, layer and channel: `b16.conv1.45`."""
    sizes = styled(generator, "s").style_sizes
    return [f"{layer}.{channel}" for layer, size in sizes.items() for channel in range(size)]


class S(LatentSpace):
    """s (D,): the styles of all layers, including RGB layers, concatenated from coarse to fine."""

    name = "s"
    of_layers = True
    has_ws = False
    is_white = True

    def of(self, generator: GeneratorNetwork) -> LatentSpace:
        """The space; UserError for a generator whose layers have no styles."""
        styled(generator, str(self))
        return self

    def shape(self, generator: GeneratorNetwork) -> tuple[int, ...]:
        """(D,), the channels of all layers."""
        return (sum(self.parts(generator)),)

    def parts(self, generator: GeneratorNetwork) -> list[int]:
        """Channels of each layer."""
        return list(styled(generator, str(self)).style_sizes.values())

    def to_styles(self, codes: Tensor, generator: GeneratorNetwork) -> Styles:
        """Codes split into the styles of each layer."""
        return Styles(codes.split(self.parts(generator), dim=1))

    def from_ws(self, ws: Tensor, generator: GeneratorNetwork) -> Tensor:
        """Apply the affine layers."""
        return torch.cat(styled(generator, str(self)).styles(ws), dim=1)

    def edited(self, codes: Tensor, shift: Tensor, generator: GeneratorNetwork) -> Tensor:
        """s + A e: the affine layers shift every latent equally, A(w + e) - A(w) = A(e) - A(0)."""
        ends = torch.stack([shift, torch.zeros_like(shift)]).to(codes)
        moved, still = self.from_ws(ends, generator)
        return codes + (moved - still)

    def styles(self, codes: Tensor, generator: GeneratorNetwork, labels: Tensor | None = None) -> Tensor:
        """The codes themselves."""
        return codes

    def scale(self, generator: GeneratorNetwork) -> Tensor:
        """Standard deviation of each channel, (D,)."""
        return style_stats(generator).std

    def prior_distance(self, codes: Tensor, generator: GeneratorNetwork) -> Tensor:
        """Mean square of the normalized channels, (N,)."""
        return style_stats(generator).normalized(codes).square().mean(dim=1)
