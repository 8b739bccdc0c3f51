"""Adversarial losses, as functions of logits (N, 1) -> loss per image (N, 1).

A generator loss takes the logits of generated images; if it also has a required argument `real`, it compares them with
the logits of real ones. A discriminator loss whose logits do not separate the two at 0 states why (`unsigned`).
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor

Loss = TypeVar("Loss", bound=Callable[..., Tensor])


def compares(generator_loss: Callable[..., Tensor]) -> bool:
    """Whether a generator loss needs the logits of real images in addition to those of generated ones."""
    real = inspect.signature(generator_loss).parameters.get("real")
    return real is not None and real.default is inspect.Parameter.empty


def unsigned(reason: str) -> Callable[[Loss], Loss]:
    """Mark a discriminator loss with the reason why the sign of its logits, which ADA uses, does not mean "real"."""

    def mark(loss: Loss) -> Loss:
        loss.unsigned = reason  # type: ignore[attr-defined]
        return loss

    return mark


def why_unsigned(discriminator_loss: Callable[..., Tensor]) -> str | None:
    """Return why the sign of a logit is meaningless with this loss; None if a positive one means "real"."""
    while isinstance(discriminator_loss, partial):  # as instantiated from a configuration
        discriminator_loss = discriminator_loss.func
    return getattr(discriminator_loss, "unsigned", None)


def minimax_generator(fake: Tensor) -> Tensor:
    """log(1 - sigmoid(D(G(z)))), the generator's part of equation 1 (Goodfellow et al. 2014)."""
    return -F.softplus(fake)


def nonsaturating_generator(fake: Tensor) -> Tensor:
    """-log sigmoid(D(G(z))), the non-saturating loss (Goodfellow et al. 2014, section 3)."""
    return F.softplus(-fake)


def logistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-log sigmoid(D(x)) - log(1 - sigmoid(D(G(z)))) for pairs of real and generated images."""
    return F.softplus(-real) + F.softplus(fake)


def least_squares_generator(fake: Tensor) -> Tensor:
    """(D(G(z)) - 1)^2 / 2 (LSGAN, Mao et al. 2017, equation 9)."""
    return 0.5 * (fake - 1).square()


@unsigned("it draws the logits of real images to 1 and of generated ones to 0, so that nearly all are positive")
def least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """(D(x) - 1)^2 / 2 + D(G(z))^2 / 2 (LSGAN, Mao et al. 2017, equation 9)."""
    return 0.5 * ((real - 1).square() + fake.square())


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """max(0, 1 - D(x)) + max(0, 1 + D(G(z))) (Lim and Ye 2017; SNGAN, Miyato et al. 2018, equation 16)."""
    return F.relu(1 - real) + F.relu(1 + fake)


def critic_generator(fake: Tensor) -> Tensor:
    """-D(G(z)), the generator loss of both the Wasserstein and the hinge loss (Arjovsky et al. 2017, algorithm 1)."""
    return -fake


@unsigned("its critic is free up to a constant, which moves all logits together")
def wasserstein_discriminator(real: Tensor, fake: Tensor, *, drift: float = 0.001) -> Tensor:
    """D(G(z)) - D(x) + drift D(x)^2 (Gulrajani et al. 2017, algorithm 1; the drift: ProGAN, appendix A.1)."""
    return fake - real + drift * real.square()


def relativistic_generator(fake: Tensor, real: Tensor) -> Tensor:
    """-log sigmoid(D(G(z)) - D(x)) of pairs (R3GAN, Huang et al. 2024, equation 2, with f(t) = -log(1 + e^-t))."""
    return F.softplus(real - fake)


@unsigned("it sees differences of logits alone, and a constant may move them all together")
def relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-log sigmoid(D(x) - D(G(z))) of pairs (R3GAN, Huang et al. 2024, equation 2)."""
    return F.softplus(fake - real)
