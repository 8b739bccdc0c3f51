"""The game's optimizers: Adam for either network, corrected for lazy regularisation, moved by the clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from wplus.training.hparams import Hparams


def adam_numbers(hparams: Hparams, *, lazy_penalties: bool, factor: float = 1.0) -> list[dict[str, Any]]:
    """lr, times `factor`, and betas of the generator and of the discriminator.

    With a regularisation step every k steps, k + 1 steps replace k: lr c and beta^c with c = k / (k + 1) (StyleGAN2,
    appendix B).
    """
    lazy = (hparams.pl_interval if hparams.pl_weight else None, hparams.r1_interval if lazy_penalties else None)
    shares = [1.0 if interval is None else interval / (interval + 1) for interval in lazy]
    return [
        {"lr": lr * share * factor, "betas": (hparams.beta1**share, hparams.beta2**share)}
        for lr, share in zip((hparams.lr_generator, hparams.lr_discriminator), shares, strict=True)
    ]


def adams(
    parameters: Sequence[Iterable[nn.Parameter]], numbers: Sequence[dict[str, Any]], eps: float
) -> list[torch.optim.Optimizer]:
    """One for the parameters of each network; the fused ones know how to skip a step (`TrainingModule.guarded_step`)."""
    return [
        torch.optim.Adam(learning, **chosen, eps=eps, fused=True)
        for learning, chosen in zip(parameters, numbers, strict=True)
    ]


def set_numbers(optimizers: Sequence[torch.optim.Optimizer], numbers: Sequence[dict[str, Any]]) -> None:
    """Replace lr and betas of optimizers at work."""
    for optimizer, chosen in zip(optimizers, numbers, strict=True):
        for group in optimizer.param_groups:
            group.update(chosen)
