"""Discriminator logits of the frames along a path."""

from typing import Any

import torch
from torch import Tensor

from wplus.checkpoint import fingerprint
from wplus.core.batching import in_batches
from wplus.errors import UserError
from wplus.interpolation.trajectory import MetricTools, PathNumber, Scores, Trajectory
from wplus.models.discriminator import DiscriminatorNetwork

LOGIT_MEAN = PathNumber(name="logit_mean", by_net=False, direction="higher", format=".2f", shown="file", meaning=(
    "The discriminator's logit of the frames, mean over the path; compare paths of one generator only."))  # fmt: skip
LOGIT_MIN = PathNumber(name="logit_min", by_net=False, direction="higher", format=".2f", shown="file", meaning=(
    "The discriminator's logit of the least real frame; compare paths of one generator only."))  # fmt: skip
LOGIT_DIP = PathNumber(name="logit_dip", by_net=False, direction="lower", format=".2f", shown="short", meaning=(
    "The discriminator's logit of the ends minus that halfway; 0 is no loss."))  # fmt: skip


def discriminator_score(trajectory: Trajectory, tools: MetricTools) -> Scores:
    """The discriminator's logit along the path, grouped with fixed real images; high is real.

    The logit is that of Goodfellow et al. 2014 (arXiv:1406.2661); the grouping and the numbers along a path are our
    own. The discriminator was trained against this generator, so this is not a general measure of realism.
    """
    if tools.discriminator is None:
        return
    logits = tools.discriminator.logits(trajectory.images, batch_size=tools.batch_size)
    trajectory.along["logit"] = logits
    yield LOGIT_MEAN, float(logits.mean())
    yield LOGIT_MIN, float(logits.min())
    yield LOGIT_DIP, float((logits[0] + logits[-1]) / 2 - logits[trajectory.middle].mean())


def company_of(discriminator: DiscriminatorNetwork) -> int:
    """Number of other images that affect an image's logit: the rest of its group for minibatch standard deviation."""
    return discriminator.group_size - 1


class DiscriminatorScore:
    """Discriminator logits that do not depend on the batch.

    Discriminators of ProGAN and StyleGAN look at groups: the last block appends the standard deviation over a group's
    images (minibatch standard deviation, Karras et al. 2018, section 3), and a batch of nearly equal frames looks like
    a collapsed generator. Here every image is grouped with `mbstd_group_size` - 1 real images, for each such set of
    `references` in turn, and its logit is the mean over the sets. Only the statistic is published.
    """

    def __init__(self, discriminator: DiscriminatorNetwork, references: Tensor) -> None:
        """`references` are real images (R, C, H, W) in [-1, 1], R a multiple of mbstd_group_size - 1 (none for 1)."""
        if discriminator.c_dim:
            raise UserError("The discriminator must be unconditional, as frames between images have no class, got one "
                            "with labels: leave it out (discriminator=none).")  # fmt: skip
        network: Any = discriminator.pixel_part or discriminator  # one with groups has features and an epilogue
        self.discriminator = network
        self.fingerprint = fingerprint(discriminator)
        self.company = company_of(discriminator)
        if self.company and (len(references) == 0 or len(references) % self.company):
            raise UserError(f"The number of reference images must be a multiple of {self.company}, got "
                            f"{len(references)}.")  # fmt: skip
        with torch.no_grad():
            self.references = network.features(references).float() if self.company else None

    @torch.no_grad()
    def logits(self, images: Tensor, *, batch_size: int = 64) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> (N,) float64 on the CPU; high is real."""
        (logits,) = in_batches(lambda batch: [self._logits(batch)], images, batch_size)
        return logits.double().cpu()

    def _logits(self, images: Tensor) -> Tensor:
        if self.references is None:
            return self.discriminator(images)[:, 0]
        x = self.discriminator.features(images).float()
        total, sets = x.new_zeros(len(x)), self.references.split(self.company)
        for company in sets:
            # Image n is in group n mod N: the first N rows are the images, then come N copies of each reference.
            group = torch.cat([x, company.repeat_interleave(len(x), dim=0)])
            total += self.discriminator.epilogue(group)[: len(x), 0]
        return total / len(sets)
