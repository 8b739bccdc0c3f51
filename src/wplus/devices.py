"""Which device a command runs on."""

from __future__ import annotations

import torch

from wplus.errors import UserError


def resolve_device(name: str) -> torch.device:
    """`auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:N` or `mps` -> a device that exists, else UserError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"Device '{name}' is not known; it must be auto, cpu, cuda, cuda:N or mps.") from None
    available = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(device.type, 0)
    if (device.index or 0) >= available:
        raise UserError(f"Device '{name}' was asked for, but this machine has {available} device(s) of type {device.type}; "
                        "use device=cpu or device=auto.")
    return device
