"""Feature matching: compare images by the features of one of the project's discriminators, so for any domain."""

import copy
from typing import Literal

import torch
from torch import Tensor

from wplus.checkpoint import tensors_digest
from wplus.core.metric_result import MetricInfo
from wplus.errors import UserError, check_choice
from wplus.losses.image_pair import ImageDistance, mean_over
from wplus.losses.perceptual import unit_length
from wplus.models.discriminator import DiscriminatorNetwork
from wplus.models.stylegan2 import Discriminator


class DiscriminatorFeatures(ImageDistance):
    """`discriminator_features`: a discriminator's features after every block, at strides 2, 4, ... down to 4x4.

    compare: `normalised` scales the features to unit length at every position and sums squared differences over
    channels, like LPIPS (Zhang et al. 2018); `l1` uses mean absolute differences (pix2pixHD, Wang et al. 2018).
    Both average over space and sum over blocks. The epilogue is left out, because its minibatch standard deviation
    would mix the images of a batch. The discriminator is copied, so that freezing it does not affect its training.
    """

    name = "discriminator_features"
    info = MetricInfo(
        meaning="Feature matching: difference of two images' features in a discriminator; 0 for equal images.",
        direction="lower",
    )

    def __init__(
        self, discriminator: DiscriminatorNetwork, *, compare: Literal["normalised", "l1"] = "normalised"
    ) -> None:
        check_choice("compare", compare, ("normalised", "l1"))
        super().__init__()
        self.compare = compare
        judge = discriminator.pixel_part if isinstance(discriminator, DiscriminatorNetwork) else None
        if not isinstance(judge, Discriminator):
            kind = f"{type(discriminator).__module__}.{type(discriminator).__name__}"
            raise UserError(f"discriminator must be StyleGAN2's, whose blocks have features, got a {kind}.")
        self.shape = (judge.img_channels, judge.resolution, judge.resolution)
        self.discriminator = copy.deepcopy(judge)
        weights = {"weights": "blocks of a discriminator", "sha256": tensors_digest(self.discriminator)}
        layers = [f"block at {res} px" for res in judge.block_resolutions]
        self.freeze(**weights, layers=layers, compare=compare, input=f"{judge.resolution} px")

    def features(self, images: Tensor) -> list[Tensor]:
        """Feature maps (N, C_l, H_l, W_l), one per block; UserError for images of the wrong shape."""
        if tuple(images.shape[1:]) != self.shape:
            raise UserError(f"images must be (N, {', '.join(map(str, self.shape))}), got {tuple(images.shape)}.")
        maps = [x.float() for x in self.discriminator.feature_maps(images)]
        return [unit_length(x) for x in maps] if self.compare == "normalised" else maps

    def distance(self, features_a: list[Tensor], features_b: list[Tensor], mask: Tensor | None = None) -> Tensor:
        """Distances (N,): per-block means over space, weighted by the mask at that resolution, summed over blocks."""
        differences = [a - b for a, b in zip(features_a, features_b, strict=True)]  # (N, C, H, W)
        if self.compare == "normalised":
            maps = [x.square().sum(dim=1) for x in differences]
        else:
            maps = [x.abs().mean(dim=1) for x in differences]
        return torch.stack([mean_over(x, mask) for x in maps]).sum(dim=0)
