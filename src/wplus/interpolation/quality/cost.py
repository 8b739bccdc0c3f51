"""Seconds and memory of making a walk."""

from __future__ import annotations

from wplus.interpolation.walk import Judges, Walk


def cost(walk: Walk, judges: Judges) -> dict[str, float]:
    """`seconds`, and `memory_mib` where it can be measured, of making the path and rendering all its frames.

    Without the judging. The peak is that of the device's allocations, networks included (CUDA), or of the process's
    resident memory (Linux), which holds whatever else the process has loaded.
    """
    if walk.cost is None:
        return {}
    memory = {} if walk.cost.memory_mib is None else {"memory_mib": walk.cost.memory_mib}
    return {"seconds": walk.cost.seconds, **memory}
