"""Likelihoods, rates and bounds of latent-variable models, in nats per image: summed over pixels or numbers of a code.

A mean over pixels beside a sum over the code would weigh the rate by the number of pixels, which collapses it.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.models.autoencoder import Decoder, Posterior

LOG_2PI = math.log(2 * math.pi)
STEP = 2 / 255  # between two levels of an image in [-1, 1]


def negative_log_likelihood(decoder: Decoder, outputs: Tensor, real: Tensor) -> Tensor:
    """-log p(x|z) (N,) of images (N, C, H, W) in [-1, 1], from `decoder.synthesis.outputs`."""
    if decoder.likelihood == "bernoulli":
        return bernoulli_nll(real, outputs)
    return gaussian_nll(real, outputs, decoder.log_sigma)


def gaussian_nll(x: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    """(N,) of x and mean (N, ...), one deviation for all numbers."""
    # -log N(x; mean, sigma^2) = (x - mean)^2 / (2 sigma^2) + log sigma + log(2 pi) / 2, summed over pixels
    squares = (x - mean).square().flatten(1).sum(dim=1)
    return 0.5 * squares * (-2 * log_sigma).exp() + x[0].numel() * (log_sigma + 0.5 * LOG_2PI)


def bernoulli_nll(x: Tensor, logits: Tensor) -> Tensor:
    """(N,) of images x in [-1, 1], whose pixels are white with probability t = (x + 1) / 2, and logits (N, ...)."""
    # -t log sigmoid(l) - (1 - t) log(1 - sigmoid(l)), summed over pixels
    return F.binary_cross_entropy_with_logits(logits, (x + 1) / 2, reduction="none").flatten(1).sum(dim=1)


def kl_to_normal(posterior: Posterior) -> Tensor:
    """KL(q(z|x) || N(0, I)) of every number of the code, (N, code_dim) (Kingma and Welling 2014, appendix B)."""
    mean, log_variance = posterior.mean, posterior.log_variance
    assert log_variance is not None, "the encoder is not variational"
    # (mu^2 + sigma^2 - 1 - log sigma^2) / 2
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def log_normal(z: Tensor, mean: Tensor | float = 0.0, log_variance: Tensor | float = 0.0) -> Tensor:
    """log N(z; mean, variance), summed over the last dimension."""
    log_variance = torch.as_tensor(log_variance, dtype=z.dtype, device=z.device)
    return -0.5 * ((z - mean).square() * (-log_variance).exp() + log_variance + LOG_2PI).sum(dim=-1)


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """log p(x) from below, (N,), of log p(x, z_i) - log q(z_i|x) of K draws z_i, (K, N) (Burda et al. 2016)."""
    # log (1/K) sum_i p(x, z_i) / q(z_i|x)
    return torch.logsumexp(log_weights, dim=0) - math.log(len(log_weights))


def bits_per_dimension(nats: Tensor, num_dims: int, sigma: float | None) -> Tensor:
    """Bits for each of the `num_dims` 8-bit numbers of an image, of -log p(x) in nats (N,): an upper bound.

    A density of continuous images in [-1, 1] becomes one of levels by uniform noise as wide as a level (Theis et al.,
    "A note on the evaluation of generative models", 2016). Under a Gaussian of deviation `sigma` the noise, whose
    variance is step^2 / 12, costs step^2 / (24 sigma^2) nats. None: a Bernoulli, whose pixels are bits as they are.
    """
    bits = nats / (num_dims * math.log(2))
    if sigma is None:
        return bits
    return bits + STEP**2 / (24 * sigma**2 * math.log(2)) - math.log2(STEP)


# --- penalties of codes -----------------------------------------------------------------------------------------------


def bernoulli_kl(rho: float, mean_activation: Tensor) -> Tensor:
    """KL(rho || rho_j) of activations that are 1 with the probability rho_j, (code_dim,) (Ng, "Sparse autoencoder")."""
    # rho log(rho / rho_j) + (1 - rho) log((1 - rho) / (1 - rho_j))
    return rho * (math.log(rho) - mean_activation.log()) + (1 - rho) * (math.log(1 - rho) - (-mean_activation).log1p())


def jacobian_norm(code: Tensor, images: Tensor, direction: Tensor) -> Tensor:
    """|J^T v|^2 (N,) for v (N, code_dim), J = d code / d images: for normal v the mean is the squared Frobenius norm.

    Hutchinson 1989; one pass back in place of one per number of the code. Can be differentiated once more.
    """
    (gradient,) = torch.autograd.grad((code * direction).sum(), images, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1)
