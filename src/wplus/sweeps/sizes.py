"""Sizes of a sweep: `full` is the sweep as its file has it, others are smaller ones of the same question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from wplus.errors import UserError, check_choice, check_number
from wplus.sweeps.labels import Point
from wplus.sweeps.spec import Spec, Stage

FULL = "full"


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a size changes.

    Args:
        overrides: KEY=VALUE for all stages that take the key as the sweep has it, or STAGE:KEY=VALUE for one.
        axes: key -> values, in place of those of the axis, in every stage that has it.
        points: so many of the points of each stage, the first; or a list of points for every stage that has some.
        seeds: so many in place of the seeds of each stage that has some; None: those.
    """

    overrides: Sequence[str] = ()
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    points: int | Sequence[Point] | None = None
    seeds: int | None = None

    def __post_init__(self) -> None:
        for name in ("points", "seeds"):
            value = getattr(self, name)
            if value is not None and not (name == "points" and isinstance(value, list)):
                check_number(name, value, lowest=1, whole=True)

    def of(self, spec: Spec) -> Spec:
        """The sweep with fewer jobs; its overrides are for the caller to add."""
        known = dict.fromkeys(key for stage in spec.stages for key in stage.axes)
        for key in self.axes:
            check_choice("axes of a size", key, known)
        return replace(spec, stages=[self._stage(stage) for stage in spec.stages], sizes={}, baseline=self._left(spec))

    def _stage(self, stage: Stage) -> Stage:
        axes = {key: self.axes.get(key, values) for key, values in stage.axes.items()}
        seeds = stage.seeds if stage.seeds is None or self.seeds is None else self.seeds
        return replace(stage, axes=axes, points=self._points(stage), seeds=seeds)

    def _points(self, stage: Stage) -> Sequence[Point]:
        if isinstance(self.points, int) or self.points is None:
            return stage.points[: self.points]
        return self.points if any(stage.points) else stage.points

    def _left(self, spec: Spec) -> Point:
        """The baseline, where it still is one of the methods."""
        kept = all(value in self.axes.get(key, [value]) for key, value in spec.baseline.items())
        return spec.baseline if kept and not isinstance(self.points, list) else {}


def sized(spec: Spec, name: str) -> tuple[Spec, Sequence[str]]:
    """The sweep in that size, called NAME_SIZE, and the overrides of the size; UserError for one that it has not."""
    check_choice(f"size of the sweep '{spec.name}'", name, [FULL, *spec.sizes])
    if name == FULL:
        return spec, ()
    try:
        size = Size(**spec.sizes[name])
    except TypeError as error:
        raise UserError(f"The size '{name}' of the sweep '{spec.name}' cannot be read: {error}.") from error
    return replace(size.of(spec), name=f"{spec.name}_{name}"), size.overrides
