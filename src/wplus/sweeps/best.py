"""The jobs of a sweep that its objective, or several of them, find best."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from wplus.sweeps.spec import Job, Spec
from wplus.sweeps.state import JobState
from wplus.sweeps.trials import sign, value_of


def best_lines(spec: Spec, jobs: Mapping[str, Job], states: Mapping[str, JobState]) -> list[str]:
    """For people: the best of those that are done; with several objectives those that no other beats in all of them."""
    stages = {spec.stage_of(name).name for name in spec.objectives}
    done = [state for state in states.values() if state.state == "done" and {jobs[state.id].stage.name} == stages]
    found = {state.id: _values(spec, Path(state.run_dir)) for state in done}
    ranked = [state for state in done if all(map(math.isfinite, found[state.id]))]
    if not ranked:
        return []
    signs = [sign(Path(ranked[0].run_dir), name) for name in spec.objectives]
    points = [[turned * value for turned, value in zip(signs, found[state.id], strict=True)] for state in ranked]
    front = [ranked[index] for index in pareto_front(points)]
    lines = [f"{', '.join(f'{value:.5g}' for value in found[state.id])}, {state.id} {state.label} ({state.run_dir})"
             for state in front]  # fmt: skip
    if len(spec.objectives) == 1:
        return [f"  best {spec.objectives[0]}: {lines[0]}"]
    names = " and ".join(spec.objectives)
    return [f"  best in {names}, {len(front)} that no other beats in all:", *(f"    {line}" for line in lines)]


def pareto_front(points: Sequence[Sequence[float]]) -> list[int]:
    """The indices of points that no other is at least as good as in all and better in one, by their first value; less
    is better."""
    if len(points[0]) == 1:
        return [min(range(len(points)), key=lambda index: points[index][0])]

    def is_beaten(point: Sequence[float]) -> bool:
        return any(list(other) != list(point) and all(a <= b for a, b in zip(other, point, strict=True))
                   for other in points)  # fmt: skip

    return sorted((i for i, point in enumerate(points) if not is_beaten(point)), key=lambda index: points[index][0])


def _values(spec: Spec, folder: Path) -> list[float]:
    return [value_of(folder, name) for name in spec.objectives]
