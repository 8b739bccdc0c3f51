"""What every way to invert takes and gives.

An inverter is a function

    invert(generator, targets, *, space, perceptual, seed, names, labels, callback, encoder, masks, losses,
           **its options) -> Inversion

    generator    with `mapping`, `synthesis`, `num_ws`, ... as `wplus.models.stylegan2.Generator`; it is not changed
    targets      images (N, C, R, R) in [-1, 1] at the generator's resolution
    space        z, z+, w or w+
    perceptual   a `wplus.losses.perceptual.PerceptualDistance`, or None where the options do not ask for one
    seed, names  all randomness of an image comes from the seed and its name (its index by default), so that the
                 batch an image travels in does not change its result
    labels       (N, c_dim) one-hot for a conditional generator, else None, the default
    callback     called with a `Progress` after every step; None by default
    encoder      a `wplus.models.encoders.base.Encoder` for this generator; None by default. An inverter that cannot
                 do without one has no default for it
    masks        (N, 1, R, R) in [0, 1], how much each pixel of the targets counts; None, the default: all alike
    losses       further image terms by name, each a `wplus.losses.image_pair.ImageDistance`; None by default
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from wplus.errors import UserError


class Delta(Protocol):
    """What belongs to one image besides its code, such as a change of the generator's weights."""

    def save(self, path: Path) -> object:
        """Write it to a file, whole or not at all."""


@dataclass(frozen=True)
class Inversion:
    """Codes of a batch of images, and how they were found.

    Attributes
        codes    (N, ...) of the space that was asked for
        images   (N, C, R, R), the generator's pictures of the codes (and of the deltas, where there are any)
        noise    one (N, 1, r, r) per noise layer where noise was optimised, else None: the stored noise
        history  term -> (steps, N) on the CPU: "loss" and each of its terms, unweighted, at every evaluation
        seconds  (N,) wall time of the batch divided by N
        deltas   one per image where the inverter makes more than a code, else None; a folder of inversions keeps them
                 in `deltas/`, and an image without its file is not done
        scores   name -> (N,), what else the inverter measured: columns of the table
    """

    codes: Tensor
    images: Tensor
    noise: list[Tensor] | None
    history: dict[str, Tensor]
    seconds: Tensor
    deltas: Sequence[Delta] | None = None
    scores: Mapping[str, Tensor] = field(default_factory=dict)


class Progress(NamedTuple):
    """What a callback hears; tensors live on the device, reading their values waits for it."""

    step: int  # from 1; steps that turn out not to be needed are passed over
    num_steps: int
    loss: Tensor  # (N,)
    images: Tensor  # (N, C, R, R)


Callback = Callable[[Progress], object]


class Record:
    """History and best-so-far of N images over a known number of evaluations.

    Attributes
        history  term -> (num_steps, N) on the device, filled row by row
        lowest   (N,) lowest loss so far, infinite before the first evaluation
        best     the unknowns at the lowest loss, each (N, ...)
    """

    def __init__(self, num_steps: int, unknowns: Sequence[Tensor]) -> None:
        self.num_steps, self.step = num_steps, 0
        self.history: dict[str, Tensor] = {}
        self.best = [unknown.detach().clone() for unknown in unknowns]
        self.lowest = unknowns[0].new_full((len(unknowns[0]),), float("inf"))

    @torch.no_grad()
    def add(self, terms: Mapping[str, Tensor], unknowns: Sequence[Tensor], frozen: Tensor | None = None) -> None:
        """Append one evaluation: its terms, each (N,), and the settled unknowns that they belong to.

        Images that are frozen (N,) repeat their last row and keep what they have.
        """
        for name, term in terms.items():
            if name not in self.history:
                self.history[name] = term.new_zeros(self.num_steps, len(term))
            rows = self.history[name]
            is_new = frozen is None or self.step == 0
            rows[self.step] = term.detach() if is_new else torch.where(frozen, rows[self.step - 1], term.detach())
        self.step += 1
        loss = terms["loss"]
        self.consider(loss if frozen is None else loss.masked_fill(frozen, float("inf")), unknowns)

    @torch.no_grad()
    def consider(self, loss: Tensor, unknowns: Sequence[Tensor]) -> None:
        """Keep the unknowns of those images whose loss is lower than all before."""
        better = loss < self.lowest
        self.lowest = torch.where(better, loss, self.lowest)
        for best, unknown in zip(self.best, unknowns, strict=True):
            best.copy_(torch.where(better.view(-1, *[1] * (best.ndim - 1)), unknown, best))

    def finished_history(self) -> dict[str, Tensor]:
        """The history on the CPU; steps that were not needed repeat the last one that was."""
        for rows in self.history.values():
            rows[self.step :] = rows[self.step - 1]
        return {name: rows.cpu() for name, rows in self.history.items()}


ROUNDS_BETWEEN_CHECKS = 16  # looking whether all are done waits for the device


class EarlyStop:
    """Freezes an image when its best loss has not fallen by the share `tolerance` for `patience` evaluations.

    Attributes
        frozen  (N,) bool: these stay as they are, so that an image ends as it would alone, however long others take

    `rule` holds patience and tolerance; None never freezes anything.
    """

    def __init__(self, rule: Mapping[str, float] | None, num: int, device: torch.device) -> None:
        self._rule = None if rule is None else checked_rule(rule)
        self.frozen = torch.zeros(num, dtype=torch.bool, device=device)
        self._reference = torch.full((num,), float("inf"), device=device)
        self._waited = torch.zeros(num, dtype=torch.int64, device=device)
        self._heard = 0

    def add(self, loss: Tensor) -> None:
        """Take one evaluation (N,) into account."""
        self._heard += 1
        if self._rule is None:
            return
        improved = loss < self._reference * (1 - self._rule["tolerance"])
        self._reference = torch.where(improved, loss, self._reference)
        self._waited = torch.where(improved, 0, self._waited + 1)
        self.frozen = self.frozen | (self._waited >= self._rule["patience"])

    def is_over(self) -> bool:
        """Whether all images are frozen; asked of the device now and then only, else False."""
        return self._rule is not None and self._heard % ROUNDS_BETWEEN_CHECKS == 0 and bool(self.frozen.all())

    def held(self, old: Tensor, new: Tensor) -> Tensor:
        """`new` (N, ...), but `old` where an image is frozen."""
        return torch.where(self.frozen.view(-1, *[1] * (new.ndim - 1)), old, new)


def checked_rule(rule: Mapping[str, float]) -> Mapping[str, float]:
    """The rule itself; UserError unless it has a patience of 1 or more and a tolerance from 0 to below 1, no more."""
    fits = set(rule) == {"patience", "tolerance"} and rule["patience"] >= 1 and 0 <= rule["tolerance"] < 1
    if not fits:
        raise UserError(
            f"early_stop={dict(rule)} is not allowed: it must be null, or have a patience of 1 or more "
            "and a tolerance from 0 to below 1."
        )
    return rule
