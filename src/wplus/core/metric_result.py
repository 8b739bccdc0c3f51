"""Self-describing metrics: value, interval, protocol, meaning, unit, and which direction is better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from wplus.errors import UserError, check_choice

Direction = Literal["higher", "lower", "neither"]
ARROWS: dict[Direction, str] = {"higher": "↑", "lower": "↓", "neither": ""}
"""Symbols in tables for which values are better."""


@dataclass(frozen=True, kw_only=True)
class MetricInfo:
    """Description of a number, independent of its value: declared once, next to the code that computes it."""

    meaning: str
    """One sentence for a newcomer: what the number is, and its ideal value, if there is one."""
    unit: str = ""
    """dB, s, MiB, degrees, ...; empty for a pure number."""
    direction: Direction = "neither"
    """Which values are better; "neither" for purely descriptive numbers."""
    per_item: bool = True
    """Whether each item (an image, a pair) is measured individually; values of a batch have no interval or test."""

    def __post_init__(self) -> None:
        if not self.meaning.strip():
            raise UserError("The meaning of a number must be a sentence for a newcomer, got nothing.")
        check_choice("direction", self.direction, ARROWS)


def described(meanings: Mapping[str, str]) -> dict[str, MetricInfo]:
    """`MetricInfo` by name for purely descriptive numbers without a unit."""
    return {name: MetricInfo(meaning=meaning) for name, meaning in meanings.items()}


@dataclass(frozen=True)
class MetricResult:
    """One value; `protocol` holds everything needed to reproduce it."""

    name: str
    value: float
    protocol: dict[str, Any]
    interval: tuple[float, float] | None
    """Lower and upper bound; `protocol["interval"]` states its kind."""
    meaning: str
    unit: str
    direction: Direction

    def __post_init__(self) -> None:
        _ = self.info  # raises if the meaning is empty
        if not math.isfinite(self.value):
            raise UserError(f"{self.name} came out as {self.value}: the networks give values that are not finite.")

    @classmethod
    def of(
        cls,
        info: MetricInfo,
        name: str,
        value: float,
        *,
        protocol: dict[str, Any] | None = None,
        interval: tuple[float, float] | None = None,
    ) -> MetricResult:
        """A result with the description `info`."""
        return cls(name, value, protocol or {}, interval, info.meaning, info.unit, info.direction)

    @property
    def info(self) -> MetricInfo:
        """The description of the number."""
        return MetricInfo(meaning=self.meaning, unit=self.unit, direction=self.direction)

    def entry(self) -> dict[str, Any]:
        """The entry for a tracker's `summary`."""
        shown = {"value": self.value, "protocol": self.protocol, "interval": self.interval}
        return {**shown, "meaning": self.meaning, "unit": self.unit, "direction": self.direction}

    def __repr__(self) -> str:
        return f"<MetricResult {self}>"

    def __str__(self) -> str:
        bounds = "" if self.interval is None else f" [{self.interval[0]:.4g}, {self.interval[1]:.4g}]"
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.name} {self.value:.4g}{bounds}{unit}"
