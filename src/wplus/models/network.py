"""Networks remember the plain values they were built with, so that a checkpoint can rebuild them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn


class Network(nn.Module):
    """A module whose constructor takes plain keyword values only and keeps them in `self.arguments`.

    `type(net)(**net.arguments)` is an untrained network of the same architecture.
    """

    arguments: dict[str, Any]

    second_order: ClassVar[bool] = True
    """Whether it can be differentiated twice, as gradient penalties and path lengths need."""
    batch_norm: ClassVar[bool] = False
    """Whether it normalises over the batch while it trains, so that the images of a batch depend on each other."""
    drops_units: ClassVar[bool] = False
    """Whether it drops units at random while it trains (dropout), from torch's generator."""
    grows: ClassVar[bool] = False
    """Whether training begins with a part of it (`wplus.models.progressive`)."""

    def places(self) -> dict[str, str]:
        """Submodules whose name says nothing of the resolution that they work at -> a name that does.

        All others are called the same in networks of the family of any resolution (`wplus.training.transfer`).
        """
        return {}

    def layers_from_image(self) -> list[nn.Module]:
        """Of a discriminator: the layers that can be frozen, the one nearest to the image first (Freeze-D, Mo et al.
        2020); what turns the last features into a logit is not among them."""
        return []

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = _recording(cls.__init__)  # type: ignore[method-assign]


class GeneratorNetwork(Network):
    """A generator: its `mapping` takes z and a label to styles, its `synthesis` takes styles to images."""

    mapping: Any
    synthesis: Any

    def forward(
        self,
        z: Tensor,
        c: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        noise_mode: str = "const",
        noise: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """z (N, z_dim), c (N, c_dim) -> images (N, img_channels, resolution, resolution)."""
        return self.synthesis(self.mapping(z, c, truncation_psi, truncation_cutoff), noise_mode=noise_mode, noise=noise)


def _recording(init: Any) -> Any:
    signature = inspect.signature(init)

    @functools.wraps(init)
    def recorded(self: Network, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        arguments = {name: value for name, value in bound.arguments.items() if name != "self"}
        init(self, *args, **kwargs)
        self.arguments = arguments  # set last: nn.Module.__init__ ran inside, and a subclass overrides its base

    return recorded
