"""F/W+: the feature map that enters a block, and w+ (Zhu et al. 2021, Barbershop; Kang et al. 2021, BDInvert).

The map F replaces the output of the blocks below; the layers from the block on take w+, and RGB outputs start there.
An edit of w+ by e changes the map by a difference, F' = F + G_r(w + e) - G_r(w), so a code also keeps the w of the
layers below. Reconstructions are closest in this space, and a straight line between two maps is a cross-fade.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from wplus.core.random import rng
from wplus.errors import UserError
from wplus.latents.space import LatentSpace, of_weights, space_of, whitened
from wplus.latents.spaces.s import styled
from wplus.latents.w_stats import map_samples
from wplus.models.generator import GeneratorNetwork, Styles

_NAME = re.compile(r"f(\d*)/?w\+")  # names of methods and files have no slash
_LARGEST_DEFAULT = 64  # resolution of the block, with maps of 32 px, as in the literature at 1024 px
_NUM_SAMPLES, _CHUNK = 512, 32
_SMALLEST = 1e-3  # of the mean deviation


class FWPlus(LatentSpace):
    """f/w+ (C r/2 r/2 + num_ws w_dim,): the flattened map that enters block r, then w+; f16/w+ means r = 16.

    Without a block in the name, r is half the generator's resolution, limited to 8 to 64.
    """

    name = "f/w+"
    of_layers = True
    has_ws = False
    is_white = True
    keeps_images = False  # the RGB outputs of the blocks below are dropped
    cross_fades = True

    def __init__(self, block: int | None = None) -> None:
        self.block = block

    def __str__(self) -> str:
        return f"f{'' if self.block is None else self.block}/w+"

    @classmethod
    def named(cls, name: str) -> LatentSpace | None:
        """f/w+, or with its block f16/w+."""
        found = _NAME.fullmatch(name)
        return cls(int(found[1]) if found[1] else None) if found else None

    def of(self, generator: GeneratorNetwork) -> FWPlus:
        """The space with its block; UserError for a block that the generator does not have."""
        unused = generator.num_ws - generator.num_active_ws  # two layers a resolution, while a network grows
        in_use = generator.resolution >> unused // 2
        allowed = [block for block in styled(generator, str(self)).feature_shapes if block <= in_use]
        block = max(8, min(in_use // 2, _LARGEST_DEFAULT)) if self.block is None else self.block
        if block not in allowed:
            raise UserError(f"space.block must be one of {', '.join(map(str, allowed))}, got {block}.")
        return FWPlus(block)

    def shape(self, generator: GeneratorNetwork) -> tuple[int, ...]:
        """(D,), the numbers of the map followed by those of w+."""
        return (sum(self.parts(generator)),)

    def parts(self, generator: GeneratorNetwork) -> list[int]:
        """The size of the map, then w_dim for each layer of w+."""
        return [torch.Size(self._map(generator)).numel(), *[generator.w_dim] * generator.num_ws]

    def to_styles(self, codes: Tensor, generator: GeneratorNetwork) -> Styles:
        """The map, and the styles of the layers from the block on."""
        features, ws = self._split(codes, generator)
        return Styles(styled(generator, str(self)).styles_from(ws, self._block), self._block, features)

    def from_ws(self, ws: Tensor, generator: GeneratorNetwork) -> Tensor:
        """The map that the generator computes from w+ with its stored noise, and w+."""
        return torch.cat([_features(generator, ws, self._block).flatten(1), ws.flatten(1)], dim=1)

    def scale(self, generator: GeneratorNetwork) -> Tensor:
        """Standard deviations (D,): one per channel of the map, and a single one for w."""
        channels, w = _deviations(generator, self._block)
        height, width = self._map(generator)[1:]
        return torch.cat([channels.repeat_interleave(height * width), w.expand(generator.num_ws * generator.w_dim)])

    def styles(self, codes: Tensor, generator: GeneratorNetwork, labels: Tensor | None = None) -> Tensor:
        """The styles of w+ in all layers."""
        return space_of("s", generator).from_ws(self._split(codes, generator)[1], generator)

    def prior_distance(self, codes: Tensor, generator: GeneratorNetwork) -> Tensor:
        """Prior distance (N,) of w+ in the layers from the block on; maps have no prior."""
        ws = self._split(codes, generator)[1]
        return whitened(generator).distance(ws[:, self._first(generator) :])

    def edited(self, codes: Tensor, shift: Tensor, generator: GeneratorNetwork) -> Tensor:
        """F' = F + (G_r(w + e) - G_r(w)) and w + e; summed in this order, F' is exactly F where e is 0."""
        features, ws = self._split(codes, generator)
        before, after = (_features(generator, each, self._block) for each in (ws, ws + shift.to(ws)))
        return torch.cat([(features + (after - before)).flatten(1), (ws + shift.to(ws)).flatten(1)], dim=1)

    @property
    def _block(self) -> int:
        assert self.block is not None, "a space of its generator, see `of`"
        return self.block

    def _map(self, generator: GeneratorNetwork) -> tuple[int, int, int]:
        return styled(generator, str(self)).feature_shapes[self._block]

    def _first(self, generator: GeneratorNetwork) -> int:
        """Index of the first layer of w+ in use: two layers per block, one in StyleGAN2's first."""
        return sum(resolution < self._block for resolution, _ in generator.synthesis.noise_shapes)

    def _split(self, codes: Tensor, generator: GeneratorNetwork) -> tuple[Tensor, Tensor]:
        """Codes (N, D) -> the map (N, C, H, W), ws (N, num_ws, w_dim)."""
        features, ws = codes.split([self.parts(generator)[0], generator.num_ws * generator.w_dim], dim=1)
        return features.unflatten(1, self._map(generator)), ws.unflatten(1, (generator.num_ws, generator.w_dim))


def _features(generator: GeneratorNetwork, ws: Tensor, block: int) -> Tensor:
    synthesis = styled(generator, "f/w+")
    return synthesis.features(ws, block, synthesis.const_noise())


@of_weights
@torch.no_grad()
def _deviations(generator: GeneratorNetwork, block: int) -> tuple[Tensor, Tensor]:
    """Standard deviations over samples: (C,) of each channel of the map, over positions too, and () of all of w."""
    z = torch.randn(_NUM_SAMPLES, generator.z_dim, generator=rng(123, "features"))
    w = map_samples(generator, z, None)
    ws = w[:, None].expand(-1, generator.num_ws, -1)
    maps = torch.cat([_features(generator, some, block) for some in ws.split(_CHUNK)])
    channels = (maps - maps.mean(dim=(0, 2, 3), keepdim=True)).square().mean(dim=(0, 2, 3)).sqrt()
    return channels.clamp_min(float(_SMALLEST * channels.mean())), (w - w.mean(dim=0)).square().mean().sqrt()
