"""A number with its protocol."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from wplus.errors import UserError


@dataclass(frozen=True)
class MetricResult:
    """One value; `protocol` holds everything that another person needs to get the same number again."""

    name: str
    value: float
    protocol: dict[str, Any] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    """Lower and upper bound; `protocol["interval"]` says of what kind."""
    meaning: str = ""
    """One sentence for a newcomer: what the number is, and whether more or less of it is better."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise UserError(f"{self.name} came out as {self.value}: the networks give values that are not finite.")

    def entry(self) -> dict[str, Any]:
        """What a tracker's `summary` takes under the name."""
        return {"value": self.value, "protocol": self.protocol, "interval": self.interval, "meaning": self.meaning}

    def __str__(self) -> str:
        bounds = "" if self.interval is None else f" [{self.interval[0]:.4g}, {self.interval[1]:.4g}]"
        return f"{self.name} {self.value:.4g}{bounds}"
