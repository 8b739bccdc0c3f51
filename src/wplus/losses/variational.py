"""Likelihoods, rates and bounds of latent-variable models, in nats per image, summed over pixels or code dimensions.

Averaging over pixels while summing over the code would weight the rate by the number of pixels and make it collapse.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.models.autoencoder import Decoder, Posterior

LOG_2PI = math.log(2 * math.pi)
STEP = 2 / 255  # between adjacent levels of an 8-bit image in [-1, 1]


def negative_log_likelihood(decoder: Decoder, outputs: Tensor, real: Tensor) -> Tensor:
    """-log p(x|z) (N,) of images (N, C, H, W) in [-1, 1], from `decoder.synthesis.outputs`."""
    if decoder.likelihood == "bernoulli":
        return bernoulli_nll(real, outputs)
    return gaussian_nll(real, outputs, decoder.log_sigma)


def gaussian_nll(x: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    """Gaussian negative log-likelihood (N,) of x given mean (N, ...), with a single standard deviation."""
    # -log N(x; mean, sigma^2) = (x - mean)^2 / (2 sigma^2) + log sigma + log(2 pi) / 2, summed over pixels
    squares = (x - mean).square().flatten(1).sum(dim=1)
    return 0.5 * squares * (-2 * log_sigma).exp() + x[0].numel() * (log_sigma + 0.5 * LOG_2PI)


def bernoulli_nll(x: Tensor, logits: Tensor) -> Tensor:
    """Bernoulli negative log-likelihood (N,) of images x in [-1, 1], targets t = (x + 1) / 2, given logits (N, ...)."""
    # -t log sigmoid(l) - (1 - t) log(1 - sigmoid(l)), summed over pixels
    return F.binary_cross_entropy_with_logits(logits, (x + 1) / 2, reduction="none").flatten(1).sum(dim=1)


def kl_to_normal(posterior: Posterior) -> Tensor:
    """KL(q(z|x) || N(0, I)) per code dimension, (N, code_dim) (Kingma and Welling 2014, appendix B)."""
    mean, log_variance = posterior.mean, posterior.log_variance
    assert log_variance is not None, "the encoder is not variational"
    # (mu^2 + sigma^2 - 1 - log sigma^2) / 2
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def log_normal(z: Tensor, mean: Tensor | float = 0.0, log_variance: Tensor | float = 0.0) -> Tensor:
    """log N(z; mean, variance), summed over the last dimension."""
    log_variance = torch.as_tensor(log_variance, dtype=z.dtype, device=z.device)
    return -0.5 * ((z - mean).square() * (-log_variance).exp() + log_variance + LOG_2PI).sum(dim=-1)


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """Lower bound on log p(x), (N,), from log p(x, z_i) - log q(z_i|x) of K draws z_i, (K, N) (Burda et al. 2016)."""
    # log (1/K) sum_i p(x, z_i) / q(z_i|x)
    return torch.logsumexp(log_weights, dim=0) - math.log(len(log_weights))


def bits_per_dimension(nats: Tensor, num_dims: int, sigma: float | None) -> Tensor:
    """Upper bound on the bits per dimension of an 8-bit image with `num_dims` dimensions, from -log p(x) in nats (N,).

    A density over continuous images in [-1, 1] is converted to one over levels by uniform noise as wide as a level
    (Theis et al., "A note on the evaluation of generative models", 2016). With a Gaussian of standard deviation
    `sigma`, this noise has variance step^2 / 12 and costs step^2 / (24 sigma^2) nats. None: a Bernoulli, whose pixels
    are already bits.
    """
    bits = nats / (num_dims * math.log(2))
    if sigma is None:
        return bits
    return bits + STEP**2 / (24 * sigma**2 * math.log(2)) - math.log2(STEP)


# --- penalties of codes -----------------------------------------------------------------------------------------------


def bernoulli_kl(rho: float, mean_activation: Tensor) -> Tensor:
    """KL(rho || rho_j) for activations that are 1 with probability rho_j, (code_dim,) (Ng, "Sparse autoencoder")."""
    # rho log(rho / rho_j) + (1 - rho) log((1 - rho) / (1 - rho_j))
    return rho * (math.log(rho) - mean_activation.log()) + (1 - rho) * (math.log(1 - rho) - (-mean_activation).log1p())


def jacobian_norm(code: Tensor, images: Tensor, direction: Tensor) -> Tensor:
    """|J^T v|^2 (N,) for v (N, code_dim), J = d code / d images; its mean over normal v is the squared Frobenius norm.

    Hutchinson's estimator (1989): one backward pass instead of one per code dimension. Differentiable itself.
    """
    (gradient,) = torch.autograd.grad((code * direction).sum(), images, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1)
