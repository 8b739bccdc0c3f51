"""Hyper-parameter search of a sweep: search space, sampler and pruner."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wplus.errors import UserError, check_choice, check_number
from wplus.sweeps.labels import Point

SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler", "nsgaii": "NSGAIISampler", "qmc": "QMCSampler"}
PRUNERS = {"none": "NopPruner", "median": "MedianPruner", "halving": "SuccessiveHalvingPruner"}


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search over values.

    Args:
        trials: how many points are tried, including failed and pruned ones.
        space: key -> a list of values, or `{low:, high:}` with `log: true` or `step`. Integer bounds give integers.
        sampler: tpe | random | nsgaii (for several objectives) | qmc.
        pruner: stops unpromising trials early: none | median | halving.
        seed: seed of the sampler.
        points: the points tried so far; filled in by the launch.
    """

    trials: int
    space: Mapping[str, Any]
    sampler: str = "tpe"
    pruner: str = "none"
    seed: int = 0
    points: Sequence[Point] = ()

    def __post_init__(self) -> None:
        check_number("search.trials", self.trials, lowest=1, whole=True)
        check_choice("search.sampler", self.sampler, SAMPLERS)
        check_choice("search.pruner", self.pruner, PRUNERS)
        if not isinstance(self.space, Mapping) or not self.space:
            raise UserError("search.space must name the keys to search, each with values or {low:, high:}.")
        for key, values in self.space.items():
            _check_range(key, values)

    def as_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {**vars(self), "space": dict(self.space), "points": list(map(dict, self.points))}

    def first(self) -> Point:
        """The point with the lowest or first value of every key."""
        return {key: values["low"] if isinstance(values, Mapping) else values[0] for key, values in self.space.items()}


def _check_range(key: str, values: Any) -> None:
    if not isinstance(values, Mapping):
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise UserError(f"search.space.{key} must be a list of values or {{low:, high:}}, got {values!r}.")
        return
    if not {"low", "high"} <= values.keys() <= {"low", "high", "log", "step"}:
        raise UserError(f"search.space.{key} must have low and high, and may have log or step, got {dict(values)!r}.")
    low, high, log = values["low"], values["high"], values.get("log", False)
    check_number(f"search.space.{key}.low", low, lowest=-math.inf)
    check_number(f"search.space.{key}.high", high, lowest=low)
    if log and (low <= 0 or values.get("step") is not None):
        raise UserError(f"search.space.{key} is logarithmic: low must be above 0, and there can be no step.")
