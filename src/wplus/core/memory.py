"""Peak memory of (possibly nested) blocks of code: resident memory of this process, or CUDA allocations."""

from __future__ import annotations

import contextlib
import ctypes
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MIB = 2**20
# Peaks of open blocks before the system's high-water mark was reset, by device, outermost first.
_peaks: dict[str, list[float]] = {}


@dataclass
class Peak:
    """Memory in MiB; None if the system does not report it."""

    held: float | None
    """Memory held before the block."""
    most: float | None = None
    """Peak within the block; set when it ends."""


@contextlib.contextmanager
def peak_memory(device: torch.device | None = None) -> Iterator[Peak]:
    """Measure the block: allocations for CUDA devices, otherwise resident memory. Enclosing blocks include it."""
    cuda = device if device is not None and device.type == "cuda" else None
    _note(cuda)
    _forget(cuda)
    found = Peak(_memory(cuda))
    mine = _peaks.setdefault(str(cuda), [])
    mine.append(0.0)
    try:
        yield found
        _note(cuda)
    finally:
        peak = mine.pop()
    found.most = None if found.held is None else peak


def peak_gib(device: torch.device | None = None) -> float:
    """Peak so far of the outermost open block, or of this process if there is none; NaN if unknown."""
    cuda = device if device is not None and device.type == "cuda" else None
    _note(cuda)
    mine = _peaks.get(str(cuda))
    most = mine[0] if mine else _memory(cuda, peak=True)
    return float("nan") if most is None else most / 1024


def peak_mib(usage: resource.struct_rusage) -> float:
    """Peak memory in MiB of a finished process."""
    return round(usage.ru_maxrss / 1024, 1)  # kilobytes on Linux


def _note(cuda: torch.device | None) -> None:
    """Add the peak so far to all open blocks."""
    peak = _memory(cuda, peak=True) or 0.0
    mine = _peaks.setdefault(str(cuda), [])
    mine[:] = [max(before, peak) for before in mine]


def _forget(cuda: torch.device | None) -> None:
    if cuda is not None:
        import torch

        torch.cuda.reset_peak_memory_stats(cuda)
        return
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        # Return freed memory to the system first, or the block would reuse it and appear to need nothing.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:  # only Linux has it
        file.write("5")  # 5 resets VmHWM (man 5 proc)


def _memory(cuda: torch.device | None, *, peak: bool = False) -> float | None:
    """Current or peak memory in MiB."""
    if cuda is not None:
        import torch

        return (torch.cuda.max_memory_allocated if peak else torch.cuda.memory_allocated)(cuda) / MIB
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        sizes = (line.split()[1] for line in file if line.startswith("VmHWM" if peak else "VmRSS"))
        return next((int(size) / 1024 for size in sizes), None)  # in kB
    return None
