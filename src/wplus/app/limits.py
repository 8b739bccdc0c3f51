"""Limits on the app's time per request and on the length of its queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch.overrides import TorchFunctionMode

from wplus.core.progress import Bar, watched
from wplus.errors import UserError


@dataclass(frozen=True)
class Limits:
    """Limits on one request, and on the queue.

    Attributes:
        seconds: time after which a request is stopped.
        waiting: largest number of queued requests; further ones are rejected.
        minutes: how long uploads and the latents of an idle session are kept.
    """

    seconds: float = 120.0
    waiting: int = 20
    minutes: float = 60.0

    @contextmanager
    def kept(self, show: Callable[[float, str], None]) -> Iterator[None]:
        """Report the progress of the block to `show`, and stop it with a UserError when its time is up. The time is
        checked whenever a progress bar advances or a torch function is called in this thread."""
        clock = _Clock(self.seconds)

        def look(bar: Bar) -> None:
            clock.check()
            show(min(1.0, bar.done / bar.total), bar.description)

        with watched(look), clock:
            yield


class _Clock(TorchFunctionMode):
    """Checks the time whenever a torch function is called."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.end = seconds, time.monotonic() + seconds

    def check(self) -> None:
        if time.monotonic() > self.end:
            limit = f"{self.seconds:g} s, the limit of this app"
            raise UserError(f"This took longer than {limit}: ask for fewer steps, frames or images.")

    def __torch_function__(
        self, function: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # fmt: skip
        self.check()
        return function(*args, **(kwargs or {}))
