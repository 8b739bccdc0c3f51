"""Sizes of a sweep: `full` is the sweep in its file, others are smaller versions of the same question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from wplus.errors import UserError, check_choice, check_number
from wplus.sweeps.labels import Point
from wplus.sweeps.spec import Spec, Stage

FULL = "full"


@dataclass(frozen=True, kw_only=True)
class Size:
    """The changes made by a size.

    Args:
        overrides: KEY=VALUE for all stages, none of which may vary the key, or STAGE:KEY=VALUE for one.
        axes: key -> values that replace those of the axis, in every stage that has it.
        points: number of points to keep in each stage, from the start; or a list of points for every stage with points.
        seeds: number of seeds for each stage with seeds; None: unchanged.
        stages: names of the stages to keep, which read none of the others; None: all.
    """

    overrides: Sequence[str] = ()
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    points: int | Sequence[Point] | None = None
    seeds: int | None = None
    stages: Sequence[str] | None = None

    def __post_init__(self) -> None:
        for name in ("points", "seeds"):
            value = getattr(self, name)
            if value is not None and not (name == "points" and isinstance(value, list)):
                check_number(name, value, lowest=1, whole=True)

    def of(self, spec: Spec) -> Spec:
        """The sweep with fewer jobs; the caller adds the overrides."""
        stages = self._kept(spec.stages)
        known = dict.fromkeys(key for stage in stages for key in stage.axes)
        for key in self.axes:
            check_choice("axes of a size", key, known)
        return replace(spec, stages=[self._stage(stage) for stage in stages], sizes={}, baseline=self._left(spec))

    def _kept(self, stages: Sequence[Stage]) -> list[Stage]:
        for name in self.stages or ():
            check_choice("stages of a size", name, [stage.name for stage in stages])
        return [stage for stage in stages if self.stages is None or stage.name in self.stages]

    def _stage(self, stage: Stage) -> Stage:
        axes = {key: self.axes.get(key, values) for key, values in stage.axes.items()}
        seeds = stage.seeds if stage.seeds is None or self.seeds is None else self.seeds
        return replace(stage, axes=axes, points=self._points(stage), seeds=seeds)

    def _points(self, stage: Stage) -> Sequence[Point]:
        if isinstance(self.points, int) or self.points is None:
            return stage.points[: self.points]
        return self.points if any(stage.points) else stage.points

    def _left(self, spec: Spec) -> Point:
        """The baseline, if it is still one of the methods."""
        kept = all(value in self.axes.get(key, [value]) for key, value in spec.baseline.items())
        return spec.baseline if kept and not isinstance(self.points, list) else {}


def sized(spec: Spec, name: str) -> tuple[Spec, Sequence[str]]:
    """The sweep in this size, named NAME_SIZE, and the size's overrides; UserError for an unknown size."""
    check_choice(f"size of the sweep '{spec.name}'", name, [FULL, *spec.sizes])
    if name == FULL:
        return spec, ()
    try:
        size = Size(**spec.sizes[name])
    except TypeError as error:
        raise UserError(f"The size '{name}' of the sweep '{spec.name}' cannot be read: {error}.") from error
    return replace(size.of(spec), name=f"{spec.name}_{name}"), size.overrides
