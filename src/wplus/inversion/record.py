"""What happened during an inversion: every term at every step, and the best unknowns so far, without ever waiting for
the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


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
