"""When a run ends: after so many images, or after so much time spent training, whichever comes first.

The time is that of the steps, data included; what a snapshot takes (pictures, probes, files) is none of it, so that
runs which are looked at often and rarely compare at equal minutes. It is kept in the checkpoint: a run that continues
has spent what it had spent when the checkpoint was written. The weights at a moment depend on the images alone.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer

from wplus.core.distributed import mean_over_ranks
from wplus.core.progress import Bar
from wplus.training.module import TrainingModule

STEPS_BETWEEN_EXCHANGES = 8
"""Several processes must end after the same step; an exchange waits for the device, so it is rare."""


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
    """Ends the run at `kimg` thousand images or after `minutes` (None: no such limit), and shows how far it is."""

    def __init__(self, *, kimg: float | None, minutes: float | None) -> None:
        self.total_nimg = math.inf if kimg is None else round(kimg * 1000)
        self.total_seconds = math.inf if minutes is None else minutes * 60
        self.watch = Stopwatch()
        self.bar: Bar | None = None
        self.ended = False

    def is_over(self, module: TrainingModule) -> bool:
        """Whether a module has nothing left to do, as far as this process knows."""
        return module.images_seen >= self.total_nimg or module.seconds >= self.total_seconds

    def on_train_start(self, trainer: Trainer, module: TrainingModule) -> None:
        """The time and the bar go on from where they were."""
        self.watch.start()
        if trainer.is_global_zero:
            unit, total = ("images", self.total_nimg) if math.isfinite(self.total_nimg) else ("s", self.total_seconds)
            self.bar = Bar(f"Training ({unit})", total, start=self._done(module))
            self.bar.__enter__()

    def on_train_batch_end(self, trainer: Trainer, module: TrainingModule, *_: Any) -> None:
        """The first of all that happens after a step."""
        before = self._done(module)
        self.watch.lap(module)
        if self.bar is not None:
            counts_images = math.isfinite(self.total_nimg)
            self.bar.update(module.batch_size if counts_images else self._done(module) - before)
        over = self.is_over(module)
        if trainer.world_size > 1 and math.isfinite(self.total_seconds) and module.images_seen < self.total_nimg:
            due = (module.images_seen // module.batch_size) % STEPS_BETWEEN_EXCHANGES == 0
            over = due and float(mean_over_ranks(torch.tensor(float(over), device=module.device))) > 0
        if over:
            self.ended = trainer.should_stop = True

    def teardown(self, trainer: Trainer, module: TrainingModule, stage: str) -> None:
        """The bar stays as it is."""
        if self.bar is not None:
            self.bar.__exit__()
            self.bar = None

    def _done(self, module: TrainingModule) -> float:
        return module.images_seen if math.isfinite(self.total_nimg) else module.seconds
