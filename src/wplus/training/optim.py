"""Optimizers: Adam settings for GANs, frozen discriminator layers (Freeze-D), and Ranger for encoders.

Ranger is rectified Adam on centralised gradients with a second, slow set of weights: RAdam (Liu et al. 2020,
https://arxiv.org/abs/1908.03265, algorithm 2), Lookahead (Zhang et al. 2019, https://arxiv.org/abs/1907.08610) and
gradient centralisation (Yong et al. 2020, https://arxiv.org/abs/2004.01461).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from wplus.errors import UserError, check_number
from wplus.models.discriminator import DiscriminatorNetwork
from wplus.models.projected import Projected
from wplus.training.hparams import Hparams
from wplus.training.validate import name_of


def adam_numbers(hparams: Hparams, *, lazy_penalties: bool, factor: float = 1.0) -> list[dict[str, Any]]:
    """Return lr, scaled by `factor`, and betas for the generator and the discriminator.

    A regularisation step every k steps makes k + 1 steps out of k, which is corrected by lr c and beta^c with
    c = k / (k + 1) (StyleGAN2, appendix B).
    """
    lazy = (hparams.pl_interval if hparams.pl_weight else None, hparams.r1_interval if lazy_penalties else None)
    shares = [1.0 if interval is None else interval / (interval + 1) for interval in lazy]
    return [
        {"lr": lr * share * factor, "betas": (hparams.beta1**share, hparams.beta2**share)}
        for lr, share in zip((hparams.lr_generator, hparams.lr_discriminator), shares, strict=True)
    ]


def discriminator_groups(
    discriminator: DiscriminatorNetwork,
    frozen: Sequence[nn.Module],
    numbers: Mapping[str, Any],
    heads: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Return parameter groups for the unfrozen part of the discriminator, with the settings `numbers`.

    Heads on frozen features get the settings `heads` if these have a learning rate. Their group is then marked
    `own_lr`, so that schedules leave its settings alone."""
    still = {id(parameter) for layer in frozen for parameter in layer.parameters()}
    learning = [parameter for parameter in discriminator.parameters() if id(parameter) not in still]
    apart = set[int]()
    if isinstance(discriminator, Projected) and heads["lr"] is not None:
        apart = {id(parameter) for parameter in discriminator.nets.parameters()}
    shared = [parameter for parameter in learning if id(parameter) not in apart]
    own = [parameter for parameter in learning if id(parameter) in apart]
    groups = [{"params": shared, **numbers}] if shared else []
    return [*groups, {"params": own, "own_lr": True, **heads}] if own else groups


# --- Freeze-D (Mo et al. 2020, "Freeze the Discriminator: a Simple Baseline for Fine-Tuning GANs") ------------------


def frozen_layers(discriminator: DiscriminatorNetwork, num: int) -> list[nn.Module]:
    """Freeze and return the first `num` layers, starting at the image; UserError if fewer can be frozen."""
    check_number("freeze_discriminator", num, lowest=0, whole=True)
    layers = discriminator.layers_from_image()
    if num > len(layers):
        raise UserError(
            f"freeze_discriminator must be at most {len(layers)}, the layers of {name_of(type(discriminator))} at this "
            f"resolution before those that make the logit, got {num}."
        )
    freeze(layers[:num])
    return layers[:num]


def freeze(layers: Sequence[nn.Module]) -> None:
    """Disable gradients of the layers' parameters and keep their batch statistics fixed (evaluation mode)."""
    for layer in layers:
        layer.requires_grad_(False).eval()


# --- Ranger ---------------------------------------------------------------------------------------------------------

RECTIFIED_FROM = 5  # length of the approximated moving average above which the second moment is used


class Ranger(Optimizer):
    """Ranger as used by pSp and e4e, with their defaults.

    If the attribute `found_inf` is a tensor of 1, a step changes neither weights nor moments. This is decided on the
    device; only the step count, kept on the host, advances. The state per parameter is step, exp_avg, exp_avg_sq and
    slow.

    Args:
        betas: decay rates of the two moments.
        eps: added to the square root of the second moment.
        lookahead_k: steps between two updates of the slow weights.
        lookahead_alpha: interpolation of the slow towards the fast weights, which then continue from the slow ones.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        *,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.95, 0.999),
        eps: float = 1e-5,
        weight_decay: float = 0.0,
        lookahead_k: int = 6,
        lookahead_alpha: float = 0.5,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "lookahead_k": lookahead_k, "lookahead_alpha": lookahead_alpha})
        self.found_inf: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient; gradients are overwritten in the process."""
        for group in self.param_groups:
            together: dict[int, list[Tensor]] = {}  # grouped by step count: some parameters may have joined later
            for p in (p for p in group["params"] if p.grad is not None):
                state = self._state(p)
                state["step"] += 1
                together.setdefault(state["step"], []).append(p)
            for step, params in together.items():
                found = torch.zeros(()) if self.found_inf is None else self.found_inf
                bad = found.to(params[0].device) > 0
                self._move(group, step, params, bad)
                if step % group["lookahead_k"] == 0:
                    for p in params:
                        slow = self.state[p]["slow"]
                        slow.copy_(torch.where(bad, slow, slow.lerp(p, group["lookahead_alpha"])))
                        p.copy_(torch.where(bad, p, slow))

    def _state(self, p: Tensor) -> dict:
        state = self.state[p]
        if not state:
            moments = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
            state.update(step=0, **moments, slow=p.detach().clone())
        return state

    def _move(self, group: dict, step: int, params: list[Tensor], bad: Tensor) -> None:
        """Apply one update; a bad step adds exact zeros and multiplies by exact ones."""
        beta1, beta2 = group["betas"]
        keep = (~bad).to(torch.float32)
        gradients = [centralised(p.grad.masked_fill_(bad, 0.0)) for p in params if p.grad is not None]
        first, second = ([self.state[p][name] for p in params] for name in ("exp_avg", "exp_avg_sq"))
        torch._foreach_mul_(first, torch.where(bad, 1.0, beta1))
        torch._foreach_add_(first, gradients, alpha=1 - beta1)
        torch._foreach_mul_(second, torch.where(bad, 1.0, beta2))
        torch._foreach_addcmul_(second, gradients, gradients, value=1 - beta2)
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"] * keep)
        size, rectified = step_size(step, beta1, beta2)
        if rectified:
            divisors = torch._foreach_sqrt(second)
            # alpha selects the overload for tensors; without it torch reads a number, which waits for the device.
            torch._foreach_add_(divisors, torch.where(bad, math.inf, group["eps"]), alpha=1)
            torch._foreach_addcdiv_(params, first, divisors, value=-group["lr"] * size)
        else:
            torch._foreach_add_(params, torch._foreach_mul(first, keep), alpha=-group["lr"] * size)


def centralised(gradient: Tensor) -> Tensor:
    """Subtract from a weight's gradient its mean over all but the output channels, in place; vectors are unchanged."""
    if gradient.ndim > 1:
        gradient -= gradient.mean(dim=tuple(range(1, gradient.ndim)), keepdim=True)
    return gradient


def step_size(step: int, beta1: float, beta2: float) -> tuple[float, bool]:
    """Return (learning-rate factor, whether to divide by the root of the second moment) for RAdam's step 1, 2, ..."""
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * step * beta2**step / (1 - beta2**step)
    unbiased = 1 / (1 - beta1**step)
    if length <= RECTIFIED_FROM:
        return unbiased, False
    rectification = ((length - 4) * (length - 2) * longest) / ((longest - 4) * (longest - 2) * length)
    return math.sqrt((1 - beta2**step) * rectification) * unbiased, True
