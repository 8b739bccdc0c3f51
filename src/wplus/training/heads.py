"""Training of discriminator heads on frozen features: hinge loss, learning rate and a weight schedule.

The weight applies to their term in the generator's loss; their own loss is unweighted. While the scheduled weight is 0,
the heads are neither used nor trained. Heads that win give the generator the same signal for all its images, which
costs variety (recall); `target` counteracts that.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wplus.core.distributed import mean_over_ranks
from wplus.core.metric_result import MetricInfo
from wplus.errors import check_number
from wplus.losses.adversarial import critic_generator, hinge_discriminator
from wplus.models.projected import Projected
from wplus.training.augment.diffaug import DiffAugment
from wplus.training.augment.pipeline import Identity, Sampled
from wplus.training.penalties import DiscriminatorBatch

INFOS = {
    "train/heads/loss": MetricInfo(
        meaning="Hinge loss of the heads on frozen features, mean over heads and images; 0: they have won."
    ),
    "train/heads/generator": MetricInfo(
        meaning="The generator's loss from the heads on frozen features: minus their mean logit, unweighted."
    ),
    "train/heads/accuracy": MetricInfo(
        meaning="Share of positions that the heads on frozen features classify correctly: 0.5 is chance, at 1 they won."
    ),
    "train/heads/weight": MetricInfo(meaning="Weight of the heads on frozen features in the generator's loss."),
}


def mean_per_head(values: Sequence[Tensor]) -> Tensor:
    """Average one (n, positions) tensor per head to (n,): over positions first, so that all heads count equally."""
    return torch.stack([value.mean(dim=1) for value in values]).mean(dim=0)


class Heads(nn.Module):
    """Training of heads that make up the whole discriminator (Projected GAN, equation 3): hinge loss, weight 1.

    Args:
        lr: learning rate of their Adam; None: the discriminator's.
        policy: DiffAugment policy for the heads only, in addition to `augment`; "": none.
    """

    def __init__(self, *, lr: float | None = None, policy: str = "") -> None:
        super().__init__()
        if lr is not None:
            check_number("discriminator.heads.lr", lr, lowest=0)
        self.lr, self.policy = lr, policy
        self.augment = DiffAugment(policy) if policy else None
        self.fingerprint: dict[str, Any] = {"lr": lr, "policy": policy}

    def weight_at(self, nimg: int) -> float | Tensor:
        """Weight of the heads in the generator's loss after `nimg` images; the number 0 while they are not used."""
        return 1.0

    def sample(self, images: Tensor) -> Sampled:
        """Sample the heads' augmentation for a batch like `images` from torch's generator."""
        return Identity() if self.augment is None else self.augment.sample(images)

    def against(self, discriminator: Projected, images: Tensor, labels: Tensor) -> Tensor:
        """Return the generator's unweighted loss (n,) from the heads, for generated images already augmented."""
        return self.generator_loss(discriminator.head_logits(images, labels))

    def learn(
        self, discriminator: Projected, batch: DiscriminatorBatch, *, nimg: int
    ) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
        """Return the heads' loss per pair (n,), their logits for the real images, and values to log."""
        shown = torch.cat([before(images) for before, images in zip(batch.before_heads, batch.shown, strict=True)])
        logits = discriminator.head_logits(shown, torch.cat([batch.labels, batch.fake_labels]))
        real, fake = ([each.chunk(2)[kind] for each in logits] for kind in (0, 1))
        loss = self.discriminator_loss(real, fake)
        known = [[each.detach() for each in part] for part in (real, fake)]
        values = {"loss": loss.detach().mean(), "accuracy": self.observe(*known)}
        weight = self.weight_at(nimg)
        values["weight"] = weight if isinstance(weight, Tensor) else torch.full((), weight, device=loss.device)
        return loss, known[0], {f"train/heads/{name}": value for name, value in values.items()}

    def generator_loss(self, fake: Sequence[Tensor]) -> Tensor:
        """Return -D(G(z)) (n,) from the logits (n, positions) of each head."""
        return mean_per_head([critic_generator(logits) for logits in fake])

    def discriminator_loss(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """Return max(0, 1 - D(x)) + max(0, 1 + D(G(z))) (n,)."""
        return mean_per_head([hinge_discriminator(a, b) for a, b in zip(real, fake, strict=True)])

    def observe(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """Record the logits of one micro-batch; return the share of positions classified correctly, a scalar."""
        right = [(a > 0).float() / 2 + (b < 0).float() / 2 for a, b in zip(real, fake, strict=True)]
        return mean_per_head(right).mean()

    def adapt(self, *, batch_size: int, step: int) -> None:
        """Adapt after step number `step` (from 1)."""


class ScheduledHeads(Heads):
    """Training of heads beside a pixel discriminator, with a scheduled weight that is reduced while the heads win.

    The weight is 0 until `start_kimg`, rises linearly to `weight` over `warmup_kimg`, stays there for `hold_kimg`, and
    changes linearly to `floor` over `fade_kimg`. While the scheduled weight is 0, the heads are not evaluated.

    With `target`, the weight is also multiplied by a strength in [0, 1], initially 1: every `interval` steps it changes
    by batch interval / speed, down while the heads classify more than the share `target` of all positions correctly,
    up otherwise.

    Args:
        weight: weight of the heads relative to the pixel loss.
        start_kimg: time at which the heads are switched on.
        warmup_kimg: time from 0 to `weight`.
        hold_kimg: time at `weight`; None: until the end.
        fade_kimg: time from `weight` to `floor`, after `hold_kimg`.
        floor: final weight, at most `weight`.
        target: share of positions, from 0.5 to 1; None: the weight follows the schedule alone.
        interval: steps between two updates of the strength.
        speed_kimg: time for the strength to go from 1 to 0.
    """

    strength: Tensor
    seen: Tensor

    def __init__(
        self,
        *,
        weight: float = 0.25,
        start_kimg: float = 0.0,
        warmup_kimg: float = 0.0,
        hold_kimg: float | None = None,
        fade_kimg: float = 0.0,
        floor: float = 0.0,
        target: float | None = None,
        interval: int = 4,
        speed_kimg: float = 20.0,
        lr: float | None = 2e-4,
        policy: str = "",
    ) -> None:
        super().__init__(lr=lr, policy=policy)
        numbers = {"weight": weight, "start_kimg": start_kimg, "warmup_kimg": warmup_kimg, "fade_kimg": fade_kimg}
        for name, value in numbers.items():
            check_number(f"discriminator.heads.{name}", value, lowest=0)
        if hold_kimg is not None:
            check_number("discriminator.heads.hold_kimg", hold_kimg, lowest=0)
        check_number("discriminator.heads.floor", floor, lowest=0, highest=weight)
        if target is not None:
            check_number("discriminator.heads.target", target, lowest=0.5, highest=1)
        check_number("discriminator.heads.interval", interval, lowest=1, whole=True)
        check_number("discriminator.heads.speed_kimg", speed_kimg, lowest=0.001)
        self.weight, self.start, self.warmup, self.hold = weight, start_kimg, warmup_kimg, hold_kimg
        self.fade, self.floor = fade_kimg, floor
        self.target, self.interval, self.speed = target, interval, speed_kimg * 1000
        self.fingerprint |= {**numbers, "hold_kimg": hold_kimg, "floor": floor, "target": target}
        self.fingerprint |= {"interval": interval, "speed_kimg": speed_kimg} if target is not None else {}
        self.register_buffer("strength", torch.ones(()))
        self.register_buffer("seen", torch.zeros(2))  # over all processes since the last update: sum of shares, number
        self._own = torch.zeros(2)  # this process, this step

    def weight_at(self, nimg: int) -> float | Tensor:
        """The scheduled weight, times the strength if there is a target."""
        scheduled = self.scheduled(nimg / 1000)
        return scheduled if self.target is None or not scheduled else scheduled * self.strength.clone()

    def scheduled(self, kimg: float) -> float:
        """The weight given by the schedule alone."""
        since = kimg - self.start
        if since < 0:
            return 0.0
        if since < self.warmup:
            return self.weight * since / self.warmup
        if self.hold is None or since - self.warmup <= self.hold:
            return self.weight
        share = min((since - self.warmup - self.hold) / self.fade, 1.0) if self.fade else 1.0
        return self.weight + (self.floor - self.weight) * share

    @torch.no_grad()
    def observe(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """See base class; the share of a step with NaN logits counts as chance."""
        share = super().observe(real, fake)
        if self.target is not None:
            self._own = self._own.to(share.device) + torch.stack([share.nan_to_num(0.5), torch.ones_like(share)])
        return share

    @torch.no_grad()
    def adapt(self, *, batch_size: int, step: int) -> None:
        """Exchange this step's shares between processes, and update the strength every `interval` steps."""
        if self.target is None:
            return
        self.seen += mean_over_ranks(self._own.to(self.seen))
        self._own = torch.zeros_like(self.seen)
        if step % self.interval:
            return
        share = self.seen[0] / self.seen[1].clamp(min=1)
        move = torch.sign(self.target - share) * (batch_size * self.interval / self.speed)
        self.strength.add_(torch.where(self.seen[1] > 0, move, 0.0)).clamp_(0, 1)
        self.seen.zero_()
