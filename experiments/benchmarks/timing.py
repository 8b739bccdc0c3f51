"""Timing on shared machines: everything is measured in turns, and compared within a turn."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch

MATRIX = 1024


def matrix_product_rate(device: torch.device, repeats: int = 8) -> float:
    """Operations per second of a plain float32 matrix product (1024 x 1024), best of `repeats`."""
    a = torch.randn(MATRIX, MATRIX, device=device)
    return 2 * MATRIX**3 / min(seconds(lambda: a @ a, device) for _ in range(repeats))


def seconds(task: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, including the device's queue."""
    synchronize(device)
    start = time.perf_counter()
    task()
    synchronize(device)
    return time.perf_counter() - start


def in_turns(tasks: Mapping[str, Callable[[], object]], device: torch.device, turns: int) -> dict[str, list[float]]:
    """Seconds of every task in every turn, after a warm-up turn; the key "matrix" has the matrix product's rate."""
    for task in tasks.values():
        task()
    taken: dict[str, list[float]] = {name: [] for name in [*tasks, "matrix"]}
    for _ in range(turns):
        taken["matrix"].append(matrix_product_rate(device))
        for name, task in tasks.items():
            taken[name].append(seconds(task, device))
    return taken


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its queue."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def best(values: list[float]) -> float:
    """The smallest time: the cost of the code on an undisturbed machine."""
    return min(values)


def middle(values: list[float]) -> float:
    """The median."""
    return statistics.median(values)
