"""Callbacks that end a run after a number of images or an amount of training time, and show its progress.

Training time covers the steps, including data loading, but not snapshots (images, probes, files), so that runs with
frequent and rare snapshots are comparable at equal minutes. It is stored in the checkpoint, so a resumed run continues
from the time recorded there. The weights at any point depend on the images only.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer

from wplus.core.distributed import mean_over_ranks
from wplus.core.progress import Bar
from wplus.training.module import TrainingModule

STEPS_BETWEEN_EXCHANGES = 8
"""Steps between synchronisations: all processes must stop after the same step, but every exchange waits for all."""


class Stopwatch:
    """Accumulates the time of training steps in `module.seconds`."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def start(self) -> None:
        """Start timing."""
        self._since = time.monotonic()

    def lap(self, module: TrainingModule) -> None:
        """Add the time of the step that has just ended."""
        now = time.monotonic()
        module.step_seconds = now - self._since
        module.seconds += module.step_seconds
        self._since = now

    @contextmanager
    def paused(self, device: torch.device) -> Iterator[None]:
        """Exclude the enclosed code from training time, after waiting for steps still running on the device."""
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent = time.monotonic() - self._since
        yield
        self._since = time.monotonic() - spent


class StopAtEnd(Callback):
    """Ends the run at `kimg` thousand images or after `minutes` (None: no limit)."""

    def __init__(self, *, kimg: float | None, minutes: float | None) -> None:
        self.total_nimg = math.inf if kimg is None else round(kimg * 1000)
        self.total_seconds = math.inf if minutes is None else minutes * 60
        self.watch = Stopwatch()
        self.ended = False

    def is_over(self, module: TrainingModule) -> bool:
        """Return whether the module has reached a limit, as far as this process knows."""
        return module.images_seen >= self.total_nimg or module.seconds >= self.total_seconds

    def on_train_start(self, trainer: Trainer, module: TrainingModule) -> None:
        """Start the stopwatch; a resumed run continues from its previous time."""
        self.watch.start()

    def on_train_batch_end(self, trainer: Trainer, module: TrainingModule, *_: Any) -> None:
        """Stop the run if a limit is reached; must run before all other callbacks."""
        self.watch.lap(module)
        over = self.is_over(module)
        if trainer.world_size > 1 and math.isfinite(self.total_seconds) and module.images_seen < self.total_nimg:
            due = (module.images_seen // module.batch_size) % STEPS_BETWEEN_EXCHANGES == 0
            over = due and float(mean_over_ranks(torch.tensor(float(over)))) > 0
        if over:
            self.ended = trainer.should_stop = True


class ShowProgress(Callback):
    """Shows the progress towards `stop` together with `note()`; must come after the callbacks that log."""

    def __init__(self, stop: StopAtEnd, note: Callable[[], str]) -> None:
        self.note = note
        self.counts_images = math.isfinite(stop.total_nimg)
        self.total = stop.total_nimg if self.counts_images else stop.total_seconds
        self.bar: Bar | None = None

    def on_train_start(self, trainer: Trainer, module: TrainingModule) -> None:
        """Start the bar at the current progress."""
        self._shown = self._done(module)
        if trainer.is_global_zero:
            self.bar = Bar(f"Training ({'images' if self.counts_images else 's'})", self.total, start=self._shown)
            self.bar.__enter__()

    def on_train_batch_end(self, trainer: Trainer, module: TrainingModule, *_: Any) -> None:
        """Update the bar; must run after all other callbacks."""
        before, self._shown = self._shown, self._done(module)
        if self.bar is not None:
            self.bar.update(self._shown - before, self.note())

    def teardown(self, trainer: Trainer, module: TrainingModule, stage: str) -> None:
        """Close the bar, leaving it as it is."""
        if self.bar is not None:
            self.bar.__exit__()
            self.bar = None

    def _done(self, module: TrainingModule) -> float:
        return module.images_seen if self.counts_images else module.seconds
