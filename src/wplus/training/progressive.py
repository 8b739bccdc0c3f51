"""Schedule of progressive growing: the level of detail as a function of the clock, and its consequences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wplus.errors import UserError
from wplus.models.network import Network
from wplus.models.progressive import at_lod, set_lod
from wplus.training.hparams import Hparams
from wplus.training.validate import family_of

# (resolution, factor of 0.001) from that resolution up (ProGAN's and StyleGAN's code).
_LR_FACTORS = ((512, 3.0), (256, 2.0), (128, 1.5))
_NUMBERS = ("start_resolution", "stable_kimg", "fade_kimg")


@dataclass(frozen=True, kw_only=True)
class GrowthSchedule:
    """Trains each resolution from `start_resolution` up for `stable_kimg`, then fades in the next over `fade_kimg`."""

    resolution: int
    start_resolution: int
    stable_kimg: float
    fade_kimg: float

    def __post_init__(self) -> None:
        allowed = [2**i for i in range(2, int(math.log2(self.resolution)) + 1)]
        if self.start_resolution not in allowed:
            raise UserError(
                f"start_resolution={self.start_resolution} is not allowed; it must be one of "
                f"{', '.join(map(str, allowed))}."
            )

    def lod(self, nimg: int) -> float:
        """Return the level of detail after `nimg` images, 0 at full resolution (ProGAN, section 2; authors' code)."""
        start = math.log2(self.resolution / self.start_resolution)
        duration = self.stable_kimg + self.fade_kimg
        if duration == 0:
            return 0.0
        phase, kimg = divmod(nimg / 1000, duration)
        faded = max(kimg - self.stable_kimg, 0.0) / self.fade_kimg if self.fade_kimg else 0.0
        return max(start - phase - faded, 0.0)

    def begins(self, nimg: int, batch_size: int) -> bool:
        """Return whether a fade begins or ends with the step at `nimg`; the optimizers are then reset, as published."""
        if nimg == 0:
            return False
        now, before = self.lod(nimg), self.lod(nimg - batch_size)
        return math.floor(now) != math.floor(before) or math.ceil(now) != math.ceil(before)

    def lr_factor(self, nimg: int) -> float:
        """Return the learning-rate factor, which rises with the resolution in use."""
        in_use = self.resolution / 2 ** math.floor(self.lod(nimg))
        return next((factor for res, factor in _LR_FACTORS if in_use >= res), 1.0)

    def apply(self, networks: Sequence[Network], nimg: int) -> None:
        """Set the level of detail of the networks."""
        for network in networks:
            set_lod(network, self.lod(nimg))

    def restart(self, optimizers: Sequence[torch.optim.Optimizer], nimg: int, batch_size: int) -> None:
        """Reset the optimizers' moments when a fade begins or ends."""
        if self.begins(nimg, batch_size):
            for optimizer in optimizers:
                optimizer.state.clear()

    def shown(self, real: Tensor, nimg: int) -> Tensor:
        """Return real images at the level of detail of generated ones."""
        return at_lod(real, self.lod(nimg))


def growth_of(network: type[Network], resolution: int, hparams: Hparams) -> GrowthSchedule | None:
    """Return the schedule of a progressive network, None for others; UserError for missing or ineffective values."""
    numbers = {name: getattr(hparams, name) for name in _NUMBERS}
    family = family_of(network)
    for name, value in numbers.items():
        if value is not None and not network.progressive:
            raise UserError(f"{name}={value:g} has no effect: {family} does not grow with training; leave it out.")
        if value is None and network.progressive:
            raise UserError(
                f"{family} grows with training and needs training.hparams.{name}; StyleGAN has 8, 600, 600."
            )
    return GrowthSchedule(resolution=resolution, **numbers) if network.progressive else None
