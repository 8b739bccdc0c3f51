"""How much a foreign file may make of itself: bytes are counted where they are made, and their sum is limited."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from wplus.adapters.refusal import Refused

MAX_GROWTH = 4  # bytes that are made from a file, in multiples of its size; an honest one needs 2
SMALL = 2**20  # bytes, which a file of any size may need
ENTRY = 100  # bytes of an entry in a set or dict


class _Budget:
    """Bytes that may still be made from a file."""

    def __init__(self, size: int) -> None:
        self.size, self.left = size, MAX_GROWTH * size + SMALL


_budget: ContextVar[_Budget] = ContextVar("budget")


@contextmanager
def budget_for(size: int) -> Iterator[None]:
    """Inside, all that is made counts for one file of `size` bytes."""
    token = _budget.set(_Budget(size))
    try:
        yield
    finally:
        _budget.reset(token)


def spend(num_bytes: int) -> None:
    """Count bytes that are about to be made; Refused when the file cannot mean so many."""
    budget = _budget.get()
    budget.left -= num_bytes
    if budget.left < 0:
        raise Refused(f"more than {MAX_GROWTH} times what a file of {budget.size} bytes can say")


def spend_entries(num: int) -> None:
    """Count the entries of a set, dict or tuple that are about to be made."""
    spend(ENTRY * num)
