"""Progress bars with the time left; plain lines if the output is not a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")
_SECONDS_BETWEEN_LINES = 15.0
_SHARE_BETWEEN_LINES = 0.01  # minimum time between lines, relative to the time elapsed
_ROUNDING = 1e-9  # tolerance for a total reached in many small parts
_watcher: ContextVar[Callable[[Bar], None] | None] = ContextVar("watcher", default=None)


class Bar:
    """One task with a known total. `update(advance, note)` advances it; `note` is a short text at its end.

    The time left is estimated from the second update on, because work done before (`start`) and the time to get going
    do not reflect the rate.
    """

    def __init__(self, description: str, total: float, *, start: float = 0) -> None:
        self.description, self.total, self.done, self.note = description, total, start, ""
        self._began, self._last_line = time.monotonic(), float("-inf")
        self._going: tuple[float, float] | None = None  # progress at the first update, and its time
        self._rich: Progress | None = None
        if sys.stderr.isatty():
            numbers = (MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
            columns = (
                TextColumn("{task.description}"), BarColumn(bar_width=20), *numbers, TextColumn("{task.fields[note]}"),
            )  # fmt: skip
            self._rich = Progress(*columns, console=Console(stderr=True))
            self._task = self._rich.add_task(description, total=total, note="")
            self._rich.update(self._task, completed=start)

    def update(self, advance: float = 1, note: str | None = None) -> None:
        """Advance by `advance` units of the total and optionally replace the note."""
        self.done += advance
        self.note = self.note if note is None else note
        if (watch := _watcher.get()) is not None:
            watch(self)
        self._going = self._going or (self.done, time.monotonic())
        if self._rich is not None:
            self._rich.update(self._task, advance=advance, note=self.note)
        elif self._is_due or self.done >= self.total - _ROUNDING:
            self._last_line = time.monotonic()
            print(self._line(), file=sys.stderr, flush=True)

    @property
    def _is_due(self) -> bool:
        """Whether to print a line; less often the longer it runs, so that a night of training fits on a page."""
        now = time.monotonic()
        return now - self._last_line > max(_SECONDS_BETWEEN_LINES, _SHARE_BETWEEN_LINES * (now - self._began))

    def __enter__(self) -> Bar:
        if self._rich is not None:
            self._rich.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._rich is not None:
            self._rich.stop()

    def _line(self) -> str:
        now = time.monotonic()
        first, since = self._going or (self.done, now)
        rate = (self.done - first) / (now - since) if now > since else 0.0
        left = f", {duration(max(0.0, self.total - self.done) / rate)} left" if rate > 0 else ""
        note = f", {self.note}" if self.note else ""
        counts = f"{round(self.done, 1):.10g}/{self.total:.10g}"
        return f"{self.description}: {counts}, {duration(now - self._began)}{left}{note}"


@contextmanager
def watched(watch: Callable[[Bar], None]) -> Iterator[None]:
    """Call `watch` whenever a bar advances in the block, in this thread; its exceptions end the work."""
    token = _watcher.set(watch)
    try:
        yield
    finally:
        _watcher.reset(token)


def duration(seconds: float) -> str:
    """Format a duration: `90 s`, `15 min`, `26 h 40 min`."""
    if seconds < 600:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def track(
    items: Iterable[T], description: str, *, total: float | None = None, advance: Callable[[T], float] = lambda _: 1
) -> Iterator[T]:
    """Yield from `items` with a progress bar; pass `total` if `items` has no length.

    `advance` returns how far an item advances the bar: with `advance=len`, a bar over batches counts images.
    """
    count = total if total is not None else len(items)  # type: ignore[arg-type]
    with Bar(description, count) as bar:
        for item in items:
            yield item
            bar.update(advance(item))


def silent(items: Iterable[T], description: str, **_: object) -> Iterator[T]:
    """Like `track`, but shows nothing."""
    yield from items
