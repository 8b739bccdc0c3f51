"""Seconds and memory of making a walk."""

from __future__ import annotations

from wplus.interpolation.walk import MetricTools, Trajectory


def cost(walk: Trajectory, judges: MetricTools) -> dict[str, float]:
    """`seconds`, and `memory_mib` where it can be measured, of making the path and rendering all its frames.

    Without the judging. Memory is the peak above what was held before the walk, so without the networks: of the
    device's allocations (CUDA), or of the process's resident memory (Linux). Our own; papers give the time at most.
    """
    if walk.cost is None:
        return {}
    memory = {} if walk.cost.memory_mib is None else {"memory_mib": walk.cost.memory_mib}
    return {"seconds": walk.cost.seconds, **memory}
