"""What every data source asks of its options; each refusal names the value and what is allowed."""

from __future__ import annotations

from wplus.errors import UserError

MIN_RESOLUTION, MAX_RESOLUTION = 8, 1024


def check_resolution(resolution: int) -> int:
    """`resolution` when it is a power of two from 8 to 1024, else UserError."""
    whole = isinstance(resolution, int) and not isinstance(resolution, bool)
    if not whole or not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION or resolution & (resolution - 1):
        raise UserError(f"resolution={resolution!r} is not allowed: it must be a power of two from 8 to 1024.")
    return resolution


def check_choice(key: str, value: object, allowed: tuple[object, ...]) -> None:
    """UserError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise UserError(f"{key}={value!r} is not allowed: choose one of {', '.join(str(item) for item in allowed)}.")


def check_range(key: str, value: float, low: float, high: float) -> None:
    """UserError unless `value` is a number from `low` to `high`, both included."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise UserError(f"{key}={value!r} is not allowed: it must be a number from {low:g} to {high:g}.")
