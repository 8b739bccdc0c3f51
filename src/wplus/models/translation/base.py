"""The base of all image translation networks: the mode of their normalisation, and the layers that depend on it.

The mode is passed explicitly to every call. In other implementations the result depends on `train()` and `eval()`, so
that images at test time are not the ones that were trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wplus.errors import UserError, check_choice
from wplus.models import layers
from wplus.models.network import Network

Mode = Literal["inference", "batch", "train"]
MODES: tuple[Mode, ...] = ("inference", "batch", "train")
NormKind = Literal["instance", "batch", "none"]
NORMS: tuple[NormKind, ...] = ("instance", "batch", "none")
WIDEST = 8  # times `width`: the most feature maps of U-Nets and patch discriminators
EPS, MOMENTUM = 1e-5, 0.1  # torch's own, as published


class Norm(nn.Module):
    """Normalisation over (N, C, H, W), y = gamma (x - mean) / sqrt(var + eps) + beta.

    kind  "instance": statistics of each image, no gamma and beta, the same in every mode; "batch": running statistics
          in mode "inference", the batch's in "batch", the batch's in "train", which also updates the running ones;
          "none"
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, kind: NormKind) -> None:
        super().__init__()
        check_choice("norm", kind, NORMS)
        self.kind = kind
        if kind == "batch":
            self.weight = nn.Parameter(torch.empty(channels).normal_(1, 0.02))
            self.bias = nn.Parameter(torch.zeros(channels))
            self.register_buffer("running_mean", torch.zeros(channels))
            self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor, mode: Mode) -> Tensor:
        """x (N, C, H, W), of the same shape."""
        if self.kind == "none":
            return x
        if self.kind == "instance":
            return F.instance_norm(x, eps=EPS)
        if mode != "inference" and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            raise UserError("Batch norm needs more than one number a channel: one image of 1x1 px has no deviation.")
        mean, var = (None, None) if mode == "batch" else (self.running_mean, self.running_var)
        return F.batch_norm(x, mean, var, self.weight, self.bias, mode != "inference", MOMENTUM, EPS)


def dropped(x: Tensor, share: float, mode: Mode) -> Tensor:
    """Dropout, in the mode "train" only."""
    return layers.dropped(x, share) if mode == "train" and share else x


def has_bias(norm: NormKind) -> bool:
    """Whether convolutions before a normalisation have a bias: instance norm cancels it, but published networks keep
    it; batch norm has its own."""
    return norm == "instance"


def init_weights(network: nn.Module, deviation: float = 0.02) -> None:
    """Every convolution's weight from N(0, 0.02), biases 0 (pix2pix, appendix 6.2)."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0, deviation)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class TranslatorNetwork(Network):
    """Images of one domain to images of another. Subclasses implement `translate`.

    in_channels   channels of the input
    img_channels  channels of the output
    size_divisor  height and width must be multiples of it
    """

    size_divisor: int = 1

    def __init__(self, *, in_channels: int, img_channels: int) -> None:
        super().__init__()
        self.in_channels, self.img_channels = in_channels, img_channels

    def forward(self, images: Tensor, mode: Mode = "inference") -> Tensor:
        """images (N, in_channels, H, W) in [-1, 1] -> (N, img_channels, H, W) in [-1, 1].

        mode  "inference": each image's result is independent of the others; "batch": statistics of this batch, no
              dropout; "train": with dropout, and batch norm's running statistics are updated
        """
        check_choice("mode", mode, MODES)
        check_images(images, self.in_channels, self.size_divisor)
        return self.translate(images, mode)

    def translate(self, images: Tensor, mode: Mode) -> Tensor:
        """`forward` of images of the right shape."""
        raise NotImplementedError

    if TYPE_CHECKING:
        __call__ = forward


def check_images(images: Tensor, channels: int, divisor: int = 1) -> None:
    """UserError unless images are (N, channels, H, W) with H and W multiples of `divisor`."""
    fits = images.ndim == 4 and images.shape[1] == channels and not any(size % divisor for size in images.shape[2:])
    if not fits:
        sides = "" if divisor == 1 else f" with H and W multiples of {divisor}"
        raise UserError(f"images must be (N, {channels}, H, W){sides}, got {tuple(images.shape)}.")
