"""What happens beside the game: the clock's end, logs, snapshots, and leaving when asked to."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer

from wplus.core.distributed import mean_over_ranks
from wplus.core.progress import Bar
from wplus.errors import UserError
from wplus.training.checkpoints import checkpoint_path, prune
from wplus.training.module import TrainingModule


class Diverged(UserError):
    """Too many optimizer steps in a row had a gradient that was not finite."""


def crossed(nimg: int, batch_size: int, interval: int) -> bool:
    """Whether a multiple of `interval` images lies in the step that ended at `nimg`."""
    return nimg // interval > (nimg - batch_size) // interval


class StopAtKimg(Callback):
    """Ends the run when the clock reaches `total_nimg`, and shows how far it is."""

    def __init__(self, total_nimg: int) -> None:
        self.total_nimg = total_nimg
        self.bar: Bar | None = None

    def on_train_start(self, trainer: Trainer, module: TrainingModule) -> None:
        if trainer.is_global_zero:
            self.bar = Bar("Training (images)", self.total_nimg, start=module.images_seen)
            self.bar.__enter__()

    def on_train_batch_end(self, trainer: Trainer, module: TrainingModule, *_: Any) -> None:
        if self.bar is not None:
            self.bar.update(module.batch_size)
        if module.images_seen >= self.total_nimg:
            trainer.should_stop = True

    def teardown(self, trainer: Trainer, module: TrainingModule, stage: str) -> None:
        if self.bar is not None:
            self.bar.__exit__()
            self.bar = None


class Log(Callback):
    """Every `interval` images: means of losses and statistics since the last time, speed, memory; stops a lost run."""

    def __init__(self, tracker: Any, *, interval: int, max_skipped_in_a_row: int) -> None:
        self.tracker, self.interval, self.max_skipped = tracker, interval, max_skipped_in_a_row

    def on_train_start(self, trainer: Trainer, module: TrainingModule) -> None:
        self._since, self._nimg = time.monotonic(), module.images_seen

    def on_train_batch_end(self, trainer: Trainer, module: TrainingModule, *_: Any) -> None:
        if crossed(module.images_seen, module.batch_size, self.interval) or trainer.should_stop:
            values = {**module.means.collect(), **module.state_summary(), **self._speed(module)}
            finite = {name: value for name, value in values.items() if value == value and abs(value) != float("inf")}
            self.tracker.log(finite, kimg=module.images_seen / 1000)
            self._refuse_to_go_on(module, values["progress/skipped_in_a_row"])

    def _speed(self, module: TrainingModule) -> dict[str, float]:
        now = time.monotonic()
        seconds, images = max(now - self._since, 1e-9), module.images_seen - self._nimg
        self._since, self._nimg = now, module.images_seen
        return {
            "progress/kimg_per_s": images / 1000 / seconds,
            "progress/sec_per_kimg": seconds * 1000 / max(images, 1),
            "progress/peak_memory_gb": _peak_memory_gb(module.device),
        }

    def _refuse_to_go_on(self, module: TrainingModule, skipped: float) -> None:
        if skipped >= self.max_skipped:
            raise Diverged(
                f"{skipped:.0f} optimizer steps in a row had a gradient that was not finite "
                f"(allowed: {self.max_skipped - 1}) at {module.images_seen / 1000:g} kimg; "
                "the last good checkpoint is kept."
            )


class Snapshot(Callback):
    """Every `interval` images, at the start and at the end: a checkpoint to resume from and whatever `export` writes.

    No checkpoint is taken while steps are being skipped: the last one stays the last good one.
    """

    def __init__(self, folder: Path, export: Callable[[TrainingModule], None], *, interval: int, keep: int) -> None:
        self.folder, self.export, self.interval, self.keep = folder, export, interval, keep
        self._saved_at = -1

    def on_train_start(self, trainer: Trainer, module: TrainingModule) -> None:
        self._saved_at = module.images_seen
        if module.images_seen == 0 and trainer.is_global_zero:
            self.export(module)

    def on_train_batch_end(self, trainer: Trainer, module: TrainingModule, *_: Any) -> None:
        if crossed(module.images_seen, module.batch_size, self.interval) or trainer.should_stop:
            self.save(trainer, module)

    def save(self, trainer: Trainer, module: TrainingModule) -> None:
        """Write the export and the checkpoint of this moment, once."""
        if self._saved_at == module.images_seen or int(module.skipped[1]):
            return
        self._saved_at = module.images_seen
        # The export first: killed between the two, a run exports this moment again; the other way round it never would.
        if trainer.is_global_zero:
            self.export(module)
        trainer.save_checkpoint(checkpoint_path(self.folder, module.images_seen))
        if trainer.is_global_zero:
            prune(self.folder, self.keep)


class LeaveOnSignal(Callback):
    """SIGTERM and SIGINT end the run after the step at hand, with a checkpoint; a second SIGINT ends it at once."""

    STEPS_BETWEEN_EXCHANGES = 8

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, module: TrainingModule) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: object) -> None:
        if self.received == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.received = number

    def on_train_batch_end(self, trainer: Trainer, module: TrainingModule, *_: Any) -> None:
        trainer.should_stop = trainer.should_stop or self._anybody_asked(trainer, module)

    def _anybody_asked(self, trainer: Trainer, module: TrainingModule) -> bool:
        """All processes must leave after the same step; the exchange waits for the device, so it is rare."""
        asked = self.received is not None
        if trainer.world_size == 1:
            return asked
        if (module.images_seen // module.batch_size) % self.STEPS_BETWEEN_EXCHANGES:
            return False
        return float(mean_over_ranks(torch.tensor(float(asked), device=module.device))) > 0

    def on_train_end(self, trainer: Trainer, module: TrainingModule) -> None:
        """Before Lightning takes its own handlers away: put back later, ours would bring one of those back for good."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def on_exception(self, trainer: Trainer, module: TrainingModule, exception: BaseException) -> None:
        """The same when training fails."""
        self.on_train_end(trainer, module)


def _peak_memory_gb(device: torch.device) -> float:
    """Peak memory of the device, or of this process where the device is the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    import resource  # POSIX only

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # kilobytes on Linux
