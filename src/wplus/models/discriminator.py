"""Base classes of discriminators: images and labels to logits, and the further interface for training and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from wplus.errors import UserError
from wplus.models.generator import check_label
from wplus.models.network import Network, class_named


class DiscriminatorNetwork(Network):
    """A discriminator: images and labels to logits. Subclasses implement `logits`."""

    of_pixels: ClassVar[bool] = True  # operates on pixels, so that further heads can be added to it
    logit_layer: ClassVar[str] = ""  # name of the linear layer that outputs the logit, without labels

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
        """The part that operates on pixels; None if it only uses features of frozen nets."""
        return self

    @property
    def own_class(self) -> type[DiscriminatorNetwork]:
        """The class whose flags apply (`second_order`, `batch_norm`, ...): that of the innermost discriminator."""
        return type(self)

    @property
    def group_size(self) -> int:
        """Number of images processed jointly (minibatch standard deviation)."""
        return self.arguments.get("mbstd_group_size") or 1

    def begin_step(self) -> None:
        """Called once at the start of each training step, regardless of its number of passes."""

    def learned_logits(self, img: Tensor, c: Tensor | None) -> Tensor:
        """Logits for training, (N, 1), as `forward`; the mean difference, generated minus real, of an optional second
        column is minimised too."""
        return self(img, c)

    def layers_from_image(self) -> list[nn.Module]:
        """The layers up to the last features, starting at the image: those that can be frozen (Freeze-D)."""
        return []

    if TYPE_CHECKING:
        __call__ = forward


class DiscriminatorAround(DiscriminatorNetwork):
    """A wrapper around another discriminator, `pixel`, whose flags apply."""

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
        """Those of the wrapped one, which has the same names on its own."""
        return {**{f"pixel.{name}": place for name, place in self.pixel.canonical_names().items()}, "pixel": ""}


def rebuilt_discriminator(entry: Mapping[str, Any]) -> DiscriminatorNetwork:
    """Rebuild a discriminator of pixels from its description; UserError for any other network."""
    found = class_named(str(entry.get("class")))
    if found is None or not issubclass(found, DiscriminatorNetwork) or not found.of_pixels:
        raise UserError(f"pixel must be a discriminator of pixels, got a {entry.get('class')}.")
    return found(**entry["arguments"])
