"""Feature matching: two images by what a discriminator of the project's own sees in them, so in any domain."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from torch import Tensor

from wplus.errors import UserError
from wplus.losses.image_pair import ImageDistance, mean_over
from wplus.losses.perceptual import unit_length
from wplus.pretrained.weights import sha256_of


class DiscriminatorFeatures(ImageDistance):
    """`discriminator_features`: a discriminator's features after every block, at strides 2, 4, ... down to 4x4.

    compare: `normalised` scales the features to unit length at every position and sums squared differences over
    channels, as LPIPS does (Zhang et al. 2018); `l1` takes mean absolute differences (pix2pixHD, Wang et al. 2018).
    Both average over space and sum over blocks. The epilogue is left out: its minibatch standard deviation would mix
    the images of a batch. The discriminator is copied, so that freezing it here does not end its training elsewhere.
    """

    name = "discriminator_features"

    def __init__(self, discriminator: Any, *, compare: Literal["normalised", "l1"] = "normalised") -> None:
        if compare not in ("normalised", "l1"):
            raise UserError(f"Features cannot be compared by '{compare}': normalised or l1.")
        super().__init__()
        self.compare = compare
        if not hasattr(discriminator, "feature_maps"):
            kind = type(discriminator).__name__
            raise UserError(f"Features of blocks are StyleGAN2's discriminator's alone, and this is a {kind}.")
        self.shape = (discriminator.img_channels, discriminator.resolution, discriminator.resolution)
        self.discriminator = copy.deepcopy(discriminator)
        self.provenance = {
            "name": self.name,
            "weights": "blocks of a discriminator",
            "sha256": sha256_of(self.discriminator),
            "layers": [f"block at {res} px" for res in discriminator.block_resolutions],
            "compare": compare,
            "input": f"{discriminator.resolution} px",
        }
        self.eval().requires_grad_(False)

    def features(self, images: Tensor) -> list[Tensor]:
        """Feature maps (N, C_l, H_l, W_l), one per block; UserError for images of another shape."""
        if tuple(images.shape[1:]) != self.shape:
            wanted = ", ".join(map(str, self.shape))
            raise UserError(f"Images of shape {tuple(images.shape)} do not fit this discriminator: (N, {wanted}).")
        maps = [x.float() for x in self.discriminator.feature_maps(images)]
        return [unit_length(x) for x in maps] if self.compare == "normalised" else maps

    def distance(self, features_a: list[Tensor], features_b: list[Tensor], mask: Tensor | None = None) -> Tensor:
        """Distances (N,): per block the mean over space, weighted by the mask at that block's size; summed."""
        pairs = zip(features_a, features_b, strict=True)
        return torch.stack([mean_over(self._differences(a, b), mask) for a, b in pairs]).sum(dim=0)

    def _differences(self, a: Tensor, b: Tensor) -> Tensor:
        """Features (N, C, H, W) of both images -> a map (N, H, W)."""
        return (a - b).square().sum(dim=1) if self.compare == "normalised" else (a - b).abs().mean(dim=1)
