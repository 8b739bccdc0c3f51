"""Batches of one fixed size, whatever the number of images, and a clock that waits for the device.

Kernels choose their order of summation by the size of the batch; hundreds of steps amplify that difference in the
seventh digit to one that can be seen. With a fixed size, an image has the same bits whatever it travels with (on a CPU;
CUDA's kernels promise less).
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from wplus.errors import UserError


def default_lanes(resolution: int, device: torch.device) -> int:
    """Images to evaluate at once, from 1 to 8: as many as it takes to fill the machine at this resolution, no more."""
    return min(8, max(1, (128 if device.type == "cpu" else 2048) // resolution))


def chosen_lanes(lanes: int | None, resolution: int, device: torch.device) -> int:
    """`lanes`, or the default where it is None; UserError when it is below 1."""
    if lanes is not None and lanes < 1:
        raise UserError(f"lanes={lanes} is not allowed: it must be 1 or more, or null.")
    return lanes or default_lanes(resolution, device)


def rows_in_lanes(num: int, lanes: int, device: torch.device) -> list[Tensor]:
    """Row numbers of each chunk, exactly `lanes` of them: the last row is repeated where there are no more."""
    return [torch.arange(first, first + lanes, device=device).clamp_max(num - 1) for first in range(0, num, lanes)]


def now(device: torch.device) -> float:
    """Seconds on a clock that has waited for all work of the device to end."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()
