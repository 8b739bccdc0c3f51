"""Summarizes a sweep in text: time left, finished, failed and missing jobs, and the best by its objectives."""

import math
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from wplus.sweeps.spec import Job, Spec, Stage
from wplus.sweeps.state import ENDED, JobState, SweepFolder, counted
from wplus.sweeps.trials import sign, value_of
from wplus.tracking.local import read_result

_MAX_SEEN = 200  # number of earlier runs used for an estimate


def summary(folder: SweepFolder, spec: Spec, jobs: Mapping[str, Job], states: Mapping[str, JobState]) -> str:
    """Finished jobs, failures with reasons, missing jobs, and the best by the objective."""
    num_untried = num_jobs(spec, states) - len(states)
    more = f", {num_untried} of the search not asked yet" if num_untried else ""
    lines = [f"{folder.path}: {counted(states)}{more}", *best_lines(spec, jobs, states)]
    for state in states.values():
        if state.state == "failed":
            lines.append(f"  failed: {state.id} {state.label}: {state.error} ({state.traceback or state.run_dir})")
    missing = [state.id for state in states.values() if state.state not in ENDED]
    return "\n".join([*lines, *([f"  missing: {shlex.join(missing)}"] if missing else []),
                      *filter(None, [folder.left_out(jobs)])])  # fmt: skip


def num_jobs(spec: Spec, states: Mapping[str, JobState]) -> int:
    """Total number of jobs, including those that a search has yet to request."""
    search = spec.search
    more = 0 if search is None else search.trials - len(search.points)
    return len(states) + more * sum(1 for _ in spec.stages[0].variations())


def time_left(
    spec: Spec, jobs: Mapping[str, Job], states: Mapping[str, JobState], *, num_slots: int, with_earlier: bool = False
) -> str:
    """Estimate from the mean time of each stage's jobs or, `with_earlier`, of earlier runs of its command; empty if
    unknown."""
    left = [jobs[state.id].stage for state in states.values() if state.state not in ENDED]
    known = {stage.name: _seconds(stage, jobs, states, with_earlier) for stage in spec.stages}
    if not left or any(not known[stage.name] for stage in left):
        return ""
    minutes = sum(statistics.fmean(known[stage.name]) for stage in left) / max(1, num_slots) / 60
    return f"; about {minutes:.0f} min left" if minutes >= 1 else "; less than a minute left"


def _seconds(stage: Stage, jobs: Mapping[str, Job], states: Mapping[str, JobState], with_earlier: bool) -> list[float]:
    own = [state.seconds for job_id, state in states.items()
           if jobs[job_id].stage.name == stage.name and state.state == "done" and state.seconds]  # fmt: skip
    if own or not with_earlier:
        return own
    folders = {Path(state.run_dir).parent for state in states.values() if state.run_dir}
    files = [file for folder in sorted(folders) for file in sorted(folder.glob("*/result.json"))[:_MAX_SEEN]]
    results = [read_result(file.parent) for file in files]
    finished = [each for each in results if (each.get("job_type"), each.get("status")) == (stage.verb, "finished")]
    return [each["seconds"] for each in finished if each.get("seconds")]


def best_lines(spec: Spec, jobs: Mapping[str, Job], states: Mapping[str, JobState]) -> list[str]:
    """Lines for display: the best finished job or, with several objectives, the Pareto front."""
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
    """The indices of the Pareto front, sorted by the first value: points not dominated by any other (lower is
    better)."""
    if len(points[0]) == 1:
        return [min(range(len(points)), key=lambda index: points[index][0])]

    def is_beaten(point: Sequence[float]) -> bool:
        return any(list(other) != list(point) and all(a <= b for a, b in zip(other, point, strict=True))
                   for other in points)  # fmt: skip

    return sorted((i for i, point in enumerate(points) if not is_beaten(point)), key=lambda index: points[index][0])


def _values(spec: Spec, folder: Path) -> list[float]:
    return [value_of(folder, name) for name in spec.objectives]
