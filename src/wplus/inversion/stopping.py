"""When an image has stopped improving: decided for each image by its own losses, without waiting for the device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wplus.errors import UserError

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
