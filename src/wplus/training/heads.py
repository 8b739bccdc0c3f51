"""Heads on frozen features in a GAN's training: their hinge loss, their learning rate, their weight by the clock.

The weight is that of what they tell the generator; their own loss has none. While it is 0 by the clock they neither
tell nor learn. Heads that win tell the generator the same of all its images and cost it variety (recall), which
`target` is against.
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
        meaning="What the heads on frozen features say against generated images: the mean logit, negative, unweighted."
    ),
    "train/heads/accuracy": MetricInfo(
        meaning="Share of positions at which the heads on frozen features judge rightly: 0.5 is chance, 1 have won."
    ),
    "train/heads/weight": MetricInfo(meaning="Weight of the heads on frozen features in the generator's loss."),
}


def mean_per_head(values: Sequence[Tensor]) -> Tensor:
    """Per head (n, positions) -> (n,): the mean over heads of means over positions, so that all heads count alike."""
    return torch.stack([value.mean(dim=1) for value in values]).mean(dim=0)


class Heads(nn.Module):
    """Heads that are the whole discriminator (Projected GAN, equation 3): hinge loss, weight 1.

    Args:
        lr: learning rate of their Adam; None: the discriminator's.
        policy: of DiffAugment in front of the heads alone, beside what `augment` does; "": none.
    """

    def __init__(self, *, lr: float | None = None, policy: str = "") -> None:
        super().__init__()
        if lr is not None:
            check_number("discriminator.heads.lr", lr, lowest=0)
        self.lr, self.policy = lr, policy
        self.augment = DiffAugment(policy) if policy else None
        self.fingerprint: dict[str, Any] = {"lr": lr, "policy": policy}

    def weight_at(self, nimg: int) -> float | Tensor:
        """Of the heads in the generator's loss after `nimg` images; the number 0 where nobody asks them."""
        return 1.0

    def sample(self, images: Tensor) -> Sampled:
        """What the heads see of a batch like `images`, drawn from torch's generator."""
        return Identity() if self.augment is None else self.augment.sample(images)

    def against(self, discriminator: Projected, images: Tensor, labels: Tensor) -> Tensor:
        """What the heads say against generated images, as they see them, unweighted (n,)."""
        return self.generator_loss(discriminator.head_logits(images, labels))

    def learn(
        self, discriminator: Projected, batch: DiscriminatorBatch, *, nimg: int
    ) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
        """The heads' loss of pairs (n,), their logits of the real images, and what is logged."""
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
        """-D(G(z)) (n,), of logits (n, positions) per head."""
        return mean_per_head([critic_generator(logits) for logits in fake])

    def discriminator_loss(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """max(0, 1 - D(x)) + max(0, 1 + D(G(z))) (n,)."""
        return mean_per_head([hinge_discriminator(a, b) for a, b in zip(real, fake, strict=True)])

    def observe(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """Take note of logits, of one micro-batch; the share of positions that are judged rightly, a scalar."""
        right = [(a > 0).float() / 2 + (b < 0).float() / 2 for a, b in zip(real, fake, strict=True)]
        return mean_per_head(right).mean()

    def adapt(self, *, batch_size: int, step: int) -> None:
        """Move what is moved after step number `step` (from 1)."""


class ScheduledHeads(Heads):
    """Heads beside a discriminator of pixels, weighed by the clock, and down where they win.

    The weight is 0 up to `start_kimg`, rises on a line to `weight` in `warmup_kimg`, stays for `hold_kimg`, and goes on
    a line to `floor` in `fade_kimg`. While it is 0 by the clock nobody asks the heads, and they cost nothing.

    With `target` it is also multiplied by a strength in [0, 1], from 1: every `interval` steps it moves by
    batch interval / speed, down while the heads judge more than the share `target` of all positions rightly, else up.

    Args:
        weight: of what the heads say, beside the pixels' loss.
        start_kimg: before it there are no heads.
        warmup_kimg: time from 0 to `weight`.
        hold_kimg: time at `weight`; None: for ever.
        fade_kimg: time from `weight` to `floor`, after `hold_kimg`.
        floor: where the weight goes in the end, at most `weight`.
        target: share of positions, from 0.5 to 1; None: the weight follows the clock alone.
        interval: steps between two moves of the strength.
        speed_kimg: time that the strength needs from 1 to 0.
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
        self.register_buffer("seen", torch.zeros(2))  # since the last move: sum of shares, micro-batches; all processes
        self._own = torch.zeros(2)  # of this process in this step

    def weight_at(self, nimg: int) -> float | Tensor:
        """By the clock, times the strength where there is one."""
        scheduled = self.scheduled(nimg / 1000)
        return scheduled if self.target is None or not scheduled else scheduled * self.strength.clone()

    def scheduled(self, kimg: float) -> float:
        """The weight by the clock alone."""
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
        """As of `Heads`; a lost step's share counts as chance."""
        share = super().observe(real, fake)
        if self.target is not None:
            self._own = self._own.to(share.device) + torch.stack([share.nan_to_num(0.5), torch.ones_like(share)])
        return share

    @torch.no_grad()
    def adapt(self, *, batch_size: int, step: int) -> None:
        """Exchange this step's shares, and every `interval` steps move the strength."""
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
