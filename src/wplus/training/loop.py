"""The training loop: resume from the output folder, train, log, save, and stop cleanly when asked to."""

import logging
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy

from wplus.core.distributed import backend_of
from wplus.core.files import ensure_folder
from wplus.core.runtime import Runtime, float32_convolutions
from wplus.errors import UserError, check_number
from wplus.tracking import Tracker
from wplus.training.callbacks import LeaveOnSignal, Log, Snapshot
from wplus.training.checkpoints import AtomicCheckpointIO, latest_checkpoint
from wplus.training.ending import ShowProgress, StopAtEnd
from wplus.training.layout import lay_out
from wplus.training.module import TrainingModule, check_same_run


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Length of a run and how often it logs and saves; these settings may change when a run is resumed."""

    kimg: float | None
    """Total thousands of images, including those before an interruption; None: only `minutes` ends the run."""
    minutes: float | None = None
    """Total training time, without snapshots, including time before an interruption; None: no limit."""
    log_kimg: float = 1.0
    snapshot_kimg: float = 20.0
    keep_checkpoints: int = 2
    max_skipped_in_a_row: int = 32
    """Stop after this many consecutive optimizer steps with a non-finite gradient."""

    def __post_init__(self) -> None:
        if self.kimg is None and self.minutes is None:
            raise UserError("schedule.kimg and schedule.minutes cannot both be null: one of them ends the run.")
        if self.kimg is not None:
            check_number("schedule.kimg", self.kimg, lowest=0)
        if self.minutes is not None:
            check_number("schedule.minutes", self.minutes, lowest=0)
        for name in ("log_kimg", "snapshot_kimg"):
            check_number(f"schedule.{name}", getattr(self, name), lowest=0.001)
        for name in ("keep_checkpoints", "max_skipped_in_a_row"):
            check_number(f"schedule.{name}", getattr(self, name), lowest=1, whole=True)


def fit(
    module: TrainingModule,
    loader: Iterable[Any],
    *,
    schedule: Schedule,
    runtime: Runtime,
    output_dir: str | Path,
    tracker: Tracker,
    export: Callable[..., None],
    note: Callable[[], str] = lambda: "",
) -> int | None:
    """Train `module` to the end of the schedule, resuming the newest intact checkpoint in `output_dir`/checkpoints.

    `loader` yields (uint8 images, labels) indefinitely and starts at the module's clock when iterated. `export(module)`
    writes images and models at every snapshot; it is called with `is_due=False` when the run is interrupted, and with
    `is_again=True` if the run is already finished. `note()` is shown beside the progress bar. Returns None at the end,
    or the signal that stopped the run earlier (SIGTERM or Ctrl-C, after saving).
    """
    folder = ensure_folder(Path(output_dir) / "checkpoints")
    resume, checkpoint = resumable(module, output_dir, schedule)
    if resume is not None:
        module.load_state_dict(checkpoint["state_dict"])
        module.seconds = checkpoint.get("seconds", 0.0)
    stop = StopAtEnd(kimg=schedule.kimg, minutes=schedule.minutes)
    tracker.rewind(None if resume is None else module.images_seen / 1000)
    if stop.is_over(module):
        export(module, is_again=True)
        return None
    leave = LeaveOnSignal()
    callbacks = [stop, leave, Log(tracker, schedule, stop), Snapshot(folder, export, schedule, stop),
                 ShowProgress(stop, note)]  # fmt: skip
    lay_out(module, runtime.device)
    module.tf32 = runtime.tf32  # for training steps only; snapshots are computed in full float32
    with _quiet_lightning(), float32_convolutions(), leave.as_it_came():
        _trainer(runtime, callbacks).fit(module, loader, ckpt_path=resume)
    if leave.received is None and not stop.ended:
        return int(signal.SIGTERM)  # another process received the signal
    return leave.received


def resumable(
    module: TrainingModule, output_dir: str | Path, schedule: Schedule
) -> tuple[Path | None, Mapping[str, Any]]:
    """Return the file and content of the newest intact checkpoint in `output_dir`, or None and an empty mapping.

    Raises UserError if it belongs to a different run or is already past the end of the schedule.
    """
    path = latest_checkpoint(Path(output_dir) / "checkpoints")
    if path is None:
        return None, {}
    checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    check_same_run(checkpoint.get("run_fingerprint", {}), module.run_fingerprint, path)
    done = int(checkpoint["state_dict"]["nimg"])
    if schedule.kimg is not None and done - module.batch_size >= schedule.kimg * 1000:
        raise UserError(
            f"schedule.kimg={schedule.kimg:g} is less than the {done / 1000:g} kimg that '{output_dir}' has: give at "
            "least as much, or choose another run_dir."
        )
    seconds, last = checkpoint.get("seconds", 0.0), checkpoint.get("step_seconds", 0.0)
    if schedule.minutes is not None and seconds - last >= schedule.minutes * 60 > 0:
        raise UserError(
            f"schedule.minutes={schedule.minutes:g} is less than the {seconds / 60:.3g} minutes that '{output_dir}' "
            "has: give at least as much, or choose another run_dir."
        )
    return path, checkpoint


def _trainer(runtime: Runtime, callbacks: list[Callback]) -> Trainer:
    """Create a Trainer that handles devices, processes and checkpoints; our callbacks do progress, logs and the end."""
    return Trainer(
        accelerator=runtime.device.type,
        devices=[runtime.device.index] if runtime.device.index is not None else runtime.devices,
        num_nodes=runtime.num_nodes,
        strategy=UnwrappedDDPStrategy(process_group_backend=backend_of(runtime.device))
        if runtime.world_size > 1
        else "auto",
        # With a single device, ignore a surrounding Slurm allocation.
        plugins=[AtomicCheckpointIO(), *([] if runtime.world_size > 1 else [LightningEnvironment()])],
        callbacks=callbacks,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        inference_mode=False,
    )


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence Lightning's adverts and its advice about loader workers, which does not apply here."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            # The module in eval mode is the moving average.
            warnings.filterwarnings("ignore", message=".*module.s. in eval mode at the start of training.*")
            yield
    finally:
        logger.setLevel(level)


class UnwrappedDDPStrategy(DDPStrategy):
    """Lightning's process handling without the DistributedDataParallel wrapper; see `core.distributed`."""

    def configure_ddp(self) -> None:
        """Leave the module unwrapped; every process starts from rank 0's weights."""
        assert self.model is not None
        for tensor in self.model.state_dict().values():
            dist.broadcast(tensor, src=0)
