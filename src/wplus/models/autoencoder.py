"""Autoencoders: the decoder is a generator whose w is the code, the encoder maps images to codes.

Both are multi-layer perceptrons or convolutional networks. Upsampling is a resize followed by a convolution, because
transposed convolutions cause checkerboards (Odena et al., "Deconvolution and Checkerboard Artifacts", 2016).
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wplus.errors import UserError, check_choice, check_number
from wplus.models.code_prior import CodeMapping, Prior
from wplus.models.encoders.base import Encoder
from wplus.models.generator import GeneratorNetwork, SynthesisNetwork
from wplus.models.layers import SLOPE, num_channels
from wplus.models.mapping import with_label

Backbone = Literal["mlp", "conv"]
NormKind = Literal["group", "batch", "none"]
Likelihood = Literal["gaussian", "bernoulli"]
CodeActivation = Literal["linear", "relu", "sigmoid"]
GROUP_SIZE = 16  # channels per group of group normalisation
MAX_LAYERS = 16  # of a perceptron


class Posterior(NamedTuple):
    """Output of an encoder.

    mean (N, code_dim); log_variance (N, code_dim), None if the encoder is not variational; class_logits (N, c_dim),
    None without labels.
    """

    mean: Tensor
    log_variance: Tensor | None
    class_logits: Tensor | None

    def code(self, noise: Tensor | None = None) -> Tensor:
        """mean + sigma * noise (N, code_dim), or the mean."""
        if noise is None or self.log_variance is None:
            return self.mean
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def label(self) -> Tensor | None:
        """The most probable class as one-hot (N, c_dim); None without labels."""
        if self.class_logits is None:
            return None
        return F.one_hot(self.class_logits.argmax(dim=1), self.class_logits.shape[1]).to(self.mean.dtype)


class CodeEncoder(Encoder):
    """Images -> codes, concatenated with the class for labelled data, as in the decoder's w.

    Args:
        w_dim: code and label, code_dim + c_dim.
        variational: also predicts the variance of q(z|x) (Kingma and Welling 2014).
        code_activation: of the code: linear, relu (sparse codes), or sigmoid (activations that are probabilities).
        backbone: mlp, with hidden layers of `widths` units, or conv, with feature maps as in `Decoder`.
    """

    spaces = ("w",)
    has_stages = False
    smallest_input = 8

    def __init__(
        self, *, w_dim: int, input_size: int, img_channels: int = 3, c_dim: int = 0, variational: bool = False,
        code_activation: CodeActivation = "linear", backbone: Backbone = "conv", widths: Sequence[int] = (512, 256),
        channel_base: int = 512, channel_max: int = 128, norm: NormKind = "group", bottom: int = 4,
    ) -> None:  # fmt: skip
        super().__init__(num_ws=1, w_dim=w_dim, img_channels=img_channels, input_size=input_size, is_iterative=False)
        check_choice("code_activation", code_activation, ("linear", "relu", "sigmoid"))
        if variational and code_activation != "linear":
            raise UserError(f"code_activation must be linear where a code is normal, got {code_activation}.")
        self.code_dim, self.c_dim, self.variational = w_dim - c_dim, c_dim, variational
        self.code_activation = code_activation
        self.is_flat = backbone == "mlp"
        if self.is_flat:
            units = [img_channels * input_size**2, *check_widths(widths)]
            self.trunk, features = perceptron(units), units[-1]
        else:
            check_conv(backbone, norm, bottom, input_size)
            maps: dict[str, Any] = {"channel_base": channel_base, "channel_max": channel_max}
            self.trunk, features = downs(img_channels, input_size, norm=norm, bottom=bottom, **maps)
        self.to_code = nn.Linear(features, self.code_dim)
        self.to_log_variance = nn.Linear(features, self.code_dim) if variational else None
        self.to_class = nn.Linear(features, c_dim) if c_dim else None
        if self.to_log_variance is not None:  # start training at the prior's variance
            nn.init.zeros_(self.to_log_variance.weight)
            nn.init.zeros_(self.to_log_variance.bias)

    def posterior(self, images: Tensor) -> Posterior:
        """Images (N, img_channels, input_size, input_size) in [-1, 1] -> their posterior."""
        x = self.trunk(images.flatten(1) if self.is_flat else images).flatten(1)
        code = self.to_code(x)
        if self.code_activation != "linear":
            code = code.relu() if self.code_activation == "relu" else code.sigmoid()
        variance, classes = self.to_log_variance, self.to_class
        return Posterior(code, None if variance is None else variance(x), None if classes is None else classes(x))

    def _offsets(self, x: Tensor, stage: int) -> Tensor:
        found = self.posterior(x)
        return with_label(found.mean, found.label()).unsqueeze(1)


class DecoderSynthesis(SynthesisNetwork):
    """Code and label -> image, the mean of p(x|z)."""

    def __init__(
        self, *, w_dim: int, resolution: int, img_channels: int, likelihood: Likelihood, backbone: Backbone,
        widths: Sequence[int], channel_base: int, channel_max: int, norm: NormKind, bottom: int,
    ) -> None:  # fmt: skip
        super().__init__(num_ws=1, w_dim=w_dim)
        self.shape, self.likelihood = (img_channels, resolution, resolution), likelihood
        if backbone == "mlp":
            units = [w_dim, *check_widths(widths)[::-1]]
            self.trunk = nn.Sequential(perceptron(units), nn.Linear(units[-1], math.prod(self.shape)))
        else:
            check_conv(backbone, norm, bottom, resolution)
            self.trunk = ups(w_dim, img_channels, resolution, channel_base=channel_base, channel_max=channel_max,
                             norm=norm, bottom=bottom)  # fmt: skip

    def outputs(self, ws: Tensor) -> Tensor:
        """ws (N, 1, w_dim) -> the parameters of p(x|z), (N, C, H, W): means, or logits of a Bernoulli."""
        return self.trunk(ws[:, 0]).view(-1, *self.shape)

    def synthesize(self, ws: Tensor, noise: Sequence[Tensor | None]) -> Tensor:
        """ws (N, 1, w_dim) -> the mean image (N, C, H, W)."""
        return self.mean(self.outputs(ws))

    def mean(self, outputs: Tensor) -> Tensor:
        """The mean of p(x|z) from `outputs`; for a Bernoulli 2 sigmoid(l) - 1, from black at -1 to white at 1."""
        return outputs if self.likelihood == "gaussian" else (outputs / 2).tanh()


class Decoder(GeneratorNetwork):
    """z -> code by the prior (`CodeMapping`), code -> image.

    Args:
        code_dim: dimension of a code; w is the code, followed by the label if there is one.
        prior: of codes, sampled by `mapping`: normal, or a mixture of ten Gaussians.
        likelihood: p(x|z): gaussian, or bernoulli, of white pixels.
        sigma: of the gaussian, one for all pixels, in units of images in [-1, 1]; None: learned.
        backbone: mlp, with hidden layers of `widths` units from the image to the code, or conv.
        channel_base, channel_max: feature maps at resolution r: min(channel_base / r, channel_max).
        norm: normalisation of feature maps: group, batch or none.
        bottom: side of the smallest map, a power of two.
    """

    mapping: CodeMapping
    synthesis: DecoderSynthesis
    log_sigma: Tensor

    def __init__(
        self, *, resolution: int, c_dim: int = 0, img_channels: int = 3, code_dim: int = 32, prior: Prior = "mixture",
        likelihood: Likelihood = "gaussian", sigma: float | None = 1.0, backbone: Backbone = "conv",
        widths: Sequence[int] = (512, 256), channel_base: int = 512, channel_max: int = 128,
        norm: NormKind = "group", bottom: int = 4,
    ) -> None:  # fmt: skip
        check_number("code_dim", code_dim, lowest=1, whole=True)
        check_choice("likelihood", likelihood, ("gaussian", "bernoulli"))
        mapping = CodeMapping(code_dim=code_dim, c_dim=c_dim, prior=prior)
        super().__init__(
            resolution=resolution, z_dim=mapping.z_dim, w_dim=code_dim + c_dim, c_dim=c_dim, img_channels=img_channels,
            num_ws=1,
        )  # fmt: skip
        self.code_dim, self.likelihood = code_dim, likelihood
        self.mapping = mapping
        self.synthesis = DecoderSynthesis(
            w_dim=self.w_dim, resolution=resolution, img_channels=img_channels, likelihood=likelihood,
            backbone=backbone, widths=widths, channel_base=channel_base, channel_max=channel_max, norm=norm,
            bottom=bottom,
        )  # fmt: skip
        if likelihood == "gaussian" and sigma is None:
            self.log_sigma = nn.Parameter(torch.zeros(()))
        elif likelihood == "gaussian" and sigma is not None:
            check_number("sigma", sigma, lowest=1e-4)
            self.register_buffer("log_sigma", torch.tensor(math.log(sigma)))

    def ws(self, code: Tensor, c: Tensor | None = None) -> Tensor:
        """Codes (N, code_dim) and labels (N, c_dim) -> ws (N, 1, w_dim)."""
        return with_label(code, c if self.c_dim else None).unsqueeze(1)


# --- backbones --------------------------------------------------------------------------------------------------------


def check_widths(widths: Sequence[int]) -> list[int]:
    """The widths as a list; UserError for too many layers or an empty one."""
    if len(widths) > MAX_LAYERS:
        raise UserError(f"widths must be of at most {MAX_LAYERS} layers, got {len(widths)}.")
    for width in widths:
        check_number("widths", width, lowest=1, whole=True)
    return list(widths)


def check_conv(backbone: str, norm: str, bottom: int, resolution: int) -> None:
    """UserError for an unknown backbone or normalisation, an invalid smallest map, and batch norm on one of 1x1."""
    check_choice("backbone", backbone, ("mlp", "conv"))
    check_choice("norm", norm, ("group", "batch", "none"))
    check_choice("bottom", bottom, [2**i for i in range(resolution.bit_length()) if 2**i < resolution])
    if norm == "batch" and bottom == 1:
        raise UserError(
            "norm=batch is refused with bottom=1: a map of 1x1 px has one number per channel, of which batch norm of "
            "one image leaves nothing; choose norm=group, or bottom=2 or more."
        )


def perceptron(units: Sequence[int]) -> nn.Sequential:
    """Linear layers between these numbers of units, each followed by a rectifier."""
    layers: list[nn.Module] = []
    for pair in pairwise(units):
        layers += [nn.Linear(*pair), nn.ReLU()]
    return nn.Sequential(*layers)


def downs(
    img_channels: int, resolution: int, *, channel_base: int, channel_max: int, norm: NormKind, bottom: int
) -> tuple[nn.Sequential, int]:
    """Images -> maps (N, C, bottom, bottom), with one convolution per resolution; also returns C bottom^2."""
    width = num_channels(resolution, channel_base, channel_max)
    layers: list[nn.Module] = [nn.Conv2d(img_channels, width, 3, padding=1), nn.LeakyReLU(SLOPE)]
    while resolution > bottom:
        resolution //= 2
        last, width = width, num_channels(resolution, channel_base, channel_max)
        layers += [nn.Conv2d(last, width, 4, stride=2, padding=1), *normalised(width, norm), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers), width * bottom**2


def ups(
    w_dim: int, img_channels: int, resolution: int, *, channel_base: int, channel_max: int, norm: NormKind, bottom: int
) -> nn.Sequential:
    """Codes (N, w_dim) -> images (N, img_channels, resolution, resolution), with one convolution per resolution."""
    width, size = num_channels(bottom, channel_base, channel_max), bottom
    layers: list[nn.Module] = [nn.Linear(w_dim, width * bottom**2), nn.Unflatten(1, (width, bottom, bottom)),
                               *normalised(width, norm), nn.LeakyReLU(SLOPE)]  # fmt: skip
    while size < resolution:
        size *= 2
        last, width = width, num_channels(size, channel_base, channel_max)
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(last, width, 3, padding=1), *normalised(width, norm),
                   nn.LeakyReLU(SLOPE)]  # fmt: skip
    return nn.Sequential(*layers, nn.Conv2d(width, img_channels, 3, padding=1))


def normalised(channels: int, norm: NormKind) -> list[nn.Module]:
    """The normalisation after a convolution, if any."""
    if norm == "none":
        return []
    if norm == "batch":
        return [nn.BatchNorm2d(channels)]
    return [nn.GroupNorm(math.gcd(channels, max(1, channels // GROUP_SIZE)), channels)]
