"""Fit a game into a folder: resume what is there, run, log, save, and leave when asked to."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import DDPStrategy

from wplus.core.files import ensure_folder
from wplus.core.runtime import Runtime
from wplus.errors import check_number
from wplus.training.callbacks import LeaveOnSignal, Log, Snapshot, StopAtKimg
from wplus.training.checkpoints import AtomicCheckpointIO, latest_checkpoint
from wplus.training.identity import check_same_run
from wplus.training.module import TrainingModule


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long a run goes and what it leaves behind; changing it does not make it another run."""

    kimg: float
    """Thousands of images in all, those before an interruption included."""
    log_kimg: float = 1.0
    snapshot_kimg: float = 20.0
    keep_checkpoints: int = 2
    max_skipped_in_a_row: int = 32
    """Stop when so many optimizer steps in a row had a gradient that was not finite."""

    def __post_init__(self) -> None:
        check_number("schedule.kimg", self.kimg, lowest=0)
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
    tracker: Any,
    export: Callable[[TrainingModule], None],
) -> str:
    """Train `module` up to `schedule.kimg`, continuing from the newest intact checkpoint in `output_dir`/checkpoints.

    `loader` yields (uint8 images, labels) for ever and starts at the game's clock when iterated; `export(game)` writes
    pictures and models at every snapshot. Returns "finished" or "interrupted" (by SIGTERM or Ctrl-C, after saving).
    """
    folder = ensure_folder(Path(output_dir) / "checkpoints")
    resume = _resume(module, folder, tracker)
    if module.images_seen >= schedule.kimg * 1000:
        export(module)
        return "finished"
    leave = LeaveOnSignal()
    callbacks = [
        StopAtKimg(round(schedule.kimg * 1000)),
        leave,
        Log(tracker, interval=round(schedule.log_kimg * 1000), max_skipped_in_a_row=schedule.max_skipped_in_a_row),
        Snapshot(folder, export, interval=round(schedule.snapshot_kimg * 1000), keep=schedule.keep_checkpoints),
    ]
    with _quiet_lightning():
        _trainer(runtime, callbacks).fit(module, loader, ckpt_path=resume)
    return "finished" if leave.received is None else "interrupted"


def _resume(module: TrainingModule, folder: Path, tracker: Any) -> Path | None:
    path = latest_checkpoint(folder)
    if path is not None:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        check_same_run(checkpoint["identity"], module.identity, path)
        module.load_state_dict(checkpoint["state_dict"])
        tracker.rewind(module.images_seen / 1000)
    return path


def _trainer(runtime: Runtime, callbacks: list[Any]) -> Trainer:
    """Lightning for devices, processes and checkpoints; progress, logs and the end of the run are ours (the clock)."""
    index = [runtime.device.index] if runtime.device.index is not None else runtime.devices
    return Trainer(
        accelerator=runtime.device.type,
        devices=index,
        num_nodes=runtime.num_nodes,
        strategy=UnwrappedDDPStrategy() if runtime.world_size > 1 else "auto",
        plugins=[AtomicCheckpointIO()],
        callbacks=callbacks,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        inference_mode=False,
    )


class _quiet_lightning:
    """Lightning's adverts and its advice about loaders with workers do not apply here."""

    def __enter__(self) -> None:
        self._level = logging.getLogger("pytorch_lightning").level
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        warnings.filterwarnings(
            "ignore", message=".*module.s. in eval mode at the start of training.*"
        )  # the moving average

    def __exit__(self, *_: object) -> None:
        self._warnings.__exit__(None, None, None)
        logging.getLogger("pytorch_lightning").setLevel(self._level)


class UnwrappedDDPStrategy(DDPStrategy):
    """Lightning's process handling without the DistributedDataParallel wrapper; see `core.distributed`."""

    def configure_ddp(self) -> None:
        """Leave the module as it is; every process starts from rank 0's weights."""
        assert self.model is not None
        for tensor in self.model.state_dict().values():
            dist.broadcast(tensor, src=0)

    def pre_backward(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to prepare: there is no reducer."""
