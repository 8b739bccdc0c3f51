"""A search that several methods need is made once for a pair: `geodesic_even` is `geodesic` at another pace."""

from __future__ import annotations

import functools
import json
from typing import Any

from wplus.evaluation.interpolation.methods import described
from wplus.interpolation.cost import Cost, measured
from wplus.interpolation.curve import Curve, Path, PathContext
from wplus.interpolation.keyframes import Keyframes


class Remembered:
    """Curves of one pair by path, space and direction, each made once; whoever uses one again is charged for it."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Curve, Cost]] = {}
        self.reused: list[Cost] = []
        """What curves that were met again took when they were made."""

    def path(self, path: Path) -> Path:
        """`path`, and the paths among its options, with this memory; the parts of a path are remembered, too."""
        inner = path
        if isinstance(path, functools.partial):
            options = {key: self._option(value) for key, value in path.keywords.items()}
            inner = functools.partial(path.func, *path.args, **options)
        name = json.dumps(described(path), sort_keys=True, default=str)

        def remembered(points: Keyframes, scene: PathContext) -> Curve:
            return self._curve(f"{name} {points.space} {points.names}", inner, points, scene)

        return remembered

    def charge(self, cost: Cost, *, since: int) -> None:
        """Make `cost` what it would have been without memory: add the curves in `reused` from number `since` on.

        Their seconds are added; the peak is theirs where that is higher.
        """
        reused = self.reused[since:]
        cost.seconds += sum(each.seconds for each in reused)
        if cost.memory_mib is not None:
            cost.memory_mib = max([cost.memory_mib, *(each.memory_mib or 0.0 for each in reused)])

    def _option(self, value: Any) -> Any:
        """Paths are the options that are functions or partials of such."""
        return self.path(value) if callable(value) else value

    def _curve(self, key: str, path: Path, points: Keyframes, scene: PathContext) -> Curve:
        if key in self._made:
            curve, cost = self._made[key]
            self.reused.append(cost)
            return curve
        since = len(self.reused)
        with measured(points.codes.device) as cost:
            curve = path(points, scene)
        self.charge(cost, since=since)  # what was saved inside belongs to this curve's price, too
        self._made[key] = curve, cost
        return curve
