"""Base classes of discriminators: images and labels to logits, and what training and metrics may ask besides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from wplus.errors import UserError
from wplus.models.generator import check_label
from wplus.models.network import Network, class_named


class DiscriminatorNetwork(Network):
    """A discriminator: images and labels to logits; a subclass implements `logits`."""

    of_pixels: ClassVar[bool] = True  # judges the pixels themselves, so that heads may stand beside it
    logit_layer: ClassVar[str] = ""  # the linear layer whose output, without labels, is the logit

    def __init__(self, *, resolution: int, c_dim: int, img_channels: int) -> None:
        super().__init__()
        self.resolution, self.img_channels, self.c_dim = resolution, img_channels, c_dim

    def forward(self, img: Tensor, c: Tensor | None = None) -> Tensor:
        """img (N, img_channels, resolution, resolution) in [-1, 1], c (N, c_dim) -> logits (N, 1), high is real."""
        shape = (self.img_channels, self.resolution, self.resolution)
        if tuple(img.shape[1:]) != shape:
            raise UserError(f"images must be (N, {', '.join(map(str, shape))}), got {tuple(img.shape)}.")
        return self.logits(img, check_label(c, self.c_dim))

    def logits(self, img: Tensor, c: Tensor | None) -> Tensor:
        """`forward` for images of the right shape, with c a label (N, c_dim), or None for c_dim 0."""
        raise NotImplementedError

    @property
    def pixel_part(self) -> DiscriminatorNetwork | None:
        """What judges the pixels themselves; None where features of frozen nets alone are looked at."""
        return self

    @property
    def own_class(self) -> type[DiscriminatorNetwork]:
        """The class that says what can be done with it (`second_order`, `batch_norm`, ...): that of what is inside."""
        return type(self)

    @property
    def group_size(self) -> int:
        """Images that it looks at together (minibatch standard deviation)."""
        return self.arguments.get("mbstd_group_size") or 1

    def begin_step(self) -> None:
        """Be told that a training step begins, once, however many passes it has."""

    def learned_logits(self, img: Tensor, c: Tensor | None) -> Tensor:
        """What it learns by, (N, 1): as `forward`; a second column is minimised on generated images less real ones."""
        return self(img, c)

    def layers_from_image(self) -> list[nn.Module]:
        """The layers up to the last features, the one nearest to the image first: what can be frozen (Freeze-D)."""
        return []

    if TYPE_CHECKING:
        __call__ = forward


class DiscriminatorAround(DiscriminatorNetwork):
    """A discriminator around another one, `pixel`, which says what can be done with it."""

    pixel: DiscriminatorNetwork

    @property
    def own_class(self) -> type[DiscriminatorNetwork]:
        """That of the one inside."""
        return self.pixel.own_class

    @property
    def group_size(self) -> int:
        """That of the one inside."""
        return self.pixel.group_size

    def layers_from_image(self) -> list[nn.Module]:
        """Those of the one inside."""
        return self.pixel.layers_from_image()

    def canonical_names(self) -> dict[str, str]:
        """Those of the one inside, which has the same names alone."""
        return {**{f"pixel.{name}": place for name, place in self.pixel.canonical_names().items()}, "pixel": ""}


def rebuilt_discriminator(entry: Mapping[str, Any]) -> DiscriminatorNetwork:
    """The discriminator of pixels of a description; UserError for one of something else."""
    found = class_named(str(entry.get("class")))
    if found is None or not issubclass(found, DiscriminatorNetwork) or not found.of_pixels:
        raise UserError(f"pixel must be a discriminator of pixels, got a {entry.get('class')}.")
    return found(**entry["arguments"])
