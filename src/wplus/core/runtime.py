"""Which device a command runs on, and how its memory is kept."""

from __future__ import annotations

import ctypes

import torch

from wplus.errors import UserError

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # <malloc.h>


def resolve_device(name: str) -> torch.device:
    """`auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:N` or `mps` -> a device that exists, else UserError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"Device '{name}' is not known; it must be auto, cpu, cuda, cuda:N or mps.") from None
    available = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(
        device.type, 0
    )
    if (device.index or 0) >= available:
        raise UserError(
            f"Device '{name}' was asked for, but this machine has {available} device(s) of type {device.type}; "
            "use device=cpu or device=auto."
        )
    return device


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next tensor instead of returning it to the system at once.

    A training step frees and allocates the same large tensors over and over; by default each allocation is mapped
    anew and every page of it faults, which costs about a seventh of a step on a CPU. No effect elsewhere than glibc.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 64 * 2**20)
