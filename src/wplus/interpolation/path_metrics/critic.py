"""How real a discriminator takes the frames of a walk for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wplus.checkpoint import fingerprint
from wplus.core.batching import in_batches
from wplus.errors import UserError
from wplus.interpolation.walk import MetricTools, Trajectory


def company_of(discriminator: Any) -> int:
    """Images whose company decides an image's logit: the others of its group of the minibatch standard deviation."""
    return discriminator.arguments.get("mbstd_group_size", 1) - 1


class Critic:
    """Logits of a discriminator that do not depend on the batch.

    One of ProGAN or StyleGAN looks at groups: its last block appends the standard deviation over a group's images
    (minibatch standard deviation, Karras et al. 2018, section 3), so an image's logit depends on its neighbours, and a
    batch of nearly equal frames looks like a collapsed generator. Here every image gets the same company, real images
    that stay the same: each image forms a group with `mbstd_group_size` - 1 of them, in turn with every such set of
    `references`, and its logit is the mean over the sets. Only the statistic is published; the company is our own.
    """

    def __init__(self, discriminator: Any, references: Tensor) -> None:
        """`references`: real images (R, C, H, W) in [-1, 1], R a multiple of mbstd_group_size - 1 (or none for 1)."""
        if discriminator.c_dim:
            raise UserError(
                "The discriminator is conditional, and frames between two images have no class: leave it out "
                "(discriminator=none), or give one that was trained without labels."
            )
        self.discriminator, self.fingerprint = discriminator, fingerprint(discriminator)
        self.company = company_of(discriminator)
        if self.company and (len(references) == 0 or len(references) % self.company):
            raise UserError(
                f"{len(references)} reference images cannot keep a discriminator company in sets of {self.company}: "
                "their number must be a multiple of that."
            )
        self.references = self._before_epilogue(references) if self.company else None

    @torch.no_grad()
    def logits(self, images: Tensor, *, batch_size: int = 64) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> (N,) float64 on the CPU; high is real."""
        (logits,) = in_batches(lambda batch: [self._logits(batch)], images, batch_size)
        return logits.double().cpu()

    @torch.no_grad()
    def _before_epilogue(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> features (N, channels, 4, 4)."""
        return self.discriminator.features(images).float()

    def _logits(self, images: Tensor) -> Tensor:
        if self.references is None:
            return self.discriminator(images)[:, 0]
        x, epilogue = self._before_epilogue(images), self.discriminator.epilogue
        total = x.new_zeros(len(x))
        sets = self.references.split(self.company)
        for company in sets:
            # Image n is in group n mod N: the first N rows are the images, then come N copies of each reference.
            group = torch.cat([x, company.repeat_interleave(len(x), dim=0)])
            total += epilogue(group)[: len(x), 0]
        return total / len(sets)


def logit(walk: Trajectory, judges: MetricTools) -> dict[str, float]:
    """The discriminator's logit along the way, in the company of fixed real images (`Critic`); high is real.

    The logit is that of Goodfellow et al. 2014 (arXiv:1406.2661); the company and the numbers along a path are our own.

    - `logit_mean`, `logit_min`: over the way.
    - `logit_dip`: mean of the two ends minus half way: by how much the middle looks less real than the ends.

    Left out without a discriminator. A discriminator is no metric of realism in general: it was trained against this
    generator, so compare paths of the same generator by it, nothing else.
    """
    if judges.critic is None:
        return {}
    logits = judges.critic.logits(walk.images, batch_size=judges.batch_size)
    walk.along["logit"] = logits
    dip = (logits[0] + logits[-1]) / 2 - logits[walk.middle].mean()
    return {"logit_mean": float(logits.mean()), "logit_min": float(logits.min()), "logit_dip": float(dip)}
