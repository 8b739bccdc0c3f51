"""Control of the augmentation strength p: none, fixed, scheduled, or adapted to the discriminator's overfitting."""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from wplus.core.distributed import is_first, mean_over_ranks
from wplus.core.metric_result import MetricInfo
from wplus.errors import check_number
from wplus.training.augment.pipeline import Identity, Pipeline, Sampled, SampledAugment
from wplus.training.hparams import Resolved, augment_speed, on_cosine

NEAR_ONE = 0.95  # p is considered saturated from here on
INFOS = {
    "train/augment/p": MetricInfo(meaning="Probability of each transform of what the discriminator sees."),
    "train/augment/rt": MetricInfo(
        meaning="Mean sign of the discriminator's logits of real images: about 0 without overfitting, at most 1."
    ),
    "train/augment/saturated": MetricInfo(
        meaning="Whether p has been near 1 for long: augmentation cannot hide the overfitting.", direction="lower"
    ),
}


class NoAugment(nn.Module):
    """No augmentation, and the base class of all others."""

    fingerprint: Mapping[str, Any] | None = None
    """Settings that must not change when a run is resumed."""
    fixed_form: bool = False
    """Whether samples have the same structure in every step, i.e. p = 0 gets no shortcut."""

    def sample(self, images: Tensor) -> Sampled:
        """Sample the augmentation of a batch like `images` (N, C, H, W); calling it on images applies it."""
        return Identity()

    def observe(self, real_logits: Tensor) -> None:
        """Record the logits (n, 1) of the augmented real images of one micro-batch."""

    def adapt(self, *, batch_size: int, step: int) -> None:
        """Update p after step number `step` (from 1), of `batch_size` images over all processes."""

    def values(self) -> dict[str, Tensor]:
        """Values to log for this step, as scalars on the device."""
        return {}

    def summary(self) -> dict[str, float]:
        """Values to log for the current state, on the host; warns if something is wrong."""
        return {}

    def start_from_trained(self) -> Resolved:
        """Adapt to networks that are already trained, before the first step; return the values that change."""
        return {}


class FixedAugment(NoAugment):
    """Augmentation with a constant probability p in [0, 1]; the other arguments are those of `Pipeline`."""

    p: Tensor

    def __init__(self, p: float, **pipeline: Any) -> None:
        super().__init__()
        check_number("augment.p", p, lowest=0, highest=1)
        self.pipeline = Pipeline(**pipeline)
        self.fingerprint: dict[str, Any] = {"p": float(p), **pipeline}
        self.register_buffer("p", torch.tensor(float(p)))
        self._on_host = HostScalar(self.p)
        self.register_load_state_dict_post_hook(lambda module, _: module._on_host.note(module.p))

    def sample(self, images: Tensor) -> SampledAugment | Identity:
        """Sample transforms from torch's generator, seeded by the phase; the identity if p is known to be 0."""
        is_nothing = not self.fixed_form and self._on_host.is_zero()
        return Identity() if is_nothing else self.pipeline.sample(images, self.p)

    def values(self) -> dict[str, Tensor]:
        """The current p."""
        return {"train/augment/p": self.p}


class ScheduledAugment(FixedAugment):
    """Augmentation whose p follows a cosine to `p_end` over the first `decay_kimg` (0: p_end from the start), as in
    R3GAN (Huang et al. 2024). Hyper-parameters with the same decay time follow the same curve.
    """

    def __init__(self, p: float = 0.0, *, p_end: float, decay_kimg: float, **pipeline: Any) -> None:
        super().__init__(p, **pipeline)
        check_number("augment.p_end", p_end, lowest=0, highest=1)
        check_number("augment.decay_kimg", decay_kimg, lowest=0)
        self.start, self.end, self.decay_kimg = float(p), float(p_end), decay_kimg
        self.fingerprint |= {"p_end": float(p_end), "decay_kimg": float(decay_kimg)}
        self.adapt(batch_size=0, step=0)

    @torch.no_grad()
    def adapt(self, *, batch_size: int, step: int) -> None:
        """Set p for the next step."""
        self.p.fill_(on_cosine(self.start, self.end, batch_size * step, decay_kimg=self.decay_kimg))
        self._on_host.note(self.p)


class AdaptiveAugment(FixedAugment):
    """Adaptive augmentation: p rises while D is too confident on real images, and falls otherwise (ADA, section 3).

    Every `interval` steps p <- p + sign(r_t - target) batch interval / speed, clamped to [0, 1], where
    r_t = E[sign D(x)] over the real images of these steps: near 0 without overfitting, 1 with complete overfitting.

    Args:
        p: initial value.
        target: target of r_t, in [-1, 1].
        interval: steps between two updates.
        speed_kimg: time for p to go from 0 to 1; None: `wplus.training.hparams.augment_speed`.
        alarm_kimg: warn once after p has been near 1 for this long.
    """

    signs: Tensor
    rt: Tensor
    saturated_nimg: Tensor

    def __init__(
        self,
        p: float = 0.0,
        *,
        target: float = 0.6,
        interval: int = 4,
        speed_kimg: float | None = None,
        alarm_kimg: float = 100.0,
        **pipeline: Any,
    ) -> None:
        super().__init__(p, **pipeline)
        check_number("augment.target", target, lowest=-1, highest=1)
        check_number("augment.interval", interval, lowest=1, whole=True)
        self.speed_is_given = speed_kimg is not None
        speed_kimg = augment_speed(transfer=False)[0] if speed_kimg is None else speed_kimg
        check_number("augment.speed_kimg", speed_kimg, lowest=0.001)
        check_number("augment.alarm_kimg", alarm_kimg, lowest=0)
        self.target, self.interval, self.speed, self.alarm = target, interval, speed_kimg * 1000, alarm_kimg * 1000
        self.fingerprint |= {"target": target, "interval": interval, "speed_kimg": speed_kimg}
        self.register_buffer("signs", torch.zeros(2))  # over all processes since the last update: sum of signs, images
        self.register_buffer("rt", torch.zeros(()))
        self.register_buffer("saturated_nimg", torch.zeros((), dtype=torch.int64))  # images since p has been near 1
        self._seen = torch.zeros(2)  # this process, this step
        self._warned = False

    def start_from_trained(self) -> Resolved:
        """Speed up p unless a speed was given: a discriminator that is good from the start overfits sooner."""
        if self.speed_is_given:
            return {}
        speed_kimg, why = augment_speed(transfer=True)
        self.speed = speed_kimg * 1000
        self.fingerprint |= {"speed_kimg": speed_kimg}
        return {"augment_speed_kimg": (speed_kimg, why)}

    @torch.no_grad()
    def observe(self, real_logits: Tensor) -> None:
        """Accumulate the signs of the logits; NaN counts as 0."""
        signs = real_logits.sign().nan_to_num(0.0)
        self._seen = self._seen.to(signs.device) + torch.stack([signs.sum(), torch.ones_like(signs).sum()])

    @torch.no_grad()
    def adapt(self, *, batch_size: int, step: int) -> None:
        """Exchange this step's signs, and update p every `interval` steps, without synchronising with the device."""
        self.signs += mean_over_ranks(self._seen.to(self.signs))
        self._seen = torch.zeros_like(self.signs)
        if step % self.interval:
            return
        images = batch_size * self.interval
        self.rt.copy_(self.signs[0] / self.signs[1].clamp(min=1))
        self.p.add_(torch.sign(self.rt - self.target) * (images / self.speed)).clamp_(0, 1)
        self.signs.zero_()
        self.saturated_nimg.copy_((self.saturated_nimg + images) * (self.p >= NEAR_ONE))
        self._on_host.note(self.p)

    def values(self) -> dict[str, Tensor]:
        """The current p and the last r_t."""
        return {**super().values(), "train/augment/rt": self.rt}

    def summary(self) -> dict[str, float]:
        """Whether p has been near 1 for long; if so, also warns once."""
        near_one = int(self.saturated_nimg)
        saturated = near_one > 0 and near_one >= self.alarm
        if saturated and not self._warned and is_first():
            self._warned = True
            warnings.warn(
                f"The augmentation's p has been above {NEAR_ONE} for {near_one / 1000:g} kimg: the discriminator "
                "overfits faster than augmentation can hide, and generated images may come out augmented. More images, "
                "mirror=x, a larger gamma or a smaller discriminator help.",
                stacklevel=2,
            )
        return {"train/augment/saturated": float(saturated)}


class HostScalar:
    """A host copy of a device scalar, transferred without waiting, to find out whether it is 0.

    A late answer only costs work and does not change results: p = 0 is the identity either way, and a phase draws its
    augmentation last.
    """

    def __init__(self, value: Tensor) -> None:
        self.note(value)

    def note(self, value: Tensor) -> None:
        """Start copying the new `value` to the host; from CUDA the copy is asynchronous."""
        self._arrived = None
        if value.device.type == "cuda":
            self._host = torch.empty((), pin_memory=True)
            self._host.copy_(value.detach(), non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()
        else:
            self._host = value.detach().to("cpu", copy=True)

    def is_zero(self) -> bool:
        """Return whether the value has arrived and is 0."""
        return (self._arrived is None or self._arrived.query()) and float(self._host) == 0
