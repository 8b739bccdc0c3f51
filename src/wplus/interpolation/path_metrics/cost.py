"""Cost of making the way: seconds and memory of a block of code."""

import contextlib
import ctypes
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from wplus.interpolation.trajectory import MetricTools, PathNumber, Scores, Trajectory

SECONDS = PathNumber(name="seconds", by_net=False, unit="s", direction="lower", format=".2f", meaning=(
    "Seconds that making the path and rendering its frames takes."))  # fmt: skip
MEMORY = PathNumber(name="memory_mib", by_net=False, unit="MiB", direction="lower", format=".0f", meaning=(
    "Peak memory of making the path and rendering its frames, above what was held before, so without the "
    "networks."))  # fmt: skip
MIB = 2**20
_peaks: list[float] = []  # of the blocks that are open, the outermost first, before the system's mark was reset


@dataclass
class Cost:
    """What a block of code took; filled in when it is left."""

    seconds: float = 0.0
    memory_mib: float | None = None  # peak of what it held at once above what was held before it; None: nobody tells


def cost(trajectory: Trajectory, tools: MetricTools) -> Scores:
    """Of making the path and rendering all its frames, without the measuring. Our own; papers give the time at most."""
    if trajectory.cost is not None:
        yield SECONDS, trajectory.cost.seconds
        if trajectory.cost.memory_mib is not None:
            yield MEMORY, trajectory.cost.memory_mib


@contextlib.contextmanager
def measured(device: torch.device) -> Iterator[Cost]:
    """Measure the block: wall time, the device's work included, and peak memory above what was held before.

    Blocks may lie within each other; what an inner one takes, the outer ones take too.
    """
    cost = Cost()
    _catch_up(device)
    _forget_peak(device)
    held = _memory(device)
    _peaks.append(0.0)
    start = time.perf_counter()
    try:
        yield cost
        _catch_up(device)
        cost.seconds = time.perf_counter() - start
    finally:
        peak = _peaks.pop()
    cost.memory_mib = None if held is None else max(peak - held, 0.0)


def _catch_up(device: torch.device) -> None:
    """Wait for the device; the peak so far is one of all blocks that are open."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    peak = _memory(device, peak=True) or 0.0
    _peaks[:] = [max(before, peak) for before in _peaks]


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        # What was freed before goes back to the system first, or the block would use it and seem to need nothing.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:  # only Linux has it
        file.write("5")  # 5: VmHWM starts anew (man 5 proc)


def _memory(device: torch.device, *, peak: bool = False) -> float | None:
    """Held now, or at most, in MiB: allocations of CUDA, or resident memory; None where the system does not tell."""
    if device.type == "cuda":
        return (torch.cuda.max_memory_allocated if peak else torch.cuda.memory_allocated)(device) / MIB
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        sizes = (line.split()[1] for line in file if line.startswith("VmHWM" if peak else "VmRSS"))
        return next((int(size) / 1024 for size in sizes), None)  # in kB
    return None
