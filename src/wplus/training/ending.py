"""When a run ends: after so many images, or after so much time spent training, whichever comes first.

The time is that of the steps, data included; what a snapshot takes (pictures, probes, files) is none of it, so that
runs which are looked at often and rarely compare at equal minutes. It is kept in the checkpoint: a run that continues
has spent what it had spent when the checkpoint was written. The weights at a moment depend on the images alone.
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
"""Several processes must end after the same step; an exchange waits for all of them, so it is rare."""


class Stopwatch:
    """Adds the time of steps to `module.seconds`."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def start(self) -> None:
        """From now on."""
        self._since = time.monotonic()

    def lap(self, module: TrainingModule) -> None:
        """A step has ended."""
        now = time.monotonic()
        module.step_seconds = now - self._since
        module.seconds += module.step_seconds
        self._since = now

    @contextmanager
    def paused(self, device: torch.device) -> Iterator[None]:
        """What is done inside is not training; the steps that the device has not finished are."""
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent = time.monotonic() - self._since
        yield
        self._since = time.monotonic() - spent


class StopAtEnd(Callback):
    """Ends the run at `kimg` thousand images or after `minutes` (None: no such limit)."""

    def __init__(self, *, kimg: float | None, minutes: float | None) -> None:
        self.total_nimg = math.inf if kimg is None else round(kimg * 1000)
        self.total_seconds = math.inf if minutes is None else minutes * 60
        self.watch = Stopwatch()
        self.ended = False

    def is_over(self, module: TrainingModule) -> bool:
        """Whether a module has nothing left to do, as far as this process knows."""
        return module.images_seen >= self.total_nimg or module.seconds >= self.total_seconds

    def on_train_start(self, trainer: Trainer, module: TrainingModule) -> None:
        """The time goes on from where it was."""
        self.watch.start()

    def on_train_batch_end(self, trainer: Trainer, module: TrainingModule, *_: Any) -> None:
        """The first of all that happens after a step."""
        self.watch.lap(module)
        over = self.is_over(module)
        if trainer.world_size > 1 and math.isfinite(self.total_seconds) and module.images_seen < self.total_nimg:
            due = (module.images_seen // module.batch_size) % STEPS_BETWEEN_EXCHANGES == 0
            over = due and float(mean_over_ranks(torch.tensor(float(over)))) > 0
        if over:
            self.ended = trainer.should_stop = True


class ShowProgress(Callback):
    """Shows how far the run is on its way to `stop`, with `note()`; after all that logs."""

    def __init__(self, stop: StopAtEnd, note: Callable[[], str]) -> None:
        self.note = note
        self.counts_images = math.isfinite(stop.total_nimg)
        self.total = stop.total_nimg if self.counts_images else stop.total_seconds
        self.bar: Bar | None = None

    def on_train_start(self, trainer: Trainer, module: TrainingModule) -> None:
        """The bar goes on from where it was."""
        self._shown = self._done(module)
        if trainer.is_global_zero:
            self.bar = Bar(f"Training ({'images' if self.counts_images else 's'})", self.total, start=self._shown)
            self.bar.__enter__()

    def on_train_batch_end(self, trainer: Trainer, module: TrainingModule, *_: Any) -> None:
        """The last of all that happens after a step."""
        before, self._shown = self._shown, self._done(module)
        if self.bar is not None:
            self.bar.update(self._shown - before, self.note())

    def teardown(self, trainer: Trainer, module: TrainingModule, stage: str) -> None:
        """The bar stays as it is."""
        if self.bar is not None:
            self.bar.__exit__()
            self.bar = None

    def _done(self, module: TrainingModule) -> float:
        return module.images_seen if self.counts_images else module.seconds
