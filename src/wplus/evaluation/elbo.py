"""Bounds on a variational autoencoder's likelihood of held-out images, its rate and its distortion.

All are in nats per image, summed over pixels and code dimensions (`wplus.losses.variational`), and the bound also in
bits per dimension of an 8-bit image.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.stats import bootstrap_interval
from wplus.errors import UserError, check_number
from wplus.evaluation.coding import INTERVAL, draws, mean_with_interval, of_each, shown, variational
from wplus.evaluation.context import EvalContext, generator_protocol
from wplus.losses.variational import (
    bits_per_dimension,
    importance_weighted_bound,
    kl_to_normal,
    log_normal,
    negative_log_likelihood,
)
from wplus.models.autoencoder import Decoder, Posterior

ACTIVE = 0.01  # a code dimension is active if its mean varies over images by more than this (Burda et al. 2016)
_BOUND = "Lower bound on log p(x) of held-out images, {}, mean over images."
INFOS = {
    "elbo": MetricInfo(meaning=_BOUND.format("minus distortion and rate"), unit="nats", direction="higher"),
    "rate": MetricInfo(meaning="KL(q(z|x) || p(z)), information beyond the prior, mean over images.", unit="nats"),
    "distortion": MetricInfo(
        meaning="-log p(x|z) of held-out images, mean over draws of the code.", unit="nats", direction="lower"
    ),
    "bits_per_dim": MetricInfo(
        meaning="Upper bound by the ELBO on the bits per dimension of an 8-bit image; 8 without a model.",
        unit="bits", direction="lower",
    ),
    "active_units": MetricInfo(
        meaning="Number of code dimensions whose mean varies over images, variance above 0.01; ideally all.",
        direction="higher",
    ),
}  # fmt: skip


def elbo(context: EvalContext, *, num_images: int | None = 500, num_draws: int = 64) -> Iterator[MetricResult]:
    """Yield elbo, rate, distortion, bits_per_dim, iwae_<num_draws>, active_units.

    A conditional model gets the images' labels, so the bounds are on log p(x|y).

    Args:
        num_images: number of held-out images; None: all.
        num_draws: draws of each image's code; the importance-weighted bound (Burda et al. 2016, arXiv:1509.00519)
            approaches log p(x) from below as their number grows.
    """
    check_number("num_draws", num_draws, lowest=1, whole=True)
    encoder, decoder = variational(context)

    def results() -> Iterator[MetricResult]:
        some = shown(context, context.held_out, num_images, what="held-out")
        check_classes(decoder, some.images.c_dim)

        def measure(images: Tensor, labels: Tensor, digests: list[str]) -> list[Tensor]:
            check_bits(decoder, images)
            posterior = encoder.posterior(images)
            noise = draws(context.seed, digests, num_draws, decoder.code_dim, "draws").to(images)
            log_p = log_joint(decoder, posterior, images, labels, noise)
            rate = kl_to_normal(posterior).sum(dim=1)
            return [rate, log_p.distortion, importance_weighted_bound(log_p.weights), posterior.mean]

        rate, distortion, iwae, means = of_each(context, some, measure, "Bounding the likelihood (images)")
        sigma = float(decoder.log_sigma.exp()) if decoder.likelihood == "gaussian" else None
        num_dims = decoder.img_channels * decoder.resolution**2
        bits = bits_per_dimension(torch.from_numpy(rate + distortion), num_dims, sigma).numpy()
        values = {"elbo": -rate - distortion, "rate": rate, "distortion": distortion, "bits_per_dim": bits,
                  f"iwae_{num_draws}": iwae}  # fmt: skip
        infos = INFOS | {f"iwae_{num_draws}": MetricInfo(
            meaning=_BOUND.format(f"importance-weighted over {num_draws} draws"), unit="nats", direction="higher",
        )}  # fmt: skip
        protocol = generator_protocol(context.models) | some.protocol | {
            "likelihood": decoder.likelihood, "sigma": sigma, "num_draws": num_draws, "seed": context.seed,
            "interval": INTERVAL,
        }  # fmt: skip
        for name, each in values.items():
            value, interval = mean_with_interval(each)
            yield MetricResult.of(infos[name], name, value, protocol=protocol, interval=interval)
        yield active_units(means, protocol, context.seed)

    return results()


class LogJoint(NamedTuple):
    """Log densities for K draws of the code for each of N images, in nats."""

    distortion: Tensor  # -log p(x|z), mean over draws (N,)
    weights: Tensor  # log p(x, z) / q(z|x) (K, N)


def log_joint(decoder: Decoder, posterior: Posterior, images: Tensor, labels: Tensor, noise: Tensor) -> LogJoint:
    """Evaluate `LogJoint` for noise (K, N, code_dim), one decoder pass per draw, so that batches do not grow."""
    distortions, weights = [], []
    for each in noise:
        z = posterior.code(each)
        # log p(x|z) + log p(z) - log q(z|x)
        distortion = negative_log_likelihood(decoder, decoder.synthesis.outputs(decoder.ws(z, labels)), images)
        assert posterior.log_variance is not None
        log_q = log_normal(z.double(), posterior.mean.double(), posterior.log_variance.double())
        distortions.append(distortion.double())
        weights.append(log_normal(z.double()) - log_q - distortion.double())
    return LogJoint(torch.stack(distortions).mean(dim=0), torch.stack(weights))


def active_units(means: np.ndarray, protocol: dict[str, Any], seed: int) -> MetricResult:
    """Count the active code dimensions from the means (N, code_dim) of q(z|x)."""

    def count(rows: np.ndarray) -> np.ndarray:
        return (means[rows.astype(int)].var(axis=-2) > ACTIVE).sum(axis=-1).astype(np.float64)  # rows (R, N) -> (R,)

    value = float(count(np.arange(len(means))[None])[0])
    low, high = bootstrap_interval(np.arange(len(means), dtype=np.float64), count, seed=seed, num_resamples=200)
    interval = (min(low, value), max(high, value))
    own = protocol | {"threshold": ACTIVE, "code_dim": means.shape[1]}
    return MetricResult.of(INFOS["active_units"], "active_units", value, protocol=own, interval=interval)


def check_classes(decoder: Decoder, c_dim: int) -> None:
    """Raise UserError if the images do not have the decoder's labels."""
    if decoder.c_dim and c_dim != decoder.c_dim:
        raise UserError(
            f"The decoder is conditional on {decoder.c_dim} classes and the images have {c_dim}; choose data.labels as "
            "in its training."
        )


def check_bits(decoder: Decoder, images: Tensor) -> None:
    """Raise UserError for grey pixels if the likelihood is Bernoulli."""
    if decoder.likelihood == "bernoulli" and not bool((images.abs() == 1).all()):
        raise UserError("A Bernoulli likelihood needs images of black and white pixels alone; give data.binary=true.")
