"""Work spread over threads, results in order. Pillow lets go of the interpreter while it decodes and resizes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def usable_cores() -> int:
    """How many cores this process may use (which on a shared machine is less than there are)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(work: Callable[[T], R], items: Iterable[T], *, num_threads: int | None = None) -> Iterator[R]:
    """`map(work, items)` on threads; never more than a few results per thread wait for the consumer."""
    num_threads = num_threads or usable_cores()
    with ThreadPoolExecutor(num_threads) as pool:
        waiting: deque = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 4 * num_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
