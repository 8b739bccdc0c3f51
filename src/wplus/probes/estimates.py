"""What the health of a game is read from: numbers of one moment, each with the error that its few images leave.

All errors are standard errors of the estimate over the choice of images and latents.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wplus.evaluation.manifold import precision_recall

COPY_QUANTILE = 0.05  # of real images' distances to their nearest: what is closer is taken for a copy
SAME = 1e-5  # of the mean distance: closer vectors are those of one image, up to rounding


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error."""

    value: float
    error: float

    @property
    def is_finite(self) -> bool:
        """Whether both are."""
        return math.isfinite(self.value) and math.isfinite(self.error)

    def over(self, other: Estimate) -> Estimate:
        """This number divided by another one, to first order; as if the two were independent."""
        ratio = self.value / other.value
        return Estimate(ratio, math.hypot(self.error, ratio * other.error) / abs(other.value))


# --- of features (N, dim) of as many generated as real images ---------------------------------------------------------


def diversity(generated: Tensor, real: Tensor) -> Estimate | None:
    """Mean distance of two generated images over that of two real ones; None where all real images are one."""
    ratio = [mean_distance(distances(features)) for features in (generated, real)]
    return ratio[0].over(ratio[1]) if ratio[1].value > 0 else None


def distinct(generated: Tensor, real: Tensor) -> Estimate | None:
    """Generated images that are no copies of each other, over such real ones; None where all real images are one.

    A copy is closer to an image than all but `COPY_QUANTILE` of the real images are to the nearest one that differs.
    """
    between = distances(real)
    nearest = between.masked_fill(between == 0, torch.inf).amin(dim=1)
    if not nearest.isfinite().all():
        return None
    reach = float(nearest.quantile(COPY_QUANTILE))
    return share(num_distinct(distances(generated), reach), max(num_distinct(between, reach), 1))


def manifolds(generated: Tensor, real: Tensor) -> tuple[Estimate, Estimate]:
    """Share of the generated images that lie among the real ones, and the other way round: precision and recall.

    With k = 3 (Kynkäänniemi et al. 2019, see `wplus.evaluation.manifold`); both depend on the number of images.
    """
    shares = precision_recall(real, generated, k=3)
    sides = zip(shares, (len(generated), len(real)), strict=True)
    return tuple(share(round(part * num), num) for part, num in sides)  # type: ignore[return-value]


def distances(features: Tensor) -> Tensor:
    """(N, N) float64, Euclidean; 0 for vectors that are the same."""
    rows = features.double()
    rows = rows - rows.mean(dim=0)  # what is large in all of them would hide small distances
    between = torch.cdist(rows, rows).fill_diagonal_(0)
    return between.masked_fill_(between <= SAME * between.mean(), 0)


def mean_distance(between: Tensor) -> Estimate:
    """Of two different images, with the jackknife's error over images; `between` (N, N), N > 2."""
    num = len(between)
    of_each = between.sum(dim=1) / (num - 1)
    mean = of_each.mean()
    # Without image i the mean is (N mean - 2 of_each_i) / (N - 2).
    moved = 2 * (mean - of_each) / (num - 2)
    return Estimate(float(mean), float(((num - 1) / num * moved.square().sum()).sqrt()))


def num_distinct(between: Tensor, reach: float) -> int:
    """How many images are left when each that is closer than `reach` to an earlier one that is left is dropped."""
    left: list[int] = []
    for index, row in enumerate(between):
        if not left or float(row[left].min()) >= reach:
            left.append(index)
    return len(left)


def share(count: int, num: int) -> Estimate:
    """`count` of `num` images; the error is that of Agresti and Coull (1998), which is not 0 at none and all.

    Images that are counted in pairs, such as copies, are half as many observations: their error is taken for that.
    """
    observations = num / 2 + 4
    middle = (min(count, num) / 2 + 2) / observations
    return Estimate(count / num, math.sqrt(middle * (1 - middle) / observations))


# --- of logits (N,) ---------------------------------------------------------------------------------------------------


def overfitting(
    train: Tensor, held_out: Tensor, generated: Tensor, *, sure: float, num_train: int | None = None
) -> Estimate | None:
    """r_v = (E[D_train] - E[D_held_out]) / (E[D_train] - E[D_generated]) (Karras et al. 2020, arXiv:2006.06676, eq. 1).

    0: the discriminator takes images that it has not seen for what those are that it has; 1: for generated ones. None
    while it does not tell training images from generated ones, by a margin that surely (by `sure` errors) exceeds the
    spread of either: then there is nothing to divide by, and it has not overfitted but lost. `num_train` is how many
    training images there are: where all of them were asked their mean has no error (None: `train` are few of many).
    """
    a, h, g = (Estimate(float(x.double().mean()), _error_of_mean(x)) for x in (train, held_out, generated))
    if num_train is not None:
        a = Estimate(a.value, a.error * math.sqrt(max(0.0, 1 - len(train) / num_train)))
    margin = a.value - g.value
    spread = math.sqrt(float(train.double().var() + generated.double().var()) / 2)
    if margin - sure * math.hypot(a.error, g.error) <= spread:
        return None
    ratio = (a.value - h.value) / margin
    return Estimate(ratio, math.hypot((1 - ratio) * a.error, h.error, ratio * g.error) / margin)


def signs(train: Tensor) -> Estimate:
    """r_t = E[sign D_train] (the same, eq. 1): near 0 without overfitting; meaningful where logits have a zero."""
    return Estimate(float(train.double().sign().mean()), _error_of_mean(train.sign()))


def pull(generator_loss: Callable[..., Tensor], generated: Tensor, train: Tensor, *, compares: bool) -> Estimate | None:
    """Mean |d loss / d logit| of the generator's loss where its images are, over that where D could not tell.

    Near 0 the gradient has vanished: the discriminator is sure and the loss is flat there, as the minimax loss is
    (Goodfellow et al. 2014, section 3). `compares`: the loss also takes logits of real images, pair by pair.
    """
    num = min(len(generated), len(train))
    fake, real = generated[:num, None].double(), train[:num, None].double()
    undecided = ((fake.mean() + real.mean()) / 2).expand_as(fake)
    slopes = _slopes(generator_loss, fake, real if compares else None)
    there = float(_slopes(generator_loss, undecided, undecided if compares else None).mean())
    return Estimate(float(slopes.mean()) / there, _error_of_mean(slopes) / there) if there > 0 else None


def _slopes(generator_loss: Callable[..., Tensor], fake: Tensor, real: Tensor | None) -> Tensor:
    with torch.enable_grad():
        logits = fake.detach().clone().requires_grad_()
        loss = generator_loss(logits) if real is None else generator_loss(logits, real)
        return torch.autograd.grad(loss.sum(), logits)[0].abs()


def _error_of_mean(values: Tensor) -> float:
    return float(values.double().std() / math.sqrt(len(values)))
