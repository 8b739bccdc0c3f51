"""Cost of making the way: seconds and memory of a block of code."""

import contextlib
import ctypes
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from wplus.interpolation.trajectory import MetricTools, PathNumber, Trajectory

SECONDS = PathNumber(name="seconds", unit="s", direction="lower", format=".2f", meaning=(
    "Seconds that making the path and rendering its frames takes."))  # fmt: skip
MEMORY = PathNumber(name="memory_mib", unit="MiB", direction="lower", format=".0f", meaning=(
    "Peak memory of making the path and rendering its frames, above what was held before, so without the "
    "networks."))  # fmt: skip
MIB = 2**20
_peaks: list[float] = []
"""Of the blocks that are being measured, the outermost first: their highest peak before the system's mark was reset."""


@dataclass
class Cost:
    """What a block of code took; filled in when it is left."""

    seconds: float = 0.0
    memory_mib: float | None = None
    """Peak of what it held at once above what was held before it: of allocations on a CUDA device, or of the process's
    resident memory (Linux); None elsewhere."""


def cost(trajectory: Trajectory, tools: MetricTools) -> Iterator[tuple[PathNumber, float]]:
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
    _synchronize(device)
    _note_peak(device)
    _forget_peak(device)
    held = _held(device)
    _peaks.append(0.0)
    start = time.perf_counter()
    try:
        yield cost
        _synchronize(device)
        cost.seconds = time.perf_counter() - start
        _note_peak(device)
    finally:
        peak = _peaks.pop()
    cost.memory_mib = None if held is None else max(peak - held, 0.0)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _note_peak(device: torch.device) -> None:
    """The peak so far is one of all blocks that are open."""
    peak = _peak(device) or 0.0
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


def _held(device: torch.device) -> float | None:
    return torch.cuda.memory_allocated(device) / MIB if device.type == "cuda" else _resident("VmRSS")


def _peak(device: torch.device) -> float | None:
    return torch.cuda.max_memory_allocated(device) / MIB if device.type == "cuda" else _resident("VmHWM")


def _resident(entry: str) -> float | None:
    """VmRSS, resident memory now, or VmHWM, its peak, of this process in MiB; None where the system does not tell."""
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        lines = [line.split() for line in file if line.startswith(entry)]
        return int(lines[0][1]) / 1024 if lines else None  # in kB
    return None
