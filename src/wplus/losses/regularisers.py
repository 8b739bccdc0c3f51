"""Gradient penalties and path lengths, all of which need second derivatives of a network."""

import torch
from torch import Tensor

from wplus.models.convolution import no_weight_gradients


def r1_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """|dD(x)/dx|^2 per image (Mescheder et al. 2018, equation 9, without gamma/2); for generated images this is R2.

    `images` (N, C, H, W) must require gradients and `logits` (N, 1) be computed from it; returns (N,).
    """
    return _squared_gradient(logits, images)


def interpolates(real: Tensor, fake: Tensor, alpha: Tensor) -> Tensor:
    """x^ = alpha x + (1 - alpha) G(z), images on lines between pairs (Gulrajani et al. 2017, algorithm 1).

    real, fake (N, C, H, W); `alpha` (N,) per pair, uniform in [0, 1].
    """
    return torch.lerp(fake, real, alpha.view(-1, 1, 1, 1))


def unit_gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """(|dD(x^)/dx^| - 1)^2 per image (WGAN-GP, Gulrajani et al. 2017, equation 3, without lambda); see `r1_penalty`."""
    # The root has no derivative at zero: 1e-12 keeps the gradient of a dead critic finite, without affecting others.
    return ((_squared_gradient(logits, images) + 1e-12).sqrt() - 1).square()


def _squared_gradient(logits: Tensor, images: Tensor) -> Tensor:
    with no_weight_gradients():
        (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3))


def path_lengths(images: Tensor, ws: Tensor, noise: Tensor) -> Tensor:
    """|J^T y| per image for y ~ N(0, 1)/sqrt(HW) (StyleGAN2, section 3.2), RMS over the layers of `ws`.

    `noise` is standard normal, shaped like `images` (N, C, H, W); `ws` (N, num_ws, w_dim) must require gradients;
    returns (N,).
    """
    projected = (images * noise).sum() / (images.shape[2] * images.shape[3]) ** 0.5
    with no_weight_gradients():
        (gradient,) = torch.autograd.grad(projected, ws, create_graph=True)
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()
