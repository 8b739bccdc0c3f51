"""Cost of computing a path: time and memory taken by a block of code."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from wplus.core.memory import peak_memory
from wplus.core.runtime import now
from wplus.interpolation.trajectory import MetricTools, PathNumber, Scores, Trajectory

SECONDS = PathNumber(name="seconds", by_net=False, unit="s", direction="lower", format=".2f", meaning=(
    "Seconds it takes to compute the path and render its frames."))  # fmt: skip
MEMORY = PathNumber(name="memory_mib", by_net=False, unit="MiB", direction="lower", format=".0f", meaning=(
    "Peak memory for computing the path and rendering its frames, above what was held before, so without the "
    "networks."))  # fmt: skip


@dataclass
class Cost:
    """Cost of a block of code; filled in when the block is left."""

    seconds: float = 0.0
    memory_mib: float | None = None  # peak memory above what was held before; None if it cannot be measured


def cost(trajectory: Trajectory, tools: MetricTools) -> Scores:
    """Cost of computing the path and rendering its frames, without measuring. Our own; papers report time at most."""
    if trajectory.cost is not None:
        yield SECONDS, trajectory.cost.seconds
        if trajectory.cost.memory_mib is not None:
            yield MEMORY, trajectory.cost.memory_mib


@contextlib.contextmanager
def measured(device: torch.device) -> Iterator[Cost]:
    """Measure a block's wall time, including pending work of the device, and its peak memory above that held before.

    Blocks may be nested; the cost of an inner block also counts towards the outer ones.
    """
    cost = Cost()
    start = now(device)
    with peak_memory(device) as memory:
        yield cost
        cost.seconds = now(device) - start
    if memory.held is not None and memory.most is not None:
        cost.memory_mib = max(memory.most - memory.held, 0.0)
