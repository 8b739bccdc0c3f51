"""Exceptions for user errors and interrupts, and the most common argument checks."""

import argparse
import math
import signal
from collections.abc import Iterable, Sequence
from typing import NoReturn


class UserError(ValueError):
    """Invalid user input; the message is one sentence stating what was given and what is allowed.

    The command lines print it without a stack trace and exit with a non-zero status.
    """


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or a termination signal: finished work is kept, and the exit status is 128 + `number`."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.number = int(number)


class OneLineParser(argparse.ArgumentParser):
    """An argparse parser that prints errors in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with status 2."""
        self.exit(2, f"{self.prog}: {message}; see --help.\n")


def reason(error: Exception) -> str:
    """The message of a foreign error as part of a sentence: on one line, its first 300 characters."""
    return " ".join(str(error).split())[:300]


def check_choice(name: str, value: object, allowed: Iterable[object]) -> None:
    """Raise UserError ("space must be one of z, z+, w, w+, got 'x'.") unless `value` is one of `allowed`."""
    choices = list(allowed)
    if value not in choices:
        raise UserError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}.")


def check_number(
    name: str, value: object, *, lowest: float = -math.inf, highest: float | None = None, whole: bool = False
) -> None:
    """Raise UserError unless `value` is a finite number (an integer if `whole`) from `lowest` to `highest`."""
    is_number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    number = float(value) if is_number else math.nan  # type: ignore[arg-type]
    if not lowest <= number <= (math.inf if highest is None else highest) or math.isinf(number):
        kind = "whole number" if whole else "number"
        limits = [f" of at least {lowest:g}"] if math.isfinite(lowest) else []
        limits += [] if highest is None else [f" and at most {highest:g}" if limits else f" of at most {highest:g}"]
        raise UserError(f"{name} must be a {kind}{''.join(limits)}, got {value!r}.")


def check_numbers(name: str, values: Sequence[object], *, lowest: float = -math.inf) -> None:
    """Raise UserError unless `values` is a non-empty sequence of finite numbers of at least `lowest`."""
    if not values:
        raise UserError(f"{name} must have one or more numbers, got none.")
    for value in values:
        check_number(name, value, lowest=lowest)
