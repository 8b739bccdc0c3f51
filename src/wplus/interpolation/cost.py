"""What a block of code takes: seconds and memory."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

MIB = 2**20


@dataclass
class Cost:
    """What a block of code took; filled in when it is left."""

    seconds: float = 0.0
    memory_mib: float | None = None
    """Peak of what was allocated on a CUDA device, or of the process's resident memory (Linux); None elsewhere."""


@contextlib.contextmanager
def measured(device: torch.device) -> Iterator[Cost]:
    """Measure the block: wall time, the device's work included, and peak memory, what was there before included."""
    cost = Cost()
    _synchronize(device)
    _forget_peak(device)
    start = time.perf_counter()
    yield cost
    _synchronize(device)
    cost.seconds = time.perf_counter() - start
    cost.memory_mib = _peak(device)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:  # only Linux has it
        file.write("5")  # 5: VmHWM starts anew (man 5 proc)


def _peak(device: torch.device) -> float | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        lines = [line.split() for line in file if line.startswith("VmHWM")]
        return int(lines[0][1]) / 1024 if lines else None  # in kB
    return None
