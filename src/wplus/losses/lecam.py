"""LeCam regularisation (Tseng et al. 2021, "Regularizing Generative Adversarial Networks under Limited Data")."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from wplus.core.distributed import mean_over_ranks
from wplus.errors import check_number
from wplus.losses.adversarial import why_unsigned


class LeCam(nn.Module):
    """A discriminator loss that regularises logits towards the running mean of the opposite class.

    `base` + weight [(D(x) - a_fake)^2 + (D(G(z)) - a_real)^2], where a_real and a_fake are the running means of D's
    logits in previous steps (equation 3), which are part of a run's state. The first step is not regularised.

    Args:
        base: (real logits, generated logits) -> loss per pair.
        weight: weight of the regularisation term.
        decay: decay of the running means, per step.
    """

    means: Tensor
    known: Tensor

    def __init__(self, base: Callable[[Tensor, Tensor], Tensor], *, weight: float = 0.01, decay: float = 0.99) -> None:
        super().__init__()
        check_number("loss.discriminator_loss.weight", weight, lowest=0)
        check_number("loss.discriminator_loss.decay", decay, lowest=0, highest=0.9999)
        self.base, self.weight, self.decay = base, weight, decay
        self.unsigned = why_unsigned(base)
        self.described = f"LeCam weight={weight:g} decay={decay:g}"
        self.register_buffer("means", torch.zeros(2))  # of the logits of real and generated images
        self.register_buffer("known", torch.zeros(()))  # 1 after the first step
        self._sums, self._count = torch.zeros(2), 0  # for this process in this step

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """Logits (n, 1) of pairs -> loss per pair (n, 1)."""
        with torch.no_grad():
            self._sums = self._sums.to(real.device) + torch.stack([real.sum(), fake.sum()])
            self._count += len(real)
        held = (real - self.means[1].clone()).square() + (fake - self.means[0].clone()).square()
        return self.base(real, fake) + self.weight * self.known.clone() * held

    @torch.no_grad()
    def end_step(self) -> None:
        """Update the running means with this step's logits from all processes; non-finite steps are skipped."""
        if not self._count:
            return
        now = mean_over_ranks(self._sums.to(self.means) / self._count)
        moved = torch.where(self.known > 0, self.means.lerp(now, 1 - self.decay), now)
        good = now.isfinite().all()
        self.means.copy_(torch.where(good, moved, self.means))
        self.known.copy_(torch.where(good, 1.0, self.known))
        self._sums, self._count = torch.zeros_like(self.means), 0
