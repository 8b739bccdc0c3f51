"""Training callbacks: logging, snapshots, and stopping on a signal."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import Callback, Trainer

from wplus.core.distributed import mean_over_ranks
from wplus.core.memory import peak_gib
from wplus.core.metric_result import MetricInfo
from wplus.errors import UserError
from wplus.tracking import Tracker
from wplus.training.checkpoints import checkpoint_path, prune
from wplus.training.ending import STEPS_BETWEEN_EXCHANGES, StopAtEnd
from wplus.training.module import TrainingModule

if TYPE_CHECKING:
    from wplus.training.loop import Schedule

INFOS = {
    "progress/kimg_per_s": MetricInfo(meaning="Thousands of images per second.", unit="kimg/s", direction="higher"),
    "progress/sec_per_kimg": MetricInfo(meaning="Seconds per thousand images.", unit="s", direction="lower"),
    "progress/minutes": MetricInfo(meaning="Time spent in training steps so far, snapshots not counted.", unit="min"),
    "progress/peak_memory_gb": MetricInfo(
        meaning="Peak memory of the GPU, or of this process on a CPU.", unit="GiB", direction="lower"
    ),
}


class Diverged(UserError):
    """Raised after too many consecutive optimizer steps with a non-finite gradient."""


def crossed(nimg: int, batch_size: int, interval: int) -> bool:
    """Return whether the step that ended at `nimg` passed a multiple of `interval` images."""
    return nimg // interval > (nimg - batch_size) // interval


class Log(Callback):
    """Logs means since the last row, speed and memory every `interval` images and at the end of the schedule.

    Nothing is logged when a run is interrupted, since the resumed run completes the unfinished row. Raises `Diverged`
    for a run that is beyond recovery.
    """

    def __init__(self, tracker: Tracker, schedule: Schedule, stop: StopAtEnd) -> None:
        self.tracker, self.interval, self.stop = tracker, round(schedule.log_kimg * 1000), stop
        self.max_skipped = schedule.max_skipped_in_a_row

    def on_train_start(self, trainer: Trainer, module: TrainingModule) -> None:
        self._since, self._nimg = time.monotonic(), module.images_seen
        self.tracker.describe({**module.log_infos(), **INFOS})

    def on_train_batch_end(self, trainer: Trainer, module: TrainingModule, *_: Any) -> None:
        nimg = module.images_seen
        if crossed(nimg, module.batch_size, self.interval) or self.stop.ended:
            values = {**module.means.collect(), **module.state_summary(), **self._speed(module)}
            finite = {name: value for name, value in values.items() if math.isfinite(value)}
            kimg, skipped = nimg / 1000, values["progress/skipped_in_a_row"]
            self.tracker.log(finite, kimg=kimg)
            if skipped >= self.max_skipped:
                raise Diverged(
                    f"{skipped:.0f} optimizer steps in a row had a gradient that was not finite (allowed: "
                    f"{self.max_skipped - 1}) at {kimg:g} kimg; the last good checkpoint is kept."
                )

    def _speed(self, module: TrainingModule) -> dict[str, float]:
        now = time.monotonic()
        seconds, images = max(now - self._since, 1e-9), module.images_seen - self._nimg
        self._since, self._nimg = now, module.images_seen
        return {
            "progress/kimg_per_s": images / 1000 / seconds,
            "progress/sec_per_kimg": seconds * 1000 / max(images, 1),
            "progress/minutes": module.seconds / 60,
            "progress/peak_memory_gb": peak_gib(module.device),
        }


class Snapshot(Callback):
    """Saves a checkpoint and calls `export` every `interval` images, at the start and at the end.

    The same happens when a run is interrupted; `export` is then called with `is_due=False`, since results must not
    depend on when that was. No checkpoint is saved while steps are being skipped, so the last one stays good.
    """

    def __init__(self, folder: Path, export: Callable[..., None], schedule: Schedule, stop: StopAtEnd) -> None:
        self.folder, self.export, self.keep, self.stop = folder, export, schedule.keep_checkpoints, stop
        self.watch = stop.watch
        self.interval, self._saved_at = round(schedule.snapshot_kimg * 1000), -1

    def on_train_start(self, trainer: Trainer, module: TrainingModule) -> None:
        self._saved_at = module.images_seen
        if module.images_seen == 0 and trainer.is_global_zero:
            with self.watch.paused(module.device):
                self.export(module)

    def on_train_batch_end(self, trainer: Trainer, module: TrainingModule, *_: Any) -> None:
        is_due = crossed(module.images_seen, module.batch_size, self.interval) or self.stop.ended
        if not (is_due or trainer.should_stop):
            return
        if self._saved_at == module.images_seen or int(module.skipped[1]):
            return
        self._saved_at = module.images_seen
        with self.watch.paused(module.device):
            # Export first: if the run is killed in between, it exports this snapshot again; in the opposite order the
            # snapshot would be lost.
            if trainer.is_global_zero:
                self.export(module, **({} if is_due else {"is_due": False}))
            trainer.save_checkpoint(checkpoint_path(self.folder, module.images_seen))
            if trainer.is_global_zero:
                prune(self.folder, self.keep)


class LeaveOnSignal(Callback):
    """Stops the run on SIGTERM or SIGINT after the current step, with a checkpoint; a second SIGINT does so at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._interruption: BaseException | None = None
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, module: TrainingModule) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: object) -> None:
        if self.received == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.received = number

    def on_train_batch_end(self, trainer: Trainer, module: TrainingModule, *_: Any) -> None:
        """Stop all processes after the same step; the exchange makes them wait for each other, so it is infrequent."""
        asked = self.received is not None
        if trainer.world_size > 1:
            due = (module.images_seen // module.batch_size) % STEPS_BETWEEN_EXCHANGES == 0
            asked = due and float(mean_over_ranks(torch.tensor(float(asked)))) > 0
        trainer.should_stop = trainer.should_stop or asked

    def on_train_end(self, trainer: Trainer, module: TrainingModule) -> None:
        """Restore the previous signal handlers.

        This must precede Lightning's own clean-up: if it came later, it would reinstall one of Lightning's handlers.
        """
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def on_exception(self, trainer: Trainer, module: TrainingModule, exception: BaseException) -> None:
        """Restore the handlers when training fails, too."""
        self._interruption = exception if isinstance(exception, KeyboardInterrupt) else None
        self.on_train_end(trainer, module)

    @contextmanager
    def as_it_came(self) -> Iterator[None]:
        """Re-raise a KeyboardInterrupt that stopped the run at once: Lightning turns it into an exit with status 1 and
        leaves Ctrl-C ignored.
        """  # fmt: skip
        before = signal.getsignal(signal.SIGINT)
        try:
            yield
        except SystemExit:
            if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
                signal.signal(signal.SIGINT, before)
            if self._interruption is not None:
                raise self._interruption from None
            raise
