"""The exceptions for a mistake of the user and for a wish to stop, and the checks that most mistakes fail."""

import argparse
import math
import signal
from collections.abc import Iterable, Sequence
from typing import NoReturn


class UserError(ValueError):
    """Bad input from outside: one sentence with what was given and what is allowed.

    The command lines print it without a stack trace and exit with a non-zero status.
    """


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or a signal that asks to end: what is done is kept, the exit status is 128 + `number`."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.number = int(number)


class OneLineParser(argparse.ArgumentParser):
    """As argparse's, without the usage in front of what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"{self.prog}: {message}; see --help.\n")


def check_choice(name: str, value: object, allowed: Iterable[object]) -> None:
    """UserError, as "space must be one of z, z+, w, w+, got 'x'.", unless `value` is one of `allowed`."""
    choices = list(allowed)
    if value not in choices:
        raise UserError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}.")


def check_number(
    name: str, value: object, *, lowest: float = -math.inf, highest: float | None = None, whole: bool = False
) -> None:
    """UserError unless `value` is a finite number (a whole one with `whole`) from `lowest` to `highest`."""
    is_number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    number = float(value) if is_number else math.nan  # type: ignore[arg-type]
    if not lowest <= number <= (math.inf if highest is None else highest) or math.isinf(number):
        kind = "whole number" if whole else "number"
        limits = [f" of at least {lowest:g}"] if math.isfinite(lowest) else []
        limits += [] if highest is None else [f" and at most {highest:g}" if limits else f" of at most {highest:g}"]
        raise UserError(f"{name} must be a {kind}{''.join(limits)}, got {value!r}.")


def check_numbers(name: str, values: Sequence[object], *, lowest: float = -math.inf) -> None:
    """UserError unless there are some values, all of them finite numbers of at least `lowest`."""
    if not values:
        raise UserError(f"{name} must have one or more numbers, got none.")
    for value in values:
        check_number(name, value, lowest=lowest)
