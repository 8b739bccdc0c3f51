"""Results of inverters and the record of their progress: history, best parameters, finished images.

Nothing here synchronises with the device at every step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from wplus.core.metric_result import MetricInfo
from wplus.errors import UserError
from wplus.latents.weight_delta import WeightDelta

CHECK_EVERY = 16  # evaluations between checks whether all images are done, which wait for the device


class Score(NamedTuple):
    """A number per image (N,), and its meaning."""

    values: Tensor
    info: MetricInfo


@dataclass(frozen=True)
class Inversion:
    """Latents of N images, and how they were found."""

    latents: Tensor  # (N, ...) in the requested space
    images: Tensor  # (N, C, R, R), the generator's images of the latents, and of the deltas where there are any
    noise: list[Tensor] | None  # one (N, 1, r, r) per noise layer if noise was optimised; None: the stored noise
    history: dict[str, Tensor]  # term -> (steps, N) on the CPU: "loss" and each term, unweighted, at every evaluation
    seconds: Tensor  # (N,) wall time of the batch divided by N
    deltas: Sequence[WeightDelta] | None = None  # changes of the generator's weights, one per image
    scores: Mapping[str, Score] = field(default_factory=dict)  # further measurements of the inverter, by name


def where_rows(mask: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Rows of `a` (N, ...) where the mask (N,) is set, elsewhere those of `b`."""
    return torch.where(mask.view([-1, *[1] * a.ndim][: a.ndim]), a, b)


class Record:
    """History and best parameters of N images over at most `num_steps` evaluations."""

    def __init__(self, num_steps: int, num: int, params: Sequence[Tensor]) -> None:
        self.num_steps, self.step = num_steps, 0
        self.history: dict[str, Tensor] = {}  # term -> (num_steps, N) on the device, filled row by row
        self.best = [param.detach().clone() for param in params]  # those at the lowest loss
        self.lowest = params[0].new_full((num,), float("inf"))  # (N,) loss so far
        # (N,): finished images, which stay as they are however long others take.
        self.frozen = torch.zeros_like(self.lowest, dtype=torch.bool)

    @torch.no_grad()
    def add(self, terms: Mapping[str, Tensor], params: Sequence[Tensor]) -> None:
        """Record one evaluation: its terms, each (N,), and the parameters they belong to.

        Frozen images repeat their last value, as do all images for a missing term.
        """
        for name in terms if self.step == 0 else self.history:
            if self.step == 0:
                self.history[name] = terms[name].new_zeros(self.num_steps, len(self.lowest))
            rows = self.history[name]
            last = rows[self.step - 1]
            rows[self.step] = torch.where(self.frozen, last, terms[name].detach()) if name in terms else last
        self.step += 1
        self.consider(terms["loss"].detach().masked_fill(self.frozen, float("inf")), params)

    @torch.no_grad()
    def consider(self, loss: Tensor, params: Sequence[Tensor]) -> None:
        """Keep the parameters of images whose loss (N,) is the lowest so far."""
        better = loss < self.lowest
        self.lowest = torch.where(better, loss, self.lowest)
        for best, param in zip(self.best, params, strict=True):
            best.copy_(where_rows(better, param, best))

    def freeze(self, done: Tensor) -> None:
        """Freeze the images in the mask (N,)."""
        self.frozen = self.frozen | done

    def is_over(self) -> bool:
        """Whether all images are frozen; only checked every `CHECK_EVERY` evaluations, otherwise False."""
        return self.step % CHECK_EVERY == 0 and bool(self.frozen.all())

    def finished_history(self) -> dict[str, Tensor]:
        """The history; unused steps repeat the last one taken."""
        for rows in self.history.values():
            rows[self.step :] = rows[self.step - 1]
        return self.history


class EarlyStop:
    """Stops an image when its best loss has not fallen by the share `tolerance` for `patience` evaluations.

    `like` is a tensor (N,); UserError for a rule that lacks either entry or has one out of range.
    """

    def __init__(self, rule: Mapping[str, float], like: Tensor) -> None:
        if set(rule) != {"patience", "tolerance"} or rule["patience"] < 1 or not 0 <= rule["tolerance"] < 1:
            allowed = "a patience of 1 or more and a tolerance from 0 to below 1"
            raise UserError(f"early_stop must be null, or have {allowed}, got {dict(rule)}.")
        self._patience, self._tolerance = rule["patience"], rule["tolerance"]
        self._reference, self._waited = torch.full_like(like, float("inf")), torch.zeros_like(like, dtype=torch.int64)

    def done(self, loss: Tensor) -> Tensor:
        """Update with the losses (N,) of one evaluation; returns a mask (N,) of the images that are done."""
        improved = loss < self._reference * (1 - self._tolerance)
        self._reference = torch.where(improved, loss, self._reference)
        self._waited = torch.where(improved, 0, self._waited + 1)
        return self._waited >= self._patience
