"""Limits of the time that a request of the app takes, and of how many wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from wplus.core.progress import Bar
from wplus.errors import UserError


@dataclass(frozen=True)
class Limits:
    """What one request may take, and how many may wait.

    Attributes:
        seconds: after which the work on a request ends.
        waiting: requests in the queue; a further one is told that it is full.
        minutes: for which uploads and the latents of an idle session are kept.
    """

    seconds: float = 120.0
    waiting: int = 20
    minutes: float = 60.0

    def watch(self, show: Callable[[float, str], None]) -> Callable[[Bar], None]:
        """What a progress bar tells: shown on the page; UserError when the time is over."""
        end = time.monotonic() + self.seconds

        def look(bar: Bar) -> None:
            if time.monotonic() > end:
                raise UserError(
                    f"This took longer than {self.seconds:g} s, the limit of this app: ask for fewer steps or frames."
                )
            show(min(1.0, bar.done / bar.total), bar.description)

        return look
