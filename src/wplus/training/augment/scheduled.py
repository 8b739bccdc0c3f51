"""A strength that moves by the clock, as R3GAN's (Huang et al. 2024)."""

from __future__ import annotations

from typing import Any

import torch

from wplus.errors import check_number
from wplus.training.augment.control import FixedAugment
from wplus.training.hparams import on_cosine


class ScheduledAugment(FixedAugment):
    """p goes from `p` to `p_end` on a cosine over the first `decay_kimg` thousands of images, and stays there.

    It depends on the images seen and on nothing else: where the numbers of the hparams move too, as R3GAN's do, they and
    p are at the same share of their ways.

    Arguments as in `FixedAugment`, and
        p_end        in [0, 1]
        decay_kimg   published together with the hparams's; 0: `p_end` throughout
    """

    def __init__(self, p: float = 0.0, *, p_end: float, decay_kimg: float, **pipeline: Any) -> None:
        super().__init__(p, **pipeline)
        check_number("augment.p_end", p_end, lowest=0, highest=1)
        check_number("augment.decay_kimg", decay_kimg, lowest=0)
        self.start, self.end, self.decay_kimg = float(p), float(p_end), decay_kimg
        self.identity |= {"p_end": float(p_end), "decay_kimg": float(decay_kimg)}
        self._set(0)

    @torch.no_grad()
    def adapt(self, *, batch_size: int, step: int) -> None:
        """The next step's p."""
        self._set(batch_size * step)

    def _set(self, nimg: int) -> None:
        self.p.fill_(on_cosine(self.start, self.end, nimg, decay_kimg=self.decay_kimg))
        self._known.note(self.p)
