"""A foreign file's refusal in one printable sentence, whatever the file holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wplus.errors import UserError


class Refused(Exception):
    """Something that a restricted file must not hold; the message names it."""


def printable(text: str, limit: int = 200) -> str:
    """At most `limit` characters without control characters: a file must not write to the terminal either."""
    return "".join(char if char.isprintable() else "?" for char in text[:limit])


@contextmanager
def refusals(path: str | Path) -> Iterator[None]:
    """Inside, whatever goes wrong with a file becomes a UserError that names the file and the offender."""
    try:
        yield
    except Refused as refused:
        raise UserError(
            f"'{path}' is refused: it holds {refused}, and from foreign files only tensors, numbers, strings and "
            "plain containers are read."
        ) from refused
    except OSError as error:
        raise UserError(f"Cannot read '{path}': {error.strerror or error}.") from error
    except Exception as error:  # a damaged file can fail in any way
        reason = printable(" ".join(str(error).split())) or type(error).__name__
        raise UserError(f"Cannot read '{path}': the file is truncated, damaged or no checkpoint ({reason}).") from error
