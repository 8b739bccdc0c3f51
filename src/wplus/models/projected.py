"""Discriminators on features of frozen nets, mixed by fixed random convolutions, with a head on each level.

`Projected` only uses such features (Projected GAN, Sauer et al. 2021, arXiv:2111.01007); `Aided` adds heads on them to
an ordinary discriminator of the pixels (vision-aided GANs, Kumari et al. 2022, arXiv:2112.09130). Heads use group
normalisation, so that an image's logits do not depend on its batch. The nets are not part of a checkpoint: they are
loaded from `wplus.pretrained` by name, and must have the same weights as in training.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wplus.core.random import rng
from wplus.errors import UserError, check_number
from wplus.models.discriminator import DiscriminatorAround, DiscriminatorNetwork, rebuilt_discriminator
from wplus.models.layers import SLOPE, EqualizedLinear
from wplus.models.spectral import SpectralConv2d, iterate_all

if TYPE_CHECKING:
    from wplus.pretrained.extractor import Extractor

SMALLEST_MAP = 4  # px, to which heads downsample
LABEL_FEATURES = 64  # features of a head that are compared with the label's embedding
INPUT_PX = (64, 224)  # smaller images are enlarged, larger ones reduced, by default


@functools.lru_cache(maxsize=8)
def frozen_net(name: str, device: torch.device) -> "Extractor":
    """The net `name`, frozen and in evaluation mode; shared by all discriminators of this process."""
    from wplus.pretrained.extractor import net_with_maps

    with torch.inference_mode(False):  # inference tensors cannot be saved for backward
        return net_with_maps(name)().eval().requires_grad_(False).to(device)  # type: ignore[call-arg]


class Projection(nn.Module):
    """Maps of a net -> maps mixed across channels and scales by fixed random convolutions (Projected GAN, section 3.2).

    m_i = c_i(f_i) + up(s_i(m_(i+1))) from the coarsest level to the finest, with c_i of 1x1, s_i of 3x3 and bilinear
    upsampling. Weights are N(0, 1 / inputs), which keeps the variance, and buffers, so that a file holds them.
    """

    def __init__(self, in_channels: Sequence[int], channels: Sequence[int], *, source: torch.Generator) -> None:
        super().__init__()
        self.num_levels = len(in_channels)
        for level, (wide, narrow) in enumerate(zip(in_channels, channels, strict=True)):
            self.register_buffer(f"channel{level}", _random(source, narrow, wide, 1, 1))
            if level + 1 < self.num_levels:
                self.register_buffer(f"scale{level}", _random(source, narrow, channels[level + 1], 3, 3))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Per level (N, in_channels, H, W) -> (N, channels, H, W)."""
        mixed: list[Tensor] = []
        for level in reversed(range(self.num_levels)):
            own = F.conv2d(maps[level], getattr(self, f"channel{level}"))
            if mixed:
                deeper = F.conv2d(mixed[0], getattr(self, f"scale{level}"), padding=1)
                own = own + F.interpolate(deeper, size=own.shape[2:], mode="bilinear", align_corners=False)
            mixed.insert(0, own)
        return mixed


def _random(source: torch.Generator, *shape: int) -> Tensor:
    if torch.get_default_device().type == "meta":  # a network from a file: nothing is drawn or allocated
        return torch.empty(shape)
    return torch.randn(shape, generator=source) / math.sqrt(math.prod(shape[1:]))


class Head(nn.Module):
    """Logits at every position of a map: halved down to 4 to 7 px, spectral norm, group norm, leaky ReLU.

    With labels the last features are compared with the label's embedding at every position.
    """

    def __init__(self, in_channels: int, width: int, *, size: int, c_dim: int) -> None:
        super().__init__()
        num_down = int(math.log2(size / SMALLEST_MAP)) if size > SMALLEST_MAP else 0
        self.read = SpectralConv2d(in_channels, width, 3, padding=1)
        self.downs = nn.ModuleList(SpectralConv2d(width, width, 4, stride=2, padding=1) for _ in range(num_down))
        self.norms = nn.ModuleList(nn.GroupNorm(math.gcd(width, 8), width) for _ in range(num_down))
        self.out = SpectralConv2d(width, LABEL_FEATURES if c_dim else 1, 3, padding=1)
        self.embed = EqualizedLinear(c_dim, LABEL_FEATURES) if c_dim else None

    def forward(self, x: Tensor, c: Tensor | None) -> Tensor:
        """(N, in_channels, H, W), labels (N, c_dim) -> logits (N, positions)."""
        x = F.leaky_relu(self.read(x), SLOPE)
        for down, norm in zip(self.downs, self.norms, strict=True):
            x = F.leaky_relu(norm(down(x)), SLOPE)
        x = self.out(x)
        if self.embed is not None and c is not None:
            x = (x * self.embed(c)[:, :, None, None]).sum(dim=1, keepdim=True) / math.sqrt(LABEL_FEATURES)
        return x.flatten(1)


class NetHeads(nn.Module):
    """The projection of one net, with a head on each of its levels."""

    def __init__(
        self, net: str, *, levels: Sequence[int] | None, channels: Sequence[int], input_px: int, c_dim: int,
        projection_seed: int, sha256: str | None,
    ) -> None:  # fmt: skip
        from wplus.pretrained.extractor import net_with_maps

        super().__init__()
        known = net_with_maps(net)
        check_number("input_px", input_px, lowest=known.map_min_px, whole=True)
        self.net, self.sha256, self.input_px = net, sha256, input_px
        self.levels = list(range(len(known.map_channels))) if levels is None else list(levels)
        check_levels(net, self.levels, len(known.map_channels), channels)
        widths = [channels[level] for level in self.levels]
        self.projection = Projection(
            [known.map_channels[level] for level in self.levels], widths, source=rng(projection_seed, "projection", net)
        )
        sizes = [input_px // known.map_strides[level] for level in self.levels]
        self.heads = nn.ModuleList(
            Head(width, width, size=size, c_dim=c_dim) for width, size in zip(widths, sizes, strict=True)
        )

    def forward(self, img: Tensor, c: Tensor | None) -> list[Tensor]:
        """Images (N, 1 or 3, H, W) in [-1, 1] -> logits (N, positions) of every head."""
        net = frozen_net(self.net, img.device)
        if self.sha256 not in (None, net.weights_sha256):
            raise UserError(
                f"The discriminator was trained on other weights of {self.net} (SHA-256 {str(self.sha256)[:12]}...) "
                f"than those that are installed ({net.weights_sha256[:12]}...)."
            )
        maps = net.maps(as_net_sees(img, self.input_px))
        mixed = self.projection([maps[level] for level in self.levels])
        return [head(x, c) for head, x in zip(self.heads, mixed, strict=True)]


def check_levels(net: str, levels: Sequence[int], num: int, channels: Sequence[int]) -> None:
    """UserError unless the levels are a subset of the net's, fine to coarse, and each has a width."""
    if not levels or list(levels) != sorted(set(levels)) or not 0 <= levels[0] <= levels[-1] < num:
        raise UserError(f"levels must be some of {net}'s {list(range(num))}, in this order, got {list(levels)}.")
    if len(channels) <= levels[-1]:
        raise UserError(
            f"channels must have a width for each of {levels[-1] + 1} levels of {net}, got {list(channels)}."
        )


def as_net_sees(img: Tensor, size: int) -> Tensor:
    """Images (N, C, H, W) as RGB at size x size, resized bilinearly with antialiasing, in channels-last layout."""
    img = img.to(torch.float32)
    img = img.expand(-1, 3, -1, -1) if img.shape[1] == 1 else img[:, :3]
    if img.shape[2] != size:
        shrunk = size < img.shape[2]
        img = F.interpolate(img, (size, size), mode="bilinear", align_corners=False, antialias=shrunk)
    return img.contiguous(memory_format=torch.channels_last)


class Projected(DiscriminatorNetwork):
    """Heads on features of frozen nets only.

    nets             the frozen nets, names of modules in `wplus.pretrained`
    levels           which of a net's maps have heads, 0 the finest; None: all
    channels         widths of the levels, fine to coarse
    input_px         size at which the nets see images; None: the images' own, limited to 64..224
    projection_seed  seed of the fixed random convolutions
    sha256           SHA-256 of each net's weights file; other files are refused; None: any file
    """

    of_pixels = False

    def __init__(
        self, *, resolution: int, c_dim: int = 0, img_channels: int = 3, nets: Sequence[str] = ("effnet_lite0",),
        levels: Sequence[int] | None = None, channels: Sequence[int] = (32, 64, 96, 128),
        input_px: int | None = None, projection_seed: int = 0, sha256: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(resolution=resolution, c_dim=c_dim, img_channels=img_channels)
        size = min(max(resolution, INPUT_PX[0]), INPUT_PX[1]) if input_px is None else input_px
        if not nets or len(set(nets)) < len(nets):
            raise UserError(f"nets must be different ones, at least one, got {list(nets)}.")
        self.saw = tuple(nets)
        options: dict[str, Any] = {"levels": levels, "channels": channels, "input_px": size, "c_dim": c_dim}
        self.nets = nn.ModuleDict({
            net: NetHeads(net, **options, projection_seed=projection_seed, sha256=(sha256 or {}).get(net))
            for net in nets
        })  # fmt: skip

    def bind_nets(self) -> None:
        """Record the SHA-256 of the installed weights files, which the nets must match from now on."""
        known = {name: frozen_net(name, torch.device("cpu")).weights_sha256 for name in self.nets}
        for name, part in self.nets.items():
            assert isinstance(part, NetHeads)
            part.sha256 = known[name]
        self.arguments["sha256"] = known

    @property
    def pixel_part(self) -> DiscriminatorNetwork | None:
        """None: no part operates on pixels."""
        return None

    def begin_step(self) -> None:
        """Run the power iteration of the spectral norm."""
        iterate_all(self.nets)

    def head_logits(self, img: Tensor, c: Tensor | None) -> list[Tensor]:
        """Images (N, img_channels, resolution, resolution), labels -> logits (N, positions) of every head."""
        return [logits for part in self.nets.values() for logits in part(img, c if self.c_dim else None)]

    def logits(self, img: Tensor, c: Tensor | None) -> Tensor:
        """The mean over heads of their mean logits, (N, 1)."""
        means = [logits.mean(dim=1) for logits in self.head_logits(img, c)]
        return torch.stack(means).mean(dim=0)[:, None]


class Aided(DiscriminatorAround, Projected):
    """An ordinary discriminator, `pixel`, which returns the logits, with additional heads of `Projected` for training.

    pixel  a discriminator, or a description of one (`wplus.models.network.described`); other arguments as `Projected`'s
    """

    def __init__(self, *, pixel: DiscriminatorNetwork | Mapping[str, Any], **heads: Any) -> None:
        super().__init__(**heads)
        self.pixel = pixel if isinstance(pixel, DiscriminatorNetwork) else rebuilt_discriminator(pixel)

    @property
    def pixel_part(self) -> DiscriminatorNetwork:
        """The ordinary discriminator."""
        return self.pixel

    def logits(self, img: Tensor, c: Tensor | None) -> Tensor:
        """Logits of the ordinary discriminator, (N, 1)."""
        return self.pixel.logits(img, c)
