"""Interface of feature extractors, and preprocessing of their images."""

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wplus.core.files import sha256
from wplus.errors import UserError
from wplus.pretrained.weights import from_package

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of pixels in [0, 1]


class Extractor(nn.Module):
    """A feature extractor for metrics; subclasses set `name`, `dim` and `layer`, and implement `forward`.

    Those that can serve as a discriminator's backbone also implement `maps` and set `map_channels` and `map_strides`.

    Args:
        weights: name of the weights file.
        sha256: SHA-256 of that file.
        preparation: the preprocessing of images, for the protocol.
    """

    name: str
    dim: int
    layer: str
    map_channels: tuple[int, ...] = ()
    map_strides: tuple[int, ...] = ()
    map_min_px: int = 32

    def __init__(self, *, weights: str, sha256: str, preparation: Mapping[str, str]) -> None:
        super().__init__()
        self._origin = {"extractor_weights": weights, "extractor_sha256": sha256, **preparation}

    def forward(self, images: Tensor) -> Tensor:
        """uint8 images (N, C, H, W), grey or RGB -> features (N, dim) float32."""
        raise NotImplementedError

    def maps(self, images: Tensor) -> list[Tensor]:
        """RGB images (N, 3, H, W) in [-1, 1] -> feature maps, fine to coarse, with gradients to the images.

        Maps have the shape (N, map_channels[i], about H / map_strides[i], ...). The images are not resized.
        """
        raise NotImplementedError

    if TYPE_CHECKING:
        __call__ = forward

    @property
    def protocol(self) -> dict[str, Any]:
        """Name, layer, weights file and its SHA-256, input size and resize."""
        return {"extractor": self.name, "extractor_layer": self.layer, **self._origin}

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights file."""
        return self._origin["extractor_sha256"]


class PackageExtractor(Extractor):
    """An extractor whose weights come with an installed package, of which only the weights file is read.

    Images whose shorter side is below `min_px` are enlarged, those above `max_px` reduced: the nets halve the size four
    or five times, and were trained at 224 px. Subclasses set `file` (the package and the path in it) and `network`.
    """

    file: tuple[str, ...]

    def __init__(self, *, min_px: int = 64, max_px: int = 224) -> None:
        if not 32 <= min_px <= max_px:
            raise UserError(f"min_px must be at least 32 and at most max_px, got {min_px} and {max_px}.")
        path = from_package(*self.file)
        resize = "bilinear, antialiased when shrunk, in float after uint8 rounding"
        prepared = {"extractor_input": f"shorter side brought into {min_px}..{max_px} px", "resize": resize}
        super().__init__(weights=path.name, sha256=sha256(path), preparation=prepared)
        self.min_px, self.max_px = min_px, max_px
        self.net: Any = self.network(path).to(memory_format=torch.channels_last)

    def network(self, path: Path) -> nn.Module:
        """Build the frozen network with the weights in the file."""
        raise NotImplementedError


def check_maps(extractor: Extractor) -> None:
    """Raise UserError if the extractor has no feature maps."""
    if not extractor.map_channels:
        raise UserError(f"'{extractor.name}' has no feature maps: take one of {', '.join(names_with_maps())}.")


# --- nets with maps, by name ------------------------------------------------------------------------------------------


def net_with_maps(name: str) -> type[Extractor]:
    """The extractor class in this package's module `name`; UserError if it has no maps."""
    found = _class_of(name) if re.fullmatch(r"[a-z0-9_]+", name) else None
    if found is None:
        known = ", ".join(names_with_maps())
        raise UserError(f"A discriminator cannot look through '{name}': it must be one of {known}.")
    return found


def names_with_maps() -> list[str]:
    """Names of the nets that have maps."""
    modules = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")
    return [name for name in modules if _class_of(name) is not None]


def _class_of(name: str) -> type[Extractor] | None:
    try:
        items = vars(importlib.import_module(f"wplus.pretrained.{name}")).values()
    except ModuleNotFoundError:
        return None
    nets = [item for item in items if isinstance(item, type) and issubclass(item, Extractor)]
    return next((net for net in nets if getattr(net, "name", None) == name and net.map_channels), None)


# --- preprocessing --------------------------------------------------------------------------------------------------


def in_colour(images: Tensor) -> Tensor:
    """Images (N, C, H, W) -> (N, 3, H, W): grey is repeated to three channels, channels after RGB are dropped."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images[:, :3]


def resized(images: Tensor, *, min_px: int, max_px: int) -> Tensor:
    """Float images (N, C, H, W) with the shorter side brought into [min_px, max_px]: bilinear, antialiased when shrunk.

    Images within the bounds are unchanged.
    """
    shorter = min(images.shape[2:])
    target = min(max(shorter, min_px), max_px)
    if shorter == target:
        return images
    size = [round(side * target / shorter) for side in images.shape[2:]]
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=target < shorter)


def tensorflow_protocol(size: int) -> dict[str, str]:
    """Description of `tensorflow_bilinear`, for a protocol."""
    resize = "bilinear as in TensorFlow 1, not antialiased, in float after uint8 rounding"
    return {"extractor_input": f"{size} x {size} px", "resize": resize}


def tensorflow_bilinear(images: Tensor, size: int) -> Tensor:
    """Resize float images (N, C, H, W) to size x size as TensorFlow 1 did for the nets of published metrics.

    Output position i samples the source at i * H / size: neither corners nor pixel centres are aligned, and there is no
    antialiasing (https://github.com/pytorch/pytorch/issues/10604).
    """
    for dim in (3, 2):
        num = images.shape[dim]
        at = torch.arange(size, device=images.device, dtype=images.dtype) * torch.tensor(num / size, dtype=images.dtype)
        low = at.long()
        near, far = images.index_select(dim, low), images.index_select(dim, (low + 1).clamp_max(num - 1))
        images = near + (far - near) * (at - low).view(-1, *[1] * (3 - dim))
    return images
