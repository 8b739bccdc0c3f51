"""A search that several methods need is made once for a pair: `geodesic_even` is `geodesic` at another pace."""

from __future__ import annotations

import functools
import json
import time
from typing import Any

from wplus.evaluation.interpolation.methods import described
from wplus.interpolation.curve import Curve, Path, Scene
from wplus.interpolation.keypoints import KeyPoints


class Remembered:
    """Curves of one pair by path, space and direction, each made once; whoever uses one again is charged for it."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Curve, float]] = {}
        self.seconds_saved = 0.0

    def path(self, path: Path) -> Path:
        """`path`, and the paths among its options, with this memory; the parts of a path are remembered, too."""
        inner = path
        if isinstance(path, functools.partial):
            options = {key: self._option(value) for key, value in path.keywords.items()}
            inner = functools.partial(path.func, *path.args, **options)
        name = json.dumps(described(path), sort_keys=True, default=str)

        def remembered(points: KeyPoints, scene: Scene) -> Curve:
            return self._curve(f"{name} {points.space} {points.names}", inner, points, scene)

        return remembered

    def _option(self, value: Any) -> Any:
        """Paths are the options that are functions or partials of such."""
        return self.path(value) if callable(value) else value

    def _curve(self, key: str, path: Path, points: KeyPoints, scene: Scene) -> Curve:
        if key in self._made:
            curve, seconds = self._made[key]
            self.seconds_saved += seconds
            return curve
        began, saved = time.perf_counter(), self.seconds_saved
        curve = path(points, scene)
        # What was saved inside belongs to this curve's price, too.
        self._made[key] = (curve, time.perf_counter() - began + self.seconds_saved - saved)
        return curve
